//! What a finding asks for, which entry of the policy would grant it, and how both are said.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Policy;

/// Something that a policy has a word in, and where it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub file: String,
    pub line: usize,
    /// `services.app.cap_add[0]`
    pub key: String,
    pub value: String,
    /// What it could do, ready to stand after the value.
    pub why: String,
    pub demand: Demand,
}

/// What has to be granted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Demand {
    /// An entry in one of the policy's lists.
    Entry { list: List, entry: String },
    /// A number that a limit holds down.
    AtMost { limit: Limit, amount: u64 },
    /// Nothing allows it.
    Never,
}

impl Finding {
    /// File, line, key, value, reason, and what would allow it.
    pub(super) fn refused(&self, policy: &Policy) -> String {
        let Finding { file, line, key, value, why, .. } = self;
        let granted = match &self.demand {
            Demand::Entry { list, entry } => would_allow(&format!("{} = [\"{}\"]", list.key(), quoted(entry))),
            Demand::AtMost { limit, amount } => {
                let allowed = limit.shown(limit.of(policy));
                format!("{allowed} is the most; {}", would_allow(&limit.entry(*amount)))
            }
            Demand::Never => "nothing allows it".to_owned(),
        };
        format!("`{file}` line {line}: `{key}` is `{value}`: {why}; {granted}")
    }

    /// For the header of a run.
    pub(super) fn allowed(&self) -> String {
        let Finding { file, line, key, value, .. } = self;
        let by = match &self.demand {
            Demand::Entry { list, .. } => list.key(),
            Demand::AtMost { limit, .. } => limit.key(),
            Demand::Never => "nothing",
        };
        format!("`{key}` is `{value}` (`{file}` line {line}): the policy's `{by}` allows it")
    }
}

fn would_allow(entry: &str) -> String {
    format!("`{entry}` under `[policy]` in this recipe's `recipe.toml`, or in `harness.toml`, would allow it")
}

/// Ready to stand between TOML's double quotes.
fn quoted(text: &str) -> String {
    text.escape_debug().to_string()
}

/// The lists of the policy and their keys: one line for each.
macro_rules! lists {
    ($($list:ident $key:ident,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum List {
            $($list,)*
        }

        impl List {
            pub(super) const ALL: &[List] = &[$(List::$list),*];

            fn key(self) -> &'static str {
                match self {
                    $(List::$list => stringify!($key),)*
                }
            }

            pub(super) fn of(self, policy: &Policy) -> &Vec<String> {
                match self {
                    $(List::$list => &policy.$key,)*
                }
            }

            pub(super) fn of_mut(self, policy: &mut Policy) -> &mut Vec<String> {
                match self {
                    $(List::$list => &mut policy.$key,)*
                }
            }
        }
    };
}

lists! {
    Registries registries,
    Images images,
    Binds binds,
    DriverOpts driver_opts,
    Drivers drivers,
    Volumes volumes,
    Networks networks,
    Configs configs,
    Secrets secrets,
    CapAdd cap_add,
    Sysctls sysctls,
    Isolation isolation,
    Ports ports,
    Hosts hosts,
    Labels labels,
}

impl List {
    pub(super) fn allows(self, policy: &Policy, entry: &str) -> bool {
        self.of(policy).iter().any(|allowed| match allowed.strip_suffix('*') {
            // It stands for rules without a host, and for no host.
            Some("") if self == List::Hosts => entry == "*",
            Some(beginning) => entry.starts_with(beginning),
            None => allowed == entry,
        })
    }
}

/// The limits of the policy: key, default, unit, and why there is one. One line for each.
macro_rules! limits {
    ($($limit:ident $key:ident $default:literal $unit:ident $why:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Limit {
            $($limit,)*
        }

        impl Limit {
            fn key(self) -> &'static str {
                match self {
                    $(Limit::$limit => stringify!($key),)*
                }
            }

            pub(super) fn default(self) -> u64 {
                match self {
                    $(Limit::$limit => $default,)*
                }
            }

            fn unit(self) -> Unit {
                match self {
                    $(Limit::$limit => Unit::$unit,)*
                }
            }

            pub(super) fn why(self) -> &'static str {
                match self {
                    $(Limit::$limit => $why,)*
                }
            }

            /// What the policy itself says, in the limit's unit.
            fn given(self, policy: &Policy) -> Option<u64> {
                match self {
                    $(Limit::$limit => policy.$key.map(Amount::amount),)*
                }
            }
        }

        /// The limits of one policy where it has any, else those of the other.
        pub(super) fn fill_limits(policy: &mut Policy, other: &Policy) {
            $(policy.$key = policy.$key.or(other.$key);)*
        }
    };
}

limits! {
    Replicas max_replicas 5 Count "so many tasks could take the machine from all others",
    Tasks max_tasks 50 Count "so many tasks could take the machine from all others",
    Cpus max_cpus 8000 Thousandths "so much could take the machine from all others",
    Memory max_memory 8192 Mebibytes "so much could take the machine from all others",
    Logs max_logs 1024 Mebibytes "logs of that size could fill the disk",
    StopGrace max_stop_grace 300_000 Milliseconds "nothing could be torn down for so long",
    Duration max_duration 1_800_000 Milliseconds "the run would wait for so long",
}

/// What a limit counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Count,
    /// Of a processor.
    Thousandths,
    Mebibytes,
    Milliseconds,
}

/// What stands in a policy, as a number.
trait Amount {
    fn amount(self) -> u64;
}

impl Amount for u64 {
    fn amount(self) -> u64 {
        self
    }
}

impl Amount for Duration {
    fn amount(self) -> u64 {
        self.as_millis() as u64
    }
}

impl Limit {
    /// The policy's own, else the default. A policy may be stricter than the default, too.
    pub(super) fn of(self, policy: &Policy) -> u64 {
        self.given(policy).unwrap_or_else(|| self.default())
    }

    fn shown(self, amount: u64) -> String {
        match self.unit() {
            Unit::Count => amount.to_string(),
            Unit::Thousandths => format!("{amount} thousandths"),
            Unit::Mebibytes => format!("{amount} MiB"),
            Unit::Milliseconds => humantime::format_duration(Duration::from_millis(amount)).to_string(),
        }
    }

    fn entry(self, amount: u64) -> String {
        match self.unit() {
            Unit::Milliseconds => format!("{} = \"{}\"", self.key(), self.shown(amount)),
            _ => format!("{} = {amount}", self.key()),
        }
    }
}
