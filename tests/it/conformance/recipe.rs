//! What is deployed: a compose text, read by the harness's own loader and marked as abra would, so that the typed stack
//! and the document behind it come from the same source.

use std::collections::BTreeMap;

use anyhow::Result;
use harness::engine::Deployment;
use harness::recipe::AppState;
use harness::recipe::abra::Form;
use harness::recipe::env::AppEnv;
use harness::recipe::name::RecipeName;
use harness::recipe::secret::SecretValue;
use harness::recipe::tree::{Entry, Tree};

/// Stands before every compose text. `idle` does nothing, and ends at once when it is asked to; `quick` is for
/// production too hasty, but a test need not wait five seconds for a restart or for the end of an update.
const PRELUDE: &str = r#"
version: "3.8"
x-idle: &idle
  image: nginx:1.27.4
  command: ["sh", "-c", "trap 'exit 0' TERM; touch /tmp/ready; sleep 1000 & wait"]
  stop_signal: SIGTERM
  stop_grace_period: 2s
x-web: &web
  image: nginx:1.27.4
  stop_grace_period: 2s
x-quick: &quick
  restart_policy:
    delay: 50ms
  update_config:
    monitor: 500ms
"#;

/// What the recipe is called.
pub const NAME: &str = "conformance";

/// A recipe of one compose file.
#[derive(Clone)]
pub struct Recipe {
    compose: String,
    files: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
    version: String,
}

impl Recipe {
    /// The text begins at `services:` and may refer to the anchors `idle`, `web` and `quick`.
    pub fn new(compose: &str) -> Recipe {
        let version = "1.0.0+1.27.4".to_owned();
        Recipe { compose: format!("{PRELUDE}{compose}"), files: BTreeMap::new(), secrets: BTreeMap::new(), version }
    }

    /// Puts a value in the place of `<key>`.
    pub fn put(mut self, key: &str, value: &str) -> Recipe {
        self.compose = self.compose.replace(&format!("<{key}>"), value);
        self
    }

    /// A file beside the compose file.
    pub fn file(mut self, path: &str, content: &str) -> Recipe {
        self.files.insert(path.to_owned(), content.to_owned());
        self
    }

    /// The value of a secret, by its key in the compose file.
    pub fn secret(mut self, key: &str, value: &str) -> Recipe {
        self.secrets.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The published version that the app says it is.
    pub fn version(mut self, version: &str) -> Recipe {
        self.version = version.to_owned();
        self
    }

    /// Every file of the recipe.
    pub fn files(&self) -> BTreeMap<String, String> {
        [("compose.yml".to_owned(), self.compose.clone())].into_iter().chain(self.files.clone()).collect()
    }

    pub fn version_name(&self) -> &str {
        &self.version
    }

    /// The app under a domain, as a run would deploy it.
    pub fn state(&self, domain: &str) -> Result<AppState> {
        let name: RecipeName = NAME.parse()?;
        let files = self.files().into_iter().map(|(path, text)| {
            let bytes = text.into_bytes();
            (path, Entry::File { bytes, executable: false })
        });
        let tree = Tree { files: files.collect(), submodules: Vec::new() };
        let env = AppEnv::new(&tree, &name, domain, &BTreeMap::new())?;
        AppState::load(&name, &tree, domain, env, &Form::Pinned { version: self.version.clone() })
    }

    /// What an engine is given.
    pub fn deployment(&self, domain: &str) -> Result<Deployment> {
        let state = self.state(domain)?;
        let secrets = self.secrets.iter().map(|(key, value)| (key.clone(), SecretValue::new(value.as_str())));
        let stack = state.stack.with_own_secrets();
        Ok(Deployment { stack, document: state.document, secrets: secrets.collect(), origin: None })
    }
}
