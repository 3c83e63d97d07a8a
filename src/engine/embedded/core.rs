//! What all parts of a running engine share: the pod, the state, and the wait for its changes.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tokio::sync::watch;

use super::super::printed::Printed;
use super::super::{EngineContext, Kind};
use super::groups::Groups;
use super::pod::Pod;
use super::stage::pod::Bridge;
use super::state::{self, PREFIX, State, Task};
use super::{idmap, names};

/// Interface indices of bridges start here, clear of `lo` and of what the kernel gives out by itself.
const FIRST_BRIDGE: u32 = 1_000_000;
const FIRST_CABLE: u32 = 2_000_000;

pub struct Core {
    pub context: EngineContext,
    /// This executable, as containers can mount it.
    pub program: PathBuf,
    pub pod: Pod,
    pub groups: Groups,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Secrets are looked for in what containers print as they print it.
    pub printed: Arc<Printed>,
    cables: AtomicU32,
    /// Deployments are taken one after the other.
    pub deploying: tokio::sync::Mutex<()>,
}

impl Core {
    pub fn new(context: EngineContext, program: PathBuf, pod: Pod, groups: Groups) -> Arc<Core> {
        Arc::new(Core {
            context,
            program,
            pod,
            groups,
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            printed: Arc::default(),
            cables: AtomicU32::new(0),
            deploying: tokio::sync::Mutex::default(),
        })
    }

    /// Looks at the state. The lock is never held over an await.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state, brings the host tables up to date, and wakes whoever waits for a change.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        refresh_hosts(&mut state);
        drop(state);
        self.changed.send_replace(());
        result
    }

    /// Waits until `look` finds something.
    pub async fn wait_for<T>(&self, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(found) = self.read(&mut look) {
                return found;
            }
            // The sender lives in this very object: it cannot be gone.
            let _ = changes.changed().await;
        }
    }

    /// Starts nothing any more, and asks every task to end.
    pub fn close(&self) {
        self.change(|state| {
            state.closed = true;
            state.services.values().flat_map(|record| &record.tasks).for_each(Task::ask_to_stop);
        });
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        self.context.dir.join(name)
    }

    /// The interface index of the next cable.
    pub fn next_cable(&self) -> u32 {
        FIRST_CABLE + self.cables.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a network's bridge, once.
    pub async fn ensure_network(&self, name: &str) -> Result<()> {
        if self.read(|state| state.networks.contains_key(name)) {
            return Ok(());
        }
        let number = self.read(|state| state.networks.len() as u32);
        let bridge = Bridge { index: bridge_index(number), address: state::gateway(number), prefix: PREFIX };
        self.pod.add_bridge(bridge).await.with_context(|| format!("failed to make the network `{name}`"))?;
        self.change(|state| state.networks.insert(name.to_owned(), number));
        Ok(())
    }

    /// Makes a volume's directory, once; the journal knows of it before.
    pub fn ensure_volume(&self, name: &str) -> Result<()> {
        if self.read(|state| state.volume_dirs.contains_key(name)) {
            return Ok(());
        }
        let dir = self.dir("volumes").join(name);
        self.context.ledger.creating(Kind::Volume, name)?;
        fs::create_dir_all(&dir).with_context(|| format!("failed to create the volume `{name}`"))?;
        idmap::give(&dir)?;
        self.context.ledger.created(Kind::Volume, name, &dir.to_string_lossy())?;
        self.change(|state| state.volume_dirs.insert(name.to_owned(), dir));
        Ok(())
    }
}

/// The interface index of a network's bridge.
pub fn bridge_index(network: u32) -> u32 {
    FIRST_BRIDGE + network
}

/// Rewrites the host tables that changed, in place: containers have the file itself mounted.
fn refresh_hosts(state: &mut State) {
    let mut changed = Vec::new();
    for (service, record) in &state.services {
        for task in &record.tasks {
            let Some(container) = &task.container else { continue };
            let gateway = task.addresses.keys().next().and_then(|name| state.networks.get(name));
            let table = names::hosts(state, task, &container.hostname, gateway.copied().map(state::gateway));
            if table != task.hosts {
                changed.push((service.clone(), task.id.clone(), container.dir.join("hosts"), table));
            }
        }
    }
    for (service, id, path, table) in changed {
        // A container that ends meanwhile takes its table with it.
        let _ = rewrite(&path, &table);
        if let Some(task) = state.task_mut(&service, &id) {
            task.hosts = table;
        }
    }
}

/// Overwrites first and cuts then, so that a reader never meets an empty file.
fn rewrite(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}
