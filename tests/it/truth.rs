//! Recipes that look well and are not: their users lose data, or never reach the app. Each is the recipe `whole`, or a
//! part of it, with one change, and must turn red at the trial that is named, with this message.

use crate::hung::with_overlay;
use crate::runner::{Ended, World, edit, is_red};

/// A recipe with one service on one volume, as `(text, replacement)` makes it of the test data's.
pub struct Case {
    pub world: World,
    pub root: tempfile::TempDir,
}

impl Case {
    /// The recipe of the test data, with its overlay's `recipe.toml`.
    pub fn of(recipe: &str, toml: &str) -> Case {
        let (world, root) = with_overlay(recipe, &[("recipe.toml", toml)]);
        Case { world, root }
    }

    /// Replaces a text of one version's compose file, which has to have it.
    pub fn edit(self, recipe: &str, version: &str, from: &str, to: &str) -> Case {
        edit(&self.root.path().join("recipes").join(recipe).join(version).join("compose.yml"), from, to);
        self
    }

    pub fn run(&self, recipe: &str, tiers: &str) -> Ended {
        self.world.run(&["--recipe", recipe, "--tiers", tiers])
    }
}

pub const BASE: &str = "1.0.0+1.27.4";

/// Nothing failed.
pub fn is_green(ended: &Ended) {
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
    let case = case.edit("whole", "head", "        - \"backupbot.backup.volumes.uploads=true\"\n", "");
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
    is_red(
        &ended,
        STORED,
        "the SQLite database `app.db` of the volume `uploads` (20 bytes) is gone. If the head gives it",
    );
    assert_eq!(ended.with_outcome("FAILED"), [STORED], "{ended}");
    is_green(&stored("[upgrade]\ndrops = [\"uploads/app.db\"]\n", store, "rm -f /srv/uploads/*.db;"));
    is_green(&stored("", store, "echo more >> /srv/uploads/app.db;"));
}

#[test]
fn the_loss_of_most_bytes_is_red_and_of_few_a_note() {
    let store = "seq 1 1000 > /srv/uploads/all; echo a > /srv/uploads/a;";
    let ended = stored("", store, "seq 1 10 > /srv/uploads/all;");
    is_red(
        &ended,
        STORED,
        "the volume `uploads` lost 3872 bytes of the 3895 bytes that it held before the upgrade: `all`",
    );
    let ended = stored("", store, "rm /srv/uploads/a;");
    is_green(&ended);
    let note =
        "the volume `uploads` lost 2 bytes of the 3895 bytes that it held before the upgrade: `a` (2 bytes) is gone";
    assert!(ended.stderr.contains(note), "{ended}");
}

#[test]
fn a_directory_of_the_app_holds_a_canary_too() {
    let store = "mkdir -p /srv/uploads/2026; echo a > /srv/uploads/2026/a;";
    // What the harness put into the root stays, and the directory is mounted over.
    let ended = stored("", store, "cd /srv/uploads/2026 && for f in *; do [ $$f = a ] || rm $$f; done;");
    is_red(&ended, "generic::upgrade::volumes_are_kept", "(looked for `/srv/uploads/2026/");
}

/// The head of `whole` with these labels of its app, which are its router's rule and what comes behind it.
fn routed(toml: &str, from: &str, to: &str) -> Ended {
    Case::of("whole", toml).edit("whole", "head", from, to).run("whole", "install,upgrade")
}

const ROUTE: &str = "generic::upgrade::route_leads_to_the_app";
const RULE: &str = "        - \"traefik.http.routers.${STACK_NAME}.rule=Host(`${DOMAIN}`)\"\n";

#[test]
fn a_way_that_ends_before_the_app_is_red_with_the_label() {
    let with = |label: &str| format!("{RULE}        - \"{label}\"\n");
    for (label, message) in [
        (
            "traefik.http.routers.${STACK_NAME}.middlewares=${STACK_NAME}-redirect",
            "which no service with `traefik.enable=true` defines",
        ),
        (
            "traefik.http.routers.${STACK_NAME}.entrypoints=websecured",
            "names the entry point `websecured`, which abra's Traefik",
        ),
        ("traefik.http.routers.${STACK_NAME}.service=${STACK_NAME}_other", "which no label defines"),
        ("traefik.http.services.${STACK_NAME}_b.loadbalancer.server.port=81", "says which of them the router leads to"),
    ] {
        is_red(&routed("", RULE, &with(label)), ROUTE, message);
    }
    let nowhere = RULE.replace("`)\"", "`) && PathPrefix(`/nowhere`)\"");
    is_red(&routed("", RULE, &nowhere), ROUTE, "no router's rule takes `/` of `");
    is_green(&routed("[http]\npath = \"/nowhere/\"\nstatus = [404]\n", RULE, &nowhere.replace("/nowhere", "/")));
}

#[test]
fn a_service_off_the_network_of_traefik_is_red() {
    let networks = "      - token\n    networks:\n      - proxy\n";
    let ended = routed("", networks, "      - token\n");
    is_red(&ended, ROUTE, "service `app` is on `");
    assert!(ended.message(ROUTE).contains("and not on the network `proxy`: Traefik cannot reach it"), "{ended}");
}

