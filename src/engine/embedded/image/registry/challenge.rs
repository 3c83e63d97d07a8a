//! What a registry wants to see first, as the header `WWW-Authenticate` says it (RFC 9110, section 11.6.1).

/// One of the two ways in that registries use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token, which the service at the address `realm` gives out.
    Bearer { realm: String, service: Option<String> },
    /// Name and password.
    Basic,
}

/// Reads one value of the header; what it is else about is nothing for us.
pub(super) fn challenge(value: &str) -> Option<Challenge> {
    let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let parameters = parameters(rest);
    let get = |wanted: &str| {
        let found = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.clone())
    };
    Some(Challenge::Bearer { realm: get("realm")?, service: get("service") })
}

/// `name="value"` or `name=value`, with commas between; a backslash in quotes takes the next character as it is.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| *c == ',' || c.is_whitespace()).is_some() {}
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=') {
            name.push(c);
        }
        if chars.next().is_none() {
            return found;
        }
        let mut value = String::new();
        if chars.next_if_eq(&'"').is_some() {
            while let Some(c) = chars.next().filter(|c| *c != '"') {
                value.extend(if c == '\\' { chars.next() } else { Some(c) });
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',' && !c.is_whitespace()) {
                value.push(c);
            }
        }
        found.push((name.trim().to_owned(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_ways_in_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
        };
        for (value, expected) in [
            (
                r#"Bearer realm="https://t/x",service="hub",scope="repository:a,b:pull""#,
                bearer("https://t/x", Some("hub")),
            ),
            (r#"bearer service=hub , realm="a\"b""#, bearer("a\"b", Some("hub"))),
            (r#"Bearer realm="unclosed"#, bearer("unclosed", None)),
            (r#"Basic realm="Registry""#, Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            (r#"Bearer service="no realm""#, None),
            ("Negotiate abc=", None),
            ("", None),
        ] {
            assert_eq!(challenge(value), expected, "{value}");
        }
    }
}
