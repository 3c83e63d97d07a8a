//! `__init`: pid 1 of a container, until it becomes the container's own program.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::super::builtin;
use super::super::fault::Step;
use super::container::{ContainerSpec, FileSpec, Limit, MountSource, MountSpec, RootSpec};
use super::mounts::{self, NOTHING, Point};
use super::user::Identity;
use super::{next_fd, request, root};

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// Docker's lists: what a container must not read, and what it must not write.
const MASKED: [&str; 8] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
];
const WRITE_PROTECTED: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Containers may write these, as under Docker.
const RESOLVER_FILES: [&str; 2] = ["/etc/hostname", "/etc/resolv.conf"];
const RESOLV_CONF: &str = "nameserver 127.0.0.11\noptions ndots:0\n";

pub fn run(socket: &OwnedFd) -> Result<()> {
    let (mut spec, fds) = request::<ContainerSpec>(socket)?;
    let mut fds = fds.into_iter();
    let (stdout, stderr) = (next_fd(&mut fds, "standard output")?, next_fd(&mut fds, "standard error")?);
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("failed to tie the container to its parent")?;
    // The mount namespace must be this process's alone: pivoting moves every process that shares it.
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC).context(Step::Namespaces)?;
    nix::unistd::sethostname(&spec.hostname).context("failed to set the host name")?;
    shared_memory(&spec.limits);
    let root = root::make(&spec).context(Step::Root)?;
    let sources = Sources::open(&mut spec).context(Step::Mounts)?;
    pivot(&root).context(Step::Root)?;
    system_mounts(&sources).context(Step::Root)?;
    if let RootSpec::Userland { builtin: Some(builtin) } = &spec.root {
        builtin::install(&sources.path("builtin")?, &builtin.stands_in_for).context(Step::Root)?;
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        add_mount(mount, index, &sources).context(Step::Mounts)?;
    }
    files(&spec, &sources).context(Step::Mounts)?;
    drop(sources);
    umount2(".", MntFlags::MNT_DETACH).context("failed to leave the host's root").context(Step::Root)?;
    if spec.read_only {
        mounts::read_only_alone(Path::new("/")).context(Step::Root)?;
    }
    become_program(spec, socket, stdout, stderr)
}

/// Directories and files of the host, opened before the host's root is left. Paths of a hostile image are only ever
/// resolved inside its own root.
struct Sources(BTreeMap<String, OwnedFd>);

impl Sources {
    fn open(spec: &mut ContainerSpec) -> Result<Sources> {
        let mut paths: Vec<(String, PathBuf)> =
            DEVICES.iter().map(|name| ((*name).to_owned(), Path::new("/dev").join(name))).collect();
        paths.push(("hosts".into(), spec.dir.join("hosts")));
        paths.push(("files".into(), stage_files(spec)?));
        if let RootSpec::Userland { builtin: Some(builtin) } = &spec.root {
            paths.push(("builtin".into(), builtin.program.clone()));
        }
        // Parents first, so that a mount inside another one is not hidden by it.
        spec.mounts.sort_by_key(|mount| Path::new(&mount.target).components().count());
        for (index, mount) in spec.mounts.iter().enumerate() {
            if let MountSource::Directory(path) = &mount.source {
                paths.push((index.to_string(), path.clone()));
            }
        }
        let open = |(name, path): (String, PathBuf)| {
            let fd = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .with_context(|| format!("failed to open `{}`", path.display()))?;
            Ok((name, fd))
        };
        paths.into_iter().map(open).collect::<Result<_>>().map(Sources)
    }

    /// A path that leads to the source from anywhere, as long as `/proc` is mounted.
    fn path(&self, name: &str) -> Result<PathBuf> {
        let fd = self.0.get(name).with_context(|| format!("no source `{name}` was opened"))?;
        Ok(PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())))
    }
}

