//! Asking the app over HTTP, as a visitor would: through its route, under its own domain.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, anyhow};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder};

use crate::config::Https;
use crate::fault::{Failure, Fault};

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

/// Bytes of a page: as many as of a file that is read from a container. An answer that never ends would take all memory.
const LONGEST_PAGE: usize = 64 << 20;

/// The answer has more bytes than a page may have: asking again would not change that.
#[derive(Debug)]
struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the page has more than {} MiB, and no more of it is read", LONGEST_PAGE >> 20)
    }
}

impl std::error::Error for TooLong {}

/// An app that speaks TLS itself and is asked past its Traefik.
const PAST_TRAEFIK: &str = "https://127.0.0.1:";

/// Below this time an attempt is not cut short for the sake of another.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(2);

/// Asks for `path` below `base` with `domain` as the host, and tries again while the connection fails. An answer of
/// any status ends the wait.
pub async fn get(base: &str, domain: &str, https: &Https, path: &str, deadline: Duration) -> Result<Page> {
    get_with(base, domain, https, path, &BTreeMap::new(), deadline).await
}

/// The same with headers of one's own.
pub async fn get_with(
    base: &str,
    domain: &str,
    https: &Https,
    path: &str,
    headers: &BTreeMap<String, String>,
    deadline: Duration,
) -> Result<Page> {
    let client = client(base, domain, https)?;
    let address = format!("{base}{path}");
    let headers = headers_of(&address, domain, headers)?;
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        // A connection that was lost on its way says nothing for ever: half of what is left is for another attempt.
        let left = deadline.saturating_sub(start.elapsed());
        let attempt = if left > SHORTEST_ATTEMPT * 2 { left / 2 } else { left };
        let error = match send(client.get(&address), &address, &headers, attempt).await {
            Ok(page) => return Ok(page),
            Err(error) if error.is::<TooLong>() => {
                return Err(error.context(format!("failed to read `{address}` (host `{domain}`)")));
            }
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

/// Asks once, and gives the status of the answer, whatever it is.
pub async fn look(base: &str, domain: &str, https: &Https, path: &str, deadline: Duration) -> Result<u16> {
    let address = format!("{base}{path}");
    // Its page is not looked at, however long it is.
    let request = client(base, domain, https)?.get(&address);
    let request = request.headers(headers_of(&address, domain, &BTreeMap::new())?).timeout(deadline);
    let answer = request.send().await.map_err(anyhow::Error::from);
    answer.map(|answer| answer.status().as_u16()).map_err(|error| anyhow!(root_cause(&error)))
}

/// Sends a form to `path`, once. No answer is an error, for nobody knows whether the form has arrived.
pub async fn post(
    base: &str,
    domain: &str,
    https: &Https,
    path: &str,
    form: &[(&str, &str)],
    deadline: Duration,
) -> Result<Page> {
    let address = format!("{base}{path}");
    let request = client(base, domain, https)?.post(&address).form(form);
    let answer = send(request, &address, &headers_of(&address, domain, &BTreeMap::new())?, deadline).await;
    answer.map_err(|error| {
        let seen = format!("no answer from `{address}` (host `{domain}`) to a form that was sent once");
        anyhow!(root_cause(&error)).context(seen)
    })
}

/// A request that changes something, and is sent once.
pub struct Change<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub headers: &'a BTreeMap<String, String>,
    pub body: &'a str,
}

/// Sends a request, once; its body is a form unless its headers say otherwise.
pub async fn change(base: &str, domain: &str, https: &Https, change: &Change<'_>, deadline: Duration) -> Result<Page> {
    let Change { method, path, headers, body } = change;
    let address = format!("{base}{path}");
    let verb = Method::from_bytes(method.as_bytes()).with_context(|| format!("`{method}` is no method of HTTP"))?;
    let mut request = client(base, domain, https)?.request(verb, &address);
    if !headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) && !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    let headers = headers_of(&address, domain, headers)?;
    let answer = send(request.body(body.to_string()), &address, &headers, deadline).await;
    answer.map_err(|error| {
        let seen = format!("no answer from `{address}` (host `{domain}`) to a {method} that was sent once");
        anyhow!(root_cause(&error)).context(seen)
    })
}

