//! What programs and pytest may ask of the app through `$APP_CALLS`.

use crate::repo_local::{has_pytest, with_overlay_of};
use crate::runner::{Ended, World};

const SEED: &str = r#"curl -fsS "$APP_CALLS/write" -d '{"service": "app", "path": "/usr/share/nginx/html/seed.html", "text": "hello\n"}'
curl -fsS "$APP_CALLS/remember" -d '{"key": "seed", "value": "hello"}'
"#;

const SHELL: &str = r#"ask() { curl -fsS "$APP_CALLS/$1" -d "$2"; }
page=/usr/share/nginx/html/seed.html
test "$(ask 'recall?raw' '{"key": "seed"}')" = hello
test "$(ask 'read?raw' '{"service": "app", "path": "'$page'"}')" = hello
test "$(ask 'exec?raw' '{"service": "app", "argv": ["cat", "'$page'"]}')" = hello
test "$(ask 'exec?raw' '{"service": "app", "argv": ["cat"], "stdin": "in"}')" = in
ask services '{}' | grep -q '"name":"app"'
ask logs '{"service": "app", "tail": 1}' | grep -q '"lines":'
head -c 20000000 /dev/zero >/tmp/large
said=$(curl -sS -T /tmp/large -X POST "$APP_CALLS/write")
test "$said" = '{"error":"failed to understand the question to `write`, for example {\"service\": \"app\", \"path\": \"/data/page\", \"text\": \"hello\"}: expected value at line 1 column 1"}'
"#;

const PYTEST: &str = r#"
import harness, pytest

PAGE = "/usr/share/nginx/html/seed.html"


def test_seed_survives():
    assert harness.read("app", PAGE) == harness.recall("seed") + "\n"


def test_commands():
    it = harness.sh("app", "echo out; echo err >&2; exit 3")
    assert (it.code, it.stdout, it.stderr) == (3, "out\n", "err\n")
    assert harness.exec("app", "cat", stdin="in").stdout == "in"


def test_bytes():
    harness.write("app", "/tmp/bytes", bytes(range(256)))
    assert harness.read("app", "/tmp/bytes") == bytes(range(256))


def test_the_app():
    assert harness.services()["app"]["running"] == 1
    assert isinstance(harness.logs("app", 5), list)


def test_refusals():
    with pytest.raises(harness.Failed, match="[Nn]o such file"):
        harness.read("app", "/nowhere")
    with pytest.raises(harness.Failed, match="`db`"):
        harness.exec("db", "true")
    with pytest.raises(harness.Failed, match="unknown field `file`"):
        harness.call("read", service="app", file="/x")
    with pytest.raises(harness.Failed, match="there is no call `reed`: there are `exec`, `read`"):
        harness.call("reed")
    with pytest.raises(harness.Failed, match="nothing was remembered as `sed`"):
        harness.recall("sed")
    harness.sh("app", "head -c 17000000 /dev/zero > /tmp/large")
    with pytest.raises(harness.Failed, match="17000000 bytes are more than the 16 MiB of one answer"):
        harness.read("app", "/tmp/large")


def test_a_lost_seed():
    assert harness.read("app", PAGE) == "somebody else's\n"
"#;

/// What is asked is answered, and what cannot be is told.
pub fn check(world: &World) -> Ended {
    let ended = world.run(&["--recipe", "no-backup"]);
    let trial = |name: &str| format!("overlays::no_backup::upgrade::{name}");
    assert_eq!(ended.outcome("tier::upgrade"), Some("ok"), "{ended}");
    assert_eq!(ended.outcome(&trial("test_upgrade_shell")), Some("ok"), "{ended}");
    let mut red = vec![trial("test_upgrade_red")];
    if has_pytest() {
        for name in ["test_seed_survives", "test_commands", "test_bytes", "test_the_app", "test_refusals"] {
            assert_eq!(ended.outcome(&trial(name)), Some("ok"), "{ended}");
        }
        assert!(
            ended.message(&trial("test_a_lost_seed")).contains("assert 'hello\\n' == \"somebody else's\\n\""),
            "{ended}"
        );
        red.insert(0, trial("test_a_lost_seed"));
    }
    assert_eq!(ended.with_outcome("FAILED"), red, "{ended}");
    let message = ended.message(&trial("test_upgrade_red"));
    let start = "`overlays/no-backup/test_upgrade_red.sh`: it exited with code 22; its last lines:\n";
    assert!(message.starts_with(start), "{message}");
    assert!(message.contains("{\"error\":\"") && message.to_lowercase().contains("no such file"), "{message}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
    ended
}

/// With a program and a Python file that ask everything, and some of each that must be red.
pub fn world() -> (tempfile::TempDir, World) {
    with_overlay_of(
        "no-backup",
        &[
            ("before_upgrade.sh", SEED),
            ("test_upgrade_shell.sh", SHELL),
            ("test_upgrade_page.py", PYTEST),
            (
                "test_upgrade_red.sh",
                "curl -sS --fail-with-body \"$APP_CALLS/read\" -d '{\"service\": \"app\", \"path\": \"/nowhere\"}'\n",
            ),
        ],
    )
}

#[test]
fn programs_and_pytest_have_what_an_assertion_has() {
    let (_root, world) = world();
    check(&world);
}

#[test]
fn programs_of_an_ordinary_user_have_it_too() {
    let (_root, world) = world();
    let Some(world) = world.for_ordinary_user() else { return };
    check(&world);
}

/// A program may look at a secret, as an assertion may; nobody who reads what it says sees it.
#[test]
fn a_secret_that_a_program_asks_for_is_masked_in_its_failure() {
    const SECRET: &str = "canary-secret-that-must-turn-up-nowhere0";
    let steps = format!("printf '%s' {SECRET} > \"$APP_SECRETS_DIR/token\"\n");
    let ask = "echo \"token: $(curl -sS \"$APP_CALLS/exec?raw\" -d '{\"service\": \"app\", \"argv\": [\"cat\", \
               \"/run/secrets/token\"]}')\"\nexit 1\n";
    let (_root, world) = with_overlay_of("whole", &[("install_steps.sh", &steps), ("test_install_token.sh", ask)]);
    let ended = world.run(&["--recipe", "whole", "--tiers", "install"]);
    let message = ended.message("overlays::whole::install::test_install_token");
    assert!(message.contains("its last lines:\n  token: ***\n"), "{message}");
    assert!(!format!("{ended}").contains(SECRET), "{ended}");
    assert_eq!(world.files_with(SECRET), Vec::<String>::new());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}
