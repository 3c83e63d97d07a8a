//! Debian's `docker-registry` on a loopback port, and pushing to it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::poll::{Look, Poll};
use harness::process;
use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Client, RequestBuilder, Url};
use serde_json::Value;

use crate::fixture::Bench;

/// `user:password`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu\n";

pub struct Daemon {
    child: Child,
    pub address: String,
    login: bool,
    _dir: tempfile::TempDir,
}

impl Daemon {
    pub fn is_installed() -> bool {
        std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("docker-registry").is_file()))
    }

    /// Starts an empty registry; with `login` it lets only `user` with `password` in.
    pub async fn start(login: bool) -> Result<Daemon> {
        let dir = tempfile::tempdir()?;
        // Free a moment ago; another process taking it in between fails the trial loudly.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let root = dir.path().display();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/data}}}}\n\
             http: {{addr: '{address}'}}\n"
        );
        if login {
            fs::write(dir.path().join("htpasswd"), HTPASSWD)?;
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n"));
        }
        let file = dir.path().join("config.yml");
        fs::write(&file, config)?;
        let mut command = process::command("docker-registry");
        command.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("failed to start `docker-registry`")?;
        let daemon = Daemon { child, address, login, _dir: dir };
        let look = || async {
            let connected = TcpStream::connect(&daemon.address);
            Ok(connected.map_or_else(|error| Look::NotYet(error.to_string()), |_| Look::Ready(())))
        };
        Poll::within(Duration::from_secs(20)).until("the registry to listen", look).await?;
        Ok(daemon)
    }

    /// Pushes what a descriptor of the layout leads to, byte for byte.
    pub async fn push(&self, bench: &Bench, descriptor: &Value, tag: &str) -> Result<()> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build()?;
        self.push_document(&client, bench, digest_of(descriptor)?, tag).await
    }

    async fn push_document(&self, client: &Client, bench: &Bench, digest: &str, name: &str) -> Result<()> {
        let bytes = fs::read(bench.blob_path(digest))?;
        let document: Value = serde_json::from_slice(&bytes)?;
        for entry in list(&document["manifests"]) {
            let digest = digest_of(entry)?;
            Box::pin(self.push_document(client, bench, digest, digest)).await?;
        }
        for blob in list(&document["layers"]).iter().chain([&document["config"]]).filter(|blob| !blob.is_null()) {
            self.push_blob(client, bench, digest_of(blob)?).await?;
        }
        let media_type = document["mediaType"].as_str().context("a media type")?.to_owned();
        let request = client.put(self.at(&format!("manifests/{name}"))?).header(CONTENT_TYPE, media_type);
        self.send(request.body(bytes)).await?;
        Ok(())
    }

    /// A registry says where it wants the blob, and is told its digest there.
    async fn push_blob(&self, client: &Client, bench: &Bench, digest: &str) -> Result<()> {
        let begun = self.send(client.post(self.at("blobs/uploads/")?)).await?;
        let place = begun.headers().get(LOCATION).context("a place for the blob")?.to_str()?;
        let mut place = begun.url().join(place)?;
        place.query_pairs_mut().append_pair("digest", digest);
        self.send(client.put(place).body(fs::read(bench.blob_path(digest))?)).await?;
        Ok(())
    }

    fn at(&self, path: &str) -> Result<Url> {
        Ok(Url::parse(&format!("http://{}/v2/app/{path}", self.address))?)
    }

    async fn send(&self, request: RequestBuilder) -> Result<reqwest::Response> {
        let request = if self.login { request.basic_auth("user", Some("password")) } else { request };
        let answer = request.send().await?;
        ensure!(answer.status().is_success(), "the registry answered {}", answer.status());
        Ok(answer)
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub fn digest_of(descriptor: &Value) -> Result<&str> {
    descriptor["digest"].as_str().context("a digest")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
