//! The `harness` command as somebody uses it who has no Rust: one program, a folder of one's own with `harness.toml` and
//! overlays, and a working copy of a recipe.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::process::Run;

use crate::runner::{Ended, World, finish, working_copy};

/// Somebody's machine: a home with nothing in it but what a test puts there.
pub struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    pub fn new() -> Self {
        Desk { dir: tempfile::tempdir().unwrap() }
    }

    /// A place below the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A folder that is a root, with a stand-in for the image that no machine without a registry has.
    pub fn root(&self, name: &str) -> PathBuf {
        self.write(
            &format!("{name}/harness.toml"),
            "engine = \"embedded\"\n[embedded.images]\nnginx = \"builtin:static-web\"\n",
        );
        self.path(name)
    }

    /// A working copy of a recipe with one published version and a change on top of it.
    pub fn recipe(&self, name: &str) -> PathBuf {
        let dir = self.path(name);
        working_copy(&dir, "git tag -a -m 'First release'");
        dir
    }

    /// The command, called in a folder.
    pub fn command(&self, cwd: &Path, arguments: &[&str]) -> Run {
        let run = Run::new(env!("CARGO_BIN_EXE_harness-command"), arguments);
        let run = run.env("HOME", self.dir.path()).env("HARNESS_STATE", self.path("state"));
        run.env("HARNESS_SCREENSHOTS", "0").cwd(cwd).deadline(Duration::from_secs(120))
    }

    pub fn run(&self, cwd: &Path, arguments: &[&str]) -> Ended {
        finish(&self.command(cwd, arguments))
    }
}

