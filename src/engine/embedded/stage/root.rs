//! A container's root file system, mounted at `<container>/root` and not entered yet.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};

use super::container::{ContainerSpec, RootSpec};
use super::copy;
use super::mounts::{self, Point};

/// What of the host a container may see. `/etc`, `/home`, `/root` and `/var` are not among it.
const USERLAND: [&str; 8] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix/store"];
/// What of the host's `/etc` programs need to run at all. The whole would show `/etc/shadow` and host keys to root, and
/// whole directories of certificates the private keys beside them.
const USERLAND_ETC: [&str; 9] = [
    "ld.so.cache",
    "ssl/certs",
    "ssl/openssl.cnf",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "pki/ca-trust/extracted",
    "alternatives",
    "localtime",
    "mime.types",
];
const EMPTY: [&str; 11] =
    ["root", "run", "home", "mnt", "opt", "srv", "var/cache", "var/lib", "var/log", "var/tmp", "tmp"];
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// Mounts the root and returns where.
pub fn make(spec: &ContainerSpec) -> Result<PathBuf> {
    let root = spec.dir.join("root");
    fs::create_dir_all(&root).with_context(|| format!("failed to create `{}`", root.display()))?;
    // The table of mounts, by which the host's programs are made read-only, knows no links.
    let root = fs::canonicalize(&root).with_context(|| format!("failed to find `{}`", root.display()))?;
    match &spec.root {
        RootSpec::Userland { .. } => userland(&root)?,
        RootSpec::Directory(lower) => directory(lower, &spec.dir, &root)?,
    }
    Ok(root)
}

/// The host's programs, read-only, in a root that lives in memory.
fn userland(root: &Path) -> Result<()> {
    mounts::tmpfs(root, "mode=755,size=512m,nr_inodes=65536", MsFlags::MS_NODEV)?;
    let mut bound = Vec::new();
    for name in USERLAND {
        let host = Path::new("/").join(name);
        match host.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => fs::read_link(&host)
                .and_then(|link| symlink(link, root.join(name)))
                .with_context(|| format!("failed to copy the link `{}`", host.display()))?,
            Ok(_) => bound.push(bind_into(root, name, &host)?),
            Err(_) => {}
        }
    }
    let etc = root.join("etc");
    fs::create_dir(&etc).context("failed to create `/etc`")?;
    for (name, content) in [("passwd", PASSWD), ("group", GROUP), ("nsswitch.conf", NSSWITCH)] {
        fs::write(etc.join(name), content).with_context(|| format!("failed to write `/etc/{name}`"))?;
    }
    for name in USERLAND_ETC {
        if let Ok(host) = fs::canonicalize(Path::new("/etc").join(name)) {
            bound.push(bind_into(&etc, name, &host)?);
        }
    }
    mounts::read_only(&bound)?;
    for name in EMPTY {
        fs::create_dir_all(root.join(name)).with_context(|| format!("failed to create `/{name}`"))?;
    }
    for name in ["tmp", "var/tmp"] {
        sticky(&root.join(name))?;
    }
    Ok(())
}

fn bind_into(parent: &Path, name: &str, host: &Path) -> Result<PathBuf> {
    let target = parent.join(name);
    mounts::mount_point(&target, if host.is_dir() { Point::Directory } else { Point::File })?;
    mounts::bind(host, &target)?;
    Ok(target)
}

fn sticky(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o1777)).context("failed to open a directory to all")
}

/// An image as the lower layer of an overlay, or copied where the kernel or file system has no overlay for us.
fn directory(lower: &Path, dir: &Path, root: &Path) -> Result<()> {
    let (upper, work) = (dir.join("upper"), dir.join("work"));
    for dir in [&upper, &work] {
        fs::create_dir_all(dir).with_context(|| format!("failed to create `{}`", dir.display()))?;
    }
    let layer = |path: &Path| path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
    let options = format!("lowerdir={},upperdir={},workdir={},userxattr", layer(lower), layer(&upper), layer(&work));
    if mount(Some("overlay"), root, Some("overlay"), MsFlags::MS_NODEV, Some(options.as_str())).is_ok() {
        return Ok(());
    }
    copy::contents(lower, root)?;
    copy::attributes(lower, root)?;
    mounts::bind(root, root)
}
