//! Files: the kernel's settings, devices, and what of the machine lies in sight.

use crate::Promise::{Devices, Executable, Files, Settings};
use crate::{Attempt, By, Promise};

const fn attempt(name: &'static str, promise: Promise, program: &'static str) -> Attempt {
    Attempt { name, promise, by: By::Program(program) }
}

pub const ATTEMPTS: &[Attempt] = &[
    attempt(
        "the_program_that_runs_when_another_crashes",
        Settings,
        "denied('core_pattern', lambda: os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY), EROFS, EACCES)",
    ),
    attempt(
        "any_setting_of_the_kernel",
        Settings,
        "seen = 0\nfor place, _, names in os.walk('/proc/sys'):\n    for name in names:\n        seen += 1\n        \
         path = place + '/' + name\n        denied(path, lambda: os.open(path, os.O_WRONLY), EROFS, EACCES, EPERM)\n\
         if seen < 100: sys.exit(f'only {seen} settings')",
    ),
    attempt(
        "the_kernels_emergency_keys",
        Settings,
        "denied('sysrq', lambda: os.open('/proc/sysrq-trigger', os.O_WRONLY), EROFS, EACCES, ENOENT)",
    ),
    attempt(
        "what_the_kernel_knows_of_the_machine_is_read_only",
        Settings,
        "for path in ('/proc/sys', '/proc/irq', '/proc/bus', '/proc/fs', '/sys'):\n    \
         if os.path.exists(path) and not os.statvfs(path).f_flag & os.ST_RDONLY: sys.exit(f'OUT: {path} is writable')",
    ),
    attempt(
        "the_memory_of_the_kernel",
        Settings,
        "for path in ('/proc/kcore', '/proc/timer_list', '/proc/sched_debug', '/proc/latency_stats'):\n    \
         if os.path.exists(path) and open(path, 'rb').read(16): sys.exit(f'OUT: {path} can be read')\n\
         for path in ('/proc/acpi', '/proc/scsi', '/sys/firmware'):\n    \
         if os.path.exists(path) and os.listdir(path): sys.exit(f'OUT: {path} is not empty')",
    ),
    attempt(
        "a_device_made_anew",
        Devices,
        "import stat\nfor kind, major, minor in ((stat.S_IFBLK, 8, 0), (stat.S_IFBLK, 254, 0), (stat.S_IFCHR, 1, 1)):\n    \
         denied('mknod', lambda: os.mknod('/tmp/device', kind | 0o666, os.makedev(major, minor)), EPERM)",
    ),
    // The mode and owner that they have: nothing is broken on a machine where it goes through.
    attempt(
        "the_mode_of_a_device",
        Devices,
        "import stat\nfor name in ('/dev/null', '/dev/zero', '/dev/full', '/dev/random', '/dev/urandom', '/dev/tty', \
         '/proc/kcore', '/proc/timer_list', '/proc/keys'):\n    \
         if not os.path.exists(name): continue\n    found = os.stat(name)\n    \
         denied(name, lambda: os.chmod(name, stat.S_IMODE(found.st_mode)), EROFS, EPERM)\n    \
         denied(name, lambda: os.chown(name, found.st_uid, found.st_gid), EROFS, EPERM)\n\
         open('/dev/null', 'w').write('x')\nif len(open('/dev/urandom', 'rb').read(4)) != 4: sys.exit('no device')",
    ),
    attempt(
        "a_device_of_the_machine",
        Devices,
        "for name in ('mem', 'kmem', 'kmsg', 'port', 'vda', 'sda', 'fuse', 'kvm', 'net/tun', 'vsock', 'mqueue', \
         'hwrng', 'loop-control', 'mapper/control', 'uinput'):\n    \
         denied(name, lambda: os.open('/dev/' + name, os.O_RDONLY), ENOENT)\n\
         import stat\nfor place, _, names in os.walk('/dev'):\n    for name in names:\n        \
         kind = os.lstat(place + '/' + name)\n        if stat.S_ISBLK(kind.st_mode): sys.exit(f'OUT: {name}')",
    ),
    attempt(
        "secrets_of_the_machine",
        Files,
        "for path in ('/etc/shadow', '/etc/gshadow', '/etc/ssh', '/etc/sudoers', '/etc/ssl/private', '/etc/pki/nssdb', \
         '/etc/pki/tls/private', '/boot', '/root/.ssh', '/var/run/docker.sock', '/run/docker.sock', '/run/secrets', \
         '/var/lib/docker', '/run/systemd', '/etc/machine-id'):\n    \
         if os.path.lexists(path): sys.exit(f'OUT: {path} is there')\n\
         for path in ('/home', '/root', '/mnt', '/srv', '/var/lib'):\n    \
         if os.listdir(path): sys.exit(f'OUT: {os.listdir(path)} in {path}')",
    ),
    attempt(
        "programs_of_the_machine",
        Files,
        "for path in ('/usr/left', '/usr/bin/left', '/bin/left', '/lib/left'):\n    \
         denied(path, lambda: os.open(path, os.O_CREAT | os.O_WRONLY), EROFS, EACCES)\n\
         denied('chmod', lambda: os.chmod('/usr/bin/env', 0o4777), EROFS, EPERM)\n\
         denied('write', lambda: os.open('/usr/bin/env', os.O_WRONLY), EROFS, EACCES)",
    ),
    attempt(
        "the_environment_of_whoever_started_it",
        Files,
        "import glob\nfor path in glob.glob('/proc/[0-9]*/environ'):\n    \
         try: seen = open(path, 'rb').read()\n    except OSError: continue\n    \
         for word in (b'CARGO', b'RUST', b'TMPDIR=', b'USER=', b'SSH'):\n        \
         if word in seen: sys.exit(f'OUT: {seen!r}')",
    ),
    attempt(
        "the_root_of_another_process",
        Files,
        "import glob\nown = os.stat('/')\nfor path in glob.glob('/proc/[0-9]*/root'):\n    \
         try: seen = os.stat(path + '/')\n    except OSError: continue\n    \
         if (seen.st_dev, seen.st_ino) != (own.st_dev, own.st_ino): sys.exit(f'OUT: {path} is another root')",
    ),
    attempt(
        "executables_of_processes",
        Executable,
        "import glob\nfor path in glob.glob('/proc/[0-9]*/exe'):\n    \
         denied(path, lambda: os.chmod(path, 0o4777), EROFS, EPERM, EACCES, ENOENT)\n    \
         denied(path, lambda: os.open(path, os.O_WRONLY), EROFS, EPERM, EACCES, ENOENT, errno.ETXTBSY)",
    ),
    Attempt {
        name: "up_and_out_of_a_root_within_the_root",
        promise: Files,
        by: By::InContainer(
            "own = os.stat('/')\nos.makedirs('/tmp/inner')\nout = os.open('/', os.O_RDONLY)\nos.chroot('/tmp/inner')\n\
             os.fchdir(out)\nfor _ in range(64): os.chdir('..')\nos.chroot('.')\nseen = os.stat('/')\n\
             if (seen.st_dev, seen.st_ino) != (own.st_dev, own.st_ino): sys.exit('OUT: another root')",
        ),
    },
];
