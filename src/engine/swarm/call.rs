//! Commands in a running container: drained to the end, with an exit code, and from one and the same container.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{Task, TaskState};
use bollard::query_parameters::{InspectContainerOptions, ListTasksOptionsBuilder};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use super::super::{CallError, Exec, ExecOutput};
use super::hidden::Hidden;
use super::{Core, is_missing, status};

/// Of each stream of a command, more than this is read but not kept.
const MAX_OUTPUT: usize = 1024 * 1024;

/// How long the killing of a command may take, and a command that does nothing.
const MOMENT: Duration = Duration::from_secs(2);

/// How long Docker may go on saying that a container runs which has ended.
const LAG: Duration = Duration::from_secs(10);

/// In the environment of every command, so that one that does not end can be found and killed.
const MARK: &str = "RECIPE_HARNESS_EXEC";

const KILLED: i64 = 128 + 9;

/// A container to call into.
#[derive(Clone, Debug)]
pub struct Target {
    pub container: String,
    /// The task, as observations name it.
    pub task: String,
    /// Where the archive API does not see what the container sees.
    pub hidden: Hidden,
}

/// Runs a command in the newest running container of a service.
pub async fn exec(core: &Core, exec: &Exec) -> Result<ExecOutput, CallError> {
    let target = find(core, &exec.service).await?;
    let what = || format!("failed to run `{}` in service `{}`", exec.argv.join(" "), exec.service);
    match run(core, &target.container, exec).await {
        Ok(finished) if finished.code == KILLED && has_ended(core, &target.container).await => {
            let partial = String::from_utf8_lossy(&finished.stdout).into_owned();
            let ended = anyhow!(
                "the container of task `{}` ended during the command; its output so far: `{partial}`",
                target.task
            );
            Err(CallError::Interrupted(ended.context(what())))
        }
        Ok(Finished { code, stdout, stderr, truncated }) => {
            Ok(ExecOutput { code: code as i32, stdout, stderr, truncated, task: target.task })
        }
        Err(error) => Err(lost(core, &target.container, error.context(what())).await),
    }
}

/// What a command left.
pub struct Finished {
    pub code: i64,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub truncated: bool,
}

/// Runs a command in a container, whatever its service.
pub async fn run(core: &Core, container: &str, exec: &Exec) -> Result<Finished> {
    let mark = format!("{:032x}", rand::random::<u128>());
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(exec.argv.clone()),
        env: Some(vec![format!("{MARK}={mark}")]),
        user: exec.user.clone(),
        ..CreateExecOptions::default()
    };
    let id = core.docker.create_exec(container, options).await.context("failed to create the exec")?.id;
    let mut kept = Kept::default();
    match tokio::time::timeout(exec.deadline, talk(core, &id, &exec.stdin, &mut kept)).await {
        Ok(result) => result?,
        Err(_) => {
            let killed = kill(core, container, &mark).await;
            return Err(anyhow!(
                "it did not end within {} and {killed}; its output so far: `{}` `{}`",
                humantime::format_duration(exec.deadline),
                String::from_utf8_lossy(&kept.stdout),
                String::from_utf8_lossy(&kept.stderr)
            ));
        }
    }
    let inspected = core.docker.inspect_exec(&id).await.context("failed to ask for the exit code")?;
    // An exec that was never started answers `Running: false` and no exit code; clients that read that as 0 report
    // success.
    let code = inspected.exit_code.filter(|_| inspected.running != Some(true));
    let code = code.context("the command's output ended, but Docker knows no exit code")?;
    match not_started(code, &kept) {
        Some(NotStarted::Program(code, why)) => {
            Ok(Finished { code, stdout: Vec::new(), stderr: why, truncated: false })
        }
        Some(NotStarted::Refused(why)) => Err(anyhow!("{why}")),
        None => Ok(Finished { code, stdout: kept.stdout, stderr: kept.stderr, truncated: kept.truncated }),
    }
}

/// Why a command was never run.
#[derive(Debug, PartialEq, Eq)]
enum NotStarted {
    /// Its program is not there (127), or is none (126), and why.
    Program(i64, Vec<u8>),
    /// It could not be tried: there is no such user, for example.
    Refused(String),
}

/// Docker writes why it could not start a command where the command's output would be, as one line that ends with CR
/// and LF. Taken for output it would be data that nobody printed.
fn not_started(code: i64, kept: &Kept) -> Option<NotStarted> {
    if !matches!(code, 126..=128) || !kept.stderr.is_empty() {
        return None;
    }
    let line = std::str::from_utf8(&kept.stdout).ok()?.strip_suffix("\r\n")?;
    if line.starts_with("OCI runtime exec failed") {
        // Docker 20.10 has 126 for both.
        let is_missing = line.contains("executable file not found") || line.contains("no such file or directory");
        Some(NotStarted::Program(if is_missing { 127 } else { 126 }, format!("{line}\n").into_bytes()))
    } else if line.starts_with("unable to find ") {
        Some(NotStarted::Refused(line.to_owned()))
    } else {
        None
    }
}

