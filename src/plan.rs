//! What a run will do, and why anything is left out. Pure: the same facts give the same plan, and nothing is touched.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::recipe::name::RecipeName;
use crate::recipe::version::{Base, Revision, Version};
use crate::tier::Tier;

/// The whole plan of one recipe's run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub recipe: RecipeName,
    /// Where the recipe came from, for people.
    pub source: String,
    pub head: Revision,
    /// The version that install deploys; `None` when it deploys the head itself.
    pub base: Option<Version>,
    /// The selected tiers, in order.
    pub steps: Vec<Step>,
    /// Tiers whose generic assertions are left out, because somebody asked for it.
    pub skip_generic: BTreeSet<Tier>,
    /// What a reader should know beforehand.
    pub notes: Vec<String>,
}

/// One selected tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub tier: Tier,
    pub action: Action,
}

/// What happens in a tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// An operation, said in a few words.
    Operate(String),
    /// No operation, only assertions.
    Observe,
    Skip(Skip),
}

/// Why a tier proves nothing this time. A skip is never a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Skip {
    pub kind: SkipKind,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SkipKind {
    /// Declared in `recipe.toml`, with a reason.
    Intended,
    /// Nobody said that this tier cannot be proven; it just was not.
    Unverified,
}

impl Skip {
    /// As it stands beside a tier: what nobody has decided is told louder.
    pub fn said(&self) -> String {
        match self.kind {
            SkipKind::Intended => format!("skipped, {self}"),
            SkipKind::Unverified => format!("NOT TESTED, {self}"),
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.reason)
    }
}

impl fmt::Display for SkipKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SkipKind::Intended => "intended",
            SkipKind::Unverified => "unverified",
        })
    }
}

/// What a plan is made from, all of it known before anything is created.
pub struct Facts<'a> {
    pub recipe: &'a RecipeName,
    pub source: &'a str,
    pub head: &'a Revision,
    pub base: &'a Base,
    /// Whether the head carries backup labels. The head decides, because labels may be new in it.
    pub has_backup: bool,
    pub tiers: &'a BTreeSet<Tier>,
    /// From `recipe.toml`: tier and reason.
    pub declared_skips: &'a std::collections::BTreeMap<Tier, String>,
    pub skip_generic: &'a BTreeSet<Tier>,
    pub notes: Vec<String>,
}

impl Plan {
    pub fn make(facts: Facts<'_>) -> Result<Self> {
        if !facts.tiers.contains(&Tier::Install) {
            bail!("the tier `install` deploys the app that every other tier needs: select it, too");
        }
        if facts.tiers.contains(&Tier::Restore) && !facts.tiers.contains(&Tier::Backup) {
            bail!("the tier `restore` puts back what the tier `backup` made: select both, or neither");
        }
        let base = match facts.base {
            Base::Version(version) if upgrades(&facts) => Some(version.clone()),
            _ => None,
        };
        let steps =
            facts.tiers.iter().map(|&tier| Step { tier, action: action(tier, &facts, base.as_ref()) }).collect();
        Ok(Plan {
            recipe: facts.recipe.clone(),
            source: facts.source.to_owned(),
            head: facts.head.clone(),
            base,
            steps,
            skip_generic: facts.skip_generic.clone(),
            notes: facts.notes,
        })
    }

    /// The step of a tier, if the tier was selected.
    pub fn step(&self, tier: Tier) -> Option<&Step> {
        self.steps.iter().find(|step| step.tier == tier)
    }

    /// Why a tier is skipped, if it is.
    pub fn skip(&self, tier: Tier) -> Option<&Skip> {
        match self.step(tier).map(|step| &step.action) {
            Some(Action::Skip(skip)) => Some(skip),
            _ => None,
        }
    }

    /// `1.10.0+1.27.4 → 9a1b2c3d`, or the head alone when nothing is upgraded.
    pub fn versions(&self) -> String {
        match &self.base {
            Some(base) => format!("{base} → {}", self.head),
            None => format!("{} (no upgrade)", self.head),
        }
    }
}

/// Whether this run upgrades at all; if not, install deploys the head, which is what is under test.
fn upgrades(facts: &Facts<'_>) -> bool {
    facts.tiers.contains(&Tier::Upgrade) && !facts.declared_skips.contains_key(&Tier::Upgrade)
}

fn action(tier: Tier, facts: &Facts<'_>, base: Option<&Version>) -> Action {
    if let Some(reason) = facts.declared_skips.get(&tier) {
        return Action::Skip(Skip { kind: SkipKind::Intended, reason: reason.clone() });
    }
    let unverified = |reason: String| Action::Skip(Skip { kind: SkipKind::Unverified, reason });
    match tier {
        Tier::Install => match base {
            Some(base) => Action::Operate(format!("deploy {base}")),
            None => Action::Operate(format!("deploy the head {}", facts.head)),
        },
        Tier::Upgrade => match facts.base {
            Base::Version(_) => Action::Operate(format!("redeploy the head {} in place", facts.head)),
            Base::None { reason } => unverified(reason.clone()),
        },
        Tier::Backup | Tier::Restore if !facts.has_backup => {
            unverified("the head has no `backupbot.backup` label in any service's `deploy.labels`".into())
        }
        // Without labels there is no snapshot either way; a declared skip of the backup takes the restore with it.
        Tier::Restore => match facts.declared_skips.get(&Tier::Backup) {
            Some(reason) => Action::Skip(Skip { kind: SkipKind::Intended, reason: reason.clone() }),
            None => Action::Operate("restore that very snapshot".into()),
        },
        Tier::Backup => Action::Operate("create a snapshot by the recipe's labels".into()),
        Tier::Custom => Action::Observe,
    }
}

impl fmt::Display for Plan {
    /// The part of `--plan` that is about the tiers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "recipe   {} from {}", self.recipe, self.source)?;
        writeln!(f, "versions {}", self.versions())?;
        for step in &self.steps {
            let what = match &step.action {
                Action::Operate(what) => what.clone(),
                Action::Observe => "no operation, assertions only".into(),
                Action::Skip(skip) => skip.said(),
            };
            writeln!(f, "{:<8} {what}", step.tier.name())?;
        }
        Ok(())
    }
}
