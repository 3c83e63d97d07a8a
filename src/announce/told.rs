//! The hidden mark by which a comment is found again. It names what is told and the commit that it is about.

/// The first line of a comment.
pub fn mark(context: &str, sha: &str) -> String {
    format!("<!-- {context} at {sha} -->")
}

/// Whether a comment begins with such a mark, of any commit. In the middle of one it is a quotation.
pub fn is_marked(body: &str, context: &str) -> bool {
    sha(body, context).is_some()
}

/// The commit that a marked comment is about.
pub fn sha<'a>(body: &'a str, context: &str) -> Option<&'a str> {
    let line = body.lines().next()?.trim_end();
    let sha = line.strip_prefix("<!-- ")?.strip_prefix(context)?.strip_prefix(" at ")?.strip_suffix(" -->")?;
    sha.chars().all(|c| c.is_ascii_hexdigit()).then_some(sha)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_known_by_its_context_alone_and_only_at_the_beginning() {
        let body = format!("{}\r\n### verdict", mark("recipe-harness/testme", "abc123"));
        assert_eq!(sha(&body, "recipe-harness/testme"), Some("abc123"));
        assert!(!is_marked(&body, "recipe-harness/test"), "another context");
        assert!(!is_marked(&format!("> {body}"), "recipe-harness/testme"), "a quotation");
        assert!(!is_marked(&format!("see\n{body}"), "recipe-harness/testme"), "not at the beginning");
        assert!(!is_marked("<!-- recipe-harness/testme at x y -->", "recipe-harness/testme"), "no commit");
        assert!(!is_marked("", "recipe-harness/testme"));
    }
}