#[derive(Default)]
struct Kept {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

/// Feeds the command and reads both streams to their end.
async fn talk(core: &Core, id: &str, stdin: &[u8], kept: &mut Kept) -> Result<()> {
    let started = core.docker.start_exec(id, None::<StartExecOptions>).await.context("failed to start the exec")?;
    let StartExecResults::Attached { mut output, mut input } = started else {
        anyhow::bail!("Docker did not attach to the command");
    };
    let feed = async {
        // A command may end without reading its input: that is its own business.
        let _ = input.write_all(stdin).await;
        let _ = input.shutdown().await;
    };
    let drain = async {
        while let Some(chunk) = output.next().await {
            let (stream, bytes) = match chunk.context("the command's output broke off")? {
                LogOutput::StdErr { message } => (&mut kept.stderr, message),
                LogOutput::StdOut { message } | LogOutput::Console { message } => (&mut kept.stdout, message),
                LogOutput::StdIn { .. } => continue,
            };
            let room = MAX_OUTPUT - stream.len();
            stream.extend(&bytes[..bytes.len().min(room)]);
            kept.truncated |= bytes.len() > room;
        }
        anyhow::Ok(())
    };
    tokio::join!(feed, drain).1
}

/// Docker has no call that ends a command. The container's own shell finds it by its mark; without a shell it lives on
/// until its container ends, and the message says so.
async fn kill(core: &Core, container: &str, mark: &str) -> &'static str {
    let line = format!(
        "for p in /proc/[0-9]*; do if grep -q {mark} $p/environ 2>/dev/null; then kill -9 ${{p#/proc/}}; fi; done"
    );
    let options = CreateExecOptions {
        cmd: Some(vec!["/bin/sh".to_owned(), "-c".into(), line]),
        user: Some("0".into()),
        attach_stdout: Some(true),
        ..CreateExecOptions::default()
    };
    let kill = async {
        let id = core.docker.create_exec(container, options).await?.id;
        if let StartExecResults::Attached { mut output, .. } = core.docker.start_exec(&id, None).await? {
            while output.next().await.is_some() {}
        }
        anyhow::Ok(core.docker.inspect_exec(&id).await?.exit_code == Some(0))
    };
    match tokio::time::timeout(MOMENT, kill).await {
        Ok(Ok(true)) => "was killed",
        _ => "could not be killed, so it may still run",
    }
}

/// The newest running container of a service, asked for anew for every call: an update replaces it at any time.
pub async fn find(core: &Core, service: &str) -> Result<Target, CallError> {
    let tasks = tasks(core, service).await.map_err(CallError::Failed)?;
    let Some(newest) = tasks.first() else { return Err(no_task(core, service).await) };
    let in_state = |wanted| tasks.iter().find(|task| state(task) == Some(wanted) && container(task).is_some());
    let Some(task) = in_state(TaskState::RUNNING).or_else(|| in_state(TaskState::STARTING)) else {
        let words = state(newest).map_or("unknown".to_owned(), |state| state.to_string());
        let error = newest.status.as_ref().and_then(|status| status.err.as_deref()).filter(|error| !error.is_empty());
        let error = error.map(|error| format!(": {error}")).unwrap_or_default();
        return Err(CallError::Interrupted(anyhow!(
            "service `{service}` has no running container: its newest task `{}` is {words}{error}",
            task_name(service, newest)
        )));
    };
    if task.node_id.as_deref() != Some(&core.spec.node) {
        return Err(CallError::Failed(anyhow!(
            "the container of service `{service}` runs on node `{}`, and only those of node `{}`, which is talked to, \
             can be entered",
            task.node_id.as_deref().unwrap_or_default(),
            core.spec.node
        )));
    }
    let container = container(task).unwrap_or_default();
    Ok(Target { container, task: task_name(service, task), hidden: Hidden::of(task) })
}

/// Every running container of a service that is to stay, newest first.
pub async fn running(core: &Core, service: &str) -> Result<Vec<Target>> {
    let stays = |task: &&Task| {
        state(task) == Some(TaskState::RUNNING)
            && task.desired_state == Some(TaskState::RUNNING)
            && task.node_id.as_deref() == Some(&core.spec.node)
    };
    let tasks = tasks(core, service).await?;
    let target = |task: &Task| {
        let container = container(task)?;
        Some(Target { container, task: task_name(service, task), hidden: Hidden::of(task) })
    };
    Ok(tasks.iter().filter(stays).filter_map(target).collect())
}

