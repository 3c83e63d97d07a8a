//! A service's variables, of `env_file` and `environment`, as docker's loader puts them together.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use super::budget::Budget;
use crate::recipe::env::AppEnv;
use crate::recipe::tree::{Tree, inside};

/// Puts the variables of `env_file` below those of `environment`, and gives those without a value the app's own.
pub(super) fn resolve(service: &mut Value, tree: &Tree, env: &AppEnv, budget: &Budget) -> Result<()> {
    let files = service.as_object_mut().and_then(|service| service.shift_remove("env_file"));
    let mut variables = Map::new();
    for file in files.iter().flat_map(|files| files.as_array().into_iter().flatten()) {
        let path = inside(file.as_str().unwrap_or_default())?;
        let text = tree.text(&path)?;
        budget.take(text.len())?;
        read(&path, text, env, budget, &mut variables)?;
    }
    if let Some(Value::Object(own)) = service.get("environment") {
        variables.extend(own.clone());
    }
    for (key, value) in &mut variables {
        // Docker's loader looks an empty value up as well.
        if let (true, Some(own)) = (value.as_str().is_none_or(str::is_empty), env.get(key)) {
            budget.take(own.len())?;
            *value = own.into();
        }
    }
    if !variables.is_empty() {
        service["environment"] = variables.into();
    }
    Ok(())
}

/// `KEY=value` a line, taken as it stands: quotes and blanks belong to the value. A key alone is a variable of the
/// app, and nothing when the app has none of that name.
fn read(path: &str, text: &str, env: &AppEnv, budget: &Budget, variables: &mut Map<String, Value>) -> Result<()> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (line, env.get(line)),
        };
        if key.is_empty() || key.contains([' ', '\t']) {
            bail!("`{path}`: `{}` is not a line such as `KEY=value`", line.escape_debug());
        }
        if let Some(value) = value {
            budget.take(value.len())?;
            variables.insert(key.to_owned(), value.into());
        }
    }
    Ok(())
}
