//! Ends: teardown, SIGKILL of everything that can be killed, sweeping, and many pods at once.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::engine::embedded::{Embedded, preflight, sweep};
use harness::engine::{CallError, Kind, TaskPhase};
use harness::poll::{Look, Poll};
use harness::recipe::stack::Service;
use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::support::{Notes, World, command, context, deployment, idle, shell, trial, volume, web};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("death::removal_is_complete_and_written_down_in_order", removal),
        trial("death::removal_does_not_wait_for_a_stubborn_container", stubborn),
        trial("death::a_dropped_engine_leaves_no_process", dropped),
        trial("death::sigkill_of_the_keeper_leaves_no_process_and_a_sweep_the_rest", keeper_killed),
        trial("death::sigkill_of_the_pod_is_an_error_of_its_own_and_removal_still_works", pod_killed),
        trial("death::a_sweep_kills_what_outlived_its_keeper_and_nothing_else", sweep_kills),
        trial("death::a_sweep_of_nothing_finds_nothing", empty_sweep),
        trial("death::a_program_that_was_replaced_meanwhile_runs_on", replaced_program),
        trial("death::a_preflight_passes_and_leaves_nothing", preflight_passes),
        trial("death::a_refusal_of_the_kernel_is_explained_and_leaves_nothing", refused),
        trial("death::many_pods_at_once_come_and_go", many_pods),
        trial("death::start_and_exec_times", times).with_ignored_flag(true),
    ]
}

