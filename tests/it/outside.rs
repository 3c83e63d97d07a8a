//! Secrets from outside: used where one would be made, masked everywhere, and never an argument.

use crate::repo_local::with_overlay_of;
use crate::runner::{Ended, World, finish};

pub const SECRET: &str = "canary-secret-that-must-turn-up-nowhere1";
/// It is green if the container has that very value, and red, with the value in its last words, if it has another.
const LOOK: &str = r#"ask() { curl -fsS "$APP_CALLS/exec?raw" -d '{"service": "app", "argv": ["'$1'", "/run/secrets/token"]}'; }
echo "token: $(ask cat)"
test "$(ask sha256sum | cut -d' ' -f1)" = 682265df4598bc5fc64b7e970bad6841de287626f8be9c0277a48f9017e6f455
"#;
const SPOIL: &str = "echo \"token: $(curl -fsS \"$APP_CALLS/exec?raw\" -d '{\"service\": \"app\", \"argv\": [\"cat\", \
                     \"/run/secrets/token\"]}')\"\nexit 1\n";

/// Its programs look at the secret that a container has.
pub fn world() -> (tempfile::TempDir, World) {
    let steps = "printf '%s' of-the-overlay > \"$APP_SECRETS_DIR/token\"\n";
    let files = [("install_steps.sh", steps), ("test_install_value.sh", LOOK), ("test_install_said.sh", SPOIL)];
    with_overlay_of("whole", &files)
}

pub fn run(world: &World, more: &[&str], env: &[(&str, &str)]) -> Ended {
    let arguments = [&["--recipe", "whole", "--tiers", "install"], more].concat();
    finish(&env.iter().fold(world.command(&arguments), |run, (key, value)| run.env(key, value)))
}

/// The container has the value, and nobody else.
pub fn check(world: &World, ended: &Ended) {
    assert_eq!(ended.outcome("overlays::whole::install::test_install_value"), Some("ok"), "{ended}");
    let message = ended.message("overlays::whole::install::test_install_said");
    assert!(message.contains("its last lines:\n  token: ***\n"), "{ended}");
    assert!(!format!("{ended}").contains(SECRET), "{ended}");
    assert_eq!(world.files_with(SECRET), Vec::<String>::new());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn a_variable_gives_a_secret_its_value() {
    let (_root, world) = world();
    let ended = run(&world, &[], &[("HARNESS_SECRET_TOKEN", SECRET), ("HARNESS_SECRET_TOKN", SECRET)]);
    check(&world, &ended);
    let note = "HARNESS_SECRET_TOKN is for no secret of this recipe: it has `token`\n";
    assert!(ended.stderr.contains(note), "{ended}");
}

#[test]
fn a_file_gives_a_secret_its_value() {
    let (root, world) = world();
    let file = root.path().join("token");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let ended = run(&world, &["--secret", &format!("token=@{}", file.display())], &[]);
    check(&world, &ended);
    let again = format!("--secret token=@{}", file.display());
    assert!(ended.message("overlays::whole::install::test_install_said").contains(&again), "{ended}");
}

#[test]
fn without_one_the_overlays_own_is_used() {
    let (_root, world) = world();
    let ended = run(&world, &[], &[]);
    assert_eq!(ended.outcome("overlays::whole::install::test_install_value"), Some("FAILED"), "{ended}");
}

#[test]
fn a_value_in_the_arguments_is_refused_before_anything_is_created() {
    let (_root, world) = world();
    let ended = run(&world, &["--secret", &format!("token={SECRET}")], &[]);
    assert_eq!(ended.code, 2, "{ended}");
    let expected = "`--secret token=…` has no `@` before a file's name, and every user of this machine can read the arguments \
                    of a process: write the value to a file and give `--secret token=@FILE`, or set HARNESS_SECRET_TOKEN\n";
    assert!(ended.stderr.contains(expected) && !ended.stderr.contains(SECRET), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}
