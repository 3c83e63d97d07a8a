//! What the cases share: one engine with a stack of its own, and waiting for what it should do.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use harness::engine::{
    Deployment, Engine, EngineContext, EngineSpec, Exec, ExecOutput, Kind, Ledger, LogLine, ServiceState, TaskPhase,
    TaskState, UpdateState,
};
use harness::poll::{Look, Poll};
use libtest_mimic::{Completion, Failed, Trial};
use tempfile::TempDir;

use super::recipe::Recipe;
use super::{abra, differences, docker};

/// No case needs nearly as long.
const DEADLINE: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(40);

/// A named proof, the same for every engine.
pub type Case = (&'static str, for<'a> fn(&'a World) -> Proof<'a>);
pub type Proof<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// Cases by their names, from async functions that borrow the world.
#[macro_export]
macro_rules! cases {
    ($($name:literal => $prove:path),* $(,)?) => {
        pub const CASES: &[$crate::conformance::world::Case] = &[$(($name, |world| Box::pin($prove(world)))),*];
    };
}

/// The engine that a case runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Embedded,
    Swarm,
    /// Through the stand-in for abra, on the same Swarm.
    Abra,
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            On::Embedded => "embedded",
            On::Swarm => "swarm",
            On::Abra => "abra",
        })
    }
}

impl On {
    /// What the engine is started with, or why it cannot be.
    fn spec(self) -> Result<EngineSpec, String> {
        match self {
            On::Embedded => Ok(EngineSpec::Embedded),
            On::Swarm => docker::swarm().map(EngineSpec::Swarm),
            On::Abra => docker::swarm().and_then(abra::spec).map(EngineSpec::Abra),
        }
    }

    /// What can be seen of a stack without its engine, whose directory is in `dir`.
    pub async fn left(self, stack: &str, dir: &Path) -> Result<Vec<String>> {
        match self {
            On::Swarm | On::Abra => docker::left_of(stack).await,
            On::Embedded => {
                let dir = dir.join("engine");
                let entries = if dir.exists() { std::fs::read_dir(dir)?.collect() } else { Vec::new() };
                entries.into_iter().map(|entry| Ok(entry?.path().display().to_string())).collect()
            }
        }
    }
}

/// A case on one engine. Without a Swarm it is ignored, and says why; in CI, where nobody would read that, it fails.
pub fn trial((name, prove): Case, on: On) -> Trial {
    Trial::ignorable_test(format!("conformance::{on}::{name}"), move || match on.spec() {
        Ok(spec) => run(name, prove, on, spec).map(|()| Completion::Completed),
        Err(missing) if std::env::var("CI").as_deref() == Ok("true") => {
            Err(format!("{missing}, and CI=true says that everything must be here").into())
        }
        Err(missing) => Ok(Completion::ignored_with(missing)),
    })
}

/// A case that this run does not try, and why.
pub fn left_out(name: &str, on: On, reason: String) -> Trial {
    Trial::ignorable_test(format!("conformance::{on}::{name}"), move || Ok(Completion::ignored_with(reason)))
}

fn run(name: &'static str, prove: for<'a> fn(&'a World) -> Proof<'a>, on: On, spec: EngineSpec) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(harness::keeper::STACK)
        .enable_all()
        .build()?;
    let proven = runtime.block_on(async {
        let world = World::start(name, on, spec).await?;
        let proven = tokio::time::timeout(DEADLINE, prove(&world)).await;
        let proven = proven.unwrap_or_else(|_| bail!("not done within {}", humantime::format_duration(DEADLINE)));
        // Whatever happened, nothing may stay; what happened first is said first.
        let ended = world.end().await;
        proven.and(ended)
    });
    proven.map_err(|error: anyhow::Error| format!("{error:#}").into())
}

