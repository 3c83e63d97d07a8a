//! Files that hostile code, or another machine, has left for this process to read.

use std::fs;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags};

/// The directory to read from.
pub fn open(dir: &Path) -> Result<OwnedFd> {
    let opened = rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    opened.with_context(|| format!("failed to open `{}`", dir.display()))
}

/// Reads a file of a directory that hostile code wrote to: a link in it could lead to any file of this machine.
pub fn read_back(dir: &OwnedFd, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
    let failed = || format!("failed to read `{name}`");
    // Without waiting: a pipe in the place of the file would never open.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = match rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve) {
        Ok(file) => fs::File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => {
            bail!("`{name}` is a symbolic link, or lies behind one: links are not followed")
        }
        Err(error) => return Err(error).with_context(failed),
    };
    if !file.metadata().with_context(failed)?.is_file() {
        bail!("`{name}` is no file");
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).with_context(failed)?;
    if bytes.len() as u64 > most {
        bail!("`{name}` has more than {most} bytes");
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const MOST: u64 = 1 << 20;

    #[test]
    fn a_file_is_read_back_and_a_way_out_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let opened = open(dir.path()).unwrap();
        let error = |name: &str| read_back(&opened, name, MOST).unwrap_err().to_string();
        fs::write(at("file"), "x").unwrap();
        assert_eq!(read_back(&opened, "file", MOST).unwrap(), Some(b"x".to_vec()));
        assert_eq!(read_back(&opened, "none", MOST).unwrap(), None);
        symlink("/etc/shadow", at("link")).unwrap();
        symlink("/etc", at("folder")).unwrap();
        for name in ["link", "folder/shadow"] {
            let expected = format!("`{name}` is a symbolic link, or lies behind one: links are not followed");
            assert_eq!(error(name), expected);
        }
        fs::create_dir(at("dir")).unwrap();
        assert_eq!(error("dir"), "`dir` is no file");
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(error("pipe"), "`pipe` is no file");
        fs::write(at("large"), vec![0; MOST as usize + 1]).unwrap();
        assert_eq!(error("large"), "`large` has more than 1048576 bytes");
    }
}
