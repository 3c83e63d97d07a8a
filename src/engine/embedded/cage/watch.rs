//! What everything in a cage uses together, looked at from outside.
//!
//! The kernel bounds what one process takes. What all of them take is counted here, ten times a second, because a control
//! group is not to be had everywhere: an ordinary user has none, and a container may not make any.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// What everything in a cage may use together. Files in memory are bounded by their file systems and do not count here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory of its processes.
    pub memory: u64,
    pub processor: Duration,
}

/// Processors that a program may use from its start to its deadline.
const PROCESSORS: u32 = 4;

impl Limits {
    /// The limits of a program with this deadline.
    pub fn within(deadline: Duration) -> Limits {
        Limits { memory: 2 << 30, processor: deadline * PROCESSORS }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::within(Duration::from_secs(60))
    }
}

/// The processes of one cage.
pub struct Watch {
    /// Pid 1 of the cage, as it is called outside. Whatever runs in the cage descends from it.
    init: i32,
    limits: Limits,
    /// Processor time of every process that was ever seen, by number and start, in ticks.
    seen: BTreeMap<(i32, u64), u64>,
}

impl Watch {
    pub fn new(init: i32, limits: Limits) -> Watch {
        Watch { init, limits, seen: BTreeMap::new() }
    }

    /// Looks once; what is beyond its limit, as the end of a sentence.
    pub fn look(&mut self) -> Option<String> {
        let processes = descendants(processes(), self.init);
        let Limits { memory, processor } = self.limits;
        if self.processor_time(&processes) > processor {
            return Some(format!("more than {} of processor time in all", humantime::format_duration(processor)));
        }
        let pids: Vec<i32> = processes.iter().map(|process| process.pid).collect();
        // The first sum counts shared memory once for each that shares it, and takes less to make.
        let beyond = roughly_used(&pids) > memory && used(&pids) > memory;
        beyond.then(|| format!("more than {} MiB of memory in all", memory >> 20))
    }

    /// Of a process that has ended its parent knows, if it has waited for it; of one that nobody waits for is known what
    /// was seen last.
    fn processor_time(&mut self, processes: &[Process]) -> Duration {
        for process in processes {
            self.seen.insert((process.pid, process.start), process.own);
        }
        let told: u64 = processes.iter().map(|process| process.own + process.waited_for).sum();
        let ticks = told.max(self.seen.values().sum());
        Duration::from_millis(ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1))
    }
}

/// One line of the process table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    /// In ticks since boot.
    start: u64,
    /// Processor time, in ticks.
    own: u64,
    /// That of its children which it has waited for, and of theirs.
    waited_for: u64,
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| read(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect()
}

fn read(pid: i32, stat: &str) -> Option<Process> {
    // The name may hold anything, blanks and parentheses included: the fields start after its last parenthesis.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        start: number(19)?,
        own: number(11)? + number(12)?,
        waited_for: number(13)? + number(14)?,
    })
}

/// A process and all that descend from it.
fn descendants(processes: Vec<Process>, root: i32) -> Vec<Process> {
    let mut family = BTreeSet::from([root]);
    loop {
        let more = processes.iter().filter(|process| family.contains(&process.parent)).map(|process| process.pid);
        let before = family.len();
        family.extend(more.collect::<Vec<_>>());
        if family.len() == before {
            return processes.into_iter().filter(|process| family.contains(&process.pid)).collect();
        }
    }
}

/// Memory that would not be there without these processes, shared memory as often as it is shared.
fn roughly_used(pids: &[i32]) -> u64 {
    let of = |pid: &i32| sum(&format!("/proc/{pid}/status"), &["RssAnon:", "RssShmem:", "VmSwap:"]);
    pids.iter().filter_map(of).sum::<u64>() + files_of_no_place(pids)
}