/// What the engine wrote down.
#[derive(Default)]
pub struct Notes(Mutex<Vec<(&'static str, Kind, String)>>);

impl Notes {
    fn note(&self, what: &'static str, kind: Kind, name: &str) -> Result<()> {
        self.0.lock().unwrap().push((what, kind, name.to_owned()));
        Ok(())
    }

    /// What was announced, and never said to be gone.
    pub fn open(&self) -> Vec<(Kind, String)> {
        let mut open = Vec::new();
        for (what, kind, name) in self.0.lock().unwrap().iter() {
            let thing = (*kind, name.clone());
            open.retain(|known| *known != thing);
            if *what != "removed" {
                open.push(thing);
            }
        }
        open
    }
}

impl Ledger for Notes {
    fn creating(&self, kind: Kind, name: &str) -> Result<()> {
        self.note("creating", kind, name)
    }

    fn created(&self, kind: Kind, name: &str, _id: &str) -> Result<()> {
        let open = self.open();
        ensure!(open.contains(&(kind, name.to_owned())), "{kind} `{name}` was created without being announced");
        self.note("created", kind, name)
    }

    fn removed(&self, kind: Kind, name: &str) -> Result<()> {
        self.note("removed", kind, name)
    }
}

/// One engine, with a directory, a domain and a stack of its own.
pub struct World {
    pub engine: Engine,
    pub on: On,
    pub domain: String,
    pub notes: Arc<Notes>,
    pub dir: TempDir,
    case: &'static str,
    spec: EngineSpec,
}

impl World {
    async fn start(case: &'static str, on: On, spec: EngineSpec) -> Result<World> {
        let (dir, notes) = (TempDir::new()?, Arc::new(Notes::default()));
        let domain = format!("conf-{:06x}.test", RandomState::new().build_hasher().finish() & 0xff_ffff);
        let context = EngineContext {
            run_id: domain.clone(),
            dir: dir.path().join("engine"),
            image_cache: dir.path().join("images"),
            image_map: BTreeMap::from([("nginx".into(), "builtin:static-web".into())]),
            stack: harness::recipe::env::stack_name(&domain),
            domain: domain.clone(),
            monitor: Duration::ZERO,
            ledger: Arc::<Notes>::clone(&notes),
        };
        let engine = Engine::start(&spec, context).await?;
        Ok(World { engine, on, domain, notes, dir, case, spec })
    }

    /// A second engine of the same kind. Whoever makes it ends it.
    pub async fn another(&self) -> Result<World> {
        World::start(self.case, self.on, self.spec.clone()).await
    }

    /// Removes everything and demands the proven zero.
    pub async fn end(self) -> Result<()> {
        let left = self.engine.remove().await?;
        ensure!(left.is_empty(), "left behind: {left:?}");
        let left = self.left().await?;
        ensure!(left.is_empty(), "left behind, but not reported: {left:?}");
        let open = self.notes.open();
        ensure!(open.is_empty(), "not said to be removed: {open:?}");
        Ok(())
    }

    /// What can be seen of the stack without the engine.
    pub async fn left(&self) -> Result<Vec<String>> {
        self.on.left(&self.stack(), self.dir.path()).await
    }

    pub fn stack(&self) -> String {
        harness::recipe::env::stack_name(&self.domain)
    }

    /// What is expected of this engine where the two differ; the difference has to be in the list.
    pub fn either<T>(&self, difference: &str, embedded: T, swarm: T) -> Result<T> {
        differences::either(difference, self.case, self.on, embedded, swarm)
    }

    pub async fn deploy(&self, recipe: &Recipe) -> Result<()> {
        self.deploy_it(&self.deployment(recipe).await?).await
    }

    /// What the engine is given for a recipe.
    pub async fn deployment(&self, recipe: &Recipe) -> Result<Deployment> {
        let mut deployment = recipe.deployment(&self.domain)?;
        if self.on == On::Abra {
            let state = recipe.state(&self.domain)?;
            deployment.origin = Some(abra::origin(&self.dir.path().join("engine"), recipe, &state).await?);
        }
        Ok(deployment)
    }

    async fn deploy_it(&self, deployment: &Deployment) -> Result<()> {
        self.engine.prepare(deployment).await?;
        self.engine.deploy(deployment).await
    }

    /// Deploys, and waits until the services run as the compose file wants them.
    pub async fn deployed(&self, recipe: &Recipe) -> Result<()> {
        let deployment = self.deployment(recipe).await?;
        self.deploy_it(&deployment).await?;
        for name in deployment.stack.services.keys() {
            self.converged(name).await?;
        }
        Ok(())
    }

    pub async fn service(&self, name: &str) -> Result<ServiceState> {
        let services = self.engine.services().await?;
        services.into_iter().find(|service| service.name == name).with_context(|| format!("no service `{name}`"))
    }

    /// Looks again and again, whenever something may have changed.
    pub async fn wait<T, F>(&self, what: impl fmt::Display, mut look: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Look<T>>>,
    {
        let poll = Poll { interval: Duration::from_millis(2), deadline: PATIENCE };
        let mut first = true;
        poll.until(what, || {
            let (look, again) = (look(), !std::mem::take(&mut first));
            async move {
                if again {
                    self.engine.changed().await;
                }
                look.await
            }
        })
        .await
    }

    /// Waits until the service is as `is` wants it.
    pub async fn until(&self, what: &str, name: &str, is: impl Fn(&ServiceState) -> bool) -> Result<ServiceState> {
        self.wait(format!("service `{name}`: {what}"), || async {
            let service = self.service(name).await?;
            Ok(if is(&service) { Look::Ready(service) } else { Look::NotYet(brief(&service)) })
        })
        .await
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

    /// The output of a shell line that must succeed.
    pub async fn sh(&self, service: &str, line: &str) -> Result<String> {
        let output = self.exec(service, &["sh", "-c", line]).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(output.code == 0, "`{line}` exited with {}: {}", output.code, text(&output.stderr));
        Ok(text(&output.stdout))
    }

    /// Waits until a shell line succeeds, and returns its output.
    pub async fn until_sh(&self, service: &str, line: &str) -> Result<String> {
        self.wait(format!("`{line}`"), || async {
            let output = self.exec(service, &["sh", "-c", line]).await?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok(if output.code == 0 { Look::Ready(text) } else { Look::NotYet(format!("{output:?}")) })
        })
        .await
    }

    /// Waits until the log of a service is as `is` wants it.
    pub async fn until_log(&self, service: &str, is: impl Fn(&[LogLine]) -> bool) -> Result<Vec<LogLine>> {
        self.wait(format!("the log of `{service}`"), || async {
            let log = self.engine.logs(service, None).await?;
            Ok(if is(&log) { Look::Ready(log) } else { Look::NotYet(format!("{log:#?}")) })
        })
        .await
    }
}

/// A service and its newest tasks, a line each.
pub fn brief(service: &ServiceState) -> String {
    let ServiceState { name, image, replicas, restarts, labels, spec_version, update, tasks, mounts, cycle } = service;
    let mut text = format!(
        "`{name}` {image} x{replicas} {restarts:?} {cycle:?} v{spec_version} {update:?} {labels:?} {mounts:?}, {} tasks:",
        tasks.len()
    );
    for task in tasks.iter().take(6) {
        text.push_str(&format!("\n    {task:?}"));
    }
    text
}

/// A command with ten seconds of time.
pub fn command(service: &str, argv: &[&str]) -> Exec {
    Exec {
        service: service.into(),
        argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
        deadline: Duration::from_secs(10),
        ..Exec::default()
    }
}

/// The error of something that must fail.
pub fn error_of<T: fmt::Debug, E: Into<anyhow::Error>>(result: Result<T, E>) -> Result<String> {
    match result {
        Ok(value) => bail!("it succeeded: {value:?}"),
        Err(error) => Ok(format!("{:#}", error.into())),
    }
}
