//! The way to a container from this machine: its address on `docker_gwbridge`, where every task on an ordinary overlay
//! network has one. A loopback address leads there, so that it stays the same while containers come and go.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bollard::query_parameters::InspectNetworkOptions;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::super::{CallError, Exec};
use super::Core;
use super::call;

/// The bridge through which tasks reach the world outside their overlay networks.
pub(super) const BRIDGE: &str = "docker_gwbridge";

/// A container on the same machine answers a connection at once or not at all.
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

/// Opens an address for a port of a service.
pub async fn publish(core: &Arc<Core>, service: &str, port: u16) -> Result<Published> {
    if !core.spec.endpoint.is_local() {
        bail!(
            "the Swarm at `{}` has no Traefik on the recipe's proxy network, and its containers cannot be reached from \
             this machine: deploy a Traefik there, or run the harness on its manager",
            core.spec.endpoint.host
        );
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("failed to open a port on 127.0.0.1")?;
    let address = listener.local_addr().context("failed to find the published address")?;
    let accepting = tokio::spawn(accept(listener, Arc::downgrade(core), service.to_owned(), port));
    Ok(Published { address: format!("http://{address}"), accepting })
}

/// The listener holds the engine only while it serves a connection.
async fn accept(listener: TcpListener, core: Weak<Core>, service: String, port: u16) {
    let turn = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((mut client, _)) = listener.accept().await else {
            // Out of descriptors, most likely: the next connection comes when some are free again.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let Some(core) = core.upgrade() else { return };
        let (service, turn) = (service.clone(), Arc::clone(&turn));
        tokio::spawn(async move {
            let connected = connect(&core, &service, port, turn.fetch_add(1, Ordering::Relaxed)).await;
            drop(core);
            // Without a container the connection is closed at once, as a refused one would be.
            let Ok(Some(mut container)) = connected else { return };
            let _ = tokio::io::copy_bidirectional(&mut client, &mut container).await;
        });
    }
}

/// Whether a port of the service's newest running container accepts a connection now. A container that cannot be
/// reached from here, because its networks are internal or its Swarm is remote, is asked for its listening sockets.
pub async fn connects(core: &Core, service: &str, port: u16) -> Result<bool> {
    let target = match call::find(core, service).await {
        Ok(target) => target,
        Err(CallError::Interrupted(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let near = core.spec.endpoint.is_local() && !core.spec.apart;
    if near && address(core, &target.container).await?.is_some() {
        return Ok(connect(core, service, port, 0).await?.is_some());
    }
    listens(core, service, port).await
}

/// Connects to a running container of the service, each in its turn.
async fn connect(core: &Core, service: &str, port: u16, turn: usize) -> Result<Option<TcpStream>> {
    let mut targets = call::running(core, service).await?;
    if !targets.is_empty() {
        let first = turn % targets.len();
        targets.rotate_left(first);
    }
    for target in targets {
        let Some(address) = address(core, &target.container).await? else { continue };
        let connecting = TcpStream::connect(SocketAddr::from((address, port)));
        if let Ok(Ok(stream)) = tokio::time::timeout(CONNECT, connecting).await {
            return Ok(Some(stream));
        }
    }
    Ok(None)
}

/// The container's address on the bridge, if it has one.
async fn address(core: &Core, container: &str) -> Result<Option<Ipv4Addr>> {
    let bridge = core.docker.inspect_network(BRIDGE, None::<InspectNetworkOptions>).await;
    let bridge = bridge.with_context(|| format!("failed to inspect the network `{BRIDGE}`"))?;
    let endpoint = bridge.containers.unwrap_or_default().remove(container);
    let address = endpoint.and_then(|endpoint| endpoint.ipv4_address).unwrap_or_default();
    Ok(address.split('/').next().and_then(|address| address.parse().ok()))
}

async fn listens(core: &Core, service: &str, port: u16) -> Result<bool> {
    let argv = ["/bin/sh", "-c", "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null; true"].map(str::to_owned).into();
    let exec = Exec { service: service.to_owned(), argv, deadline: CONNECT, ..Exec::default() };
    match call::exec(core, &exec).await {
        Ok(output) if output.code == 0 && !output.stdout.is_empty() => {
            Ok(has_listener(&String::from_utf8_lossy(&output.stdout), port))
        }
        Ok(output) => bail!(
            "service `{service}` cannot be reached from this machine, and its container does not tell what it listens \
             on: `/bin/sh` exited with code {}",
            output.code
        ),
        Err(CallError::Interrupted(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether `/proc/net/tcp` has a socket in state `LISTEN` (0A) on the port.
fn has_listener(table: &str, port: u16) -> bool {
    table.lines().any(|line| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1).and_then(|local| local.rsplit_once(':')).map(|(_, port)| port);
        let state = fields.nth(1);
        local.and_then(|hex| u16::from_str_radix(hex, 16).ok()) == Some(port) && state == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listening_socket_on_the_port_counts() {
        let table = "  sl  local_address rem_address   st tx_queue\n   \
                     0: 00000000:1538 00000000:0000 0A 00000000:00000000\n   \
                     1: 0100007F:0050 0100007F:C350 01 00000000:00000000\n";
        assert!(has_listener(table, 5432));
        assert!(!has_listener(table, 80), "an open connection is no listener");
        assert!(!has_listener("", 80));
    }
}
