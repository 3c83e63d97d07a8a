//! The values of the app's secrets: from outside, from install steps, or made here.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::hide;
use crate::config::secrets::{value, variable};
use crate::fault::{Failure, Fault};
use crate::keeper::Keeper;
use crate::keeper::journal::Event;
use crate::mask::SHORTEST;
use crate::recipe::AppState;
use crate::recipe::secret::{SecretSpec, SecretValue};
use crate::script::INSTALL_STEPS;

/// Values for every secret of the stack: kept over an upgrade where the name is the same, made where it is new.
pub async fn of(keeper: &Keeper, state: &AppState) -> Result<BTreeMap<String, SecretValue>, Failure> {
    let by_engine = keeper.engine().await?.makes_secrets();
    let mut app = keeper.app.lock().await;
    let mut values = BTreeMap::new();
    for (key, object) in state.stack.own_secrets() {
        // Whoever runs the harness comes before what an overlay supplied, but not before what is in use already.
        let is_new = app.deployed.form.is_none() || !app.secrets.contains_key(&object.name);
        let value = match (from_outside(keeper, key, is_new)?, app.secrets.get(&object.name)) {
            (Some(value), _) => value,
            (None, Some(value)) => value.clone(),
            (None, None) if by_engine && spec_of(state, key).generate => continue,
            (None, None) => generate(keeper, state, key)?,
        };
        app.secrets.insert(object.name.clone(), value.clone());
        values.insert(key.clone(), value);
    }
    hide(keeper, &app).map_err(Failure::harness)?;
    Ok(values)
}

fn from_outside(keeper: &Keeper, key: &str, is_new: bool) -> Result<Option<SecretValue>, Failure> {
    let Some(place) = keeper.spec.secrets.get(key).filter(|_| is_new) else { return Ok(None) };
    let given = value(place).with_context(|| format!("failed to read the secret `{key}`"));
    let given = given.map_err(Failure::infrastructure)?;
    note_short(keeper, key, &given).map_err(Failure::infrastructure)?;
    Ok(Some(SecretValue::new(given)))
}

/// Says so of a value that is too short to be masked.
pub fn note_short(keeper: &Keeper, key: &str, value: &str) -> anyhow::Result<()> {
    if value.len() >= SHORTEST {
        return Ok(());
    }
    let length = value.len();
    let text = format!("the secret `{key}` has {length} bytes: values of fewer than {SHORTEST} are not masked");
    keeper.journal.write(Event::Note { text })
}

fn generate(keeper: &Keeper, state: &AppState, key: &str) -> Result<SecretValue, Failure> {
    let spec = spec_of(state, key);
    if !spec.generate {
        let message = format!(
            "secret `{key}` is not to be generated (`generate=false`), and nothing supplied it: let `{}` write its value \
             to `$APP_SECRETS_DIR/{key}`, or give it from outside with {} or `--secret {key}=@FILE`",
            keeper.spec.overlay.join(INSTALL_STEPS).display(),
            variable(key)
        );
        return Err(Failure::new(Fault::Recipe, message));
    }
    spec.value().map_err(Failure::recipe)
}

fn spec_of(state: &AppState, key: &str) -> SecretSpec {
    let declared = state.secrets.iter().find(|spec| spec.key == *key).cloned();
    declared.unwrap_or_else(|| SecretSpec::undeclared(key))
}
