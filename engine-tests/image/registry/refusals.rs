//! Registries that refuse, fail and lie: whose fault it is.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use harness::engine::embedded::image::{self, Image, PullError};
use harness::process;
use serde_json::json;

use super::fake::{Answer, Fake, Request};
use crate::Case;
use crate::fixture::{Bench, INDEX, Tar, block_on, digest, root, tree};

pub const CASES: &[Case] = &[
    ("registry::what_is_not_there_is_not_found_at_once", what_is_not_there_is_not_found_at_once),
    ("registry::too_many_requests_are_a_limit", too_many_requests_are_a_limit),
    ("registry::a_refusal_is_denied", a_refusal_is_denied),
    ("registry::server_errors_are_retried_then_unreachable", server_errors_are_retried_then_unreachable),
    ("registry::a_registry_that_recovers_is_used", a_registry_that_recovers_is_used),
    ("registry::a_closed_port_is_unreachable", a_closed_port_is_unreachable),
    ("registry::a_download_that_breaks_off_is_unreachable", a_download_that_breaks_off_is_unreachable),
    ("registry::a_changed_blob_is_corrupt", a_changed_blob_is_corrupt),
    ("registry::a_missing_blob_is_corrupt", a_missing_blob_is_corrupt),
    ("registry::a_lying_digest_is_corrupt", a_lying_digest_is_corrupt),
    ("registry::a_token_is_fetched_and_sent", a_token_is_fetched_and_sent),
    ("registry::a_failing_token_service_is_not_a_denial", a_failing_token_service_is_not_a_denial),
    ("registry::a_token_that_has_expired_is_fetched_again", a_token_that_has_expired_is_fetched_again),
    ("registry::more_than_was_announced_is_corrupt", more_than_was_announced_is_corrupt),
    ("registry::a_digest_that_is_not_announced_is_counted", a_digest_that_is_not_announced_is_counted),
    ("registry::what_is_not_for_this_machine_is_unusable", what_is_not_for_this_machine_is_unusable),
    ("registry::a_malformed_reference_is_the_recipes_fault", a_malformed_reference_is_the_recipes_fault),
    ("registry::an_image_in_the_cache_costs_a_head_request", an_image_in_the_cache_costs_a_head_request),
    ("registry::a_loopback_registry_is_not_asked_through_a_proxy", a_loopback_registry_is_not_asked_through_a_proxy),
];

fn a_loopback_registry_is_not_asked_through_a_proxy() -> Result<()> {
    let (bench, manifest, _) = healthy()?;
    let fake = Fake::start(&bench, &manifest, |_, answer| answer)?;
    // In a process of its own, for its environment; nothing listens on the discard port.
    let mut command = process::command("/proc/self/exe");
    command.arg("__resolve").arg(fake.reference()).arg(bench.cache()).env("http_proxy", "http://127.0.0.1:9");
    let said = String::from_utf8(command.stdin(Stdio::null()).output()?.stdout)?;
    ensure!(said.starts_with("ok "), "{said}");
    Ok(())
}

/// An image of one layer, and the digests of its manifest and its layer.
fn healthy() -> Result<(Bench, String, String)> {
    let bench = Bench::new()?;
    let layer = Tar::new().file("x", &"content ".repeat(1000)).plain();
    let manifest = bench.image(json!({}), std::slice::from_ref(&layer))?;
    let manifest = manifest["digest"].as_str().context("a digest")?.to_owned();
    Ok((bench, manifest, digest(&layer.bytes)))
}

fn resolve(bench: &Bench, fake: &Fake) -> Result<Image> {
    block_on(image::resolve(&fake.reference(), &BTreeMap::new(), &bench.cache()))
}

/// The refusal that a fault leads to; nothing may stay in the cache.
fn refusal(
    bench: &Bench,
    manifest: &str,
    fault: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static,
) -> Result<(PullError, Fake)> {
    let fake = Fake::start(bench, manifest, fault)?;
    let error = resolve(bench, &fake).err().context("resolving succeeded")?;
    let left = bench.cached()?;
    ensure!(left.is_empty(), "left in the cache: {left:?}");
    let refusal = error.downcast_ref::<PullError>().with_context(|| format!("an error of no kind: {error:#}"))?;
    Ok((refusal.clone(), fake))
}

/// Checks the kind and the words; `REGISTRY` stands for its address.
fn check(refusal: &PullError, fake: &Fake, expected: PullError) -> Result<()> {
    let said = format!("{refusal:?}").replace(&fake.address.to_string(), "REGISTRY");
    ensure!(said == format!("{expected:?}"), "expected: {expected:?}\nfound: {said}");
    Ok(())
}

