//! A recipe: where it comes from, its versions, and its deployable states.

pub mod abra;
pub mod backup;
mod bundle;
pub mod checkout;
pub mod compose;
pub mod env;
pub mod fresh;
pub mod git;
pub mod image;
mod lock;
pub mod mirror;
pub mod name;
pub mod policy;
mod refs;
pub mod refused;
pub mod route;
pub mod secret;
pub mod source;
pub mod stack;
pub mod suggest;
pub mod tree;
pub mod version;
mod working_copy;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use abra::Form;
use backup::BackupPlan;
use env::AppEnv;
use mirror::{Mirror, Reference};
use name::RecipeName;
use route::Route;
use secret::SecretSpec;
use source::Source;
use stack::Stack;
use tree::Tree;
use version::{Base, Revision, Version};

use crate::fault::{Blame as _, Fault};

/// A recipe, its head and its base, as they were when it was opened.
pub struct Recipe {
    pub name: RecipeName,
    /// Where it came from, for people.
    pub source: String,
    pub head: Revision,
    pub base: Base,
    pub mirror: Mirror,
}

/// One revision of the app under one domain: everything that is needed to deploy it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppState {
    pub env: AppEnv,
    pub stack: Stack,
    /// The merged compose document in its long forms, for an engine that hands it on to Docker. Labels and environment
    /// that were added since stand in `stack` alone.
    pub document: serde_json::Value,
    pub secrets: Vec<SecretSpec>,
    pub backup: BackupPlan,
    /// How visitors reach it, or why they cannot.
    pub route: Result<Route, String>,
    /// What it declares that a policy has a word in.
    pub findings: Vec<policy::Finding>,
    /// Images that no engine could run, each as one sentence.
    #[serde(default)]
    pub impossible_images: Vec<String>,
}

impl Recipe {
    /// Finds the recipe in the first source that has it, brings its mirror up to date, and decides head and base.
    pub fn open(
        name: &RecipeName,
        sources: &[Source],
        state: &Path,
        reference: &Reference,
        pinned_base: Option<&str>,
    ) -> Result<Recipe> {
        let mirror = Mirror::open(name, sources, state, reference).blame(Fault::Infrastructure)?;
        let head = mirror.resolve(reference).usage()?;
        // A tagged head is ordered by its tag; only an untagged one has to be looked up in the history.
        let ancestors = match head.version {
            None => mirror.ancestors(&head.commit).blame(Fault::Infrastructure)?,
            Some(_) => Default::default(),
        };
        let mut base = version::base(mirror.versions(), &ancestors, &head, pinned_base)?;
        if let (Base::None { reason }, Some(lacks)) = (&mut base, mirror.lacks_versions(&head)) {
            *reason = lacks;
        }
        Ok(Recipe { name: name.clone(), source: mirror.origin.clone(), head, base, mirror })
    }

    /// The revision of a published version.
    pub fn revision_of(&self, version: &Version) -> Result<Revision> {
        self.mirror.resolve(&Reference::Named(version.tag.clone()))
    }

    /// What a reader of the run should know about the repository.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.mirror.notes.clone();
        for tag in self.mirror.skipped_tags() {
            notes.push(format!("the tag `{}` is no published version: {}", tag.tag, tag.reason));
        }
        notes
    }

    /// The app as a revision defines it, with `extra` keys set on top of its environment. An upgrade keeps the `.env` of the installed app, as an operator's does; keys
    /// that only the newer sample has are taken over, as its release notes would ask for.
    pub fn state(
        &self,
        revision: &Revision,
        domain: &str,
        extra: &BTreeMap<String, String>,
        installed: Option<&AppState>,
        form: &Form,
    ) -> Result<AppState> {
        let tree = self.mirror.tree(revision)?;
        let env = match installed {
            None => AppEnv::new(&tree, &self.name, domain, extra)?,
            Some(installed) => {
                let mut env = AppEnv::new(&tree, &self.name, domain, &BTreeMap::new())?;
                env.keep(&installed.env);
                env.extend(extra).context("failed to replace variables")?;
                env
            }
        };
        AppState::load(&self.name, &tree, domain, env, form)
    }
}

impl AppState {
    /// Loads the compose files that the environment names, and marks the stack as abra would. Which app it is, and with
    /// it what is its own, is told by `domain` alone, whatever the environment says.
    pub fn load(recipe: &RecipeName, tree: &Tree, domain: &str, mut env: AppEnv, form: &Form) -> Result<AppState> {
        env.pin(domain);
        let compose = compose::load(tree, &env)?;
        let findings = policy::findings(&compose, &env::stack_name(domain), domain);
        let impossible_images = impossible_images(&compose, &env);
        let mut secrets = env.secrets()?;
        for spec in &mut secrets {
            // A secret may be named otherwise than its variable; the variable in its name tells which it is.
            let of_variable = |(_, variables): &(&String, &Vec<String>)| variables.contains(&spec.variable);
            if let Some((key, _)) = compose.secret_variables.iter().find(of_variable) {
                spec.key = key.clone();
            }
        }
        let rules_at = compose.rules_at();
        let mut stack = Stack { rules_at, ..compose.stack };
        stack.notes.extend(secrets.iter().filter_map(|secret| secret.charset.note(&secret.key)));
        if stack.services.is_empty() {
            bail!("the compose files define no service");
        }
        abra::label(&mut stack, recipe, &env, form);
        let notes = compose::template::notes(&stack);
        stack.notes.extend(notes);
        stack.notes.extend(image::notes(stack.services.iter().map(|(name, it)| (name, it.image.as_str()))));
        let backup = backup::plan(&stack).context("failed to read the backup labels")?;
        stack.notes.extend(backup.notes.iter().cloned());
        let document = compose.document;
        let route = route::find(&stack, domain);
        Ok(AppState { secrets, route, backup, stack, document, env, findings, impossible_images })
    }
}

fn impossible_images(compose: &compose::Compose, env: &AppEnv) -> Vec<String> {
    let problem = |(name, service): (&String, &stack::Service)| {
        let written = compose.images.get(name);
        let variables = written.map(|(_, variables)| variables.as_slice()).unwrap_or_default();
        image::problem(name, &service.image, written.map(|(text, _)| text.as_str()), variables, env)
    };
    compose.stack.services.iter().filter_map(problem).collect()
}
