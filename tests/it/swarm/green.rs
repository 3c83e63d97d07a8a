//! Runs on a Swarm that must pass.

use harness::process::Run;

use super::docker::{docker, named, stack};
use crate::runner::{Ended, World, checkout, finish, tell};

pub const CASES: &[crate::Case] = &[
    ("services_without_limits_get_those_of_the_policy", services_without_limits_get_those_of_the_policy),
    ("custom_html_passes_every_tier", custom_html_passes_every_tier),
    ("guestbook_passes_every_tier", guestbook_passes_every_tier),
    ("a_service_that_runs_once_is_waited_for_until_it_is_done", runs_once),
    ("two_runs_at_once_do_not_meet", two_runs_at_once_do_not_meet),
    ("ten_runs_at_once_do_not_meet", ten_runs_at_once_do_not_meet),
    ("a_docker_context_says_where_the_swarm_is", a_docker_context_says_where_the_swarm_is),
];

/// A passed run: every tier, nothing ignored, one deploy, nothing left on this machine or on the Swarm.
fn check(world: &World, ended: &Ended) {
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.with_outcome("ok").len() >= 30, "{ended}");
    assert!(ended.with_outcome("ignored").is_empty(), "{ended}");
    for operation in ["install", "upgrade", "backup", "restore", "teardown"] {
        assert_eq!(ended.outcome(&format!("tier::{operation}")), Some("ok"), "{ended}");
    }
    assert!(ended.stderr.contains("; deployed once"), "{ended}");
    assert!(ended.stderr.contains("engine   swarm, as asked for: "), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
    assert_eq!(named(&stack(&ended.stderr)), Vec::<String>::new(), "{ended}");
}

fn custom_html_passes_every_tier() {
    let world = World::of_checkout().on("swarm");
    let ended = world.run(&["--recipe", "custom-html"]);
    check(&world, &ended);
    // What runs is said, wherever it is not what its name says.
    let stand_in = docker(vec![
        "image",
        "inspect",
        "nginx:1.28.0",
        "--format",
        "{{index .Config.Labels \"recipe-harness.stand-in\"}}",
    ]);
    let line = format!("images   `nginx:1.28.0` is not what its name says: {}", stand_in.trim());
    assert!(stand_in.trim().is_empty() || ended.stderr.contains(&line), "{ended}");
}

/// The one that the recipe states, and those that it does not.
fn services_without_limits_get_those_of_the_policy() {
    let world = World::new(checkout().join("tests/data/hostile")).on("swarm");
    let ended = world.run(&["--recipe", "some-limits", "--tiers", "install", "--keep"]);
    assert_eq!(ended.code, 0, "{ended}");
    let line =
        "limits   `app` may have 8192 MiB of memory and 1024 MiB of logs, as far as the recipe states no limit\n";
    assert!(ended.stderr.contains(line), "{ended}");
    let of = |service: &str| {
        let name = format!("{}_{service}", stack(&ended.stderr));
        let template = "{{json .Spec.TaskTemplate.Resources.Limits}} {{json .Spec.TaskTemplate.LogDriver}}";
        docker(vec!["service", "inspect", &name, "--format", template])
    };
    let logs = |file, size| {
        format!("{{\"Name\":\"json-file\",\"Options\":{{\"max-file\":\"{file}\",\"max-size\":\"{size}\"}}}}\n")
    };
    let expected = [
        format!("{{\"MemoryBytes\":8589934592}} {}", logs(2, "512m")),
        format!("{{\"MemoryBytes\":134217728}} {}", logs(3, "1m")),
    ];
    assert_eq!([of("app"), of("stated")], expected);
    let run = ended.stderr.lines().find_map(|line| line.strip_prefix("remove   cargo harness down "));
    let down = Run::new(env!("CARGO_BIN_EXE_harness-command"), ["down", run.unwrap()]);
    let down = crate::runner::finish(&down.env("HARNESS_STATE", world.state()));
    assert_eq!(down.code, 0, "{down}");
    world.expect_nothing_left();
    assert_eq!(named(&stack(&ended.stderr)), Vec::<String>::new(), "{down}");
}

fn guestbook_passes_every_tier() {
    let world = World::of_checkout().on("swarm");
    check(&world, &world.run(&["--recipe", "guestbook"]));
}

fn runs_once() {
    let world = World::of_test_data().on("swarm");
    let ended = world.run(&["--recipe", "runs-once"]);
    assert_eq!(ended.code, 0, "{ended}");
    let note = "service `migrate` has ended with code 0, and its restart policy leaves it so";
    assert_eq!(ended.stderr.matches(note).count(), 1, "{ended}");
    assert_eq!(named(&stack(&ended.stderr)), Vec::<String>::new(), "{ended}");
}

fn two_runs_at_once_do_not_meet() {
    let worlds = [World::of_checkout().on("swarm"), World::of_checkout().on("swarm")];
    let runs = worlds.map(|world| {
        std::thread::spawn(move || {
            let ended = world.run(&["--recipe", "custom-html"]);
            check(&world, &ended);
            stack(&ended.stderr)
        })
    });
    let [one, other] = runs.map(|run| run.join().unwrap());
    assert_ne!(one, other);
}

/// Two recipes, five runs of each; or a few, because all of them keep a small machine busy for a minute.
fn ten_runs_at_once_do_not_meet() {
    let runs = if crate::sample::all() { 10 } else { 3 };
    let world = World::of_test_data().on("swarm");
    let ended: Vec<Ended> = std::thread::scope(|scope| {
        let run = |number: usize| {
            let recipe = if number.is_multiple_of(2) { "no-backup" } else { "runs-once" };
            let run = world.command(&["--recipe", recipe]).deadline(std::time::Duration::from_secs(400));
            scope.spawn(move || finish(&run))
        };
        let runs: Vec<_> = (0..runs).map(run).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let mut stacks = std::collections::BTreeSet::new();
    for ended in &ended {
        assert_eq!(ended.code, 0, "{ended}");
        assert!(ended.stderr.contains("; deployed once"), "{ended}");
        // What the neighbours do is nobody's concern.
        let beside = ended.stderr.lines().find(|line| line.contains("the server changed beside it"));
        assert!(!beside.is_some_and(|line| line.contains("_harness_test_")), "{beside:?}");
        assert_eq!(named(&stack(&ended.stderr)), Vec::<String>::new(), "{ended}");
        stacks.insert(stack(&ended.stderr));
    }
    assert_eq!(stacks.len(), runs, "{stacks:?}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
    tell(&format!("swarm: {runs} runs at once, with zero leftovers"));
}

/// A context that leads to the same daemon proves that both the API and the CLI follow it.
fn a_docker_context_says_where_the_swarm_is() {
    let world = World::of_checkout().on("swarm");
    let config = world.dir.path().join("docker");
    let socket = "host=unix:///var/run/docker.sock";
    let arguments = ["--config", config.to_str().unwrap(), "context", "create", "elsewhere", "--docker", socket];
    docker(arguments.to_vec());
    let run = world.command(&["--recipe", "custom-html", "--tiers", "install"]);
    let run = run.env("DOCKER_CONFIG", &config).env("DOCKER_CONTEXT", "elsewhere");
    let ended = finish(&run);
    assert_eq!(ended.code, 0, "{ended}");
    assert!(ended.stderr.contains("(DOCKER_CONTEXT `elsewhere`)"), "{ended}");
    assert_eq!(named(&stack(&ended.stderr)), Vec::<String>::new(), "{ended}");
}
