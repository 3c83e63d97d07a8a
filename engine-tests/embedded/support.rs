//! What the engine's tests share: a world with one engine in it, and waiting for what it should do.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use harness::engine::embedded::Embedded;
use harness::engine::{
    Deployment, EngineContext, Exec, ExecOutput, Kind, Ledger, ServiceState, TaskPhase, TaskState, UpdateState,
};
use harness::poll::{Look, Poll};
use harness::process::Run;
use harness::recipe::stack::{
    HealthTest, Healthcheck, Mount, MountKind, Network, RestartPolicy, Service, Stack, Volume,
};
use libtest_mimic::Trial;
use once_cell::sync::OnceCell;
use tempfile::TempDir;

/// No test needs nearly as long.
const DEADLINE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(20);
/// Debian's `nobody`, who has no ids but one.
const ORDINARY_USER: &str = "65534";

/// A test from an async function.
pub fn trial<F>(name: &str, test: impl FnOnce() -> F + Send + 'static) -> Trial
where
    F: Future<Output = Result<()>>,
{
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let outcome = runtime.block_on(async { tokio::time::timeout(DEADLINE, test()).await });
        match outcome {
            Ok(result) => result.map_err(|error| format!("{error:#}").into()),
            Err(_) => Err(format!("not done within {}", humantime::format_duration(DEADLINE)).into()),
        }
    })
}

/// The same trials, run by a copy of this program as an ordinary user. Nothing when this is one already.
pub fn as_ordinary_user(trials: &[Trial]) -> Vec<Trial> {
    if !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    let reach = Arc::new(OnceCell::new());
    let again = |trial: &Trial| {
        let (name, reach) = (trial.name().to_owned(), Arc::clone(&reach));
        let ordinary = format!("ordinary_user::{name}");
        let test = move || run_as_ordinary_user(&name, &reach).map_err(|error| format!("{error:#}").into());
        Trial::test(ordinary, test).with_ignored_flag(trial.has_ignored_flag())
    };
    trials.iter().map(again).collect()
}

fn run_as_ordinary_user(trial: &str, reach: &OnceCell<TempDir>) -> Result<()> {
    let dir = reach.get_or_try_init(within_reach)?.path();
    let user = ["--reuid", ORDINARY_USER, "--regid", ORDINARY_USER, "--clear-groups"].map(OsString::from);
    let program = [dir.join("embedded").into_os_string(), "--include-ignored".into(), "--exact".into(), trial.into()];
    let run = Run::new("setpriv", user.into_iter().chain(program));
    let run = run.env("TMPDIR", dir.join("tmp")).cwd("/").deadline(DEADLINE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let output = runtime.block_on(run.output())?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.code == 0, "{text}{}", String::from_utf8_lossy(&output.stderr));
    // A name that no longer exists would pass by running nothing.
    ensure!(text.contains("1 passed"), "{text}");
    Ok(())
}

/// A directory with a copy of this program, and a place for temporary files, both within reach of everybody.
fn within_reach() -> Result<TempDir> {
    let dir = TempDir::new()?;
    let (program, temporary) = (dir.path().join("embedded"), dir.path().join("tmp"));
    std::fs::copy(std::env::current_exe()?, &program)?;
    std::fs::create_dir(&temporary)?;
    for (path, mode) in [(dir.path(), 0o755), (&program, 0o755), (&temporary, 0o1777)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
    }
    Ok(dir)
}

/// What the engine wrote down, in its order.
#[derive(Default)]
pub struct Notes(pub Mutex<Vec<String>>);

impl Ledger for Notes {
    fn creating(&self, kind: Kind, name: &str) -> Result<()> {
        self.0.lock().unwrap().push(format!("creating {kind} {name}"));
        Ok(())
    }

    fn created(&self, kind: Kind, name: &str, _id: &str) -> Result<()> {
        self.0.lock().unwrap().push(format!("created {kind} {name}"));
        Ok(())
    }

    fn removed(&self, kind: Kind, name: &str) -> Result<()> {
        self.0.lock().unwrap().push(format!("removed {kind} {name}"));
        Ok(())
    }
}

