//! Tells the library which sources it was made from: an app that was left up may be used again only by the same ones.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    // `#[harness::test]` marks its function for editors under this name, also in the command's copy of the generic ones.
    println!("cargo::rustc-check-cfg=cfg(rust_analyzer)");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut hasher = DefaultHasher::new();
    for name in ["src", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={name}");
        hash(&root.join(name), &mut hasher);
    }
    env::var("CARGO_CFG_FEATURE").unwrap_or_default().hash(&mut hasher);
    println!("cargo::rustc-env=HARNESS_SOURCES={:016x}", hasher.finish());
}

/// Names and contents, in an order that does not depend on the disk.
fn hash(path: &Path, hasher: &mut DefaultHasher) {
    if let Ok(entries) = fs::read_dir(path) {
        let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| hash(entry, hasher));
    } else {
        // Only the name below the checkout would be the same everywhere; within it the last part and the order do.
        path.file_name().hash(hasher);
        fs::read(path).unwrap_or_default().hash(hasher);
    }
}