/// Writes secrets, configs and the resolver's files into a file system in memory, under their numbers.
fn stage_files(spec: &mut ContainerSpec) -> Result<PathBuf> {
    let dir = spec.dir.join("files");
    fs::create_dir_all(&dir).with_context(|| format!("failed to create `{}`", dir.display()))?;
    // The resolver's files may be written by the container's root: a little room, and no more.
    let size: usize = spec.files.iter().map(|file| file.content.len().next_multiple_of(4096)).sum();
    let options = format!("mode=755,size={}", size + (1 << 20));
    mounts::tmpfs(&dir, &options, MsFlags::MS_NOSUID | MsFlags::MS_NODEV)?;
    let contents = [format!("{}\n", spec.hostname), RESOLV_CONF.into()];
    for (target, content) in RESOLVER_FILES.into_iter().zip(contents) {
        let content = content.into_bytes();
        spec.files.insert(0, FileSpec { target: target.into(), uid: 0, gid: 0, mode: 0o644, content });
    }
    for (number, file) in spec.files.iter().enumerate() {
        stage_file(&dir.join(number.to_string()), file)
            .with_context(|| format!("failed to prepare `{}`", file.target))?;
    }
    Ok(dir)
}

fn stage_file(path: &Path, file: &FileSpec) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)?.write_all(&file.content)?;
    if chown(path, Some(file.uid), Some(file.gid)).is_err() {
        bail!(
            "the owner `{}:{}` cannot exist here: containers of an ordinary user have one id only, unless \
             /etc/subuid and newuidmap give them more",
            file.uid,
            file.gid
        );
    }
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(file.mode))?;
    Ok(())
}

/// Makes `root` the root, with the host's root stacked on top of it until it is detached.
fn pivot(root: &Path) -> Result<()> {
    nix::unistd::chdir(root).context("failed to enter the new root")?;
    nix::unistd::pivot_root(".", ".").context("failed to pivot into the new root")
}

/// `/proc`, `/sys` and `/dev`, with Docker's masks.
fn system_mounts(sources: &Sources) -> Result<()> {
    let (no_suid, no_dev, no_exec) = (MsFlags::MS_NOSUID, MsFlags::MS_NODEV, MsFlags::MS_NOEXEC);
    for dir in ["/proc", "/sys", "/dev"] {
        mounts::mount_point(Path::new(dir), Point::Directory)?;
    }
    mount(Some("proc"), "/proc", Some("proc"), no_suid | no_dev | no_exec, NOTHING).context(Step::MountProc)?;
    // Refused in some nested containers. What looks into `/sys` then finds it empty.
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), no_suid | no_dev | no_exec | MsFlags::MS_RDONLY, NOTHING);
    let dev = Path::new("/dev");
    mounts::tmpfs(dev, "mode=755,size=64k", no_suid)?;
    for name in DEVICES {
        mounts::mount_point(&dev.join(name), Point::File)?;
        mounts::bind(&sources.path(name)?, &dev.join(name))?;
    }
    for (name, target) in DEVICE_LINKS {
        symlink(target, dev.join(name)).with_context(|| format!("failed to link `/dev/{name}`"))?;
    }
    for name in ["pts", "shm"] {
        fs::create_dir(dev.join(name)).with_context(|| format!("failed to create `/dev/{name}`"))?;
    }
    let terminals = Some("newinstance,ptmxmode=0666,mode=0620");
    mount(Some("devpts"), "/dev/pts", Some("devpts"), no_suid | no_exec, terminals)
        .context("failed to mount `/dev/pts`")?;
    mounts::tmpfs(&dev.join("shm"), "mode=1777,size=64m", no_suid | no_dev | no_exec)?;
    for path in MASKED.map(Path::new).into_iter().filter(|path| path.exists()) {
        if path.is_dir() {
            mounts::tmpfs(path, "size=0,mode=555", MsFlags::MS_RDONLY)?;
        } else {
            mounts::bind(Path::new("/dev/null"), path)?;
        }
    }
    let protected: Vec<PathBuf> = WRITE_PROTECTED.map(PathBuf::from).into_iter().filter(|path| path.exists()).collect();
    for path in &protected {
        mounts::bind(path, path)?;
    }
    mounts::read_only(&protected)
}

fn add_mount(spec: &MountSpec, index: usize, sources: &Sources) -> Result<()> {
    let target = Path::new(&spec.target);
    ensure!(target.is_absolute() && target != Path::new("/"), "invalid mount target `{}`", spec.target);
    let target = &mounts::mount_point(target, Point::Directory)?;
    match &spec.source {
        MountSource::Tmpfs { size } => {
            let size = size.map_or_else(String::new, |size| format!(",size={size}"));
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mounts::tmpfs(target, &format!("mode=1777{size}"), flags)?;
        }
        MountSource::Directory(_) => {
            let source = sources.path(&index.to_string())?;
            if spec.copy_up {
                copy_up(target, &source)?;
            }
            mounts::bind(&source, target)?;
        }
    }
    if spec.read_only { mounts::read_only_alone(target) } else { Ok(()) }
}

