//! How much room the disk has that a directory lies on.

use std::path::Path;

/// With less than this free, anything may fail.
pub const FULL: u64 = 1 << 20;

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
    fn a_file_system_without_a_count_is_not_called_full() {
        assert_eq!(free(Path::new("/proc")), None, "it keeps no count");
        assert!(free(Path::new("/nowhere")).is_none() && free(Path::new("/")).is_some());
    }
}
