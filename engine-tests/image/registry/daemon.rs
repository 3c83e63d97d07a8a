//! Debian's `docker-registry` on a loopback port, and pushing to it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::poll::{Look, Poll};
use harness::process;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::Value;

use crate::fixture::Bench;

/// `user:password`, as `htpasswd -B` writes it.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu\n";

pub struct Daemon {
    child: Child,
    pub address: String,
    auth: RegistryAuth,
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
        let auth = match login {
            true => RegistryAuth::Basic("user".into(), "password".into()),
            false => RegistryAuth::Anonymous,
        };
        let daemon = Daemon { child, address, auth, _dir: dir };
        let look = || async {
            let connected = TcpStream::connect(&daemon.address);
            Ok(connected.map_or_else(|error| Look::NotYet(error.to_string()), |_| Look::Ready(())))
        };
        Poll::within(Duration::from_secs(20)).until("the registry to listen", look).await?;
        Ok(daemon)
    }

    /// Pushes what a descriptor of the layout leads to, byte for byte.
    pub async fn push(&self, bench: &Bench, descriptor: &Value, tag: &str) -> Result<()> {
        let reference: Reference = format!("{}/app:{tag}", self.address).parse()?;
        let protocol = ClientProtocol::HttpsExcept(vec![self.address.clone()]);
        let client = Client::new(ClientConfig { protocol, ..ClientConfig::default() });
        client.store_auth_if_needed(reference.resolve_registry(), &self.auth).await;
        push(&client, bench, digest_of(descriptor)?, &reference).await
    }
}

async fn push(client: &Client, bench: &Bench, digest: &str, reference: &Reference) -> Result<()> {
    let bytes = fs::read(bench.blob_path(digest))?;
    let document: Value = serde_json::from_slice(&bytes)?;
    for entry in list(&document["manifests"]) {
        let digest = digest_of(entry)?;
        Box::pin(push(client, bench, digest, &reference.clone_with_digest(digest.to_owned()))).await?;
    }
    for blob in list(&document["layers"]).iter().chain([&document["config"]]).filter(|blob| !blob.is_null()) {
        let digest = digest_of(blob)?;
        client.push_blob(reference, fs::read(bench.blob_path(digest))?, digest).await?;
    }
    let media_type = document["mediaType"].as_str().context("a media type")?.parse()?;
    client.push_manifest_raw(reference, bytes, media_type).await?;
    Ok(())
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
