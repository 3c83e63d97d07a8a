//! What is written and would not run: each is told with the right name, and is a failure for whoever is strict.

use std::path::Path;

use crate::hung::with_overlay;
use crate::runner::{Ended, World, checkout, copy, finish, working_copy};

#[path = "../unregistered.rs"]
mod unregistered;

#[test]
fn a_test_of_rusts_own_is_found_by_name() {
    let own = "use harness::prelude::*;\n#[harness::test]\nasync fn runs(app: &App) -> Result { Ok(()) }\n";
    assert_eq!(unregistered::functions(own), Vec::<String>::new());
    let habit =
        format!("{own}#[test]\nfn never() {{ panic!() }}\nmod inner {{ #[tokio::test] async fn neither() {{}} }}\n");
    assert_eq!(unregistered::functions(&habit), ["never", "neither"]);
    assert_eq!(unregistered::functions(&format!("use harness::test;\n{habit}")), Vec::<String>::new());
    assert_eq!(unregistered::functions("fn {"), Vec::<String>::new(), "the compiler says what is wrong with it");
    for top in ["generic", "overlays/custom-html", "overlays/guestbook"] {
        for entry in std::fs::read_dir(checkout().join(top)).unwrap().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            assert_eq!(unregistered::functions(&text), Vec::<String>::new(), "{}", entry.path().display());
        }
    }
}

const TYPO: &str = "overlays::no_backup::upgrade::before_upgade.py";
const SAID: &str = "`overlays/no-backup/before_upgade.py`: `upgade` is no tier: did you mean `before_upgrade.py`?";

/// The recipe has no backup, which has to be declared: otherwise that would be too little already.
const DECLARED: (&str, &str) =
    ("recipe.toml", "[skip]\nbackup = \"it holds no data\"\nrestore = \"it holds no data\"\n");

#[test]
fn a_misspelt_hook_is_an_ignored_trial_and_too_little_where_it_has_to_be_strict() {
    let (world, _root) = with_overlay("no-backup", &[DECLARED, ("before_upgade.py", "print('hello')\n")]);
    let ended = world.run(&["--recipe", "no-backup"]);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.outcome(TYPO), Some(format!("ignored ({SAID})").as_str()), "{ended}");
    let strict = world.run(&["--recipe", "no-backup", "--strict"]);
    assert_eq!(strict.code, 4, "{strict}");
    let expected = format!("   TOO LITTLE PROVEN, level 3 of 5: `{TYPO}` has no effect: {SAID}\n");
    assert!(strict.stderr.contains(&expected), "{strict}");
    // Spelt right, the same run is green.
    let (world, _root) = with_overlay("no-backup", &[DECLARED, ("before_upgrade.sh", "exit 0\n")]);
    assert_eq!(world.run(&["--recipe", "no-backup", "--strict"]).code, 0);
}

#[test]
fn a_folder_of_no_recipe_is_told_to_the_recipe_it_was_meant_for() {
    let (world, root) = with_overlay("no-backup", &[]);
    let overlays = root.path().join("overlays");
    std::fs::rename(overlays.join("no-backup"), overlays.join("no_backup")).unwrap();
    let ended = world.run(&["--recipe", "no-backup", "--tiers", "install,custom"]);
    let said = "ignored (`overlays/no-backup/folder`: `overlays/no_backup` belongs to no recipe: did you mean \
                `overlays/no-backup`?)";
    assert_eq!(ended.outcome("overlays::no_backup::custom::folder"), Some(said), "{ended}");
}

#[test]
fn an_unverified_tier_is_too_little_in_ci_unless_somebody_says_no_aloud() {
    let world = World::of_test_data();
    let run = |arguments: &[&str]| {
        finish(&world.command(&[&["--recipe", "no-backup"], arguments].concat()).env("CI", "true"))
    };
    let strict = run(&[]);
    assert_eq!(strict.code, 4, "{strict}");
    let reason = "`backup` and `restore` are not proven: the head has no `backupbot.backup` label in any service's \
                  `deploy.labels`\n";
    assert!(strict.stderr.contains(&format!("   TOO LITTLE PROVEN, level 2 of 5: {reason}")), "{strict}");
    let lax = run(&["--strict=false"]);
    assert_eq!(lax.code, 0, "{lax}");
    assert!(lax.stderr.contains("WARNING  strict is off although CI=true: "), "{lax}");
    let filtered = run(&["--exact", "generic::install::answers_over_http"]);
    assert_eq!(filtered.code, 0, "what nobody has asked for is not missing: {filtered}");
}

#[test]
fn a_level_that_is_not_reached_is_too_little() {
    let world = World::of_test_data();
    let run = |level: &str| world.run(&["--recipe", "no-backup", "--min-level", level]);
    assert_eq!(run("2").code, 0);
    let ended = run("3");
    assert_eq!(ended.code, 4, "{ended}");
    assert!(ended.stderr.contains(": `--min-level 3` asks for more than level 2: level 3, backs up"), "{ended}");
    assert_eq!(run("6").code, 2);
}

