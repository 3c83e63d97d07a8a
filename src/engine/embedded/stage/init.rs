//! `__init`: pid 1 of a container, until it becomes the container's own program.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use rustix::mount::MountAttrFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::super::builtin;
use super::super::fault::Step;
use super::container::{ContainerSpec, FileSpec, Limit, MountSource, MountSpec, RootSpec};
use super::mounts::{self, Point};
use super::system::System;
use super::tree::{self, Tree};
use super::user::Identity;
use super::{copy, next_fd, request, root};

/// Containers may write these, as under Docker.
const RESOLVER_FILES: [&str; 2] = ["/etc/hostname", "/etc/resolv.conf"];
const RESOLV_CONF: &str = "nameserver 127.0.0.11\noptions ndots:0\n";

pub fn run(socket: &OwnedFd) -> Result<()> {
    let (mut spec, fds) = request::<ContainerSpec>(socket)?;
    let mut fds = fds.into_iter();
    let (stdout, stderr) = (next_fd(&mut fds, "standard output")?, next_fd(&mut fds, "standard error")?);
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("failed to tie the container to its parent")?;
    super::container::first_to_go();
    // The mount namespace must be this process's alone: pivoting moves every process that shares it.
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC).context(Step::Namespaces)?;
    nix::unistd::sethostname(&spec.hostname).context("failed to set the host name")?;
    shared_memory(&spec.limits);
    furnish(&mut spec)?;
    become_program(spec, socket, stdout, stderr)
}

/// Makes the root and all that is mounted in it, and leaves the host's on the way. Nothing of it stays open.
fn furnish(spec: &mut ContainerSpec) -> Result<()> {
    let root = root::make(spec).context(Step::Root)?;
    let sources = Sources::take(spec)?;
    leave(&root).context(Step::Root)?;
    let root = Tree::open().context(Step::Root)?;
    sources.system.attach(&root).context(Step::Root)?;
    if let (RootSpec::Userland { builtin: Some(builtin) }, Some(program)) = (&spec.root, &sources.builtin) {
        builtin::install(program, &root, &builtin.stands_in_for).context(Step::Root)?;
    }
    for (mount, source) in spec.mounts.iter().zip(sources.mounts) {
        add_mount(mount, source, &root).context(Step::Mounts)?;
    }
    files(spec, &sources.files, &root).context(Step::Mounts)?;
    let hosts = root.point(Path::new("/etc/hosts"), Point::File).and_then(|place| tree::attach(&sources.hosts, &place));
    hosts.context(Step::Mounts)?;
    if spec.read_only {
        mounts::read_only_alone(Path::new("/")).context(Step::Root)?;
    }
    sources.system.prove().context(Step::Root)
}

/// What a container gets of the host, taken before the host's root is left: mounts that have no place yet.
struct Sources {
    system: System,
    builtin: Option<OwnedFd>,
    hosts: OwnedFd,
    /// In the order of the specification's files.
    files: Vec<OwnedFd>,
    /// In the order of the specification's mounts.
    mounts: Vec<OwnedFd>,
}

impl Sources {
    fn take(spec: &mut ContainerSpec) -> Result<Sources> {
        let stage = stage_files(spec).context(Step::Mounts)?;
        let system = System::make(&stage).context(Step::Root)?;
        let builtin = match &spec.root {
            RootSpec::Userland { builtin: Some(builtin) } => Some(tree::take(&builtin.program).context(Step::Root)?),
            _ => None,
        };
        // Parents first, so that a mount inside another one is not hidden by it.
        spec.mounts.sort_by_key(|mount| Path::new(&mount.target).components().count());
        let files = (0..spec.files.len()).map(|number| tree::take(&stage.join(number.to_string())));
        let files = files.collect::<Result<_>>().context(Step::Mounts)?;
        let mounts = spec.mounts.iter().map(source).collect::<Result<_>>().context(Step::Mounts)?;
        let hosts = tree::take(&spec.dir.join("hosts")).context(Step::Mounts)?;
        Ok(Sources { system, builtin, hosts, files, mounts })
    }
}

fn source(spec: &MountSpec) -> Result<OwnedFd> {
    match &spec.source {
        MountSource::Directory(path) => tree::take(path),
        MountSource::Tmpfs { size } => {
            let size = size.map(|size| size.to_string());
            let size = size.iter().map(|size| ("size", size.as_str()));
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            tree::memory(&[("mode", "1777")].into_iter().chain(size).collect::<Vec<_>>(), attributes)
        }
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

/// Makes `root` the root, and leaves the host's before any path of an image is walked.
fn leave(root: &Path) -> Result<()> {
    nix::unistd::chdir(root).context("failed to enter the new root")?;
    nix::unistd::pivot_root(".", ".").context("failed to pivot into the new root")?;
    umount2(".", MntFlags::MNT_DETACH).context("failed to leave the host's root")?;
    nix::unistd::chdir("/").context("failed to enter the new root")
}

fn add_mount(spec: &MountSpec, source: OwnedFd, root: &Tree) -> Result<()> {
    let target = Path::new(&spec.target);
    ensure!(target.is_absolute() && target != Path::new("/"), "invalid mount target `{}`", spec.target);
    let place = root.point(target, Point::Directory)?;
    if spec.copy_up && matches!(spec.source, MountSource::Directory(_)) {
        copy_up(&place, &source)?;
    }
    tree::attach(&source, &place).with_context(|| format!("failed to mount at `{}`", spec.target))?;
    if spec.read_only { tree::restrict(&source, MsFlags::MS_RDONLY) } else { Ok(()) }
}

/// Fills an empty volume with what the image has in its place. The lock keeps two replicas from doing it at once.
fn copy_up(image: &OwnedFd, volume: &OwnedFd) -> Result<()> {
    let open = |dir| tree::open_dir(dir, OsStr::new("."));
    let (image, volume) = (open(image).context("failed to open the image's directory")?, open(volume)?);
    rustix::fs::flock(&volume, rustix::fs::FlockOperation::LockExclusive).context("failed to lock the volume")?;
    if !tree::names(&volume)?.is_empty() {
        return Ok(());
    }
    // Mode and owner of the directory itself count, too: a database refuses a directory that is not its own.
    tree::give_attributes(&rustix::fs::fstat(&image)?, &volume)?;
    copy::between(&image, &volume).context("failed to fill the volume from the image")
}

/// Mounts secrets and configs, and the resolver's files.
fn files(spec: &ContainerSpec, sources: &[OwnedFd], root: &Tree) -> Result<()> {
    for (file, source) in spec.files.iter().zip(sources) {
        let target = Path::new(&file.target);
        ensure!(target.is_absolute(), "invalid file target `{}`", file.target);
        let place = root.point(target, Point::File)?;
        tree::attach(source, &place).with_context(|| format!("failed to mount at `{}`", file.target))?;
        if !RESOLVER_FILES.contains(&file.target.as_str()) {
            tree::restrict(source, MsFlags::MS_RDONLY)?;
        }
    }
    Ok(())
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
pub fn limit(limits: &[Limit]) -> Result<()> {
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
