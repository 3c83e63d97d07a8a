//! What an engine sees of services and tasks, in Swarm's words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::recipe::stack::{RestartCondition, RestartPolicy, Service};

/// One service as the engine sees it now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceState {
    /// The key in the compose file (`app`), without the stack's name.
    pub name: String,
    /// The image reference of the *current* spec, which after a rollback is the old one.
    pub image: String,
    /// Tasks wanted.
    pub replicas: u32,
    /// What a task's end has to be for another to follow.
    pub restarts: RestartCondition,
    /// Whether its tasks end and are started again on purpose. No engine knows: the keeper says it.
    #[serde(default)]
    pub cycle: Cycle,
    /// `deploy.labels` of the current spec.
    pub labels: BTreeMap<String, String>,
    /// Grows with every accepted change of the spec.
    pub spec_version: u64,
    /// `None` before the first update and after an update that changed nothing.
    pub update: Option<UpdateStatus>,
    /// Every task the engine remembers, newest first, stopped ones included.
    pub tasks: Vec<TaskState>,
    /// The named volumes of the current spec, and where its tasks have them.
    pub mounts: Vec<VolumeMount>,
}

/// Whether a service is a job that runs again and again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cycle {
    #[default]
    No,
    /// Somebody has said so: `periodic` in `recipe.toml`, or a label of swarm-cronjob.
    Declared,
    /// Its restart policy looks like it: whatever has ended well is started again after a long delay.
    Guessed,
}

impl Cycle {
    /// What the compose files say of a service. Swarm's own delay is 5 s, and is nobody's intention.
    pub fn of(name: &str, service: &Service, periodic: &[String]) -> Cycle {
        let is_cron = |(key, value): (&String, &String)| key == "swarm.cronjob.enable" && value.trim() == "true";
        let restart = &service.deploy.restart;
        if periodic.iter().any(|it| it == name) || service.deploy.labels.iter().any(is_cron) {
            Cycle::Declared
        } else if restart.condition == RestartCondition::Any && restart.delay > RestartPolicy::default().delay {
            Cycle::Guessed
        } else {
            Cycle::No
        }
    }
}

/// What is shown of a failed health check: the end of what it said, where the error stands, behind curl's table of its
/// progress. Most checks are told to be quiet, and have an exit code all the same.
pub fn said_by_check(output: &str, code: i64, most: usize) -> String {
    let output = output.trim();
    if output.is_empty() && code != 0 {
        return format!("nothing, and ends with exit code {code}");
    }
    let cut = output.chars().count().saturating_sub(most);
    let end: String = output.chars().skip(cut).collect();
    if cut > 0 { format!("…{end}") } else { end }
}

/// A named volume in the containers of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VolumeMount {
    /// The volume's name in Docker, with the stack's name.
    pub volume: String,
    /// Absolute path inside the container.
    pub target: String,
    pub read_only: bool,
}

impl ServiceState {
    /// Tasks that should be running, newest first.
    pub fn wanted(&self) -> impl Iterator<Item = &TaskState> {
        self.tasks.iter().filter(|task| task.desired_running)
    }

    /// Tasks of the current spec that ended by themselves and should not have: restarts after a crash.
    pub fn failures(&self) -> impl Iterator<Item = &TaskState> {
        let of_now = |task: &&TaskState| task.spec_version == self.spec_version;
        self.tasks.iter().filter(of_now).filter(|task| task.failed() && !self.has_done(task))
    }

    /// How many of the replicas have done their work: a service that runs once, such as a migration, ends with code 0,
    /// and its restart policy leaves it so.
    pub fn done(&self) -> usize {
        let mut slots = BTreeSet::new();
        // The newest of each slot comes first, and it alone says how the slot is.
        let newest = self.tasks.iter().filter(|task| slots.insert(task.slot));
        newest.filter(|task| task.spec_version == self.spec_version && self.has_done(task)).count()
    }

    /// Whether all of its work is done. Swarm pauses the update of such a service, because the new task ends "early".
    pub fn is_done(&self) -> bool {
        self.replicas > 0 && (self.done() == self.replicas as usize || self.has_cycled())
    }

    /// Whether it is a job that runs again and again, and has run once to a good end.
    pub fn has_cycled(&self) -> bool {
        let is_over = |task: &TaskState| task.spec_version == self.spec_version && self.has_done(task);
        self.cycle != Cycle::No && self.tasks.iter().any(is_over)
    }

