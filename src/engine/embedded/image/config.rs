//! The configuration blob of an image: Docker's and OCI's `config`, Docker's health check included.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Deserializer};

use super::ImageConfig;
use super::manifest::Platform;
use crate::recipe::stack::{HealthTest, Healthcheck};

/// Reads a configuration blob, and fails when the image is for another kind of machine.
pub(super) fn parse(bytes: &[u8]) -> Result<ImageConfig> {
    let blob: Blob = serde_json::from_slice(bytes).context("it is not an image configuration")?;
    let machine = Platform::of_this_machine();
    ensure!(
        blob.platform.runs_on(&machine),
        "the image is made for `{}`, this machine is `{machine}`: build or choose one for this machine",
        blob.platform
    );
    let raw = blob.config.unwrap_or_default();
    Ok(ImageConfig {
        entrypoint: raw.entrypoint,
        cmd: raw.cmd,
        env: raw.env.iter().map(|pair| variable(pair)).collect(),
        working_dir: not_empty(raw.working_dir),
        user: not_empty(raw.user),
        exposed_ports: tcp_ports(raw.exposed_ports.keys())?,
        volumes: raw.volumes.into_keys().collect(),
        healthcheck: raw.healthcheck.map(healthcheck).transpose()?.filter(|check| *check != Healthcheck::default()),
        stop_signal: not_empty(raw.stop_signal),
    })
}

#[derive(Deserialize)]
struct Blob {
    #[serde(flatten)]
    platform: Platform,
    config: Option<Raw>,
}

/// Every field may be missing, and Go writes `null` for an empty one.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Raw {
    #[serde(deserialize_with = "nullable")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    env: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    working_dir: String,
    #[serde(deserialize_with = "nullable")]
    user: String,
    #[serde(deserialize_with = "nullable")]
    exposed_ports: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "nullable")]
    volumes: BTreeMap<String, serde_json::Value>,
    healthcheck: Option<RawHealthcheck>,
    #[serde(deserialize_with = "nullable")]
    stop_signal: String,
}

/// Docker's `HEALTHCHECK`: durations in nanoseconds, 0 meaning "not said".
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RawHealthcheck {
    #[serde(deserialize_with = "nullable")]
    test: Vec<String>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    start_interval: u64,
    retries: u32,
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn not_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn variable(pair: &str) -> (String, String) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    (key.to_owned(), value.to_owned())
}

/// `80/tcp` and `80`; UDP ports are left out, since nothing waits for or publishes them.
fn tcp_ports<'a>(ports: impl Iterator<Item = &'a String>) -> Result<Vec<u16>> {
    let mut found = Vec::new();
    for port in ports {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        if protocol.eq_ignore_ascii_case("tcp") {
            found.push(number.parse().with_context(|| format!("exposed port `{port}` is not a port number"))?);
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn healthcheck(raw: RawHealthcheck) -> Result<Healthcheck> {
    let test = match raw.test.split_first() {
        None => None,
        Some((kind, [])) if kind == "NONE" => Some(HealthTest::None),
        Some((kind, args)) if kind == "CMD" && !args.is_empty() => Some(HealthTest::Cmd(args.to_vec())),
        Some((kind, [line])) if kind == "CMD-SHELL" => Some(HealthTest::Shell(line.clone())),
        Some(_) => bail!("its health check `{:?}` is neither `NONE`, `CMD …` nor `CMD-SHELL <line>`", raw.test),
    };
    let duration = |nanos| (nanos != 0).then(|| Duration::from_nanos(nanos));
    Ok(Healthcheck {
        test,
        interval: duration(raw.interval),
        timeout: duration(raw.timeout),
        start_period: duration(raw.start_period),
        start_interval: duration(raw.start_interval),
        retries: (raw.retries != 0).then_some(raw.retries),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &str) -> Result<ImageConfig> {
        let Platform { os, architecture, .. } = Platform::of_this_machine();
        parse(format!(r#"{{"os":"{os}","architecture":"{architecture}","config":{config}}}"#).as_bytes())
    }

    #[test]
    fn every_field_is_read() {
        let config = check(
            r#"{"Entrypoint":["/entry"],"Cmd":["a","b"],"Env":["PATH=/bin","EQ=a=b","BARE"],"WorkingDir":"/srv",
                "User":"101:101","ExposedPorts":{"8080/tcp":{},"53/udp":{},"80":{}},"Volumes":{"/data":{}},
                "StopSignal":"SIGQUIT","Healthcheck":{"Test":["CMD-SHELL","curl -f x"],"Interval":30000000000,
                "Timeout":3000000000,"StartPeriod":1000000,"StartInterval":2000000,"Retries":3}}"#,
        );
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = ImageConfig {
            entrypoint: vec!["/entry".into()],
            cmd: vec!["a".into(), "b".into()],
            env: vec![pair("PATH", "/bin"), pair("EQ", "a=b"), pair("BARE", "")],
            working_dir: Some("/srv".into()),
            user: Some("101:101".into()),
            exposed_ports: vec![80, 8080],
            volumes: vec!["/data".into()],
            healthcheck: Some(Healthcheck {
                test: Some(HealthTest::Shell("curl -f x".into())),
                interval: Some(Duration::from_secs(30)),
                timeout: Some(Duration::from_secs(3)),
                start_period: Some(Duration::from_millis(1)),
                start_interval: Some(Duration::from_millis(2)),
                retries: Some(3),
            }),
            stop_signal: Some("SIGQUIT".into()),
        };
        assert_eq!(config.unwrap(), expected);
    }

    #[test]
    fn nulls_empty_strings_and_missing_fields_are_the_default() {
        let empty = r#"{"Entrypoint":null,"Cmd":null,"Env":null,"WorkingDir":"","User":"","ExposedPorts":null,
            "Volumes":null,"StopSignal":"","Healthcheck":{"Test":null}}"#;
        for config in [empty, "{}", "null"] {
            assert_eq!(check(config).unwrap(), ImageConfig::default());
        }
    }

    #[test]
    fn a_health_check_may_be_switched_off_or_a_list_of_arguments() {
        let test = |config| check(config).unwrap().healthcheck.unwrap().test.unwrap();
        assert_eq!(test(r#"{"Healthcheck":{"Test":["NONE"]}}"#), HealthTest::None);
        assert_eq!(test(r#"{"Healthcheck":{"Test":["CMD","a","b"]}}"#), HealthTest::Cmd(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn an_unknown_health_check_is_an_error() {
        let error = check(r#"{"Healthcheck":{"Test":["curl","x"]}}"#).unwrap_err();
        let expected = r#"its health check `["curl", "x"]` is neither `NONE`, `CMD …` nor `CMD-SHELL <line>`"#;
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_port_that_is_none_is_an_error() {
        let error = check(r#"{"ExposedPorts":{"http/tcp":{}}}"#).unwrap_err();
        assert_eq!(error.to_string(), "exposed port `http/tcp` is not a port number");
    }

    #[test]
    fn an_image_for_another_machine_is_refused() {
        let error = parse(br#"{"os":"linux","architecture":"pdp11","config":{}}"#).unwrap_err().to_string();
        assert!(error.starts_with("the image is made for `linux/pdp11`, this machine is `linux/"), "{error}");
        let error = parse(b"{}").unwrap_err().to_string();
        assert!(error.starts_with("the image is made for `/`"), "{error}");
    }

    #[test]
    fn something_else_is_no_configuration() {
        assert_eq!(parse(b"<html>").unwrap_err().to_string(), "it is not an image configuration");
    }
}
