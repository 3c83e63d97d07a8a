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

/// What is read of the environment: the variable, its short name, and what it is for.
const VARIABLES: [(&str, &str, &str); 22] = [
    ("HARNESS_RECIPE", "RECIPE", "`--recipe`; several with commas between them"),
    ("HARNESS_RECIPE_DIR", "", "`--recipe-dir`"),
    ("HARNESS_REF", "REF", "`--ref`"),
    ("HARNESS_PR", "PR", "`--pr`"),
    ("HARNESS_BASE", "VERSION", "`--base`"),
    ("HARNESS_TIERS", "STAGES", "`--tiers`"),
    ("HARNESS_ENGINE", "", "`--engine`; comes before `engine` in `harness.toml`"),
    ("HARNESS_JUNIT", "", "`--junit`"),
    ("HARNESS_REPORT_DIR", "", "`--report-dir`"),
    ("HARNESS_STRICT", "", "`--strict`; see [the exit codes](exit-codes.md)"),
    ("HARNESS_WARM", "", "`warm`, as `10m`; `0` for not at all"),
    ("HARNESS_SCREENSHOTS", "", "`screenshots`: `1` or `0`"),
    ("HARNESS_CHROMIUM", "", "`chromium`"),
    (
        "HARNESS_STATE",
        "",
        "The directory that holds mirrors, images and runs; `$XDG_STATE_HOME/recipe-harness` or \
                          `~/.local/state/recipe-harness` when not given",
    ),
    (
        "HARNESS_ROOT",
        "",
        "The folder that holds `harness.toml`, `recipes` and `overlays`; when not given the checkout, and for `harness test` \
                         the nearest folder upwards that has a `harness.toml`",
    ),
    ("HARNESS_SECRET_<NAME>", "", "The value of a secret, as `--secret name=@file` gives it"),
    ("HARNESS_FORGE_TOKEN", "", "The token of `harness announce`; see [announce](announce.md)"),
    ("CCCI_SKIP_GENERIC", "", "`--skip-generic`, with `1`"),
    ("CCCI_SKIP_GENERIC_<TIER>", "", "`--skip-generic=<tier>`, with `1`"),
    ("CCCI_REPO_LOCAL_APPROVED_FILE", "", "`repo_local_approved`"),
    ("CI", "", "With `true`, what cannot be looked at here is a failure"),
    (
        "DOCKER_HOST`, `DOCKER_CONTEXT`, `DOCKER_CONFIG`, `ABRA_DIR",
        "",
        "As for `docker` and `abra`; see [the swarm \
                         engine](swarm.md) and [the abra engine](abra.md)",
    ),
];

/// The text of `docs/configuration.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\n<!-- Made from the types in src/config/files.rs: `BLESS=1 cargo test configuration` writes it again. -->\n\n\
         Flags come before environment variables, these before `recipe.toml`, that before `harness.toml`, and all before\n\
         the defaults. Unknown keys and malformed values are errors that name the line.\n\n\
         Paths are taken from the directory in which the command was typed, although cargo starts tests elsewhere; those in\n\
         `harness.toml` from its folder.\n\n\
         ## The environment\n\n\
         An empty variable is one that nobody has set: `HARNESS_ENGINE=` is the same as none. (An empty `RECIPE` without\n\
         `--recipe` is an error, because nothing would be run.) The short names are everybody's: where one is in force, the\n\
         header of the run says so, and the name beside it comes first.\n\n\
         | variable | or, shorter | meaning |\n| --- | --- | --- |\n",
    );
    for (variable, short, meaning) in VARIABLES {
        let short = if short.is_empty() { String::new() } else { format!("`{short}`") };
        text.push_str(&format!("| `{variable}` | {short} | {meaning} |\n"));
    }
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
