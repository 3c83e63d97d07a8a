//! Which user ids a pod has, and how they get there.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt as _, chown, fchown};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::unistd::{Gid, Uid};

use super::fault::Step;
use crate::process::Run;

/// Ranges shorter than this do not reach the ids that images use.
const USEFUL_RANGE: u32 = 1000;

/// How many ids a pod of root's has: those from 0 to 65535, as images use them.
pub const IDS: u32 = 1 << 16;
/// Where root's pods have their ids where `/etc/subuid` gives root none: a range that systemd's list of ids
/// (<https://systemd.io/UIDS-GIDS/>) leaves to nobody.
const UNUSED: u32 = 0x7000_0000;

/// How many ids a pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdMap {
    /// A range of their own, from [`first_id`] on: this process runs as root, who is not to be root in a pod.
    Shifted,
    /// Those of this process, unchanged: it runs as root of a user namespace that has no others to give.
    Own,
    /// Root in the pod is this user, and the others come from `/etc/subuid`.
    SubIds,
    /// Root in the pod is this user, and there are no others.
    Single,
}

/// Writes the id maps of a process that has just made its user namespace, with as many ids as this process may give.
pub async fn write(pid: u32) -> Result<IdMap> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    if let Some(first) = first_id() {
        for file in ["gid_map", "uid_map"] {
            let written = fs::write(format!("/proc/{pid}/{file}"), format!("0 {first} {IDS}"));
            written.with_context(|| format!("failed to write `{file}`")).context(Step::IdMap)?;
        }
        return Ok(IdMap::Shifted);
    }
    if uid.is_root() && own(pid).is_ok() {
        return Ok(IdMap::Own);
    }
    if !uid.is_root() && sub_ids(pid, uid, gid).await.is_ok_and(|written| written) {
        return Ok(IdMap::SubIds);
    }
    // An ordinary user may write a group map only after giving up setgroups.
    let set = |file: &str, text: String| {
        fs::write(format!("/proc/{pid}/{file}"), text).with_context(|| format!("failed to write `{file}`"))
    };
    set("setgroups", "deny".into())
        .and_then(|()| set("gid_map", format!("0 {gid} 1")))
        .and_then(|()| set("uid_map", format!("0 {uid} 1")))
        .context(Step::IdMap)?;
    Ok(IdMap::Single)
}

/// The id outside that a pod's root has, when this process is root: one that is nobody's on this machine. `None` for
/// everybody else, whose pod's root is that user, and for a root who has too few ids to give some away.
pub fn first_id() -> Option<u32> {
    static FIRST: OnceLock<Option<u32>> = OnceLock::new();
    *FIRST.get_or_init(|| {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let own = [read("/proc/self/uid_map"), read("/proc/self/gid_map")];
        let given = [read("/etc/subuid"), read("/etc/subgid")];
        Uid::effective().is_root().then(|| choose(&own, &given)).flatten()
    })
}

/// The first of [`IDS`] ids, by root's own maps and the tables of what root may give away, each for users and groups.
fn choose(own: &[String; 2], given: &[String; 2]) -> Option<u32> {
    let [uids, gids] = given.each_ref().map(|table| range_of(table, "root", 0));
    let listed = uids.filter(|range| gids == Some(*range) && range.1 >= IDS).map(|(first, _)| first);
    let first = listed.unwrap_or(UNUSED);
    own.iter().all(|map| contains(map, first)).then_some(first)
}

/// Whether a map has these ids inside.
fn contains(map: &str, first: u32) -> bool {
    map.lines().any(|line| {
        let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        matches!(fields[..], [inside, _, count]
            if inside <= u64::from(first) && u64::from(first) + u64::from(IDS) <= inside + count)
    })
}

/// Gives a file or directory to a pod's root, where that is somebody else.
pub fn give(path: &Path) -> Result<()> {
    let Some(first) = first_id() else { return Ok(()) };
    chown(path, Some(first), Some(first)).with_context(|| format!("failed to give `{}` to the pod", path.display()))
}

/// Gives a pipe to a pod's root, who may then give it on to the user of a program.
pub fn give_stream(stream: impl AsFd) -> Result<()> {
    let Some(first) = first_id() else { return Ok(()) };
    fchown(stream, Some(first), Some(first)).context("failed to give a pipe to the pod")
}

