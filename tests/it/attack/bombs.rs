//! Programs that take more than they may have: memory, processes, processor time. Each has a twin that takes less.

use anyhow::{Context as _, Result, ensure};
use harness::engine::embedded::bounds;
use harness::engine::{CallError, TaskPhase};
use harness::recipe::stack::{Limits, RestartCondition, Service};
use libtest_mimic::Trial;

use crate::Promise::Bounds;
use crate::support::{World, deployment, idle, trial};
use crate::{Attempt, By};

const MIB: u64 = 1 << 20;

pub const ATTEMPTS: &[Attempt] = &[
    Attempt { name: "all_the_memory", promise: Bounds, by: By::Test(memory) },
    Attempt { name: "all_the_memory_by_a_command", promise: Bounds, by: By::Test(memory_of_a_command) },
    Attempt { name: "ever_more_processes", promise: Bounds, by: By::Test(processes) },
    Attempt { name: "ever_more_processes_by_a_command", promise: Bounds, by: By::Test(processes_of_a_command) },
    Attempt { name: "all_the_processor_time", promise: Bounds, by: By::Test(processor) },
];

/// Takes this many mebibytes, and keeps them until somebody objects.
const TAKE: &str = "import sys, time\nheld = bytearray(int(sys.argv[1]) << 20)\nfor at in range(0, len(held), 4096): held[at] = 1\n\
    print('taken', flush=True)\ntime.sleep(float(sys.argv[2]))";

/// Starts this many children, which wait, and keeps them until somebody objects.
const FORK: &str = "import os, sys, time\nfor number in range(int(sys.argv[1])):\n    \
    if os.fork() == 0:\n        time.sleep(60)\n        os._exit(0)\n\
    print('taken', flush=True)\ntime.sleep(float(sys.argv[2]))\nos._exit(0)";

fn argv(program: &str, args: [&str; 2]) -> Vec<String> {
    ["/usr/bin/python3", "-c", program].into_iter().chain(args).map(str::to_owned).collect()
}

/// A service that runs a program once.
fn once(command: Vec<String>, limits: Limits) -> Service {
    let mut service = Service { command: Some(command), ..idle() };
    service.deploy.restart.condition = RestartCondition::None;
    service.deploy.limits = limits;
    service
}

/// How the only task of a service ended.
async fn ended(command: Vec<String>, limits: Limits) -> Result<(TaskPhase, String)> {
    let world = World::new().await?;
    world.engine.deploy(&deployment([("app", once(command, limits))])).await?;
    let over = |phase| matches!(phase, TaskPhase::Complete | TaskPhase::Failed | TaskPhase::Rejected);
    let service = world.until("its end", "app", |service| service.tasks.iter().all(|task| over(task.phase))).await?;
    let task = service.tasks.first().context("there is no task")?;
    let end = (task.phase, task.error.clone());
    world.end().await?;
    Ok(end)
}

fn memory() -> Trial {
    trial("bombs::all_the_memory", || async {
        let limits = Limits { memory: Some(96 * MIB), ..Limits::default() };
        let (phase, error) = ended(argv(TAKE, ["400", "20"]), limits).await?;
        let by_group = "task: non-zero exit (137): the kernel killed a process of it (OOM), because it wanted more memory than \
                        the 96 MiB that it may have";
        let by_look =
            "task: non-zero exit (137): it was killed, because it used more memory than the 96 MiB that it may have";
        ensure!(phase == TaskPhase::Failed && error == either("memory", by_group, by_look), "{phase:?}: {error}");
        let less = ended(argv(TAKE, ["40", "0.5"]), limits).await?;
        ensure!(less == (TaskPhase::Complete, String::new()), "the harmless twin: {less:?}");
        Ok(())
    })
}

