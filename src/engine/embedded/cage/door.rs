//! What goes through the door of a cage: the requests of a program, with what a Traefik would say of each.

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::recipe::route::Rewrite;

/// More is no head of a request; it is passed on as it is.
const LONGEST_HEAD: usize = 64 << 10;

/// What a Traefik would do to a request.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Headers, by name, for a request that does not have them.
    pub headers: Vec<(&'static str, String)>,
    pub rewrites: Vec<Rewrite>,
}

/// Passes one connection on. Its request is changed, and asked to be the connection's last, so that every other one is
/// changed, too.
pub async fn pass(mut inside: TcpStream, mut outside: TcpStream, changes: &Changes) -> Result<()> {
    if !changes.headers.is_empty() || !changes.rewrites.is_empty() {
        outside.write_all(&beginning(&mut inside, changes).await?).await?;
    }
    tokio::io::copy_bidirectional(&mut inside, &mut outside).await?;
    Ok(())
}

/// The head of a connection's request as it is changed, and whatever of its body came along.
async fn beginning(inside: &mut (impl AsyncRead + Unpin), changes: &Changes) -> Result<Vec<u8>> {
    let (mut read, mut buffer) = (Vec::new(), vec![0; 8 << 10]);
    loop {
        if let Some(end) = read.windows(4).position(|it| it == b"\r\n\r\n") {
            return Ok(changes.made_to(&read, end));
        }
        let more = inside.read(&mut buffer).await?;
        read.extend(&buffer[..more]);
        if more == 0 || read.len() > LONGEST_HEAD || !may_be_request(&read) {
            return Ok(read);
        }
    }
}

/// A method in capitals comes first.
fn may_be_request(read: &[u8]) -> bool {
    let method = read.split(|byte| *byte == b' ').next().unwrap_or_default();
    method.len() <= 20 && method.iter().all(u8::is_ascii_uppercase)
}

impl Changes {
    /// The request with its path rewritten, and the headers behind its own.
    fn made_to(&self, read: &[u8], end: usize) -> Vec<u8> {
        let (head, rest) = read.split_at(end);
        let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        let mut out = self.first_line(lines.next().unwrap_or_default());
        let lines: Vec<&[u8]> = lines.collect();
        let has = |name: &str| lines.iter().any(|line| is_header(line, name));
        // What is no longer HTTP after this request goes on as it is.
        let upgrades = has("upgrade");
        for line in lines.iter().filter(|line| upgrades || !is_header(line, "connection")) {
            out.extend_from_slice(line);
            out.extend(b"\r\n");
        }
        for (name, value) in self.headers.iter().filter(|(name, _)| !has(name)) {
            out.extend(format!("{name}: {value}\r\n").into_bytes());
        }
        if !upgrades {
            out.extend(b"connection: close\r\n");
        }
        // The line break before the empty line is there already.
        out.extend(&rest[2..]);
        out
    }

    /// `GET /wiki/a HTTP/1.1`, with the path that the container is asked for.
    fn first_line(&self, line: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(line);
        let words: Vec<&str> = text.split(' ').collect();
        let line = match words[..] {
            [method, path, version] if path.starts_with('/') => {
                let path = self.rewrites.iter().fold(path.to_owned(), |path, rewrite| rewrite.apply(&path));
                format!("{method} {path} {version}").into_bytes()
            }
            _ => line.to_vec(),
        };
        [line, b"\r\n".to_vec()].concat()
    }
}

fn is_header(line: &[u8], name: &str) -> bool {
    line.split(|byte| *byte == b':').next().is_some_and(|it| it.eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn passed(mut sent: &[u8]) -> String {
        let headers = vec![("x-forwarded-proto", "https".to_owned())];
        let changes = Changes { headers, rewrites: vec![Rewrite::Strip(vec!["/wiki".into()])] };
        String::from_utf8(beginning(&mut sent, &changes).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_request_gets_the_headers_that_it_lacks_and_ends_its_connection() {
        let sent = b"POST /a HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi";
        let expected = "POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\nx-forwarded-proto: https\r\n\
                        connection: close\r\n\r\nhi";
        assert_eq!(passed(sent).await, expected);
        let own = "GET / HTTP/1.1\r\nX-Forwarded-Proto: http\r\n\r\n";
        let expected = "GET / HTTP/1.1\r\nX-Forwarded-Proto: http\r\nconnection: close\r\n\r\n";
        assert_eq!(passed(own.as_bytes()).await, expected);
        assert!(passed(b"GET /wiki/a?b HTTP/1.1\r\n\r\n").await.starts_with("GET /a?b HTTP/1.1\r\n"));
        assert_eq!(
            passed(b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await,
            "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nx-forwarded-proto: https\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn what_is_no_request_goes_through_as_it_is() {
        for sent in ["\u{16}\u{3}\u{1}hello", "GET / HTTP/1.1\r\nHost: cut", "", "hello\r\n\r\n"] {
            assert_eq!(passed(sent.as_bytes()).await, sent);
        }
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(LONGEST_HEAD * 2));
        assert!(long.starts_with(&passed(long.as_bytes()).await), "no more is kept than has to be");
    }
}