#[test]
fn a_router_for_a_path_leads_elsewhere_and_the_app_is_asked_for_its_own() {
    let api = "        - \"backupbot.backup=true\"\n        - \"backupbot.backup.pre-hook";
    let labels = "        - \"traefik.enable=True\"\n        - \"traefik.http.services.${STACK_NAME}_api.loadbalancer.server.port=81\"\n        \
                  - \"traefik.http.routers.${STACK_NAME}_api.rule=Host(`${DOMAIN}`) && PathPrefix(`/api`)\"\n";
    is_green(&routed("", api, &format!("{labels}{api}")));
}

#[test]
fn fewer_tasks_and_a_service_that_ends_are_red_unless_they_are_declared() {
    let trial = "generic::upgrade::services_still_run";
    let sleeping = "exec sleep 100000\"]";
    let scaled = |toml: &str| {
        let case = Case::of("whole", toml).edit("whole", "head", sleeping, "exec sleep 100000\"]\n    hostname: db");
        let case = case.edit(
            "whole",
            "head",
            "      update_config:\n        monitor: 1s\n      labels:\n        - \"backupbot",
            "      replicas: 0\n      labels:\n        - \"backupbot",
        );
        case.run("whole", "install,upgrade")
    };
    is_red(
        &scaled(""),
        trial,
        "service `db` had 1 tasks in the base, and has 0 now. If that is meant, say so in recipe.toml",
    );
    is_green(&scaled("[upgrade]\nstops = [\"db\"]\n"));
    let ended = {
        let case = Case::of("whole", "").edit("whole", "head", sleeping, "true\"]");
        let policy = "        condition: any\n        delay: 100ms\n      update_config:\n        monitor: 1s\n      labels:\n        - \"backupbot";
        let case = case.edit("whole", "head", policy, &policy.replace("any", "on-failure"));
        case.run("whole", "install,upgrade")
    };
    is_red(&ended, trial, "service `db` ran without end in the base, and now it has ended with code 0");
}

#[test]
fn what_dies_some_seconds_after_the_upgrade_is_seen_by_the_last_look() {
    let dies = "sleep 4; exit 3\"]";
    let case = |toml: &str| Case::of("whole", toml).edit("whole", "head", "exec sleep 100000\"]", dies);
    let ended = case("[deadlines]\nsettle = \"8s\"\n").run("whole", "install,upgrade,custom");
    assert!(ended.stderr.contains("the app is watched for 8s after the last operation"), "{ended}");
    is_red(&ended, "generic::custom::services_are_stable", "of its tasks ended: task `");
}

const DUMP: &str =
    "(echo '-- PostgreSQL database dump'; date; echo '-- PostgreSQL database dump complete') > /srv/data/dump";

#[test]
fn a_head_that_backs_up_less_is_red_unless_it_is_declared() {
    let trial = "generic::upgrade::backup_covers_what_it_did";
    let whole = "backupbot.backup.volumes.uploads=true";
    let less =
        |toml: &str, to: &str| Case::of("whole", toml).edit("whole", "head", whole, to).run("whole", "install,upgrade");
    let without = "backupbot.backup.volumes.uploads=false";
    let message = "the base backs up the volume `uploads`, and the head does not: whoever restores has lost it. If that is \
                   meant, say so in recipe.toml: `[upgrade] unbacked = [\"uploads\"]`";
    is_red(&less("", without), trial, message);
    is_green(&less("[upgrade]\nunbacked = [\"uploads\"]\n", without));
    let ended = Case::of("whole", "")
        .edit(
            "whole",
            "head",
            "        - \"backupbot.backup=true\"\n        - \"backupbot.backup.volumes.content=true\"\n",
            "",
        )
        .run("whole", "install,upgrade");
    is_red(&ended, trial, "the base backs up the volume `content`, and the head does not");
}

#[test]
fn a_dump_that_no_hook_writes_is_red_and_one_of_no_format_is_unverified() {
    let trial = "generic::backup::dumps_are_new_and_whole";
    let old = "date > /srv/uploads/first;";
    let stale = Case::of("whole", "")
        .edit("whole", "head", old, &format!("{old} echo of long ago > /srv/data/dump;"))
        .edit("whole", "head", DUMP, "true");
    let ended = stale.run("whole", "install,upgrade,backup");
    is_red(
        &ended,
        trial,
        "the hook `backupbot.backup.pre-hook` of service `db` has not written `dump` of the volume `data`",
    );
    let nothing = Case::of("whole", "").edit("whole", "head", DUMP, "(nosuchdump; echo --) > /srv/data/dump");
    let ended = nothing.run("whole", "install,upgrade,backup");
    is_green(&ended);
    let outcome = ended.outcome(trial).unwrap_or_default();
    assert!(outcome.starts_with("ignored (unverified: `data/dump` is of no known format"), "{ended}");
    let empty = Case::of("whole", "").edit("whole", "head", DUMP, "gzip < /dev/null > /srv/data/dump");
    let ended = empty.run("whole", "install,upgrade,backup");
    is_red(&ended, "tier::backup", "the dump `dump` is cut off: it is compressed, and there is nothing in it");
}

