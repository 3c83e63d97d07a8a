//! What of a pod can be seen from outside: its processes, its mounts, and the record that recognises them later.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::stage::mounts::unescape;

/// What `<dir>/pod.json` says about a run's pod, for whoever finds it dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    pub run_id: String,
    /// Process numbers of another boot mean nothing.
    pub boot_id: String,
    /// Empty until the pod was started.
    pub processes: Vec<Process>,
    pub user_namespace: Option<u64>,
    /// The directories of its control groups, whether they were made or not.
    #[serde(default)]
    pub groups: Vec<PathBuf>,
}

/// A process that cannot be confused with a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    pub pid: i32,
    /// In clock ticks since boot.
    pub start_time: u64,
}

impl Facts {
    pub fn new(run_id: &str) -> Result<Facts> {
        Ok(Facts {
            run_id: run_id.to_owned(),
            boot_id: boot_id()?,
            processes: Vec::new(),
            user_namespace: None,
            groups: Vec::new(),
        })
    }

    /// The record of a directory; `None` when there never was one.
    pub fn read(dir: &Path) -> Result<Option<Facts>> {
        let path = file(dir);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("failed to read `{}`", path.display())),
        };
        serde_json::from_str(&text).map(Some).with_context(|| format!("failed to understand `{}`", path.display()))
    }

    /// Writes the record at once or not at all.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let (path, new) = (file(dir), dir.join("pod.json.new"));
        let write = || {
            let file = fs::File::create(&new)?;
            serde_json::to_writer(&file, self)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().with_context(|| format!("failed to write `{}`", path.display()))
    }

    /// The recorded processes that still run.
    pub fn alive(&self) -> Vec<Process> {
        if boot_id().is_ok_and(|boot_id| boot_id == self.boot_id) {
            self.processes.iter().copied().filter(|process| Process::find(process.pid) == Some(*process)).collect()
        } else {
            Vec::new()
        }
    }
}

pub fn file(dir: &Path) -> PathBuf {
    dir.join("pod.json")
}

impl Process {
    /// The process that has this number now; a zombie is none.
    pub fn find(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold anything, blanks and parentheses included: the fields start after its last parenthesis.
        let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
        let state = fields.next()?;
        let start_time = fields.nth(18)?.parse().ok()?;
        (state != "Z").then_some(Process { pid, start_time })
    }
}

fn boot_id() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("failed to read the boot id")?;
    Ok(id.trim().to_owned())
}

/// The processes in a user namespace. It must be held open by somebody, or its number may be another one's by now.
pub fn processes_in(user_namespace: u64) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("failed to list processes")? {
        let entry = entry.context("failed to list processes")?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // A process that ends meanwhile, or belongs to somebody else, is not one of ours.
        let namespace = fs::metadata(entry.path().join("ns/user"));
        if namespace.is_ok_and(|namespace| namespace.ino() == user_namespace) && Process::find(pid).is_some() {
            found.push(pid);
        }
    }
    Ok(found)
}

/// What is mounted in this mount namespace at a directory or below it.
pub fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("failed to read the mount table")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| PathBuf::from(unescape(point)));
    Ok(points.filter(|point| point.starts_with(dir)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_process_of_the_same_number_is_another_one() {
        let here = Process::find(std::process::id() as i32).unwrap();
        let mut facts = Facts::new("r").unwrap();
        facts.processes = vec![here, Process { start_time: here.start_time + 1, ..here }];
        assert_eq!(facts.alive(), [here]);
        facts.boot_id = "another".into();
        assert_eq!(facts.alive(), []);
    }

    #[test]
    fn a_record_is_read_back_and_a_broken_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Facts::read(dir.path()).unwrap(), None);
        let facts = Facts::new("r").unwrap();
        facts.write(dir.path()).unwrap();
        assert_eq!(Facts::read(dir.path()).unwrap(), Some(facts));
        fs::write(file(dir.path()), "{").unwrap();
        let error = Facts::read(dir.path()).unwrap_err().to_string();
        assert!(error.starts_with("failed to understand `"), "{error}");
    }
}