/// What every request to an address of the app has beside `Host`. An app that is asked past its Traefik has to be told
/// what Traefik would tell it: one that insists on https sends everybody away otherwise, and its cookies are lost.
pub fn forwarded(address: &str, domain: &str) -> Vec<(&'static str, String)> {
    // A real Traefik says so itself, and takes nobody's word for it.
    if address.starts_with("https://") && !address.starts_with(PAST_TRAEFIK) {
        return Vec::new();
    }
    [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", domain),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-server", "traefik"),
        ("x-real-ip", "127.0.0.1"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

/// The headers of a request, those of one's own before the others.
fn headers_of(address: &str, domain: &str, own: &BTreeMap<String, String>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let ours = [("host", domain.to_owned())].into_iter().chain(forwarded(address, domain));
    let own = own.iter().map(|(name, value)| (name.as_str(), value.clone()));
    for (name, value) in ours.chain(own) {
        let header = HeaderName::from_bytes(name.as_bytes());
        let header = header.with_context(|| format!("`{}` is no name of a header", name.escape_debug()))?;
        let value = HeaderValue::from_str(&value);
        headers.insert(header, value.with_context(|| format!("the value of the header `{name}` cannot be sent"))?);
    }
    Ok(headers)
}

/// What the connection itself said: the layers above only repeat the address.
fn root_cause(error: &anyhow::Error) -> String {
    error.chain().last().map(ToString::to_string).unwrap_or_default()
}

async fn send(request: RequestBuilder, address: &str, headers: &HeaderMap, limit: Duration) -> Result<Page> {
    let mut answer = request.headers(headers.clone()).timeout(limit).send().await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let mut body = Vec::new();
    loop {
        let chunk = match answer.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) if ends_with_the_connection(&headers) && is_closed_without_a_word(&error) => break,
            Err(error) => return Err(error.into()),
        };
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_PAGE {
            return Err(TooLong.into());
        }
    }
    Ok(Page { status, headers, body, address: address.to_owned() })
}

/// Whether nothing but the end of the connection says where the body ends.
fn ends_with_the_connection(headers: &HeaderMap) -> bool {
    !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING)
}

/// Many servers, Python's among them, close a TLS connection without saying so first, and no browser minds.
fn is_closed_without_a_word(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::UnexpectedEof) {
            return true;
        }
        source = error.source();
    }
    false
}

fn no_certificates(error: Error) -> Error {
    let remedy = "on Debian, apt-get install ca-certificates; SSL_CERT_FILE may name a file of them";
    let what = format!("failed to get ready for https by this machine's CA certificates ({remedy}): {error:#}");
    Failure::new(Fault::Infrastructure, what).into()
}

