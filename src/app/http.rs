//! Asking the app over HTTP, as a visitor would: through its route, under its own domain.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use once_cell::sync::OnceCell;
use reqwest::header::{HOST, HeaderMap};

/// An answer, whatever its status.
#[derive(Clone, PartialEq, Eq)]
pub struct Page {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// What was asked for, for messages.
    pub address: String,
}

impl Page {
    /// The body as text; bytes that are no UTF-8 become `�`.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl fmt::Debug for Page {
    /// Status and the beginning of the body: what a failed `ensure!` should show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        let start: String = text.chars().take(200).collect();
        let more = if start.len() < text.len() { "…" } else { "" };
        write!(f, "{} from {}: {start:?}{more}", self.status, self.address)
    }
}

/// Asks for `path` below `base` with `domain` as the host, and tries again while the connection fails. An answer of
/// any status ends the wait.
pub async fn get(base: &str, domain: &str, path: &str, deadline: Duration) -> Result<Page> {
    let address = format!("{base}{path}");
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let left = deadline.saturating_sub(start.elapsed());
        let error = match ask(&address, domain, left).await {
            Ok(page) => return Ok(page),
            Err(error) => error,
        };
        pause = (pause * 2).min(Duration::from_millis(200));
        if start.elapsed() + pause >= deadline {
            let limit = humantime::format_duration(deadline);
            let seen = format!("no answer from `{address}` (host `{domain}`) within {limit}, tried until then");
            return Err(anyhow!(root_cause(&error)).context(seen));
        }
        tokio::time::sleep(pause).await;
    }
}

/// What the connection itself said: the layers above only repeat the address.
fn root_cause(error: &anyhow::Error) -> String {
    error.chain().last().map(ToString::to_string).unwrap_or_default()
}

async fn ask(address: &str, domain: &str, limit: Duration) -> Result<Page> {
    let request = client()?.get(address).header(HOST, domain).timeout(limit);
    let answer = request.send().await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let body = answer.bytes().await?.to_vec();
    Ok(Page { status, headers, body, address: address.to_owned() })
}

fn client() -> Result<&'static reqwest::Client> {
    static CLIENT: OnceCell<reqwest::Client> = OnceCell::new();
    // No proxy of the environment: the app is on this machine. No kept connections: after an update the old
    // container must not answer through one.
    CLIENT.get_or_try_init(|| {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        builder.pool_max_idle_per_host(0).build().context("failed to set up the HTTP client")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Serves the given answers, one connection each; an empty answer closes the connection at once.
    async fn serve(answers: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let read = stream.read(&mut request).await.unwrap();
                assert!(String::from_utf8_lossy(&request[..read]).contains("host: wiki.example.test"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn any_status_is_an_answer_and_redirects_are_not_followed() {
        let base = serve(vec!["HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 2\r\n\r\nhi"]).await;
        let page = get(&base, "wiki.example.test", "/", Duration::from_secs(5)).await.unwrap();
        assert_eq!((page.status, page.text().as_str(), page.header("location")), (302, "hi", Some("/login")));
    }

    #[tokio::test]
    async fn a_connection_that_is_closed_is_tried_again() {
        let base = serve(vec!["", "", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]).await;
        let page = get(&base, "wiki.example.test", "/", Duration::from_secs(5)).await.unwrap();
        assert_eq!(page.text(), "ok");
    }

    #[tokio::test]
    async fn no_answer_within_the_deadline_is_an_error_and_a_cut_body_is_no_answer() {
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok";
        let base = serve(vec![cut; 200]).await;
        let error = get(&base, "wiki.example.test", "/", Duration::from_millis(300)).await.unwrap_err();
        let text = format!("{error:#}");
        let expected = format!("no answer from `{base}/` (host `wiki.example.test`) within 300ms, tried until then: ");
        assert!(text.starts_with(&expected) && text.len() > expected.len(), "{text}");
    }
}
