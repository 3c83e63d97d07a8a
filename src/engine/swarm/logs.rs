//! Logs of a service, over all containers that its tasks have had and Docker still has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context as _, Result, bail};
use bollard::container::LogOutput;
use bollard::query_parameters::{ListContainersOptionsBuilder, LogsOptionsBuilder};
use futures_util::StreamExt as _;

use super::super::printed::{Hit, Secrets, Tail};
use super::super::{LONGEST_LINE, LogLine};
use super::{Core, is_missing};

/// Swarm's label on the containers of a task.
const TASK_NAME: &str = "com.docker.swarm.task.name";
const SERVICE_NAME: &str = "com.docker.swarm.service.name";

/// Bytes; Docker keeps longer lines in pieces of this size.
const PIECE: usize = 16 * 1024;

/// Of one container's log, the end that takes this much memory is read: an app may have logged gigabytes.
const MAX_KEPT: usize = 64 << 20;
/// What a line takes beside its text: its time, its task, and their places in memory.
const LINE: usize = 250;

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

/// Where a service has printed a secret: all that Docker has of its containers' logs goes by, and nothing of it is kept.
pub async fn printed(core: &Core, service: &str, secrets: &Secrets) -> Result<Vec<Hit>> {
    let filters = [("label".to_owned(), vec![format!("{SERVICE_NAME}={}", core.full_name(service))])].into();
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let containers = core.docker.list_containers(Some(options)).await.context("failed to list the containers")?;
    let (mut hits, mut line) = (BTreeSet::new(), 1);
    for container in containers {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail("all").build();
        let mut chunks = Box::pin(core.docker.logs(&container.id.unwrap_or_default(), Some(options)));
        let mut tails = BTreeMap::<&str, Tail>::new();
        while let Some(chunk) = chunks.next().await {
            let (stream, bytes) = match chunk {
                Ok(LogOutput::StdErr { message }) => ("stderr", message),
                Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => ("stdout", message),
                Ok(LogOutput::StdIn { .. }) => continue,
                Err(error) if is_missing(&error) => break,
                Err(error) => return Err(error).context("the log broke off"),
            };
            let found = tails.entry(stream).or_default().found(secrets, &bytes);
            hits.extend(found.into_iter().map(|name| (name.to_owned(), line)));
            line += usize::from(bytes.ends_with(b"\n"));
        }
    }
    Ok(hits.into_iter().collect())
}

async fn of_container(core: &Core, id: &str, task: &str, tail: Option<usize>) -> Result<Vec<Timed>> {
    // Docker counts pieces, and the first one may be the middle of a line: as many more as a line has are asked for.
    let tail = tail.map_or("all".to_owned(), |tail| (tail + LONGEST_LINE / PIECE).to_string());
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).timestamps(true).tail(&tail).build();
    let mut chunks = Box::pin(core.docker.logs(id, Some(options)));
    let mut lines = Lines::default();
    while let Some(chunk) = chunks.next().await {
        let (stream, bytes) = match chunk {
            Ok(LogOutput::StdErr { message }) => ("stderr", message),
            Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => ("stdout", message),
            Ok(LogOutput::StdIn { .. }) => continue,
            // Swarm removes the containers of old tasks whenever it likes.
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error).context("the log broke off"),
        };
        lines.add(stream, &bytes);
    }
    Ok(lines.of_task(task))
}

/// Lines as the app wrote them. Docker keeps long ones in pieces of 16 KiB, each with a time of its own, and of which only
/// the last ends the line: a secret must not hide between two of them.
#[derive(Default)]
struct Lines {
    /// Time, stream and bytes.
    lines: VecDeque<(String, &'static str, Vec<u8>)>,
    /// By stream, the number of the line that has not ended yet.
    open: BTreeMap<&'static str, usize>,
    /// How many of the oldest lines are left out.
    dropped: usize,
    /// What the lines take.
    size: usize,
}

impl Lines {
    fn add(&mut self, stream: &'static str, piece: &[u8]) {
        let (piece, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |piece| (piece, true));
        let space = piece.iter().position(|byte| *byte == b' ').unwrap_or(piece.len());
        let (time, text) = (&piece[..space], piece.get(space + 1..).unwrap_or_default());
        let at = self.open.remove(stream).unwrap_or_else(|| {
            self.lines.push_back((String::from_utf8_lossy(time).into_owned(), stream, Vec::new()));
            self.size += LINE;
            self.dropped + self.lines.len() - 1
        });
        let line = &mut self.lines[at - self.dropped].2;
        line.extend_from_slice(text);
        self.size += text.len();
        if !ends && line.len() < LONGEST_LINE {
            self.open.insert(stream, at);
        }
        self.keep(MAX_KEPT);
    }

    /// Leaves the oldest lines out until the others fit.
    fn keep(&mut self, most: usize) {
        while self.size > most && !self.open.values().any(|at| *at == self.dropped) {
            let Some((_, _, text)) = self.lines.pop_front() else { return };
            self.size -= LINE + text.len();
            self.dropped += 1;
        }
    }

    fn of_task(self, task: &str) -> Vec<Timed> {
        let line = |(time, stream, text): (String, &str, Vec<u8>)| {
            let text = String::from_utf8_lossy(&text).into_owned();
            (time, LogLine { task: task.to_owned(), stream: stream.into(), text })
        };
        self.lines.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_long_line_are_put_together_by_stream() {
        let mut lines = Lines::default();
        lines.add("stdout", b"1 a sec");
        lines.add("stderr", b"2 other\n");
        lines.add("stdout", b"3 ret\n");
        lines.add("stdout", b"4 \n");
        lines.add("stdout", b"5 \xc3");
        lines.add("stdout", b"6 \xa4");
        let seen: Vec<_> = lines.of_task("t").into_iter().map(|(time, line)| (time, line.text)).collect();
        let seen: Vec<_> = seen.iter().map(|(time, text)| (time.as_str(), text.as_str())).collect();
        assert_eq!(seen, [("1", "a secret"), ("2", "other"), ("4", ""), ("5", "ä")]);
    }

    #[test]
    fn of_a_log_that_is_too_large_the_end_is_kept() {
        let mut lines = Lines::default();
        (0..10).for_each(|number| lines.add("stdout", format!("{number} line {number}\n").as_bytes()));
        lines.add("stderr", b"x op");
        lines.keep(3 * (LINE + 6));
        lines.add("stderr", b"y en\n");
        lines.keep(3 * (LINE + 6));
        let seen: Vec<_> = lines.of_task("t").into_iter().map(|(_, line)| line.text).collect();
        assert_eq!(seen, ["line 8", "line 9", "open"]);
    }

    #[test]
    fn a_line_without_an_end_is_broken_at_the_longest() {
        let mut lines = Lines::default();
        let piece = [b"1 ".as_slice(), &vec![b'x'; PIECE]].concat();
        (0..100).for_each(|_| lines.add("stdout", &piece));
        let lengths: Vec<usize> = lines.of_task("t").iter().map(|(_, line)| line.text.len()).collect();
        assert_eq!(lengths, [LONGEST_LINE, 36 * PIECE]);
    }
}
