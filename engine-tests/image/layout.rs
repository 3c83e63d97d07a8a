//! Which image of a layout is meant, and layouts that are damaged.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::engine::embedded::image::{Image, ImageConfig, Root};
use harness::recipe::stack::{HealthTest, Healthcheck};
use serde_json::{Value, json};

use crate::Case;
use crate::fixture::{Bench, INDEX, Tar, architecture, root, tree};

pub const CASES: &[Case] = &[
    ("layout::an_image_comes_with_its_digest_and_configuration", an_image_comes_with_its_digest_and_configuration),
    ("layout::tags_choose_among_several_images", tags_choose_among_several_images),
    ("layout::several_images_without_a_fitting_tag_are_refused", several_images_without_a_fitting_tag_are_refused),
    ("layout::a_nested_index_gives_the_image_for_this_machine", a_nested_index_gives_the_image_for_this_machine),
    ("layout::images_for_other_machines_are_refused", images_for_other_machines_are_refused),
    ("layout::what_is_no_layout_is_refused", what_is_no_layout_is_refused),
    ("layout::a_missing_blob_is_named", a_missing_blob_is_named),
    ("layout::changed_blobs_are_refused", changed_blobs_are_refused),
    ("layout::a_chart_is_refused", a_chart_is_refused),
    ("layout::endless_indexes_are_refused", endless_indexes_are_refused),
];

fn an_image_comes_with_its_digest_and_configuration() -> Result<()> {
    let mut bench = Bench::new()?;
    let config = json!({
        "Entrypoint": ["/docker-entrypoint.sh"], "Cmd": ["nginx"], "Env": ["PATH=/usr/bin"], "WorkingDir": "/srv",
        "User": "nginx", "ExposedPorts": { "80/tcp": {} }, "Volumes": { "/data": {} }, "StopSignal": "SIGQUIT",
        "Healthcheck": { "Test": ["CMD", "true"], "Interval": 1_000_000_000 },
    });
    let manifest = bench.image(config, &[Tar::new().file("hello", "world").gzip()])?;
    let digest = manifest["digest"].as_str().context("a digest")?.to_owned();
    bench.list(manifest, None)?;
    // Root's images are unpacked for the ids of root's containers.
    let ids = harness::engine::embedded::first_id().map_or_else(String::new, |first| format!("-{first}"));
    let expected = Image {
        reference: "app:1".into(),
        digest: Some(digest.clone()),
        root: Root::Unpacked(bench.cache().join(format!("{}{ids}", digest.replace(':', "-"))).join("rootfs")),
        config: ImageConfig {
            entrypoint: vec!["/docker-entrypoint.sh".into()],
            cmd: vec!["nginx".into()],
            env: vec![("PATH".into(), "/usr/bin".into())],
            working_dir: Some("/srv".into()),
            user: Some("nginx".into()),
            exposed_ports: vec![80],
            volumes: vec!["/data".into()],
            healthcheck: Some(Healthcheck {
                test: Some(HealthTest::Cmd(vec!["true".into()])),
                interval: Some(Duration::from_secs(1)),
                ..Healthcheck::default()
            }),
            stop_signal: Some("SIGQUIT".into()),
        },
    };
    let image = bench.resolve()?;
    ensure!(image == expected, "{image:#?}");
    ensure!(bench.resolve()? == expected, "the second time it is another image");
    Ok(())
}

/// A layout whose images hold their own tag in `/version`.
fn tagged(tags: &[&str]) -> Result<Bench> {
    let mut bench = Bench::new()?;
    for tag in tags {
        let image = bench.image(json!({}), &[Tar::new().file("version", tag).gzip()])?;
        bench.list(image, Some(tag))?;
    }
    Ok(bench)
}

fn tags_choose_among_several_images() -> Result<()> {
    let bench = tagged(&["1.26", "1.27"])?;
    let check = |reference: &str, suffix: &str, version: &str| {
        let found = tree(&root(&bench.resolve_as(reference, suffix)?));
        ensure!(found == format!("version 644 {version}\n"), "`{reference}` gave {found}");
        Ok(())
    };
    check("app:1.26", "", "1.26")?;
    check("app:1.27", "", "1.27")?;
    check("app:1.27", ":1.26", "1.26")?;
    check("app", ":1.27", "1.27")?;
    // A layout of one image stands in for every version.
    let image = tagged(&["1.26"])?.resolve_as("app:2", "")?;
    ensure!(image.reference == "app:2", "{image:?}");
    Ok(())
}

