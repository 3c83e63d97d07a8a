//! Whether every name below the zone leads somewhere, as each run has one of its own.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};

use super::{SHORT, Step};

pub(super) const STEP: Step = Step {
    name: "domain",
    needs: &["abra"],
    remedy: |patient| {
        let zone = &patient.zone;
        format!(
            "a DNS record `*.{zone}` that leads to the server, or another `zone` in `harness.toml`; or `swarm.traefik_address` there"
        )
    },
    deadline: SHORT,
    look: |patient| {
        Box::pin(async {
            match patient.https.address {
                Some(address) => {
                    Ok(format!("`*.{}` is not asked for: `swarm.traefik_address` says {address}", patient.zone))
                }
                None => resolve(&probe(&patient.zone)).await,
            }
        })
    },
};

/// A name that nobody has asked for before, so that no single record can answer for a wildcard.
pub(super) fn probe(zone: &str) -> String {
    format!("doctor-{:06x}.{zone}", rand::random::<u32>() & 0xff_ffff)
}

async fn resolve(name: &str) -> Result<String> {
    let found = tokio::net::lookup_host((name, 443)).await;
    let found = found.with_context(|| format!("failed to look `{name}` up in the DNS"))?;
    let addresses: BTreeSet<String> = found.map(|address| address.ip().to_string()).collect();
    ensure!(!addresses.is_empty(), "`{name}` leads nowhere");
    Ok(format!("`{name}` leads to {}", addresses.into_iter().collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_leads_somewhere_or_the_error_names_it() {
        let seen = resolve("localhost").await.unwrap();
        assert!(seen.starts_with("`localhost` leads to ") && seen.contains("127.0.0.1"), "{seen}");
        let error = resolve("x.invalid").await.unwrap_err().to_string();
        assert_eq!(error, "failed to look `x.invalid` up in the DNS");
        assert_ne!(probe("example.org"), probe("example.org"));
    }
}
