//! Published ports: a loopback address here, and for every connection a running task over there.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::core::Core;
use super::state::Task;

/// A task on the same machine answers a connection at once or not at all.
const CONNECT: Duration = Duration::from_secs(2);

/// A published port; dropping it closes the address.
pub struct Published {
    pub address: String,
    accepting: JoinHandle<()>,
}

impl Drop for Published {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Opens an address for a port of a service. It outlives every task.
pub async fn publish(core: &Arc<Core>, service: &str, port: u16) -> Result<Published> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("failed to open a port on 127.0.0.1")?;
    let address = listener.local_addr().context("failed to find the published address")?;
    let accepting = tokio::spawn(accept(listener, Arc::downgrade(core), service.to_owned(), port));
    Ok(Published { address: format!("http://{address}"), accepting })
}

/// The listener holds the engine only while it serves a connection.
async fn accept(listener: TcpListener, core: std::sync::Weak<Core>, service: String, port: u16) {
    let turn = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors, most likely: the next connection comes when some are free again.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let Some(core) = core.upgrade() else { return };
        let (service, turn) = (service.clone(), Arc::clone(&turn));
        tokio::spawn(async move {
            let task = connect(&core, &service, port, turn.fetch_add(1, Ordering::Relaxed)).await;
            drop(core);
            // Without a task the connection is closed at once, as a refused one would be.
            let Some(mut task) = task else { return };
            let mut client = client;
            let _ = tokio::io::copy_bidirectional(&mut client, &mut task).await;
        });
    }
}

/// Whether a running task of the service accepts a connection now.
pub async fn connects(core: &Core, service: &str, port: u16) -> Result<bool> {
    core.read(|state| state.known(service).map(drop))?;
    Ok(connect(core, service, port, 0).await.is_some())
}

/// Connects to a running task, each in its turn; one that does not listen yet is passed over.
async fn connect(core: &Core, service: &str, port: u16, turn: usize) -> Option<TcpStream> {
    let mut targets: Vec<(String, Ipv4Addr)> = core.read(|state| {
        let record = state.services.get(service);
        let running = record.into_iter().flat_map(|record| record.running()).filter(|task| task.desired_running());
        running.filter_map(|task| Some((task.id.clone(), *task.addresses.values().next()?))).collect()
    });
    if !targets.is_empty() {
        let first = turn % targets.len();
        targets.rotate_left(first);
    }
    for (task, address) in targets {
        let socket = core.pod.tcp_socket().await.ok()?;
        // A task that ends meanwhile takes its address with it, and nobody would answer for a long time.
        let ended = core.wait_for(|state| state.task(service, &task).is_none_or(Task::ended).then_some(()));
        tokio::select! {
            connected = socket.connect((address, port).into()) => {
                if let Ok(stream) = connected {
                    return Some(stream);
                }
            }
            () = ended => {}
            () = tokio::time::sleep(CONNECT) => {}
        }
    }
    None
}