/// One client per domain and way of asking: the certificates of this machine are read once.
fn client(base: &str, domain: &str, https: &Https) -> Result<Client> {
    static CLIENTS: Mutex<BTreeMap<String, Client>> = Mutex::new(BTreeMap::new());
    let encrypted = base.starts_with("https://");
    // A container that speaks TLS itself has a certificate for nobody in particular.
    let verify = https.verify && !base.starts_with(PAST_TRAEFIK);
    let key = if encrypted { format!("{domain} {verify} {https:?}") } else { String::new() };
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(client) = clients.get(&key) {
        return Ok(client.clone());
    }
    // Another part of the program may have chosen one before: either will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // No proxy of the environment: the app is here, or behind its own. No kept connections: after an update the old
    // container must not answer through one.
    let mut builder = Client::builder().redirect(Policy::none()).no_proxy().pool_max_idle_per_host(0);
    if encrypted {
        builder = builder.tls_danger_accept_invalid_certs(!verify);
        if let Some(address) = https.address {
            builder = builder.resolve(domain, address);
        }
    } else {
        // Nobody shows a certificate there: a machine that has none to check them by can ask all the same.
        builder = builder.tls_certs_only([]);
    }
    let client = builder.build().map_err(|error| match encrypted {
        true => no_certificates(error.into()),
        false => Error::from(error).context("failed to set up the HTTP client"),
    })?;
    clients.insert(key, client.clone());
    Ok(client)
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
        let page = get(&base, "wiki.example.test", &Https::default(), "/", Duration::from_secs(5)).await.unwrap();
        assert_eq!((page.status, page.text().as_str(), page.header("location")), (302, "hi", Some("/login")));
    }

    #[test]
    fn an_app_past_its_traefik_is_told_what_traefik_would_tell_it() {
        let none = BTreeMap::new();
        let own = BTreeMap::from([("X-Forwarded-Proto".to_owned(), "http".to_owned()), ("X-Token".into(), "a".into())]);
        let of = |address: &str, own| headers_of(address, "wiki.example.test", own).unwrap();
        for address in ["http://127.0.0.1:4000/", "https://127.0.0.1:4000/"] {
            let headers = of(address, &none);
            let value = |name: &str| headers[name].to_str().unwrap().to_owned();
            assert_eq!((value("host"), value("x-forwarded-host")), ("wiki.example.test".into(), value("host")));
            assert_eq!((value("x-forwarded-proto"), value("x-forwarded-for")), ("https".into(), "127.0.0.1".into()));
            let headers = of(address, &own);
            assert_eq!(
                (&headers["x-forwarded-proto"], &headers["x-token"]),
                (&"http".parse().unwrap(), &"a".parse().unwrap())
            );
            assert_eq!(headers.get_all("x-forwarded-proto").iter().count(), 1, "one's own comes first");
        }
        let headers = of("https://wiki.example.test/", &none);
        assert_eq!(headers.len(), 1, "a real Traefik says so itself: {headers:?}");
        let error =
            headers_of("http://127.0.0.1:1/", "a.test", &[("a b".to_owned(), String::new())].into()).unwrap_err();
        assert_eq!(error.to_string(), "`a b` is no name of a header");
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_leaves_time_for_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (_silent, _) = listener.accept().await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        });
        let page = get(&base, "wiki.example.test", &Https::default(), "/", Duration::from_secs(8)).await.unwrap();
        assert_eq!(page.text(), "ok");
    }

    #[tokio::test]
    async fn a_connection_that_is_closed_is_tried_again() {
        let base = serve(vec!["", "", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]).await;
        let page = get(&base, "wiki.example.test", &Https::default(), "/", Duration::from_secs(5)).await.unwrap();
        assert_eq!(page.text(), "ok");
    }

    #[tokio::test]
    async fn a_form_is_sent_once_and_no_answer_to_it_is_an_error() {
        let answer = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";
        let base = serve(vec![answer, "", answer]).await;
        let https = Https::default();
        let send = || post(&base, "wiki.example.test", &https, "/x", &[("a", "b c")], Duration::from_secs(5));
        assert_eq!(send().await.unwrap().status, 201);
        let error = format!("{:#}", send().await.unwrap_err());
        let expected = format!("no answer from `{base}/x` (host `wiki.example.test`) to a form that was sent once: ");
        assert!(error.starts_with(&expected) && error.len() > expected.len(), "{error}");
        assert_eq!(send().await.unwrap().status, 201, "the second form was not sent again");
    }

    #[tokio::test]
    async fn no_answer_within_the_deadline_is_an_error_and_a_cut_body_is_no_answer() {
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok";
        let base = serve(vec![cut; 200]).await;
        let error =
            get(&base, "wiki.example.test", &Https::default(), "/", Duration::from_millis(300)).await.unwrap_err();
        let text = format!("{error:#}");
        let expected = format!("no answer from `{base}/` (host `wiki.example.test`) within 300ms, tried until then: ");
        assert!(text.starts_with(&expected) && text.len() > expected.len(), "{text}");
    }
}
