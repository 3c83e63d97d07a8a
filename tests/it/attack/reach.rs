//! What a container reaches: powers, other processes, networks.

use crate::Promise::{Network, Powers};
use crate::{Attempt, By, Promise};

const fn attempt(name: &'static str, promise: Promise, program: &'static str) -> Attempt {
    Attempt { name, promise, by: By::Program(program) }
}

pub const ATTEMPTS: &[Attempt] = &[
    attempt(
        "more_powers_than_dockers",
        Powers,
        "status = dict(line.rstrip('\\n').split(':\\t') for line in open('/proc/self/status') if ':\\t' in line)\n\
         for name in ('CapBnd', 'CapPrm', 'CapEff'):\n    \
         if int(status[name], 16) & ~0xa80425fb: sys.exit(f'OUT: {name} {status[name]}')\n\
         if status['NoNewPrivs'] != '1' or status['Seccomp'] != '2': sys.exit(f'OUT: {status}')",
    ),
    attempt(
        "more_powers_than_dockers_for_the_first_process",
        Powers,
        "status = dict(line.rstrip('\\n').split(':\\t') for line in open('/proc/1/status') if ':\\t' in line)\n\
         if int(status['CapBnd'], 16) & ~0xa80425fb: sys.exit(f\"OUT: {status['CapBnd']}\")\n\
         if status['NoNewPrivs'] != '1' or status['Seccomp'] != '2': sys.exit(f'OUT: {status}')",
    ),
    attempt(
        "a_higher_priority",
        Powers,
        "denied('nice', lambda: os.setpriority(os.PRIO_PROCESS, 0, -5), EPERM, EACCES)\n\
         denied('real time', lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)), EPERM)",
    ),
    attempt(
        "higher_limits",
        Powers,
        "import resource\nsoft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n\
         try: resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))\n\
         except (OSError, ValueError): pass\nelse: sys.exit('OUT: a limit was raised')",
    ),
    attempt(
        "as_many_processes_as_it_likes",
        Powers,
        "import resource\nmost = resource.getrlimit(resource.RLIMIT_NPROC)[1]\n\
         if not 0 < most <= 4096: sys.exit(f'OUT: {most}')",
    ),
    attempt(
        "processes_of_the_machine",
        Powers,
        "seen = [name for name in os.listdir('/proc') if name.isdigit()]\n\
         if len(seen) > 8: sys.exit(f'OUT: {seen}')\n\
         denied('kill', lambda: os.kill(os.getppid() + 100000, 9), errno.ESRCH)",
    ),
    attempt(
        "a_file_that_makes_its_caller_another_user",
        Powers,
        "import shutil, subprocess\nshutil.copy('/usr/bin/cat', '/tmp/cat')\nos.chmod('/tmp/cat', 0o6755)\n\
         seen = subprocess.run(['/tmp/cat', '/proc/self/status'], capture_output=True, text=True).stdout\n\
         own = open('/proc/self/status').read()\nof = lambda text: [l for l in text.splitlines() if l[:3] in ('Uid', 'Gid')]\n\
         if of(seen) != of(own): sys.exit(f'OUT: {of(seen)}')",
    ),
    attempt(
        "metadata_services_and_the_world",
        Network,
        "for address in ('169.254.169.254', '1.1.1.1', '172.17.0.1', '192.0.2.1', '100.100.100.200'):\n    \
         s = socket.socket()\n    s.settimeout(10)\n    \
         denied(address, lambda: s.connect((address, 80)), errno.ENETUNREACH)\n\
         s = socket.socket(socket.AF_INET6)\n\
         denied('ipv6', lambda: s.connect(('fd00:ec2::254', 80)), errno.ENETUNREACH)",
    ),
    attempt(
        "a_route_of_its_own",
        Network,
        "import fcntl\ns = socket.socket()\n\
         denied('SIOCADDRT', lambda: fcntl.ioctl(s, 0x890b, bytes(120)), EPERM)\n\
         denied('SIOCSIFFLAGS', lambda: fcntl.ioctl(s, 0x8914, b'eth0'.ljust(16, b'\\0') + bytes(24)), EPERM)",
    ),
    attempt(
        "sockets_without_a_file",
        Network,
        "seen = [line.split()[-1] for line in open('/proc/net/unix') if '@' in line]\nif seen: sys.exit(f'OUT: {seen}')",
    ),
    attempt(
        "interfaces_of_the_machine",
        Network,
        "seen = sorted(name for _, name in socket.if_nameindex())\nif seen != ['eth0', 'lo']: sys.exit(f'OUT: {seen}')",
    ),
    attempt(
        "shared_memory_of_the_machine",
        Powers,
        "for name in ('shm', 'sem', 'msg'):\n    \
         if len(open('/proc/sysvipc/' + name).readlines()) != 1: sys.exit(f'OUT: {name}')",
    ),
];
