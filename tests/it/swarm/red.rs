//! Recipes that are broken in ways that only a Swarm shows, and Swarms that cannot be deployed to.

use super::docker::{named, stack};
use crate::runner::{Ended, World, checkout};

pub const CASES: &[crate::Case] = &[
    ("a_silent_rollback_is_red_and_named", a_silent_rollback_is_red_and_named),
    ("a_container_killed_while_it_migrates_is_called_so", a_container_killed_while_it_migrates_is_called_so),
    ("a_task_that_no_node_takes_is_named_with_its_state", a_task_that_no_node_takes_is_named_with_its_state),
    ("an_image_that_cannot_be_had_is_said_before_anything", an_image_that_cannot_be_had_is_said_before_anything),
    ("a_missing_external_network_is_said_before_anything", a_missing_external_network_is_said_before_anything),
    ("a_config_changed_under_its_name_is_said_before_anything", a_config_changed_under_its_name),
    ("a_docker_command_that_is_not_there_is_said_before_anything", a_docker_command_that_is_not_there),
    ("a_daemon_that_is_not_there_is_said_before_anything", a_daemon_that_is_not_there),
];

fn world() -> World {
    World::new(checkout().join("tests/data/swarm")).on("swarm")
}

/// A run that fails at one trial; it leaves nothing.
fn fails(recipe: &str, trial: &str) -> (Ended, String) {
    let world = world();
    let ended = world.run(&["--recipe", recipe]);
    assert_eq!(ended.code, ended.code_by_fault(), "{ended}");
    assert_eq!(ended.with_outcome("FAILED"), [trial], "{ended}");
    assert_eq!(ended.outcome("tier::teardown"), Some("ok"), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
    assert_eq!(named(&stack(&ended.stderr)), Vec::<String>::new(), "{ended}");
    let message = ended.message(trial);
    (ended, message)
}

/// A run that does not begin, with one line that says why.
fn refused(recipe: &str, environment: &[(&str, &str)]) -> String {
    let world = world();
    let run = environment.iter().fold(world.command(&["--recipe", recipe]), |run, (key, value)| run.env(key, value));
    let ended = crate::runner::finish(&run);
    assert_eq!((ended.code, ended.with_outcome("FAILED")), (ended.code_by_fault(), vec!["tier::install"]), "{ended}");
    assert!(world.journal().contains("\"could_not_begin\""), "nothing was begun: {ended}");
    ended.refusal().to_owned()
}

/// N/N replicas, healthy, HTTP 200, and nothing was upgraded.
fn a_silent_rollback_is_red_and_named() {
    let (ended, message) = fails("silent-rollback", "tier::upgrade");
    assert!(
        message.starts_with("the update of service `app` failed: rollback_completed (rollback completed"),
        "{ended}"
    );
    assert!(message.contains("is failed (exit code 3: task: non-zero exit (3))"), "{ended}");
    assert_eq!(ended.outcome("generic::install::answers_over_http"), Some("ok"), "{ended}");
}

fn a_container_killed_while_it_migrates_is_called_so() {
    let (ended, message) = fails("slow-migration", "tier::install");
    assert!(message.contains("dockerexec: unhealthy container"), "{ended}");
    assert!(message.contains("it was killed while it was still starting"), "{ended}");
    assert!(message.contains("needs a longer `start_period`"), "{ended}");
    assert!(message.contains("last log lines of service `app`:\n  migrating"), "{ended}");
}

fn a_task_that_no_node_takes_is_named_with_its_state() {
    let (ended, message) = fails("no-node", "tier::install");
    assert!(message.starts_with("gave up waiting for the stack `"), "{ended}");
    assert!(message.contains("last seen: service `app`: 0/1 tasks run; task `app.1."), "{ended}");
    assert!(
        message.contains("is pending (no suitable node (scheduling constraints not satisfied on 1 node))"),
        "{ended}"
    );
}

fn an_image_that_cannot_be_had_is_said_before_anything() {
    let line = refused("no-image", &[]);
    let start = "error: failed to use the engine `swarm`: 1 image is not here, and cannot be had: \
                 `127.0.0.1:1/nobody/nothing:1` (";
    assert!(line.starts_with(start) && line.contains("connection refused"), "{line}");
}

fn a_missing_external_network_is_said_before_anything() {
    assert_eq!(
        refused("foreign-network", &[]),
        "error: failed to use the engine `swarm`: the external network `mail` does not exist: create it with `docker \
         network create -d overlay mail`"
    );
}

fn a_config_changed_under_its_name() {
    let line = refused("config-unchanged-name", &[]);
    let start = "error: config `page` has other content in the head than in the base, under the same name `";
    assert!(line.starts_with(start) && line.ends_with("give it a new version in `abra.sh`"), "{line}");
}

fn a_docker_command_that_is_not_there() {
    let bin = tempfile::tempdir().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let git = std::env::split_paths(&path).map(|dir| dir.join("git")).find(|file| file.is_file()).unwrap();
    std::os::unix::fs::symlink(git, bin.path().join("git")).unwrap();
    let line = refused("silent-rollback", &[("PATH", bin.path().to_str().unwrap())]);
    let start = "error: failed to use the engine `swarm`: Docker answers, but there is no `docker` command that works, and stacks \
                 are deployed with it: failed to start `docker`: ";
    assert!(line.starts_with(start), "{line}");
}

fn a_daemon_that_is_not_there() {
    let line = refused("silent-rollback", &[("DOCKER_HOST", "unix:///nowhere/docker.sock")]);
    assert_eq!(
        line,
        "error: failed to use the engine `swarm`: there is no Docker here: failed to connect to Docker at `unix:///nowhere/docker.sock` \
         (DOCKER_HOST): there is no socket `/nowhere/docker.sock`: is Docker installed, and does it run"
    );
}
