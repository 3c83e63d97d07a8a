//! Manifests and indexes, read and refused.

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn entry(os: &str, architecture: &str, variant: Option<&str>) -> Descriptor {
    Descriptor {
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        digest: Digest::of(format!("{os}{architecture}{variant:?}").as_bytes()),
        size: 1,
        platform: Some(platform(os, architecture, variant)),
        annotations: Default::default(),
    }
}

fn platform(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
    Platform { os: os.into(), architecture: architecture.into(), variant: variant.map(str::to_owned) }
}

#[test]
fn a_digest_is_sha256_in_64_lowercase_hex_digits_and_nothing_else() {
    assert_eq!(Digest::of(b"").to_string(), format!("sha256:{HEX}"));
    assert_eq!(Digest::try_from(format!("sha256:{HEX}")).unwrap(), Digest::of(b""));
    for wrong in ["sha256:../../../../etc/passwd", &format!("sha256:{}", HEX.to_uppercase()), "sha256:abc"] {
        let error = Digest::try_from(wrong.to_owned()).unwrap_err().to_string();
        assert_eq!(error, format!("`{wrong}` is not a sha256 digest of 64 lowercase hex digits"));
    }
    let error = Digest::try_from("md5:abc".to_owned()).unwrap_err().to_string();
    assert_eq!(error, "`md5:abc` is not a sha256 digest");
}

#[test]
fn other_bytes_than_the_digest_says_are_an_error() {
    Digest::of(b"a").verify(b"a").unwrap();
    let error = Digest::of(b"").verify(b"a").unwrap_err().to_string();
    let of_a = Digest::of(b"a");
    assert_eq!(error, format!("blob `sha256:{HEX}` has the digest `{of_a}`: it is damaged or was tampered with"));
}

#[test]
fn the_entry_for_this_machine_is_chosen() {
    let entries = [entry("unknown", "unknown", None), entry("linux", "arm64", None), entry("linux", "amd64", None)];
    let machine = platform("linux", "amd64", Some("v1"));
    assert_eq!(for_platform(&entries, &machine).unwrap().digest, entries[2].digest);
    let error = for_platform(&entries, &platform("linux", "riscv64", None)).unwrap_err().to_string();
    let expected =
        "the image is not made for `linux/riscv64`; it offers `unknown/unknown`, `linux/arm64`, `linux/amd64`";
    assert_eq!(error, expected);
}

#[test]
fn the_plainest_variant_comes_first() {
    let entries = [entry("linux", "amd64", Some("v3")), entry("linux", "amd64", None)];
    let machine = platform("linux", "amd64", Some("v1"));
    assert_eq!(for_platform(&entries, &machine).unwrap().digest, entries[1].digest);
    let arm = [entry("linux", "arm", Some("v5")), entry("linux", "arm", Some("v7"))];
    assert_eq!(for_platform(&arm, &platform("linux", "arm", Some("v7"))).unwrap().digest, arm[1].digest);
    assert_eq!(for_platform(&arm[..1], &platform("linux", "arm", Some("v7"))).unwrap().digest, arm[0].digest);
}

#[test]
fn a_single_entry_need_not_name_a_platform() {
    let entries = [Descriptor { platform: None, ..entry("", "", None) }];
    assert_eq!(for_platform(&entries, &platform("linux", "amd64", None)).unwrap().digest, entries[0].digest);
}

#[test]
fn a_document_shows_in_its_fields_what_it_is() {
    let index = Document::parse(br#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    assert!(matches!(index, Document::Index(entries) if entries.is_empty()));
    let check = |json: &str| format!("{:#}", Document::parse(json.as_bytes()).unwrap_err());
    assert_eq!(check(r#"{"schemaVersion":2}"#), "it has neither `manifests` nor `config` and `layers`");
    assert_eq!(check(r#"{"schemaVersion":1,"fsLayers":[]}"#), "its schema version is Some(1), not 2");
    assert!(check("<html>").starts_with("it is neither an image index nor a manifest: "));
}

#[test]
fn a_chart_is_not_an_image() {
    let config =
        format!(r#"{{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"sha256:{HEX}","size":0}}"#);
    let json = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
    let error = Document::parse(json.as_bytes()).unwrap_err().to_string();
    let expected = "it is not a container image: its configuration is a `application/vnd.cncf.helm.config.v1+json`";
    assert_eq!(error, expected);
}

#[test]
fn the_compression_is_the_end_of_the_media_type() {
    let check = |media_type: &str| Compression::of(media_type).map_err(|error| error.to_string());
    assert_eq!(check("application/vnd.oci.image.layer.v1.tar"), Ok(Compression::None));
    assert_eq!(check("application/vnd.oci.image.layer.v1.tar+gzip"), Ok(Compression::Gzip));
    assert_eq!(check("application/vnd.docker.image.rootfs.diff.tar.gzip"), Ok(Compression::Gzip));
    assert_eq!(check("application/vnd.oci.image.layer.v1.tar+zstd"), Ok(Compression::Zstd));
    let encrypted = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
    let expected = format!("layer type `{encrypted}` is not supported; a layer is a tar archive, plain, gzip or zstd");
    assert_eq!(check(encrypted), Err(expected));
}

#[test]
fn a_tag_may_be_written_as_a_whole_reference() {
    let tag = |name: &str| {
        let annotations = [("org.opencontainers.image.ref.name".to_owned(), name.to_owned())].into();
        Descriptor { annotations, ..entry("", "", None) }.tag().map(str::to_owned)
    };
    assert_eq!(tag("1.27"), Some("1.27".into()));
    assert_eq!(tag("docker.io/library/nginx:1.27"), Some("1.27".into()));
    assert_eq!(tag("localhost:5000/nginx"), Some("localhost:5000/nginx".into()));
    assert_eq!(entry("", "", None).tag(), None);
}
