//! How much of a volume a backup takes: what an app has made must not fill this machine.

use std::fmt;

/// Bytes of all files of one archive; a file counts as long as it says it is.
const LARGEST: u64 = 8 << 30;
/// Bytes of it that stand nowhere: holes in sparse files, which an archive would fill with zeros.
const HOLLOW: u64 = 1 << 30;
/// Bytes of the names of all files: the list of what an archive holds goes through messages and into the journal.
const NAMES: u64 = 16 << 20;

/// What an archive may still take.
#[derive(Debug)]
pub struct ArchiveBudget {
    left: u64,
    hollow: u64,
    names: u64,
}

/// Why a volume is not archived. That is its app's doing, however full the disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLarge(String);

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TooLarge {}

impl ArchiveBudget {
    /// A whole budget for an archive on a disk with so many bytes free, where that is known. Holes get half of them at
    /// the most, so that zeros alone never fill a disk.
    pub fn new(free: Option<u64>) -> ArchiveBudget {
        ArchiveBudget { left: LARGEST, hollow: free.map_or(HOLLOW, |free| HOLLOW.min(free / 2)), names: NAMES }
    }

    /// Takes a file of so many bytes, of which so many are holes, before it is copied.
    pub fn take(&mut self, path: &str, bytes: u64, hollow: u64) -> Result<(), TooLarge> {
        self.take_name(path)?;
        self.take_bytes(path, bytes, hollow)
    }

    /// Takes bytes of something below this path.
    pub fn take_bytes(&mut self, path: &str, bytes: u64, hollow: u64) -> Result<(), TooLarge> {
        let seen = || path.chars().take(200).collect::<String>().escape_debug().to_string();
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            let (most, seen) = (LARGEST >> 30, seen());
            TooLarge(format!(
                "the volume has more than {most} GiB of files (seen up to `{seen}`), and no larger one is backed up"
            ))
        })?;
        self.hollow = self.hollow.checked_sub(hollow).ok_or_else(|| {
            let seen = seen();
            TooLarge(format!(
                "the files of the volume have more holes than a backup may fill with zeros (seen up to `{seen}`): an archive \
                 of a sparse file is as large as the file says it is"
            ))
        })?;
        Ok(())
    }

    /// Takes a file's name.
    pub fn take_name(&mut self, path: &str) -> Result<(), TooLarge> {
        self.names = self.names.checked_sub(path.len() as u64 + 1).ok_or_else(|| {
            let most = NAMES >> 20;
            TooLarge(format!("the names of the volume's files have more than {most} MiB, and no more are backed up"))
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_a_size_of_files_of_holes_and_of_names() {
        let said = |free, path: &str, bytes, hollow| {
            ArchiveBudget::new(free).take(path, bytes, hollow).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(said(None, "a", LARGEST, HOLLOW), "");
        assert!(
            said(None, "a", LARGEST + 1, 0).starts_with("the volume has more than 8 GiB of files (seen up to `a`)")
        );
        assert!(
            said(Some(1 << 20), "sparse", 1 << 20, (1 << 19) + 1)
                .contains("more holes than a backup may fill with zeros (seen up to `sparse`)")
        );
        assert_eq!(said(Some(1 << 20), "sparse", 1 << 20, 1 << 19), "");
        let mut budget = ArchiveBudget::new(None);
        let name = "x".repeat(1 << 20);
        let refused = (0..20).find_map(|_| budget.take(&name, 0, 0).err()).unwrap();
        assert!(refused.to_string().starts_with("the names of the volume's files have more than 16 MiB"), "{refused}");
    }
}
