//! The memory of this machine, as its kernel tells it.

/// All of it, in bytes; `None` when nobody can tell.
pub fn total() -> Option<u64> {
    field("MemTotal:")
}

/// What is free or can be made so, in bytes; `None` when nobody can tell.
pub fn available() -> Option<u64> {
    field("MemAvailable:")
}

/// A line of `/proc/meminfo`, which counts in units of 1024 bytes.
fn field(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_more_of_it_than_is_free_and_what_is_not_told_is_none() {
        let (total, available) = (total().unwrap(), available().unwrap());
        assert!(total > available && available > 1 << 20, "{total} {available}");
        assert_eq!(field("MemNobodyHas:"), None);
    }
}
