//! Which user ids a pod has, and how they get there.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::unistd::{Gid, Uid};

use super::fault::Step;
use crate::process::Run;

/// Ranges shorter than this do not reach the ids that images use.
const USEFUL_RANGE: u32 = 1000;

/// How many ids a pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdMap {
    /// Those of this process, unchanged: it runs as root.
    Own,
    /// Root in the pod is this user, and the others come from `/etc/subuid`.
    SubIds,
    /// Root in the pod is this user, and there are no others.
    Single,
}

/// Writes the id maps of a process that has just made its user namespace, with as many ids as this process may give.
pub async fn write(pid: u32) -> Result<IdMap> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
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
