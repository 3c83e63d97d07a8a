//! What was measured, in words: bytes and times for people, sums, and why there is none.

use std::time::Duration;

use super::results::Results;
use super::seconds;
use crate::engine::Measured;
use crate::keeper::usage::TierUsage;

/// `12.3 MiB`: one decimal from a KiB on.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        // What would be rounded up to 1024.0 belongs to the next unit.
        if value < 1023.95 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

pub fn size(measured: &Measured) -> String {
    words(measured, bytes)
}

pub fn time(measured: &Measured) -> String {
    words(measured, |millis| seconds(Duration::from_millis(millis)))
}

fn words(measured: &Measured, amount: impl Fn(u64) -> String) -> String {
    match measured {
        Measured::Amount(value) => amount(*value),
        Measured::NotMeasured { not_measured } => format!("not measured: {not_measured}"),
    }
}

/// All of them together: where one is missing, there is no sum.
fn sum<'a>(parts: impl Iterator<Item = &'a Measured>) -> Measured {
    let mut total = 0;
    for part in parts {
        match part {
            Measured::Amount(amount) => total += amount,
            Measured::NotMeasured { .. } => return part.clone(),
        }
    }
    Measured::Amount(total)
}

/// The memory of all services.
pub fn memory(usage: &TierUsage) -> Measured {
    sum(usage.services.values().map(|service| &service.memory))
}

/// The size of all images.
pub fn images(usage: &TierUsage) -> Measured {
    sum(usage.images.values())
}

/// The last measurement before the data was tampered with: after the upgrade, or after the install where there was none.
pub fn telling(results: &Results) -> Option<&TierUsage> {
    use crate::tier::Tier;
    let of = |wanted| results.tiers.iter().find(|tier| tier.tier == wanted)?.usage.as_ref();
    of(Tier::Upgrade).or_else(|| of(Tier::Install))
}

/// The telling measurement in one line.
pub fn line(usage: &TierUsage) -> String {
    format!(
        "after {}: memory {}; volumes {}; images {}",
        usage.tier,
        size(&memory(usage)),
        size(&sum(usage.volumes.values())),
        size(&images(usage))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        for (amount, words) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (12_900_000, "12.3 MiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(amount), words);
        }
    }

    #[test]
    fn a_sum_with_something_missing_is_none() {
        let not = Measured::not("refused");
        assert_eq!(sum([Measured::Amount(1), Measured::Amount(2)].iter()), Measured::Amount(3));
        assert_eq!(sum([Measured::Amount(1), not.clone(), Measured::not("later")].iter()), not);
        assert_eq!((size(&not), time(&Measured::Amount(1500))), ("not measured: refused".into(), "1.50s".into()));
    }
}
