//! Generated compose files: docker and the loader read them alike, or refuse them alike.
//!
//! `CASES=5000 cargo test compose::generated` looks further than the few that every run looks at. Which files are made
//! is the same in each run.

mod services;

use std::path::Path;

use harness::recipe::compose;
use harness::recipe::env::AppEnv;
use harness::recipe::tree::{Entry, Tree};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::corpus::is_stricter;
use super::difference::differences;
use super::docker::{self, DOCKER, Docker};

/// Compose files `0.yml`, `1.yml`, … and the variables they are read with.
#[derive(Clone, Debug)]
struct Files {
    texts: Vec<String>,
    variables: Vec<(&'static str, &'static str)>,
    /// Docker must also read what the loader would deploy of them.
    deployed: bool,
}

#[test]
fn files_with_many_services_are_merged_alike() {
    // Each has six services, so that few calls of docker see many.
    agree("merged", 40, services::files(6));
}

#[test]
fn what_is_wrong_is_refused_alike() {
    agree("wrong", 100, services::with_one_value_out_of_place());
}

#[test]
fn variables_are_replaced_alike() {
    let fragments =
        ["$", "$$", "${", "}", "X", "EMPTY", "NONE", ":-", "-", ":?", "?", ":", "+", "d", " ", ".", "1", "ä"];
    let template = prop::collection::vec(select(fragments.to_vec()), 1..9).prop_map(|fragments| fragments.concat());
    let files = prop::collection::vec(template, 1..3).prop_map(|templates| {
        let list = templates.iter().map(|template| quoted(template)).collect::<Vec<_>>().join(", ");
        with_service(&format!("command: [{list}]"))
    });
    agree("variables", 80, files);
}

#[test]
fn small_languages_are_read_alike() {
    let places: &[(&str, &[&str])] = &[
        ("command: @", &["a", "b", " ", "'", "\"", "\\", "#", "\t", "é"]),
        ("stop_grace_period: @", &["1", "20", "0", ".", "5", "h", "m", "s", "ms", "us", "µs", "ns", "-", "+", " "]),
        (
            "deploy: {resources: {limits: {memory: @}}}",
            &["1", "64", ".", "5", "k", "M", "g", "b", "iB", " ", "e3", "-"],
        ),
        ("ports: [@]", &["80", "8", "-", "9", ":", "127.0.0.1:", "[::1]:", "0", "/tcp", "/UDP", "/", "65536"]),
        ("volumes: [@]", &["data", "d", ":", "/", "/x", ".", "./y", "~", "ro", "nocopy", "rslave", ",", "z", "\\"]),
        ("environment: [@]", &["A", "=", "B", " ", "$$", "X", "é"]),
        ("extra_hosts: [@]", &["h", "=", ":", "1.2.3.4", "[", "]", "::1", " "]),
    ];
    let place = select(places).prop_flat_map(|(place, fragments)| {
        let text = prop::collection::vec(select(fragments), 0..6).prop_map(|fragments| fragments.concat());
        text.prop_map(move |text| with_service(&place.replace('@', &quoted(&text))))
    });
    agree("small languages", 100, place);
}

#[test]
fn plain_scalars_are_read_alike() {
    let fragments = [
        "0", "1", "8", "12", "_", ".", "x", "o", "b", "-", "+", ":", "2024", "2024-1-", "a", "true", "null", "~",
        "!!str ",
    ];
    let digits = prop::collection::vec(select(fragments.to_vec()), 1..6).prop_map(|fragments| fragments.concat());
    let scalar = (digits, select(&["", "", "e3", "E-7", "e+08"][..])).prop_map(|(digits, end)| digits + end);
    let files = prop::collection::vec(scalar, 1..4).prop_map(|scalars| {
        let lines: String =
            scalars.iter().enumerate().map(|(index, scalar)| format!("      A{index}: {scalar}\n")).collect();
        Files {
            texts: vec![format!("services:\n  a:\n    image: i\n    environment:\n{lines}")],
            variables: vec![],
            deployed: false,
        }
    });
    agree("plain scalars", 60, files);
}

/// A file with one service, which has these lines, and variables to be replaced in it.
fn with_service(line: &str) -> Files {
    let text = format!("services: {{a: {{image: i, {line}}}}}\nvolumes: {{data: {{}}, d: {{}}}}\n");
    Files { texts: vec![text], variables: vec![("X", "x"), ("EMPTY", ""), ("HOME", "/home/x")], deployed: false }
}

/// A text in YAML's double quotes.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Lets docker and the loader read as many of these files as are asked for.
fn agree(what: &str, cases: u32, files: impl Strategy<Value = Files>) {
    let Some(docker) = DOCKER.as_ref() else {
        return docker::missing(&format!("whether the loader agrees with docker on generated files ({what})"));
    };
    let cases = std::env::var("CASES").map_or(cases, |cases| cases.parse().unwrap());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let scratch = tempfile::tempdir().unwrap();
    let result = runner.run(&files, |files| {
        let told = files.disagreements(docker, scratch.path());
        prop_assert!(told.is_empty(), "{}", told.join("\n"));
        Ok(())
    });
    if let Err(TestError::Fail(reason, files)) = result {
        panic!("{}\n{:?}\n{reason}", files.texts.join("\n---\n"), files.variables);
    }
    result.unwrap();
}

impl Files {
    /// What docker and the loader disagree about.
    fn disagreements(&self, docker: &Docker, dir: &Path) -> Vec<String> {
        let names: Vec<String> = (0..self.texts.len()).map(|index| format!("{index}.yml")).collect();
        let (mut tree, mut env) = (Tree::default(), AppEnv::default());
        for (name, text) in names.iter().zip(&self.texts) {
            std::fs::write(dir.join(name), text).unwrap();
            tree.files.insert(name.clone(), Entry::File { bytes: text.clone().into_bytes(), executable: false });
        }
        env.set("COMPOSE_FILE", names.join(":"));
        self.variables.iter().for_each(|(key, value)| env.set(key, *value));
        let theirs = docker.config(dir, &names, env.iter());
        let ours = compose::load(&tree, &env).map_err(|error| format!("{error:#}"));
        match (theirs, ours) {
            (Ok(theirs), Ok(ours)) if self.deployed => {
                let deployed = harness::recipe::compose::for_stack_deploy(&ours.document).unwrap();
                std::fs::write(dir.join("deployed.yml"), &deployed).unwrap();
                let again = docker.config(dir, &["deployed.yml".into()], []);
                let plain = serde_json::from_str(&deployed.replace("$$", "$")).unwrap();
                let again = again.map_or_else(|error| vec![error], |again| differences(&again, &plain));
                [differences(&theirs, &ours.document), again].concat()
            }
            (Ok(theirs), Ok(ours)) => differences(&theirs, &ours.document),
            (Ok(_), Err(ours)) if is_stricter(&ours) => Vec::new(),
            (Err(_), Err(_)) => Vec::new(),
            (Err(theirs), Ok(_)) => vec![format!("docker says: {theirs}")],
            (Ok(_), Err(ours)) => vec![format!("the loader says: {ours}")],
        }
    }
}
