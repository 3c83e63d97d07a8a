//! What is known to mislead about abra must turn the right trial red, and nothing green by accident.

use rustix::process::{Signal, kill_process};

use super::fake::Abra;
use crate::runner::World;
use crate::running::wait;
use crate::swarm::docker::{docker, named, stack};

pub const CASES: &[crate::Case] = &[
    ("a_redeployed_stale_base_is_named_with_both_commits", a_redeployed_stale_base),
    ("a_deployment_that_abra_refuses_is_red_with_its_words", a_deployment_that_abra_refuses),
    ("a_fatal_word_counts_whatever_the_exit_code", a_fatal_word_counts),
    ("a_stack_under_a_name_that_was_cut_off_is_named_and_removed", a_stack_under_a_name_that_was_cut_off),
    ("secrets_under_a_name_that_was_cut_off_are_removed", secrets_under_a_name_that_was_cut_off),
    ("a_strangers_stack_with_a_shorter_name_is_left_alone", a_strangers_stack),
    ("secrets_in_what_abra_says_of_a_failure_are_masked", secrets_in_what_abra_says),
    ("a_backup_of_nothing_is_red_although_abra_is_content", a_backup_of_nothing),
    ("a_failed_hook_is_red_although_the_bot_only_logs_it", a_failed_hook),
    ("a_restore_of_nothing_is_red_although_abra_is_content", a_restore_of_nothing),
    ("an_abra_that_hangs_is_ended_with_its_run", an_abra_that_hangs),
    ("an_abra_that_hangs_at_the_end_does_not_keep_the_app", an_abra_that_hangs_at_the_end),
    ("after_sigkill_of_both_the_next_run_sweeps", after_sigkill_of_both),
];

/// abra deploys whatever lies in the checkout; one that moves it on the way deploys the base again. Everything looks
/// healthy, and only the commit on the deployment tells.
fn a_redeployed_stale_base() {
    let abra = Abra::with(&["deploys-the-stale-base"]);
    let ended = abra.run(&["--recipe", "custom-html"]);
    assert_eq!(ended.code, 101, "{ended}");
    assert_eq!(ended.outcome("generic::upgrade::deployed_head"), Some("FAILED"), "{ended}");
    assert_eq!(ended.outcome("generic::upgrade::answers_over_http"), Some("ok"), "{ended}");
    let message = ended.message("generic::upgrade::deployed_head");
    let commits: Vec<&str> = message.split(['`', '"']).filter(|word| is_commit(word)).collect();
    assert!(matches!(commits[..], [head, base] if head != base), "both commits in: {message}");
    assert!(message.contains("the deployment must say that it is commit `"), "{message}");
    abra.expect_nothing_left(&ended);
}

fn is_commit(word: &str) -> bool {
    word.len() == 8 && word.chars().all(|c| c.is_ascii_hexdigit())
}

fn a_deployment_that_abra_refuses() {
    let abra = Abra::with(&["refuses-to-deploy"]);
    let (_, message) = abra.fails(&["--recipe", "custom-html"], &["tier::install"]);
    let expected = "`abra app deploy` exited with code 1: FATA R009 the recipe lacks what abra wants";
    assert!(message.contains(expected), "{message}");
}

fn a_fatal_word_counts() {
    let abra = Abra::with(&["refuses-to-deploy", "exits-0-after-fata"]);
    let (_, message) = abra.fails(&["--recipe", "custom-html"], &["tier::install"]);
    let expected = "`abra app deploy` exited with code 0: FATA R009 the recipe lacks what abra wants";
    assert!(message.contains(expected), "{message}");
}

fn a_stack_under_a_name_that_was_cut_off() {
    let abra = Abra::with(&["truncates"]);
    let (ended, message) = abra.fails(&["--recipe", "custom-html"], &["tier::install"]);
    let stack = stack(&ended.stderr);
    let expected = format!(
        "abra was expected to name the stack `{stack}`, and has cut that off to `{}`: shorten `zone`",
        &stack[..15]
    );
    assert!(message.contains(&expected), "{message}");
    assert_eq!(named(&stack[..15]), Vec::<String>::new(), "{ended}");
}

fn secrets_under_a_name_that_was_cut_off() {
    let abra = Abra::with(&["truncates"]);
    let (ended, message) = abra.fails(&["--recipe", "guestbook"], &["tier::install"]);
    let stack = stack(&ended.stderr);
    assert!(message.contains(&format!("and has cut that off to `{}`: shorten `zone`", &stack[..15])), "{message}");
    assert_eq!(named(&stack[..15]), Vec::<String>::new(), "{ended}");
}

