//! Tags, names, rules and images: what is read of a repository before anything else.
#![no_main]

use harness::recipe::name::RecipeName;
use harness::recipe::tree::inside;
use harness::recipe::version::Version;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(version) = Version::parse(text, "0123456789abcdef0123456789abcdef01234567") {
        assert_eq!(version.to_string(), text);
    }
    if let Ok(name) = text.parse::<RecipeName>() {
        assert!(name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    }
    if let Ok(path) = inside(text) {
        assert!(path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."), "{path:?}");
    }
});