fn what_is_not_there_is_not_found_at_once() -> Result<()> {
    let (bench, ..) = healthy()?;
    let (found, fake) = refusal(&bench, "sha256:none", |_, answer| answer)?;
    let expected = "registry `REGISTRY` has no image `REGISTRY/app:1`: manifest unknown";
    check(&found, &fake, PullError::NotFound(expected.into()))?;
    ensure!(fake.count("GET", "/manifests/") == 1, "asked {} times", fake.count("GET", "/manifests/"));
    let (found, fake) = refusal(&bench, "sha256:none", |request, answer| match request.path.as_str() {
        "/v2/" => answer,
        _ => Answer::new(404, "<html>no such page</html>"),
    })?;
    let expected = "registry `REGISTRY` has no image `REGISTRY/app:1`: status 404, <html>no such page</html>";
    check(&found, &fake, PullError::NotFound(expected.into()))
}

fn too_many_requests_are_a_limit() -> Result<()> {
    let (bench, manifest, _) = healthy()?;
    let envelope = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    let cases = [
        (envelope, "You have reached your pull rate limit."),
        ("slow down", "status 429, slow down"),
        ("", "status 429"),
    ];
    for (body, said) in cases {
        let (found, fake) = refusal(&bench, &manifest, move |_, _| Answer::new(429, body))?;
        let expected = format!(
            "registry `REGISTRY` limits how much may be pulled: {said}; try later, or log in with `docker login`"
        );
        check(&found, &fake, PullError::RateLimited(expected))?;
        ensure!(fake.count("GET", "/manifests/") == 1, "a limited registry was asked again");
        ensure!(found.is_infrastructure(), "the recipe would be blamed for {found}");
    }
    // The limit may strike in the middle.
    let (found, _) = refusal(&bench, &manifest, |request, answer| match request.path.contains("/blobs/") {
        true => Answer::new(429, ""),
        false => answer,
    })?;
    ensure!(matches!(found, PullError::RateLimited(_)), "{found:?}");
    Ok(())
}

fn a_refusal_is_denied() -> Result<()> {
    let (bench, manifest, _) = healthy()?;
    for (status, said) in [(401, "it wants a login"), (403, "status 403, go away")] {
        let (found, fake) = refusal(&bench, &manifest, move |_, _| Answer::new(status, "go away"))?;
        let expected = format!(
            "registry `REGISTRY` does not give out `REGISTRY/app:1`: {said}; either there is no such image, or a login \
             is missing in Docker's config.json (credential helpers are not asked)"
        );
        check(&found, &fake, PullError::Denied(expected))?;
        ensure!(!found.is_infrastructure(), "nobody would be blamed for {found}");
    }
    Ok(())
}

fn server_errors_are_retried_then_unreachable() -> Result<()> {
    let (bench, manifest, _) = healthy()?;
    let (found, fake) = refusal(&bench, &manifest, |_, _| Answer::new(500, "out of order"))?;
    let expected = "registry `REGISTRY` cannot be reached: status 500, out of order";
    check(&found, &fake, PullError::Unreachable(expected.into()))?;
    ensure!(fake.count("GET", "/manifests/") == 3, "asked {} times", fake.count("GET", "/manifests/"));
    ensure!(found.is_infrastructure(), "the recipe would be blamed for {found}");
    Ok(())
}

fn a_registry_that_recovers_is_used() -> Result<()> {
    let (bench, manifest, layer) = healthy()?;
    let fake = Fake::start(&bench, &manifest, move |request, answer| match request.repeated {
        0 if request.path.contains("/manifests/") => Answer::new(503, ""),
        // The second attempt has to start the file anew.
        0 if request.path.ends_with(&layer) => Answer { cut: Some(700), ..answer },
        _ => answer,
    })?;
    let found = tree(&root(&resolve(&bench, &fake)?));
    ensure!(found.starts_with("x 644 content content"), "{found}");
    Ok(())
}

fn a_closed_port_is_unreachable() -> Result<()> {
    let (bench, manifest, _) = healthy()?;
    let reference = {
        let fake = Fake::start(&bench, &manifest, |_, answer| answer)?;
        fake.reference()
    };
    let error = block_on(image::resolve(&reference, &BTreeMap::new(), &bench.cache())).err().context("resolved")?;
    let error = error.downcast::<PullError>()?;
    ensure!(matches!(error, PullError::Unreachable(_)), "{error:?}");
    ensure!(
        error.to_string().contains("cannot be reached: ") && error.to_string().contains("Connection refused"),
        "{error}"
    );
    Ok(())
}

