//! A disk that is really full: a run whose state lies on a small file system of its own, which fills up while it goes on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::crash::{records, sweep, while_halted};
use crate::runner::{World, finish, tell};
use crate::running::{fill_disk, wait};
use crate::sample;
use harness::process::Run;

/// As the runner says it of what is neither the recipe's fault nor an assertion's.
const BLAMES: [&str; 2] =
    ["infrastructure trouble, not the recipe's fault: ", "harness trouble, not the recipe's fault: "];

#[test]
fn a_disk_that_fills_up_is_never_the_recipes_fault_and_leaves_nothing() {
    let (count, _) = records(&World::of_test_data());
    let mut points = 0;
    for record in sample::of("full disks", 17, (3..count).collect()) {
        let world = World::of_test_data();
        let Some(disk) = SmallDisk::mount(&world.state()) else { return };
        fills_up_at(&world, &disk, record);
        points += 1;
    }
    tell(&format!("embedded: a disk that fills up at each of {points} records, with zero leftovers"));
}

fn fills_up_at(world: &World, disk: &SmallDisk, record: usize) {
    let run = world.command(&["--recipe", "whole"]);
    let ended = while_halted(world, run, record, || fill_disk(&disk.0));
    assert!([0, 3].contains(&ended.code), "record {record}: nobody's fault but the disk's: {ended}");
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

/// The app itself writes until nothing more goes: its doing, and nobody else's.
#[test]
fn an_app_that_fills_the_disk_by_itself_is_the_recipes_fault() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = dir.path().join("recipes/filler/head");
    std::fs::create_dir_all(&recipe).unwrap();
    let compose = "version: \"3.8\"\nservices:\n  app:\n    image: nginx:1.27.4\n    volumes: [\"content:/usr/share/nginx/html\"]\n    \
                   command: [\"/bin/sh\", \"-c\", \"while :; do dd if=/dev/zero bs=64k >> /usr/share/nginx/html/filler 2>/dev/null; done\"]\n    \
                   deploy: {labels: [\"traefik.http.services.${STACK_NAME}.loadbalancer.server.port=80\", \
                   \"traefik.http.routers.${STACK_NAME}.rule=Host(`${DOMAIN}`)\"]}\nvolumes: {content: {}}\n";
    std::fs::write(recipe.join("compose.yml"), compose).unwrap();
    std::fs::copy(crate::runner::checkout().join("tests/data/hostile/harness.toml"), dir.path().join("harness.toml"))
        .unwrap();
    let world = World::new(dir.path().to_owned());
    let Some(_disk) = SmallDisk::mount(&world.state()) else { return };
    let ended = world.run(&["--recipe", "filler", "--tiers", "install"]);
    assert_eq!(ended.code, 101, "{ended}");
    assert!(ended.stdout.contains("the app has filled the disk: of "), "{ended}");
    assert!(!ended.stdout.contains("infrastructure trouble, not the recipe's fault: the disk is full"), "{ended}");
}

/// What cannot be written any more is no part of the app: it is gone, and that is said.
#[test]
fn a_run_is_torn_down_by_name_on_a_full_disk_and_none_is_begun_there() {
    let world = World::of_test_data();
    let Some(disk) = SmallDisk::mount(&world.state()) else { return };
    let ended = world.run(&["--recipe", "no-backup", "--keep", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    let run = ended.stderr.lines().find_map(|line| line.strip_prefix("remove   cargo harness down ")).unwrap();
    fill_disk(&disk.0);
    let down = Run::new(env!("CARGO_BIN_EXE_harness-command"), ["down", run]);
    let down = finish(&down.env("HARNESS_STATE", world.state()).deadline(Duration::from_secs(100)));
    let log = world.state().join("runs").join(run).join("logs/app.log");
    let expected = format!(
        "note: the logs of the services are not all kept: failed to write `{}`: No space left on device (os error \
         28)\nrun `{run}` is torn down, nothing is left\n",
        log.display()
    );
    assert_eq!((down.code, down.stderr.as_str()), (0, expected.as_str()), "{down}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{down}");
    // What the teardown has set free.
    fill_disk(&disk.0);
    let next = world.run(&["--recipe", "no-backup", "--tiers", "install"]);
    assert_eq!(next.code, 3, "{next}");
    let place =
        format!(" bytes are free at `{}`. Make room there, or let `HARNESS_STATE` name ", world.state().display());
    let why = "the embedded engine cannot start: failed to run a first container (ENOSPC). The disk is full: ";
    assert!(next.refusal().contains(why) && next.refusal().contains(&place), "{next}");
    assert!(!next.stderr.contains("report   "), "there is no page to lead to: {next}");
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
