//! Addresses for people: without the user names, passwords and tokens that may stand in them.

use crate::mask::Masks;

/// What stands in the place of a query or a fragment.
const HIDDEN: &str = "***";

/// An address without user name and password, and without what its query says.
pub(crate) fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return without_user(url).to_owned() };
    // A path may have such characters in its names.
    if scheme == "file" {
        return url.to_owned();
    }
    let (_, rest) = split_user(rest);
    match rest.find(['?', '#']) {
        Some(at) => format!("{scheme}://{}{HIDDEN}", &rest[..=at]),
        None => format!("{scheme}://{rest}"),
    }
}

/// A text with every address in it redacted.
pub fn redact_all(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("://") {
        let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let start = at - rest[..at].chars().rev().take_while(|c| is_scheme(*c)).count();
        let ends = |c: char| c.is_whitespace() || "\"'`<>|".contains(c);
        let end = rest[at..].find(ends).map_or(rest.len(), |length| at + length);
        out.push_str(&rest[..start]);
        out.push_str(&redact(&rest[start..end]));
        rest = &rest[end..];
    }
    out + rest
}

/// What somebody says of an address, without what is secret of it.
pub(crate) fn mask(url: &str, said: &str) -> String {
    let said = redact_all(&said.replace(url, &redact(url)));
    let secrets = secrets(url);
    match Masks::new(secrets.iter().copied()) {
        Ok(masks) => masks.mask(&said),
        // Nothing said is better than a secret said.
        Err(_) => "what it said cannot be masked".into(),
    }
}

/// A password, or a user name that stands alone; the query, and each value of it.
fn secrets(url: &str) -> Vec<&str> {
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| *scheme != "file") else { return Vec::new() };
    let (user, rest) = split_user(rest);
    // The user of `ssh` is none: keys are what opens it.
    let user = user.filter(|_| scheme != "ssh").map(|user| user.split_once(':').map_or(user, |(_, password)| password));
    let query = rest.find(['?', '#']).map(|at| &rest[at + 1..]).unwrap_or_default();
    let values = query.split(['&', ';', '#']).filter_map(|pair| pair.split_once('=')).map(|(_, value)| value);
    user.into_iter().chain([query]).chain(values).collect()
}

/// The user and password of what follows a scheme, and the rest.
fn split_user(rest: &str) -> (Option<&str>, &str) {
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    // A password with a `/` in it makes a host of the user, and a port that is no number.
    let is_cut = authority.split_once(':').is_some_and(|(_, port)| !port.bytes().all(|byte| byte.is_ascii_digit()));
    let end = match authority.rfind('@') {
        Some(at) => Some(at),
        None if is_cut => rest.rfind('@'),
        None => None,
    };
    end.map_or((None, rest), |at| (Some(&rest[..at]), &rest[at + 1..]))
}

/// `git@host:path`, as scp has it, without the user; a path stays as it is.
fn without_user(address: &str) -> &str {
    let host = address.split_once(':').map(|(host, _)| host).filter(|host| !host.contains('/'));
    host.and_then(|host| host.rfind('@')).map_or(address, |at| &address[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_shown() {
        for (address, shown) in [
            ("https://h.org/a@b", "https://h.org/a@b"),
            ("https://user:token@h.org/a@b", "https://h.org/a@b"),
            ("https://token@h.org:8443/a", "https://h.org:8443/a"),
            ("https://user:p@ss@h.org/a", "https://h.org/a"),
            ("https://user:to/ken@h.org/a", "https://h.org/a"),
            ("https://user:to?ken@h.org/a", "https://h.org/a"),
            ("https://h.org/{recipe}.git?token=abc", "https://h.org/{recipe}.git?***"),
            ("https://user:token@h.org?token=a@b", "https://h.org?***"),
            ("https://h.org/a#token", "https://h.org/a#***"),
            ("ssh://git@h.org:22/a", "ssh://h.org:22/a"),
            ("token@h.org:a/{recipe}", "h.org:a/{recipe}"),
            ("file:///srv/a?b#c@d", "file:///srv/a?b#c@d"),
            ("/srv/a@b:c", "/srv/a@b:c"),
            ("recipes", "recipes"),
        ] {
            assert_eq!(redact(address), shown, "{address}");
        }
    }

    #[test]
    fn a_text_loses_the_secrets_of_every_address_in_it() {
        let text = "sources = [\"https://u:t@a.org/x\", 'https://b.org?k=v'] # see https://c.org/d, é://e@f";
        let shown = "sources = [\"https://a.org/x\", 'https://b.org?***'] # see https://c.org/d, é://f";
        assert_eq!(redact_all(text), shown);
        assert_eq!(redact_all("no address: //x"), "no address: //x");
    }

    #[test]
    fn what_git_says_loses_them_whatever_it_makes_of_the_address() {
        let url = "https://me:secret-word@h.org/x.git?private=other-word";
        let said = format!("unable to access '{url}/': secret-word, b3RoZXItd29yZA | other-word of me");
        assert_eq!(mask(url, &said), "unable to access 'https://h.org/x.git?***': ***, *** | *** of me");
        assert_eq!(mask("https://only-a-token@h.org/x", "only-a-token failed"), "*** failed");
        assert_eq!(mask("https://h.org/x", "h.org said no"), "h.org said no");
    }
}