/// The hidden subcommand of the test program that stands for a keeper: it deploys, says so, and waits to be killed.
pub fn hold(dir: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = Embedded::start(context(dir, &Arc::new(Notes::default()))).await.unwrap();
        // Where the pod has more ids than one, its files belong to somebody else on the host.
        let line =
            "mkdir -p -m 700 /data/own/deep; touch /data/own/deep/file; chown -R 33:33 /data/own; exec sleep 9999";
        let service = Service { mounts: vec![volume("data", "/data")], ..shell(line) };
        engine.deploy(&deployment([("app", service), ("web", web(&[]))])).await.unwrap();
        let running = || async {
            let services = engine.services().await?;
            let up = services.iter().all(|service| service.tasks[0].phase == TaskPhase::Running);
            Ok(if up { Look::Ready(()) } else { Look::NotYet(format!("{services:?}")) })
        };
        Poll::within(Duration::from_secs(20)).until("services", running).await.unwrap();
        println!("up");
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

/// A keeper in a process of its own, with its services up.
fn keeper(dir: &Path) -> Result<Child> {
    let mut command = harness::process::command(std::env::current_exe()?);
    let mut child = command.arg("__hold").arg(dir).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    ensure!(line == "up\n", "the keeper said {line:?}");
    Ok(child)
}

/// Live processes that share a user namespace, which is read from the record of the pod.
async fn no_process_left(dir: &Path) -> Result<()> {
    let record = std::fs::read_to_string(dir.join("engine/pod.json"))?;
    let number: serde_json::Value = serde_json::from_str(&record)?;
    let number = number["user_namespace"].as_u64().context("no namespace was recorded")?;
    until_gone(number).await
}

async fn until_gone(user_namespace: u64) -> Result<()> {
    let look = || async {
        let left = processes_in(user_namespace);
        Ok(if left.is_empty() { Look::Ready(()) } else { Look::NotYet(format!("{left:?}")) })
    };
    Poll { interval: Duration::from_millis(2), deadline: Duration::from_secs(5) }.until("the last process", look).await
}

/// Control groups that the record of the pod names, and that are there.
fn groups_of(dir: &Path) -> Result<Vec<PathBuf>> {
    let record = std::fs::read_to_string(dir.join("engine/pod.json"))?;
    let record: serde_json::Value = serde_json::from_str(&record)?;
    let named = record["groups"].as_array().context("no control groups are recorded")?.iter();
    Ok(named.filter_map(|it| it.as_str()).map(PathBuf::from).collect())
}

fn processes_in(user_namespace: u64) -> Vec<PathBuf> {
    let of_pod = |path: &PathBuf| {
        let namespace = std::fs::read_link(path.join("ns/user")).unwrap_or_default();
        let zombie = std::fs::read_to_string(path.join("stat")).is_ok_and(|stat| stat.contains(") Z "));
        namespace == Path::new(&format!("user:[{user_namespace}]")) && !zombie
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(of_pod).collect()
}

async fn removal() -> Result<()> {
    let world = World::new().await?;
    let service = Service { mounts: vec![volume("data", "/data")], ..idle() };
    world.engine.deploy(&deployment([("app", service)])).await?;
    world.converged("app").await?;
    world.shell("app", "mkdir -p /data/locked/deep && chmod 000 /data/locked").await?;
    let notes = Arc::clone(&world.notes);
    world.end().await?;
    let expected = [
        "creating process run1",
        "created process run1",
        "creating volume s_data",
        "created volume s_data",
        "creating service app",
        "created service app",
        "removed service app",
        "removed volume s_data",
        "removed process run1",
    ];
    let notes = notes.0.lock().unwrap();
    ensure!(*notes == expected, "{notes:#?}");
    Ok(())
}

async fn stubborn() -> Result<()> {
    let world = World::new().await?;
    world
        .engine
        .deploy(&deployment([("app", crate::support::shell("trap '' TERM; while :; do sleep 1; done"))]))
        .await?;
    world.converged("app").await?;
    let before = Instant::now();
    world.end().await?;
    ensure!(before.elapsed() < Duration::from_secs(5), "its grace was waited for");
    Ok(())
}

async fn dropped() -> Result<()> {
    let world = World::new().await?;
    world.engine.deploy(&deployment([("app", idle())])).await?;
    world.converged("app").await?;
    let World { engine, dir, .. } = world;
    drop(engine);
    no_process_left(dir.path()).await?;
    // What is no process stays for the sweep, and some of it is not in the directory.
    let swept = sweep(&dir.path().join("engine")).await?;
    ensure!(swept.left.is_empty(), "{swept:?}");
    Ok(())
}

async fn keeper_killed() -> Result<()> {
    let dir = TempDir::new()?;
    let mut keeper = keeper(dir.path())?;
    let written = dir.path().join("engine/volumes/s_data/own");
    let look =
        || std::future::ready(Ok(if written.exists() { Look::Ready(()) } else { Look::NotYet("nothing".into()) }));
    Poll::within(Duration::from_secs(5)).until("the container's file", look).await?;
    keeper.kill()?;
    let killed = Instant::now();
    keeper.wait()?;
    no_process_left(dir.path()).await?;
    ensure!(killed.elapsed() < Duration::from_secs(2), "it took {:?}", killed.elapsed());
    let groups = groups_of(dir.path())?;
    ensure!(groups.iter().all(|group| group.is_dir()), "they go with the sweep alone: {groups:?}");
    let engine = dir.path().join("engine");
    let swept = sweep(&engine).await?;
    ensure!(groups.iter().all(|group| !group.exists()), "{groups:?}: {swept:?}");
    let told = swept.removed.iter().filter(|(kind, _)| *kind == Kind::ControlGroup).count();
    ensure!(told == groups.len(), "{groups:?}: {swept:?}");
    ensure!(swept.left.is_empty() && swept.removed.contains(&(Kind::Volume, "s_data".into())), "{swept:?}");
    ensure!(swept.removed.iter().filter(|(kind, _)| *kind == Kind::Container).count() == 2, "{swept:?}");
    ensure!(!engine.exists());
    Ok(())
}

async fn pod_killed() -> Result<()> {
    let world = World::new().await?;
    world.engine.deploy(&deployment([("app", idle())])).await?;
    world.converged("app").await?;
    let record = std::fs::read_to_string(world.dir.path().join("engine/pod.json"))?;
    let record: serde_json::Value = serde_json::from_str(&record)?;
    let pid = record["processes"][0]["pid"].as_i64().context("no process was recorded")?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL)?;
    no_process_left(world.dir.path()).await?;
    // Neither a failed task nor a command to try again: this says nothing about the services.
    let start = "the pod is gone (signal: 9 (SIGKILL)): its process";
    let error = crate::support::error_of(world.engine.services().await)?;
    ensure!(error.starts_with(start), "{error}");
    let error = crate::support::error_of(world.engine.deploy(&deployment([("new", idle())])).await)?;
    ensure!(error.starts_with(start), "{error}");
    let result = world.engine.exec(&command("app", &["true"])).await;
    ensure!(matches!(&result, Err(CallError::Failed(error)) if error.to_string().starts_with(start)), "{result:?}");
    world.end().await
}

async fn sweep_kills() -> Result<()> {
    let (dead, alive) = (TempDir::new()?, TempDir::new()?);
    let (mut frozen, mut other) = (keeper(dead.path())?, keeper(alive.path())?);
    // Swept although its keeper lives, which stands for whatever could outlive one.
    let swept = sweep(&dead.path().join("engine")).await?;
    ensure!(swept.left.is_empty(), "{swept:?}");
    ensure!(swept.removed.iter().any(|(kind, _)| *kind == Kind::Process), "{swept:?}");
    let record = std::fs::read_to_string(alive.path().join("engine/pod.json"))?;
    let record: serde_json::Value = serde_json::from_str(&record)?;
    let untouched = processes_in(record["user_namespace"].as_u64().context("no namespace was recorded")?);
    ensure!(untouched.len() >= 4, "{untouched:?}");
    for keeper in [&mut frozen, &mut other] {
        keeper.kill()?;
        keeper.wait()?;
    }
    no_process_left(alive.path()).await?;
    sweep(&alive.path().join("engine")).await?;
    Ok(())
}

async fn empty_sweep() -> Result<()> {
    let dir = TempDir::new()?;
    for path in [dir.path().join("never-there"), dir.path().to_owned()] {
        let swept = sweep(&path).await?;
        ensure!(swept.removed.is_empty() && swept.left.is_empty(), "{swept:?}");
    }
    Ok(())
}

/// A rebuild replaces the executable of a keeper that runs.
async fn replaced_program() -> Result<()> {
    let dir = TempDir::new()?;
    let program = dir.path().join("program");
    std::fs::copy(std::env::current_exe()?, &program)?;
    let mut command = harness::process::command(&program);
    let mut child = command.arg("__hold_replaced").arg(dir.path()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    child.kill()?;
    child.wait()?;
    ensure!(line == "up\n", "the keeper said {line:?}");
    no_process_left(dir.path()).await?;
    sweep(&dir.path().join("engine")).await?;
    Ok(())
}

async fn preflight_passes() -> Result<()> {
    let dir = TempDir::new()?;
    preflight(dir.path()).await?;
    ensure!(std::fs::read_dir(dir.path())?.next().is_none());
    Ok(())
}

/// The hidden subcommand of the test program that shows what a preflight says.
pub fn show_preflight(dir: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(preflight(dir)) {
        Ok(()) => println!("passed"),
        Err(error) => println!("{error}"),
    }
    ExitCode::SUCCESS
}

/// A user namespace of our own can be limited like a whole machine.
async fn refused() -> Result<()> {
    let dir = TempDir::new()?;
    for (limit, step) in [
        ("max_user_namespaces", "failed to create a user namespace (ENOSPC). The number of namespaces is limited"),
        ("max_net_namespaces", "failed to create namespaces (ENOSPC). The number of namespaces is limited"),
    ] {
        let line = format!("echo 0 > /proc/sys/user/{limit} && exec \"$0\" __preflight \"$1\"");
        let program = std::env::current_exe()?;
        let args = ["--user", "--map-root-user", "sh", "-c", &line].map(std::ffi::OsString::from);
        let args = args.into_iter().chain([program.into_os_string(), dir.path().into()]);
        let output = harness::process::Run::new("unshare", args).checked().await?;
        let said = String::from_utf8(output.stdout)?;
        let start = format!("the embedded engine cannot start: {step} to what is in use already. Raise `user.max_user");
        ensure!(said.starts_with(&start), "{limit}: {said}");
        ensure!(std::fs::read_dir(dir.path())?.next().is_none(), "{limit}: something was left");
    }
    Ok(())
}

async fn many_pods() -> Result<()> {
    let count = std::env::var("PODS").map_or(Ok(30), |pods| pods.parse::<usize>())?;
    let mut pods = tokio::task::JoinSet::new();
    for _ in 0..count {
        pods.spawn(async {
            let world = World::new().await?;
            world.engine.deploy(&deployment([("app", idle())])).await?;
            world.converged("app").await?;
            world.shell("app", "true").await?;
            world.end().await
        });
    }
    while let Some(pod) = pods.join_next().await {
        pod??;
    }
    Ok(())
}

/// Not a test of anything: prints how long things take, for the records.
async fn times() -> Result<()> {
    let mut figures: Vec<(&str, Vec<Duration>)> =
        ["start of a pod", "deploy to running", "exec of true", "replacement", "removal"]
            .map(|name| (name, vec![]))
            .into();
    for round in 0..20 {
        let mut mark = Instant::now();
        let mut lap = |figures: &mut Vec<(&str, Vec<Duration>)>, which: usize| {
            figures[which].1.push(mark.elapsed());
            mark = Instant::now();
        };
        let world = World::new().await?;
        lap(&mut figures, 0);
        world.engine.deploy(&deployment([("app", web(&[]))])).await?;
        world.converged("app").await?;
        lap(&mut figures, 1);
        world.exec("app", &["/bin/true"]).await?;
        lap(&mut figures, 2);
        let mut service = web(&[]);
        service.environment.insert("ROUND".into(), round.to_string());
        service.deploy.update.monitor = Some(Duration::from_millis(1));
        world.engine.deploy(&deployment([("app", service)])).await?;
        world.update("app", harness::engine::UpdateState::Completed).await?;
        lap(&mut figures, 3);
        world.end().await?;
        lap(&mut figures, 4);
    }
    for (name, mut times) in figures {
        times.sort();
        println!("{name}: median {:?}, from {:?} to {:?}", times[times.len() / 2], times[0], times[times.len() - 1]);
    }
    Ok(())
}
