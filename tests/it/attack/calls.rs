//! System calls that a container has no business with.

use crate::Promise::{Kernel, Keys, Mounts, Namespaces};
use crate::{Attempt, By, Promise};

/// What every program begins with. `refuse` ends it unless a call answered with one of these errors.
pub const PRELUDE: &str = r#"
import ctypes, errno, os, platform, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
EPERM, EACCES, EROFS, ENOSYS, ENOENT = errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOSYS, errno.ENOENT
def call(name, *args):
    number = name if isinstance(name, int) else N[name]
    ctypes.set_errno(0)
    # As wide as registers are, or what is above would be anything.
    args = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return libc.syscall(ctypes.c_long(number), *args)
def refuse(what, answer, *errors):
    error = ctypes.get_errno()
    if answer >= 0: sys.exit(f'OUT: {what} answered {answer}')
    if error not in (errors or (EPERM,)): sys.exit(f'{what}: {errno.errorcode.get(error, error)}')
def denied(what, act, *errors):
    try: got = act()
    except OSError as error:
        if error.errno not in errors: sys.exit(f'{what}: {error!r}')
        return
    sys.exit(f'OUT: {what} gave {got!r}')
"#;

/// The numbers of the calls, which differ by architecture.
pub fn numbers() -> String {
    let numbers = NUMBERS.iter().map(|(name, number)| format!("{name}={number}"));
    format!("N = dict({})", numbers.collect::<Vec<_>>().join(", "))
}

const NUMBERS: &[(&str, i64)] = &[
    ("acct", libc::SYS_acct),
    ("add_key", libc::SYS_add_key),
    ("bpf", libc::SYS_bpf),
    ("clock_settime", libc::SYS_clock_settime),
    ("clone", libc::SYS_clone),
    ("clone3", libc::SYS_clone3),
    ("delete_module", libc::SYS_delete_module),
    ("fanotify_init", libc::SYS_fanotify_init),
    ("finit_module", libc::SYS_finit_module),
    ("fsopen", libc::SYS_fsopen),
    ("fspick", libc::SYS_fspick),
    ("get_mempolicy", libc::SYS_get_mempolicy),
    ("init_module", libc::SYS_init_module),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("kcmp", libc::SYS_kcmp),
    ("kexec_file_load", libc::SYS_kexec_file_load),
    ("kexec_load", libc::SYS_kexec_load),
    ("keyctl", libc::SYS_keyctl),
    ("memfd_secret", libc::SYS_memfd_secret),
    ("mount", libc::SYS_mount),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("move_mount", libc::SYS_move_mount),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("open_tree", libc::SYS_open_tree),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("personality", libc::SYS_personality),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("pivot_root", libc::SYS_pivot_root),
    ("process_madvise", libc::SYS_process_madvise),
    ("quotactl", libc::SYS_quotactl),
    ("reboot", libc::SYS_reboot),
    ("request_key", libc::SYS_request_key),
    ("sethostname", libc::SYS_sethostname),
    ("setns", libc::SYS_setns),
    ("swapon", libc::SYS_swapon),
    ("syslog", libc::SYS_syslog),
    ("umount2", libc::SYS_umount2),
    ("unshare", libc::SYS_unshare),
    ("userfaultfd", libc::SYS_userfaultfd),
];

const fn attempt(name: &'static str, promise: Promise, program: &'static str) -> Attempt {
    Attempt { name, promise, by: By::Program(program) }
}

