//! What a finding asks for, which entry of the policy would grant it, and how both are said.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// The lists of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum List {
    Registries,
    Images,
    Binds,
    DriverOpts,
    Drivers,
    Volumes,
    Networks,
    Configs,
    CapAdd,
    Sysctls,
    Isolation,
    Ports,
    Hosts,
    Labels,
}

impl List {
    pub(super) const ALL: [List; 14] = [
        List::Registries,
        List::Images,
        List::Binds,
        List::DriverOpts,
        List::Drivers,
        List::Volumes,
        List::Networks,
        List::Configs,
        List::CapAdd,
        List::Sysctls,
        List::Isolation,
        List::Ports,
        List::Hosts,
        List::Labels,
    ];

    fn key(self) -> &'static str {
        match self {
            List::Registries => "registries",
            List::Images => "images",
            List::Binds => "binds",
            List::DriverOpts => "driver_opts",
            List::Drivers => "drivers",
            List::Volumes => "volumes",
            List::Networks => "networks",
            List::Configs => "configs",
            List::CapAdd => "cap_add",
            List::Sysctls => "sysctls",
            List::Isolation => "isolation",
            List::Ports => "ports",
            List::Hosts => "hosts",
            List::Labels => "labels",
        }
    }

    pub(super) fn of(self, policy: &Policy) -> &Vec<String> {
        match self {
            List::Registries => &policy.registries,
            List::Images => &policy.images,
            List::Binds => &policy.binds,
            List::DriverOpts => &policy.driver_opts,
            List::Drivers => &policy.drivers,
            List::Volumes => &policy.volumes,
            List::Networks => &policy.networks,
            List::Configs => &policy.configs,
            List::CapAdd => &policy.cap_add,
            List::Sysctls => &policy.sysctls,
            List::Isolation => &policy.isolation,
            List::Ports => &policy.ports,
            List::Hosts => &policy.hosts,
            List::Labels => &policy.labels,
        }
    }

    pub(super) fn of_mut(self, policy: &mut Policy) -> &mut Vec<String> {
        match self {
            List::Registries => &mut policy.registries,
            List::Images => &mut policy.images,
            List::Binds => &mut policy.binds,
            List::DriverOpts => &mut policy.driver_opts,
            List::Drivers => &mut policy.drivers,
            List::Volumes => &mut policy.volumes,
            List::Networks => &mut policy.networks,
            List::Configs => &mut policy.configs,
            List::CapAdd => &mut policy.cap_add,
            List::Sysctls => &mut policy.sysctls,
            List::Isolation => &mut policy.isolation,
            List::Ports => &mut policy.ports,
            List::Hosts => &mut policy.hosts,
            List::Labels => &mut policy.labels,
        }
    }

    pub(super) fn allows(self, policy: &Policy, entry: &str) -> bool {
        self.of(policy).iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(beginning) => entry.starts_with(beginning),
            None => allowed == entry,
        })
    }
}

/// The limits of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    Replicas,
    /// Thousandths of a processor.
    Cpus,
    /// MiB
    Memory,
    /// MiB
    Logs,
    /// Milliseconds
    StopGrace,
    /// Milliseconds
    Duration,
}

impl Limit {
    pub(super) fn default(self) -> u64 {
        match self {
            Limit::Replicas => 5,
            Limit::Cpus => 8000,
            Limit::Memory => 8192,
            Limit::Logs => 1024,
            Limit::StopGrace => 5 * 60_000,
            Limit::Duration => 30 * 60_000,
        }
    }

    /// The policy's own, else the default. A policy may be stricter than the default, too.
    pub(super) fn of(self, policy: &Policy) -> u64 {
        let millis = |duration: Option<Duration>| duration.map(|it| it.as_millis() as u64);
        let given = match self {
            Limit::Replicas => policy.max_replicas,
            Limit::Cpus => policy.max_cpus,
            Limit::Memory => policy.max_memory,
            Limit::Logs => policy.max_logs,
            Limit::StopGrace => millis(policy.max_stop_grace),
            Limit::Duration => millis(policy.max_duration),
        };
        given.unwrap_or_else(|| self.default())
    }

    fn key(self) -> &'static str {
        match self {
            Limit::Replicas => "max_replicas",
            Limit::Cpus => "max_cpus",
            Limit::Memory => "max_memory",
            Limit::Logs => "max_logs",
            Limit::StopGrace => "max_stop_grace",
            Limit::Duration => "max_duration",
        }
    }

    pub(super) fn why(self) -> &'static str {
        match self {
            Limit::Replicas => "so many tasks could take the machine from all others",
            Limit::Cpus | Limit::Memory => "so much could take the machine from all others",
            Limit::Logs => "logs of that size could fill the disk",
            Limit::StopGrace => "nothing could be torn down for so long",
            Limit::Duration => "the run would wait for so long",
        }
    }

    fn shown(self, amount: u64) -> String {
        match self {
            Limit::Replicas => amount.to_string(),
            Limit::Cpus => format!("{amount} thousandths"),
            Limit::Memory | Limit::Logs => format!("{amount} MiB"),
            Limit::StopGrace | Limit::Duration => humantime::format_duration(Duration::from_millis(amount)).to_string(),
        }
    }

    fn entry(self, amount: u64) -> String {
        match self {
            Limit::StopGrace | Limit::Duration => format!("{} = \"{}\"", self.key(), self.shown(amount)),
            _ => format!("{} = {amount}", self.key()),
        }
    }
}

/// A value of the merged document, and the way to it.
#[derive(Clone)]
pub(super) struct Spot<'a> {
    pub(super) value: &'a Value,
    pub(super) path: Vec<String>,
}

impl<'a> Spot<'a> {
    pub(super) fn top(value: &'a Value) -> Self {
        Spot { value, path: Vec::new() }
    }

    /// The value of a key, unless it is missing or says nothing.
    pub(super) fn get(&self, key: &str) -> Option<Spot<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(self.below(key, value))
    }

    fn below(&self, key: &str, value: &'a Value) -> Spot<'a> {
        Spot { value, path: self.path.iter().cloned().chain([key.to_owned()]).collect() }
    }

    /// The entries of a section of the document.
    pub(super) fn section(&self, key: &str) -> impl Iterator<Item = Spot<'a>> + use<'a> {
        self.get(key).into_iter().flat_map(|section| section.parts())
    }

    /// The entries of a mapping or a list.
    pub(super) fn parts(&self) -> Vec<Spot<'a>> {
        match self.value {
            Value::Object(map) => map.iter().map(|(key, value)| self.below(key, value)).collect(),
            Value::Array(list) => {
                list.iter().enumerate().map(|(index, value)| self.below(&index.to_string(), value)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The last part of the way: a name in a section, or a key.
    pub(super) fn name(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    /// The value as text.
    pub(super) fn text(&self) -> String {
        self.value.as_str().map_or_else(|| self.value.to_string(), str::to_owned)
    }

    /// The value for a message: on one line, and not endless.
    pub(super) fn shown(&self) -> String {
        let text: String = self.text().chars().take(200).collect();
        text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
    }

    /// `services.app.cap_add[0]`
    pub(super) fn key(&self) -> String {
        let mut key = String::new();
        for (depth, part) in self.path.iter().enumerate() {
            // Only lists have numbers below a key of the format itself; names of objects stand at the second place.
            let index = depth > 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            key += &match (index, depth) {
                (true, _) => format!("[{part}]"),
                (false, 0) => part.escape_debug().to_string(),
                (false, _) => format!(".{}", part.escape_debug()),
            };
        }
        key
    }
}
