//! The exit codes, which `docs/exit-codes.md` promises. Of several recipes the gravest counts.

use crate::report::results::{Results, Verdict};

/// What the exit code says; the later, the graver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// Everything that was asked for was proven.
    Proven,
    /// Nothing, or less than was asked for, was proven.
    Unproven,
    /// Nobody knows what is meant; nothing was created.
    Usage,
    /// Infrastructure or harness.
    Trouble,
    /// The recipe, or an assertion about it.
    Failed,
}

impl Code {
    /// The number that the process ends with; 101 is libtest's own for failed tests, 2 for unknown flags.
    pub fn number(self) -> u8 {
        match self {
            Code::Proven => 0,
            Code::Unproven => 4,
            Code::Usage => 2,
            Code::Trouble => 3,
            Code::Failed => 101,
        }
    }

    /// The code of one recipe's run.
    pub fn of(results: &Results) -> Code {
        match results.verdict {
            Verdict::Passed => Code::Proven,
            Verdict::Failed => Code::Failed,
            Verdict::Error | Verdict::BrokenOff => Code::Trouble,
            Verdict::NothingProven | Verdict::TooLittle => Code::Unproven,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_counts() {
        let by_gravity = [Code::Proven, Code::Unproven, Code::Usage, Code::Trouble, Code::Failed];
        assert!(by_gravity.is_sorted());
        assert_eq!(by_gravity.map(Code::number), [0, 4, 2, 3, 101]);
    }
}