/// What most CI servers clone.
#[test]
fn a_clone_without_tags_says_that_the_upgrade_is_not_tested() {
    let world = World::of_test_data();
    let whole = world.dir.path().join("whole");
    working_copy(&whole, "git tag -a -m x");
    let commit = "git config user.name m; git config user.email m@example.org; git commit -qam next";
    assert_eq!(finish(&harness::process::Run::new("sh", ["-ec", commit]).cwd(&whole)).code, 0);
    let clone = |name: &str, options: &str| {
        let to = world.dir.path().join(name);
        let line = format!("git clone -q {options} 'file://{}' '{}'", whole.display(), to.display());
        assert_eq!(finish(&harness::process::Run::new("sh", ["-ec", &line])).code, 0);
        to
    };
    let plan = |copy: &Path| {
        let ended = world.run(&["--recipe", "mine", "--recipe-dir", copy.to_str().unwrap(), "--plan"]);
        assert_eq!(ended.code, 0, "{ended}");
        ended.stdout.lines().find(|line| line.starts_with("upgrade ")).unwrap().to_owned()
    };
    assert!(plan(&clone("full", "")).starts_with("upgrade  redeploy the head "));
    let expected = "upgrade  NOT TESTED, unverified: this clone has no tags; `git fetch --unshallow --tags` (in CI: full \
                    depth, with tags)";
    assert_eq!(plan(&clone("shallow", "--depth 1 --no-tags")), expected);
    let no_tags = plan(&clone("no-tags", "--no-tags"));
    assert!(
        no_tags.contains(": this clone has no tags; if versions are published, `git fetch --tags` (in CI: "),
        "{no_tags}"
    );
    // One that is shallow and has the tag, but not what lies between.
    let shallow = clone("tagged", "--depth 1 --no-tags");
    let fetch = "git fetch -q --depth 1 origin tag 1.0.0+1.27.4";
    assert_eq!(finish(&harness::process::Run::new("sh", ["-ec", fetch]).cwd(&shallow)).code, 0);
    let tagged = plan(&shallow);
    assert!(
        tagged.contains(": this clone is shallow, so that nobody sees which version the head goes on from; "),
        "{tagged}"
    );
}

#[test]
fn a_recipe_that_was_given_as_a_filter_is_a_mistake_and_nothing_at_all_is_not() {
    let world = World::of_checkout();
    for (filter, recipe) in [("custom-html", "custom-html"), ("custom_htm", "custom-html"), ("guestbok", "guestbook")] {
        let ended = world.run(&[filter]);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
        let expected =
            format!("error: nothing was run: `{filter}` is no filter of trials; did you mean `--recipe {recipe}`?\n");
        assert_eq!(ended.stderr, expected);
    }
    let in_ci = |arguments: &[&str]| finish(&world.command(arguments).env("CI", "true"));
    let ended = in_ci(&["answers_over_http"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
    assert!(ended.stderr.starts_with("error: no recipe is named, so none of the "), "{ended}");
    assert!(ended.stderr.contains("did you mean `--recipe custom-html` beside it?"), "{ended}");
    // Plain `cargo test`, and a filter for the tests of another package.
    for arguments in [&[][..], &["no_trial_has_this_name"]] {
        let ended = in_ci(arguments);
        assert_eq!(ended.code, 0, "{ended}");
    }
    let line = "no recipe is named, so none is tested: `--recipe NAME` tests one\n";
    assert_eq!(in_ci(&[]).stderr, line);
    assert!(is_nothing(&world.run(&["answers_over_http"])));
}

/// Not in CI: the developer is told, and the tests of other packages go on.
fn is_nothing(ended: &Ended) -> bool {
    ended.code == 0 && ended.stderr.starts_with("note: no recipe is named, so none of the ")
}

/// What stands in for the images of one recipe is no other's.
#[test]
fn a_stand_in_of_a_recipe_is_that_recipes_alone() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("harness.toml"), "zone = \"harness.test\"\n[recipes]\nsources = [\"recipes\"]\n")
        .unwrap();
    for name in ["no-backup", "first-release"] {
        let recipe = Path::new("recipes").join(name);
        copy(&checkout().join("tests/data").join(&recipe), &root.path().join(&recipe));
    }
    let overlay = root.path().join("overlays/no-backup");
    std::fs::create_dir_all(&overlay).unwrap();
    std::fs::write(overlay.join("recipe.toml"), "[embedded.images]\nnginx = \"builtin:static-web\"\n").unwrap();
    let plan = |name: &str| World::new(root.path().to_owned()).run(&["--recipe", name, "--plan"]);
    let ended = plan("no-backup");
    assert_eq!(ended.code, 0, "{ended}");
    assert!(
        ended.stdout.contains("`nginx:1.27.5` is not what runs: `builtin:static-web` stands in for it\n"),
        "{ended}"
    );
    let other = plan("first-release");
    assert!(!other.stdout.contains("static-web"), "{other}");
}
