//! Lists the modules of `generic/` and `overlays/`, so that dropping a file there is all it takes to add assertions.

mod fingerprint;
mod unregistered;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    // `#[harness::test]` marks its function for editors under this name.
    println!("cargo::rustc-check-cfg=cfg(rust_analyzer)");
    // Every container begins with this executable. To move its hundred megabytes to another address each time took a fifth of
    // a run's processor time; the released program, which is small, stays movable.
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu")
        && env::var("PROFILE").is_ok_and(|it| it == "debug")
    {
        println!("cargo::rustc-link-arg=-no-pie");
    }
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let root = package.ancestors().find(|dir| dir.join("overlays").is_dir()).expect("the package lies in the checkout");
    let mut modules = String::new();
    for top in ["generic", "overlays"] {
        let dir = root.join(top);
        println!("cargo::rerun-if-changed={}", dir.display());
        // Relative, because rust-analyzer sees no module behind an absolute path.
        writeln!(modules, "#[path = {:?}]\npub mod {top} {{", relative(&out, &dir)).expect("a string takes it");
        if top == "generic" {
            let sources = of_files(&dir, fingerprint::sources);
            writeln!(
                modules,
                "::harness::inventory::submit! {{ ::harness::assertion::GenericFolder {{ sources: {sources:?} }} }}"
            )
            .expect("a string takes it");
        }
        list(&dir, top == "overlays", &mut modules);
        modules.push_str("}\n");
    }
    let file = out.join("assertions.rs");
    // Written only on change: otherwise every build would compile the assertions again.
    if fs::read_to_string(&file).ok().as_deref() != Some(&modules) {
        fs::write(&file, modules).expect("OUT_DIR can be written to");
    }
}

/// One line a module; folders of `overlays` are recipes and say so to the registry.
fn list(dir: &Path, recipes: bool, modules: &mut String) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("failed to list `{}`: {error}", dir.display()))
        .map(|entry| entry.expect("an entry can be read").path())
        .collect();
    entries.sort();
    let mut seen = Vec::new();
    for entry in entries {
        let file = entry.file_name().and_then(|name| name.to_str()).expect("names are UTF-8").to_owned();
        let stem = file.strip_suffix(".rs").unwrap_or(&file).to_owned();
        let module = stem.replace('-', "_");
        // At the top there is a library that only editors need.
        if file.starts_with('.') || file == "lib.rs" {
            continue;
        }
        let line = format!("#[path = {file:?}]\npub mod {module}");
        if entry.is_dir() && recipes {
            writeln!(modules, "{line} {{").expect("a string takes it");
            let rest = of_files(&entry, fingerprint::besides_assertions);
            let sources = of_files(&entry, fingerprint::sources);
            let folder = format!(
                "OverlayFolder {{ module: {module:?}, recipe: {stem:?}, besides_assertions: {rest:?}, sources: {sources:?} }}"
            );
            writeln!(modules, "::harness::inventory::submit! {{ ::harness::assertion::{folder} }}")
                .expect("a string takes it");
            list(&entry, false, modules);
            modules.push_str("}\n");
        } else if file.ends_with(".rs") {
            refuse_unregistered(&entry);
            writeln!(modules, "{line};").expect("a string takes it");
        } else {
            continue;
        }
        assert!(!seen.contains(&module), "two entries of `{}` would both be the module `{module}`", dir.display());
        seen.push(module);
    }
}

/// The compiler takes such a function for one of a test harness that is not there, and throws it away without a word.
fn refuse_unregistered(file: &Path) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("failed to read `{}`: {error}", file.display()));
    for function in unregistered::functions(&text) {
        println!(
            "cargo::error={}: nothing would run `{function}`, because its `#[test]` is Rust's own: write `#[harness::test]`",
            file.strip_prefix(file.ancestors().nth(3).unwrap_or(file)).unwrap_or(file).display()
        );
    }
}

fn of_files(folder: &Path, fingerprint: fn(&Path) -> std::io::Result<String>) -> String {
    fingerprint(folder).unwrap_or_else(|error| panic!("failed to read `{}`: {error}", folder.display()))
}

fn relative(from: &Path, to: &Path) -> String {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| "..".into());
    let down = to.components().skip(common).map(|part| part.as_os_str().to_owned());
    up.chain(down).collect::<PathBuf>().to_str().expect("paths are UTF-8").to_owned()
}
