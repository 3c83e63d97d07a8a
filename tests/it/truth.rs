//! Recipes that look well and are not: their users lose data, or never reach the app. Each is the recipe `whole`, or a
//! part of it, with one change, and must turn red at the trial that is named, with this message.

use std::path::Path;

use crate::hung::with_overlay;
use crate::runner::{Ended, World};

/// A recipe with one service on one volume, as `(text, replacement)` makes it of the test data's.
struct Case {
    world: World,
    root: tempfile::TempDir,
}

impl Case {
    /// The recipe of the test data, with its overlay's `recipe.toml`.
    fn of(recipe: &str, toml: &str) -> Case {
        let (world, root) = with_overlay(recipe, &[("recipe.toml", toml)]);
        Case { world, root }
    }

    /// Replaces a text of one version's compose file, which has to have it.
    fn edit(self, recipe: &str, version: &str, from: &str, to: &str) -> Case {
        edit(&self.root.path().join("recipes").join(recipe).join(version).join("compose.yml"), from, to);
        self
    }

    fn run(&self, recipe: &str, tiers: &str) -> Ended {
        self.world.run(&["--recipe", recipe, "--tiers", tiers])
    }
}

const BASE: &str = "1.0.0+1.27.4";

fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{} has no `{from}`", file.display());
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// The trial is red with this text in its message, and everything is torn down.
fn is_red(ended: &Ended, trial: &str, message: &str) {
    assert_eq!(ended.code, 101, "{ended}");
    assert_eq!(ended.outcome(trial), Some("FAILED"), "{ended}");
    assert!(ended.message(trial).contains(message), "expected: {message}\n{ended}");
    assert_eq!(ended.outcome("tier::teardown"), Some("ok"), "{ended}");
}

fn is_green(ended: &Ended) {
    assert_eq!(ended.code, 0, "{ended}");
}

const MOUNTS: &str = "generic::upgrade::mounts_are_kept";
const STORED: &str = "generic::upgrade::stored_data_is_kept";

/// The head of `whole` with another place for its uploads.
fn moved(toml: &str, to: &str) -> Ended {
    Case::of("whole", toml).edit("whole", "head", "uploads:/srv/uploads", to).run("whole", "install,upgrade")
}

#[test]
fn a_mount_that_moved_is_red_unless_it_is_declared() {
    let ended = moved("", "uploads:/srv/upload");
    is_red(
        &ended,
        MOUNTS,
        "the base has the volume `uploads` at `/srv/uploads` in service `db`, and the head's compose files mount it at \
         `/srv/upload` in service `db`: the app no longer finds there what it has stored. If the head means it and \
         brings the data along, say so in recipe.toml: `[upgrade] moves = { uploads = \"db:/srv/upload\" }`",
    );
    is_green(&moved("[upgrade]\nmoves = { uploads = \"db:/srv/upload\" }\n", "uploads:/srv/upload"));
}

#[test]
fn a_mount_that_became_read_only_is_red() {
    let ended = moved("", "uploads:/srv/uploads:ro");
    is_red(&ended, MOUNTS, "in service `db`, and the head's compose files mount it there read-only, so that");
}

#[test]
fn a_volume_that_only_a_decoy_still_mounts_is_red() {
    // The service `app` takes it over at the same place, so that the canary is found.
    let case = Case::of("whole", "").edit("whole", "head", "      - uploads:/srv/uploads\n", "");
    let case = case.edit("whole", "head", "      - content:/usr", "      - uploads:/srv/uploads\n      - content:/usr");
    let ended = case.run("whole", "install,upgrade");
    is_red(&ended, MOUNTS, "and the head's compose files mount it at `/srv/uploads` in service `app`");
}

/// The head of `whole`, whose base stores `store` in its uploads, with another start.
fn stored(toml: &str, store: &str, start: &str) -> Ended {
    let old = "date > /srv/uploads/first;";
    let case = Case::of("whole", toml).edit("whole", BASE, old, store).edit("whole", "head", old, start);
    case.run("whole", "install,upgrade")
}

#[test]
fn a_store_that_the_head_removes_is_red_unless_it_is_declared() {
    let store = "printf 'SQLite format 3\\\\0rows' > /srv/uploads/app.db; echo a > /srv/uploads/a;";
    let ended = stored("", store, "rm -f /srv/uploads/*.db;");
    is_red(&ended, STORED, "the SQLite database `app.db` of the volume `uploads` (20 bytes) is gone. If the head gives it");
    assert_eq!(ended.with_outcome("FAILED"), [STORED], "{ended}");
    is_green(&stored("[upgrade]\ndrops = [\"uploads/app.db\"]\n", store, "rm -f /srv/uploads/*.db;"));
    is_green(&stored("", store, "echo more >> /srv/uploads/app.db;"));
}

#[test]
fn the_loss_of_most_bytes_is_red_and_of_few_a_note() {
    let store = "seq 1 1000 > /srv/uploads/all; echo a > /srv/uploads/a;";
    let ended = stored("", store, "seq 1 10 > /srv/uploads/all;");
    is_red(&ended, STORED, "the volume `uploads` lost 3872 bytes of the 3895 bytes that it held before the upgrade: `all`");
    let ended = stored("", store, "rm /srv/uploads/a;");
    is_green(&ended);
    let note = "the volume `uploads` lost 2 bytes of the 3895 bytes that it held before the upgrade: `a` (2 bytes) is gone";
    assert!(ended.stderr.contains(note), "{ended}");
}

#[test]
fn a_directory_of_the_app_holds_a_canary_too() {
    let store = "mkdir -p /srv/uploads/2026; echo a > /srv/uploads/2026/a;";
    // What the harness put into the root stays, and the directory is mounted over.
    let ended = stored("", store, "cd /srv/uploads/2026 && for f in *; do [ $$f = a ] || rm $$f; done;");
    is_red(&ended, "generic::upgrade::volumes_are_kept", "(looked for `/srv/uploads/2026/");
}