fn several_images_without_a_fitting_tag_are_refused() -> Result<()> {
    let bench = tagged(&["1.27", "1.26"])?;
    let check = |reference: &str, suffix: &str, cause: &str| {
        let error = bench.resolve_as(reference, suffix).err().context("resolving succeeded")?;
        let prefix = format!(
            "failed to resolve image `{reference}`: failed to read the OCI layout `{}`: ",
            bench.layout().display()
        );
        ensure!(format!("{error:#}") == format!("{prefix}{cause}"), "{error:#}");
        Ok(())
    };
    let several = "it holds several images (`1.26`, `1.27`)";
    let way_out = "add a tag to the value, as in `oci:<path>:<tag>`";
    check("app", "", &format!("{several}; {way_out}"))?;
    check("app:2", "", &format!("{several}, none of them tagged `2`; {way_out}"))?;
    check("app:1.26", ":2", "it has no image tagged `2`; it has `1.26`, `1.27`")
}

/// The image for `platform` with one file `name`.
fn for_platform(bench: &Bench, architecture: &str, name: &str) -> Result<Value> {
    let layer = bench.blob(crate::fixture::GZIP, &Tar::new().file(name, "x").gzip().bytes)?;
    let mut image = bench.image_of(json!({ "os": "linux", "architecture": architecture }), vec![layer])?;
    image["platform"] = json!({ "os": "linux", "architecture": architecture });
    Ok(image)
}

fn index(bench: &Bench, manifests: &[Value]) -> Result<Value> {
    bench.blob(INDEX, json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }).to_string().as_bytes())
}