fn processes() -> Trial {
    trial("bombs::ever_more_processes", || async {
        let limits = Limits { pids: Some(40), ..Limits::default() };
        let (phase, error) = ended(argv(FORK, ["200", "20"]), limits).await?;
        let by_group = "task: non-zero exit (1): it was refused more processes than the 40 that it may have";
        let by_look =
            "task: non-zero exit (137): it was killed, because it had more processes than the 40 that it may have";
        ensure!(phase == TaskPhase::Failed && error == either("processes", by_group, by_look), "{phase:?}: {error}");
        let less = ended(argv(FORK, ["20", "0.5"]), limits).await?;
        ensure!(less == (TaskPhase::Complete, String::new()), "the harmless twin: {less:?}");
        Ok(())
    })
}

/// What is expected where groups bound this, and where they do not.
fn either<'a>(what: &str, by_group: &'a str, by_look: &'a str) -> &'a str {
    let (groups, _) = bounds_of_groups();
    if groups.split(", ").any(|it| it == what) { by_group } else { by_look }
}

/// What control groups bound here, and the whole sentence.
fn bounds_of_groups() -> (String, String) {
    let said = bounds();
    let groups = said.split_once(" of every container: by control groups").map(|(groups, _)| groups.to_owned());
    (groups.unwrap_or_default(), said)
}

/// A command in a container counts as the container: it is ended, or the container with it.
async fn by_command(program: &str, [more, less]: [&str; 2], limits: Limits) -> Result<()> {
    let world = World::new().await?;
    let mut app = idle();
    app.deploy.limits = limits;
    world.engine.deploy(&deployment([("app", app)])).await?;
    world.converged("app").await?;
    let run = async |take: &str, hold: &str| {
        let argv = argv(program, [take, hold]);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        world.engine.exec(&crate::support::command("app", &argv)).await
    };
    let twin = run(less, "0.5").await?;
    ensure!(twin.code == 0 && twin.stdout == b"taken\n", "the harmless twin: {twin:?}");
    match run(more, "5").await {
        Ok(output) => ensure!(output.code != 0, "{output:?}"),
        Err(CallError::Interrupted(_)) => {}
        Err(error) => return Err(error.into()),
    }
    world.end().await
}

fn memory_of_a_command() -> Trial {
    trial("bombs::all_the_memory_by_a_command", || async {
        by_command(TAKE, ["400", "40"], Limits { memory: Some(96 * MIB), ..Limits::default() }).await
    })
}

fn processes_of_a_command() -> Trial {
    trial("bombs::ever_more_processes_by_a_command", || async {
        by_command(FORK, ["200", "20"], Limits { pids: Some(40), ..Limits::default() }).await
    })
}

/// Tries for a second to have a whole processor.
const SPIN: &str = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass";

/// How often the kernel held a container back that may have so much and wants a whole processor.
async fn held_back(cpus: u64) -> Result<u64> {
    let world = World::new().await?;
    let mut app = idle();
    app.deploy.limits.cpus = Some(cpus);
    world.engine.deploy(&deployment([("app", app)])).await?;
    world.converged("app").await?;
    let output = world.exec("app", &["/usr/bin/python3", "-c", SPIN]).await?;
    ensure!(output.code == 0, "{output:?}");
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(world.dir.path().join("engine/pod.json"))?)?;
    let groups = record["groups"].as_array().context("no control groups are recorded")?.iter();
    let tasks = groups.filter_map(|group| std::fs::read_dir(group.as_str()?).ok()).flatten().flatten();
    let told: Vec<String> =
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("cpu.stat")).ok()).collect();
    world.end().await?;
    let counts = told.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("nr_throttled "));
    counts.map(|count| Ok(count.parse::<u64>()?)).sum()
}

fn processor() -> Trial {
    trial("bombs::all_the_processor_time", || async {
        let (groups, said) = bounds_of_groups();
        if !groups.contains("processor time") {
            ensure!(said.contains("processor time: none, because "), "neither bounded nor told so: {said}");
            return Ok(());
        }
        let (tenth, whole) = (held_back(50).await?, held_back(8000).await?);
        ensure!(tenth > 0 && whole == 0, "with a twentieth of a processor held back {tenth} times, with eight {whole}");
        Ok(())
    })
}