#[test]
fn it_tests_a_recipe_with_overlays_that_are_programs() {
    let desk = Desk::new();
    let (root, recipe) = (desk.root("mine"), desk.recipe("recipes/notes"));
    desk.write("mine/overlays/notes/recipe.toml", "[http]\nstatus = [200]\n");
    desk.write("mine/overlays/notes/test_upgrade_page.sh", "curl -sf \"$APP_URL/\" >/dev/null\n");
    desk.write("mine/overlays/notes/install.rs", "this is not even Rust");
    // From a folder below the root, as git does it.
    let below = root.join("overlays");
    let ended = desk.run(&below, &["test", "notes", "--recipe-dir", recipe.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{ended}");
    let line = format!("root     `{}`, the nearest folder with a `harness.toml`", root.display());
    assert!(ended.stderr.lines().any(|it| it == line), "no line `{line}` in\n{ended}");
    for trial in [
        "tier::install",
        "tier::upgrade",
        "generic::upgrade::deployed_head",
        "overlays::notes::upgrade::test_upgrade_page",
    ] {
        assert_eq!(ended.outcome(trial), Some("ok"), "{trial}\n{ended}");
    }
    // What cannot be run here is no pass.
    let outcome = ended.outcome("overlays::notes::install").unwrap_or_default();
    assert!(outcome.starts_with("ignored"), "{ended}");
    assert!(outcome.contains("`overlays/notes/install.rs` is Rust"), "{ended}");
}

#[test]
fn a_failing_overlay_fails_it_and_is_repeated_by_its_own_name() {
    let desk = Desk::new();
    let (root, recipe) = (desk.root("mine"), desk.recipe("notes"));
    desk.write("mine/overlays/notes/test_install_page.sh", "echo 'there is no page'; exit 1\n");
    let ended = desk.run(&root, &["test", recipe.to_str().unwrap(), "--tiers", "install"]);
    assert_eq!(ended.code, 101, "{ended}");
    let message = ended.message("overlays::notes::install::test_install_page");
    assert!(message.contains("there is no page"), "{message}");
    let again = message.lines().find_map(|line| line.strip_prefix("run only this again: ")).unwrap_or_default();
    assert!(again.starts_with("harness test --recipe notes --recipe-dir "), "{message}");
    // The command that is shown does what it says.
    let words: Vec<&str> = again.split(' ').skip(1).collect();
    let ended = desk.run(&root, &words);
    assert_eq!(ended.with_outcome("FAILED"), ["overlays::notes::install::test_install_page"], "{ended}");
}

#[test]
fn the_generic_assertions_are_those_of_a_checkout() {
    let names = |ended: Ended| -> BTreeSet<String> {
        assert_eq!(ended.code, 0, "{ended}");
        let names = ended.stdout.lines().filter_map(|line| line.strip_suffix(": test"));
        names.filter(|name| !name.starts_with("overlays::")).map(str::to_owned).collect()
    };
    let desk = Desk::new();
    let here = names(desk.run(desk.dir.path(), &["test", "no-backup", "--list"]));
    let there = names(World::of_test_data().run(&["--recipe", "no-backup", "--list"]));
    assert!(here.len() > 20, "{here:?}");
    assert_eq!(here, there, "src/main/generic.rs lists the files of generic/");
}

#[test]
fn without_settings_the_defaults_hold_and_the_folder_of_the_build_is_no_place_to_look() {
    let desk = Desk::new();
    let recipe = desk.recipe("notes");
    let nowhere = desk.path("nowhere");
    std::fs::create_dir(&nowhere).unwrap();
    let directory = recipe.to_str().unwrap();
    let ended = desk.run(&nowhere, &["test", "notes", "--recipe-dir", directory, "--plan", "--engine", "embedded"]);
    let (line, overlays) =
        (format!("no `harness.toml` in `{}` or above it", nowhere.display()), nowhere.join("overlays"));
    assert!(ended.stderr.contains(&line), "{ended}");
    assert!(ended.stderr.contains(&format!("overlays are looked for in `{}`", overlays.display())), "{ended}");
    // The checkout that this program was built in has a recipe of that name.
    desk.write("mine/harness.toml", "[recipes]\nsources = [\"recipes\"]\n");
    let ended = desk.run(&desk.path("mine"), &["test", "custom-html"]);
    assert_eq!(ended.code, 2, "{ended}");
    let looked = format!("no recipe `custom-html`: looked in `{}`", desk.path("mine/recipes").display());
    assert!(ended.stderr.contains(&looked), "{ended}");
}

#[test]
fn a_root_is_named_by_the_environment_from_anywhere() {
    let desk = Desk::new();
    let (root, recipe) = (desk.root("mine"), desk.recipe("notes"));
    desk.write("mine/overlays/notes/test_install_page.sh", "curl -sf \"$APP_URL/\" >/dev/null\n");
    let arguments = ["test", recipe.to_str().unwrap(), "--tiers", "install"];
    let ended = finish(&desk.command(desk.dir.path(), &arguments).env("HARNESS_ROOT", &root));
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.outcome("overlays::notes::install::test_install_page"), Some("ok"), "{ended}");
    let line = format!("root     `{}` (HARNESS_ROOT)", root.display());
    assert!(ended.stderr.lines().any(|it| it == line), "{ended}");
    let ended = finish(&desk.command(desk.dir.path(), &arguments).env("HARNESS_ROOT", desk.path("gone")));
    assert_eq!(ended.code, 2, "{ended}");
    assert!(ended.stderr.contains("which HARNESS_ROOT names"), "{ended}");
}

#[test]
fn nothing_is_tested_where_nothing_is_named() {
    let desk = Desk::new();
    let ended = desk.run(desk.dir.path(), &["test"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
    assert!(ended.stderr.starts_with("error: no recipe is named: `harness test NAME`"), "{ended}");
}

#[test]
fn it_says_its_version_and_describes_itself_to_shells_and_man() {
    let desk = Desk::new();
    let said = |arguments: &[&str]| {
        let ended = desk.run(desk.dir.path(), arguments);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended}");
        ended.stdout
    };
    assert_eq!(said(&["--version"]), format!("harness {}\n", env!("CARGO_PKG_VERSION")));
    let bash = desk.write("completions", &said(&["completions", "bash"]));
    // bash itself says what would be offered.
    let ask =
        "source \"$1\"; COMP_WORDS=(harness te) COMP_CWORD=1; _harness harness te harness; echo \"${COMPREPLY[*]}\"";
    let offered = finish(&Run::new("bash", ["-c", ask, "bash", bash.to_str().unwrap()]));
    assert_eq!((offered.code, offered.stdout.as_str()), (0, "test\n"), "{offered}");
    for shell in ["zsh", "fish"] {
        assert!(said(&["completions", shell]).contains("recipe-dir"), "{shell}");
    }
    let manual = said(&["man"]);
    for text in [".TH harness 1", ".TH harness-test 1", "\\-\\-recipe\\-dir"] {
        assert!(manual.contains(text), "no `{text}` in\n{manual}");
    }
    let ended = desk.run(desk.dir.path(), &["completions", "cmd"]);
    assert_eq!(ended.code, 2, "{ended}");
    assert!(ended.stderr.contains("invalid value 'cmd'"), "{ended}");
}

#[test]
fn it_says_how_much_lies_there_and_removes_what_nobody_needs() {
    let desk = Desk::new();
    let (root, recipe) = (desk.root("mine"), desk.recipe("notes"));
    let ended = desk.run(&root, &["test", recipe.to_str().unwrap(), "--tiers", "install", "--keep"]);
    assert_eq!(ended.code, 0, "{ended}");
    let id = ended.stderr.lines().find_map(|line| line.strip_prefix("remove   harness down ")).unwrap().to_owned();
    let held = desk.run(&root, &["du"]);
    assert!(held.stdout.starts_with("runs  ") && held.stdout.contains("\nmirrors  "), "{held}");
    // The app is up: what it may need stays, whatever is asked for.
    let pruned = desk.run(&root, &["prune", "--older-than", "0s"]);
    assert!(pruned.stdout.contains(&format!("kept  runs/{id}: it is up")), "{pruned}");
    assert!(pruned.stdout.contains("kept  mirrors/notes/"), "{pruned}");
    assert!(pruned.stdout.ends_with("freed 0 B\n"), "{pruned}");
    let down = desk.run(&root, &["down", &id]);
    assert_eq!(down.code, 0, "{down}");
    let pruned = desk.run(&root, &["prune", "--older-than", "0s"]);
    assert!(pruned.stdout.contains(&format!("removed  runs/{id}  ")), "{pruned}");
    assert!(!desk.path("state/mirrors/notes").exists(), "{pruned}");
    // A run makes again what it needs.
    let ended = desk.run(&root, &["test", recipe.to_str().unwrap(), "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    let refused = desk.run(&root, &["prune", "--older-than", "soon"]);
    assert_eq!(refused.code, 2, "{refused}");
    assert!(refused.stderr.contains("invalid value 'soon' for '--older-than"), "{refused}");
}

/// Ten minutes of somebody without Rust, as a script.
#[test]
fn the_walk_of_ten_minutes_leads_to_a_report() {
    let desk = Desk::new();
    let (bin, place) = (desk.path("bin"), desk.path("walk"));
    std::fs::create_dir(&bin).unwrap();
    std::fs::create_dir(&place).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_harness-command"), bin.join("harness")).unwrap();
    let run = desk.command(&place, &[]);
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    // What is opened is printed; the browser is one that any machine has.
    let run = run.env("PATH", path).env("BROWSER", "/bin/true");
    let ended =
        finish(&Run { program: crate::runner::checkout().join("scripts/walk").into(), args: Vec::new(), ..run });
    assert_eq!(ended.code, 0, "{ended}");
    let report = ended.stdout.lines().last().and_then(|line| line.strip_prefix("file://")).unwrap_or_default();
    let page = std::fs::read_to_string(report).unwrap_or_else(|error| panic!("`{report}`: {error}\n{ended}"));
    assert!(page.contains("overlays::notes::restore::data_page"), "{ended}");
}
