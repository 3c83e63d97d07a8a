//! Apps that stay warm between two runs: used again when nothing that shaped them has changed and they are not past what
//! is asked for, said so each time, deployed once each, and torn down when nobody comes back.

use std::path::PathBuf;

use harness::process::Run;
use harness::report::results::{Outcome, Results, TrialResult};
use rustix::process::{Signal, kill_process};

use crate::runner::{Ended, World, checkout, finish, working_copy};
use crate::running::wait;

#[path = "../fingerprint.rs"]
mod fingerprint;

const UPGRADED: &str = "overlays::custom_html::upgrade::seeded_page_survives";

/// One run in a world in which apps stay warm.
fn click(world: &World, limit: &str, arguments: &[&str]) -> Ended {
    finish(&world.command(arguments).env("HARNESS_WARM", limit))
}

fn click_custom_html(world: &World, trial: &str) -> Ended {
    click(world, "10m", &["--recipe", "custom-html", "--exact", trial])
}

/// The line of the header about the app.
fn said(ended: &Ended) -> &str {
    let line = ended.stderr.lines().find_map(|line| line.strip_prefix("warm     "));
    line.unwrap_or_else(|| panic!("nothing was said about the app: {ended}"))
}

/// Every run of a world, the oldest first.
fn runs(world: &World) -> Vec<PathBuf> {
    let mut runs: Vec<PathBuf> =
        std::fs::read_dir(world.state().join("runs")).unwrap().flatten().map(|run| run.path()).collect();
    runs.sort_by_key(|run| run.join("run.json").metadata().unwrap().modified().unwrap());
    runs
}

fn id(run: &std::path::Path) -> &str {
    run.file_name().unwrap().to_str().unwrap()
}

fn results(run: &std::path::Path) -> Results {
    serde_json::from_slice(&std::fs::read(run.join("results.json")).unwrap()).unwrap()
}

fn ran(results: &Results) -> Vec<&TrialResult> {
    results.trials().map(|(_, trial)| trial).filter(|trial| trial.outcome != Outcome::NotRun).collect()
}

/// How often a word stands in a run's journal.
fn count(run: &std::path::Path, word: &str) -> usize {
    std::fs::read_to_string(run.join("events.jsonl")).unwrap().matches(word).count()
}

fn harness(world: &World, arguments: &[&str]) -> Ended {
    let run = Run::new(env!("CARGO_BIN_EXE_harness-command"), arguments);
    finish(&run.env("HARNESS_STATE", world.state()))
}

fn down(world: &World, run: &std::path::Path) {
    let ended = harness(world, &["down", id(run)]);
    assert_eq!(ended.code, 0, "{ended}");
    world.expect_nothing_left();
}

#[test]
fn a_second_run_goes_on_with_the_app_of_the_first_and_deploys_nothing() {
    let world = World::of_checkout();
    let first = click_custom_html(&world, UPGRADED);
    assert_eq!(first.code, 0, "{first}");
    assert_eq!(said(&first), "no app is up yet");
    let run = runs(&world).remove(0);
    let stays = format!("warm     {0} stays up for 10m; to remove it now: cargo harness down {0}", id(&run));
    assert!(first.stderr.contains(&stays), "{first}");

    let second = click_custom_html(&world, UPGRADED);
    assert_eq!(second.code, 0, "{second}");
    assert!(said(&second).starts_with(&format!("reused run {} at tier `upgrade`, deployed ", id(&run))), "{second}");
    assert_eq!(second.with_outcome("ok"), [UPGRADED]);
    assert!(second.stderr.contains("; deployed once"), "{second}");
    assert!(!second.stderr.contains("] install"), "no operation of the first run is shown as this one's: {second}");
    let reused = results(&run);
    assert_eq!(ran(&reused).iter().map(|it| (it.name.as_str(), it.attempts)).collect::<Vec<_>>(), [(UPGRADED, 1)]);
    assert!(reused.notes.iter().any(|note| note.starts_with("the app was reused: ")), "{:?}", reused.notes);

    let onwards = "generic::restore::changes_since_the_backup_are_undone";
    let third = click_custom_html(&world, onwards);
    assert_eq!(third.code, 0, "{third}");
    assert_eq!(third.with_outcome("ok"), [onwards], "{third}");
    assert!(third.stderr.contains("] backup   create a snapshot"), "the missing operations are performed: {third}");
    assert_eq!(runs(&world).len(), 1, "one run, used three times");
    for (word, times) in [("\"in_place\":false", 1), ("\"in_place\":true", 1), ("\"operation_finished\"", 4)] {
        assert_eq!(count(&run, word), times, "{word}");
    }

    let listed = harness(&world, &["runs"]);
    assert!(listed.stdout.starts_with(&format!("{}  warm for 9m ", id(&run))), "{listed}");
    assert!(listed.stdout.ends_with("more, at tier `restore`\n"), "{listed}");
    down(&world, &run);
    assert_eq!(harness(&world, &["runs"]).stdout, "no run is up\n");
    let again = harness(&world, &["down", id(&run)]);
    assert_eq!((again.code, again.stderr), (2, format!("error: run `{}` is not up\n", id(&run))));
}

