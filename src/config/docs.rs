//! The reference of both configuration files, made from the types that read them.

use schemars::schema_for;
use serde_json::Value;

use super::files::{HarnessToml, RecipeToml};

/// The JSON schemas of both files, by the name each has in `schemas/`: editors complete and check by them.
pub fn schemas() -> [(&'static str, Value); 2] {
    [
        ("harness.schema.json", schema_for!(HarnessToml).to_value()),
        ("recipe.schema.json", schema_for!(RecipeToml).to_value()),
    ]
}

/// The text of `docs/configuration.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\n<!-- Made from the types in src/config/files.rs: `BLESS=1 cargo test configuration` writes it again. -->\n\n\
         Flags come before environment variables, these before `recipe.toml`, that before `harness.toml`, and all before\n\
         the defaults. Unknown keys and malformed values are errors that name the line.\n\n\
         `recipe-harness` reads these environment variables: `RECIPE`, `REF`, `PR`, `VERSION` and `STAGES` stand for\n\
         `--recipe`, `--ref`, `--pr`, `--base` and `--tiers`; `CCCI_SKIP_GENERIC=1` and `CCCI_SKIP_GENERIC_<TIER>=1` for\n\
         `--skip-generic`; `CCCI_REPO_LOCAL_APPROVED_FILE` for `repo_local_approved`; `HARNESS_WARM=10m` for `warm`, and `HARNESS_WARM=0` for none; `HARNESS_SECRET_<NAME>` gives a secret its value, as `--secret name=@file` does; `HARNESS_SCREENSHOTS` (`1` or `0`) and `HARNESS_CHROMIUM` for\n\
         `screenshots` and `chromium`; `HARNESS_STATE` names the directory that holds mirrors, images and runs, and `HARNESS_ROOT`\n\
         the checkout that holds `harness.toml`, `recipes` and `overlays`.\n",
    );
    for (file, schema) in [
        ("harness.toml", schema_for!(HarnessToml).to_value()),
        ("overlays/&lt;recipe&gt;/recipe.toml", schema_for!(RecipeToml).to_value()),
    ] {
        text.push_str(&format!(
            "\n## `{}`\n\n| key | value | meaning |\n| --- | --- | --- |\n",
            file.replace("&lt;", "<").replace("&gt;", ">")
        ));
        rows(&schema, &schema, "", &mut text);
    }
    text
}

/// One row a key; the keys of a table follow with their path.
fn rows(schema: &Value, root: &Value, path: &str, text: &mut String) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (key, property) in properties {
        let target = resolve(property, root);
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if target.get("properties").is_some() {
            rows(target, root, &path, text);
            continue;
        }
        if let Some(items) = target.get("items").map(|items| resolve(items, root))
            && items.get("properties").is_some()
        {
            rows(items, root, &format!("{path}[]"), text);
            continue;
        }
        let meaning = property.get("description").or_else(|| target.get("description")).and_then(Value::as_str);
        let meaning = meaning.unwrap_or_default().replace('\n', " ");
        text.push_str(&format!("| `{path}` | {} | {meaning} |\n", kind(target, root)));
    }
}

fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|it| it.strip_prefix("#/$defs/")) else {
        return schema;
    };
    root.get("$defs").and_then(|defs| defs.get(name)).unwrap_or(schema)
}

fn kind(schema: &Value, root: &Value) -> String {
    let types = match schema.get("type") {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).find(|it| *it != "null").unwrap_or("any"),
        Some(Value::String(single)) => single,
        _ => "any",
    };
    match types {
        "array" => {
            let items = schema.get("items").map(|items| kind(resolve(items, root), root));
            format!("list of {}", items.unwrap_or_else(|| "any".into()))
        }
        "object" => "table".into(),
        "integer" => "number".into(),
        other => other.into(),
    }
}
