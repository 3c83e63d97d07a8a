//! Which system calls a program in a container or a cage may make.
//!
//! Docker's default profile is what images are written for. It lists what is allowed; here the same result is had from
//! what it refuses, and from the last call that anybody has looked at: later ones do not exist in a container.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter, sock_filter,
};

/// What Docker refuses to a container without added capabilities, whatever the arguments.
const REFUSED: &[i64] = &[
    // Name spaces and mounts, by the old and the new ways.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // Keys are no namespace's.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // The kernel and its parts.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_lookup_dcookie,
    libc::SYS_syslog,
    libc::SYS_nfsservctl,
    // The machine.
    libc::SYS_acct,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    // Memory and descriptors of other processes, and where memory lies.
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_get_mempolicy,
    libc::SYS_set_mempolicy,
    libc::SYS_set_mempolicy_home_node,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Docker allows it. Its memory is counted for nobody, so that no limit would hold.
    libc::SYS_memfd_secret,
];
/// Calls that only this architecture ever had.
#[cfg(target_arch = "x86_64")]
const OLD: &[i64] =
    &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_uselib, libc::SYS_ustat, libc::SYS_sysfs, libc::SYS__sysctl];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[i64] = &[];
/// Flags of `clone` that ask for a new namespace.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];
/// Docker's: what a program may ask to be treated as. 32 bits of addresses and a fixed layout are among it.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// `removexattrat`, of Linux 6.13. From 424 on, numbers are the same on all architectures.
const LAST_KNOWN: u32 = 466;

/// Applies the filter to this process, and with it to all that it starts. It cannot be lifted again.
pub fn apply() -> Result<()> {
    let apply = || -> Result<()> {
        apply_filter(&refusals()?)?;
        apply_filter(&unknown())?;
        Ok(())
    };
    apply().context("failed to filter system calls")
}

/// Answers EPERM to what is refused.
fn refusals() -> Result<BpfProgram> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().chain(OLD).map(|call| (*call, vec![])).collect();
    let flag = |flag: i32| SeccompRule::new(vec![first(MaskedEq(flag as u64), flag as u64)?]);
    rules.insert(libc::SYS_clone, NAMESPACES.into_iter().map(flag).collect::<Result<_, _>>()?);
    // It reaches the machine that this machine runs on, and belongs to no network namespace.
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![first(Eq, libc::AF_VSOCK as u64)?])?]);
    let others = PERSONALITIES.into_iter().map(|known| first(Ne, known)).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_personality, vec![SeccompRule::new(others)?]);
    let arch = std::env::consts::ARCH.try_into().context("there is no filter for this processor's architecture")?;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into().context("failed to compile")
}

/// A condition on the first argument.
fn first(operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, value)
}

/// Answers ENOSYS to what came after this list, and to `clone3`, whose flags lie in memory where no filter can look:
/// the C library then takes `clone`. The crate knows no ranges, and one answer for each filter.
fn unknown() -> BpfProgram {
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let (load, at_least, equal, answer) = (0x20, 0x35, 0x15, 0x06);
    vec![
        // The number of the call is the first of what a filter is shown.
        step(load, 0, 0, 0),
        step(at_least, 1, 0, LAST_KNOWN + 1),
        step(equal, 0, 1, libc::SYS_clone3 as u32),
        step(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_and_is_small() {
        let refusals = refusals().unwrap();
        assert!(refusals.len() < 600, "{}", refusals.len());
        assert_eq!(unknown().len(), 5);
    }

    /// A filter stays with its thread, so that a thread may try it.
    #[test]
    fn what_is_refused_says_so_and_everything_else_goes_on() {
        let seen = std::thread::spawn(|| {
            apply().unwrap();
            let unshared = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS);
            let vsock = rustix::net::AddressFamily::from_raw(libc::AF_VSOCK as u16);
            let vsock = rustix::net::socket(vsock, rustix::net::SocketType::STREAM, None).map(drop);
            let child = crate::process::command("true").status().map(|status| status.success());
            (unshared, vsock, child.unwrap())
        });
        let refused = (Err(nix::errno::Errno::EPERM), Err(rustix::io::Errno::PERM), true);
        assert_eq!(seen.join().unwrap(), refused);
    }
}
