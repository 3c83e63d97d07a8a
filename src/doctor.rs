//! `harness doctor`: whether a server is ready for runs through abra, step by step, with a remedy beside each failing
//! line. What could not be looked at is no pass.

mod abra;
mod backup_bot;
mod certificate;
mod disk;
mod domain;
mod images;
mod network;
mod server;
mod swarm;
mod traefik;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Result;

use crate::config::files::{self, HarnessToml};
use crate::config::{self, Https};
use crate::engine::swarm::endpoint::Endpoint;
use crate::engine::swarm::host::Host;

/// The steps, each of which may build on what earlier ones have found.
const STEPS: [&Step; 10] = [
    &abra::STEP,
    &server::STEP,
    &swarm::STEP,
    &network::STEP,
    &traefik::STEP,
    &domain::STEP,
    &certificate::STEP,
    &backup_bot::STEP,
    &disk::STEP,
    &images::STEP,
];

/// One thing that a server must have.
struct Step {
    name: &'static str,
    /// Steps without which this one has nothing to look at.
    needs: &'static [&'static str],
    /// What to do when it fails, with the names that were asked for.
    remedy: fn(&Patient) -> String,
    deadline: Duration,
    /// What was seen, when all is well.
    look: for<'a> fn(&'a mut Patient) -> Look<'a>,
}

type Look<'a> = Pin<Box<dyn Future<Output = Result<String>> + Send + 'a>>;

/// Long enough for a server on the other side of the world.
const SHORT: Duration = Duration::from_secs(30);

/// What was asked for on the command line.
#[derive(Clone, Debug)]
pub struct Asked {
    pub server: Option<String>,
    pub network: String,
    pub image: String,
}

/// What is looked at, and what was found out on the way.
struct Patient {
    asked: Asked,
    env: fn(&str) -> Option<String>,
    zone: String,
    https: Https,
    server: Option<String>,
    endpoint: Option<Endpoint>,
    host: Option<Host>,
}

/// How a step went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Well(String),
    /// What was seen, and what to do.
    Ill(String, String),
    /// The step that would have to be well first.
    NotLooked(&'static str),
}

/// Every step with how it went.
pub struct Examination(Vec<(&'static str, Finding)>);

/// Looks at everything, in order.
pub async fn examine(asked: Asked, env: fn(&str) -> Option<String>, root: &Path) -> Result<Examination> {
    let harness: HarnessToml = files::read(&root.join("harness.toml"))?;
    let mut patient = Patient {
        server: asked.server.clone().or(harness.abra.server.clone()),
        asked,
        env,
        zone: config::zone(harness.zone.as_deref())?,
        https: config::https(&harness),
        endpoint: None,
        host: None,
    };
    let mut findings: BTreeMap<&str, Finding> = BTreeMap::new();
    let mut steps = Vec::new();
    for step in STEPS {
        let finding = find(step, &mut patient, &findings).await;
        findings.insert(step.name, finding.clone());
        steps.push((step.name, finding));
    }
    Ok(Examination(steps))
}

async fn find(step: &Step, patient: &mut Patient, findings: &BTreeMap<&str, Finding>) -> Finding {
    let is_well = |name: &str| matches!(findings.get(name), Some(Finding::Well(_)));
    if let Some(missing) = step.needs.iter().find(|name| !is_well(name)) {
        return Finding::NotLooked(missing);
    }
    match tokio::time::timeout(step.deadline, (step.look)(patient)).await {
        Ok(Ok(seen)) => Finding::Well(seen),
        Ok(Err(error)) => Finding::Ill(format!("{error:#}"), (step.remedy)(patient)),
        Err(_) => {
            let seen = format!("no answer within {}", humantime::format_duration(step.deadline));
            Finding::Ill(seen, (step.remedy)(patient))
        }
    }
}

impl Examination {
    /// Whether every step was looked at and is well.
    pub fn is_well(&self) -> bool {
        self.0.iter().all(|(_, finding)| matches!(finding, Finding::Well(_)))
    }
}

impl fmt::Display for Examination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, finding) in &self.0 {
            match finding {
                Finding::Well(seen) => writeln!(f, "ok      {name:<13}{seen}")?,
                Finding::Ill(seen, remedy) => writeln!(f, "FAILED  {name:<13}{seen}\n        remedy       {remedy}")?,
                Finding::NotLooked(needed) => {
                    writeln!(f, "-       {name:<13}not looked at, because `{needed}` comes first")?
                }
            }
        }
        let well = self.0.iter().filter(|(_, finding)| matches!(finding, Finding::Well(_))).count();
        writeln!(f, "\n{well} of {} steps are well", self.0.len())
    }
}

impl Patient {
    /// Set by the step `swarm`, which every step that asks for it needs.
    fn host(&self) -> Result<&Host> {
        self.host.as_ref().ok_or_else(|| anyhow::anyhow!("there is no connection to the server"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_needs_earlier_ones() {
        for (at, step) in STEPS.iter().enumerate() {
            let earlier: Vec<&str> = STEPS[..at].iter().map(|step| step.name).collect();
            assert!(step.needs.iter().all(|name| earlier.contains(name)), "{}", step.name);
        }
    }

    #[test]
    fn remedies_name_what_was_asked_for() {
        let patient = Patient {
            asked: Asked { server: None, network: "web".into(), image: "busybox:1".into() },
            env: |_| None,
            zone: "ci.example.org".into(),
            https: Https::default(),
            server: None,
            endpoint: None,
            host: None,
        };
        let remedy = |name: &str| (STEPS.iter().find(|step| step.name == name).unwrap().remedy)(&patient);
        assert!(remedy("network").contains("10.64.0.0/16 web`"));
        assert!(remedy("domain").contains("`*.ci.example.org`"));
        assert!(remedy("certificate").contains("`*.ci.example.org`"));
        assert!(remedy("image pulls").contains("`busybox:1`"));
        assert!(STEPS.iter().all(|step| !(step.remedy)(&patient).is_empty()));
    }

    #[test]
    fn what_was_not_looked_at_is_no_pass() {
        let well = Finding::Well("all right".into());
        let whole = Examination(vec![("abra", well.clone())]);
        assert!(whole.is_well());
        assert_eq!(whole.to_string(), "ok      abra         all right\n\n1 of 1 steps are well\n");
        let ill = Finding::Ill("there is none".into(), "get one".into());
        let half = Examination(vec![("abra", well), ("server", ill), ("swarm", Finding::NotLooked("server"))]);
        assert!(!half.is_well());
        assert_eq!(
            half.to_string(),
            "ok      abra         all right\nFAILED  server       there is none\n        remedy       get one\n\
             -       swarm        not looked at, because `server` comes first\n\n1 of 3 steps are well\n"
        );
        assert!(!Examination(vec![("swarm", Finding::NotLooked("server"))]).is_well());
    }
}
