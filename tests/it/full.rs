//! A disk that is really full: a run whose state lies on a small file system of its own, which fills up while it goes on.

use std::path::{Path, PathBuf};

use rustix::process::{Signal, kill_process};

use crate::crash::{all, records, stopped_keeper, sweep};
use crate::runner::{World, finish, tell};
use crate::running::{fill_disk, wait};

/// As the runner says it of what is neither the recipe's fault nor an assertion's.
const BLAMES: [&str; 2] =
    ["infrastructure trouble, not the recipe's fault: ", "harness trouble, not the recipe's fault: "];

#[test]
fn a_disk_that_fills_up_is_never_the_recipes_fault_and_leaves_nothing() {
    let (count, _) = records(&World::of_test_data());
    let step = if all() { 8 } else { 17 };
    let mut points = 0;
    for record in (3..count).step_by(step) {
        let world = World::of_test_data();
        let Some(disk) = SmallDisk::mount(&world.state()) else { return };
        fills_up_at(&world, &disk, record);
        points += 1;
    }
    tell(&format!("embedded: a disk that fills up at each of {points} records, with zero leftovers"));
}

fn fills_up_at(world: &World, disk: &SmallDisk, record: usize) {
    let run = world.command(&["--recipe", "whole"]).env("RECIPE_HARNESS_TEST_HALT", format!("after:{record}"));
    let ended = std::thread::scope(|scope| {
        let run = scope.spawn(|| finish(&run));
        let mut keeper = None;
        wait("the keeper to stop at its record, or the run to end", || {
            keeper = stopped_keeper(world);
            keeper.is_some() || run.is_finished()
        });
        if let Some(keeper) = keeper {
            fill_disk(&disk.0);
            kill_process(keeper, Signal::CONT).unwrap();
        }
        run.join().unwrap()
    });
    assert!([0, 101].contains(&ended.code), "record {record}: {ended}");
    assert_eq!(ended.stdout.matches("\ntest result: ").count(), 1, "record {record}: one verdict: {ended}");
    for trial in ended.with_outcome("FAILED").into_iter().filter(|trial| *trial != "tier::teardown") {
        let message = ended.message(trial);
        let blamed = BLAMES.iter().any(|words| message.contains(words));
        assert!(blamed, "record {record}: `{trial}` blames the recipe: {message}");
    }
    disk.empty();
    // A zero that could not be written down is not proven: the next sweep proves it.
    wait("a sweep to find everything gone", || {
        let swept = sweep(world);
        assert!(swept.iter().all(|run| run.leftovers.is_empty()), "record {record}: {swept:?}: {ended}");
        world.leftovers().is_empty()
    });
}

/// A file system of a few MiB, until this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where nobody may mount, which CI's machine must allow.
    fn mount(at: &Path) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = harness::process::command("mount")
            .args(["-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs"])
            .arg(at)
            .output()
            .unwrap();
        if mounted.status.success() {
            return Some(SmallDisk(at.to_owned()));
        }
        let why = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI must be allowed to mount: {why}");
        tell(&format!("a full disk is not tried, because nothing can be mounted here: {why}"));
        None
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap_or_default();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = harness::process::command("umount").arg("--lazy").arg(&self.0).status();
    }
}