fn a_nested_index_gives_the_image_for_this_machine() -> Result<()> {
    let mut bench = Bench::new()?;
    let mut attestation = for_platform(&bench, "unknown", "attestation")?;
    attestation["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    let manifests =
        [attestation, for_platform(&bench, "pdp11", "other")?, for_platform(&bench, architecture(), "ours")?];
    let index = index(&bench, &manifests)?;
    bench.list(index.clone(), Some("1"))?;
    let image = bench.resolve()?;
    ensure!(tree(&root(&image)) == "ours 644 x\n", "{}", tree(&root(&image)));
    ensure!(image.digest.as_deref() == index["digest"].as_str(), "the digest is not the index's: {image:?}");
    // The same without a nested index.
    let mut flat = Bench::new()?;
    for manifest in [for_platform(&flat, "pdp11", "other")?, for_platform(&flat, architecture(), "ours")?] {
        flat.list(manifest, None)?;
    }
    ensure!(tree(&root(&flat.resolve()?)) == "ours 644 x\n", "the flat index gave another image");
    Ok(())
}

fn images_for_other_machines_are_refused() -> Result<()> {
    let mut bench = Bench::new()?;
    let index = index(&bench, &[for_platform(&bench, "pdp11", "x")?, for_platform(&bench, "vax", "x")?])?;
    bench.list(index, None)?;
    let machine = format!("linux/{}", architecture());
    let expected = format!("the image is not made for `{machine}`; it offers `linux/pdp11`, `linux/vax`");
    ensure!(bench.refusal()?.ends_with(&expected), "{}", bench.refusal()?);
    // A lone image says it in its configuration only.
    let mut bench = Bench::new()?;
    let mut image = for_platform(&bench, "pdp11", "x")?;
    image.as_object_mut().context("an object")?.remove("platform");
    bench.list(image, None)?;
    let expected = format!(
        "failed to resolve image `app:1`: the image is made for `linux/pdp11`, this machine is `{machine}`: build or \
         choose one for this machine"
    );
    ensure!(bench.refusal()? == expected, "{}", bench.refusal()?);
    ensure!(bench.cached()?.is_empty(), "it was unpacked: {:?}", bench.cached()?);
    Ok(())
}

fn what_is_no_layout_is_refused() -> Result<()> {
    let check = |bench: &Bench, cause: &str| {
        let prefix = "failed to resolve image `app:1`: failed to read the OCI layout `DIR/layout`: ";
        let refusal = bench.refusal()?;
        ensure!(refusal.starts_with(&format!("{prefix}{cause}")), "{refusal}");
        Ok(())
    };
    let bench = Bench::new()?;
    check(&bench, "failed to read `DIR/layout/index.json`: No such file or directory")?;
    fs::write(bench.layout().join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#)?;
    check(&bench, "it holds no image")?;
    fs::write(bench.layout().join("index.json"), "{")?;
    check(&bench, "failed to parse `DIR/layout/index.json`: it is neither an image index nor a manifest: EOF while")?;
    let escape = json!({ "digest": "sha256:../../../../../etc/passwd", "size": 1 });
    fs::write(bench.layout().join("index.json"), json!({ "schemaVersion": 2, "manifests": [escape] }).to_string())?;
    check(&bench, "failed to parse `DIR/layout/index.json`: it is neither an image index nor a manifest: `sha256:../")?;
    fs::remove_dir_all(bench.layout())?;
    check(&bench, "there is no file `oci-layout` in it; make a layout with `skopeo copy docker://<image> oci:<path>:")
}

fn a_missing_blob_is_named() -> Result<()> {
    let layer = Tar::new().file("x", "y").gzip();
    let digest = crate::fixture::digest(&layer.bytes);
    let bench = Bench::with_layers(&[layer])?;
    fs::remove_file(bench.blob_path(&digest))?;
    let refusal = bench.refusal()?;
    let expected = format!(
        "failed to resolve image `app:1`: failed to read the OCI layout `DIR/layout`: blob `{digest}` is missing: No \
         such file or directory (os error 2)"
    );
    ensure!(refusal == expected, "{refusal}");
    ensure!(bench.cached()?.is_empty(), "left in the cache: {:?}", bench.cached()?);
    Ok(())
}

fn changed_blobs_are_refused() -> Result<()> {
    let layer = Tar::new().file("x", "y").plain();
    let digest = crate::fixture::digest(&layer.bytes);
    let bench = Bench::with_layers(std::slice::from_ref(&layer))?;
    let mut changed = layer.bytes.clone();
    changed[512] = b'z';
    fs::write(bench.blob_path(&digest), &changed)?;
    let actual = crate::fixture::digest(&changed);
    let expected = format!(
        "failed to resolve image `app:1`: failed to unpack into `DIR/cache`: failed to apply layer 1 of 1, `{digest}`: \
         the layer has the digest `{actual}` instead: it is damaged or was tampered with"
    );
    ensure!(bench.refusal()? == expected, "{}", bench.refusal()?);
    ensure!(bench.cached()?.is_empty(), "left in the cache: {:?}", bench.cached()?);
    // Damage that makes the stream unreadable is still reported as damage.
    fs::write(bench.blob_path(&digest), vec![b'x'; changed.len()])?;
    ensure!(bench.refusal()?.ends_with("it is damaged or was tampered with"), "{}", bench.refusal()?);
    fs::write(bench.blob_path(&digest), &changed[..100])?;
    let expected = format!("blob `{digest}` has 100 bytes instead of {}", changed.len());
    ensure!(bench.refusal()?.ends_with(&expected), "{}", bench.refusal()?);
    changed_manifests_are_refused()
}

fn changed_manifests_are_refused() -> Result<()> {
    let mut bench = Bench::new()?;
    let manifest = bench.image(json!({}), &[])?;
    bench.list(manifest.clone(), None)?;
    let path = bench.blob_path(manifest["digest"].as_str().context("a digest")?);
    let changed = fs::read_to_string(&path)?.replace("schemaVersion", "schemaversion");
    fs::write(&path, changed)?;
    ensure!(bench.refusal()?.ends_with("it is damaged or was tampered with"), "{}", bench.refusal()?);
    Ok(())
}

fn a_chart_is_refused() -> Result<()> {
    let mut bench = Bench::new()?;
    let config = bench.blob("application/vnd.cncf.helm.config.v1+json", b"{}")?;
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [] });
    let manifest = bench.blob(crate::fixture::MANIFEST, manifest.to_string().as_bytes())?;
    bench.list(manifest, None)?;
    let expected = "it is not a container image: its configuration is a `application/vnd.cncf.helm.config.v1+json`";
    ensure!(bench.refusal()?.ends_with(expected), "{}", bench.refusal()?);
    Ok(())
}

fn endless_indexes_are_refused() -> Result<()> {
    let mut bench = Bench::new()?;
    let mut entry = for_platform(&bench, architecture(), "x")?;
    for _ in 0..6 {
        entry = index(&bench, &[entry])?;
    }
    bench.list(entry, None)?;
    ensure!(bench.refusal()?.ends_with("its indexes nest deeper than 4 levels"), "{}", bench.refusal()?);
    Ok(())
}
