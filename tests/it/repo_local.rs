//! Code that a recipe brings along: ignored until this repository approves it, and then run in a cage.

use std::path::{Path, PathBuf};

use harness::process::Run;

use crate::runner::{Ended, World, checkout, finish};

/// A run with a list of approved recipes.
pub fn run_approved(world: &World, recipe: &str, list: &str, more: &[&str]) -> Ended {
    let path = world.dir.path().join("approved.txt");
    std::fs::write(&path, list).unwrap();
    let run = world.command(&[&["--recipe", recipe], more].concat());
    let run = run.env("CCCI_REPO_LOCAL_APPROVED_FILE", &path).env("HOST_CANARY", "canary-of-the-host");
    finish(&run)
}

/// Whether the machine's own Python has pytest; in CI it has to.
pub fn has_pytest() -> bool {
    let run = Run::new("/usr/bin/python3", ["-c", "import pytest"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let has = runtime.block_on(run.output()).is_ok_and(|output| output.code == 0);
    assert!(has || std::env::var("CI").as_deref() != Ok("true"), "CI needs python3-pytest");
    has
}

fn header<'a>(ended: &'a Ended, label: &str) -> Vec<&'a str> {
    ended.stderr.lines().filter_map(|line| line.strip_prefix(label)).map(str::trim_start).collect()
}

/// git's own hash of a file.
fn blob(file: &Path) -> String {
    let run = Run::new("git", ["hash-object", "--no-filters", file.to_str().unwrap()]);
    finish(&run).stdout.trim().to_owned()
}

fn brought(name: &str) -> PathBuf {
    checkout().join("tests/data/recipes/brings-tests/head/tests").join(name)
}

#[test]
fn what_is_not_approved_is_named_and_not_run() {
    let world = World::of_test_data();
    let ended = run_approved(&world, "brings-tests", "# brings-tests\nanother\n", &[]);
    assert_eq!(ended.code, 0, "{ended}");
    assert!(!ended.stdout.contains("repo_local::"), "{ended}");
    let lines = header(&ended, "ignored");
    let expected = |name: &str| {
        let list = world.dir.path().join("approved.txt");
        format!(
            "`tests/{name}`, which the recipe brings along: it is not approved; `brings-tests tests/{name} {}` in `{}` \
             would let it run",
            blob(&brought(name)),
            list.display()
        )
    };
    let names =
        ["before_upgrade.sh", "install_steps.sh", "test_install_page.sh", "test_upgrade.py", "test_upgrade_mail.sh"];
    assert_eq!(lines, names.map(expected));
    assert_eq!(header(&ended, "approved"), Vec::<&str>::new());
}

