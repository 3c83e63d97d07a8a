//! Ports beside that of the page: an app without one is reached there, and so are the others of one that has a page.

use anyhow::{Context as _, Result};

use crate::app::{App, skip};
use crate::poll::Look;
use crate::recipe::route::ports::Port;

/// Every port that the recipe publishes, or routes over TCP or UDP, is listened on, within the `call` deadline.
pub async fn ports_answer(app: &App) -> Result<()> {
    let ports = app.evidence().await?.ports;
    if ports.is_empty() {
        return skip("what is deployed now publishes and routes no port; the other version does");
    }
    let mut unjudged = Vec::new();
    for port in &ports {
        let Port { service, number, by, .. } = port;
        let listened = match port.udp {
            false => over_tcp(app, port).await.map(|()| true),
            true => over_udp(app, port).await,
        };
        if !listened.with_context(|| format!("service `{service}` must be there on port {number}, which {by}"))? {
            unjudged.push(format!(
                "whether service `{service}` listens on the UDP port {number}, because its container has no `cat` to look with"
            ));
        }
    }
    match unjudged.is_empty() {
        true => Ok(()),
        false => skip(format!("unverified: nobody knows {}", unjudged.join(", and "))),
    }
}

async fn over_tcp(app: &App, port: &Port) -> Result<()> {
    let what = format!("port {} of service `{}` to accept connections", port.number, port.service);
    app.eventually(&what, async || {
        let accepts = app.connects(&port.service, port.number).await?;
        Ok(if accepts { Look::Ready(()) } else { Look::NotYet("it refuses them".into()) })
    })
    .await
}

/// A datagram that is sent says nothing of whether it was taken: the kernel knows who has bound the port. `false` when
/// nobody can look.
async fn over_udp(app: &App, port: &Port) -> Result<bool> {
    let what = format!("the UDP port {} of service `{}` to be bound", port.number, port.service);
    app.eventually(&what, async || {
        let table = app.exec(&port.service, ["cat", "/proc/net/udp", "/proc/net/udp6"]).await?;
        // Without `cat` there is no table; what keeps anybody from looking is an error, and no want of `cat`.
        let is_readable = table.text().contains("local_address");
        Ok(match bound(&table.text(), port.number) {
            _ if !is_readable => Look::Ready(false),
            true => Look::Ready(true),
            false => Look::NotYet("no socket has that port".into()),
        })
    })
    .await
}

/// Whether `/proc/net/udp` has a socket on the port.
fn bound(table: &str, port: u16) -> bool {
    table.lines().any(|line| {
        let local = line.split_whitespace().nth(1).and_then(|local| local.rsplit_once(':')).map(|(_, port)| port);
        local.and_then(|hex| u16::from_str_radix(hex, 16).ok()) == Some(port)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_on_the_port_is_found() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue\n  \
                     402: 00000000:FCE2 00000000:0000 07 00000000:00000000\n   \
                     sl  local_address                         remote_address\n  \
                     403: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07\n";
        assert!(bound(table, 64738) && bound(table, 53));
        assert!(!bound(table, 54) && !bound("", 53));
    }
}
