//! Logs of a service, over all containers that its tasks have had and Docker still has.

use anyhow::{Context as _, Result, bail};
use bollard::container::LogOutput;
use bollard::query_parameters::{ListContainersOptionsBuilder, LogsOptionsBuilder};
use futures_util::StreamExt as _;

use super::super::LogLine;
use super::{Core, is_missing};

/// Swarm's label on the containers of a task.
const TASK_NAME: &str = "com.docker.swarm.task.name";
const SERVICE_NAME: &str = "com.docker.swarm.service.name";

/// A line with the time that Docker gave it, in RFC 3339 with nanoseconds of fixed width: it sorts as text.
type Timed = (String, LogLine);

pub async fn read(core: &Core, service: &str, tail: Option<usize>) -> Result<Vec<LogLine>> {
    let filters = [("label".to_owned(), vec![format!("{SERVICE_NAME}={}", core.full_name(service))])].into();
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let containers = core.docker.list_containers(Some(options)).await.context("failed to list the containers")?;
    if containers.is_empty() {
        let services = super::observe::services(core).await?;
        if !services.iter().any(|it| it.name == service) {
            let known: Vec<&str> = services.iter().map(|it| it.name.as_str()).collect();
            bail!("there is no service `{service}`, only `{}`", known.join("`, `"));
        }
    }
    let mut lines = Vec::new();
    for container in containers {
        let label = container.labels.as_ref().and_then(|labels| labels.get(TASK_NAME)).cloned().unwrap_or_default();
        let task = label.strip_prefix(&format!("{}_", core.stack())).unwrap_or(&label).to_owned();
        lines.extend(of_container(core, &container.id.unwrap_or_default(), &task, tail).await?);
    }
    lines.sort_by(|(one, _), (other, _)| one.cmp(other));
    let skip = tail.map_or(0, |tail| lines.len().saturating_sub(tail));
    Ok(lines.into_iter().skip(skip).map(|(_, line)| line).collect())
}

async fn of_container(core: &Core, id: &str, task: &str, tail: Option<usize>) -> Result<Vec<Timed>> {
    let tail = tail.map_or("all".to_owned(), |tail| tail.to_string());
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).timestamps(true).tail(&tail).build();
    let mut chunks = Box::pin(core.docker.logs(id, Some(options)));
    let mut lines = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let (stream, bytes) = match chunk {
            Ok(LogOutput::StdErr { message }) => ("stderr", message),
            Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => ("stdout", message),
            Ok(LogOutput::StdIn { .. }) => continue,
            // Swarm removes the containers of old tasks whenever it likes.
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error).context("the log broke off"),
        };
        let text = String::from_utf8_lossy(&bytes);
        for line in text.lines() {
            let (time, text) = line.split_once(' ').unwrap_or((line, ""));
            let line = LogLine { task: task.to_owned(), stream: stream.into(), text: text.to_owned() };
            lines.push((time.to_owned(), line));
        }
    }
    Ok(lines)
}
