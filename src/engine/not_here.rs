//! What is said of images that cannot be had here and now: each once, each reason once, and the ways out.

use std::collections::BTreeMap;

/// A first line that says which images and why, and a line for each way out. `images` are references and reasons.
pub fn said(images: &[(String, String)], ways: &[String]) -> String {
    let mut by_reason = BTreeMap::<&str, Vec<&str>>::new();
    for (image, reason) in images {
        by_reason.entry(reason).or_default().push(image);
    }
    let of = |(reason, images): (&&str, &Vec<&str>)| format!("`{}` ({reason})", images.join("`, `"));
    let reasons: Vec<String> = by_reason.iter().map(of).collect();
    let are = if images.len() == 1 { "image is" } else { "images are" };
    let mut text = format!("{} {are} not here, and cannot be had: {}", images.len(), reasons.join("; "));
    for (number, way) in ways.iter().enumerate() {
        let either = if number == 0 { "either" } else { "or" };
        let letter = char::from(b'a' + (number % 26) as u8);
        text.push_str(&format!("\n{either:>6} ({letter}) {way}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_with_one_reason_are_told_in_one_breath() {
        let image = |name: &str, reason: &str| (name.to_owned(), reason.to_owned());
        let ways = ["wait".to_owned(), "go".to_owned()];
        let two = [image("a:1", "no route"), image("b:1", "no route")];
        let expected =
            "2 images are not here, and cannot be had: `a:1`, `b:1` (no route)\neither (a) wait\n    or (b) go";
        assert_eq!(said(&two, &ways), expected);
        let others = [image("a:1", "no route"), image("b:1", "a limit")];
        assert!(said(&others, &[]).ends_with(": `b:1` (a limit); `a:1` (no route)"));
        assert!(said(&two[..1], &[]).starts_with("1 image is not here"));
    }
}
