//! What a process that knows secrets leaves to nobody: no core file, no descriptor of whoever started it, no keys.

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Which parts of the memory the kernel writes into a core file; it is inherited by whatever is started.
const CORE_FILTER: &str = "/proc/self/coredump_filter";

/// Leaves no core file, and nothing of the memory to a program that the machine gives such files to.
///
/// The limit alone does not do: the kernel does not look at it when `core_pattern` names a program. Making the process
/// undumpable would do, but then its files in `/proc` are root's: nobody could look at an assertion with a debugger.
/// The hard limit stays, so that an app may want core files of its own.
pub fn no_core_file() -> Result<()> {
    std::fs::write(CORE_FILTER, "0").with_context(|| format!("failed to write `{CORE_FILTER}`"))?;
    let maximum = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum }).context("failed to limit core files")
}

/// Keeps every other process of this user from looking into this one. What it starts is no part of that.
pub fn undumpable() -> Result<()> {
    nix::sys::prctl::set_dumpable(false).context("failed to become undumpable")
}

/// Closes what this process was started with beyond its standard streams: a lock would be held, and a directory be a way
/// out for whatever is started next. To be called before anything else opens a file.
pub fn close_inherited() -> Result<()> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").context("failed to list descriptors")? {
        let name = entry.context("failed to list descriptors")?.file_name();
        open.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()).filter(|fd| *fd > 2));
    }
    for fd in open {
        // That of the list itself is closed by now.
        let _ = nix::unistd::close(fd);
    }
    Ok(())
}

/// Keeps what this process was started with to itself: it stays open here, where it may be a lock that somebody wants held,
/// and nothing that is started from here gets it. To be called before there is a second thread.
pub fn keep_inherited() {
    close_fds::set_fds_cloexec(3, &[]);
}

/// Leaves the keys of the session that this process was started in to that session. A kernel without keys has none.
pub fn leave_keys() {
    let _ = keyutils::Keyring::join_anonymous_session();
}
