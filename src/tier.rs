//! The five tiers, in the one order in which they run.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A stage of an app's life that a run proves. The order of the variants is the order of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// The base version is deployed.
    Install,
    /// The head is deployed over it, in place.
    Upgrade,
    /// A snapshot is made by the recipe's backup labels.
    Backup,
    /// That very snapshot is put back.
    Restore,
    /// No operation: what the recipe's own assertions want to see at the end.
    Custom,
}

impl Tier {
    pub const ALL: [Tier; 5] = [Tier::Install, Tier::Upgrade, Tier::Backup, Tier::Restore, Tier::Custom];

    /// The name as it stands in file names, flags and trial names.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Install => "install",
            Tier::Upgrade => "upgrade",
            Tier::Backup => "backup",
            Tier::Restore => "restore",
            Tier::Custom => "custom",
        }
    }

    /// Whether the harness performs an operation here; `custom` has none.
    pub fn has_operation(self) -> bool {
        self != Tier::Custom
    }

    /// 0 for install, 4 for custom.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Tier {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Tier::ALL
            .into_iter()
            .find(|tier| tier.name() == text)
            .ok_or_else(|| anyhow!("unknown tier `{text}`: the tiers are {}", Tier::ALL.map(Tier::name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiers_run_in_the_order_of_an_apps_life() {
        let mut sorted = Tier::ALL;
        sorted.sort();
        assert_eq!(sorted, Tier::ALL);
        assert_eq!(Tier::ALL.map(Tier::index), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_name_is_read_back_and_an_unknown_one_lists_the_tiers() {
        assert_eq!("backup".parse::<Tier>().unwrap(), Tier::Backup);
        let error = "Backup".parse::<Tier>().unwrap_err().to_string();
        assert_eq!(error, "unknown tier `Backup`: the tiers are install, upgrade, backup, restore, custom");
    }
}
