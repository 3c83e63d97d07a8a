//! The deployable state of an app: compose files of one revision, loaded, interpolated, merged and typed.
//!
//! An engine gets a [`Stack`] and nothing else from the recipe. Durations are typed, sizes are bytes, names are the
//! final names (`<stack>_<volume>`), so that no engine repeats a rule of the compose standard.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One revision of an app, ready to deploy under one stack name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stack {
    /// The Swarm stack name: abra's domain with `.` replaced by `_`.
    pub name: String,
    pub services: BTreeMap<String, Service>,
    /// Networks by their key in the compose files; `default` exists when a service names none.
    pub networks: BTreeMap<String, Network>,
    pub volumes: BTreeMap<String, Volume>,
    pub secrets: BTreeMap<String, FileObject>,
    pub configs: BTreeMap<String, FileObject>,
    /// What a reader should know about the compose files: keys that a Swarm ignores, templates that are left alone.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Where the rules of Traefik's routers are written, for messages about them, by service and label.
    #[serde(default)]
    pub rules_at: BTreeMap<String, BTreeMap<String, String>>,
}

impl Stack {
    /// Whether a secret or config is somebody else's, which a policy may let the app use: it is never made, changed or
    /// removed. Recipes declare their own secrets as external, too, because abra makes them.
    pub fn is_foreign(&self, object: &FileObject) -> bool {
        object.external && !object.name.starts_with(&format!("{}_", self.name))
    }

    /// The secrets that belong to the app, by key.
    pub fn own_secrets(&self) -> impl Iterator<Item = (&String, &FileObject)> {
        self.secrets.iter().filter(|(_, secret)| !self.is_foreign(secret))
    }

    /// The stack for an engine: the app's own secrets, which a recipe declares as external, are to be made.
    pub fn with_own_secrets(mut self) -> Stack {
        let prefix = format!("{}_", self.name);
        let own = self.secrets.values_mut().filter(|secret| secret.name.starts_with(&prefix));
        own.for_each(|secret| secret.external = false);
        self
    }
}

/// One service of the stack, after interpolation and merge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// The image reference exactly as the compose file gives it.
    pub image: String,
    /// Replaces the image's entrypoint; an empty list clears it.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    pub working_dir: Option<String>,
    /// `uid`, `uid:gid`, `name` or `name:group`.
    pub user: Option<String>,
    pub hostname: Option<String>,
    pub stop_signal: Option<String>,
    /// How long a container may take to stop before it is killed; Docker's default is 10 s.
    pub stop_grace_period: Option<Duration>,
    /// Labels of the containers (`labels`), which Swarm keeps apart from `deploy.labels`.
    pub labels: BTreeMap<String, String>,
    pub deploy: Deploy,
    pub healthcheck: Option<Healthcheck>,
    /// Networks by key, each with the extra aliases of this service there.
    pub networks: BTreeMap<String, Vec<String>>,
    pub mounts: Vec<Mount>,
    pub secrets: Vec<FileMount>,
    pub configs: Vec<FileMount>,
    pub ports: Vec<Port>,
    /// `host:address` pairs to add to `/etc/hosts`, as (name, address).
    pub extra_hosts: Vec<(String, String)>,
    pub read_only: bool,
    pub init: bool,
}

/// The `deploy` section.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Deploy {
    /// `deploy.labels`: where abra, Traefik and the backup bot look.
    pub labels: BTreeMap<String, String>,
    pub mode: Mode,
    pub update: UpdateConfig,
    pub rollback: UpdateConfig,
    pub restart: RestartPolicy,
    /// `resources.limits`
    #[serde(default)]
    pub limits: Limits,
}

/// What each task of a service may use; `None` where the recipe says nothing, or nothing but zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes
    pub memory: Option<u64>,
    /// Processors, in thousandths.
    pub cpus: Option<u64>,
    /// Processes, with their threads.
    pub pids: Option<u64>,
}

/// How many tasks a service runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Replicated(u32),
    /// One per node: on a single node this is one task.
    Global,
}

impl Default for Mode {
    fn default() -> Self {
        Mode::Replicated(1)
    }
}