#[test]
fn an_app_that_is_past_what_is_asked_for_is_torn_down_first() {
    let world = World::of_checkout();
    assert_eq!(click_custom_html(&world, UPGRADED).code, 0);
    let earlier = "generic::install::answers_over_http";
    let second = click_custom_html(&world, earlier);
    assert_eq!(second.code, 0, "{second}");
    let [first, own] = &runs(&world)[..] else { panic!("{second}") };
    let why = format!("the app is at tier `upgrade`, and `{earlier}` needs it as it was at tier `install`");
    assert_eq!(said(&second), format!("{} is not reused, and torn down: {why}", id(first)));
    assert_eq!((count(first, "\"teardown_finished\""), count(own, "\"teardown_finished\"")), (1, 0));
    // An operation's own trial passes only where that operation is performed.
    let third = click_custom_html(&world, "tier::install");
    let why = "the app is at tier `install`, and `tier::install` is to show an operation that was performed already";
    assert_eq!(said(&third), format!("{} is not reused, and torn down: {why}", id(own)));
    let third = runs(&world).pop().unwrap();
    assert_eq!(count(&third, "\"in_place\":false"), 1);
    down(&world, &third);
}

#[test]
fn an_app_is_not_reused_once_the_head_has_changed() {
    let world = World::of_test_data();
    let copy = world.dir.path().join("no-backup");
    working_copy(&copy, "git tag -am Release");
    let arguments = [
        "--recipe",
        "no-backup",
        "--recipe-dir",
        copy.to_str().unwrap(),
        "--exact",
        "generic::install::answers_over_http",
    ];
    let first = click(&world, "10m", &arguments);
    assert_eq!(first.code, 0, "{first}");
    let unchanged = click(&world, "10m", &arguments);
    assert!(said(&unchanged).starts_with("reused run "), "{unchanged}");
    let compose = copy.join("compose.yml");
    let text = std::fs::read_to_string(&compose).unwrap();
    std::fs::write(&compose, format!("{text}\n# changed\n")).unwrap();
    let changed = click(&world, "10m", &arguments);
    assert_eq!(changed.code, 0, "{changed}");
    assert!(said(&changed).contains(" is not reused, and torn down: the head was "), "{changed}");
    let runs = runs(&world);
    assert_eq!((runs.len(), count(&runs[0], "\"teardown_finished\"")), (2, 1));
    down(&world, &runs[1]);
}