/// One engine with a directory of its own.
pub struct World {
    pub engine: Embedded,
    pub dir: TempDir,
    pub notes: Arc<Notes>,
}

pub fn context(dir: &Path, notes: &Arc<Notes>) -> EngineContext {
    EngineContext {
        run_id: "run1".into(),
        dir: dir.join("engine"),
        image_cache: dir.join("images"),
        image_map: BTreeMap::from([("nginx".into(), "builtin:static-web".into())]),
        stack: "s".into(),
        domain: "s".into(),
        monitor: std::time::Duration::ZERO,
        ledger: Arc::<Notes>::clone(notes),
    }
}

impl World {
    pub async fn new() -> Result<World> {
        let (dir, notes) = (TempDir::new()?, Arc::new(Notes::default()));
        let engine = Embedded::start(context(dir.path(), &notes)).await?;
        Ok(World { engine, dir, notes })
    }

    /// Removes everything and demands the proven zero.
    pub async fn end(self) -> Result<()> {
        let left = self.engine.remove().await?;
        ensure!(left.is_empty(), "left behind: {left:?}");
        ensure!(!self.dir.path().join("engine").exists(), "the engine's directory is still there");
        Ok(())
    }

    pub async fn service(&self, name: &str) -> Result<ServiceState> {
        let services = self.engine.services().await?;
        services.into_iter().find(|service| service.name == name).with_context(|| format!("no service `{name}`"))
    }

    /// Waits until the service is as `is` wants it.
    pub async fn until(&self, what: &str, name: &str, is: impl Fn(&ServiceState) -> bool) -> Result<ServiceState> {
        let poll = Poll { interval: Duration::from_millis(3), deadline: PATIENCE };
        let look = || async {
            let service = self.service(name).await?;
            Ok(if is(&service) { Look::Ready(service) } else { Look::NotYet(format!("{service:#?}")) })
        };
        poll.until(format!("service `{name}`: {what}"), look).await
    }

    /// Waits until every replica runs the current spec, and no update is in flight.
    pub async fn converged(&self, name: &str) -> Result<ServiceState> {
        self.until("convergence", name, |service| {
            let in_flight = |state| matches!(state, UpdateState::Updating | UpdateState::RollbackStarted);
            let running: Vec<&TaskState> = service.wanted().collect();
            running.len() == service.replicas as usize
                && running.iter().all(|task| task.phase == TaskPhase::Running)
                && running.iter().all(|task| task.spec_version == service.spec_version)
                && !service.update.as_ref().is_some_and(|update| in_flight(update.state))
        })
        .await
    }

    /// Waits until the last update of the service is in this state.
    pub async fn update(&self, name: &str, state: UpdateState) -> Result<ServiceState> {
        self.until(&state.to_string(), name, |service| {
            service.update.as_ref().is_some_and(|update| update.state == state)
        })
        .await
    }

    pub async fn exec(&self, service: &str, argv: &[&str]) -> Result<ExecOutput> {
        Ok(self.engine.exec(&command(service, argv)).await?)
    }

    /// Like `until`, for a closure that remembers what it has seen.
    pub async fn until_watching(&self, name: &str, mut is: impl FnMut(&ServiceState) -> bool) -> Result<ServiceState> {
        let poll = Poll { interval: Duration::from_millis(1), deadline: PATIENCE };
        let look = || {
            let is = &mut is;
            let service = futures_now(self.engine.services());
            let service = service.and_then(|all| all.into_iter().find(|service| service.name == name).context("gone"));
            let look = service
                .map(|service| if is(&service) { Look::Ready(service) } else { Look::NotYet(format!("{service:#?}")) });
            std::future::ready(look)
        };
        poll.until(format!("service `{name}`"), look).await
    }

    /// Waits until a shell line succeeds.
    pub async fn until_shell(&self, service: &str, line: &str) -> Result<()> {
        let look = || async {
            let output = self.exec(service, &["/bin/sh", "-c", line]).await?;
            Ok(if output.code == 0 { Look::Ready(()) } else { Look::NotYet(format!("{output:?}")) })
        };
        Poll::within(PATIENCE).until(format!("`{line}`"), look).await
    }

