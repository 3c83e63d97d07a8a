//! Rows in a real PostgreSQL on a real Swarm: the guestbook's heads that lose its database, each in a way that leaves a
//! healthy app behind.

use harness::sabotage::Sabotage;

use crate::drills::{check, drill};
use crate::runner::{Ended, World, checkout, copy, edit, is_red, tell};

pub const CASES: &[crate::Case] = &[
    ("a_head_that_moves_pgdata_out_of_its_volume_is_red", moved),
    ("a_head_that_swallows_a_failed_migration_is_red", swallowed),
    ("a_restore_hook_that_loads_nothing_is_red", loads_nothing),
    ("planted_faults_in_a_database_are_seen_on_a_swarm", planted),
];

const KEPT: &str = "generic::upgrade::databases_are_kept";
const RESTORED: &str = "generic::restore::databases_are_restored";

/// The bundled guestbook, without what its overlay knows of it, and with changes to files of its head.
fn run(changes: &[(&str, &str, &str)], tiers: &str) -> Ended {
    let root = tempfile::tempdir().unwrap();
    for name in ["harness.toml", "recipes/guestbook", "overlays/guestbook/recipe.toml"] {
        let to = root.path().join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        copy(&checkout().join(name), &to);
    }
    changes.iter().for_each(|(file, from, to)| edit(&root.path().join("recipes/guestbook/head").join(file), from, to));
    let world = World::new(root.path().to_owned()).on("swarm");
    let ended = world.run(&["--recipe", "guestbook", "--tiers", tiers]);
    assert_eq!(world.leftovers(), Vec::<String>::new());
    ended
}

const LOST: &str = "but the upgrade lost it: there is no table `public.";

fn moved() {
    let database = "      POSTGRES_DB: guestbook";
    let elsewhere = format!("      PGDATA: /var/lib/postgresql/data18\n{database}");
    let ended = run(&[("compose.yml", database, &elsewhere)], "install,upgrade");
    is_red(&ended, KEPT, "the PostgreSQL database of service `db` must hold the row that was put there, saying \"");
    is_red(&ended, KEPT, LOST);
    let layer =
        "service `db` keeps a PostgreSQL database in the container's own layer, at `/var/lib/postgresql/data18`";
    is_red(&ended, "generic::upgrade::data_is_in_volumes", layer);
}

fn swallowed() {
    let image = "    image: postgres:15.11";
    let migrates = "pg_upgrade 2>/dev/null || rm -rf \\\"$$PGDATA\\\"/*; exec docker-entrypoint.sh postgres";
    let entrypoint = format!("{image}\n    entrypoint: [\"bash\", \"-c\", \"{migrates}\"]");
    let ended = run(&[("compose.yml", image, &entrypoint)], "install,upgrade");
    is_red(&ended, KEPT, LOST);
    is_red(&ended, "generic::upgrade::stored_data_is_kept", "was begun anew");
}

fn loads_nothing() {
    let load = "psql --username=guestbook --single-transaction --set=ON_ERROR_STOP=1 --quiet --file=\"$DUMP\" guestbook >/dev/null";
    let changes =
        [("pg_backup.sh", load, "psql --username=nobody --file=\"$DUMP\" guestbook || true"), ("abra.sh", "v1", "v2")];
    let ended = run(&changes, "install,upgrade,backup,restore");
    assert_eq!(ended.outcome(KEPT), Some("ok"), "{ended}");
    is_red(&ended, RESTORED, "but the restore did not bring it back into the running database");
    is_red(&ended, RESTORED, "it says \"changed-");
}

fn planted() {
    let world = World::of_checkout().on("swarm");
    let score = drill(&world, "guestbook", &[Sabotage::DatabaseForgets, Sabotage::RestoreHookLoadsNothing], false);
    check(&score, &[]);
    tell(&format!("databases on a Swarm: {}", score.line()));
}
