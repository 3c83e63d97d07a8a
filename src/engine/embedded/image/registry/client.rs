//! The three requests that a pull takes, and the token that most registries want first: the distribution specification
//! of OCI, as far as pulling goes, and Docker's token authentication.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use data_encoding::BASE64;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use super::super::manifest::{DOCUMENT_LIMIT, Descriptor, Digest};
use super::super::reference::Reference;
use super::auth::Login;
use super::challenge::{Challenge, challenge};
use super::failure::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a transfer may stand still.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of a refusal is read: proxies answer with whole pages.
const REFUSAL_LIMIT: u64 = 64 << 10;
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";
const DIGEST: &str = "docker-content-digest";

/// A connection to the registry of one repository.
#[derive(Clone)]
pub(super) struct Connection {
    client: Client,
    /// The repository's address, up to where the kind of thing is named.
    base: String,
    scope: String,
    login: Login,
    /// The value of `Authorization` that the registry took last.
    granted: Arc<Mutex<Option<String>>>,
}

impl Connection {
    pub(super) fn new(reference: &Reference, login: Login) -> Result<Connection> {
        let address = reference.address();
        // Plain HTTP is spoken to this machine only.
        let scheme = if is_loopback(address) { "http" } else { "https" };
        let granted = match &login {
            Login::Token(token) => Some(format!("Bearer {token}")),
            Login::Password(..) | Login::Anonymous => None,
        };
        Ok(Connection {
            client: client(address)?,
            base: format!("{scheme}://{address}/v2/{}", reference.repository()),
            scope: format!("repository:{}:pull", reference.repository()),
            login,
            granted: Arc::new(Mutex::new(granted)),
        })
    }

    /// What a reference points at now: by one `HEAD` request, which registries do not count against their limits.
    pub(super) async fn digest(&self, reference: &Reference) -> Result<String, Failure> {
        let path = format!("manifests/{}", reference.version());
        let head = self.ask(Method::HEAD, &path).await?;
        if let Some(digest) = announced(head.headers()).filter(|_| head.status().is_success()) {
            return Ok(digest);
        }
        // A refusal of a `HEAD` request has no words, and not every registry announces the digest.
        let answer = accepted(self.ask(Method::GET, &path).await?).await?;
        let digest = announced(answer.headers());
        let document = whole(answer, DOCUMENT_LIMIT).await?;
        Ok(digest.unwrap_or_else(|| Digest::of(&document).to_string()))
    }

