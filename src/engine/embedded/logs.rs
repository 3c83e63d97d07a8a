//! Container output: one file per task, both streams in the order they came, kept within a size.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use super::super::printed::{Printed, Tail};
use super::super::{LONGEST_LINE, LogLine};

/// A log file is renamed at this size, and the one before it dropped: a task never has more than twice as much.
const MAX_FILE: u64 = 8 * 1024 * 1024;
/// All logs of a service together; beyond it the oldest ones are dropped when a new task starts.
const MAX_SERVICE: u64 = 64 * 1024 * 1024;
/// How often a log may slip away while logs are read.
const RACES: usize = 5;

/// The log of one task.
pub struct Log {
    path: PathBuf,
    file: Mutex<(File, u64)>,
    service: String,
    printed: Arc<Printed>,
}

impl Log {
    /// Opens `<dir>/<service>.<slot>.<task>.log`.
    pub fn open(dir: &Path, service: &str, slot: u32, task: &str, printed: &Arc<Printed>) -> Result<Arc<Log>> {
        trim(dir, service, MAX_SERVICE).with_context(|| format!("failed to trim the logs of `{service}`"))?;
        let path = dir.join(format!("{service}.{slot}.{task}.log"));
        let file = append(&path).with_context(|| format!("failed to open the log `{}`", path.display()))?;
        let (service, printed) = (service.to_owned(), Arc::clone(printed));
        Ok(Arc::new(Log { path, file: Mutex::new((file, 0)), service, printed }))
    }

    /// Writes one line as `<nanoseconds> <stream> <text>`.
    fn line(&self, stream: &str, tail: &mut Tail, text: &[u8]) -> io::Result<()> {
        self.printed.line(&self.service, tail, text);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut line = format!("{now} {stream} ").into_bytes();
        line.extend(text);
        line.push(b'\n');
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, size) = &mut *guard;
        if *size + line.len() as u64 > MAX_FILE {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            (*file, *size) = (append(&self.path)?, 0);
        }
        file.write_all(&line)?;
        *size += line.len() as u64;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// Removes the oldest logs of a service until what is left fits: a crash loop must not fill the disk either.
fn trim(dir: &Path, service: &str, most: u64) -> io::Result<()> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if task_of(&entry.file_name().to_string_lossy(), service).is_some() {
            let metadata = entry.metadata()?;
            logs.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    logs.sort();
    let mut size: u64 = logs.iter().map(|(_, size, _)| size).sum();
    for (_, length, path) in logs {
        if size <= most {
            break;
        }
        fs::remove_file(path)?;
        size -= length;
    }
    Ok(())
}

/// Copies a stream into the log until its last writer is gone.
pub async fn pump(stream: &'static str, reader: OwnedFd, log: Arc<Log>) -> Result<()> {
    let mut reader = pipe::Receiver::from_owned_fd(reader).context("failed to read a container's output")?;
    let (mut pending, mut tail) = (Vec::new(), Tail::default());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = reader.read(&mut buffer).await.context("failed to read a container's output")?;
        if read == 0 {
            break;
        }
        pending.extend(&buffer[..read]);
        let mut start = 0;
        while let Some((end, next)) = line_end(&pending[start..]) {
            // A full disk must not stop the container: its output is lost then, and nothing else.
            let _ = log.line(stream, &mut tail, &pending[start..start + end]);
            start += next;
        }
        pending.drain(..start);
    }
    if !pending.is_empty() {
        let _ = log.line(stream, &mut tail, &pending);
    }
    Ok(())
}

/// Where the first line ends and the next one starts.
fn line_end(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n') {
        Some(end) => Some((end, end + 1)),
        None if bytes.len() >= LONGEST_LINE => Some((LONGEST_LINE, LONGEST_LINE)),
        None => None,
    }
}

/// The lines of all tasks of a service, oldest first; only the last `tail` when given.
pub fn read(dir: &Path, service: &str, tail: Option<usize>) -> Result<Vec<LogLine>> {
    let mut read = read_all(dir, service);
    // A log that is renamed or dropped while they are read is not a log that is missing: look again.
    for _ in 0..RACES {
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => read = read_all(dir, service),
            _ => break,
        }
    }
    let mut lines = read.with_context(|| format!("failed to read the logs in `{}`", dir.display()))?;
    // Stable: lines of one stream keep their order even where the clock stood still or went back.
    lines.sort_by_key(|(at, _)| *at);
    let skip = tail.map_or(0, |tail| lines.len().saturating_sub(tail));
    Ok(lines.into_iter().skip(skip).map(|(_, line)| line).collect())
}

fn read_all(dir: &Path, service: &str) -> io::Result<Vec<(u128, LogLine)>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(task) = task_of(&name, service) else { continue };
        let text = fs::read(entry.path())?;
        lines.extend(String::from_utf8_lossy(&text).lines().filter_map(|line| parse(line, task)));
    }
    Ok(lines)
}

/// The task whose log of this service the file is.
fn task_of<'a>(name: &'a str, service: &str) -> Option<&'a str> {
    let name = name.strip_suffix(".1").unwrap_or(name).strip_suffix(".log")?;
    let (slot, task) = name.strip_prefix(service)?.strip_prefix('.')?.split_once('.')?;
    (slot.parse::<u32>().is_ok() && !task.contains('.')).then_some(task)
}

fn parse(line: &str, task: &str) -> Option<(u128, LogLine)> {
    let mut fields = line.splitn(3, ' ');
    let (at, stream, text) = (fields.next()?.parse().ok()?, fields.next()?, fields.next()?);
    Some((at, LogLine { task: task.to_owned(), stream: stream.to_owned(), text: text.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_is_split_into_lines_and_read_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), "app", 1, "t1", &Arc::default()).unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"one\n\ntwo \xff\nlast without end").unwrap();
        drop(writer);
        pump("stdout", reader.into(), log).await.unwrap();
        let texts = |tail| read(dir.path(), "app", tail).unwrap().into_iter().map(|line| line.text).collect::<Vec<_>>();
        assert_eq!(texts(None), ["one", "", "two \u{fffd}", "last without end"]);
        assert_eq!(texts(Some(1)), ["last without end"]);
        assert!(read(dir.path(), "ap", None).unwrap().is_empty());
    }

    #[test]
    fn the_oldest_logs_of_a_service_go_first_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        for (age, name) in [(3, "app.1.old.log"), (2, "app.1.mid.log.1"), (1, "app.1.new.log"), (9, "db.1.x.log")] {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_len(100).unwrap();
            file.set_modified(SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
        }
        trim(dir.path(), "app", 150).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["app.1.new.log", "db.1.x.log"]);
    }

    #[tokio::test]
    async fn a_runaway_log_stays_within_its_size_and_keeps_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), "app", 1, "t1", &Arc::default()).unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let writing = std::thread::spawn(move || {
            for number in 0..3000 {
                writer.write_all(format!("{number} {}\n", "x".repeat(10_000)).as_bytes()).unwrap();
            }
        });
        pump("stdout", reader.into(), log).await.unwrap();
        writing.join().unwrap();
        let kept: u64 = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(kept <= 2 * MAX_FILE, "{kept}");
        assert!(read(dir.path(), "app", Some(1)).unwrap()[0].text.starts_with("2999 "));
    }
}