/// The tasks of a service, newest first.
async fn tasks(core: &Core, service: &str) -> Result<Vec<Task>> {
    let filters = [("service".to_owned(), vec![core.full_name(service)])].into();
    let options = ListTasksOptionsBuilder::default().filters(&filters).build();
    let mut tasks = match core.docker.list_tasks(Some(options)).await {
        Ok(tasks) => tasks,
        // The filter names the service, so Docker does not know it.
        Err(error) if is_missing(&error) => Vec::new(),
        Err(error) => return Err(error).context("failed to list the tasks"),
    };
    tasks.sort_by_key(|task| std::cmp::Reverse(super::observe::created(task)));
    Ok(tasks)
}

/// Whether its container's processes run.
pub fn runs(task: &Task) -> bool {
    matches!(state(task), Some(TaskState::RUNNING | TaskState::STARTING))
}

fn state(task: &Task) -> Option<TaskState> {
    task.status.as_ref().and_then(|status| status.state)
}

pub fn container(task: &Task) -> Option<String> {
    task.status.as_ref()?.container_status.as_ref()?.container_id.clone().filter(|id| !id.is_empty())
}

/// `app.1.<id>`, as observations name a task; a global service numbers none.
pub fn task_name(service: &str, task: &Task) -> String {
    let id = task.id.as_deref().unwrap_or_default();
    match task.slot {
        Some(slot) if slot > 0 => format!("{service}.{slot}.{id}"),
        _ => format!("{service}.{id}"),
    }
}

/// A service without tasks may get one soon; one that does not exist will not.
async fn no_task(core: &Core, service: &str) -> CallError {
    match super::observe::services(core).await {
        Ok(services) if services.iter().any(|it| it.name == service) => {
            CallError::Interrupted(anyhow!("service `{service}` has no running container: it has no task"))
        }
        Ok(services) => {
            let known: Vec<&str> = services.iter().map(|it| it.name.as_str()).collect();
            CallError::Failed(anyhow!("there is no service `{service}`, only `{}`", known.join("`, `")))
        }
        Err(error) => CallError::Failed(error),
    }
}

/// Whether an error comes from the container's end, which a retry may outlive: then Docker says that there is no such
/// container (404), or that it does not run (409), or the container is seen to have ended.
pub async fn lost(core: &Core, container: &str, error: anyhow::Error) -> CallError {
    let code = error.downcast_ref::<bollard::errors::Error>().and_then(status);
    if code == Some(409) || has_ended(core, container).await {
        CallError::Interrupted(error)
    } else {
        CallError::Failed(error)
    }
}

/// Whether the container is gone or has ended. What Docker says of it lags behind, on a busy machine by seconds; a
/// container that still takes a command has not ended.
pub async fn has_ended(core: &Core, container: &str) -> bool {
    use crate::poll::{Look, Poll};
    let look = || async {
        let inspected = core.docker.inspect_container(container, None::<InspectContainerOptions>).await;
        Ok(match inspected {
            Err(error) if is_missing(&error) => Look::Ready(true),
            Ok(inspected) if inspected.state.as_ref().and_then(|state| state.running) == Some(false) => {
                Look::Ready(true)
            }
            _ if takes_commands(core, container).await => Look::Ready(false),
            _ => Look::NotYet("Docker says that it runs, and it takes no command".into()),
        })
    };
    let poll = Poll { interval: Duration::from_millis(20), deadline: LAG };
    poll.until("the container's end", look).await.unwrap_or(false)
}

/// Whether a command can be started in the container: one that its image lacks is looked for inside, too.
async fn takes_commands(core: &Core, container: &str) -> bool {
    let probe = Exec { argv: vec!["true".to_owned()], deadline: MOMENT, ..Exec::default() };
    let ran = Box::pin(run(core, container, &probe)).await;
    ran.is_ok_and(|it| it.code == 0 || String::from_utf8_lossy(&it.stderr).contains("executable file not found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: i64, stdout: &str, stderr: &str) -> Option<NotStarted> {
        not_started(code, &Kept { stdout: stdout.into(), stderr: stderr.into(), truncated: false })
    }

    #[test]
    fn what_docker_says_of_a_command_it_could_not_start_is_no_output() {
        let missing = "OCI runtime exec failed: exec failed: \"x\": executable file not found in $PATH: unknown";
        let expected = NotStarted::Program(127, format!("{missing}\n").into());
        assert_eq!(said(126, &format!("{missing}\r\n"), ""), Some(expected));
        let denied = "OCI runtime exec failed: exec failed: \"/etc/passwd\": permission denied: unknown";
        let expected = NotStarted::Program(126, format!("{denied}\n").into());
        assert_eq!(said(126, &format!("{denied}\r\n"), ""), Some(expected));
        let nobody = "unable to find user nobody-knows: no matching entries in passwd file";
        assert_eq!(said(126, &format!("{nobody}\r\n"), ""), Some(NotStarted::Refused(nobody.into())));
        assert_eq!(said(1, &format!("{missing}\r\n"), ""), None, "a command that ran may print what it likes");
        assert_eq!(said(127, "sh: 1: x: not found\r\n", ""), None);
        assert_eq!(said(126, &format!("{missing}\r\n"), "said by the command"), None);
    }
}
