//! Rows in real databases: PostgreSQL, MariaDB, Redis and SQLite, each written and read by its own client in the app's own
//! container. What a head or a restore loses turns red; what nobody can open is unverified.

use harness::sabotage::Sabotage;

use crate::drills::{check, drill_of};
use crate::hung::with_overlay;
use crate::runner::{Ended, World, edit, is_red, tell};

const RECIPE: &str = "keeps-rows";
const KEPT: &str = "generic::upgrade::databases_are_kept";
const RESTORED: &str = "generic::restore::databases_are_restored";

/// Whether this machine has the servers, and this user may start them: PostgreSQL does not run as root, so that the
/// container needs a second user. Where they have to be here, they are.
fn is_missing() -> bool {
    let missing: Vec<&str> =
        ["postgres", "initdb", "psql", "mariadbd", "mariadb-install-db", "redis-server", "python3"]
            .into_iter()
            .filter(|program| !is_there(program))
            .collect();
    let is_root = rustix::process::getuid().is_root();
    if missing.is_empty() && is_root {
        return false;
    }
    let why =
        format!("this needs root, and on Debian: apt-get install postgresql mariadb-server redis-server ({missing:?})");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}, and CI=true says that everything must be here");
    tell(&format!("ignored: {why}"));
    true
}

fn is_there(program: &str) -> bool {
    let mut folders: Vec<std::path::PathBuf> =
        ["/usr/local/bin", "/usr/sbin", "/usr/bin", "/bin"].map(Into::into).into();
    folders.extend([15, 16, 17].map(|version| format!("/usr/lib/postgresql/{version}/bin").into()));
    folders.iter().any(|folder| folder.join(program).exists())
}

/// The recipe with changes to one version's files, as `(file, text, replacement)`.
fn run(toml: &str, changes: &[(&str, &str, &str)], tiers: &str) -> Ended {
    let (world, root) = with_overlay(RECIPE, &[("recipe.toml", toml)]);
    for (file, from, to) in changes {
        edit(&root.path().join("recipes").join(RECIPE).join(file), from, to);
    }
    // A config that changed needs a new version.
    edit(&root.path().join("recipes").join(RECIPE).join("head/compose.yml"), "_start_v1", "_start_v2");
    world.run(&["--recipe", RECIPE, "--tiers", tiers])
}