#[test]
fn another_executable_reuses_the_app_unless_what_shaped_it_has_changed() {
    let root = tempfile::tempdir().unwrap();
    let copied = finish(
        &Run::new("cp", ["-r", "harness.toml", "recipes", "overlays", root.path().to_str().unwrap()]).cwd(checkout()),
    );
    assert_eq!(copied.code, 0, "{copied}");
    let world = World::new(root.path().to_owned());
    let arguments = ["--recipe", "custom-html", "--exact", "generic::install::answers_over_http"];
    assert_eq!(click(&world, "10m", &arguments).code, 0);
    // As after an edit of an assertion: another file, made from the same library.
    let mut other = world.command(&arguments).env("HARNESS_WARM", "10m");
    let edited = world.dir.path().join("edited-runner");
    let mut program = std::fs::read(&other.program).unwrap();
    program.extend(b"one more assertion");
    std::fs::copy(&other.program, &edited).unwrap();
    std::fs::write(&edited, program).unwrap();
    other.program = edited.into();
    let reused = finish(&other);
    assert_eq!(reused.code, 0, "{reused}");
    assert!(said(&reused).starts_with("reused run "), "{reused}");

    let overlay = root.path().join("overlays/custom-html");
    std::fs::write(overlay.join("install_steps.sh"), "#!/bin/sh\ntrue\n").unwrap();
    let changed = click(&world, "10m", &arguments);
    assert!(said(&changed).ends_with(" is not reused, and torn down: the overlay's other files changed"), "{changed}");
    let images = "[embedded.images]\nnginx = \"builtin:static-web\"\n";
    std::fs::write(overlay.join("recipe.toml"), format!("stable = \"2s\"\n{images}")).unwrap();
    let changed = click(&world, "10m", &arguments);
    assert!(said(&changed).ends_with(" is not reused, and torn down: the settings changed"), "{changed}");
    down(&world, &runs(&world)[2]);
}

#[test]
fn an_assertion_may_be_edited_and_a_hook_may_not() {
    let hook = "#[harness::before]\nasync fn seed(app: &App) -> Result { put(app).await }\nfn put() {}\n";
    let test = "/// Says one.\n#[harness::test]\nasync fn is_served(app: &App) -> Result { Ok(()) }\n";
    let folder = tempfile::tempdir().unwrap();
    let of = |parts: &[&str]| {
        std::fs::write(folder.path().join("upgrade.rs"), format!("//! An overlay.\nuse x::y;\n{}", parts.concat()))
            .unwrap();
        fingerprint::besides_assertions(folder.path()).unwrap()
    };
    let with = of(&[hook, test]);
    assert_eq!(with, of(&[hook]));
    let sources = fingerprint::sources(folder.path()).unwrap();
    of(&[hook, &test.replace("one", "two")]);
    assert_ne!(sources, fingerprint::sources(folder.path()).unwrap(), "for what is compared between runs it counts");
    assert_eq!(with, of(&[hook, &test.replace("Ok(())", "{ bail!(\"no\") }").replace("one", "two")]));
    assert_eq!(with, of(&["// a comment\n", hook, &test.replace("#[harness::test]", "#[test]")]));
    assert_ne!(with, of(&[&hook.replace("put(app)", "put(&app)"), test]), "a hook");
    assert_ne!(with, of(&[&hook.replace("put() {}", "put() { other() }"), test]), "what it calls");
    assert_ne!(of(&[hook, "fn a() {}"]), of(&[hook, "fn b() {}"]), "what stands after an assertion");
    assert_ne!(of(&[hook, test, "fn a() {}"]), of(&[hook, test, "fn b() {}"]), "what stands after an assertion");
    assert_eq!(fingerprint::without_assertions("fn {"), "fn {", "what is no Rust is compared as it is");
}

#[test]
fn an_app_that_nobody_comes_back_to_is_torn_down_by_itself() {
    let world = World::of_checkout();
    let ended = click(&world, "1s", &["--recipe", "custom-html", "--exact", "generic::install::answers_over_http"]);
    assert_eq!(ended.code, 0, "{ended}");
    world.expect_nothing_left();
    let run = runs(&world).remove(0);
    wait("the last report", || results(&run).teardown.is_some());
    let teardown = results(&run).teardown.unwrap();
    assert_eq!((teardown.reason.as_str(), teardown.leftovers.len()), ("nobody went on with the app within 1s", 0));
    let next = click_custom_html(&world, "generic::install::answers_over_http");
    assert_eq!(said(&next), "no app is up yet");
    down(&world, &runs(&world)[1]);
}

