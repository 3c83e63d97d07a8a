//! The time that stands in a record.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

/// The wall clock's time when this process wrote its first record, and what has passed since: a clock that is set
/// meanwhile, or jumps, would turn lengths of time into nonsense. What passes while the machine sleeps counts.
pub fn now() -> String {
    static FIRST: LazyLock<(SystemTime, Duration)> = LazyLock::new(|| (SystemTime::now(), uptime()));
    let (first, then) = *FIRST;
    humantime::format_rfc3339_millis(first + uptime().saturating_sub(then)).to_string()
}

/// Time since the machine was started.
fn uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
