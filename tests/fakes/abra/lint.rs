//! `abra recipe lint`: some of abra's rules, really looked at, in a table of abra's shape. Exit code 0 whatever they say.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::docker::git;
use crate::{Call, say};

/// Reference, rule, severity, how to fix, and the look: `None` when it does not apply.
type Rule = (&'static str, &'static str, &'static str, &'static str, fn(&Path) -> Result<Option<bool>>);

const RULES: &[Rule] = &[
    ("R001", "compose config has expected version", "warn", "ensure 'version: \"3.8\"' in compose configs", version),
    ("R002", "healthcheck enabled for all services", "warn", "wire up healthchecks", health_checks),
    ("R006", "has published catalogue version", "warn", "publish a recipe version to the catalogue", |_| Ok(None)),
    ("R008", ".env.sample provided", "error", "create an example .env.sample", |dir| exists(dir, ".env.sample")),
    ("R009", "one service named 'app'", "error", "name a servce 'app'", app),
    (
        "R014",
        "only annotated tags used for recipe version",
        "error",
        "replace lightweight tag with annotated tag",
        tags,
    ),
];

pub fn lint(call: &Call, recipe: &str) -> Result<()> {
    if call.quirk("cannot-lint") {
        bail!("unable to read the recipe: authentication required");
    }
    let dir = call.home.join("recipes").join(recipe);
    // abra fetches tags by force, so that an `origin` that cannot be reached ends it.
    git(&dir, &["fetch", "--quiet", "--tags", "--force", "origin"])?;
    row(&["REF", "RULE", "SEVERITY", "SATISFIED", "SKIPPED", "RESOLVE"]);
    let mut critical = false;
    for (reference, rule, severity, remedy, look) in RULES {
        let kept = look(&dir)?;
        critical |= kept == Some(false) && *severity == "error";
        let (satisfied, skipped) = match kept {
            Some(true) => ("✅", "-"),
            Some(false) => ("❌", "-"),
            None => ("-", "✅"),
        };
        row(&[reference, rule, severity, satisfied, skipped, remedy]);
    }
    if critical {
        say(&format!("WARN critical errors present in {recipe} config"));
    }
    Ok(())
}

fn row(cells: &[&str]) {
    say(&format!("┃ {} ┃", cells.join(" ┃ ")));
}

fn compose(dir: &Path) -> Result<String> {
    std::fs::read_to_string(dir.join("compose.yml")).context("no compose.yml")
}

fn version(dir: &Path) -> Result<Option<bool>> {
    Ok(Some(compose(dir)?.lines().any(|line| line.replace(['"', '\''], "") == "version: 3.8")))
}

fn health_checks(dir: &Path) -> Result<Option<bool>> {
    let text = compose(dir)?;
    let count = |key: &str| text.lines().filter(|line| line.trim() == key).count();
    Ok(Some(count("healthcheck:") >= text.lines().filter(|line| line.starts_with("    image:")).count()))
}

fn app(dir: &Path) -> Result<Option<bool>> {
    Ok(Some(compose(dir)?.lines().any(|line| line == "  app:")))
}

fn exists(dir: &Path, file: &str) -> Result<Option<bool>> {
    Ok(Some(dir.join(file).is_file()))
}

fn tags(dir: &Path) -> Result<Option<bool>> {
    let kinds = git(dir, &["for-each-ref", "--format=%(objecttype)", "refs/tags"])?;
    Ok(Some(kinds.lines().all(|kind| kind == "tag")))
}
