//! `install_steps.sh` of an overlay, and of a recipe that is approved: runs once, in a cage, after the app's `.env`
//! exists and before the app is deployed.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use crate::engine::embedded::cage::{Given, How};
use crate::fault::{Failure, Fault};
use crate::keeper::Keeper;
use crate::keeper::read_back::read_back;
use crate::mask::Masks;
use crate::recipe::AppState;
use crate::recipe::env::AppEnv;
use crate::recipe::secret::SecretValue;
use crate::script::run::{About, Stage, in_cage};
use crate::script::{Code, INSTALL_STEPS};
use crate::tier::Tier;

/// An `.env` and a secret are a few KiB; more is a mistake or an attack.
const MAX_FILE: u64 = 1 << 20;
/// All that a script may write where it is read back.
const MAX_WORK: u64 = 64 << 20;
/// What a program in the cage writes to, as it sees it.
const WORK: &str = "/work";

/// Runs the scripts there are, and returns the state with what they changed.
///
/// A script sees `APP_DOMAIN`, `STACK_NAME`, `RECIPE`, `APP_ENV` (the `.env` file, which it may edit), `RECIPE_DIR` (the
/// recipe's files) and `APP_SECRETS_DIR` (a file it writes there, named after a secret, becomes that secret's value).
pub async fn run(keeper: &Arc<Keeper>, state: AppState) -> Result<AppState, Failure> {
    let before = state.env.render();
    write_private(&keeper.dir.join("app.env"), before.as_bytes()).map_err(Failure::infrastructure)?;
    let folder = keeper.spec.overlay.clone();
    let overlay = folder.join(INSTALL_STEPS).is_file();
    let overlay = overlay.then(|| Code::Overlay { folder, module: String::new() });
    let mut env = before.clone();
    for code in overlay.iter().chain(&keeper.spec.install_steps) {
        env = steps(keeper, &state, code, env).await?;
    }
    if env == before {
        return Ok(state);
    }
    let state = reload(keeper, &env).map_err(Failure::recipe)?;
    // Other variables may make other declarations.
    if let Some(refusal) = keeper.spec.settings.policy.judge(&state.findings).refusal() {
        let what = format!("with the `.env` that `{INSTALL_STEPS}` left, the recipe declares what is not allowed");
        return Err(Failure::new(Fault::Recipe, format!("{what}: {refusal}")));
    }
    Ok(state)
}

/// Runs one script, takes the secrets that it supplied, and returns the `.env` as it left it.
async fn steps(keeper: &Arc<Keeper>, state: &AppState, code: &Code, env: String) -> Result<String, Failure> {
    let (name, fault, revision) = match code {
        Code::Overlay { folder, .. } => {
            (folder.join(INSTALL_STEPS).display().to_string(), Fault::Assertion, keeper.spec.base_or_head())
        }
        Code::RepoLocal { .. } => (format!("tests/{INSTALL_STEPS}"), Fault::Recipe, keeper.spec.plan.head.clone()),
    };
    let work = work_dir(keeper, &env).map_err(Failure::infrastructure)?;
    let tree = keeper.spec.mirror.tree(&revision).map_err(Failure::infrastructure)?;
    let stage = Stage {
        dir: &keeper.dir,
        tree: &tree,
        about: about(keeper),
        door: None,
        hatch: None,
        deadline: keeper.spec.settings.assertion,
    };
    let line = format!(
        "export APP_ENV={WORK}/app.env APP_SECRETS_DIR={WORK}/secrets; exec /bin/sh -eu {}/{INSTALL_STEPS}",
        code.target()
    );
    let given = Given { from: work.path().to_owned(), target: WORK.into(), writable: Some(MAX_WORK) };
    let argv = ["/bin/sh", "-c", &line].map(str::to_owned).to_vec();
    let ended = in_cage(argv, code, &stage, vec![given]).await;
    let ended = ended.with_context(|| format!("failed to run `{name}`")).map_err(Failure::infrastructure)?;
    let failed = |error: anyhow::Error| Failure::new(fault, format!("failed to use what `{name}` left: {error:#}"));
    let left = ended.left.first().context("the cage kept nothing of what the script wrote");
    let left = left.map_err(Failure::infrastructure)?;
    // Also those of a script that failed: its last words may hold them.
    take_secrets(keeper, state, left).await.map_err(failed)?;
    if ended.how != How::Exited(0) {
        let lines: Vec<&str> = ended.output.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join(" | ");
        let last = masked(keeper, &last).await.map_err(Failure::harness)?;
        let full = full(left).map_err(Failure::infrastructure)?;
        let full =
            if full { format!(", and had filled the {} MiB that it may write", MAX_WORK >> 20) } else { String::new() };
        return Err(Failure::new(fault, format!("`{name}` {}{full}: {last}", ended.how)));
    }
    let env = read_back(left, "app.env", MAX_FILE).and_then(|env| env.context("it removed the app's `.env`"));
    env.and_then(|bytes| String::from_utf8(bytes).context("the app's `.env` is no text")).map_err(failed)
}

