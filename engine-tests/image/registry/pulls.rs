//! Pulling from a real registry.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use data_encoding::BASE64;
use harness::engine::embedded::image::{self, PullError};
use harness::process;
use libtest_mimic::Trial;
use serde_json::json;

use super::daemon::{Daemon, digest_of};
use crate::Case;
use crate::fixture::{Bench, GZIP, INDEX, Tar, ZSTD, architecture, block_on, root, tree};

pub const CASES: &[Case] = &[
    ("registry::an_image_is_pulled_unpacked_and_kept", an_image_is_pulled_unpacked_and_kept),
    ("registry::an_index_gives_the_image_for_this_machine", an_index_gives_the_image_for_this_machine),
    ("registry::a_mirror_stands_in", a_mirror_stands_in),
    ("registry::a_moved_tag_gives_the_new_image", a_moved_tag_gives_the_new_image),
    ("registry::a_login_is_read_from_dockers_configuration", a_login_is_read_from_dockers_configuration),
];

pub fn trial((name, prove): Case) -> Trial {
    Trial::ignorable_test(name, move || {
        if !Daemon::is_installed() {
            return crate::missing("`docker-registry` is not installed; on Debian it is a package of that name");
        }
        prove().map_err(|error| format!("{error:#}"))?;
        Ok(libtest_mimic::Completion::Completed)
    })
}

fn an_image_is_pulled_unpacked_and_kept() -> Result<()> {
    block_on(async {
        let bench = Bench::new()?;
        let twice = Tar::new().file("a", "1").gzip();
        let layers = [
            Tar::new().file("a", "0").file("b", "0").gzip(),
            twice.clone(),
            Tar::new().whiteout(".wh.b").zstd(),
            twice,
        ];
        let manifest = bench.image(json!({ "Cmd": ["run"] }), &layers)?;
        let daemon = Daemon::start(false).await?;
        daemon.push(&bench, &manifest, "1").await?;
        let reference = format!("{}/app:1", daemon.address);
        let first = image::resolve(&reference, &BTreeMap::new(), &bench.cache()).await?;
        ensure!(tree(&root(&first)) == "a 644 1\n", "{}", tree(&root(&first)));
        ensure!(first.digest.as_deref() == Some(digest_of(&manifest)?), "{first:?}");
        ensure!(first.config.cmd == ["run"] && first.reference == reference, "{first:?}");
        let entry = root(&first).parent().context("an entry")?.to_owned();
        ensure!(!entry.join("blobs").exists(), "the downloads were kept");
        let second = image::resolve(&reference, &BTreeMap::new(), &bench.cache()).await?;
        ensure!(second == first, "{second:?}");

        // Without the registry a tag means nothing, and a digest everything.
        let pinned = format!("{}@{}", reference, digest_of(&manifest)?);
        drop(daemon);
        let error =
            image::resolve(&reference, &BTreeMap::new(), &bench.cache()).await.err().context("a tag resolved")?;
        ensure!(matches!(error.downcast_ref(), Some(PullError::Unreachable(_))), "{error:?}");
        let third = image::resolve(&pinned, &BTreeMap::new(), &bench.cache()).await?;
        ensure!(third.root == first.root && third.config == first.config, "{third:?}");
        Ok(())
    })
}

