//! The files of a control group: what is written into them, and what the kernel says in them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Controller;
use super::machine::{Place, Version};
use crate::recipe::stack::Limits;

/// In microseconds, the kernel's default; the share is of this time.
const PERIOD: u64 = 100_000;
/// The kernel takes no smaller share.
const LEAST_SHARE: u64 = 1000;

/// Writes the limits that this place bounds. A file that is only there on some kernels may be missing.
pub fn set(place: &Place, dir: &Path, limits: &Limits) -> Result<()> {
    for controller in &place.controllers {
        for File { name, text, optional } in files(*controller, place.version, limits) {
            let file = dir.join(name);
            if optional && !file.exists() {
                continue;
            }
            let written = fs::write(&file, &text);
            written.with_context(|| format!("failed to write `{text}` into `{}`", file.display()))?;
        }
    }
    Ok(())
}

struct File {
    name: &'static str,
    text: String,
    /// Where the kernel was built without swap, or was told not to count it.
    optional: bool,
}

fn files(controller: Controller, version: Version, limits: &Limits) -> Vec<File> {
    let file = |name, text: String| File { name, text, optional: false };
    let swap = |name, text: String| File { name, text, optional: true };
    match (controller, version) {
        (Controller::Memory, Version::One) => limits.memory.map_or(Vec::new(), |bytes| {
            let both = swap("memory.memsw.limit_in_bytes", bytes.to_string());
            vec![file("memory.limit_in_bytes", bytes.to_string()), both]
        }),
        (Controller::Memory, Version::Two) => limits.memory.map_or(Vec::new(), |bytes| {
            vec![file("memory.max", bytes.to_string()), swap("memory.swap.max", "0".into())]
        }),
        (Controller::Processes, _) => limits.pids.map(|pids| file("pids.max", pids.to_string())).into_iter().collect(),
        (Controller::Processors, Version::One) => {
            limits.cpus.map(|cpus| file("cpu.cfs_quota_us", share(cpus).to_string())).into_iter().collect()
        }
        (Controller::Processors, Version::Two) => {
            limits.cpus.map(|cpus| file("cpu.max", format!("{} {PERIOD}", share(cpus)))).into_iter().collect()
        }
    }
}

/// Microseconds in each period, of thousandths of a processor.
fn share(cpus: u64) -> u64 {
    cpus.saturating_mul(PERIOD / 1000).max(LEAST_SHARE)
}

/// What the kernel did to a container's processes, or kept from them.
pub fn told(place: &Place, container: &Path, app: &Path, limits: &Limits) -> Option<String> {
    let count = |dir: &Path, file: &str, key: &str| count(&fs::read_to_string(dir.join(file)).unwrap_or_default(), key);
    place.controllers.iter().find_map(|controller| match controller {
        Controller::Memory => {
            let (file, whole) = match place.version {
                Version::One => ("memory.oom_control", count(app, "memory.failcnt", "")),
                Version::Two => ("memory.events", count(app, "memory.events.local", "oom")),
            };
            (count(container, file, "oom_kill") > 0).then(|| out_of_memory(whole > 0, limits))
        }
        Controller::Processes => {
            let refused = count(container, "pids.events", "max");
            (refused > 0).then(|| too_many_processes(limits))
        }
        Controller::Processors => None,
    })
}

fn out_of_memory(whole: bool, limits: &Limits) -> String {
    let much = match limits.memory.filter(|_| !whole) {
        Some(bytes) => format!("it wanted more memory than the {} MiB that it may have", bytes >> 20),
        None => "the containers of the app wanted more memory than this machine can spare for them".to_owned(),
    };
    format!("the kernel killed a process of it (OOM), because {much}")
}

/// What is said of a container that has, or had, all the processes that it may have.
pub fn too_many_processes(limits: &Limits) -> String {
    match limits.pids {
        Some(pids) => format!("it was refused more processes than the {pids} that it may have"),
        None => "it was refused more processes".to_owned(),
    }
}

/// The number behind a key; the whole text, where no key is given.
fn count(text: &str, key: &str) -> u64 {
    let number = match key {
        "" => Some(text.trim()),
        key => text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')),
    };
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { memory: Some(64 << 20), cpus: Some(1500), pids: Some(10) };

    fn written(version: Version, limits: &Limits) -> Vec<(&'static str, String)> {
        let all = Controller::ALL.iter().flat_map(|controller| files(*controller, version, limits));
        all.map(|file| (file.name, file.text)).collect()
    }

    #[test]
    fn limits_are_written_as_each_version_reads_them() {
        let expected = [
            ("memory.limit_in_bytes", "67108864"),
            ("memory.memsw.limit_in_bytes", "67108864"),
            ("pids.max", "10"),
            ("cpu.cfs_quota_us", "150000"),
        ];
        assert_eq!(written(Version::One, &LIMITS), expected.map(|(name, text)| (name, text.to_owned())));
        let expected =
            [("memory.max", "67108864"), ("memory.swap.max", "0"), ("pids.max", "10"), ("cpu.max", "150000 100000")];
        assert_eq!(written(Version::Two, &LIMITS), expected.map(|(name, text)| (name, text.to_owned())));
        let little = Limits { cpus: Some(1), ..Limits::default() };
        assert_eq!(written(Version::One, &little), [("cpu.cfs_quota_us", "1000".to_owned())]);
    }

    #[test]
    fn what_the_kernel_did_is_read_and_an_undisturbed_container_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let app = dir.path();
        let container = app.join("task");
        fs::create_dir(&container).unwrap();
        let place = |controller| Place { parent: app.into(), version: Version::Two, controllers: vec![controller] };
        let told = |controller| told(&place(controller), &container, app, &LIMITS);
        fs::write(container.join("memory.events"), "low 0\nmax 9\noom 0\noom_kill 0\noom_group_kill 0\n").unwrap();
        fs::write(container.join("pids.events"), "max 0\n").unwrap();
        assert_eq!((told(Controller::Memory), told(Controller::Processes)), (None, None));
        fs::write(container.join("memory.events"), "oom 1\noom_kill 2\n").unwrap();
        fs::write(container.join("pids.events"), "max 7\n").unwrap();
        let own =
            "the kernel killed a process of it (OOM), because it wanted more memory than the 64 MiB that it may have";
        assert_eq!(told(Controller::Memory).as_deref(), Some(own));
        let refused = "it was refused more processes than the 10 that it may have";
        assert_eq!(told(Controller::Processes).as_deref(), Some(refused));
        fs::write(app.join("memory.events.local"), "oom 1\n").unwrap();
        let all = "the kernel killed a process of it (OOM), because the containers of the app wanted more memory than this \
                   machine can spare for them";
        assert_eq!(told(Controller::Memory).as_deref(), Some(all));
    }
}