#[test]
fn a_volume_with_nothing_in_it_yet_is_backed_up_and_comes_back() {
    let case = Case::of("whole", "").edit("whole", BASE, "date > /srv/uploads/first;", "");
    let ended =
        case.edit("whole", "head", "date > /srv/uploads/first;", "").run("whole", "install,upgrade,backup,restore");
    is_green(&ended);
    let note = "the volume `uploads` holds nothing of the app's own yet: that it is backed up is proven by a file of the \
                harness alone\n";
    assert!(ended.stderr.contains(note), "{ended}");
    let path = Case::of("whole", "").edit("whole", "head", "volumes.data.path=dump", "volumes.data.path=./dump");
    is_green(&path.run("whole", "install,upgrade,backup,restore"));
}

#[test]
fn an_app_that_writes_over_what_was_restored_is_red() {
    let writes = "cp -a /srv/uploads /tmp/a; (while [ ! -e /tmp/restored ]; do sleep 0.05; done; sleep 0.3; cp -a /tmp/b/. /srv/uploads/)&";
    let hooks = "        - \"backupbot.restore.pre-hook=cp -a /srv/uploads /tmp/b\"\n        \
                 - \"backupbot.restore.post-hook=touch /tmp/restored\"\n";
    let label = "        - \"backupbot.backup.volumes.data.path=dump\"\n";
    let case = Case::of("whole", "").edit("whole", "head", "date > /srv/uploads/first;", writes);
    let ended =
        case.edit("whole", "head", label, &format!("{label}{hooks}")).run("whole", "install,upgrade,backup,restore");
    let trial = "generic::restore::changes_since_the_backup_are_undone";
    is_red(&ended, trial, "it says \"changed after the backup of");
}

#[test]
fn data_beside_every_named_volume_is_red_unless_it_is_declared() {
    let trial = "generic::install::data_is_in_volumes";
    let anonymous = |toml: &str| {
        let start = ("date > /srv/uploads/first;", "date > /srv/beside/first;");
        let case = Case::of("whole", toml).edit("whole", "head", start.0, start.1);
        case.edit("whole", "head", "      - data:/srv/data\n", "      - data:/srv/data\n      - /srv/beside\n")
            .run("whole", "install")
    };
    let message = "bytes in a volume without a name (`/srv/beside/first` among them), at `/srv/beside`: it is gone";
    is_red(&anonymous(""), trial, message);
    is_green(&anonymous("[upgrade]\nephemeral = [\"db:/srv/beside\"]\n"));
    let database = "mkdir -p /srv/pg; echo 15 > /srv/pg/PG_VERSION; date > /srv/uploads/first;";
    let ended =
        Case::of("whole", "").edit("whole", "head", "date > /srv/uploads/first;", database).run("whole", "install");
    is_red(&ended, trial, "service `db` keeps a PostgreSQL database in the container's own layer, at `/srv/pg`");
    let ended = Case::of("whole", "")
        .edit("whole", "head", "date > /srv/uploads/first;", "date > /srv/loose;")
        .run("whole", "install");
    is_green(&ended);
    let note = "service `db` wrote outside of its volumes, where nothing outlives the container: `/srv` (";
    assert!(ended.stderr.contains(note), "{ended}");
}

#[test]
fn a_key_that_nobody_is_told_of_is_red_where_the_head_needs_it_and_unverified_where_not() {
    let trial = "generic::upgrade::new_settings_are_told";
    let with_key = |image: &str, notes: Option<&str>| {
        let case = Case::of("no-backup", "").edit("no-backup", "head", "nginx:1.27.5", image);
        let head = case.root.path().join("recipes/no-backup/head");
        let sample = std::fs::read_to_string(head.join(".env.sample")).unwrap();
        std::fs::write(head.join(".env.sample"), format!("{sample}\nNGINX_VERSION=1.27.5\n")).unwrap();
        if let Some(notes) = notes {
            std::fs::create_dir(head.join("release")).unwrap();
            std::fs::write(head.join("release/next"), notes).unwrap();
        }
        case.run("no-backup", "install,upgrade")
    };
    let ended = with_key("nginx:${NGINX_VERSION}", None);
    is_red(&ended, trial, "without `NGINX_VERSION` the image of service `app` is `nginx:` instead of `nginx:1.27.5`");
    let note =
        "the head's `.env.sample` has the key `NGINX_VERSION`, which the installed app has not: no new file below";
    assert!(ended.stderr.contains(note), "{ended}");
    is_green(&with_key("nginx:${NGINX_VERSION}", Some("Set NGINX_VERSION before you upgrade.\n")));
    let ended = with_key("nginx:1.27.5", None);
    is_green(&ended);
    assert!(
        ended.outcome(trial).unwrap().starts_with("ignored (unverified: only the head's `.env.sample` has"),
        "{ended}"
    );
}