impl Mode {
    /// The number of tasks on a single node.
    pub fn replicas(self) -> u32 {
        match self {
            Mode::Replicated(n) => n,
            Mode::Global => 1,
        }
    }
}

/// `update_config` and `rollback_config`; `None` leaves the engine's default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateConfig {
    /// Tasks replaced at a time; 0 means all at once. Swarm's default is 1.
    pub parallelism: u32,
    pub delay: Duration,
    pub failure_action: FailureAction,
    /// Whether the policy names its failure action, were it the default: then somebody relies on it.
    #[serde(default)]
    pub is_named: bool,
    /// How long a new task is watched for failure; Swarm's default is 5 s.
    pub monitor: Option<Duration>,
    pub max_failure_ratio: f64,
    pub order: UpdateOrder,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        UpdateConfig {
            parallelism: 1,
            delay: Duration::ZERO,
            failure_action: FailureAction::Pause,
            is_named: false,
            monitor: None,
            max_failure_ratio: 0.0,
            order: UpdateOrder::StopFirst,
        }
    }
}

/// What Swarm does when a replaced task fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureAction {
    Pause,
    Continue,
    Rollback,
}

/// Whether the old task stops before the new one starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    StopFirst,
    StartFirst,
}

/// `deploy.restart_policy`; the defaults are Swarm's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartPolicy {
    pub condition: RestartCondition,
    pub delay: Duration,
    /// `None` means without limit.
    pub max_attempts: Option<u64>,
    pub window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        RestartPolicy {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(5),
            max_attempts: None,
            window: Duration::ZERO,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    None,
    OnFailure,
    #[default]
    Any,
}

/// `healthcheck`; an unset field falls back to the image's, then to Docker's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Healthcheck {
    pub test: Option<HealthTest>,
    pub interval: Option<Duration>,
    pub timeout: Option<Duration>,
    pub start_period: Option<Duration>,
    pub start_interval: Option<Duration>,
    pub retries: Option<u32>,
}

/// What a health check runs inside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// `["NONE"]` or `disable: true`: also switches off the image's own check.
    None,
    /// `["CMD", …]`: an argument list.
    Cmd(Vec<String>),
    /// `["CMD-SHELL", …]` or a plain string: a line for the container's shell.
    Shell(String),
}

/// Something mounted into a container that is neither a secret nor a config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub kind: MountKind,
    /// Absolute path inside the container.
    pub target: String,
    pub read_only: bool,
    /// `volume.nocopy`: do not fill an empty volume from the image.
    pub no_copy: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A named volume, by its key in the stack's `volumes`.
    Volume(String),
    /// An anonymous volume: it goes with the task.
    Anonymous,
    /// A path of the host. Policy decides whether it is allowed.
    Bind(PathBuf),
    Tmpfs {
        size: Option<u64>,
    },
}

/// A secret or config mounted as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMount {
    /// The key in the stack's `secrets` or `configs`.
    pub source: String,
    /// Absolute path inside the container (`/run/secrets/<source>` by default for secrets, `/<source>` for configs).
    pub target: String,
    pub uid: u32,
    pub gid: u32,
    /// Permission bits; Docker's default is 0o444.
    pub mode: u32,
}

/// A secret or config of the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileObject {
    /// The name in Swarm: `name:` if given, else `<stack>_<key>`.
    pub name: String,
    pub external: bool,
    /// The content of a config, read from the checkout. Always `None` for secrets, whose values are never part of the
    /// model.
    pub content: Option<Vec<u8>>,
    /// `file:` as written, relative to the recipe.
    pub file: Option<PathBuf>,
    pub template_driver: Option<String>,
}

impl FileObject {
    /// Whether Docker renders the content for each task.
    pub fn is_template(&self) -> bool {
        self.template_driver.as_deref() == Some("golang")
    }
}

/// A named volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The name in Docker: `name:` if given, else `<stack>_<key>`.
    pub name: String,
    pub external: bool,
    pub driver: Option<String>,
    pub driver_opts: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

/// A network of the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The name in Docker: `name:` if given, else `<stack>_<key>`.
    pub name: String,
    pub external: bool,
    pub internal: bool,
    pub driver: Option<String>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    pub target: u16,
    pub published: Option<u16>,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `ingress` or `host`.
    pub mode: String,
}