fn a_download_that_breaks_off_is_unreachable() -> Result<()> {
    let (bench, manifest, layer) = healthy()?;
    let path = layer.clone();
    let (found, fake) = refusal(&bench, &manifest, move |request, answer| match request.path.ends_with(&path) {
        true => Answer { cut: Some(700), ..answer },
        false => answer,
    })?;
    ensure!(matches!(&found, PullError::Unreachable(said) if said.contains("cannot be reached: ")), "{found:?}");
    ensure!(fake.count("GET", &layer) == 3, "asked {} times", fake.count("GET", &layer));
    Ok(())
}

fn a_changed_blob_is_corrupt() -> Result<()> {
    let (bench, manifest, layer) = healthy()?;
    let path = layer.clone();
    let (found, fake) = refusal(&bench, &manifest, move |request, answer| match request.path.ends_with(&path) {
        true => Answer { body: vec![b'x'; answer.body.len()], headers: Vec::new(), ..answer },
        false => answer,
    })?;
    let length = std::fs::metadata(bench.blob_path(&layer))?.len();
    let actual = digest(&vec![b'x'; length as usize]);
    let expected = format!(
        "registry `REGISTRY` sent `REGISTRY/app@{manifest}` in a damaged state: blob `{layer}` arrived with the digest \
         `{actual}`"
    );
    check(&found, &fake, PullError::Corrupt(expected))
}

fn a_missing_blob_is_corrupt() -> Result<()> {
    let (bench, manifest, layer) = healthy()?;
    std::fs::remove_file(bench.blob_path(&layer))?;
    let (found, fake) = refusal(&bench, &manifest, |_, answer| answer)?;
    let expected = format!("registry `REGISTRY` lacks a part of `REGISTRY/app@{manifest}`: manifest unknown");
    check(&found, &fake, PullError::Corrupt(expected))
}

fn a_lying_digest_is_corrupt() -> Result<()> {
    let (bench, manifest, layer) = healthy()?;
    let announce = |digest: String| {
        move |request: &Request, answer: Answer| match request.path.contains("/manifests/") {
            true => Answer { headers: Vec::new(), ..answer }.header("Docker-Content-Digest", &digest),
            false => answer,
        }
    };
    let nowhere = digest(b"nowhere");
    let (found, fake) = refusal(&bench, &manifest, announce(nowhere.clone()))?;
    let expected = format!("registry `REGISTRY` lacks a part of `REGISTRY/app@{nowhere}`: manifest unknown");
    check(&found, &fake, PullError::Corrupt(expected))?;
    // What is there under the announced digest is something else.
    let other = bench.image(json!({ "Cmd": ["evil"] }), &[])?;
    let other = std::fs::read(bench.blob_path(other["digest"].as_str().context("a digest")?))?;
    let (found, _) = refusal(&bench, &manifest, move |request, answer| {
        if request.path.ends_with("/manifests/1") || !request.path.contains("/manifests/") {
            return answer;
        }
        Answer { body: other.clone(), ..answer }
    })?;
    ensure!(matches!(&found, PullError::Corrupt(said) if said.contains("arrived with the digest")), "{found:?}");
    let (found, fake) = refusal(&bench, &manifest, announce("sha256:../../etc".into()))?;
    let expected =
        "registry `REGISTRY` sent nonsense: `sha256:../../etc` is not a sha256 digest of 64 lowercase hex digits";
    check(&found, &fake, PullError::Corrupt(expected.into()))?;
    ensure!(fake.count("GET", &layer) == 0, "the layer was fetched");
    Ok(())
}

/// Demands a token of the service at `/token`, which answers with `token`.
fn with_tokens(token: Answer) -> impl Fn(&Request, Answer) -> Answer {
    move |request, answer| {
        if request.path.starts_with("/token") {
            return token.clone();
        }
        if request.authorization.as_deref() == Some("Bearer t0ken") {
            return answer;
        }
        let realm = format!("Bearer realm=\"http://{}/token\",service=\"fake\"", request.host);
        Answer::new(401, "{}").header("WWW-Authenticate", &realm)
    }
}