    /// What was stopped for its health may end with code 0 as well, and has done nothing.
    fn has_done(&self, task: &TaskState) -> bool {
        let goes_on = self.restarts == RestartCondition::Any && self.cycle == Cycle::No;
        !goes_on && task.phase == TaskPhase::Complete && task.health != Health::Unhealthy
    }
}

/// How the last update of a service went, in Swarm's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    pub state: UpdateState,
    /// The engine's own message, such as "update rolled back due to failure or early termination of task …".
    pub message: String,
}

/// Swarm's update states: only `Updating` and `RollbackStarted` are in flight, `Paused` is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    Updating,
    Completed,
    Paused,
    RollbackStarted,
    RollbackCompleted,
    RollbackPaused,
}

impl fmt::Display for UpdateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            UpdateState::Updating => "updating",
            UpdateState::Completed => "completed",
            UpdateState::Paused => "paused",
            UpdateState::RollbackStarted => "rollback_started",
            UpdateState::RollbackCompleted => "rollback_completed",
            UpdateState::RollbackPaused => "rollback_paused",
        };
        f.write_str(name)
    }
}

/// How systems say that a disk is full, in small letters.
pub const NO_ROOM: [&str; 2] = ["no space left on device", "disk quota exceeded"];

/// One task: a container, past or present, of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskState {
    pub id: String,
    /// 1-based replica number.
    pub slot: u32,
    pub phase: TaskPhase,
    pub health: Health,
    /// The image reference the task was started from.
    pub image: String,
    /// What the reference resolved to, when the engine knows it.
    pub digest: Option<String>,
    /// The spec version the task was made for.
    pub spec_version: u64,
    /// False once the engine wants the task gone: replaced, scaled down or removed.
    pub desired_running: bool,
    /// Exit code, 128 plus the signal for a killed task; `None` while it runs.
    pub exit_code: Option<i32>,
    /// Why the task is not running, in the engine's words; empty when there is nothing to say.
    pub error: String,
    /// When the task's process started.
    pub started_at: Option<SystemTime>,
    /// Output of the latest health check, cut to a few hundred characters.
    pub health_output: String,
    /// Its process ran, and passed its health check if it has one, at some time.
    pub ever_ready: bool,
}

impl TaskState {
    /// Whether the task ended although nobody asked it to.
    pub fn failed(&self) -> bool {
        matches!(self.phase, TaskPhase::Failed | TaskPhase::Rejected | TaskPhase::Complete)
    }

    /// Whether its health check ended it before it was ever ready, as a migration that outlasts `start_period` sees it.
    /// The words are Swarm's; of a container that stops with code 0 when it is told to, Swarm says nothing, and its
    /// health alone tells.
    pub fn killed_while_starting(&self) -> bool {
        let for_its_health = self.error.contains("unhealthy container") || self.health == Health::Unhealthy;
        self.failed() && !self.ever_ready && for_its_health
    }

    /// Whether its error has the words of a full disk. They are the system's, handed on by Docker, but may be those of the
    /// recipe, too, which an error quotes: by themselves they prove nothing.
    pub fn speaks_of_no_space(&self) -> bool {
        NO_ROOM.iter().any(|words| self.error.to_lowercase().contains(words))
    }
}

/// Swarm's task states, as far as they differ for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskPhase {
    Pending,
    /// Images, mounts and networks are being set up.
    Preparing,
    /// The process runs but its health check has not passed yet.
    Starting,
    Running,
    /// Exited with code 0 without being asked to.
    Complete,
    /// Exited with another code, became unhealthy, or could not be started.
    Failed,
    /// The engine refused it: no such image, a mount that cannot be made.
    Rejected,
    /// Stopped on request.
    Shutdown,
}

impl fmt::Display for TaskPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            TaskPhase::Pending => "pending",
            TaskPhase::Preparing => "preparing",
            TaskPhase::Starting => "starting",
            TaskPhase::Running => "running",
            TaskPhase::Complete => "complete",
            TaskPhase::Failed => "failed",
            TaskPhase::Rejected => "rejected",
            TaskPhase::Shutdown => "shutdown",
        };
        f.write_str(name)
    }
}

/// The health of a task's container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// No health check is defined.
    None,
    Starting,
    Healthy,
    Unhealthy,
}

/// A file in a snapshot's or volume's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the volume's root.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Lower-case hex SHA-256 of the content; empty for anything that is not a regular file.
    pub sha256: String,
}

