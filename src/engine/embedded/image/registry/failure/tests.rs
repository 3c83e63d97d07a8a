//! Every way in which a registry can fail, and whose fault it is.

use super::*;

fn check(asked: Asked, error: OciDistributionError) -> PullError {
    let reference: Reference = "registry.example.org/app:1".parse().unwrap();
    classify(&reference, asked, error).downcast().unwrap()
}

fn status(code: u16, message: &str) -> OciDistributionError {
    OciDistributionError::ServerError { code, url: "https://x/?token=secret".into(), message: message.into() }
}

fn envelope(code: &str, message: &str) -> OciDistributionError {
    let json = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
    let envelope = serde_json::from_str(&json).unwrap();
    OciDistributionError::RegistryError { envelope, url: "https://x/?token=secret".into() }
}

#[test]
fn statuses_are_sorted_by_fault() {
    let registry = "registry `registry.example.org`";
    let image = "`registry.example.org/app:1`";
    let check = |code, expected| assert_eq!(check(Asked::Image, status(code, "")), expected, "status {code}");
    check(404, PullError::NotFound(format!("{registry} has no image {image}: status 404")));
    check(503, PullError::Unreachable(format!("{registry} cannot be reached: status 503")));
    check(418, PullError::Corrupt(format!("{registry} sent {image} in a damaged state: status 418")));
    let login = "try later, or log in with `docker login`";
    check(429, PullError::RateLimited(format!("{registry} limits how much may be pulled: status 429; {login}")));
    let either = "either there is no such image, or a login is missing in Docker's config.json (credential helpers are \
                  not asked)";
    check(403, PullError::Denied(format!("{registry} does not give out {image}: status 403; {either}")));
}

#[test]
fn a_blob_that_is_not_there_is_the_registrys_fault() {
    let expected = "registry `registry.example.org` lacks a part of `registry.example.org/app:1`: status 404";
    assert_eq!(check(Asked::Part, status(404, "")), PullError::Corrupt(expected.into()));
    assert!(matches!(check(Asked::Part, envelope("BLOB_UNKNOWN", "")), PullError::Corrupt(_)));
}

#[test]
fn error_documents_are_sorted_by_their_code() {
    let check = |code, message| check(Asked::Image, envelope(code, message));
    assert!(matches!(check("MANIFEST_UNKNOWN", "manifest unknown"), PullError::NotFound(_)));
    assert!(matches!(check("NAME_UNKNOWN", ""), PullError::NotFound(_)));
    assert!(matches!(check("TOOMANYREQUESTS", "slow down"), PullError::RateLimited(_)));
    assert!(matches!(check("DENIED", "requested access"), PullError::Denied(_)));
    // The client hides the status, so an unknown code is judged by its words.
    assert!(matches!(check("LIMIT", "Rate exceeded"), PullError::RateLimited(_)));
    assert!(matches!(check("MAINTENANCE", "back soon"), PullError::Unreachable(_)));
}

#[test]
fn token_services_are_sorted_by_what_they_say() {
    let check = |said: &str| check(Asked::Image, OciDistributionError::AuthenticationFailure(said.into()));
    assert!(matches!(check(r#"{"details":"incorrect username or password"}"#), PullError::Denied(_)));
    assert!(matches!(check("429 Too Many Requests"), PullError::RateLimited(_)));
    assert!(matches!(check("<html>502 Bad Gateway</html>"), PullError::Unreachable(_)));
    assert!(matches!(check(r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#), PullError::Denied(_)));
}

#[test]
fn addresses_and_whole_pages_stay_out_of_the_message() {
    let page = format!("<html>\n\n{}</html>", "word ".repeat(1000));
    let said = check(Asked::Image, status(500, &page)).to_string();
    assert!(!said.contains("secret") && !said.contains('\n') && said.len() < 400, "{said}");
    assert!(said.ends_with('…'), "{said}");
}

#[test]
fn a_full_disk_is_not_the_registrys_fault() {
    let reference: Reference = "registry.example.org/app:1".parse().unwrap();
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let error = classify(&reference, Asked::Part, OciDistributionError::IoError(full));
    assert!(error.downcast_ref::<PullError>().is_none());
    assert_eq!(error.to_string(), "no space left for the image; free some, or use a state directory elsewhere");
}

#[test]
fn only_the_recipes_and_the_configurations_faults_are_not_infrastructure() {
    assert!(check(Asked::Image, status(500, "")).is_infrastructure());
    assert!(check(Asked::Image, status(429, "")).is_infrastructure());
    assert!(!check(Asked::Image, status(404, "")).is_infrastructure());
    assert!(!check(Asked::Image, status(401, "")).is_infrastructure());
}
