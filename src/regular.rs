//! Files of a checkout, read whole: regular ones alone, because a pipe or a device may never end, and none larger than such
//! a file can be.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Bytes of the largest file that is read.
const LARGEST: u64 = 64 << 20;

/// The content of a regular file. Links are followed: whoever made the checkout made them.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    // Looked at before it is opened, because opening a device may do something, and after that, because only then is it
    // certain which file it is. Without waiting: the other end of a pipe may never come.
    check(&std::fs::metadata(path)?)?;
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    check(&file.metadata()?)?;
    whole(file)
}

/// The same as text.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|_| Error::new(ErrorKind::InvalidData, "it is no UTF-8 text"))
}

fn check(metadata: &std::fs::Metadata) -> Result<()> {
    match metadata.is_file() {
        true => check_size(metadata.len()),
        false => Err(Error::new(ErrorKind::InvalidInput, "it is no regular file, and nothing else is read")),
    }
}

fn check_size(bytes: u64) -> Result<()> {
    match bytes > LARGEST {
        true => {
            let what = format!("it has {bytes} bytes, and more than {} MiB are not read", LARGEST >> 20);
            Err(Error::new(ErrorKind::FileTooLarge, what))
        }
        false => Ok(()),
    }
}

/// One that grows meanwhile is too large all the same.
fn whole(file: File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    check_size(bytes.len() as u64)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_of_some_size_is_read_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        assert_eq!(read_text(&path("link")).unwrap(), "text");
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        let sparse = File::create(path("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let no_file = "it is no regular file, and nothing else is read";
        for (name, why) in [
            ("pipe", no_file),
            ("socket", no_file),
            (".", no_file),
            ("/dev/zero", no_file),
            ("sparse", "it has 1099511627776 bytes, and more than 64 MiB are not read"),
        ] {
            assert_eq!(read(&path(name)).unwrap_err().to_string(), why, "{name}");
        }
        assert_eq!(read(&path("none")).unwrap_err().kind(), ErrorKind::NotFound);
        // A file of the kernel says that it has no bytes, and has some.
        assert!(!read(Path::new("/proc/self/stat")).unwrap().is_empty());
    }
}
