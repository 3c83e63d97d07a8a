//! How much room the disk has that a directory lies on.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// With less than this free, anything may fail.
pub const FULL: u64 = 1 << 20;

/// With less than this free, something larger than a file may have had no room.
pub const NEARLY_FULL: u64 = 32 << 20;

/// More entries are not looked at: what they have together is more than enough to know.
const ENTRIES: usize = 500_000;

/// The bytes that everything below some directories takes on the disk, as far as this user may look. Holes take none, and
/// a file with two names is counted twice.
pub fn taken(dirs: &[PathBuf]) -> u64 {
    let (mut directories, mut bytes, mut entries) = (dirs.to_vec(), 0_u64, 0);
    while let Some(dir) = directories.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            entries += 1;
            let Ok(metadata) = entry.metadata() else { continue };
            // Blocks are counted in 512 bytes, whatever the file system's own are.
            bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
            if metadata.is_dir() {
                directories.push(entry.path());
            }
        }
        if entries > ENTRIES {
            break;
        }
    }
    bytes
}

/// The bytes that are free; `None` when the file system keeps no count of them, or cannot be looked at.
pub fn free(dir: &Path) -> Option<u64> {
    // A file system that keeps no count says that it has no blocks at all.
    let disk = rustix::fs::statvfs(dir).ok().filter(|disk| disk.f_blocks > 0)?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_directory_takes_is_counted_in_blocks() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("deep")).unwrap();
        std::fs::write(dir.path().join("deep/file"), vec![1; 100_000]).unwrap();
        std::fs::File::create(dir.path().join("sparse")).unwrap().set_len(1 << 40).unwrap();
        let bytes = taken(&[dir.path().to_owned(), dir.path().join("none")]);
        assert!((100_000..1 << 20).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_file_system_without_a_count_is_not_called_full() {
        assert_eq!(free(Path::new("/proc")), None, "it keeps no count");
        assert!(free(Path::new("/nowhere")).is_none() && free(Path::new("/")).is_some());
    }
}