    /// A manifest or an index.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, Failure> {
        self.document("manifests", digest).await
    }

    /// A small blob, such as an image's configuration.
    pub(super) async fn config(&self, digest: &Digest) -> Result<Vec<u8>, Failure> {
        self.document("blobs", digest).await
    }

    async fn document(&self, kind: &str, digest: &Digest) -> Result<Vec<u8>, Failure> {
        let answer = accepted(self.ask(Method::GET, &format!("{kind}/{digest}")).await?).await?;
        let document = whole(answer, DOCUMENT_LIMIT).await?;
        arrived(digest, Digest::of(&document))?;
        Ok(document)
    }

    /// Downloads a blob into a new file, no more of it than was announced.
    pub(super) async fn blob(&self, blob: &Descriptor, path: &Path) -> Result<(), Failure> {
        let mut answer = accepted(self.ask(Method::GET, &format!("blobs/{}", blob.digest)).await?).await?;
        let mut file = tokio::fs::File::create(path).await?;
        let (mut hasher, mut size) = (Sha256::new(), 0);
        while let Some(chunk) = answer.chunk().await? {
            size += chunk.len() as u64;
            if size > blob.size {
                return Err(Failure::TooLarge { what: format!("blob `{}`", blob.digest), most: blob.size });
            }
            hasher.update(&chunk);
            file.write_all(&chunk).await?;
        }
        file.flush().await?;
        arrived(&blob.digest, Digest::finish(hasher))
    }

    /// Makes a request, and makes it again with what the registry wants to see first.
    async fn ask(&self, method: Method, path: &str) -> Result<Response, Failure> {
        let granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let answer = self.send(method.clone(), path, granted).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let Some(wanted) = self.credentials(answer.headers()).await? else { return Ok(answer) };
        let answer = self.send(method, path, Some(wanted.clone())).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            *self.granted.lock().unwrap_or_else(PoisonError::into_inner) = Some(wanted);
        }
        Ok(answer)
    }

    async fn send(&self, method: Method, path: &str, credentials: Option<String>) -> Result<Response, Failure> {
        let mut request = self.client.request(method, format!("{}/{path}", self.base));
        if path.starts_with("manifests/") {
            request = request.header(ACCEPT, MANIFESTS);
        }
        if let Some(credentials) = credentials {
            request = request.header(AUTHORIZATION, credentials);
        }
        Ok(request.send().await?)
    }

    /// What answers the registry's wish for credentials, if anything does.
    async fn credentials(&self, headers: &HeaderMap) -> Result<Option<String>, Failure> {
        let wishes = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        match wishes.filter_map(challenge).next() {
            Some(Challenge::Bearer { realm, service }) => self.token(&realm, service.as_deref()).await.map(Some),
            Some(Challenge::Basic) => Ok(self.password()),
            None => Ok(None),
        }
    }

    fn password(&self) -> Option<String> {
        match &self.login {
            Login::Password(user, password) => {
                Some(format!("Basic {}", BASE64.encode(format!("{user}:{password}").as_bytes())))
            }
            Login::Token(_) | Login::Anonymous => None,
        }
    }

    /// Asks the registry's token service for the right to pull.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<String, Failure> {
        let nonsense = |why: String| Failure::Nonsense(format!("its token service has the address `{realm}`: {why}"));
        let mut address = Url::parse(realm).map_err(|error| nonsense(error.to_string()))?;
        let is_local = address.host_str().is_some_and(is_loopback);
        if address.scheme() != "https" && !is_local {
            return Err(nonsense("a login goes over HTTPS alone".into()));
        }
        address.query_pairs_mut().append_pair("scope", &self.scope);
        if let Some(service) = service {
            address.query_pairs_mut().append_pair("service", service);
        }
        let mut request = self.client.get(address);
        if let Some(password) = self.password() {
            request = request.header(AUTHORIZATION, password);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let said = whole(answer, DOCUMENT_LIMIT).await?;
        if !status.is_success() {
            return Err(Failure::Token(status.as_u16(), String::from_utf8_lossy(&said).into_owned()));
        }
        // The cause is left out, since it could quote the secret.
        let token = serde_json::from_slice::<Token>(&said).ok().and_then(Token::value);
        token.map(|token| format!("Bearer {token}")).ok_or_else(|| Failure::Nonsense("its token is none".into()))
    }
}

/// A token service calls it by either name.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Token {
    fn value(self) -> Option<String> {
        self.token.or(self.access_token).filter(|token| !token.is_empty())
    }
}

/// An answer that is one; a refusal with its words otherwise.
async fn accepted(answer: Response) -> Result<Response, Failure> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let said = whole(answer, REFUSAL_LIMIT).await.unwrap_or_default();
    Err(Failure::Status(status.as_u16(), String::from_utf8_lossy(&said).into_owned()))
}

async fn whole(mut answer: Response, most: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if (bytes.len() + chunk.len()) as u64 > most {
            return Err(Failure::TooLarge { what: "a document".into(), most });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn announced(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(DIGEST)?.to_str().ok()?.to_owned())
}

fn arrived(expected: &Digest, actual: Digest) -> Result<(), Failure> {
    if *expected == actual { Ok(()) } else { Err(Failure::Digest { expected: expected.clone(), actual }) }
}

fn client(registry: &str) -> Result<Client> {
    // Another part of the program may have chosen one before: either will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .user_agent(concat!("recipe-harness/", env!("CARGO_PKG_VERSION")));
    if is_loopback(registry) {
        // Nobody means that a proxy be asked for what is here.
        builder = builder.no_proxy();
    } else {
        // Also where a redirection leads.
        builder = builder.https_only(true);
    }
    builder.build().map_err(|error| anyhow!(error)).context("failed to set up the HTTP client")
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => registry,
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare == "localhost" || bare.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in ["index.docker.io", "localhost.example.org", "127.0.0.1.nip.io", "10.0.0.1:5000", "localhost:x"]
        {
            assert!(!is_loopback(registry), "{registry}");
        }
    }

    #[tokio::test]
    async fn a_password_goes_over_https_alone() {
        let reference = Reference::parse("localhost:1/app").unwrap();
        let connection = Connection::new(&reference, Login::Password("user".into(), "geheim".into())).unwrap();
        let failure = connection.token("http://tokens.example.org/", None).await.unwrap_err();
        let Failure::Nonsense(said) = failure else { panic!("{failure:?}") };
        let expected = "its token service has the address `http://tokens.example.org/`: a login goes over HTTPS alone";
        assert_eq!(said, expected);
    }
}
