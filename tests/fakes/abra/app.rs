//! `abra app new`, `secret`, `deploy` and `undeploy`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use harness::engine::swarm::endpoint::Endpoint;
use harness::engine::swarm::{Swarm, Wanted, preflight};
use harness::engine::{Deployment, EngineContext, Health, Kind, Ledger, ServiceState, TaskPhase, UpdateState};
use harness::recipe::AppState;
use harness::recipe::abra::Form;
use harness::recipe::env::{AppEnv, stack_name};
use harness::recipe::name::RecipeName;
use harness::recipe::tree::{Entry, Tree};
use harness::recipe::version::Revision;

use crate::docker::{docker, git};
use crate::{Call, say};

/// Writes the app's `.env` from the sample, and moves the checkout to the newest release, as abra does.
pub fn new(call: &Call, recipe: &str) -> Result<()> {
    let (domain, server) = (call.option("domain")?, call.option("server")?);
    let dir = call.home.join("recipes").join(recipe);
    if !dir.join(".git").exists() {
        bail!("recipe {recipe} is not in {}", dir.display());
    }
    let servers = call.home.join("servers").join(server);
    if !servers.is_dir() {
        bail!("server {server} does not exist");
    }
    let tags = git(&dir, &["tag", "--sort=-version:refname"])?;
    if let Some(newest) = tags.lines().next() {
        git(&dir, &["checkout", "--quiet", "--force", newest])?;
    }
    let sample = std::fs::read_to_string(dir.join(".env.sample")).unwrap_or_default();
    let mut text = sample.replace(&format!("{recipe}.example.com"), domain);
    text.push_str(&format!("\nTYPE={recipe}\n"));
    std::fs::write(servers.join(format!("{domain}.env")), text)?;
    say(&format!("INFO new app {domain} created"));
    Ok(())
}

/// An app, as its `.env` and the checkout define it.
pub struct App {
    pub state: AppState,
    pub recipe: PathBuf,
}

/// Reads the app's `.env`, and the recipe as it lies in the checkout.
pub fn load(call: &Call, domain: &str, form: Option<Form>) -> Result<App> {
    let (env_file, name) = find(call, domain)?;
    let recipe = call.home.join("recipes").join(&name);
    let name: RecipeName = name.parse()?;
    let tree = tree(&recipe)?;
    let mut env = AppEnv::parse(&std::fs::read_to_string(&env_file)?)?;
    env.set("STACK_NAME", call.stack(domain));
    env.merge_abra_sh(tree.text_if_any("abra.sh")?.unwrap_or_default())?;
    let form = match form {
        Some(form) => form,
        None => Form::Chaos { revision: head(&recipe)? },
    };
    // A name that was cut off is that of a shorter domain.
    let place = call.stack(domain).replace('_', ".");
    let state = AppState::load(&name, &tree, &place, env, &form)?;
    Ok(App { state, recipe })
}

/// The app's `.env`, and the recipe that its `TYPE` names.
fn find(call: &Call, domain: &str) -> Result<(PathBuf, String)> {
    for server in std::fs::read_dir(call.home.join("servers"))? {
        let file = server?.path().join(format!("{domain}.env"));
        if let Ok(text) = std::fs::read_to_string(&file) {
            let env = AppEnv::parse(&text)?;
            let kind = env.get("TYPE").context("the app has no TYPE")?;
            return Ok((file, kind.split(':').next().unwrap_or_default().to_owned()));
        }
    }
    bail!("app {domain} does not exist")
}

fn head(recipe: &Path) -> Result<Revision> {
    let dirty = !git(recipe, &["status", "--porcelain"])?.is_empty();
    let commit = git(recipe, &["rev-parse", "HEAD"])?;
    Ok(Revision { commit, tree: String::new(), dirty, version: None, label: "the checkout".into() })
}

fn tree(dir: &Path) -> Result<Tree> {
    fn walk(root: &Path, dir: &Path, files: &mut BTreeMap<String, Entry>) -> Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with(".git") {
                walk(root, &path, files)?;
            } else if path.is_file() {
                let entry = Entry::File { bytes: std::fs::read(&path)?, executable: false };
                files.insert(path.strip_prefix(root)?.display().to_string(), entry);
            }
        }
        Ok(())
    }
    let mut tree = Tree::default();
    walk(dir, dir, &mut tree.files)?;
    Ok(tree)
}

/// Makes every secret that is not there, and prints the values when asked for a machine's sake.
pub fn generate(call: &Call, domain: &str) -> Result<()> {
    let app = load(call, domain, None)?;
    let mut made = Vec::new();
    for spec in app.state.secrets.iter().filter(|spec| spec.generate) {
        let Some(object) = app.state.stack.secrets.get(&spec.key) else { continue };
        let value = spec.value()?;
        if create_secret(&object.name, value.expose().as_bytes()).is_err() {
            say(&format!("WARN {} already exists", spec.key));
            continue;
        }
        made.push(serde_json::json!({ "name": spec.key, "value": value.expose() }));
    }
    if call.quirk("fails-and-tells-secrets") {
        std::fs::write(call.beside.join("told"), serde_json::to_string(&made)?)?;
        say(&serde_json::to_string(&made)?);
        let values = made.iter().filter_map(|secret| secret["value"].as_str());
        bail!("no room for {}", values.collect::<Vec<_>>().join(" and "));
    }
    if call.has("-m") && !call.quirk("keeps-secrets-to-itself") {
        say(&serde_json::to_string(&made)?);
    }
    Ok(())
}

