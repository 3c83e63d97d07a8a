//! `install_steps.sh` of an overlay: runs once, after the app's `.env` exists and before it is deployed.

use std::sync::Arc;

use anyhow::{Context as _, Result};

use crate::fault::{Failure, Fault};
use crate::keeper::Keeper;
use crate::process::Run;
use crate::recipe::AppState;
use crate::recipe::secret::SecretValue;

/// The script's name in the overlay folder.
pub const FILE: &str = "install_steps.sh";

/// Runs the script, if the overlay has one, and returns the state with what the script changed.
///
/// The script sees `APP_DOMAIN`, `STACK_NAME`, `RECIPE`, `APP_ENV` (the `.env` file, which it may edit), `RECIPE_DIR`
/// (the checkout) and `APP_SECRETS_DIR` (a file it writes there, named after a secret, becomes that secret's value).
pub async fn run(keeper: &Arc<Keeper>, state: AppState) -> Result<AppState, Failure> {
    let script = keeper.spec.overlay.join(FILE);
    let env_file = keeper.dir.join("app.env");
    let before = state.env.render();
    write_private(&env_file, before.as_bytes()).map_err(Failure::infrastructure)?;
    if !script.is_file() {
        return Ok(state);
    }
    let secrets = keeper.dir.join("secrets");
    crate::config::state::create_private(&secrets).map_err(Failure::infrastructure)?;
    let run = Run::new("/bin/sh", ["-eu".as_ref(), script.as_os_str()])
        .cwd(&keeper.dir)
        .deadline(keeper.spec.settings.assertion)
        .env("APP_DOMAIN", &keeper.spec.domain)
        .env("STACK_NAME", &state.stack.name)
        .env("RECIPE", keeper.spec.plan.recipe.as_str())
        .env("APP_ENV", &env_file)
        .env("RECIPE_DIR", keeper.checkout_dir())
        .env("APP_SECRETS_DIR", &secrets);
    let ran = run.checked().await.with_context(|| format!("failed to run `{}`", script.display()));
    ran.map_err(|error| Failure::new(Fault::Assertion, format!("{error:#}")))?;
    take_secrets(keeper, &state, &secrets).await?;
    let after = std::fs::read_to_string(&env_file).context("failed to read the app's `.env` again");
    let after = after.map_err(Failure::infrastructure)?;
    if after == before {
        return Ok(state);
    }
    let state = reload(keeper, &after).map_err(Failure::recipe)?;
    // Other variables may make other declarations.
    let refused = keeper.spec.settings.policy.judge(&state.findings).refused;
    if !refused.is_empty() {
        let what = format!("with the `.env` that `{FILE}` left, the recipe declares what is not allowed");
        return Err(Failure::new(Fault::Recipe, format!("{what}: {}", refused.join("; "))));
    }
    Ok(state)
}

/// Takes the values that the script supplied, and removes the files.
async fn take_secrets(keeper: &Keeper, state: &AppState, dir: &std::path::Path) -> Result<(), Failure> {
    let mut app = keeper.app.lock().await;
    for (key, object) in &state.stack.secrets {
        match std::fs::read_to_string(dir.join(key)) {
            Ok(value) => {
                app.secrets.insert(object.name.clone(), SecretValue::new(value.trim_end_matches('\n')));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::infrastructure(error.into())),
        }
    }
    std::fs::remove_dir_all(dir).map_err(|error| Failure::infrastructure(error.into()))
}

/// The state again, with the `.env` as the script left it.
fn reload(keeper: &Keeper, env: &str) -> Result<AppState> {
    let revision = keeper.spec.base_or_head();
    let tree = keeper.spec.mirror.tree(&revision)?;
    let env = crate::recipe::env::AppEnv::parse(env)?;
    AppState::load(&keeper.spec.plan.recipe, &tree, env, &keeper.spec.form())
        .context("failed to load the recipe with the `.env` that `install_steps.sh` left")
}

fn write_private(path: &std::path::Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).with_context(|| format!("failed to write `{}`", path.display()))
}
