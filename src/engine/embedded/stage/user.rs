//! Who a program in a container runs as, by the container's own `/etc/passwd`, and with which powers.

use std::fs;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid};
use rustix::thread::CapabilitySet;

use super::filter;

/// What Docker leaves to a container's root. Everything else is dropped: with `CAP_SYS_ADMIN`, root of the
/// container's user namespace could make the host's userland writable again.
const KEPT: [CapabilitySet; 14] = [
    CapabilitySet::CHOWN,
    CapabilitySet::DAC_OVERRIDE,
    CapabilitySet::FOWNER,
    CapabilitySet::FSETID,
    CapabilitySet::KILL,
    CapabilitySet::SETGID,
    CapabilitySet::SETUID,
    CapabilitySet::SETPCAP,
    CapabilitySet::NET_BIND_SERVICE,
    CapabilitySet::NET_RAW,
    CapabilitySet::SYS_CHROOT,
    CapabilitySet::MKNOD,
    CapabilitySet::AUDIT_WRITE,
    CapabilitySet::SETFCAP,
];
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A user, looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    pub home: String,
}

impl Identity {
    /// Looks up `uid`, `uid:gid`, `name` or `name:group` in this root's `/etc/passwd` and `/etc/group`.
    pub fn find(user: Option<&str>) -> Result<Identity> {
        // Both files may be missing in a minimal image; then only numbers can be found.
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let group = fs::read_to_string("/etc/group").unwrap_or_default();
        look_up(user.filter(|user| !user.is_empty()).unwrap_or("0"), &passwd, &group)
    }

    /// Gives pipes to this user: a program that opens `/dev/stdout` anew needs to own it. An id that is not mapped
    /// fails below, with a better message.
    pub fn own<const N: usize>(&self, streams: [&OwnedFd; N]) {
        for stream in streams {
            let _ = nix::unistd::fchown(stream, Some(self.uid.into()), Some(self.gid.into()));
        }
    }

    /// Becomes this user for good, with Docker's default capabilities and system calls as the upper limit.
    pub fn assume(&self) -> Result<()> {
        for capability in CapabilitySet::all().iter().filter(|capability| !KEPT.contains(capability)) {
            // Capabilities that this kernel does not know are not there to be dropped.
            let _ = rustix::thread::remove_capability_from_bounding_set(capability);
        }
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        match nix::unistd::setgroups(&groups) {
            // Where only one id is mapped, supplementary groups cannot be changed, and mean nothing.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(error) => return Err(error).with_context(|| format!("failed to join the groups {:?}", self.groups)),
        }
        nix::unistd::setgid(Gid::from_raw(self.gid))
            .and_then(|()| nix::unistd::setuid(Uid::from_raw(self.uid)))
            .with_context(|| self.unmapped())?;
        rustix::thread::set_no_new_privs(true).context("failed to give up new privileges")?;
        filter::apply()
    }

    fn unmapped(&self) -> String {
        format!(
            "failed to run as `{}:{}`: containers here only have the ids of {}; to give them more, run as root, or \
             install newuidmap and list your user in /etc/subuid and /etc/subgid",
            self.uid,
            self.gid,
            fs::read_to_string("/proc/self/uid_map")
                .map(|map| map.split_whitespace().collect::<Vec<_>>().join(" "))
                .unwrap_or_default()
        )
    }

    /// The environment of a program: `PATH`, `HOME` and `HOSTNAME` as Docker sets them, unless `env` does.
    pub fn environment(&self, env: &[(String, String)], hostname: &str) -> Vec<(String, String)> {
        let defaults = [("PATH", DEFAULT_PATH), ("HOME", &self.home), ("HOSTNAME", hostname)];
        let missing = defaults.into_iter().filter(|(key, _)| !env.iter().any(|(name, _)| name == key));
        let missing = missing.map(|(key, value)| (key.to_owned(), value.to_owned()));
        missing.chain(env.iter().cloned()).collect()
    }
}

fn look_up(user: &str, passwd: &str, group: &str) -> Result<Identity> {
    let (name, group_name) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let mut people = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|line| line.len() >= 6);
    let found = people.find(|person| person[0] == name || person[2] == name);
    let uid = match (&found, name.parse()) {
        (Some(person), _) => person[2].parse().with_context(|| format!("no uid in `/etc/passwd` for `{name}`"))?,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => bail!("unable to find user {name}: no matching entries in passwd file"),
    };
    let own_gid = found.as_ref().and_then(|person| person[3].parse().ok()).unwrap_or(0);
    let gid = group_name.map_or(Ok(own_gid), |name| group_id(name, group))?;
    let login = found.as_ref().map(|person| person[0]);
    let groups = login.filter(|_| group_name.is_none()).map_or_else(Vec::new, |login| groups_of(login, group));
    let home = found.map_or("/", |person| person[5]).to_owned();
    Ok(Identity { uid, gid, groups, home })
}

fn group_id(name: &str, group: &str) -> Result<u32> {
    let mut groups = group.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|line| line.len() >= 3);
    let found = groups.find(|group| group[0] == name).and_then(|group| group[2].parse().ok());
    match found.or(name.parse().ok()) {
        Some(gid) => Ok(gid),
        None => bail!("unable to find group {name}: no matching entries in group file"),
    }
}

fn groups_of(login: &str, group: &str) -> Vec<u32> {
    let groups = group.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|line| line.len() >= 4);
    let member = groups.filter(|group| group[3].split(',').any(|member| member == login));
    member.filter_map(|group| group[2].parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/srv:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nssl:x:110:db,web\n";

    fn check(user: &str, expected: (u32, u32, &[u32], &str)) {
        let found = look_up(user, PASSWD, GROUP).unwrap();
        assert_eq!((found.uid, found.gid, found.groups.as_slice(), found.home.as_str()), expected, "{user}");
    }

    #[test]
    fn names_and_numbers_are_looked_up_as_docker_does() {
        check("0", (0, 0, &[], "/root"));
        check("web", (101, 102, &[110], "/srv"));
        check("101", (101, 102, &[110], "/srv"));
        check("web:ssl", (101, 110, &[], "/srv"));
        check("1000", (1000, 0, &[], "/"));
        check("1000:1001", (1000, 1001, &[], "/"));
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let error = look_up("nobody-here", PASSWD, GROUP).unwrap_err().to_string();
        assert_eq!(error, "unable to find user nobody-here: no matching entries in passwd file");
        let error = look_up("web:nogroup", PASSWD, GROUP).unwrap_err().to_string();
        assert_eq!(error, "unable to find group nogroup: no matching entries in group file");
    }
}