#[test]
fn a_run_whose_keeper_was_killed_is_swept_and_not_reused() {
    let world = World::of_checkout();
    assert_eq!(click_custom_html(&world, UPGRADED).code, 0);
    let run = runs(&world).remove(0);
    kill_process(crate::running::keeper(&run), Signal::KILL).unwrap();
    let next = click_custom_html(&world, UPGRADED);
    assert_eq!(next.code, 0, "{next}");
    assert_eq!(said(&next), format!("{} is not reused, and torn down: its keeper is gone", id(&run)));
    assert!(next.stderr.contains("; deployed once"), "{next}");
    assert_eq!(count(&run, "\"teardown_finished\""), 1);
    down(&world, &runs(&world)[1]);
}

/// It lived, answered nobody, and was killed by this very run: that is another thing than to be gone.
#[test]
fn a_run_whose_keeper_is_stopped_is_given_up_and_said_so() {
    let world = World::of_checkout();
    assert_eq!(click_custom_html(&world, UPGRADED).code, 0);
    let run = runs(&world).remove(0);
    kill_process(crate::running::keeper(&run), Signal::STOP).unwrap();
    let command = world.command(&["--recipe", "custom-html", "--exact", UPGRADED]);
    let next = finish(&command.env("HARNESS_WARM", "10m").env("RECIPE_HARNESS_TEST_PING", "300:10"));
    assert_eq!(next.code, 0, "{next}");
    let expected = format!(
        "{} is not reused, and torn down: its keeper was given up: its process lived and answered none of 10 pings, each \
         within 300ms, so it was killed",
        id(&run)
    );
    assert_eq!(said(&next), expected);
    assert_eq!(next.with_outcome("ok"), [UPGRADED], "{next}");
    down(&world, &runs(&world)[1]);
}

#[test]
fn a_run_that_is_killed_while_it_uses_a_warm_app_leaves_nothing() {
    let world = World::of_checkout();
    assert_eq!(click_custom_html(&world, "generic::install::answers_over_http").code, 0);
    let mut second = world.start_with(&["--recipe", "custom-html"], &[("HARNESS_WARM", "10m")]);
    second.wait_for(" is not reused, and torn down: ");
    second.wait_for("[  ");
    second.signal(Signal::KILL);
    assert_eq!(second.end(), 137);
    world.expect_nothing_left();

    assert_eq!(click_custom_html(&world, "generic::install::answers_over_http").code, 0);
    let mut third = world.start_with(&["--recipe", "custom-html", "--exact", UPGRADED], &[("HARNESS_WARM", "10m")]);
    third.wait_for("warm     reused run ");
    third.signal(Signal::KILL);
    assert_eq!(third.end(), 137);
    world.expect_nothing_left();
    let last = runs(&world).pop().unwrap();
    assert_eq!(results(&last).teardown.unwrap().reason, "the process that asked for the run is gone");
    assert!(said(&click_custom_html(&world, UPGRADED)).starts_with("no app is up yet"));
    down(&world, &runs(&world)[3]);
}

#[test]
fn of_two_runs_at_once_one_has_the_app_and_the_other_deploys_its_own() {
    let world = World::of_checkout();
    assert_eq!(click_custom_html(&world, "generic::install::answers_over_http").code, 0);
    let mut first = world.start_with(&["--recipe", "custom-html", "--exact", UPGRADED], &[("HARNESS_WARM", "10m")]);
    first.wait_for("warm     reused run ");
    // Stopped, so that it cannot be through before the other has looked.
    first.signal(Signal::STOP);
    let second = click_custom_html(&world, "generic::install::answers_over_http");
    assert_eq!(second.code, 0, "{second}");
    let own = "another run of custom-html is under way and has the app: this one deploys its own, and tears it down";
    assert_eq!(said(&second), own);
    assert!(second.stderr.contains("teardown nothing is left"), "{second}");
    first.signal(Signal::CONT);
    assert_eq!(first.end(), 0, "{}", first.said.lock().unwrap());
    let runs = runs(&world);
    assert_eq!(runs.iter().map(|run| count(run, "\"in_place\":false")).collect::<Vec<_>>(), [1, 1]);
    down(&world, &runs[0]);
}