/// The same, with what several processes share counted once.
pub fn used(pids: &[i32]) -> u64 {
    let of = |pid: &i32, names: &[&str]| sum(&format!("/proc/{pid}/smaps_rollup"), names);
    let total = |names: &[&str]| pids.iter().filter_map(|pid| of(pid, names)).sum::<u64>();
    // A file without a place may be mapped, and is then among the shared memory, too.
    total(&["Pss_Anon:", "SwapPss:"]) + total(&["Pss_Shmem:"]).max(files_of_no_place(pids))
}

/// Adds lines as `RssAnon:  123 kB` up. None when the process is gone.
fn sum(path: &str, names: &[&str]) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = |line: &str| {
        let rest = names.iter().find_map(|name| line.strip_prefix(name))?;
        rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    Some(text.lines().filter_map(line).sum::<u64>() << 10)
}

/// Files that exist as long as somebody holds them open (`memfd_create`), each once.
fn files_of_no_place(pids: &[i32]) -> u64 {
    let open = |pid: &i32| fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let sizes = pids.iter().flat_map(open).filter_map(|entry| size_without_place(&entry.path()));
    sizes.collect::<BTreeMap<_, _>>().values().sum()
}

fn size_without_place(fd: &Path) -> Option<((u64, u64), u64)> {
    let target = fs::read_link(fd).ok()?;
    if !target.to_string_lossy().starts_with("/memfd:") {
        return None;
    }
    let file = fs::metadata(fd).ok()?;
    Some(((file.dev(), file.ino()), file.blocks() * 512))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_process_table_is_read_whatever_the_name() {
        let stat = "7 (a) b) S 3 7 7 0 -1 4194560 120 0 0 0 11 5 30 2 20 0 1 0 4711 8192 99 0";
        let expected = Process { pid: 7, parent: 3, start: 4711, own: 16, waited_for: 32 };
        assert_eq!(read(7, stat), Some(expected));
        assert_eq!(read(7, "7 (a"), None);
        assert_eq!(read(7, "7 (a) S 3"), None);
    }

    #[test]
    fn only_descendants_count() {
        let process = |pid, parent| Process { pid, parent, start: 0, own: 0, waited_for: 0 };
        let all = vec![process(9, 5), process(5, 2), process(2, 1), process(3, 1), process(1, 0)];
        let pids: Vec<i32> = descendants(all, 2).iter().map(|process| process.pid).collect();
        assert_eq!(pids, [9, 5, 2]);
    }

    #[test]
    fn processor_time_is_neither_lost_with_a_process_nor_counted_twice() {
        let second = rustix::param::clock_ticks_per_second();
        let process = |pid, own, waited_for| Process { pid, parent: 1, start: 0, own, waited_for };
        let mut watch = Watch::new(1, Limits::default());
        assert_eq!(watch.processor_time(&[process(1, 0, 0), process(2, 3 * second, 0)]), Duration::from_secs(3));
        // It ended, and pid 1 has waited for it.
        assert_eq!(watch.processor_time(&[process(1, 0, 3 * second)]), Duration::from_secs(3));
        // Another one ended, and nobody did.
        watch.processor_time(&[process(1, 0, 0), process(3, 2 * second, 0)]);
        assert_eq!(watch.processor_time(&[process(1, 0, 0)]), Duration::from_secs(5));
    }

    #[test]
    fn the_memory_of_this_very_process_is_seen() {
        let own = std::process::id() as i32;
        let mebibyte = 1 << 20;
        assert!(roughly_used(&[own]) > mebibyte && used(&[own]) > mebibyte);
        assert_eq!((roughly_used(&[i32::MAX]), used(&[i32::MAX])), (0, 0));
        let memory = Limits { memory: mebibyte, processor: Duration::MAX };
        assert_eq!(Watch::new(own, memory).look().as_deref(), Some("more than 1 MiB of memory in all"));
        let enough = Limits { memory: 1 << 50, processor: Duration::MAX };
        assert_eq!(Watch::new(own, enough).look(), None);
    }
}
