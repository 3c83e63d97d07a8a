//! What may differ between docker's output and the loader's document, each by name; everything else must be equal.

use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

use super::docker::DIRECTORY;

/// A difference in how the same thing is written, and why. `even` takes it out of docker's side or of the loader's.
struct Allowed {
    name: &'static str,
    reason: &'static str,
    even: fn(docker: &mut Value, ours: &mut Value),
}

const ALLOWED: &[Allowed] = &[
    Allowed {
        name: "extensions",
        reason: "docker prints `x-` blocks; no engine reads them, so the loader drops them",
        even: |docker, _| {
            for section in ["services", "networks", "volumes", "secrets", "configs"] {
                docker.get_mut(section).into_iter().flat_map(entries).for_each(drop_extensions);
            }
            drop_extensions(docker);
        },
    },
    Allowed {
        name: "env_file",
        reason: "both put its variables into `environment`; docker prints the key as well",
        even: |docker, _| {
            for service in docker.get_mut("services").into_iter().flat_map(entries) {
                service.as_object_mut().into_iter().for_each(|service| drop(service.remove("env_file")));
            }
        },
    },
    Allowed {
        name: "version",
        reason: "docker fills in its newest version, which an older docker that deploys would refuse",
        even: |docker, ours| {
            if docker["version"] == "3.13" && ours.get("version").is_none_or(|version| version == "3") {
                ours["version"] = "3.13".into();
            }
        },
    },
    Allowed {
        name: "ulimits of zero",
        reason: "docker prints `{}` for 0 and leaves a soft or hard limit of 0 out, and then refuses to read that again",
        even: |_, ours| {
            for service in ours.get_mut("services").into_iter().flat_map(entries) {
                for limit in service.get_mut("ulimits").into_iter().flat_map(entries) {
                    match limit {
                        Value::Object(limit) => limit.retain(|_, value| *value != 0),
                        limit if *limit == 0 => *limit = json!({}),
                        _ => {}
                    }
                }
            }
        },
    },
    Allowed {
        name: "paths",
        reason: "docker makes paths absolute; the loader keeps them inside of the recipe, which lies elsewhere each time",
        even: |_, ours| {
            for section in ["secrets", "configs"] {
                let objects = ours.get_mut(section).into_iter().flat_map(entries);
                objects.filter_map(|object| object.get_mut("file")).for_each(make_absolute);
            }
            for service in ours.get_mut("services").into_iter().flat_map(entries) {
                let mounts = service.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten();
                let binds = mounts.filter(|mount| mount["type"] == "bind");
                binds.filter_map(|mount| mount.get_mut("source")).for_each(make_absolute);
            }
        },
    },
];

/// How docker's document and the loader's differ, a line for each place.
pub fn differences(docker: &str, ours: &Value) -> Vec<String> {
    let mut ours = ours.clone();
    let mut docker = match parse(docker) {
        Ok(docker) => docker,
        Err(error) => return vec![error],
    };
    for allowed in ALLOWED {
        (allowed.even)(&mut docker, &mut ours);
    }
    plain_differences(&docker, &ours)
}

/// How two documents differ, with nothing allowed.
pub fn plain_differences(docker: &Value, other: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    compare("", docker, other, &mut lines);
    lines
}

/// Docker's output as a value. It is read by another crate than the loader's, so that one cannot cover up for the other.
pub fn parse(docker: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(docker, options).map_err(|error| error.to_string())
}

fn compare(path: &str, docker: &Value, ours: &Value, lines: &mut Vec<String>) {
    match (docker, ours) {
        (Value::Object(docker), Value::Object(ours)) => {
            let mut keys: Vec<&String> = docker.keys().chain(ours.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                match (docker.get(key), ours.get(key)) {
                    (Some(docker), Some(ours)) => compare(&format!("{path}.{key}"), docker, ours, lines),
                    (docker, ours) => lines.push(line(&format!("{path}.{key}"), docker, ours)),
                }
            }
        }
        (Value::Array(docker), Value::Array(ours)) if docker.len() == ours.len() => {
            for (index, (docker, ours)) in docker.iter().zip(ours).enumerate() {
                compare(&format!("{path}[{index}]"), docker, ours, lines);
            }
        }
        // `1` and `1.0` are one number.
        (Value::Number(docker), Value::Number(ours)) if docker.as_f64() == ours.as_f64() => {}
        _ if docker == ours => {}
        _ => lines.push(line(path, Some(docker), Some(ours))),
    }
}

fn line(path: &str, docker: Option<&Value>, ours: Option<&Value>) -> String {
    let shown = |value: Option<&Value>| value.map_or_else(|| "nothing".into(), Value::to_string);
    format!("`{}`: docker has {}, the other {}", path.trim_start_matches('.'), shown(docker), shown(ours))
}

fn entries(map: &mut Value) -> impl Iterator<Item = &mut Value> {
    map.as_object_mut().into_iter().flat_map(|map| map.values_mut())
}

fn drop_extensions(object: &mut Value) {
    object.as_object_mut().into_iter().for_each(|object| object.retain(|key, _| !key.starts_with("x-")));
}

/// Go's `filepath.Join`, for a path that is not absolute.
fn make_absolute(path: &mut Value) {
    let text = path.as_str().unwrap();
    if text.starts_with('/') {
        return;
    }
    let mut clean = PathBuf::from("/");
    for component in Path::new(DIRECTORY).join(text).components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            Component::Normal(part) => clean.push(part),
            _ => {}
        }
    }
    *path = clean.to_str().unwrap().into();
}

#[test]
fn a_difference_is_named_with_its_place() {
    let docker = "version: '3.8'\nservices: {a: {image: i, ports: [{target: 1}], tty: true}}\n";
    let ours = json!({"version": "3.8", "services": {"a": {"image": "j", "ports": [{"target": 2.0}], "init": true}}});
    assert_eq!(
        differences(docker, &ours),
        [
            "`services.a.image`: docker has \"i\", the other \"j\"",
            "`services.a.init`: docker has nothing, the other true",
            "`services.a.ports[0].target`: docker has 1, the other 2.0",
            "`services.a.tty`: docker has true, the other nothing",
        ]
    );
}

#[test]
fn every_allowed_difference_is_met_by_the_corpus() {
    for allowed in ALLOWED {
        let met = super::corpus::cases().iter().any(|case| {
            let Ok((docker, ours)) = case.both() else { return false };
            let before = (parse(&docker).unwrap(), ours);
            let mut after = before.clone();
            (allowed.even)(&mut after.0, &mut after.1);
            before != after
        });
        assert!(met, "no case has the difference `{}` ({}): take it off the list", allowed.name, allowed.reason);
    }
}