#[test]
fn what_is_approved_becomes_trials_beside_all_others() {
    let world = World::of_test_data();
    let ended = run_approved(&world, "brings-tests", "brings-tests\n", &[]);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.outcome("repo_local::install::test_install_page"), Some("ok"), "{ended}");
    let skipped = Some("ignored (there is no mail server in this test)");
    assert_eq!(ended.outcome("repo_local::upgrade::test_upgrade_mail"), skipped, "{ended}");
    let (passed, no_mail) = match has_pytest() {
        true => ("ok", "ignored (no mail server)"),
        false => {
            let why = "ignored (because there is no pytest for the machine's own Python: on Debian, apt-get install \
                       python3-pytest)";
            (why, why)
        }
    };
    assert_eq!(ended.outcome("repo_local::upgrade::test_data"), Some(passed), "{ended}");
    assert_eq!(ended.outcome("repo_local::upgrade::test_seeded"), Some(passed), "{ended}");
    assert_eq!(ended.outcome("repo_local::upgrade::test_mail"), Some(no_mail), "{ended}");
    // They are added to the generic ones.
    assert_eq!(ended.outcome("generic::upgrade::deployed_head"), Some("ok"), "{ended}");
    assert_eq!(header(&ended, "ignored"), Vec::<&str>::new());
    assert_eq!(header(&ended, "approved").len(), 5, "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn an_approval_of_one_content_ends_with_its_first_changed_byte() {
    let world = World::of_test_data();
    let hash = blob(&brought("test_install_page.sh"));
    let entry = format!("brings-tests tests/test_install_page.sh {hash}\n");
    let ended = run_approved(&world, "brings-tests", &entry, &["--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.outcome("repo_local::install::test_install_page"), Some("ok"), "{ended}");
    assert_eq!((header(&ended, "approved").len(), header(&ended, "ignored").len()), (1, 4), "{ended}");
    let first = if hash.starts_with('0') { '1' } else { '0' };
    let entry = entry.replace(&hash, &format!("{first}{}", &hash[1..]));
    let ended = run_approved(&world, "brings-tests", &entry, &["--tiers", "install"]);
    assert_eq!(ended.outcome("repo_local::install::test_install_page"), None, "{ended}");
    assert!(ended.stderr.contains("it has changed since it was approved; `brings-tests tests/test_install_page.sh"));
}

#[test]
fn a_malformed_list_is_one_line_before_anything_is_created() {
    let world = World::of_test_data();
    let ended = run_approved(&world, "brings-tests", "brings-tests yes\n", &[]);
    assert_eq!(ended.code, 101, "{ended}");
    let list = world.dir.path().join("approved.txt");
    let line = "line 1: expected `<recipe>` or `<recipe> tests/<file> <blob hash>`";
    assert_eq!(ended.refusal(), format!("error: failed to read `{}`: {line}", list.display()));
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

/// Where the hostile recipe's marker may be found on this machine: nowhere.
pub fn markers(world: &World) -> Vec<String> {
    let mut found = Vec::new();
    for place in ["/", "/tmp", "/var/tmp", "/dev/shm", "/root", "/home", "/usr", "/usr/local/bin", "/etc", "/run"] {
        let marker = Path::new(place).join("harness-hostile-marker");
        found.extend(marker.exists().then(|| marker.display().to_string()));
    }
    let listed = Run::new("find", [world.dir.path().as_os_str(), "-name".as_ref(), "harness-hostile-marker".as_ref()]);
    found.extend(finish(&listed).stdout.lines().map(str::to_owned));
    let processes = Run::new("sh", ["-c", "grep -lz 8642097531 /proc/[0-9]*/cmdline 2>/dev/null || true"]);
    let own = std::process::id().to_string();
    found.extend(finish(&processes).stdout.lines().filter(|line| !line.contains(&own)).filter_map(|line| {
        let command = std::fs::read(line).ok()?;
        command.starts_with(b"sleep").then(|| format!("process {line}"))
    }));
    found
}

pub fn hostile(world: &World) {
    let ended = run_approved(world, "hostile-code", "", &[]);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(header(&ended, "ignored").len(), 6, "{ended}");
    assert_eq!(markers(world), Vec::<String>::new(), "{ended}");
    let ended = run_approved(world, "hostile-code", "hostile-code\n", &[]);
    assert_eq!(ended.code, 101, "{ended}");
    let environment = "environment: APP_CALLS APP_DOMAIN APP_JSON APP_TLS_VERIFY APP_URL BASE_VERSION HEAD_COMMIT HOME HOSTNAME LANG \
                       PATH PWD PYTHONDONTWRITEBYTECODE PYTHONPATH RECIPE RECIPE_DIR RUN_ID STACK_NAME TIER TMPDIR";
    for tier in ["install", "upgrade", "custom"] {
        let message = ended.message(&format!("repo_local::{tier}::test_{tier}"));
        let lines: Vec<&str> = message.lines().map(str::trim).collect();
        let start = format!("`tests/test_{tier}.sh`: it exited with code 1; its last lines:");
        assert_eq!(lines[0], start, "{ended}");
        // In memory of the cage alone, and gone with it.
        let places: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("marker in ")).collect();
        assert!(places.iter().all(|place| ["/tmp", "/var/tmp", "/dev/shm"].contains(place)), "{places:?}");
        assert!(places.contains(&"/tmp"), "{ended}");
        assert!(lines.contains(&environment), "{ended}");
        let there: Vec<&&str> = lines.iter().filter(|line| line.starts_with("there is ")).collect();
        let harmless = ["there is /etc/hostname", "there is /proc/1/environ"];
        assert!(there.iter().all(|line| harmless.contains(line)), "{there:?}");
        assert!(!message.contains("reached "), "{ended}");
        assert!(lines.contains(&"canary: 0"), "{ended}");
    }
    if has_pytest() {
        let message = ended.message("repo_local::custom::test_probe");
        assert!(message.contains("canary: 0") && message.contains("marker in /tmp"), "{ended}");
        assert!(!message.contains("reached ") && !message.contains("marker in /recipe"), "{ended}");
    }
    assert!(!format!("{ended}").contains("canary-of-the-host"), "{ended}");
    assert_eq!(markers(world), Vec::<String>::new(), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
}

#[test]
fn hostile_code_runs_nowhere_or_in_its_cage() {
    hostile(&World::new(checkout().join("tests/data/hostile")));
}

/// A world with the recipes of the test data, and one overlay of its own, of `no-backup`.
fn with_overlay(files: &[(&str, &str)]) -> (tempfile::TempDir, World) {
    with_overlay_of("no-backup", files)
}

/// The same for any recipe.
pub fn with_overlay_of(recipe: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, World) {
    let root = tempfile::tempdir().unwrap();
    let data = checkout().join("tests/data");
    std::os::unix::fs::symlink(data.join("recipes"), root.path().join("recipes")).unwrap();
    std::fs::copy(data.join("harness.toml"), root.path().join("harness.toml")).unwrap();
    let overlay = root.path().join("overlays").join(recipe);
    std::fs::create_dir_all(&overlay).unwrap();
    for (name, text) in files {
        std::fs::write(overlay.join(name), text).unwrap();
    }
    let world = World::new(root.path().to_owned());
    (root, world)
}

#[test]
fn overlays_may_be_programs_and_pytest_files() {
    let (_root, world) = with_overlay(&[
        (
            "test_upgrade_page.py",
            "import os, urllib.request\n\ndef test_answers():\n    assert urllib.request.urlopen(os.environ['APP_URL'], timeout=20).status == 200\n\ndef test_fails():\n    assert 1 == 2\n\nif os.name == 'posix':\n    def test_hidden():\n        pass\n",
        ),
        ("test_custom_shell.sh", "test -f /overlay/helper.txt\ntest -f \"$RECIPE_DIR/compose.yml\"\n"),
        ("before_upgrade.sh", "curl -fsS -m 20 -o /dev/null \"$APP_URL/\"\n"),
        ("install_steps.sh", "echo ADDED=x >> \"$APP_ENV\"\n"),
        ("helper.txt", ""),
    ]);
    let ended = world.run(&["--recipe", "no-backup"]);
    assert_eq!(ended.outcome("overlays::no_backup::custom::test_custom_shell"), Some("ok"), "{ended}");
    assert_eq!(ended.outcome("tier::upgrade"), Some("ok"), "{ended}");
    let hidden = ended.outcome("overlays::no_backup::upgrade::test_hidden").unwrap_or_default();
    assert!(
        hidden.starts_with("ignored (because it stands in a block (`if`) in line 10, and tests are read"),
        "{ended}"
    );
    if has_pytest() {
        assert_eq!(ended.outcome("overlays::no_backup::upgrade::test_answers"), Some("ok"), "{ended}");
        let message = ended.message("overlays::no_backup::upgrade::test_fails");
        let start = "`overlays/no-backup/test_upgrade_page.py`: it exited with code 1; its last lines:";
        assert!(message.starts_with(start) && message.contains("assert 1 == 2"), "{ended}");
        assert!(message.ends_with("--exact overlays::no_backup::upgrade::test_fails"), "{ended}");
        assert_eq!(ended.with_outcome("FAILED"), ["overlays::no_backup::upgrade::test_fails"], "{ended}");
    }
    assert_eq!(world.leftovers(), Vec::<String>::new());
    let listed = world.run(&["--recipe", "no-backup", "--list"]);
    assert!(listed.stdout.contains("overlays::no_backup::upgrade::test_answers: test"), "{listed}");
}

/// The recipe has not even been asked; what fails has been, and blames it.
#[test]
fn a_test_that_cannot_be_collected_is_its_authors_fault() {
    let (_root, world) = with_overlay(&[
        ("test_install_import.py", "import no_such_module\n\ndef test_import():\n    pass\n"),
        ("test_install_syntax.py", "def test_syntax():\n    assert (1 ==\n"),
        (
            "test_install_fine.py",
            "import pytest\n\ndef test_fails():\n    assert 1 == 2\n\n@pytest.mark.xfail(reason='not yet')\n\
             def test_expected():\n    assert 1 == 2\n",
        ),
    ]);
    let ended = world.run(&["--recipe", "no-backup", "--tiers", "install"]);
    if !has_pytest() {
        return;
    }
    assert_eq!(ended.code, 101, "{ended}");
    let results: harness::report::results::Results = serde_json::from_str(&world.file_of_run("results.json")).unwrap();
    let fault = |test: &str| results.trials().find(|(_, trial)| trial.name == test).unwrap().1.fault;
    let name = |test: &str| format!("overlays::no_backup::install::{test}");
    for (test, file, error) in [
        ("test_import", "test_install_import.py", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("test_syntax", "test_install_syntax.py", "SyntaxError: "),
    ] {
        let start = format!("`overlays/no-backup/{file}`: pytest cannot collect it: {error}");
        assert!(ended.message(&name(test)).lines().next().unwrap().starts_with(&start), "{ended}");
        assert_eq!(fault(&name(test)), Some(harness::fault::Fault::Assertion), "{ended}");
    }
    assert_eq!(fault(&name("test_fails")), Some(harness::fault::Fault::Recipe), "{ended}");
    let expected = "ignored (it is expected to fail, and does: not yet)";
    assert_eq!(ended.outcome(&name("test_expected")), Some(expected), "{ended}");
}

/// No process of it is larger than a process may be.
#[test]
fn a_test_that_takes_too_much_is_killed_and_told_so() {
    let line =
        "for i in 1 2 3; do head -c 1200000000 /dev/zero | tail -c 1100000000 | sleep 50 & done; echo begun; wait\n";
    let (_root, world) = with_overlay(&[("test_custom_greedy.sh", line)]);
    let ended = world.run(&["--recipe", "no-backup", "--tiers", "install,custom"]);
    assert_eq!(ended.with_outcome("FAILED"), ["overlays::no_backup::custom::test_custom_greedy"], "{ended}");
    let message = ended.message("overlays::no_backup::custom::test_custom_greedy");
    let start = "`overlays/no-backup/test_custom_greedy.sh`: it used more than 2048 MiB of memory in all, and was killed; its \
                 last lines:\n  begun\n";
    assert!(message.starts_with(start), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn a_hook_that_fails_is_a_failed_operation() {
    let (_root, world) = with_overlay(&[("before_upgrade.sh", "echo the seed is missing\nexit 4\n")]);
    let ended = world.run(&["--recipe", "no-backup"]);
    assert_eq!(ended.with_outcome("FAILED"), ["tier::upgrade"], "{ended}");
    let message = ended.message("tier::upgrade");
    let start = "the hook `overlays/no-backup/before_upgrade.sh` failed: it exited with code 4; its last lines:\n  the seed \
                 is missing";
    assert!(message.starts_with(start), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn install_steps_fail_with_their_last_words_and_lead_nowhere() {
    let check = |script: &str, expected: &str| {
        let (root, world) = with_overlay(&[("install_steps.sh", script)]);
        let ended = world.run(&["--recipe", "no-backup"]);
        assert_eq!(ended.with_outcome("FAILED"), ["tier::install"], "{ended}");
        let place = root.path().join("overlays/no-backup/install_steps.sh").display().to_string();
        let message = ended.message("tier::install").replace(&place, "SCRIPT");
        assert!(message.starts_with(expected), "{message}");
        assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
    };
    check("echo one\necho two >&2\nexit 9\n", "`SCRIPT` exited with code 9: one | two\n");
    check(
        "rm \"$APP_ENV\"\nln -s /etc/passwd \"$APP_ENV\"\n",
        "failed to use what `SCRIPT` left: `app.env` is a symbolic link, or lies behind one: links are not followed\n",
    );
    let words = "head: error writing 'standard output': No space left on device";
    check(
        "head -c 99000000 /dev/zero > \"$APP_SECRETS_DIR/large\"\n",
        &format!("`SCRIPT` exited with code 1, and had filled the 64 MiB that it may write: {words}\n"),
    );
    check("rm \"$APP_ENV\"\n", "failed to use what `SCRIPT` left: it removed the app's `.env`\n");
    check("printf '\\033[2Jhidden\\n'; exit 1\n", "`SCRIPT` exited with code 1: \\u{1b}[2Jhidden\n");
}