fn a_token_is_fetched_and_sent() -> Result<()> {
    let (bench, manifest, _) = healthy()?;
    let fake = Fake::start(&bench, &manifest, with_tokens(Answer::new(200, r#"{"token":"t0ken"}"#)))?;
    resolve(&bench, &fake)?;
    ensure!(fake.count("GET", "/token?scope=repository%3Aapp%3Apull") > 0, "no token was asked for");
    Ok(())
}

fn a_token_that_has_expired_is_fetched_again() -> Result<()> {
    let (bench, manifest, layer) = healthy()?;
    // The layer is refused once, as if the time of the token were over.
    let tokens = with_tokens(Answer::new(200, r#"{"access_token":"t0ken"}"#));
    let fake = Fake::start(&bench, &manifest, move |request, answer| {
        let expired = request.path.ends_with(&layer) && request.repeated == 0;
        tokens(
            &Request { authorization: request.authorization.clone().filter(|_| !expired), ..request.clone() },
            answer,
        )
    })?;
    resolve(&bench, &fake)?;
    ensure!(fake.count("GET", "/token?") == 2, "{} tokens were asked for", fake.count("GET", "/token?"));
    Ok(())
}

fn more_than_was_announced_is_corrupt() -> Result<()> {
    let (bench, manifest, layer) = healthy()?;
    let path = layer.clone();
    let (found, fake) = refusal(&bench, &manifest, move |request, answer| match request.path.ends_with(&path) {
        true => Answer { body: [answer.body, vec![0]].concat(), headers: Vec::new(), ..answer },
        false => answer,
    })?;
    let length = std::fs::metadata(bench.blob_path(&layer))?.len();
    let expected = format!(
        "registry `REGISTRY` sent `REGISTRY/app@{manifest}` in a damaged state: blob `{layer}` is larger than {length} \
         bytes"
    );
    check(&found, &fake, PullError::Corrupt(expected))
}

fn a_digest_that_is_not_announced_is_counted() -> Result<()> {
    let (bench, manifest, _) = healthy()?;
    let fake = Fake::start(&bench, &manifest, |_, answer| Answer { headers: Vec::new(), ..answer })?;
    let found = resolve(&bench, &fake)?;
    ensure!(found.digest.as_deref() == Some(manifest.as_str()), "{found:?}");
    Ok(())
}

fn a_failing_token_service_is_not_a_denial() -> Result<()> {
    let (bench, manifest, _) = healthy()?;
    let check = |status, body: &'static str| {
        refusal(&bench, &manifest, with_tokens(Answer::new(status, body))).map(|(found, _)| found)
    };
    let found = check(429, "429 Too Many Requests")?;
    ensure!(matches!(found, PullError::RateLimited(_)), "{found:?}");
    let found = check(503, "<html>maintenance</html>")?;
    ensure!(matches!(found, PullError::Unreachable(_)), "{found:?}");
    let found = check(401, r#"{"details":"incorrect username or password"}"#)?;
    ensure!(matches!(found, PullError::Denied(_)), "{found:?}");
    Ok(())
}

fn what_is_not_for_this_machine_is_unusable() -> Result<()> {
    let bench = Bench::new()?;
    let foreign = bench.image_of(json!({ "os": "linux", "architecture": "pdp11" }), Vec::new())?;
    let (found, _) = refusal(&bench, foreign["digest"].as_str().context("a digest")?, |_, answer| answer)?;
    ensure!(matches!(&found, PullError::Unusable(said) if said.contains("is made for `linux/pdp11`")), "{found:?}");
    let mut entry = foreign;
    entry["platform"] = json!({ "os": "linux", "architecture": "pdp11" });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
    let index = bench.blob(INDEX, index.to_string().as_bytes())?;
    let (found, _) = refusal(&bench, index["digest"].as_str().context("a digest")?, |_, answer| answer)?;
    ensure!(matches!(&found, PullError::Unusable(said) if said.contains("it offers `linux/pdp11`")), "{found:?}");
    Ok(())
}

fn a_malformed_reference_is_the_recipes_fault() -> Result<()> {
    for reference in ["nginx:", "Nginx:1", "nginx:1:2", "nginx@sha256:abc"] {
        let resolved = block_on(image::resolve(reference, &BTreeMap::new(), std::path::Path::new("/nowhere")));
        let error = resolved.err().with_context(|| format!("`{reference}` resolved"))?;
        let expected = format!("failed to resolve image `{reference}`: `{reference}` is not an image reference: ");
        ensure!(format!("{error:#}").starts_with(&expected), "{error:#}");
        ensure!(matches!(error.downcast_ref(), Some(PullError::Malformed(_))), "{error:?}");
    }
    Ok(())
}

fn an_image_in_the_cache_costs_a_head_request() -> Result<()> {
    let (bench, manifest, _) = healthy()?;
    let fake = Fake::start(&bench, &manifest, |_, answer| answer)?;
    let first = resolve(&bench, &fake)?;
    let (heads, gets) = (fake.count("HEAD", "/manifests/"), fake.count("GET", "/app/"));
    ensure!(resolve(&bench, &fake)? == first, "the second image differs");
    ensure!(fake.count("HEAD", "/manifests/") == heads + 1, "no HEAD request");
    ensure!(fake.count("GET", "/app/") == gets, "something was fetched again");
    Ok(())
}