fn an_index_gives_the_image_for_this_machine() -> Result<()> {
    block_on(async {
        let bench = Bench::new()?;
        let mut entries = Vec::new();
        for (architecture, media_type) in [("pdp11", GZIP), (architecture(), ZSTD)] {
            let layer = Tar::new().file(architecture, "x");
            let layer = if media_type == GZIP { layer.gzip() } else { layer.zstd() };
            let layer = bench.blob(media_type, &layer.bytes)?;
            let mut entry = bench.image_of(json!({ "os": "linux", "architecture": architecture }), vec![layer])?;
            entry["platform"] = json!({ "os": "linux", "architecture": architecture });
            entries.push(entry);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        let index = bench.blob(INDEX, index.to_string().as_bytes())?;
        let daemon = Daemon::start(false).await?;
        daemon.push(&bench, &index, "1").await?;
        let reference = format!("{}/app:1", daemon.address);
        let found = image::resolve(&reference, &BTreeMap::new(), &bench.cache()).await?;
        ensure!(tree(&root(&found)) == format!("{} 644 x\n", architecture()), "{}", tree(&root(&found)));
        ensure!(found.digest.as_deref() == Some(digest_of(&index)?), "{found:?}");
        Ok(())
    })
}

fn a_mirror_stands_in() -> Result<()> {
    block_on(async {
        let bench = Bench::new()?;
        let manifest = bench.image(json!({}), &[Tar::new().file("mirrored", "x").gzip()])?;
        let daemon = Daemon::start(false).await?;
        daemon.push(&bench, &manifest, "1.27").await?;
        let map = BTreeMap::from([("nginx".to_owned(), format!("{}/app", daemon.address))]);
        let found = image::resolve("nginx:1.27", &map, &bench.cache()).await?;
        ensure!(found.reference == "nginx:1.27" && tree(&root(&found)) == "mirrored 644 x\n", "{found:?}");
        let error = image::resolve("nginx:1.28", &map, &bench.cache()).await.err().context("1.28 resolved")?;
        let expected = format!(
            "failed to resolve image `nginx:1.28`: registry `{0}` has no image `{0}/app:1.28`: manifest unknown",
            daemon.address
        );
        ensure!(format!("{error:#}") == expected, "{error:#}");
        ensure!(matches!(error.downcast_ref(), Some(PullError::NotFound(_))), "{error:?}");
        Ok(())
    })
}

fn a_moved_tag_gives_the_new_image() -> Result<()> {
    block_on(async {
        let bench = Bench::new()?;
        let daemon = Daemon::start(false).await?;
        let reference = format!("{}/app:latest", daemon.address);
        for version in ["1", "2"] {
            let manifest = bench.image(json!({}), &[Tar::new().file("version", version).gzip()])?;
            daemon.push(&bench, &manifest, "latest").await?;
            let found = image::resolve(&reference, &BTreeMap::new(), &bench.cache()).await?;
            ensure!(tree(&root(&found)) == format!("version 644 {version}\n"), "{}", tree(&root(&found)));
        }
        Ok(())
    })
}

fn a_login_is_read_from_dockers_configuration() -> Result<()> {
    let bench = Bench::new()?;
    let manifest = bench.image(json!({}), &[Tar::new().file("secret", "x").gzip()])?;
    let daemon = block_on(Daemon::start(true))?;
    block_on(daemon.push(&bench, &manifest, "1"))?;
    // In a process of its own, since the configuration is found through the environment.
    let resolve = |config: serde_json::Value| -> Result<String> {
        let docker = bench.dir.path().join("docker");
        fs::create_dir_all(&docker)?;
        fs::write(docker.join("config.json"), config.to_string())?;
        let mut command = process::command("/proc/self/exe");
        command.arg("__resolve").arg(format!("{}/app:1", daemon.address)).arg(bench.cache());
        command.env("DOCKER_CONFIG", docker).stdin(Stdio::null());
        Ok(String::from_utf8(command.output()?.stdout)?)
    };
    let auths =
        |credentials: &str| json!({ "auths": { &daemon.address: { "auth": BASE64.encode(credentials.as_bytes()) } } });
    for config in [json!({}), auths("user:wrong-one")] {
        let said = resolve(config)?;
        let expected = format!("registry `{0}` does not give out `{0}/app:1`: it wants a login; ", daemon.address);
        ensure!(said.contains(&expected) && said.contains("Denied(") && !said.contains("wrong-one"), "{said}");
    }
    let said = resolve(auths("user:password"))?;
    ensure!(said.starts_with("ok "), "{said}");
    Ok(())
}