/// Its name is the beginning of the run's own, as that of an app called like its recipe is.
fn a_strangers_stack() {
    const STRANGER: &str = "cust";
    let abra = Abra::with(&["refuses-to-deploy"]);
    let compose = abra.world.dir.path().join("stranger.yml");
    let text = "version: '3.8'\nservices:\n  web:\n    image: nginx:1.27.4\n    deploy: { replicas: 0, endpoint_mode: dnsrr }\n";
    std::fs::write(&compose, text).unwrap();
    docker(vec!["stack", "deploy", "--resolve-image", "never", "-c", compose.to_str().unwrap(), STRANGER]);
    docker(vec!["volume", "create", "cust_data"]);
    let ended = abra.run(&["--recipe", "custom-html"]);
    let left = named("cust_");
    docker(vec!["stack", "rm", STRANGER]);
    docker(vec!["volume", "rm", "cust_data"]);
    let message = ended.message("tier::install");
    assert!(message.contains("FATA R009 the recipe lacks what abra wants"), "{ended}");
    assert!(left.contains(&"service cust_web".into()) && left.contains(&"volume cust_data".into()), "{left:?}");
}

fn secrets_in_what_abra_says() {
    let abra = Abra::with(&["fails-and-tells-secrets"]);
    let (ended, message) = abra.fails(&["--recipe", "guestbook"], &["tier::install"]);
    assert!(message.contains("`abra app secret generate` exited with code 1: FATA no room for ***"), "{message}");
    let told = std::fs::read_to_string(abra.beside.join("told")).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let value = told[0]["value"].as_str().unwrap();
    for place in [abra.records(), abra.keeper_logs(), ended.to_string()] {
        assert!(!place.contains(value), "a secret stands in {place}");
    }
}

fn a_backup_of_nothing() {
    let abra = Abra::with(&["backs-up-nothing"]);
    let (_, message) = abra.fails(&["--recipe", "guestbook"], &["tier::backup"]);
    assert!(message.contains("which the labels put into the snapshot, is empty"), "{message}");
}

fn a_failed_hook() {
    for (recipe, trial, command, code) in
        [("failing-hook", "tier::backup", "backup create", 3), ("failing-restore-hook", "tier::restore", "restore", 4)]
    {
        let abra = Abra::in_world(World::of_test_data(), &[]);
        let (_, message) = abra.fails(&["--recipe", recipe], &[trial]);
        let start = format!("`abra app {command}` exited with code 0, but says: ERRO docker exec ");
        assert!(message.contains(&start) && message.contains(&format!("exit {code}")), "{message}");
    }
}

fn a_restore_of_nothing() {
    let abra = Abra::with(&["restores-nothing"]);
    let ended = abra.run(&["--recipe", "custom-html"]);
    assert_eq!(ended.code, 101, "{ended}");
    assert_eq!(ended.outcome("tier::restore"), Some("ok"), "{ended}");
    assert_eq!(ended.outcome("generic::restore::changes_since_the_backup_are_undone"), Some("FAILED"), "{ended}");
    abra.expect_nothing_left(&ended);
}

/// Teardown is not abra's alone.
fn an_abra_that_hangs_at_the_end() {
    let abra = Abra::with(&["hangs-at-undeploy"]);
    let ended = abra.run(&["--recipe", "custom-html", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.outcome("tier::teardown"), Some("ok"), "{ended}");
    abra.expect_nothing_left(&ended);
}

fn after_sigkill_of_both() {
    let abra = Abra::with(&[]);
    let mut running = abra.start(&["--recipe", "guestbook", "--tiers", "install"]);
    running.wait_for("install  done in");
    let keeper = running.keeper(&abra.world);
    kill_process(keeper, Signal::STOP).unwrap();
    running.signal(Signal::KILL);
    running.end();
    kill_process(keeper, Signal::KILL).unwrap();
    wait("the processes to end", || abra.world.processes().is_empty());
    let stack = stack(&running.said.lock().unwrap());
    assert!(!named(&stack).is_empty(), "nobody has cleaned up yet");
    let ended = abra.run(&["--recipe", "custom-html", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    wait("the dead run's stack to be swept", || named(&stack).is_empty());
    abra.world.expect_nothing_left();
}

/// Ended by Ctrl-C, because the deadline of a deployment is longer than a test should be.
fn an_abra_that_hangs() {
    let abra = Abra::with(&["hangs-at-deploy"]);
    let mut running = abra.start(&["--recipe", "custom-html"]);
    running.wait_for("install  deploy");
    wait("abra to be asked", || abra.calls().iter().any(|call| call.starts_with("app deploy")));
    running.signal(Signal::INT);
    assert_eq!(running.end(), 130, "{}", running.said.lock().unwrap());
    wait("abra to be gone", || abra.world.processes().is_empty());
    assert_eq!(abra.world.leftovers(), Vec::<String>::new());
}
