//! `harness exec` and `harness logs`: a look into an app that is up, through its keeper.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use crate::engine::{Exec, ExecOutput};
use crate::keeper::protocol::{Answer, Call};
use crate::keeper::{lock, socket};
use crate::mask::Masks;

/// Runs a command in a service's container. The app's secrets are masked in what it prints.
pub async fn exec(run: &str, dir: &Path, exec: Exec) -> Result<ExecOutput> {
    let masks = masks(run, dir).await?;
    match ask(run, dir, Call::Exec(exec)).await? {
        Answer::Exec(output) => {
            Ok(ExecOutput { stdout: masked(&masks, &output.stdout), stderr: masked(&masks, &output.stderr), ..output })
        }
        other => unexpected(&other),
    }
}

/// The last lines of a service's log, masked.
pub async fn logs(run: &str, dir: &Path, service: &str, tail: Option<usize>) -> Result<Vec<String>> {
    let masks = masks(run, dir).await?;
    match ask(run, dir, Call::Logs { service: service.to_owned(), tail }).await? {
        Answer::Logs(lines) => Ok(lines.iter().map(|line| masks.mask(&line.text)).collect()),
        other => unexpected(&other),
    }
}

async fn masks(run: &str, dir: &Path) -> Result<Masks> {
    match ask(run, dir, Call::Secrets).await? {
        Answer::Secrets(hidden) => Masks::new(hidden.0.iter().map(String::as_str)),
        other => unexpected(&other),
    }
}

fn masked(masks: &Masks, bytes: &[u8]) -> Vec<u8> {
    let mut stream = masks.stream();
    let mut masked = stream.push(bytes);
    masked.extend(stream.finish());
    masked
}

async fn ask(run: &str, dir: &Path, call: Call) -> Result<Answer> {
    ensure!(lock::exists(dir), "run `{run}` is not up: `--keep` or HARNESS_WARM leaves an app up");
    let mut wire = socket::connect(dir).await?;
    wire.send(&call).await?;
    match wire.receive().await? {
        Some(Answer::Failed(failure)) => bail!("{}", failure.message),
        Some(answer) => Ok(answer),
        None => bail!("the keeper of run `{run}` closed the connection"),
    }
}

fn unexpected<T>(answer: &Answer) -> Result<T> {
    bail!("the keeper answered with something else: {answer:?}")
}
