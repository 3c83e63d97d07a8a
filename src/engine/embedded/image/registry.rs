//! Registries: asking for a digest, and downloading what the cache does not have.
//!
//! A tag costs one `HEAD` request when the image is in the cache, which registries do not count against their limits; a
//! reference with a digest costs none.

mod auth;
mod challenge;
mod client;
mod failure;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::PullError;
use super::cache::{Claim, Entry, Partial, Unpacked};
use super::config;
use super::manifest::{Descriptor, Digest, Document, Manifest, Platform, for_platform};
use super::reference::Reference;
use super::unpack::{self, Layer};
use crate::poll::{Look, Poll};
use client::Connection;
use failure::{Asked, Failure, classify};

/// The whole of a pull, unpacking aside.
const DEADLINE: Duration = Duration::from_secs(20 * 60);
/// How often a request is made before the registry counts as unreachable.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
/// As many as Docker downloads at a time.
const DOWNLOADS: usize = 3;

/// Finds out what `reference` is and makes it available below `cache`.
pub(super) async fn resolve(reference: &str, cache: &Path) -> Result<Unpacked> {
    let parsed = Reference::parse(reference)?;
    if let Some(pinned) = parsed.digest()
        && let Some(unpacked) = Entry::new(cache, pinned.clone()).complete()?
    {
        return Ok(unpacked);
    }
    let login = auth::find(parsed.address())?;
    let registry = Registry { connection: Connection::new(&parsed, login)?, reference: parsed };
    let fetched = tokio::time::timeout(DEADLINE, registry.fetch(cache)).await.map_err(|_| {
        let limit = humantime::format_duration(DEADLINE);
        PullError::Unreachable(format!("pulling `{reference}` did not end within {limit}"))
    })??;
    match fetched {
        Fetched::Complete(unpacked) => Ok(unpacked),
        Fetched::Downloaded { partial, layers, config } => unpack::unpack(partial, layers, config).await,
    }
}

/// One reference, and the connection to its registry.
#[derive(Clone)]
struct Registry {
    connection: Connection,
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
        self.reference = self.reference.with_digest(digest.clone());
        let manifest = self.manifest(&digest).await?;
        let config = self.config(&manifest.config).await?;
        let layers = self.download(&manifest, &partial.blobs()).await?;
        Ok(Fetched::Downloaded { partial, layers, config })
    }

    /// What the reference points at now.
    async fn digest(&self) -> Result<Digest> {
        let digest = self.ask(Asked::Image, || self.connection.digest(&self.reference)).await?;
        Ok(Digest::try_from(digest).map_err(|error| self.corrupt(&error))?)
    }

    /// The manifest for this machine.
    async fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        let entries = match self.document(digest).await? {
            Document::Manifest(manifest) => return Ok(manifest),
            Document::Index(entries) => entries,
        };
        let entry = for_platform(&entries, &Platform::of_this_machine()).map_err(|error| self.unusable(&error))?;
        match self.document(&entry.digest).await? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(self.unusable(&anyhow!("its indexes nest")).into()),
        }
    }

    async fn document(&self, digest: &Digest) -> Result<Document> {
        let bytes = self.ask(Asked::Part, || self.connection.manifest(digest)).await?;
        Ok(Document::parse(&bytes).map_err(|error| self.unusable(&error))?)
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let config = self.ask(Asked::Part, || self.connection.config(&descriptor.digest)).await?;
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
            let (descriptor, slots) = (descriptor.clone(), slots.clone());
            downloads.spawn(async move {
                let _slot = slots.acquire().await?;
                registry.ask(Asked::Part, || registry.connection.blob(&descriptor, &path)).await
            });
        }
        while let Some(done) = downloads.join_next().await {
            done.context("a download was interrupted")??;
        }
        Ok(manifest.layers.iter().map(layer).collect())
    }

    /// Makes a request, and makes it again while the registry does not answer properly.
    async fn ask<T, F>(&self, asked: Asked, request: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut attempt = 0;
        let poll = Poll { interval: PAUSE, deadline: DEADLINE };
        poll.until(format!("registry `{}`", self.reference.address()), || {
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
        PullError::Corrupt(format!("registry `{}` sent nonsense: {error:#}", self.reference.address()))
    }
}
