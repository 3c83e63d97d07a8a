//! OCI layouts made by the tests, and what unpacking made of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use harness::engine::embedded::image::{self, Image, Root};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A temporary directory with a layout in `layout` and an image cache in `cache`; gone with this value.
pub struct Bench {
    pub dir: tempfile::TempDir,
    entries: Vec<Value>,
}

impl Bench {
    pub fn new() -> Result<Bench> {
        let dir = tempfile::tempdir()?;
        fs::create_dir_all(dir.path().join("layout/blobs/sha256"))?;
        fs::write(dir.path().join("layout/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let bench = Bench { dir, entries: Vec::new() };
        Ok(bench)
    }

    pub fn layout(&self) -> PathBuf {
        self.dir.path().join("layout")
    }

    pub fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    pub fn blob_path(&self, digest: &str) -> PathBuf {
        self.layout().join("blobs").join(digest.replace(':', "/"))
    }

    /// Stores a blob and returns its descriptor.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let digest = digest(bytes);
        fs::write(self.blob_path(&digest), bytes)?;
        Ok(json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }))
    }

    /// Stores an image for this machine and returns the descriptor of its manifest.
    pub fn image(&self, config: Value, layers: &[Layer]) -> Result<Value> {
        let layers = layers.iter().map(|layer| self.blob(layer.media_type, &layer.bytes)).collect::<Result<_>>()?;
        self.image_of(json!({ "os": "linux", "architecture": architecture(), "config": config }), layers)
    }

    /// The same from descriptors and a whole configuration blob.
    pub fn image_of(&self, config: Value, layers: Vec<Value>) -> Result<Value> {
        let config = self.blob(CONFIG, config.to_string().as_bytes())?;
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Lists a descriptor in `index.json`.
    pub fn list(&mut self, mut descriptor: Value, tag: Option<&str>) -> Result<()> {
        if let Some(tag) = tag {
            descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        }
        self.entries.push(descriptor);
        let index = json!({ "schemaVersion": 2, "manifests": self.entries });
        Ok(fs::write(self.layout().join("index.json"), index.to_string())?)
    }

    /// A layout with one image of these layers.
    pub fn with_layers(layers: &[Layer]) -> Result<Bench> {
        let mut bench = Bench::new()?;
        let image = bench.image(json!({}), layers)?;
        bench.list(image, None)?;
        Ok(bench)
    }

    /// Resolves the layout's only image.
    pub fn resolve(&self) -> Result<Image> {
        self.resolve_as("app:1", "")
    }

    /// Resolves `reference`, for which the layout stands in; `suffix` is what follows the path in the map.
    pub fn resolve_as(&self, reference: &str, suffix: &str) -> Result<Image> {
        let map = BTreeMap::from([("app".to_owned(), format!("oci:{}{suffix}", self.layout().display()))]);
        block_on(image::resolve(reference, &map, &self.cache()))
    }

    /// The error of resolving, in full.
    pub fn refusal(&self) -> Result<String> {
        let error = self.resolve().err().context("resolving succeeded")?;
        Ok(format!("{error:#}").replace(&self.dir.path().display().to_string(), "DIR"))
    }

    /// What is in the cache, locks aside.
    pub fn cached(&self) -> Result<Vec<String>> {
        let Ok(entries) = fs::read_dir(self.cache()) else { return Ok(Vec::new()) };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let names: Vec<String> = names.collect::<Result<_>>()?;
        Ok(names.into_iter().filter(|name| !name.ends_with(".lock")).collect())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Images hold directories that their owner may not write to.
        let _ = image::cache::remove_tree(&self.cache());
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

pub fn root(image: &Image) -> PathBuf {
    match &image.root {
        Root::Unpacked(root) => root.clone(),
        other => panic!("the image's root is {other:?}"),
    }
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(bytes)))
}

/// This machine's architecture in Go's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A finished layer.
#[derive(Clone)]
pub struct Layer {
    pub media_type: &'static str,
    pub bytes: Vec<u8>,
}

/// A layer in the making.
pub struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    pub fn file(self, path: &str, content: &str) -> Tar {
        self.owned(path, content, 0o644, 0, 0)
    }

    pub fn mode(self, path: &str, mode: u32) -> Tar {
        self.owned(path, "x", mode, 0, 0)
    }

    pub fn owned(mut self, path: &str, content: &str, mode: u32, uid: u64, gid: u64) -> Tar {
        let mut header = header(EntryType::Regular, mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header.set_size(content.len() as u64);
        self.0.append_data(&mut header, path, content.as_bytes()).expect("an entry");
        self
    }

    pub fn dir(mut self, path: &str, mode: u32) -> Tar {
        self.0.append_data(&mut header(EntryType::Directory, mode), path, &[][..]).expect("an entry");
        self
    }

    pub fn symlink(mut self, path: &str, target: &str) -> Tar {
        self.0.append_link(&mut header(EntryType::Symlink, 0o777), path, target).expect("an entry");
        self
    }

    pub fn hard_link(mut self, path: &str, target: &str) -> Tar {
        self.0.append_link(&mut header(EntryType::Link, 0o644), path, target).expect("an entry");
        self
    }

    pub fn whiteout(self, path: &str) -> Tar {
        self.owned(path, "", 0o600, 0, 0)
    }

    pub fn special(mut self, path: &str, kind: EntryType) -> Tar {
        let mut header = header(kind, 0o666);
        header.set_device_major(1).and_then(|()| header.set_device_minor(3)).expect("a device number");
        self.0.append_data(&mut header, path, &[][..]).expect("an entry");
        self
    }

    /// An entry with exactly this name, which the library would refuse to write.
    pub fn hostile(mut self, name: &str, kind: EntryType, link: &str) -> Tar {
        let mut header = header(kind, 0o644);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, &[][..]).expect("an entry");
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("an archive")
    }

    pub fn plain(self) -> Layer {
        Layer { media_type: PLAIN, bytes: self.bytes() }
    }

    pub fn gzip(self) -> Layer {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&self.bytes()).expect("compression");
        Layer { media_type: GZIP, bytes: encoder.finish().expect("compression") }
    }

    pub fn zstd(self) -> Layer {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        Layer { media_type: ZSTD, bytes: ruzstd::encoding::compress_to_vec(self.bytes().as_slice(), level) }
    }
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_700_000_000);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// What is below `root`, one line an entry: path, mode, and content or target.
pub fn tree(root: &Path) -> String {
    let mut lines = Vec::new();
    walk(root, root, &mut lines);
    lines.sort();
    lines.concat()
}

fn walk(root: &Path, dir: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let found = fs::symlink_metadata(&path).expect("an entry");
        let mut line = path.strip_prefix(root).expect("a path below").display().to_string();
        if found.is_symlink() {
            write!(line, " -> {}", fs::read_link(&path).expect("a link").display())
        } else if found.is_dir() {
            write!(line, "/ {:o}", found.mode() & 0o7777)
        } else if found.is_file() {
            let content = fs::read_to_string(&path).unwrap_or_else(|error| format!("({error})"));
            write!(line, " {:o} {content}", found.mode() & 0o7777)
        } else {
            write!(line, " {:?}", found.file_type())
        }
        .expect("a line");
        lines.push(line + "\n");
        if found.is_dir() {
            walk(root, &path, lines);
        }
    }
}
