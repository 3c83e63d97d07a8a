//! Whether there is room for images and volumes.

use anyhow::{Result, ensure};

use super::{SHORT, Step};

/// Some apps have images of several gigabytes, and a run needs those of two versions.
const ENOUGH: u64 = 10 << 30;

pub(super) const STEP: Step = Step {
    name: "disk",
    needs: &["swarm"],
    remedy: |_| "`docker system prune` on the server, or a larger disk".into(),
    deadline: SHORT,
    look: |patient| {
        Box::pin(async {
            let (free, place) = patient.host()?.free_disk().await?;
            judge(free, &place)
        })
    },
};

fn judge(free: u64, place: &str) -> Result<String> {
    let gigabytes = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    ensure!(free >= ENOUGH, "{} are free at {place}, and {} are needed", gigabytes(free), gigabytes(ENOUGH));
    Ok(format!("{} are free at {place}", gigabytes(free)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_room_or_the_error_says_how_much_is_missing() {
        assert_eq!(judge(ENOUGH, "`/x`").unwrap(), "10.0 GiB are free at `/x`");
        let error = judge(ENOUGH / 4, "`/x`").unwrap_err().to_string();
        assert_eq!(error, "2.5 GiB are free at `/x`, and 10.0 GiB are needed");
    }
}
