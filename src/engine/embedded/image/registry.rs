//! Registries: asking for a digest, and downloading what the cache does not have.
//!
//! A tag costs one `HEAD` request when the image is in the cache, which registries do not count against their limits; a
//! reference with a digest costs none.

mod auth;
mod failure;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::PullError;
use super::cache::{Claim, Entry, Partial, Unpacked};
use super::config;
use super::manifest::{Descriptor, Digest, Document, Manifest, Platform, for_platform};
use super::unpack::{self, Layer};
use crate::poll::{Look, Poll};
use failure::{Asked, classify};

/// The whole of a pull, unpacking aside.
const DEADLINE: Duration = Duration::from_secs(20 * 60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a transfer may stand still.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request is made before the registry counts as unreachable.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
/// As many as Docker downloads at a time.
const DOWNLOADS: usize = 3;

/// Finds out what `reference` is and makes it available below `cache`.
pub(in super::super) async fn resolve(reference: &str, cache: &Path) -> Result<Unpacked> {
    let parsed: Reference = reference
        .parse()
        .map_err(|error| PullError::Malformed(format!("`{reference}` is not an image reference: {error}")))?;
    if let Some(pinned) = parsed.digest().and_then(|digest| Digest::try_from(digest.to_owned()).ok())
        && let Some(unpacked) = Entry::new(cache, pinned).complete()?
    {
        return Ok(unpacked);
    }
    let auth = auth::find(parsed.resolve_registry())?;
    let registry = Registry { client: client(parsed.resolve_registry())?, auth, reference: parsed };
    let fetched = tokio::time::timeout(DEADLINE, registry.fetch(cache)).await.map_err(|_| {
        let limit = humantime::format_duration(DEADLINE);
        PullError::Unreachable(format!("pulling `{reference}` did not end within {limit}"))
    })??;
    match fetched {
        Fetched::Complete(unpacked) => Ok(unpacked),
        Fetched::Downloaded { partial, layers, config } => unpack::unpack(partial, layers, config).await,
    }
}

/// A connection to the registry of one reference.
#[derive(Clone)]
struct Registry {
    client: Client,
    auth: RegistryAuth,
    reference: Reference,
}

enum Fetched {
    Complete(Unpacked),
    Downloaded { partial: Partial, layers: Vec<Layer>, config: Vec<u8> },
}

impl Registry {
    async fn fetch(mut self, cache: &Path) -> Result<Fetched> {
        let digest = self.digest().await?;
        let partial = match Entry::new(cache, digest.clone()).claim().await? {
            Claim::Complete(unpacked) => return Ok(Fetched::Complete(unpacked)),
            Claim::Missing(partial) => partial,
        };
        // From here on by digest: the tag may move while we download.
        self.reference = self.reference.clone_with_digest(digest.to_string());
        let manifest = self.manifest().await?;
        let config = self.config(&manifest.config).await?;
        let layers = self.download(&manifest, &partial.blobs()).await?;
        Ok(Fetched::Downloaded { partial, layers, config })
    }

    /// What the reference points at now.
    async fn digest(&self) -> Result<Digest> {
        let digest = self
            .ask(Asked::Image, || async move {
                // Asked for by itself because the client ignores errors of the authentication in other calls.
                self.client.auth(&self.reference, &self.auth, RegistryOperation::Pull).await?;
                self.client.fetch_manifest_digest(&self.reference, &self.auth).await
            })
            .await?;
        Ok(Digest::try_from(digest).map_err(|error| self.corrupt(&error))?)
    }

    /// The manifest for this machine.
    async fn manifest(&self) -> Result<Manifest> {
        let entries = match self.document(&self.reference).await? {
            Document::Manifest(manifest) => return Ok(manifest),
            Document::Index(entries) => entries,
        };
        let entry = for_platform(&entries, &Platform::of_this_machine()).map_err(|error| self.unusable(&error))?;
        match self.document(&self.reference.clone_with_digest(entry.digest.to_string())).await? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(self.unusable(&anyhow!("its indexes nest")).into()),
        }
    }

    async fn document(&self, reference: &Reference) -> Result<Document> {
        let accepted = [
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.docker.distribution.manifest.v2+json",
        ];
        let (bytes, _) =
            self.ask(Asked::Part, || self.client.pull_manifest_raw(reference, &self.auth, &accepted)).await?;
        Ok(Document::parse(&bytes).map_err(|error| self.unusable(&error))?)
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let descriptor = &for_client(descriptor);
        let config = self
            .ask(Asked::Part, || async move {
                let mut bytes = Vec::new();
                self.client.pull_blob(&self.reference, descriptor, &mut bytes).await.map(|()| bytes)
            })
            .await?;
        config::parse(&config).map_err(|error| self.unusable(&error))?;
        Ok(config)
    }

    /// Downloads the layers, a few at a time.
    async fn download(&self, manifest: &Manifest, dir: &Path) -> Result<Vec<Layer>> {
        let layer = |descriptor: &Descriptor| Layer {
            blob: dir.join(descriptor.digest.hex()),
            digest: descriptor.digest.clone(),
            media_type: descriptor.media_type.clone(),
        };
        // An image may hold the same layer twice.
        let distinct: BTreeMap<&Digest, &Descriptor> =
            manifest.layers.iter().map(|layer| (&layer.digest, layer)).collect();
        let slots = Arc::new(Semaphore::new(DOWNLOADS));
        let mut downloads = JoinSet::new();
        for descriptor in distinct.into_values() {
            let (registry, path) = (self.clone(), layer(descriptor).blob);
            let (descriptor, slots) = (for_client(descriptor), slots.clone());
            downloads.spawn(async move {
                let _slot = slots.acquire().await?;
                registry.blob(&descriptor, &path).await
            });
        }
        while let Some(done) = downloads.join_next().await {
            done.context("a download was interrupted")??;
        }
        Ok(manifest.layers.iter().map(layer).collect())
    }

    async fn blob(&self, descriptor: &OciDescriptor, path: &Path) -> Result<()> {
        self.ask(Asked::Part, || async move {
            let file = tokio::fs::File::create(path).await?;
            self.client.pull_blob(&self.reference, descriptor, file).await
        })
        .await
    }

    /// Makes a request, and makes it again while the registry does not answer properly.
    async fn ask<T, F>(&self, asked: Asked, request: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = oci_client::errors::Result<T>>,
    {
        let mut attempt = 0;
        let poll = Poll { interval: PAUSE, deadline: DEADLINE };
        poll.until(format!("registry `{}`", self.reference.resolve_registry()), || {
            attempt += 1;
            let (attempt, answer) = (attempt, request());
            async move {
                let error = match answer.await {
                    Ok(answer) => return Ok(Look::Ready(answer)),
                    Err(error) => classify(&self.reference, asked, error),
                };
                match error.downcast_ref() {
                    Some(PullError::Unreachable(reason)) if attempt < ATTEMPTS => Ok(Look::NotYet(reason.clone())),
                    _ => Err(error),
                }
            }
        })
        .await
    }

    fn unusable(&self, error: &anyhow::Error) -> PullError {
        PullError::Unusable(format!("`{}` cannot be used: {error:#}", self.reference))
    }

    fn corrupt(&self, error: &anyhow::Error) -> PullError {
        PullError::Corrupt(format!("registry `{}` sent nonsense: {error:#}", self.reference.resolve_registry()))
    }
}

/// Plain HTTP is spoken to this machine only.
fn client(registry: &str) -> Result<Client> {
    let mut config = ClientConfig {
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: concat!("recipe-harness/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    if is_loopback(registry) {
        config.protocol = ClientProtocol::HttpsExcept(vec![registry.to_owned()]);
        // The client would send even these requests through a proxy; nobody means that.
        config.http_proxy = ["http_proxy", "HTTP_PROXY"].into_iter().find_map(|key| std::env::var(key).ok());
        config.no_proxy = Some("localhost,127.0.0.0/8,::1".into());
    }
    // `Client::new` would fall back to the default configuration, and that to HTTPS, without a word.
    Client::try_from(config).context("failed to set up the HTTP client")
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => registry,
    };
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn for_client(descriptor: &Descriptor) -> OciDescriptor {
    OciDescriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
        ..OciDescriptor::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3"] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in ["index.docker.io", "localhost.example.org", "127.0.0.1.nip.io", "10.0.0.1:5000", "localhost:x"]
        {
            assert!(!is_loopback(registry), "{registry}");
        }
    }
}
