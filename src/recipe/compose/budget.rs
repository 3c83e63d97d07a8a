//! How much text variables, files of variables and configs may make of compose files: a few lines that name a large one
//! thousands of times would otherwise take all memory.

use std::cell::Cell;

use anyhow::{Result, bail};

/// Bytes of all compose files of an app together; published recipes have up to some 20 KiB.
pub(super) const FILES: usize = 1 << 20;
/// Bytes of one text once variables are replaced: what a process is given as an argument has less.
pub(super) const TEXT: usize = 1 << 20;
/// Bytes of all that is put into the documents.
const ALL: usize = 8 << 20;

/// What is left of it.
pub(super) struct Budget(Cell<usize>);

impl Default for Budget {
    fn default() -> Self {
        Budget(Cell::new(ALL))
    }
}

impl Budget {
    /// Takes so many bytes, before they are copied.
    pub(super) fn take(&self, bytes: usize) -> Result<()> {
        match self.0.get().checked_sub(bytes) {
            Some(left) => self.0.set(left),
            None => bail!(
                "variables, files of variables and configs put more than {} MiB into the compose files, and no more is read",
                ALL >> 20
            ),
        }
        Ok(())
    }
}