#[test]
fn every_kind_of_database_keeps_its_row_and_has_it_back() {
    if is_missing() {
        return;
    }
    let world = World::of_test_data();
    let ended = world.run(&["--recipe", RECIPE]);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!((ended.outcome(KEPT), ended.outcome(RESTORED)), (Some("ok"), Some("ok")), "{ended}");
    for what in [
        "the PostgreSQL database of service `db`",
        "the MariaDB database of service `maria`",
        "the Redis database of service `kv`",
        "the SQLite database `/srv/files/app.db` of service `app`",
    ] {
        assert!(ended.stderr.contains(&format!("{what} is watched from inside")), "{what}\n{ended}");
    }
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn a_head_whose_databases_begin_anew_is_red_by_each_of_them() {
    if is_missing() {
        return;
    }
    let ended = run(
        "",
        &[
            // The data directories of all four move: two out of their volumes, two within them.
            ("head/compose.yml", "PGDATA: /srv/pg/data", "PGDATA: /srv/pg/data18"),
            ("head/start.sh", "--datadir=/srv/maria", "--datadir=/srv/maria/new"),
            ("head/start.sh", "[ -e /srv/maria/ibdata1 ]", "mkdir -p /srv/maria/new; [ -e /srv/maria/new/ibdata1 ]"),
            ("head/start.sh", "cd /srv/kv", "cd /tmp"),
            ("head/start.sh", "        [ -e /srv/files/app.db ] ||", "        rm -f /srv/files/app.db;"),
        ],
        "install,upgrade",
    );
    is_red(&ended, KEPT, "the PostgreSQL database of service `db` must hold the row that was put there, saying \"");
    for message in [
        "but the upgrade lost it: there is no table `public.",
        "the MariaDB database of service `maria` must hold the row",
        "the Redis database of service `kv` must hold the row",
        "but the upgrade lost it: there is no key `",
        "the SQLite database `/srv/files/app.db` of service `app` must hold the row",
    ] {
        assert!(ended.message(KEPT).contains(message), "expected: {message}\n{ended}");
    }
}

#[test]
fn a_failed_migration_that_is_swallowed_is_red() {
    if is_missing() {
        return;
    }
    let migrates = "        if ! pg_upgradecluster 2>/dev/null; then rm -rf \"$PGDATA\"/*; fi\n        if [ ! -s";
    let ended = run("", &[("head/start.sh", "        if [ ! -s", migrates)], "install,upgrade");
    is_red(&ended, KEPT, "there is no table `public.");
}

#[test]
fn a_restore_that_loads_nothing_is_red_by_each_database() {
    if is_missing() {
        return;
    }
    let ended = run(
        "",
        &[
            ("head/compose.yml", "restore.post-hook=psql --username=app", "restore.post-hook=true psql --username=app"),
            ("head/compose.yml", " mariadb --user=root wiki <", " mariadb --user=root wiki --execute='select 1' #"),
        ],
        "install,upgrade,backup,restore",
    );
    is_red(&ended, RESTORED, "the PostgreSQL database of service `db` must hold the row");
    let by = "but the restore did not bring it back into the running database: a dump has to be loaded by a \
              `backupbot.restore.post-hook`, and a server does not read its files again by itself: it says \"changed-";
    assert!(ended.message(RESTORED).contains(by), "{ended}");
    assert!(ended.message(RESTORED).contains("the MariaDB database of service `maria` must hold the row"), "{ended}");
    assert!(!ended.message(RESTORED).contains("SQLite"), "its file is back, and read anew: {ended}");
}

#[test]
fn a_server_whose_files_are_put_under_it_has_nothing_back() {
    if is_missing() {
        return;
    }
    let label = "      - kv:/srv/kv\n    configs: *start\n    networks: *networks\n    deploy:\n      restart_policy: *restart\n      \
                 update_config: *update\n";
    let labelled = format!("{label}      labels:\n        - \"backupbot.backup=true\"\n");
    let ended = run("", &[("head/compose.yml", label, &labelled)], "install,upgrade,backup,restore");
    is_red(&ended, RESTORED, "the Redis database of service `kv` must hold the row");
}

#[test]
fn what_nobody_can_open_is_unverified_and_what_is_not_to_be_watched_is_left_alone() {
    if is_missing() {
        return;
    }
    let other = (
        "head/compose.yml",
        "MARIADB_ROOT_PASSWORD_FILE: /run/secrets/maria_password",
        "KEY_FILE: /run/secrets/maria_password",
    );
    let base = ("1.0.0+1.0.0/compose.yml", other.1, other.2);
    let start = |file: &'static str| (file, "$MARIADB_ROOT_PASSWORD_FILE", "$KEY_FILE");
    let renamed = |file: &'static str| (file, "  maria_password:\n    external", "  key:\n    external");
    let uses = |file: &'static str| (file, "      - maria_password\n", "      - key\n");
    let reads = |file: &'static str| (file, "/run/secrets/maria_password", "/run/secrets/key");
    let mut changes = vec![other, base, start("head/start.sh"), start("1.0.0+1.0.0/start.sh")];
    for file in ["head/compose.yml", "1.0.0+1.0.0/compose.yml"] {
        changes.extend([renamed(file), uses(file), reads(file)]);
    }
    let ended = run("", &changes, "install,upgrade");
    assert_eq!(ended.code, 0, "{ended}");
    let outcome = ended.outcome(KEPT).unwrap_or_default();
    let said = "ignored (unverified: the MariaDB database of service `maria` cannot be opened: gave up waiting for";
    assert!(outcome.starts_with(said), "{outcome}\n{ended}");
    assert!(outcome.contains("Access denied for user"), "{outcome}");
    let mut strange = changes.clone();
    for version in ["head", "1.0.0+1.0.0"] {
        let file = |name: &str| -> &'static str { format!("{version}/{name}").leak() };
        strange.push((file("compose.yml"), "\"/start.sh\", \"mariadbd\"", "\"/start.sh\", \"other\""));
        strange.push((file("start.sh"), "    mariadbd)\n", "    other)\n"));
    }
    let ended = run("", &strange, "install,upgrade");
    let said = "ignored (unverified: the database in the root of the volume `maria` cannot be opened: no service that \
                mounts it is a server that the harness knows a client of)";
    assert_eq!(ended.outcome(KEPT), Some(said), "{ended}");
    let ended = run("[databases]\nunwatched = [\"maria\"]\n", &changes, "install,upgrade");
    assert_eq!(ended.outcome(KEPT), Some("ok"), "{ended}");
    assert!(!ended.stderr.contains("MariaDB database of service `maria` is watched"), "{ended}");
}

#[test]
fn planted_faults_in_databases_are_seen() {
    if is_missing() {
        return;
    }
    let world = World::of_test_data();
    let faults = [Sabotage::DatabaseForgets, Sabotage::RestoreHookLoadsNothing];
    let score = drill_of(world.command(&["--recipe", RECIPE]), &faults, false);
    check(&score, &[]);
    tell(&format!("databases: {}", score.line()));
}
