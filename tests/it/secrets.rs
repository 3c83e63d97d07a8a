//! Values of secrets, looked for in everything that a run left.

use crate::repo_local::with_overlay_of;
use crate::runner::World;

/// Supplied by install steps, so that these tests know it.
const VALUE: &str = "correct_horse_battery";
const SUPPLY: (&str, &str) = ("install_steps.sh", "printf correct_horse_battery > \"$APP_SECRETS_DIR/token\"\n");

/// What the keeper says of a file, without what differs from run to run.
fn holds(file: &str, stderr_or_message: &str) -> bool {
    let start = format!("`{file}` holds the value of the secret `");
    stderr_or_message.lines().any(|line| line.contains(&start) && line.contains("_token_v1`"))
}

#[test]
fn a_value_that_nobody_leaks_is_in_no_file() {
    let (_root, world) = with_overlay_of("prints-secret", &[SUPPLY]);
    let ended = world.run(&["--recipe", "prints-secret", "--tiers", "install"]);
    assert_eq!(ended.with_outcome("FAILED"), ["generic::install::no_secret_in_the_logs"], "{ended}");
    assert_eq!(world.files_with(VALUE), Vec::<String>::new(), "{ended}");
    assert!(!format!("{ended}").contains(VALUE), "{ended}");
    // The app prints it, and its log is kept, in a form that a terminal only shows.
    let log = report(&world, "logs/app.log");
    assert!(log.contains(" ***\n") && log.contains(" \\u{1b}[2Jcleared\n"), "{log}");
}

/// Somebody writes it beside the run's own files, as a broken engine would. Here the test does.
#[test]
fn a_value_in_a_file_of_the_run_fails_it_and_names_both() {
    let (_root, world) = with_overlay_of("whole", &[SUPPLY]);
    let mut running = world.start(&["--recipe", "whole", "--tiers", "install"]);
    running.wait_for("install  deploy");
    let run = std::fs::read_dir(world.state().join("runs")).unwrap().next().unwrap().unwrap().path();
    std::fs::create_dir_all(run.join("logs")).unwrap();
    std::fs::write(run.join("logs/leak.log"), format!("token={VALUE}")).unwrap();
    assert_eq!(running.end(), 3, "{}", running.said.lock().unwrap());
    running.wait_for("`logs/leak.log` holds the value of the secret `");
    let last =
        "error: whole: a secret, or the canary of the keeper's environment, stands in `logs/leak.log`, `report.html`";
    running.wait_for(last);
}

/// The name of a trial is decided before there is a secret, and stands in every report.
#[test]
fn a_value_that_is_the_name_of_a_trial_is_found_in_the_journal_and_in_every_report() {
    let trial = format!("test_custom_{VALUE}.sh");
    let (_root, world) = with_overlay_of("whole", &[SUPPLY, (&trial, "exit 0\n")]);
    let outside = world.dir.path().join("outside.xml");
    let junit = ["--junit", outside.to_str().unwrap()];
    let ended = world.run(&[&["--recipe", "whole", "--tiers", "install,custom"][..], &junit].concat());
    assert_eq!(ended.code, 3, "{ended}");
    assert_eq!(ended.with_outcome("FAILED"), ["tier::teardown"], "{ended}");
    assert!(holds("events.jsonl", &ended.message("tier::teardown")), "{ended}");
    let last = format!(
        "error: whole: a secret, or the canary of the keeper's environment, stands in `events.jsonl`, `junit.xml`, \
         `report.html`, `results.json`, `{}`\n",
        outside.display()
    );
    assert!(ended.stderr.contains(&last), "{ended}");
}

/// Masking it would blot out ordinary text, and hide nothing that cannot be guessed.
#[test]
fn a_value_that_is_too_short_to_be_masked_is_noted() {
    let (_root, world) =
        with_overlay_of("whole", &[("install_steps.sh", "printf admin > \"$APP_SECRETS_DIR/token\"\n")]);
    let ended = world.run(&["--recipe", "whole", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    let note = "note     the secret `token` has 5 bytes: values of fewer than 6 are not masked\n";
    assert!(ended.stderr.contains(note), "{ended}");
}

/// What a test says goes through the masks, and what would act on a terminal is shown instead.
#[test]
fn what_a_test_says_is_masked_and_acts_on_no_terminal() {
    let says =
        "printf '\\033[2J\\033]0;title\\007\\342\\200\\256 @team <img src=x>\\n'; echo correct_horse_battery; exit 1\n";
    let skips = "printf 'no \\033[31mmail correct_horse_battery\\n'; exit 77\n";
    let overlay = [SUPPLY, ("test_custom_says.sh", says), ("test_custom_skips.sh", skips)];
    let (_root, world) = with_overlay_of("whole", &overlay);
    let ended = world.run(&["--recipe", "whole", "--tiers", "install,custom"]);
    assert_eq!(ended.with_outcome("FAILED"), ["overlays::whole::custom::test_custom_says"], "{ended}");
    let message = ended.message("overlays::whole::custom::test_custom_says");
    assert!(message.contains("\\u{1b}[2J\\u{1b}]0;title\\u{7}\\u{202e} @team <img src=x>\n  ***\n"), "{message}");
    let skipped = ended.outcome("overlays::whole::custom::test_custom_skips");
    assert_eq!(skipped, Some("ignored (no \\u{1b}[31mmail ***)"), "{ended}");
    let acts = |text: &str| text.chars().any(|c| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}');
    assert!(!acts(&ended.stdout) && !acts(&ended.stderr), "{ended}");
    for name in ["summary.md", "junit.xml", "report.html"] {
        let text = report(&world, name);
        assert!(
            text.contains("team") && !acts(&text) && !text.contains("<img src=x>") || name == "summary.md",
            "{text}"
        );
        assert!(!text.contains(VALUE), "{text}");
    }
}

fn report(world: &World, name: &str) -> String {
    let run = std::fs::read_dir(world.state().join("runs")).unwrap().next().unwrap().unwrap().path();
    std::fs::read_to_string(run.join(name)).unwrap()
}
