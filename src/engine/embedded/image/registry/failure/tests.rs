//! Every way in which a registry can fail, and whose fault it is.

use super::*;

fn check(asked: Asked, failure: Failure) -> PullError {
    let reference: Reference = Reference::parse("registry.example.org/app:1").unwrap();
    classify(&reference, asked, failure).downcast().unwrap()
}

fn status(code: u16, said: &str) -> Failure {
    Failure::Status(code, said.into())
}

fn document(status: u16, code: &str, message: &str) -> Failure {
    Failure::Status(status, format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#))
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
    assert!(matches!(check(Asked::Part, document(404, "BLOB_UNKNOWN", "")), PullError::Corrupt(_)));
}

#[test]
fn error_documents_are_sorted_by_their_code() {
    let check = |status, code, message| check(Asked::Image, document(status, code, message));
    let not_found = PullError::NotFound(
        "registry `registry.example.org` has no image `registry.example.org/app:1`: manifest unknown".into(),
    );
    assert_eq!(check(404, "MANIFEST_UNKNOWN", "manifest unknown"), not_found);
    assert!(matches!(check(400, "NAME_UNKNOWN", ""), PullError::NotFound(said) if said.ends_with(": status 400")));
    assert!(matches!(check(400, "TOOMANYREQUESTS", "slow down"), PullError::RateLimited(_)));
    assert!(matches!(check(400, "DENIED", "requested access"), PullError::Denied(_)));
    assert!(matches!(check(401, "UNAUTHORIZED", "no"), PullError::Denied(said) if said.contains("it wants a login")));
    assert!(matches!(check(400, "LIMIT", "Rate exceeded"), PullError::RateLimited(_)));
    // An unknown code is judged by the status.
    assert!(
        matches!(check(503, "MAINTENANCE", "back soon"), PullError::Unreachable(said) if said.ends_with("back soon"))
    );
    assert!(matches!(check(418, "TEAPOT", "short and stout"), PullError::Corrupt(_)));
}

#[test]
fn token_services_are_sorted_by_status_and_words() {
    let check = |status, said: &str| check(Asked::Image, Failure::Token(status, said.into()));
    assert!(matches!(check(400, r#"{"details":"incorrect username or password"}"#), PullError::Denied(_)));
    assert!(matches!(check(401, ""), PullError::Denied(_)));
    assert!(matches!(check(429, ""), PullError::RateLimited(_)));
    assert!(matches!(check(400, "Too Many Requests"), PullError::RateLimited(_)));
    let away = check(502, "<html>Bad Gateway</html>");
    let expected = "registry `registry.example.org` cannot be reached: its token service said: status 502, \
                    <html>Bad Gateway</html>";
    assert_eq!(away, PullError::Unreachable(expected.into()));
}

#[test]
fn what_does_not_arrive_whole_is_corrupt() {
    let most = Failure::TooLarge { what: "blob `x`".into(), most: 7 };
    let expected = "registry `registry.example.org` sent `registry.example.org/app:1` in a damaged state: ";
    let corrupt = |said: &str| PullError::Corrupt(format!("{expected}{said}"));
    assert_eq!(check(Asked::Part, most), corrupt("blob `x` is larger than 7 bytes"));
    let (wanted, other) = (Digest::of(b"1"), Digest::of(b"2"));
    let digest = Failure::Digest { expected: wanted.clone(), actual: other.clone() };
    assert_eq!(check(Asked::Part, digest), corrupt(&format!("blob `{wanted}` arrived with the digest `{other}`")));
}

#[test]
fn whole_pages_stay_out_of_the_message() {
    let page = format!("<html>\n\n{}</html>", "word ".repeat(1000));
    let said = check(Asked::Image, status(500, &page)).to_string();
    assert!(!said.contains('\n') && said.len() < 400, "{said}");
    assert!(said.ends_with('…'), "{said}");
}

#[test]
fn a_full_disk_is_not_the_registrys_fault() {
    let reference: Reference = Reference::parse("registry.example.org/app:1").unwrap();
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let error = classify(&reference, Asked::Part, Failure::Io(full));
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
