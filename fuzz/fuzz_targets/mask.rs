//! Masks: the first line holds secrets, the second the cuts, the rest is the text. However it is cut, it is masked as
//! the whole is, and no secret is left.
#![no_main]

use harness::mask::{MASK, Masks, SHORTEST};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let mut lines = input.splitn(3, '\n');
    let (secrets, cuts) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let text = lines.next().unwrap_or_default();
    let secrets: Vec<&str> = secrets.split(' ').filter(|secret| (SHORTEST..=64).contains(&secret.len())).take(4).collect();
    let Ok(masks) = Masks::new(secrets.iter().copied()) else { return };
    let whole = masks.mask(text);
    let mut stream = masks.stream();
    let (mut masked, mut rest) = (Vec::new(), text.as_bytes());
    for cut in cuts.bytes() {
        let (piece, more) = rest.split_at(usize::from(cut).min(rest.len()));
        masked.extend(stream.push(piece));
        rest = more;
    }
    masked.extend(stream.push(rest));
    masked.extend(stream.finish());
    assert_eq!(String::from_utf8_lossy(&masked), whole);
    // What stands on both sides of a mask is no longer one text.
    for part in whole.split(MASK) {
        assert!(!secrets.iter().any(|secret| part.contains(secret)), "{whole:?}");
    }
});