/// Whether no byte more would go into a directory in memory.
fn full(dir: &OwnedFd) -> Result<bool> {
    Ok(rustix::fs::fstatvfs(dir).context("failed to look at what a script wrote")?.f_bfree == 0)
}

async fn masked(keeper: &Keeper, text: &str) -> Result<String> {
    let app = keeper.app.lock().await;
    Ok(Masks::new(app.secrets.values().map(|value| value.expose()))?.mask(text))
}

fn about(keeper: &Keeper) -> About {
    About {
        recipe: keeper.spec.plan.recipe.to_string(),
        run_id: keeper.spec.run_id.clone(),
        tier: Tier::Install,
        domain: keeper.spec.domain.clone(),
        stack: keeper.spec.stack(),
        url: None,
        calls: None,
        tls_verify: keeper.spec.settings.https.verify,
        base: keeper.spec.plan.base.as_ref().map(ToString::to_string),
        head: keeper.spec.plan.head.commit.clone(),
    }
}

/// A directory that the user in the cage may write to, in one that nobody else may enter.
fn work_dir(keeper: &Keeper, env: &str) -> Result<tempfile::TempDir> {
    let dir = keeper.dir.join("cage");
    crate::config::state::create_private(&dir)?;
    let dir = tempfile::Builder::new().prefix("work-").tempdir_in(dir).context("failed to create a directory")?;
    let (file, secrets) = (dir.path().join("app.env"), dir.path().join("secrets"));
    fs::write(&file, env).and_then(|()| fs::create_dir(&secrets)).context("failed to fill a directory")?;
    for (path, mode) in [(dir.path(), 0o777), (&file, 0o666), (&secrets, 0o777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .context("failed to open a directory to the cage")?;
    }
    Ok(dir)
}

/// Takes the values that the script supplied.
async fn take_secrets(keeper: &Keeper, state: &AppState, work: &OwnedFd) -> Result<()> {
    let mut app = keeper.app.lock().await;
    for (key, object) in state.stack.own_secrets() {
        let Some(value) = read_back(work, &format!("secrets/{key}"), MAX_FILE)? else { continue };
        let value = String::from_utf8(value).with_context(|| format!("the secret `{key}` is no text"))?;
        let value = value.trim_end_matches('\n');
        super::secrets::note_short(keeper, key, value)?;
        app.secrets.insert(object.name.clone(), SecretValue::new(value));
    }
    super::hide(keeper, &app)
}

/// The state again, with the `.env` as the scripts left it. Which app it is was not theirs to change.
fn reload(keeper: &Keeper, env: &str) -> Result<AppState> {
    let (spec, revision) = (&keeper.spec, keeper.spec.base_or_head());
    let tree = spec.mirror.tree(&revision)?;
    let mut env =
        AppEnv::parse(env).with_context(|| format!("failed to read the `.env` that `{INSTALL_STEPS}` left"))?;
    if let Some((key, value)) = env.moves_from(&spec.domain) {
        bail!(
            "`{INSTALL_STEPS}` left `{key}={}` in the app's `.env`, which says which app this is: leave `{key}` as it was",
            value.escape_debug()
        );
    }
    env.pin(&spec.domain);
    env.merge_abra_sh(tree.text_if_any("abra.sh")?.unwrap_or_default())?;
    AppState::load(&spec.plan.recipe, &tree, &spec.domain, env, &spec.form())
        .with_context(|| format!("failed to load the recipe with the `.env` that `{INSTALL_STEPS}` left"))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).with_context(|| format!("failed to write `{}`", path.display()))
}
