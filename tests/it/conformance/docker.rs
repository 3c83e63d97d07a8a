//! What the suite asks Docker itself, past the engine.

use anyhow::{Context as _, Result, ensure};
use harness::engine::swarm::endpoint::Endpoint;
use harness::engine::swarm::{SwarmSpec, Wanted, preflight};
use harness::process::Run;
use harness::recipe::stack::{Service, Stack};
use once_cell::sync::OnceCell;

/// The images that the cases deploy.
const IMAGES: [&str; 3] = ["nginx:1.27.4", "nginx:1.27.5", "nginx:1.28.0"];

/// The Swarm of this machine, looked for once; the error is why nothing can be deployed to it.
pub fn swarm() -> Result<SwarmSpec, String> {
    static FOUND: OnceCell<Result<SwarmSpec, String>> = OnceCell::new();
    FOUND.get_or_init(|| find().map_err(|error| format!("{error:#}").replace('\n', " "))).clone()
}

fn find() -> Result<SwarmSpec> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let endpoint = Endpoint::find(&|key| std::env::var(key).ok())?;
    let service = |image: &str| (image.to_owned(), Service { image: image.to_owned(), ..Service::default() });
    let images = Stack { services: IMAGES.map(service).into(), ..Stack::default() };
    // First without the images, whose absence has a remedy of its own.
    let found = runtime.block_on(preflight(endpoint.clone(), &Wanted { stacks: Vec::new(), as_it_is: false }))?;
    let with_images = runtime.block_on(preflight(endpoint, &Wanted { stacks: vec![&images], as_it_is: false }));
    with_images.context("the test images are not here: `scripts/test-images` builds them")?;
    Ok(found.spec)
}

/// Everything on the Swarm that carries the stack's label, or its name.
pub async fn left_of(stack: &str) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for (kind, name) in [
        ("service", "{{.Name}}"),
        ("container", "{{.Names}}"),
        ("network", "{{.Name}}"),
        ("volume", "{{.Name}}"),
        ("config", "{{.Name}}"),
        ("secret", "{{.Name}}"),
    ] {
        let all = if kind == "container" { &["--all"][..] } else { &[] };
        let label = format!("label=com.docker.stack.namespace={stack}");
        for filter in [label, format!("name={stack}_")] {
            let arguments = [&[kind, "ls", "--format", name, "--filter", &filter], all].concat();
            left.extend(docker(&arguments).await?.lines().map(|name| format!("{kind} {name}")));
        }
    }
    Ok(left)
}

async fn docker(arguments: &[&str]) -> Result<String> {
    let output = Run::new("docker", arguments).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.code == 0, "`docker {}` exited with code {}: {said}", arguments.join(" "), output.code);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
