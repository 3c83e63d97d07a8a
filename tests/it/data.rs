//! `[[data]]` in `recipe.toml`: what survives is green, what is lost is red, and what proves nothing is refused.

use crate::repo_local::with_overlay_of;
use crate::runner::{Ended, World};

const WAYS: [&str; 5] = ["file", "made", "posted", "put", "written"];

/// Every way to make, see and lose data; the last entry has nothing to do with a backup.
fn check(world: &World) {
    is_green(&world.run(&["--recipe", "keeps-notes"]));
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

/// Every entry was seen again after the upgrade and the restore.
pub fn is_green(ended: &Ended) {
    assert_eq!(ended.code, 0, "{ended}");
    for way in WAYS {
        for tier in ["upgrade", "restore"] {
            let trial = format!("overlays::keeps_notes::{tier}::data_{way}");
            assert_eq!(ended.outcome(&trial), Some("ok"), "{ended}");
        }
    }
    assert_eq!(ended.outcome("overlays::keeps_notes::upgrade::data_cache"), Some("ok"), "{ended}");
    assert_eq!(ended.outcome("overlays::keeps_notes::restore::data_cache"), None, "{ended}");
}

#[test]
fn data_that_survives_is_green_however_it_is_made_seen_and_lost() {
    check(&World::of_test_data());
}

#[test]
fn data_that_survives_is_green_for_an_ordinary_user() {
    let Some(world) = World::of_test_data().for_ordinary_user() else { return };
    check(&world);
}

/// The deployment does everything else right: only the data tells.
#[test]
fn a_restore_that_does_nothing_turns_every_entry_red() {
    let world = World::of_test_data();
    is_lost(&world.run(&["--recipe", "keeps-notes", "--sabotage", "restore-does-nothing"]));
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

/// Every entry survived the upgrade, and was not brought back.
pub fn is_lost(ended: &Ended) {
    for way in WAYS {
        let trial = format!("overlays::keeps_notes::restore::data_{way}");
        assert_eq!(ended.outcome(&trial), Some("FAILED"), "{ended}");
        assert_eq!(ended.outcome(&trial.replace("restore", "upgrade")), Some("ok"), "{ended}");
    }
    let message = ended.message("overlays::keeps_notes::restore::data_written");
    let start = "the restore did not bring back the data `written`: the app's `/written` must be \"hello\", but is \
                 \"spoiled by the harness, so that a restore which does nothing is seen\\n\"; it was written to \
                 `/srv/notes/written` in service `app`, and seen there before the upgrade, and after the backup it was \
                 lost: `/srv/notes/written` in service `app` was written over\n";
    assert!(message.starts_with(start), "{message}");
    let message = ended.message("overlays::keeps_notes::restore::data_posted");
    assert!(message.contains("must be \"milk\" in it, but is 404 and \"no such note\""), "{message}");
    assert!(message.contains("lost: DELETE of the app's `/posted`"), "{message}");
}

const PAGE: &str = "[deadlines]\ncall = \"2s\"\n\n[[data]]\nname = \"page\"\nservice = \"app\"\n\
                    write = \"/usr/share/nginx/html/page.html\"\ntext = \"hello\"\nget = \"/page.html\"\n";

/// Runs a broken recipe with one entry, and expects one of its trials to be red with this message.
fn fails(recipe: &str, toml: &str, tier: &str, expected: &str) -> Ended {
    let (_root, world) = with_overlay_of(recipe, &[("recipe.toml", toml)]);
    let ended = world.run(&["--recipe", recipe]);
    let trial = format!("overlays::{}::{tier}::data_page", recipe.replace('-', "_"));
    assert_eq!((ended.code, ended.outcome(&trial)), (101, Some("FAILED")), "{ended}");
    let message = ended.message(&trial);
    assert!(message.starts_with(expected), "{message}");
    let again =
        format!("run only this again: cargo test --test recipe -- --recipe {recipe} --engine embedded --exact {trial}");
    assert!(message.contains(&again), "{message}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
    ended
}

#[test]
fn a_head_that_loses_the_file_is_red() {
    let start =
        "the data `page` did not survive the upgrade: the app's `/page.html` must be \"hello\", but is 404 and \"";
    let ended = fails("loses-volume", PAGE, "upgrade", start);
    let message = ended.message("overlays::loses_volume::upgrade::data_page");
    let history =
        "; it was written to `/usr/share/nginx/html/page.html` in service `app`, and seen there before the upgrade\n";
    assert!(message.contains(history) && message.contains("last log lines of service `app`"), "{message}");
}

#[test]
fn a_recipe_that_puts_the_spoiled_file_back_is_red() {
    let start = "the restore did not bring back the data `page`: the app's `/page.html` must be \"hello\", but is \"spoiled by \
                 the harness";
    fails("restores-nothing", PAGE, "restore", start);
}

/// A mistake of the entry must not look like one of the recipe, nor a check that cannot fail like one that passed.
#[test]
fn an_entry_that_proves_nothing_is_told_so() {
    let unseen = PAGE.replace("get = \"/page.html\"", "get = \"/paeg.html\"");
    let start = "the data was written to `/usr/share/nginx/html/page.html` in service `app`, and cannot be seen even before \
                 anything happened to it: the app's `/paeg.html` must be \"hello\": gave up waiting for the data to be seen \
                 after TIME; last seen: 404 and ";
    let ended = fails("restores-nothing", &unseen, "upgrade", start);
    assert!(ended.message("overlays::restores_nothing::restore::data_page").starts_with(start), "{ended}");
    let undone = format!("{PAGE}ruin = \"true\"\n");
    let start = "the data was to be lost before the restore (`true` in service `app`), and is still seen: the app's \
                 `/page.html` is \"hello\", so that a restore which does nothing would pass: gave up waiting for the data to \
                 be gone after TIME; last seen: it is there\n";
    fails("restores-nothing", &undone, "restore", start);
    let unmade = "[[data]]\nname = \"page\"\nservice = \"app\"\nrun = \"echo no; exit 3\"\nruin = \"true\"\nread = \"/x\"\n\
                  expect = \"x\"\n";
    let start =
        "the data could not be made by `echo no; exit 3` in service `app`: the command exited with code 3: no\n";
    fails("restores-nothing", unmade, "upgrade", start);
}

/// The harness's message, and that nothing was begun.
fn refused(toml: &str) -> String {
    let (root, world) = with_overlay_of("restores-nothing", &[("recipe.toml", toml)]);
    let ended = world.run(&["--recipe", "restores-nothing"]);
    assert_eq!(ended.code, 101, "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
    ended.stderr.replace(&root.path().display().to_string(), "ROOT")
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_created() {
    let example = "; for example: data = [{ name = \"page\", service = \"app\", write = \"/data/page.txt\", text = \"hello\", \
                   get = \"/page.txt\" }]";
    let said = refused(&format!("{PAGE}run = \"true\"\n"));
    let expected = format!("`[[data]]` `page` has `write` and `run`: keep one way to make the data{example}");
    assert!(said.contains(&expected), "{said}");
    let said = refused(&PAGE.replace("write", "wirte"));
    assert!(said.contains("unknown field `wirte`") && said.contains(example), "{said}");
    let said = refused(&PAGE.replace("\"app\"", "\"ap\""));
    let expected = "`[[data]]` `page` is about a service `ap`, and the base has none of that name: there are `app`";
    assert!(said.contains(expected), "{said}");
}

/// Without an upgrade the head is installed, and data is made before the backup.
#[test]
fn without_an_upgrade_data_is_made_before_the_backup() {
    let world = World::of_test_data();
    let ended = world.run(&["--recipe", "keeps-notes", "--tiers", "install,backup,restore"]);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(ended.outcome("overlays::keeps_notes::restore::data_made"), Some("ok"), "{ended}");
    assert_eq!(ended.outcome("overlays::keeps_notes::upgrade::data_made"), None, "{ended}");
    let listed = world.run(&["--recipe", "keeps-notes", "--list"]);
    assert!(listed.stdout.contains("overlays::keeps_notes::restore::data_made: test"), "{listed}");
}
