//! Unpacking: layers into a root file system, in a process of its own that can see nothing but that directory.
//!
//! Layers come from strangers and may hold symbolic links to anywhere. The hidden stage `__unpack` of the same
//! executable enters a mount namespace (an ordinary user: a user namespace too) and pivots into the target, so that
//! `/run` in a layer is the image's `/run`, and `../../etc` leads nowhere.

mod decode;
mod layer;
mod stage;

use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::super::idmap;
use super::cache::{Partial, Unpacked};
use super::manifest::Digest;
use crate::process;

pub(super) use stage::stage;

/// The name of the hidden subcommand.
pub(super) const STAGE: &str = "__unpack";

/// The name of the record of what unpacking did, beside the root file system.
const RECORD: &str = "unpacked.json";

/// Far more than the largest image takes; a file system that hangs must not hang the harness.
const DEADLINE: Duration = Duration::from_secs(20 * 60);

/// A layer on disk, to be checked against its digest while it is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Layer {
    pub(super) blob: PathBuf,
    pub(super) digest: Digest,
    pub(super) media_type: String,
}

/// What unpacking did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stats {
    pub(super) entries: u64,
    pub(super) whiteouts: u64,
    /// Device nodes and FIFOs, which are never made.
    pub(super) devices_skipped: u64,
    /// Entries that belong to the unpacking user instead of the owner that the image names.
    pub(super) chowns_failed: u64,
    /// Of all files that are there in the end.
    #[serde(default)]
    pub(super) bytes: Option<u64>,
}

/// What the stage is told, as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    rootfs: PathBuf,
    layers: Vec<Layer>,
    /// The id outside that the containers' root has, where that is not the one who unpacks.
    first_id: Option<u32>,
}

/// Unpacks `layers`, lowest first, and commits the image to the cache. When the future is dropped, unpacking ends and
/// nothing of it stays.
pub(super) async fn unpack(partial: Partial, layers: Vec<Layer>, config: Vec<u8>) -> Result<Unpacked> {
    // The stage lives as long as this pipe is open: it goes with this future, and with this process.
    let (orders, lifeline) = io::pipe().context("failed to open a pipe")?;
    let sender = lifeline.try_clone().context("failed to clone a pipe")?;
    let work = tokio::task::spawn_blocking(move || fill(partial, layers, &config, orders, sender));
    let done = tokio::time::timeout(DEADLINE, work).await;
    drop(lifeline);
    match done {
        Ok(result) => result.context("failed to wait for the unpacking thread")?,
        Err(_) => bail!("unpacking did not end within {}", humantime::format_duration(DEADLINE)),
    }
}

/// What unpacking did to make `rootfs`, as long as the record is there.
pub(super) fn stats(rootfs: &Path) -> Option<Stats> {
    let record = std::fs::read(rootfs.with_file_name(RECORD)).ok()?;
    serde_json::from_slice(&record).ok()
}

/// The blocking part; it owns the partial image, so that this is removed only after the stage has ended.
fn fill(
    partial: Partial,
    layers: Vec<Layer>,
    config: &[u8],
    orders: PipeReader,
    sender: PipeWriter,
) -> Result<Unpacked> {
    partial.write("config.json", config)?;
    let order = Order { rootfs: partial.rootfs(), layers, first_id: idmap::first_id() };
    let stats = run_stage(&order, orders, sender)
        .with_context(|| format!("failed to unpack into `{}`", partial.cache().display()))?;
    partial.write(RECORD, &serde_json::to_vec(&stats)?)?;
    partial.commit()
}

fn run_stage(order: &Order, orders: PipeReader, mut sender: PipeWriter) -> Result<Stats> {
    let mut command = process::command("/proc/self/exe");
    command.arg(STAGE).env_clear().stdin(orders).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().with_context(|| format!("failed to start the stage `{STAGE}`"))?;
    // Ours is the last reading end: without it, a stage that died early shows as an error of the write.
    drop(command);
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    let sent = sender.write_all(&line);
    drop(sender);
    let output = child.wait_with_output().with_context(|| format!("failed to wait for the stage `{STAGE}`"))?;
    match serde_json::from_slice::<Result<Stats, String>>(&output.stdout) {
        Ok(result) => {
            sent.context("failed to send the order")?;
            result.map_err(|error| anyhow!(error))
        }
        Err(_) => bail!(
            "the stage `{STAGE}` gave no result and exited with code {}; does this executable call \
             `image::stage` first thing in `main`? It said: {}",
            process::exit_code(output.status),
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}
