//! The policy's limits for services that state none: a service without any may take what the machine has.

use serde_json::{Map, Value, json};

use super::super::stack::Stack;
use super::{Limit, Policy};

/// Log files of a task that together may have what the policy allows.
const FILES: u64 = 2;

impl Policy {
    /// Gives every service of a document the most that this policy allows of memory and logs, where it states nothing.
    ///
    /// Processors are left alone: Docker refuses a limit beyond what a machine has. What else a policy limits is bounded
    /// by default.
    pub fn cap(&self, document: &mut Value) {
        for (_, service) in document.get_mut("services").and_then(Value::as_object_mut).into_iter().flatten() {
            let memory = Limit::Memory.of(self).saturating_mul(1 << 20).to_string();
            default(service, &["deploy", "resources", "limits"], "memory", memory.into());
            logs(service, Limit::Logs.of(self));
        }
    }

    /// The same for the engine that reads the stack: the most of memory and processors.
    pub fn capped_stack(&self, mut stack: Stack) -> Stack {
        for limits in stack.services.values_mut().map(|service| &mut service.deploy.limits) {
            limits.memory = limits.memory.or(Some(Limit::Memory.of(self).saturating_mul(1 << 20)));
            limits.cpus = limits.cpus.or(Some(Limit::Cpus.of(self)));
        }
        stack
    }

    /// What the header of a run says of a document's services that get a limit; `None` when each states its own.
    pub fn capped(&self, document: &Value) -> Option<String> {
        let mut capped = document.clone();
        self.cap(&mut capped);
        let services = document.get("services").and_then(Value::as_object);
        let names =
            services.into_iter().flatten().filter(|(name, service)| capped["services"][name.as_str()] != **service);
        let names: Vec<String> = names.map(|(name, _)| format!("`{name}`")).collect();
        let (memory, logs) = (Limit::Memory.of(self), Limit::Logs.of(self));
        (!names.is_empty()).then(|| {
            format!(
                "{} may have {memory} MiB of memory and {logs} MiB of logs, as far as the recipe states no limit",
                names.join(", ")
            )
        })
    }
}

/// Logs of no stated size grow for ever, but those of the driver `local`.
fn logs(service: &mut Value, mebibytes: u64) {
    let logging = service.get("logging").cloned().unwrap_or_default();
    let driver = logging.get("driver").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !["", "json-file"].contains(&driver.as_str()) {
        return;
    }
    if driver.is_empty() {
        // Which driver a daemon takes by itself is its own affair, and with it which options there are.
        default(service, &["logging"], "driver", "json-file".into());
    }
    let files = logging.get("options").and_then(|options| options.get("max-file")).map(text);
    let files = files.and_then(|files| files.parse::<u64>().ok());
    if files.is_none() {
        default(service, &["logging", "options"], "max-file", FILES.to_string().into());
    }
    let each = (mebibytes / files.unwrap_or(FILES).max(1)).max(1);
    default(service, &["logging", "options"], "max-size", format!("{each}m").into());
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Sets a key below others, unless it says something already.
fn default(service: &mut Value, path: &[&str], key: &str, value: Value) {
    let mut at = service;
    for part in path {
        if !at.is_object() {
            return;
        }
        at = &mut at[*part];
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
    }
    // Docker reads a limit of nothing as none.
    if at.get(key).is_none_or(|said| said.is_null() || [json!(""), json!("0"), json!(0)].contains(said)) {
        at[key] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capped(service: Value) -> Value {
        let mut document = json!({ "services": { "app": service } });
        Policy::default().cap(&mut document);
        document["services"]["app"].take()
    }

    #[test]
    fn a_service_without_limits_gets_those_of_the_policy() {
        let expected = json!({
            "image": "x",
            "deploy": { "resources": { "limits": { "memory": "8589934592" } } },
            "logging": { "driver": "json-file", "options": { "max-file": "2", "max-size": "512m" } },
        });
        assert_eq!(capped(json!({ "image": "x" })), expected);
        let policy = Policy { max_memory: Some(64), max_logs: Some(1), ..Policy::default() };
        let mut document = json!({ "services": { "app": { "deploy": null, "logging": null } } });
        policy.cap(&mut document);
        assert_eq!(document["services"]["app"]["deploy"]["resources"]["limits"]["memory"], "67108864");
        assert_eq!(document["services"]["app"]["logging"]["options"]["max-size"], "1m");
        let nothing = json!({ "deploy": { "resources": { "limits": { "memory": "0" } } } });
        assert_eq!(capped(nothing)["deploy"]["resources"]["limits"]["memory"], "8589934592");
    }

    #[test]
    fn what_a_recipe_states_stays() {
        let own = json!({
            "deploy": { "replicas": 2, "resources": { "limits": { "memory": "64", "cpus": "1" }, "reservations": { "memory": "32" } } },
            "logging": { "driver": "json-file", "options": { "max-size": "1m", "max-file": "3" } },
        });
        assert_eq!(capped(own.clone()), own);
        // Its size belongs to its files.
        let files = capped(json!({ "logging": { "options": { "max-file": "4", "labels": "x" } } }));
        let options = json!({ "max-file": "4", "max-size": "256m", "labels": "x" });
        assert_eq!(files["logging"], json!({ "driver": "json-file", "options": options }));
        for driver in ["none", "local", "syslog"] {
            let logging = json!({ "driver": driver });
            assert_eq!(capped(json!({ "logging": logging }))["logging"], logging);
        }
    }

    #[test]
    fn the_header_names_whom_it_concerns() {
        let stated = json!({
            "deploy": { "resources": { "limits": { "memory": "64" } } },
            "logging": { "driver": "none" },
        });
        let document = json!({ "services": { "app": { "image": "x" }, "db": stated } });
        assert_eq!(
            Policy::default().capped(&document).as_deref(),
            Some("`app` may have 8192 MiB of memory and 1024 MiB of logs, as far as the recipe states no limit")
        );
        assert_eq!(Policy::default().capped(&json!({ "services": { "db": stated } })), None);
        assert_eq!(Policy::default().capped(&json!({})), None);
    }
}
