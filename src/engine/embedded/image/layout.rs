//! OCI image layouts on disk: a directory with `oci-layout`, `index.json` and `blobs/sha256/…`, as `skopeo copy`,
//! `docker buildx build --output type=oci,tar=false` and `podman save --format oci-dir` write it.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::cache::{Claim, Entry, Unpacked};
use super::config;
use super::manifest::{DOCUMENT_LIMIT, Descriptor, Document, Manifest, Platform, for_platform};
use super::unpack::{self, Layer};

/// How deep indexes may nest; one level is usual.
const NESTING_LIMIT: usize = 4;

/// Finds an image in the layout at `dir` and unpacks it, unless the cache has it.
///
/// `tag` must be there when given. Otherwise `hint` chooses among several tags.
pub(super) async fn resolve(dir: &Path, tag: Option<&str>, hint: Option<&str>, cache: &Path) -> Result<Unpacked> {
    let layout = Layout { dir: dir.to_owned() };
    let context = || format!("failed to read the OCI layout `{}`", dir.display());
    let chosen = layout.choose(tag, hint).with_context(context)?;
    let manifest = layout.manifest(&chosen, NESTING_LIMIT).with_context(context)?;
    let config = layout.document(&manifest.config).with_context(context)?;
    config::parse(&config)?;
    match Entry::new(cache, chosen.digest).claim().await? {
        Claim::Complete(unpacked) => Ok(unpacked),
        Claim::Missing(partial) => {
            let layers = layout.layers(&manifest).with_context(context)?;
            unpack::unpack(partial, layers, config).await
        }
    }
}

struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The entry of `index.json` that is meant: by tag, then by platform.
    fn choose(&self, tag: Option<&str>, hint: Option<&str>) -> Result<Descriptor> {
        let entries = self.index()?;
        let tagged = |wanted: &str| -> Vec<Descriptor> {
            entries.iter().filter(|entry| entry.tag() == Some(wanted)).cloned().collect()
        };
        let mut tags: Vec<&str> = entries.iter().filter_map(Descriptor::tag).collect();
        tags.sort_unstable();
        tags.dedup();
        let hinted = hint.map(tagged).unwrap_or_default();
        let candidates = match tag {
            Some(tag) => tagged(tag),
            None if !hinted.is_empty() => hinted,
            None if tags.len() > 1 => bail!(
                "it holds several images ({}){}; add a tag to the value, as in `oci:<path>:<tag>`",
                list(&tags),
                hint.map(|hint| format!(", none of them tagged `{hint}`")).unwrap_or_default()
            ),
            None => entries.clone(),
        };
        if let (Some(tag), true) = (tag, candidates.is_empty()) {
            bail!("it has no image tagged `{tag}`; it has {}", list(&tags));
        }
        for_platform(&candidates, &Platform::of_this_machine()).cloned()
    }

    fn index(&self) -> Result<Vec<Descriptor>> {
        ensure!(
            self.dir.join("oci-layout").is_file(),
            "there is no file `oci-layout` in it; make a layout with `skopeo copy docker://<image> oci:<path>:<tag>`"
        );
        let path = self.dir.join("index.json");
        let bytes = fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
        match Document::parse(&bytes).with_context(|| format!("failed to parse `{}`", path.display()))? {
            Document::Index(entries) if entries.is_empty() => bail!("it holds no image"),
            Document::Index(entries) => Ok(entries),
            Document::Manifest(_) => bail!("`{}` is a manifest instead of an index", path.display()),
        }
    }

    /// The manifest that a descriptor leads to, through nested indexes.
    fn manifest(&self, descriptor: &Descriptor, depth: usize) -> Result<Manifest> {
        let bytes = self.document(descriptor)?;
        match Document::parse(&bytes).with_context(|| format!("failed to parse blob `{}`", descriptor.digest))? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) if depth == 0 => bail!("its indexes nest deeper than {NESTING_LIMIT} levels"),
            Document::Index(entries) => self.manifest(for_platform(&entries, &Platform::of_this_machine())?, depth - 1),
        }
    }

    /// A small blob, checked against its digest.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let path = self.blob(descriptor)?;
        let mut bytes = Vec::new();
        let file = File::open(&path).with_context(|| format!("failed to open `{}`", path.display()))?;
        file.take(DOCUMENT_LIMIT)
            .read_to_end(&mut bytes)
            .with_context(|| format!("failed to read `{}`", path.display()))?;
        descriptor.digest.verify(&bytes)?;
        Ok(bytes)
    }

    /// The layers with their files, lowest first; their digests are checked while they are unpacked.
    fn layers(&self, manifest: &Manifest) -> Result<Vec<Layer>> {
        let layer = |descriptor: &Descriptor| {
            Ok(Layer {
                blob: self.blob(descriptor)?,
                digest: descriptor.digest.clone(),
                media_type: descriptor.media_type.clone(),
            })
        };
        manifest.layers.iter().map(layer).collect()
    }

    /// The path of a blob that is there with the right size.
    fn blob(&self, descriptor: &Descriptor) -> Result<PathBuf> {
        let path = self.dir.join("blobs/sha256").join(descriptor.digest.hex());
        let found = fs::metadata(&path).with_context(|| format!("blob `{}` is missing", descriptor.digest))?;
        ensure!(
            found.len() == descriptor.size,
            "blob `{}` has {} bytes instead of {}",
            descriptor.digest,
            found.len(),
            descriptor.size
        );
        // The stage that reads it runs elsewhere.
        path.canonicalize().with_context(|| format!("failed to find `{}`", path.display()))
    }
}

fn list(tags: &[&str]) -> String {
    match tags {
        [] => "no tags".to_owned(),
        _ => tags.iter().map(|tag| format!("`{tag}`")).collect::<Vec<_>>().join(", "),
    }
}