/// Lets a pod's root pass through a directory that stays ours.
pub fn let_through(dir: &Path) -> Result<()> {
    if first_id().is_none() {
        return Ok(());
    }
    let open = || fs::set_permissions(dir, fs::Permissions::from_mode(dir.metadata()?.permissions().mode() | 0o001));
    open().with_context(|| format!("failed to open `{}` to the pod", dir.display()))
}

/// Maps every id that this process's own user namespace has onto itself. Root of a container may have one id only.
fn own(pid: u32) -> Result<()> {
    for file in ["uid_map", "gid_map"] {
        let map =
            fs::read_to_string(format!("/proc/self/{file}")).with_context(|| format!("failed to read `{file}`"))?;
        fs::write(format!("/proc/{pid}/{file}"), identity(&map))
            .with_context(|| format!("failed to write `{file}`"))?;
    }
    Ok(())
}

fn identity(map: &str) -> String {
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let (inside, count) = (fields.next()?, fields.nth(1)?);
        Some(format!("{inside} {inside} {count}\n"))
    };
    map.lines().filter_map(line).collect()
}

/// Asks `newuidmap` and `newgidmap` for the ranges of `/etc/subuid` and `/etc/subgid`; false when there are none.
async fn sub_ids(pid: u32, uid: Uid, gid: Gid) -> Result<bool> {
    let name = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name).unwrap_or_default();
    let range = |file: &str| {
        let table = fs::read_to_string(file).unwrap_or_default();
        range_of(&table, &name, uid.as_raw())
    };
    let (Some(uids), Some(gids)) = (range("/etc/subuid"), range("/etc/subgid")) else { return Ok(false) };
    if !(installed("newuidmap") && installed("newgidmap")) {
        return Ok(false);
    }
    for (program, own, (first, count)) in [("newgidmap", gid.as_raw(), gids), ("newuidmap", uid.as_raw(), uids)] {
        let args = [pid, 0, own, 1, 1, first, count].map(|number| OsString::from(number.to_string()));
        Run::new(program, args).deadline(Duration::from_secs(10)).checked().await?;
    }
    Ok(true)
}

/// The first useful range of a user, who may be listed by name or by number.
fn range_of(table: &str, name: &str, uid: u32) -> Option<(u32, u32)> {
    let line = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        (owner == name || owner == uid.to_string()).then_some(range)
    };
    table.lines().filter_map(line).find(|(_, count)| *count >= USEFUL_RANGE)
}

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let executable = |path: &Path| path.metadata().is_ok_and(|file| file.permissions().mode() & 0o111 != 0);
    std::env::split_paths(&path).any(|dir| executable(&dir.join(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_range_is_listed_for_both_or_a_free_one_and_no_more_than_root_has() {
        let whole = "0 0 4294967295\n".to_owned();
        let check =
            |own: &str, users: &str, groups: &str| choose(&[own.into(), whole.clone()], &[users.into(), groups.into()]);
        assert_eq!(check(&whole, "", ""), Some(UNUSED));
        assert_eq!(check(&whole, "root:100000:65536\n", "root:100000:65536\n"), Some(100_000));
        assert_eq!(check(&whole, "root:100000:65536\n", "root:200000:65536\n"), Some(UNUSED));
        assert_eq!(check(&whole, "0:100000:2000\n", "0:100000:2000\n"), Some(UNUSED));
        assert_eq!(check("0 1000 1\n1 100000 65536\n", "", ""), None);
    }

    #[test]
    fn a_root_of_few_ids_maps_those_only() {
        assert_eq!(
            identity("         0       1000          1\n         1     100000      65536\n"),
            "0 0 1\n1 1 65536\n"
        );
    }

    #[test]
    fn a_range_is_found_by_name_or_number_and_useless_ones_are_not() {
        let table = "ann:100000:65536\n1001:200000:65536\nbob:1:10\n";
        assert_eq!(range_of(table, "ann", 5), Some((100_000, 65536)));
        assert_eq!(range_of(table, "cid", 1001), Some((200_000, 65536)));
        assert_eq!(range_of(table, "bob", 7), None);
    }
}
