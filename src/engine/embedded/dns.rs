//! The resolver on 127.0.0.11 of every container: the same names as in its host table, and no others.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::core::Core;
use super::names;

const HEADER: usize = 12;
/// As many addresses as fit into the 512 bytes that every client reads, whatever the name.
const MAX_ADDRESSES: usize = 14;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;

/// Answers on a container's socket until the task is aborted.
pub async fn serve(core: Arc<Core>, service: String, task: String, socket: OwnedFd) {
    let socket = UdpSocket::from(socket);
    let Ok(socket) = socket.set_nonblocking(true).and_then(|()| tokio::net::UdpSocket::from_std(socket)) else {
        return;
    };
    let mut buffer = [0; 1500];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
        let look_up = |name: &str| {
            core.read(|state| {
                let networks = state.task(&service, &task)?.addresses.keys();
                let addresses = names::visible(state, networks).remove(name)?;
                Some(addresses.into_iter().take(MAX_ADDRESSES).collect())
            })
        };
        if let Some(answer) = answer(&buffer[..length], look_up) {
            // A peer that went away asks again, or does not care.
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

/// The answer to a query with one question; `None` for what is no query.
fn answer(query: &[u8], look_up: impl Fn(&str) -> Option<Vec<Ipv4Addr>>) -> Option<Vec<u8>> {
    let header = query.get(..HEADER)?;
    if header[2] & 0x80 != 0 || header[4..6] != [0, 1] {
        return None;
    }
    let (name, end) = name(query)?;
    let question = query.get(HEADER..end + 4)?;
    let kind = u16::from_be_bytes([query[end], query[end + 1]]);
    let class = u16::from_be_bytes([query[end + 2], query[end + 3]]);
    let standard = header[2] & 0x78 == 0 && class == CLASS_IN;
    let (code, addresses) = match look_up(&name) {
        _ if !standard => (NOT_IMPLEMENTED, Vec::new()),
        None => (NO_SUCH_NAME, Vec::new()),
        // A name that has no address of this kind exists nevertheless.
        Some(addresses) => (NO_ERROR, if kind == TYPE_A { addresses } else { Vec::new() }),
    };
    let mut answer = header[..2].to_vec();
    // An answer, authoritative, with the query's own wish for recursion.
    answer.extend([0x84 | (header[2] & 0x79), 0x80 | code]);
    answer.extend([0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
    answer.extend(question);
    for address in addresses {
        // The name as a pointer to the question, type A, class IN, no time to live, four bytes.
        answer.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

/// The question's name in lower case, and where it ends.
fn name(query: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        // Pointers have no place in a question.
        if length > 63 {
            return None;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, kind: u8) -> Vec<u8> {
        let mut query = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend(label.bytes());
        }
        query.extend([0, 0, kind, 0, 1]);
        query
    }

    fn known(name: &str) -> Option<Vec<Ipv4Addr>> {
        (name == "tasks.db").then(|| vec![Ipv4Addr::new(10, 89, 0, 2), Ipv4Addr::new(10, 89, 0, 3)])
    }

    #[test]
    fn a_known_name_has_its_addresses_whatever_its_case() {
        let answer = answer(&query("Tasks.DB", 1), known).unwrap();
        assert_eq!(answer[..4], [0xab, 0xcd, 0x85, 0x80]);
        assert_eq!(answer[6..8], [0, 2]);
        assert!(answer.ends_with(&[10, 89, 0, 3]));
    }

    #[test]
    fn an_unknown_name_does_not_exist_and_a_known_one_has_no_ipv6() {
        assert_eq!(answer(&query("example.org", 1), known).unwrap()[3], 0x83);
        let ipv6 = answer(&query("tasks.db", 28), known).unwrap();
        assert_eq!((ipv6[3], ipv6[7]), (0x80, 0));
    }

    #[test]
    fn garbage_is_not_answered() {
        assert_eq!(answer(b"hello", known), None);
        let mut cut = query("tasks.db", 1);
        cut.truncate(20);
        assert_eq!(answer(&cut, known), None);
    }
}