pub fn insert(domain: &str, name: &str, version: &str, file: &Path) -> Result<()> {
    create_secret(&format!("{}_{name}_{version}", stack_name(domain)), &std::fs::read(file)?)
}

fn create_secret(name: &str, value: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(value)?;
    docker(&["secret", "create", name, file.path().to_str().context("no text")?]).map(|_| ())
}

/// Deploys a version pinned, or what lies in the checkout as chaos, and waits in abra's impatient way.
pub fn deploy(call: &Call, domain: &str, version: Option<&str>) -> Result<()> {
    let (env_file, recipe) = find(call, domain)?;
    let dir = call.home.join("recipes").join(&recipe);
    let form = match version {
        Some(version) => {
            pin(&dir, version)?;
            let text = std::fs::read_to_string(&env_file)?;
            let lines = text.lines().filter(|line| !line.starts_with("TYPE="));
            let text: String = lines.map(|line| format!("{line}\n")).collect();
            std::fs::write(&env_file, format!("{text}TYPE={recipe}:{version}\n"))?;
            Some(Form::Pinned { version: version.to_owned() })
        }
        None if !call.has("-C") => bail!("this would take the newest release: pass a version, or --chaos"),
        None => None,
    };
    let deployed = call.home.join("deployed");
    if version.is_none() && call.quirk("deploys-the-stale-base") {
        let base = std::fs::read_to_string(&deployed).context("nothing was deployed before")?;
        git(&dir, &["checkout", "--quiet", "--force", base.trim()])?;
    }
    let app = load(call, domain, form)?;
    let stack = &app.state.stack;
    if call.quirk("refuses-to-deploy") {
        bail!("R009 the recipe lacks what abra wants");
    }
    let there = docker(&["service", "ls", "--format", "{{.Name}}"])?;
    if there.lines().any(|name| name.starts_with(&format!("{}_", stack.name))) && !call.has("-f") && !call.has("-C") {
        bail!("{domain} is already deployed");
    }
    let secrets = docker(&["secret", "ls", "--format", "{{.Name}}"])?;
    for (key, object) in &stack.secrets {
        if !secrets.lines().any(|name| name == object.name) {
            bail!("secret not generated: {key}");
        }
    }
    std::fs::write(&deployed, git(&app.recipe, &["rev-parse", "HEAD"])?)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(roll_out(call, domain, &app.state))
}

/// A pinned deployment wants a clean checkout and an annotated tag.
fn pin(dir: &Path, version: &str) -> Result<()> {
    if !git(dir, &["status", "--porcelain"])?.is_empty() {
        bail!("{} has locally unstaged changes? please commit/remove your changes before proceeding", dir.display());
    }
    if git(dir, &["cat-file", "-t", version])? != "tag" {
        bail!("R014 only annotated tags used for recipe version");
    }
    git(dir, &["checkout", "--quiet", version]).map(|_| ())
}

struct Silent;

impl Ledger for Silent {
    fn creating(&self, _: Kind, _: &str) -> Result<()> {
        Ok(())
    }

    fn created(&self, _: Kind, _: &str, _: &str) -> Result<()> {
        Ok(())
    }

    fn removed(&self, _: Kind, _: &str) -> Result<()> {
        Ok(())
    }
}

async fn roll_out(call: &Call, domain: &str, state: &AppState) -> Result<()> {
    let endpoint = Endpoint::find(&|key| std::env::var(key).ok())?;
    let checked = preflight(endpoint, &Wanted { stacks: Vec::new(), as_it_is: true }).await?;
    let scratch = tempfile::tempdir()?;
    let context = EngineContext {
        run_id: domain.to_owned(),
        dir: scratch.path().to_owned(),
        image_cache: scratch.path().to_owned(),
        image_map: BTreeMap::new(),
        stack: state.stack.name.clone(),
        domain: domain.to_owned(),
        monitor: std::time::Duration::ZERO,
        ledger: Arc::new(Silent),
    };
    let swarm = Swarm::attach(context, &checked.spec).await?;
    let mut stack = state.stack.clone();
    // They are there by now, and the document names them as what exists.
    let external = std::mem::take(&mut stack.secrets);
    let mut document = state.document.clone();
    for (key, secret) in external {
        document["secrets"][&key] = serde_json::json!({ "external": true, "name": secret.name });
    }
    swarm.deploy(&Deployment { stack, document, secrets: BTreeMap::new(), origin: None }).await?;
    wait(call, &swarm).await
}

/// Believes an update that was rolled back, and gives up on a container whose health check is in its start period.
async fn wait(call: &Call, swarm: &Swarm) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !call.quirk("does-not-wait") {
        let services = swarm.services().await?;
        let starting = |service: &ServiceState| service.wanted().any(|task| task.health == Health::Starting);
        if call.quirk("gives-up-early") && services.iter().any(starting) {
            bail!("deploy failed 🛑");
        }
        if services.iter().all(is_settled) {
            say("INFO deploy succeeded 🟢");
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("deploy timed out 🟠");
        }
        swarm.changed().await;
    }
    Ok(())
}

fn is_settled(service: &ServiceState) -> bool {
    let in_flight = |state| matches!(state, UpdateState::Updating | UpdateState::RollbackStarted);
    let running = service.wanted().filter(|task| task.phase == TaskPhase::Running).count();
    running == service.replicas as usize && !service.update.as_ref().is_some_and(|update| in_flight(update.state))
}

/// Returns before the tasks are gone, and keeps volumes, secrets and configs.
pub fn undeploy(call: &Call, domain: &str) -> Result<()> {
    docker(&["stack", "rm", &call.stack(domain)]).map(|_| ())
}
