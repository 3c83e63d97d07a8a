//! Images: from the reference in a compose file to a root file system and the configuration that goes with it.
//!
//! A reference is either one of four values (`builtin:…`, `host`, `oci:…`, or a name to pull), or `harness.toml` says
//! under `[embedded.images]` which of them stands in for it. `docs/images.md` is the guide.

pub mod cache;
mod config;
mod layout;
mod manifest;
mod pull;
mod reference;
mod registry;
mod source;
mod unpack;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::recipe::stack::Healthcheck;

pub use pull::PullError;

/// An image, ready to start containers from.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The reference as the compose file gives it.
    pub reference: String,
    /// What the reference resolved to: the digest of the image's index when it has one, else of its manifest, as
    /// Docker pins it. `None` when nothing was fetched.
    pub digest: Option<String>,
    pub root: Root,
    pub config: ImageConfig,
}

impl Image {
    /// How many files belong to the user who unpacked the image instead of the owner that it names: not 0 for an
    /// ordinary user and an image with several owners, whose programs may then fail to change owner or user.
    pub fn unowned_files(&self) -> u64 {
        match &self.root {
            Root::Unpacked(rootfs) => unpack::stats(rootfs).map_or(0, |stats| stats.chowns_failed),
            Root::Builtin | Root::Host => 0,
        }
    }
}

/// Where a container's root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// The host's userland plus the programs that come with the harness.
    Builtin,
    /// The host's userland.
    Host,
    /// A directory that holds a root file system; it is shared between runs, so mount it read-only or copy it.
    Unpacked(PathBuf),
}

/// What an image says about the containers made from it; what it does not say is empty or `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    pub user: Option<String>,
    /// TCP ports, ascending.
    pub exposed_ports: Vec<u16>,
    /// Paths that get an anonymous volume unless something else is mounted there.
    pub volumes: Vec<String>,
    pub healthcheck: Option<Healthcheck>,
    pub stop_signal: Option<String>,
}

/// Finds the image that `reference` stands for and makes its root file system available below `cache`.
///
/// `map` names stand-ins by image name without a tag. Relative paths in `oci:` values are taken from the current
/// directory. Errors of a registry can be told apart with `error.downcast_ref::<PullError>()`; any other error is a
/// matter of this machine or its configuration.
pub async fn resolve(reference: &str, map: &BTreeMap<String, String>, cache: &Path) -> Result<Image> {
    use source::Source;
    let found = match source::choose(reference, map)? {
        Source::Builtin(name) => return builtin(reference, &name),
        Source::Host => return Ok(host(reference)),
        Source::Layout { dir, tag, hint } => layout::resolve(&dir, tag.as_deref(), hint.as_deref(), cache).await,
        Source::Registry(name) => registry::resolve(&name, cache).await,
    };
    let unpacked = found.with_context(|| format!("failed to resolve image `{reference}`"))?;
    Ok(Image {
        reference: reference.to_owned(),
        digest: Some(unpacked.digest.to_string()),
        config: config::parse(&unpacked.config)
            .with_context(|| format!("failed to read the configuration of image `{reference}`"))?,
        root: Root::Unpacked(unpacked.rootfs),
    })
}

/// The bytes of all files of an unpacked image.
pub fn size(rootfs: &Path) -> Result<u64> {
    match unpack::stats(rootfs).and_then(|stats| stats.bytes) {
        Some(bytes) => Ok(bytes),
        // An earlier version of the harness unpacked it, and did not count.
        None => super::super::usage::content_size(rootfs).context("failed to look through the files"),
    }
}

/// Runs the hidden subcommand `name` when it is one of this module's: the executable's `main` calls this before
/// anything else, single-threaded.
pub fn stage(name: &str) -> Option<ExitCode> {
    (name == unpack::STAGE).then(unpack::stage)
}

/// The images that come with the harness.
fn builtin(reference: &str, name: &str) -> Result<Image> {
    match name {
        "static-web" => Ok(static_web(reference)),
        _ => bail!(
            "image `{reference}` stands for `builtin:{name}`, but the only built-in image is `builtin:static-web`"
        ),
    }
}

/// The harness's own web server, which stands in for any image that serves `/usr/share/nginx/html` on port 80.
fn static_web(reference: &str) -> Image {
    let config = ImageConfig {
        cmd: vec!["static-web".into()],
        exposed_ports: vec![80],
        stop_signal: Some("SIGQUIT".into()),
        ..ImageConfig::default()
    };
    Image { root: Root::Builtin, config, ..host(reference) }
}

/// What stands in for an image by the map, if anything does.
pub fn stand_in<'a>(reference: &str, map: &'a BTreeMap<String, String>) -> Option<&'a str> {
    source::stand_in(reference, map)
}

/// Whether a registry has to be asked for an image.
pub fn is_pulled(reference: &str, map: &BTreeMap<String, String>) -> bool {
    matches!(source::choose(reference, map), Ok(source::Source::Registry(_)))
}

/// Why an image cannot be had whatever happens, if that is so: known before anything is created.
pub fn cannot_resolve(reference: &str, map: &BTreeMap<String, String>) -> Option<String> {
    match source::choose(reference, map) {
        Ok(source::Source::Registry(name)) => reference::Reference::parse(&name).err().map(|error| error.to_string()),
        Ok(_) => None,
        Err(error) => Some(format!("{error:#}")),
    }
}

/// The host's own userland, without a configuration of its own.
fn host(reference: &str) -> Image {
    Image {
        reference: reference.to_owned(),
        digest: None,
        root: Root::Host,
        config: ImageConfig { cmd: vec!["/bin/sh".into()], ..ImageConfig::default() },
    }
}
