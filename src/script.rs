//! Tests, hooks and install steps that are programs of their own: those of an overlay folder, and those that a recipe
//! brings along in `tests/`.
//!
//! What a recipe brings runs only when this repository approves it (`approved`), and all of them run in a cage
//! (`run`).

pub mod approved;
pub mod find;
pub mod lay_out;
pub mod odd;
pub mod run;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::tier::Tier;

/// The install steps' name, in an overlay folder and below a recipe's `tests/`.
pub const INSTALL_STEPS: &str = "install_steps.sh";

/// A test or a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    pub code: Code,
    /// `test_upgrade_data.py`, in the folder of its code.
    pub file: String,
    pub tier: Tier,
    pub role: Role,
    pub executable: bool,
    /// Tests of a Python file that pytest may find and that are not run, because reading does not show them for certain.
    #[serde(default)]
    pub overlooked: Vec<Overlooked>,
}

/// A test that is not run, by its name, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlooked {
    pub name: String,
    pub why: String,
}

/// What a program is there for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A program that is a trial.
    Test,
    /// A Python file whose functions are a trial each, by pytest.
    Functions(Vec<String>),
    /// It runs before its tier's operation.
    Before,
    /// A file of Rust, which only a checkout compiles: what it would show, nobody knows here.
    NotCompiled,
    /// Its name promises something, and nothing runs it, for this reason: a trial that is ignored says so.
    Odd(String),
}

/// Where a program comes from, and what of it may be seen in the cage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Code {
    /// An overlay's folder, and the module name that its trials carry.
    Overlay { folder: PathBuf, module: String },
    /// The head's `tests/`: only these files of it, where the approval is for single files.
    RepoLocal { only: Option<BTreeSet<String>> },
}

impl Code {
    /// The folder in the cage.
    pub fn target(&self) -> &'static str {
        match self {
            Code::Overlay { .. } => "/overlay",
            Code::RepoLocal { .. } => "/recipe/tests",
        }
    }

    /// `overlays::custom_html` or `repo_local`
    fn module(&self) -> String {
        match self {
            Code::Overlay { module, .. } => format!("overlays::{module}"),
            Code::RepoLocal { .. } => "repo_local".into(),
        }
    }
}

/// One trial of a script: its name, and the function to call when it is one of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub name: String,
    pub function: Option<String>,
    /// Why it is not run.
    pub overlooked: Option<String>,
}

impl Part {
    fn new(name: String, function: Option<String>) -> Self {
        Part { name, function, overlooked: None }
    }
}

impl Script {
    /// For messages: where somebody who reads it finds the file.
    pub fn shown(&self) -> String {
        match &self.code {
            Code::Overlay { folder, .. } => {
                let folder = folder.file_name().unwrap_or_default().to_string_lossy();
                format!("overlays/{folder}/{}", self.file)
            }
            Code::RepoLocal { .. } => format!("tests/{}", self.file),
        }
    }

    fn stem(&self) -> &str {
        self.file.rsplit_once('.').map_or(&self.file, |(stem, _)| stem)
    }
}

/// A file's name as part of a trial's: one word, without anything that a terminal or a shell would obey.
fn safe(file: &str) -> String {
    file.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' }).collect()
}

/// The trials of scripts, with a file's name in between where two functions have the same name.
pub fn trials(scripts: &[Script]) -> Vec<(&Script, Part)> {
    let mut trials: Vec<(&Script, Part)> = Vec::new();
    for script in scripts {
        let base = format!("{}::{}", script.code.module(), script.tier);
        match &script.role {
            Role::Before => {}
            Role::Odd(_) => trials.push((script, Part::new(format!("{base}::{}", safe(&script.file)), None))),
            Role::NotCompiled => trials.push((script, Part::new(base, None))),
            Role::Test => trials.push((script, Part::new(format!("{base}::{}", script.stem()), None))),
            Role::Functions(functions) => {
                trials.extend(functions.iter().map(|it| (script, Part::new(format!("{base}::{it}"), Some(it.clone())))))
            }
        }
    }
    for script in scripts {
        let name = |it: &Overlooked| format!("{}::{}::{}", script.code.module(), script.tier, it.name);
        trials.extend(script.overlooked.iter().map(|it| {
            let part = Part { overlooked: Some(it.why.clone()), ..Part::new(name(it), Some(it.name.clone())) };
            (script, part)
        }));
    }
    let names: Vec<String> = trials.iter().map(|(_, part)| part.name.clone()).collect();
    for (script, part) in &mut trials {
        if names.iter().filter(|name| **name == part.name).count() > 1
            && let Some(function) = &part.function
        {
            part.name = format!("{}::{}::{}::{function}", script.code.module(), script.tier, script.stem());
        }
    }
    trials
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_is_named_after_its_function_or_file() {
        let script = |file: &str, role: Role| Script {
            code: Code::RepoLocal { only: None },
            file: file.into(),
            tier: Tier::Upgrade,
            role,
            executable: true,
            overlooked: Vec::new(),
        };
        let functions = |names: &[&str]| Role::Functions(names.iter().map(|name| name.to_string()).collect());
        let scripts = [
            script("test_upgrade.py", functions(&["test_data", "test_same"])),
            script("test_upgrade_more.py", functions(&["test_same"])),
            script("test_upgrade_mail.sh", Role::Test),
            script("before_upgrade.sh", Role::Before),
            Script {
                overlooked: vec![Overlooked { name: "test_mail".into(), why: "it stands in an `if`".into() }],
                ..script("test_upgrade_mail.py", functions(&[]))
            },
        ];
        let names: Vec<String> = trials(&scripts).into_iter().map(|(_, part)| part.name).collect();
        assert_eq!(
            names,
            [
                "repo_local::upgrade::test_data",
                "repo_local::upgrade::test_upgrade::test_same",
                "repo_local::upgrade::test_upgrade_more::test_same",
                "repo_local::upgrade::test_upgrade_mail",
                "repo_local::upgrade::test_mail",
            ]
        );
    }
}