    /// Waits until the service has printed a line.
    pub async fn until_logged(&self, service: &str, line: &str) -> Result<()> {
        let look = || async {
            let log = self.engine.logs(service, None).await?;
            let found = log.iter().any(|found| found.text == line);
            Ok(if found { Look::Ready(()) } else { Look::NotYet(format!("{log:?}")) })
        };
        Poll::within(PATIENCE).until(format!("`{line}` in the log"), look).await
    }

    /// The output of a shell line that must succeed.
    pub async fn shell(&self, service: &str, line: &str) -> Result<String> {
        let output = self.exec(service, &["/bin/sh", "-c", line]).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(output.code == 0, "`{line}` exited with {}: {}", output.code, text(&output.stderr));
        Ok(text(&output.stdout))
    }
}

/// The result of a future that never waits.
fn futures_now<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => bail!("it waits"),
    }
}

pub fn command(service: &str, argv: &[&str]) -> Exec {
    Exec {
        service: service.into(),
        argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
        deadline: Duration::from_secs(10),
        ..Exec::default()
    }
}

/// The built-in web server, by the name that recipes use.
pub fn web(args: &[&str]) -> Service {
    let mut service = Service { image: "nginx:1.25".into(), ..Service::default() };
    if !args.is_empty() {
        service.command = Some(std::iter::once("static-web").chain(args.iter().copied()).map(str::to_owned).collect());
    }
    service.deploy.restart = quick_restart();
    service
}

/// A shell line on the host's userland.
pub fn shell(line: &str) -> Service {
    let command = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    let mut service = Service { image: "host".into(), command: Some(command), ..Service::default() };
    service.deploy.restart = quick_restart();
    service
}

/// A service that does nothing for as long as it is let.
pub fn idle() -> Service {
    shell("trap 'exit 0' TERM; while :; do sleep 0.05; done")
}

/// Swarm's five seconds of delay are for production.
pub fn quick_restart() -> RestartPolicy {
    RestartPolicy { delay: Duration::from_millis(50), ..RestartPolicy::default() }
}

pub fn health(line: &str, interval: Duration, retries: u32) -> Option<Healthcheck> {
    let test = Some(HealthTest::Shell(line.into()));
    Some(Healthcheck { test, interval: Some(interval), retries: Some(retries), ..Healthcheck::default() })
}

pub fn volume(key: &str, target: &str) -> Mount {
    Mount { kind: MountKind::Volume(key.into()), target: target.into(), read_only: false, no_copy: false }
}

/// A stack `s` with these services, two networks and the volume `data`.
pub fn deployment<'a>(services: impl IntoIterator<Item = (&'a str, Service)>) -> Deployment {
    let network = |name: &str| (name.to_owned(), Network { name: format!("s_{name}"), ..Network::default() });
    let data = Volume { name: "s_data".into(), ..Volume::default() };
    let stack = Stack {
        name: "s".into(),
        services: services.into_iter().map(|(name, service)| (name.to_owned(), service)).collect(),
        networks: BTreeMap::from([network("default"), network("inner")]),
        volumes: BTreeMap::from([("data".to_owned(), data)]),
        ..Stack::default()
    };
    Deployment { stack, document: Default::default(), secrets: BTreeMap::new(), origin: None }
}

/// Status and body of a page.
pub async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    // The client wants a provider of cryptography even for plain HTTP; another test may have set it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let response = client.get(format!("{address}{path}")).send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

/// The first answer of a server that may not listen yet: a task without a health check runs at once.
pub async fn answered(address: &str, path: &str) -> Result<(u16, String)> {
    let look = || async {
        Ok(match get(address, path).await {
            Ok(answer) => Look::Ready(answer),
            Err(error) => Look::NotYet(format!("{error:#}")),
        })
    };
    Poll::within(PATIENCE).until(format!("an answer from {address}"), look).await
}

/// The error of something that must fail.
pub fn error_of<T>(result: Result<T>) -> Result<String> {
    match result {
        Ok(_) => bail!("it succeeded"),
        Err(error) => Ok(format!("{error:#}")),
    }
}