pub const ATTEMPTS: &[Attempt] = &[
    attempt("a_user_namespace_of_its_own", Namespaces, "refuse('unshare', call('unshare', 0x10000000))"),
    attempt("a_user_and_a_mount_namespace", Namespaces, "refuse('unshare', call('unshare', 0x10020000))"),
    attempt("a_mount_namespace_of_its_own", Namespaces, "refuse('unshare', call('unshare', 0x20000))"),
    attempt("a_network_of_its_own", Namespaces, "refuse('unshare', call('unshare', 0x40000000))"),
    attempt(
        "any_other_namespace_of_its_own",
        Namespaces,
        "for flag in (0x02000000, 0x04000000, 0x08000000, 0x20000000, 0x80): refuse(hex(flag), call('unshare', flag))",
    ),
    attempt(
        "a_child_in_a_namespace_of_its_own",
        Namespaces,
        "for flag in (0x10000000, 0x20000, 0x40000000, 0x02000000, 0x04000000, 0x08000000, 0x20000000):\n    \
         pid = call('clone', flag | 17, 0, 0, 0, 0)\n    if pid == 0: os._exit(0)\n    refuse(hex(flag), pid)",
    ),
    attempt(
        "a_child_in_a_namespace_by_clone3",
        Namespaces,
        "args = (ctypes.c_ulonglong * 11)(0x10000000, 0, 0, 0, 17)\npid = call('clone3', ctypes.byref(args), 88)\n\
         if pid == 0: os._exit(0)\nrefuse('clone3', pid, ENOSYS)",
    ),
    attempt(
        "another_namespace_by_its_file",
        Namespaces,
        "for name in ('uts', 'net', 'mnt', 'user', 'pid'):\n    \
         refuse(name, call('setns', os.open('/proc/self/ns/' + name, os.O_RDONLY), 0))",
    ),
    attempt(
        "user_namespaces_are_counted_out_as_well",
        Namespaces,
        "most = open('/proc/sys/user/max_user_namespaces').read().strip()\nif most != '0': sys.exit(f'OUT: {most}')",
    ),
    attempt("a_file_system_in_memory", Mounts, "refuse('mount', call('mount', b'x', b'/tmp', b'tmpfs', 0, 0))"),
    attempt(
        "control_groups_of_version_1",
        Mounts,
        "refuse('mount', call('mount', b'x', b'/tmp', b'cgroup', 0, b'freezer'))",
    ),
    attempt("control_groups_of_version_2", Mounts, "refuse('mount', call('mount', b'x', b'/tmp', b'cgroup2', 0, 0))"),
    attempt("a_fresh_proc", Mounts, "refuse('mount', call('mount', b'x', b'/tmp', b'proc', 0, 0))"),
    attempt("a_fresh_sysfs", Mounts, "refuse('mount', call('mount', b'x', b'/tmp', b'sysfs', 0, 0))"),
    attempt(
        "the_programs_of_the_machine_made_writable",
        Mounts,
        "refuse('remount', call('mount', 0, b'/usr', 0, 32 | 4096, 0))",
    ),
    attempt(
        "the_kernels_settings_made_writable",
        Mounts,
        "refuse('remount', call('mount', 0, b'/proc/sys', 0, 32 | 4096, 0))\n\
         refuse('umount', call('umount2', b'/proc/sys', 2))",
    ),
    attempt("a_bind_of_a_directory", Mounts, "refuse('bind', call('mount', b'/proc', b'/tmp', 0, 4096 | 16384, 0))"),
    attempt("mounts_made_shared", Mounts, "refuse('shared', call('mount', 0, b'/', 0, 16384 | (1 << 20), 0))"),
    attempt("another_root", Mounts, "refuse('pivot_root', call('pivot_root', b'/tmp', b'/tmp'))"),
    attempt(
        "mounts_by_the_newer_calls",
        Mounts,
        "refuse('open_tree', call('open_tree', -100, b'/', 1 | 0x8000))\n\
         refuse('fsopen', call('fsopen', b'tmpfs', 0))\nrefuse('fspick', call('fspick', -100, b'/proc', 0))\n\
         refuse('move_mount', call('move_mount', -100, b'/tmp', -100, b'/var', 0))\n\
         refuse('mount_setattr', call('mount_setattr', -100, b'/proc/sys', 0, (ctypes.c_ulonglong * 4)(0, 1), 32))",
    ),
    attempt(
        "a_file_by_its_number",
        Mounts,
        "handle = (ctypes.c_uint * 4)(8, 1, 2, 0)\nroot = os.open('/', os.O_RDONLY)\n\
         refuse('open_by_handle_at', call('open_by_handle_at', root, handle, 0))",
    ),
    attempt("quotas", Mounts, "refuse('quotactl', call('quotactl', 0x800002, b'/dev/vda', 0, 0))"),
    attempt(
        "the_key_ring_of_the_session",
        Keys,
        "refuse('keyctl', call('keyctl', 0, -3, 0))\nrefuse('keyctl', call('keyctl', 1, 0))",
    ),
    attempt("a_key_left_behind", Keys, "refuse('add_key', call('add_key', b'user', b'left', b'x', 1, -4))"),
    attempt("a_key_of_somebody_else", Keys, "refuse('request_key', call('request_key', b'user', b'x', 0, -3))"),
    attempt("the_list_of_keys", Keys, "seen = open('/proc/keys').read()\nif seen: sys.exit(f'OUT: {seen}')"),
    attempt("a_program_in_the_kernel", Kernel, "refuse('bpf', call('bpf', 0, (ctypes.c_ulonglong * 9)(1, 4), 72))"),
    attempt(
        "performance_counters",
        Kernel,
        "event = ctypes.create_string_buffer(b'\\1\\0\\0\\0\\x78\\0\\0\\0', 120)\n\
         refuse('perf_event_open', call('perf_event_open', event, 0, -1, -1, 0))",
    ),
    attempt("page_faults_of_its_own", Kernel, "refuse('userfaultfd', call('userfaultfd', 1))"),
    attempt(
        "calls_by_way_of_a_ring",
        Kernel,
        "refuse('io_uring_setup', call('io_uring_setup', 2, ctypes.create_string_buffer(120)))",
    ),
    attempt(
        "modules",
        Kernel,
        "refuse('init_module', call('init_module', b'', 0, b''))\n\
         refuse('finit_module', call('finit_module', 0, b'', 0))\n\
         refuse('delete_module', call('delete_module', b'nosuch', 0))",
    ),
    attempt(
        "another_kernel",
        Kernel,
        "refuse('kexec_load', call('kexec_load', 0, 0, 0, 0))\n\
         refuse('kexec_file_load', call('kexec_file_load', 0, 0, 0, 0, 0))",
    ),
    attempt("the_kernels_messages", Kernel, "refuse('syslog', call('syslog', 3, ctypes.create_string_buffer(9), 8))"),
    attempt(
        "the_machine_below_this_machine",
        Kernel,
        "denied('vsock', lambda: socket.socket(40, socket.SOCK_STREAM, 0), EPERM)",
    ),
    attempt("another_way_to_be_run", Kernel, "refuse('personality', call('personality', 0x0040000))"),
    attempt("watching_every_file", Kernel, "refuse('fanotify_init', call('fanotify_init', 0, 0))"),
    attempt("a_call_that_nobody_has_looked_at", Kernel, "refuse('1000', call(1000, 0, 0, 0, 0, 0, 0), ENOSYS)"),
    attempt(
        "the_same_calls_by_other_numbers",
        Kernel,
        "if platform.machine() == 'x86_64': refuse('x32', call(0x40000000 + N['unshare'], 0x10000000), ENOSYS)",
    ),
    attempt(
        "ports_of_the_processor",
        Kernel,
        "if platform.machine() == 'x86_64':\n    refuse('iopl', call(172, 3))\n    refuse('ioperm', call(173, 0, 8, 1))",
    ),
    attempt(
        "the_machines_switches",
        Kernel,
        "refuse('reboot', call('reboot', 0xfee1dead, 672274793, 0, 0))\nrefuse('swapon', call('swapon', b'/x', 0))\n\
         refuse('acct', call('acct', b'/tmp/acct'))",
    ),
    attempt("the_clock", Kernel, "refuse('clock_settime', call('clock_settime', 0, (ctypes.c_long * 2)(1, 0)))"),
    attempt("the_name_of_the_machine", Kernel, "refuse('sethostname', call('sethostname', b'mine', 4))"),
    attempt(
        "descriptors_of_other_processes",
        Kernel,
        "pid = os.getpid()\nrefuse('kcmp', call('kcmp', pid, pid, 0, 0, 0))\n\
         refuse('pidfd_getfd', call('pidfd_getfd', os.pidfd_open(pid), 0, 0))\n\
         refuse('process_madvise', call('process_madvise', os.pidfd_open(pid), 0, 0, 20, 0))",
    ),
    attempt("memory_that_nobody_counts", Kernel, "refuse('memfd_secret', call('memfd_secret', 0))"),
    attempt("where_memory_lies", Kernel, "refuse('get_mempolicy', call('get_mempolicy', 0, 0, 0, 0, 0))"),
];