#[test]
fn an_app_whose_operation_failed_is_not_left_up_and_one_whose_assertion_failed_is() {
    let world = World::of_test_data();
    let failed = click(&world, "10m", &["--recipe", "rolls-back"]);
    assert_eq!(failed.code, 101, "{failed}");
    let run = runs(&world).remove(0);
    let why = format!("warm     {} is not left up: the operation `upgrade` failed", id(&run));
    assert!(failed.stderr.contains(&why), "{failed}");
    world.expect_nothing_left();

    let trial = "generic::install::answers_over_http";
    let first = click(&world, "10m", &["--recipe", "serves-500", "--exact", trial]);
    let second = click(&world, "10m", &["--recipe", "serves-500", "--exact", trial]);
    assert_eq!((first.code, second.code), (101, 101), "{second}");
    assert!(said(&second).starts_with("reused run "), "{second}");
    // Without the log, which says how often the app was asked.
    let seen = |ended: &Ended| {
        let message = ended.message(trial);
        let (_, seen) = message.split_once("last seen: ")?;
        seen.lines().next().map(str::to_owned)
    };
    assert!(seen(&first).is_some_and(|seen| seen.starts_with("500 ")), "{first}");
    assert_eq!(seen(&first), seen(&second), "{second}");
    down(&world, &runs(&world)[1]);
}

/// Ctrl-C once the run has let go of its app and is not yet over: its summary cannot be written, for want of a reader.
fn interrupted_after_its_end(world: &World, arguments: &[&str], limit: &str, left: &str) {
    let pipe = world.dir.path().join("summary");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let env = [("HARNESS_WARM", limit), ("GITHUB_STEP_SUMMARY", pipe.to_str().unwrap())];
    let mut running = world.start_with(&[&["--recipe", "custom-html", "--tiers", "install"], arguments].concat(), &env);
    running.wait_for(left);
    running.signal(Signal::INT);
    assert_eq!(running.end(), 130, "{}", running.said.lock().unwrap());
    let said = running.said.lock().unwrap().clone();
    let run = runs(world).remove(0);
    let stays = format!("custom-html stays up: to remove it, cargo harness down {}\n", id(&run));
    assert!(said.ends_with(&stays), "{said}");
    assert!(!said.contains("is torn down"), "{said}");
    assert_eq!(count(&run, "\"teardown_started\""), 0);
    down(world, &run);
}

#[test]
fn ctrl_c_after_an_app_was_left_up_says_that_it_stays() {
    interrupted_after_its_end(&World::of_checkout(), &[], "10m", " stays up for 10m; to remove it now: ");
    interrupted_after_its_end(&World::of_checkout(), &["--keep"], "0", "remove   cargo harness down ");
}

#[test]
fn runs_does_not_wait_for_a_keeper_that_answers_nothing() {
    let world = World::of_checkout();
    assert_eq!(click_custom_html(&world, "generic::install::answers_over_http").code, 0);
    let run = runs(&world).remove(0);
    kill_process(crate::running::keeper(&run), Signal::STOP).unwrap();
    let asked = std::time::Instant::now();
    let listed = harness(&world, &["runs"]);
    let took = asked.elapsed();
    kill_process(crate::running::keeper(&run), Signal::CONT).unwrap();
    let silent = "its keeper does not answer: nothing came within 3s: `harness down` ends it";
    assert_eq!((listed.code, listed.stdout), (0, format!("{}  {silent}\n", id(&run))));
    assert!(took.as_secs() >= 3 && took.as_secs() < 20, "{took:?}");
    assert!(harness(&world, &["runs"]).stdout.contains("  warm for 9m "), "one that answers again");
    down(&world, &run);
}

#[test]
fn where_the_end_of_the_app_is_decided_otherwise_nothing_is_left_for_the_next_run() {
    let world = World::of_checkout();
    let dir = world.dir.path().join("own");
    let arguments = ["--recipe", "custom-html", "--run-dir", dir.to_str().unwrap(), "--exact", "tier::install"];
    let ended = click(&world, "10m", &arguments);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(said(&ended), "not with --run-dir: nothing is reused, and nothing is left up for the next run");
    assert!(ended.stderr.contains("teardown nothing is left"), "{ended}");
}