/// Fills an empty volume with what the image has in its place. The lock keeps two replicas from doing it at once.
fn copy_up(image: &Path, volume: &Path) -> Result<()> {
    let lock = File::open(volume).context("failed to open the volume")?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).context("failed to lock the volume")?;
    let mut entries = fs::read_dir(volume).context("failed to list the volume")?;
    if entries.next().is_some() {
        return Ok(());
    }
    // Mode and owner of the directory itself count, too: a database refuses a directory that is not its own.
    mounts::copy_attributes(image, &volume.join("."))?;
    mounts::copy_tree(image, volume).context("failed to fill the volume from the image")
}

/// Mounts secrets and configs, the resolver's files and the host table.
fn files(spec: &ContainerSpec, sources: &Sources) -> Result<()> {
    let staged = sources.path("files")?;
    let mut read_only = Vec::new();
    for (number, file) in spec.files.iter().enumerate() {
        let target = Path::new(&file.target);
        ensure!(target.is_absolute(), "invalid file target `{}`", file.target);
        let target = mounts::mount_point(target, Point::File)?;
        mounts::bind(&staged.join(number.to_string()), &target)?;
        if !RESOLVER_FILES.contains(&file.target.as_str()) {
            read_only.push(target);
        }
    }
    let hosts = mounts::mount_point(Path::new("/etc/hosts"), Point::File)?;
    mounts::bind(&sources.path("hosts")?, &hosts)?;
    mounts::read_only(&read_only)
}

/// Runs the container's program in place of this process, or below it when the service asks for an init.
fn become_program(spec: ContainerSpec, socket: &OwnedFd, stdout: OwnedFd, stderr: OwnedFd) -> Result<()> {
    let identity = Identity::find(spec.user.as_deref()).context(Step::User)?;
    identity.own([&stdout, &stderr]);
    let dir = spec.working_dir.as_deref().filter(|dir| !dir.is_empty()).unwrap_or("/");
    // Docker creates a missing working directory; in a read-only root entering it fails below.
    let _ = fs::create_dir_all(dir);
    limit(&spec.limits)?;
    identity.assume().context(Step::User)?;
    nix::unistd::chdir(dir).with_context(|| format!("failed to enter `{dir}`")).context(Step::Program)?;
    let (program, args) = spec.argv.split_first().context("no command specified").context(Step::Program)?;
    let mut command = crate::process::command(program);
    command.args(args).env_clear().envs(identity.environment(&spec.env, &spec.hostname));
    rustix::stdio::dup2_stdout(&stdout).context("failed to set standard output")?;
    rustix::stdio::dup2_stderr(&stderr).context("failed to set standard error")?;
    let failed = if spec.init {
        super::reaper::run(&mut command, socket)
    } else {
        let _ = nix::unistd::setsid();
        exec(&mut command)
    };
    failed.with_context(|| format!("failed to run `{program}`")).context(Step::Program)
}

/// The one limit that is no process's but the namespace's. Where the kernel keeps it to itself, nothing else can be done.
fn shared_memory(limits: &[Limit]) {
    for limit in limits {
        if let Limit::SharedMemory(most) = limit {
            let pages = most / rustix::param::page_size() as u64;
            let _ = fs::write("/proc/sys/kernel/shmall", pages.to_string());
        }
    }
}

/// Limits are inherited by every process of the container, and none can raise them again.
fn limit(limits: &[Limit]) -> Result<()> {
    for limit in limits {
        let (resource, most) = match *limit {
            Limit::AddressSpace(most) => (Resource::As, most),
            Limit::FileSize(most) => (Resource::Fsize, most),
            Limit::OpenFiles(most) => (Resource::Nofile, most),
            Limit::Processes(most) => (Resource::Nproc, most),
            Limit::Cores(most) => (Resource::Core, most),
            Limit::SharedMemory(_) => continue,
        };
        let given = getrlimit(resource).maximum.map_or(most, |given| most.min(given));
        setrlimit(resource, Rlimit { current: Some(given), maximum: Some(given) })
            .with_context(|| format!("failed to set the limit {limit:?}"))?;
    }
    Ok(())
}

fn exec(command: &mut Command) -> Result<()> {
    Err(command.exec().into())
}
