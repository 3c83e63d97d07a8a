//! How much of a snapshot's dumps is looked at, and until when: nobody can end a thread that goes on, and a few kilobytes
//! can stand for terabytes.

use std::fmt;
use std::time::Instant;

/// Bytes of the dumps of an archive once they are decompressed.
const DECOMPRESSED: u64 = 8 << 30;

/// What is left of it.
pub struct Budget {
    until: Instant,
    bytes: u64,
}

/// A budget that was used up.
#[derive(Debug)]
pub struct Beyond(String);

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, and no more is read", self.0)
    }
}

impl std::error::Error for Beyond {}

impl Budget {
    pub fn until(until: Instant) -> Budget {
        Budget { until, bytes: DECOMPRESSED }
    }

    /// Takes so many bytes that were read.
    pub fn take(&mut self, bytes: usize) -> Result<(), Beyond> {
        if Instant::now() > self.until {
            return Err(Beyond("the dumps of the snapshot were not looked through in time".into()));
        }
        self.bytes = self.bytes.checked_sub(bytes as u64).ok_or_else(|| {
            let most = DECOMPRESSED >> 30;
            Beyond(format!("the dumps of the snapshot have more than {most} GiB once they are decompressed"))
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_budget_is_one_of_bytes_and_of_time() {
        let mut budget = Budget::until(Instant::now() + Duration::from_secs(600));
        budget.take(1 << 30).unwrap();
        let error = budget.take(usize::MAX).unwrap_err().to_string();
        assert_eq!(
            error,
            "the dumps of the snapshot have more than 8 GiB once they are decompressed, and no more is read"
        );
        let error = Budget::until(Instant::now() - Duration::from_secs(1)).take(1).unwrap_err().to_string();
        assert_eq!(error, "the dumps of the snapshot were not looked through in time, and no more is read");
    }
}
