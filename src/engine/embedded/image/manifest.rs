//! The documents of an image, as the OCI image specification and Docker's schema 2 write them: digests, descriptors,
//! indexes, manifests; and the choice of a platform among several.

use std::fmt;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The largest document that is read into memory; the specification asks registries to accept 4 MiB.
pub(super) const DOCUMENT_LIMIT: u64 = 16 << 20;

/// A `sha256:<64 hex digits>` digest. Being checked, it is safe to use in a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of `bytes`.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    /// The digest of what a hasher has seen.
    pub(super) fn finish(hasher: Sha256) -> Self {
        Digest(data_encoding::HEXLOWER.encode(&hasher.finalize()))
    }

    /// The 64 hex digits.
    pub(super) fn hex(&self) -> &str {
        &self.0
    }

    /// Fails unless `bytes` have this digest.
    pub(super) fn verify(&self, bytes: &[u8]) -> Result<()> {
        let actual = Digest::of(bytes);
        ensure!(actual == *self, "blob `{self}` has the digest `{actual}`: it is damaged or was tampered with");
        Ok(())
    }
}

impl TryFrom<String> for Digest {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        let hex = text.strip_prefix("sha256:").with_context(|| format!("`{text}` is not a sha256 digest"))?;
        let well_formed = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        ensure!(well_formed, "`{text}` is not a sha256 digest of 64 lowercase hex digits");
        Ok(Digest(hex.to_owned()))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

/// A pointer to a blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) platform: Option<Platform>,
    #[serde(default)]
    pub(super) annotations: std::collections::BTreeMap<String, String>,
}

impl Descriptor {
    /// The tag that a layout's index gives this image.
    pub(super) fn tag(&self) -> Option<&str> {
        let name = self.annotations.get("org.opencontainers.image.ref.name")?;
        // Some tools write the whole reference there.
        Some(name.rsplit_once(':').map_or(name, |(_, tag)| if tag.contains('/') { name } else { tag }))
    }
}

/// What an image runs on, in Go's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    pub(super) variant: Option<String>,
}

impl Platform {
    /// The platform of this machine.
    pub(super) fn of_this_machine() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", Some("v1")),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.map(str::to_owned) }
    }

    /// Whether programs for `self` run on `machine`, variants aside.
    pub(super) fn runs_on(&self, machine: &Platform) -> bool {
        self.os == machine.os && self.architecture == machine.architecture
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// An index or a manifest: what a reference may point at.
#[derive(Debug)]
pub(super) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

/// One image for one platform.
#[derive(Debug, Deserialize)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

impl Document {
    /// Reads an index or a manifest; which one it is shows in its fields, since the media type is optional in it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Document> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Fields {
            schema_version: Option<u32>,
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
        }
        let fields: Fields = serde_json::from_slice(bytes).context("it is neither an image index nor a manifest")?;
        ensure!(fields.schema_version == Some(2), "its schema version is {:?}, not 2", fields.schema_version);
        match fields {
            Fields { manifests: Some(manifests), .. } => Ok(Document::Index(manifests)),
            Fields { config: Some(config), layers: Some(layers), .. } => {
                let manifest = Manifest { config, layers };
                manifest.is_an_image()?;
                Ok(Document::Manifest(manifest))
            }
            _ => bail!("it has neither `manifests` nor `config` and `layers`"),
        }
    }
}

impl Manifest {
    /// Charts, signatures and the like are stored as manifests too.
    fn is_an_image(&self) -> Result<()> {
        let kind = self.config.media_type.as_str();
        let image = ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
        ensure!(image.contains(&kind), "it is not a container image: its configuration is a `{kind}`");
        for layer in &self.layers {
            Compression::of(&layer.media_type)?;
        }
        Ok(())
    }
}

/// How a layer is compressed, by its media type: `…tar`, `…tar+gzip`, `…tar.gzip`, `…tar+zstd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(super) fn of(media_type: &str) -> Result<Self> {
        let known = [
            ("tar", Compression::None),
            ("tar+gzip", Compression::Gzip),
            ("tar.gzip", Compression::Gzip),
            ("tar+zstd", Compression::Zstd),
            ("tar.zstd", Compression::Zstd),
        ];
        let found = known.iter().find(|(suffix, _)| {
            media_type.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.') && rest.starts_with("application/"))
        });
        match found {
            Some((_, compression)) => Ok(*compression),
            None => bail!("layer type `{media_type}` is not supported; a layer is a tar archive, plain, gzip or zstd"),
        }
    }
}

/// Chooses the entry of an index that runs on `machine`: the plainest variant when there are several.
pub(super) fn for_platform<'a>(entries: &'a [Descriptor], machine: &Platform) -> Result<&'a Descriptor> {
    // An index with a single entry need not say for which platform it is; the configuration says so again.
    if let [only @ Descriptor { platform: None, .. }] = entries {
        return Ok(only);
    }
    let rank = |entry: &&Descriptor| {
        let variant = entry.platform.as_ref().and_then(|platform| platform.variant.as_ref());
        variant.is_some() && variant != machine.variant.as_ref()
    };
    let fitting = entries.iter().filter(|e| e.platform.as_ref().is_some_and(|platform| platform.runs_on(machine)));
    fitting.min_by_key(rank).with_context(|| {
        let offered: Vec<String> = entries
            .iter()
            .filter_map(|entry| entry.platform.as_ref())
            .map(|platform| format!("`{platform}`"))
            .collect();
        format!("the image is not made for `{machine}`; it offers {}", offered.join(", "))
    })
}

#[cfg(test)]
mod tests;
