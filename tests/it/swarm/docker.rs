//! What the tests ask Docker themselves, past the harness.

use harness::engine::swarm::{Wanted, endpoint::Endpoint, preflight};
use harness::process::Run;

use crate::runner::{checkout, finish};

/// Why nothing can be tested here; `None` when a Swarm and the test images are there.
pub fn missing() -> Option<String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let endpoint = Endpoint::find(&|key| std::env::var(key).ok());
    let swarm = endpoint
        .and_then(|endpoint| runtime.block_on(preflight(endpoint, &Wanted { stacks: Vec::new(), as_it_is: false })));
    if let Err(error) = swarm {
        return Some(format!("{error:#}").replace('\n', " "));
    }
    let script = checkout().join("scripts/test-images");
    let images = finish(&Run::new(script, ["--check"]));
    (images.code != 0).then(|| "the test images are not here: `scripts/test-images` builds them".to_owned())
}

/// Everything on the Swarm whose name begins like this: services, containers, networks, volumes, configs, secrets.
pub fn named(prefix: &str) -> Vec<String> {
    named_at(None, prefix)
}

/// The same on the Swarm at an address.
pub fn named_at(host: Option<&str>, prefix: &str) -> Vec<String> {
    let host: Vec<&str> = host.map(|host| ["--host", host]).into_iter().flatten().collect();
    let mut found = Vec::new();
    for (kind, format) in [
        ("service", "{{.Name}}"),
        ("container", "{{.Names}}"),
        ("network", "{{.Name}}"),
        ("volume", "{{.Name}}"),
        ("config", "{{.Name}}"),
        ("secret", "{{.Name}}"),
    ] {
        let all = if kind == "container" { &["--all"][..] } else { &[] };
        let listed = docker([&host, &[kind, "ls", "--format", format][..], all].concat());
        let names = listed.lines().filter(|name| name.starts_with(prefix));
        found.extend(names.map(|name| format!("{kind} {name}")));
    }
    found
}

/// Runs the docker CLI and returns what it says.
pub fn docker(arguments: Vec<&str>) -> String {
    let output = harness::process::command("docker").args(&arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?} says {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The stack's name, from the domain in the header of a run.
pub fn stack(stderr: &str) -> String {
    let domain = stderr.lines().find_map(|line| line.strip_prefix("domain   "));
    domain.unwrap_or_else(|| panic!("no domain in:\n{stderr}")).replace('.', "_")
}
