//! Everything that shaped an app: if none of it differs, an app deployed now would be the same. And what two runs must have
//! in common for their outcomes to say something about each other.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::assertion::{Registry, besides_assertions, sources};
use crate::prepare::Prepared;
use crate::recipe::version::Revision;
use crate::script::{Code, Role, Script};

/// What is compared, by a name for people. Long things are hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(BTreeMap<String, String>);

impl Fingerprint {
    /// Of what a run would deploy now.
    pub fn of(prepared: &Prepared, registry: &Registry) -> Result<Self> {
        let spec = &prepared.spec;
        // Run id and domain are each run's own, and stand in many places.
        let plain = |text: String| {
            let text = text.replace(&spec.domain, "DOMAIN").replace(&spec.head.stack.name, "STACK");
            text.replace(&spec.run_id, "RUN")
        };
        let hooks: Vec<&Script> = prepared.scripts.iter().filter(|script| script.role == Role::Before).collect();
        // A hook that is a program, and install steps, may read any file beside them.
        let runs_programs = !hooks.is_empty() || spec.overlay.join("install_steps.sh").exists();
        let parts = [
            ("the harness", env!("HARNESS_SOURCES").to_owned()),
            ("the head", revision(&spec.plan.head)),
            ("the zone", spec.domain.split_once('.').map(|(_, zone)| zone.to_owned()).unwrap_or_default()),
            ("the base", spec.base_revision.as_ref().map_or("none".into(), revision)),
            ("what the compose files make of them", hashed(&plain(json(&(&spec.base, &spec.head))?))),
            ("the plan", hashed(&plain(json(&(&spec.plan.steps, &spec.plan.skip_generic))?))),
            ("the settings", hashed(&json(&spec.settings)?)),
            ("the engine", hashed(&plain(json(&spec.engine)?))),
            ("the stand-ins for images", hashed(&images(&spec.images))),
            (
                "the overlay's hooks or what stands beside them",
                besides_assertions(registry, spec.plan.recipe.as_str()).unwrap_or("none").to_owned(),
            ),
            ("the overlay's other files", hashed(&files(&spec.overlay, runs_programs)?)),
            ("the recipe's own hooks and install steps", hashed(&json(&(hooks, &spec.install_steps))?)),
        ];
        Ok(Fingerprint(parts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
    }

    /// What is different now from an `earlier` one, in a few words; the most telling of it, if it is much.
    pub fn difference(&self, earlier: &Fingerprint) -> Option<String> {
        const SHOWN: [&str; 2] = ["the head", "the base"];
        let differs = |name: &&str| self.0.get(*name) != earlier.0.get(*name);
        if let Some(name) = SHOWN.iter().find(|name| differs(name)) {
            let show = |of: &Fingerprint| of.0.get(*name).cloned().unwrap_or_else(|| "unknown".into());
            return Some(format!("{name} was {}, and is {}", show(earlier), show(self)));
        }
        let names = self.0.keys().chain(earlier.0.keys()).map(String::as_str);
        names.into_iter().find(differs).map(|name| format!("{name} changed"))
    }
}

/// What an outcome depends on beside the head's commit and the engine: whoever judges, compiled or not, and what the app
/// was made from and told. An error where it cannot be read.
pub fn of_judgement(prepared: &Prepared) -> Result<String> {
    let spec = &prepared.spec;
    // An overlay's own are among its files.
    let of_recipe = |script: &&Script| matches!(script.code, Code::RepoLocal { .. });
    let scripts: Vec<&Script> = prepared.scripts.iter().filter(of_recipe).collect();
    let steps = spec.install_steps.as_ref().filter(|code| matches!(code, Code::RepoLocal { .. }));
    let parts = [
        env!("HARNESS_SOURCES").to_owned(),
        sources(spec.plan.recipe.as_str()).join(" "),
        files(&spec.overlay, true)?,
        json(&(scripts, steps))?,
        json(&spec.settings)?,
        spec.base_revision.as_ref().map_or("none".into(), revision),
        images(&spec.images),
    ];
    Ok(hashed(&json(&parts)?))
}

/// The commit, and the tree where that says more: of a working copy it changes with every file.
fn revision(revision: &Revision) -> String {
    match revision.dirty {
        true => format!("{} (tree {})", revision.chaos_version(), revision.tree.get(..8).unwrap_or(&revision.tree)),
        false => revision.commit.get(..8).unwrap_or(&revision.commit).to_owned(),
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).context("failed to encode what shaped the app")
}

fn hashed(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text)[..8])
}