/// Bytes; what an app writes without a line's end is broken into lines of this size, on every engine.
pub const LONGEST_LINE: usize = 1 << 20;

/// What a log line came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub task: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(slot: u32, phase: TaskPhase) -> TaskState {
        TaskState {
            id: format!("job.{slot}.x"),
            slot,
            phase,
            health: Health::None,
            image: "job:1".into(),
            digest: None,
            spec_version: 1,
            desired_running: false,
            exit_code: Some(0),
            error: String::new(),
            started_at: None,
            health_output: String::new(),
            ever_ready: true,
        }
    }

    fn counts(restarts: RestartCondition, tasks: Vec<TaskState>) -> (usize, usize) {
        let service = ServiceState { name: "job".into(), restarts, spec_version: 1, tasks, ..Default::default() };
        (service.done(), service.failures().count())
    }

    #[test]
    fn of_a_check_the_end_is_kept_and_silence_has_an_exit_code() {
        let curl = format!("{}\ncurl: (22) The requested URL returned error: 500\n", "0     0 --:--:--".repeat(40));
        let said = said_by_check(&curl, 22, 60);
        assert!(said.starts_with('…') && said.ends_with("curl: (22) The requested URL returned error: 500"), "{said}");
        assert_eq!(said.chars().count(), 61);
        assert_eq!(said_by_check("no page\n", 1, 60), "no page");
        assert_eq!(said_by_check("\n", 1, 60), "nothing, and ends with exit code 1");
        assert_eq!(said_by_check("", 0, 60), "");
    }

    #[test]
    fn what_is_started_again_after_a_long_delay_may_be_meant_to() {
        let delayed = |condition, seconds| Service {
            deploy: crate::recipe::stack::Deploy {
                restart: RestartPolicy {
                    condition,
                    delay: std::time::Duration::from_secs(seconds),
                    ..RestartPolicy::default()
                },
                ..Default::default()
            },
            ..Service::default()
        };
        let of = |service: &Service| Cycle::of("bridge", service, &[]);
        assert_eq!(of(&delayed(RestartCondition::Any, 30)), Cycle::Guessed);
        assert_eq!(of(&delayed(RestartCondition::Any, 5)), Cycle::No);
        assert_eq!(of(&delayed(RestartCondition::OnFailure, 30)), Cycle::No);
        assert_eq!(Cycle::of("bridge", &Service::default(), &["bridge".to_owned()]), Cycle::Declared);
        let mut cron = Service::default();
        cron.deploy.labels = [("swarm.cronjob.enable".to_owned(), "true".to_owned())].into();
        assert_eq!(of(&cron), Cycle::Declared);
    }

    #[test]
    fn only_a_task_that_ended_well_and_is_not_to_come_back_has_done_its_work() {
        use RestartCondition::{Any, None, OnFailure};
        let complete = || vec![task(1, TaskPhase::Complete)];
        assert_eq!(counts(OnFailure, complete()), (1, 0));
        assert_eq!(counts(None, complete()), (1, 0));
        assert_eq!(counts(Any, complete()), (0, 1), "it comes back, and did not stay up");
        assert_eq!(counts(OnFailure, vec![task(1, TaskPhase::Failed)]), (0, 1));
        let sick = TaskState { health: Health::Unhealthy, ..task(1, TaskPhase::Complete) };
        assert_eq!(counts(OnFailure, vec![sick]), (0, 1), "it was stopped for its health");
        let old = TaskState { spec_version: 0, ..task(1, TaskPhase::Complete) };
        assert_eq!(counts(OnFailure, vec![old]), (0, 0), "that was the work of another specification");
    }

    #[test]
    fn what_docker_says_of_a_full_disk_is_known_from_what_a_program_ended_with() {
        let with = |error: &str| TaskState { error: error.into(), ..task(1, TaskPhase::Rejected) }.speaks_of_no_space();
        assert!(with("write /var/lib/docker/overlay2/046b-init/link: no space left on device"));
        assert!(!with("No such image: nginx:99") && !with("task: non-zero exit (1)"));
    }

    #[test]
    fn the_newest_task_of_each_slot_says_how_the_slot_is() {
        let tasks = vec![task(1, TaskPhase::Running), task(2, TaskPhase::Complete), task(1, TaskPhase::Complete)];
        assert_eq!(counts(RestartCondition::OnFailure, tasks).0, 1);
    }
}
