//! What needs no Rust, on a real Swarm: `[[data]]` of `recipe.toml`, what programs and pytest may ask of the app, and
//! secrets from outside.

use super::docker::{named, stack};
use crate::runner::{Ended, World, copy};
use crate::{calls, data, outside};

pub const CASES: &[crate::Case] = &[
    ("data_that_survives_is_green_and_what_is_lost_is_red", data_that_survives_is_green_and_what_is_lost_is_red),
    ("programs_and_pytest_have_what_an_assertion_has", programs_and_pytest_have_what_an_assertion_has),
    ("secrets_from_outside_reach_the_containers", secrets_from_outside),
];

fn is_gone(world: &World, ended: &Ended) {
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
    assert_eq!(named(&stack(&ended.stderr)), Vec::<String>::new(), "{ended}");
}

/// The recipe that keeps notes, in the image that has a Python in it.
fn notes() -> (tempfile::TempDir, World) {
    let root = tempfile::tempdir().unwrap();
    for name in ["harness.toml", "recipes/keeps-notes", "overlays/keeps-notes"] {
        copy(&crate::runner::checkout().join("tests/data").join(name), &root.path().join(name));
    }
    for (version, image) in [("1.0.0+1.0.0", "1.0.0"), ("head", "1.1.0")] {
        let file = root.path().join("recipes/keeps-notes").join(version).join("compose.yml");
        let text = std::fs::read_to_string(&file).unwrap();
        let own = text.lines().find_map(|line| line.trim().strip_prefix("image: ")).unwrap();
        std::fs::write(&file, text.replace(own, &format!("recipe-harness/guestbook:{image}"))).unwrap();
    }
    let world = World::new(root.path().to_owned()).on("swarm");
    (root, world)
}

fn data_that_survives_is_green_and_what_is_lost_is_red() {
    let (_root, world) = notes();
    let ended = world.run(&["--recipe", "keeps-notes"]);
    data::is_green(&ended);
    is_gone(&world, &ended);
    let ended = world.run(&["--recipe", "keeps-notes", "--sabotage", "restore-does-nothing"]);
    data::is_lost(&ended);
    is_gone(&world, &ended);
}

fn programs_and_pytest_have_what_an_assertion_has() {
    let (_root, world) = calls::world();
    let world = world.on("swarm");
    let ended = calls::check(&world);
    is_gone(&world, &ended);
}

fn secrets_from_outside() {
    let (root, world) = outside::world();
    let world = world.on("swarm");
    let ended = outside::run(&world, &[], &[("HARNESS_SECRET_TOKEN", outside::SECRET)]);
    outside::check(&world, &ended);
    is_gone(&world, &ended);
    let file = root.path().join("token");
    std::fs::write(&file, format!("{}\n", outside::SECRET)).unwrap();
    let ended = outside::run(&world, &["--secret", &format!("token=@{}", file.display())], &[]);
    outside::check(&world, &ended);
    is_gone(&world, &ended);
}