/// A layout of an image is named by its path, so its index is looked at, too.
fn images(images: &std::collections::BTreeMap<String, String>) -> String {
    let content = |value: &str| match value.strip_prefix("oci:") {
        // After the path there may be a tag.
        Some(layout) => [layout, layout.rsplit_once(':').map_or(layout, |(path, _)| path)]
            .iter()
            .find_map(|path| crate::regular::read_text(&Path::new(path).join("index.json")).ok())
            .unwrap_or_default(),
        None => String::new(),
    };
    images.iter().map(|(name, value)| format!("{name}\0{value}\0{}\0", content(value))).collect()
}

/// The files of an overlay that are neither compiled in, nor read into the settings; with its tests or without them.
fn files(folder: &Path, tests: bool) -> Result<String> {
    let mut text = String::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unreadable = || format!("failed to read `{}`", path.display());
        let kind = std::fs::symlink_metadata(&path).with_context(unreadable)?.file_type();
        let counts = !name.ends_with(".rs") && name != "recipe.toml" && (tests || !name.starts_with("test_"));
        if kind.is_dir() {
            text.push_str(&format!("{name}\0{}\0", files(&path, tests)?));
        } else if kind.is_symlink() {
            text.push_str(&format!("{name}\0{}\0", std::fs::read_link(&path).with_context(unreadable)?.display()));
        } else if kind.is_file() && counts {
            let content = crate::regular::read(&path).with_context(unreadable)?;
            text.push_str(&format!("{name}\0{}\0", HEXLOWER.encode(&Sha256::digest(content))));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(parts: &[(&str, &str)]) -> Fingerprint {
        Fingerprint(parts.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    #[test]
    fn a_difference_is_named_and_the_commit_first() {
        let one = fingerprint(&[("the head", "a"), ("the base", "b"), ("the settings", "c")]);
        assert_eq!(one.difference(&one), None);
        let other = fingerprint(&[("the head", "x"), ("the base", "b"), ("the settings", "y")]);
        assert_eq!(other.difference(&one).unwrap(), "the head was a, and is x");
        let other = fingerprint(&[("the head", "a"), ("the base", "b"), ("the settings", "y")]);
        assert_eq!(other.difference(&one).unwrap(), "the settings changed");
        let older = fingerprint(&[("the head", "a"), ("the base", "b"), ("the settings", "c"), ("the weather", "d")]);
        assert_eq!(one.difference(&older).unwrap(), "the weather changed", "of another version of the harness");
    }

    #[test]
    fn hooks_count_among_an_overlays_files_and_tests_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put("install_steps.sh", "a");
        put("test_install.sh", "a");
        put("install.rs", "a");
        let before = files(folder.path(), false).unwrap();
        put("test_install.sh", "b");
        put("install.rs", "b");
        assert_eq!(files(folder.path(), false).unwrap(), before);
        put("install_steps.sh", "b");
        assert_ne!(files(folder.path(), false).unwrap(), before);
        let read_by_hooks = files(folder.path(), true).unwrap();
        put("test_install.sh", "c");
        assert_ne!(files(folder.path(), true).unwrap(), read_by_hooks);
        std::os::unix::fs::symlink(".", folder.path().join("loop")).unwrap();
        files(folder.path(), true).unwrap();
    }
}
