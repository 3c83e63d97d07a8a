//! Runs on a Swarm that are broken off: nothing stays on it.

use rustix::process::{Signal, kill_process};

use super::docker::{docker, named, stack};
use crate::runner::{World, checkout, tell};
use crate::running::wait;

pub const CASES: &[crate::Case] = &[
    ("a_lent_secret_is_neither_made_nor_removed", a_lent_secret_is_neither_made_nor_removed),
    ("ctrl_c_in_the_middle_of_an_upgrade_leaves_nothing", ctrl_c_in_the_middle_of_an_upgrade),
    ("what_changed_on_the_server_beside_a_run_is_said_and_fails_nothing", changed_beside),
    ("after_sigkill_of_the_runner_the_keeper_leaves_nothing", after_sigkill_of_the_runner),
    ("after_sigkill_of_both_the_next_run_sweeps_the_swarm", after_sigkill_of_both),
];

fn ctrl_c_in_the_middle_of_an_upgrade() {
    let world = World::of_checkout().on("swarm");
    let mut running = world.start(&["--recipe", "custom-html"]);
    running.wait_for("upgrade  redeploy");
    running.signal(Signal::INT);
    assert_eq!(running.end(), 130, "{}", running.said.lock().unwrap());
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(named(&stack(&running.said.lock().unwrap())), Vec::<String>::new());
}

/// A secret of somebody else's, which the policy lets the app use by its name.
fn a_lent_secret_is_neither_made_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    let secret = format!("lent-{}", std::process::id());
    let recipe = dir.path().join("recipes/lent/head");
    std::fs::create_dir_all(&recipe).unwrap();
    let compose = format!(
        "version: \"3.8\"\nservices:\n  app:\n    image: nginx:1.27.4\n    secrets: [token]\n    networks: [proxy]\n    deploy:\n      \
         labels:\n        - traefik.enable=true\n        - \
         traefik.http.routers.${{STACK_NAME}}.rule=Host(`${{DOMAIN}}`)\n        - \
         traefik.http.services.${{STACK_NAME}}.loadbalancer.server.port=80\nnetworks:\n  proxy: {{external: true}}\nsecrets:\n  token: \
         {{external: true, name: {secret}}}\n"
    );
    std::fs::write(recipe.join("compose.yml"), compose).unwrap();
    let harness = std::fs::read_to_string(checkout().join("tests/data/hostile/harness.toml")).unwrap();
    let policy = format!("{harness}\n[policy]\nsecrets = [\"{secret}\"]\n");
    std::fs::write(dir.path().join("harness.toml"), policy).unwrap();
    let world = World::new(dir.path().to_owned()).on("swarm");
    let run = || world.run(&["--recipe", "lent", "--tiers", "install"]);
    let ended = run();
    let missing = format!(
        "error: failed to use the engine `swarm`: the external secret `{secret}` does not exist: create it with `docker \
         secret create {secret} <file>`"
    );
    assert_eq!((ended.code, ended.refusal()), (3, missing.as_str()), "{ended}");
    let file = dir.path().join("value");
    std::fs::write(&file, "a value of somebody else's").unwrap();
    let id = docker(vec!["secret", "create", &secret, file.to_str().unwrap()]);
    let ended = run();
    let inspected = docker(vec!["secret", "inspect", &secret, "--format", "{{.ID}} {{json .Spec.Labels}}"]);
    docker(vec!["secret", "rm", &secret]);
    assert_eq!(ended.code, 0, "{ended}");
    let line = format!(
        "allowed  `secrets.token.name` is `{secret}` (`compose.yml` line 15): the policy's `secrets` allows it"
    );
    assert!(ended.stderr.contains(&line), "{ended}");
    assert_eq!(inspected.trim(), format!("{} {{}}", id.trim()), "it is what it was");
    assert_eq!(named(&stack(&ended.stderr)), Vec::<String>::new(), "{ended}");
}

/// Somebody makes a volume and removes a network while the run goes on, and another run comes and goes.
fn changed_beside() {
    let world = World::of_test_data().on("swarm");
    let mark = format!("beside-{}", std::process::id());
    let (volume, network) = (format!("{mark}-new"), format!("{mark}-gone"));
    docker(vec!["network", "create", &network]);
    let mut running = world.start(&["--recipe", "no-backup"]);
    running.wait_for("install  done in");
    docker(vec!["volume", "create", &volume]);
    docker(vec!["network", "rm", &network]);
    let neighbour = World::of_test_data().on("swarm");
    let mut other = neighbour.start(&["--recipe", "no-backup", "--tiers", "install"]);
    other.wait_for("install  deploy");
    let code = running.end();
    let said = running.said.lock().unwrap().clone();
    docker(vec!["volume", "rm", &volume]);
    assert_eq!(other.end(), 0);
    assert_eq!(code, 0, "a warning fails nothing: {said}");
    let warning = said.lines().find(|line| line.contains("WARNING: during this run the server changed beside it: "));
    let warning = warning.unwrap_or_else(|| panic!("nothing is said: {said}"));
    tell(warning);
    assert!(warning.contains(&format!("volume `{volume}` is new")), "{warning}");
    assert!(warning.contains(&format!("network `{network}` is gone")), "{warning}");
    assert!(!warning.contains("_harness_test_"), "another run is nobody's concern: {warning}");
}

fn after_sigkill_of_the_runner() {
    let world = World::of_checkout().on("swarm");
    let mut running = world.start(&["--recipe", "custom-html"]);
    running.wait_for("install  deploy");
    let stack = stack(&running.said.lock().unwrap());
    wait("the service to exist", || !named(&format!("{stack}_app")).is_empty());
    running.signal(Signal::KILL);
    running.end();
    world.expect_nothing_left();
    assert_eq!(named(&stack), Vec::<String>::new());
}

fn after_sigkill_of_both() {
    let world = World::of_checkout().on("swarm");
    let mut running = world.start(&["--recipe", "custom-html"]);
    running.wait_for("install  done in");
    let keeper = running.keeper(&world);
    kill_process(keeper, Signal::STOP).unwrap();
    running.signal(Signal::KILL);
    running.end();
    kill_process(keeper, Signal::KILL).unwrap();
    wait("the processes to end", || world.processes().is_empty());
    let stack = stack(&running.said.lock().unwrap());
    assert!(!named(&stack).is_empty(), "nobody has cleaned up yet");
    let ended = world.run(&["--recipe", "custom-html", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    // The sweep goes on beside the run, and after it when it has to.
    wait("the dead run's stack to be swept", || named(&stack).is_empty());
    world.expect_nothing_left();
}
