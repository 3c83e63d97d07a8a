//! Rules of Traefik: which hosts a router takes requests for.

use std::collections::BTreeSet;

/// What a rule reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing outside of the run's own domain.
    Own,
    /// These hosts besides.
    Foreign(BTreeSet<String>),
    /// Hosts that nobody can list. Also a rule that cannot be read.
    Any,
}

/// How deep parentheses may nest.
const MAX_DEPTH: usize = 32;

/// The hosts that a rule reaches; names below the domain are its own.
pub(super) fn reach(rule: &str, domain: &str) -> Reach {
    let mut reader = Reader { rest: rule, domain };
    let reach = reader.either(0);
    reader.skip();
    reach.filter(|_| reader.rest.is_empty()).unwrap_or(Reach::Any)
}

/// Whether a host is the domain itself, or below it.
pub(super) fn is_own(host: &str, domain: &str) -> bool {
    let (host, domain) = (host.to_lowercase(), domain.to_lowercase());
    !domain.is_empty() && (host == domain || host.ends_with(&format!(".{domain}")))
}

struct Reader<'a> {
    rest: &'a str,
    domain: &'a str,
}

impl Reader<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// `a || b`: both sides are reached.
    fn either(&mut self, depth: usize) -> Option<Reach> {
        let mut reach = self.both(depth)?;
        while self.take("||") {
            reach = match (reach, self.both(depth)?) {
                (Reach::Any, _) | (_, Reach::Any) => Reach::Any,
                (Reach::Foreign(one), Reach::Foreign(other)) => Reach::Foreign(one.into_iter().chain(other).collect()),
                (Reach::Own, other) | (other, Reach::Own) => other,
            };
        }
        Some(reach)
    }

    /// `a && b`: what both sides reach, so the narrower one is enough.
    fn both(&mut self, depth: usize) -> Option<Reach> {
        let mut reach = self.one(depth)?;
        while self.take("&&") {
            reach = match (reach, self.one(depth)?) {
                (Reach::Own, _) | (_, Reach::Own) => Reach::Own,
                (Reach::Any, other) | (other, _) => other,
            };
        }
        Some(reach)
    }

    fn one(&mut self, depth: usize) -> Option<Reach> {
        if depth > MAX_DEPTH {
            return None;
        }
        if self.take("!") {
            // Whatever it is that is not reached, the rest is.
            return self.one(depth + 1).map(|_| Reach::Any);
        }
        if self.take("(") {
            let reach = self.either(depth + 1)?;
            return self.take(")").then_some(reach);
        }
        self.matcher()
    }

    /// ``Host(`a`, `b`)``; the name of a matcher is read without its case.
    fn matcher(&mut self) -> Option<Reach> {
        self.skip();
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric())?;
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        let arguments = self.arguments()?;
        let name = name.to_lowercase();
        if ["hostregexp", "hostsniregexp"].contains(&name.as_str()) && !arguments.is_empty() {
            let is_own = |pattern: &String| self.is_own_pattern(pattern);
            return Some(if arguments.iter().all(is_own) { Reach::Own } else { Reach::Any });
        }
        if !["host", "hostsni"].contains(&name.as_str()) || arguments.is_empty() {
            return Some(Reach::Any);
        }
        let foreign: BTreeSet<String> = arguments.into_iter().filter(|host| !self.is_own(host)).collect();
        Some(match foreign.is_empty() {
            true => Reach::Own,
            false if foreign.contains("*") => Reach::Any,
            false => Reach::Foreign(foreign),
        })
    }

    fn is_own(&self, host: &str) -> bool {
        is_own(host, self.domain)
    }

    /// Whether a pattern is for names below the run's own domain, in the words of Traefik 2, `{sub:\\w+}.a.test`, or of
    /// Traefik 3, `^.+\.a\.test$`. Nobody knows which one reads it, so it has to be harmless to both: without alternatives
    /// and groups whatever matches has the domain in it.
    fn is_own_pattern(&self, pattern: &str) -> bool {
        if self.domain.is_empty() || pattern.contains(['|', '(', ')', '?']) {
            return false;
        }
        let below = format!(".{}", self.domain.to_lowercase());
        let pattern = pattern.to_lowercase();
        match pattern.strip_prefix('^').and_then(|pattern| pattern.strip_suffix('$')) {
            Some(pattern) => pattern.ends_with(&below.replace('.', "\\.")),
            None => pattern.starts_with('{') && pattern.strip_suffix(&below).is_some_and(|it| it.ends_with('}')),
        }
    }

    fn arguments(&mut self) -> Option<Vec<String>> {
        let mut arguments = Vec::new();
        if !self.take("(") {
            return None;
        }
        while !self.take(")") {
            self.skip();
            let quote = self.rest.chars().next().filter(|c| ['`', '"'].contains(c))?;
            let (argument, rest) = self.rest[1..].split_once(quote)?;
            // Go reads escapes between double quotes: a name has none.
            let is_escaped = quote == '"' && argument.contains('\\');
            arguments.push(if is_escaped { "*".to_owned() } else { argument.to_owned() });
            self.rest = rest;
            self.take(",");
        }
        Some(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn foreign(hosts: &[&str]) -> Reach {
        Reach::Foreign(hosts.iter().map(|host| host.to_string()).collect())
    }

    #[test]
    fn hosts_are_told_apart() {
        for (rule, expected) in [
            ("Host(`a.test`)", Reach::Own),
            ("Host(`A.TEST`, \"www.a.test\")", Reach::Own),
            ("host(`a.test`)", Reach::Own),
            ("HostSNI(`a.test`)", Reach::Own),
            ("Host(`a.test`) && PathPrefix(`/x`)", Reach::Own),
            ("PathPrefix(`/x`) && (Host(`a.test`) || Host(`b.a.test`))", Reach::Own),
            ("Host(`a.test`) || Host(`ci.test`)", foreign(&["ci.test"])),
            ("Host(`a.test`,`ci.test`)", foreign(&["ci.test"])),
            ("Host(`xa.test`)", foreign(&["xa.test"])),
            ("Host(`a.test.evil.test`) && PathPrefix(`/`)", foreign(&["a.test.evil.test"])),
            ("Host(`a.test`) || PathPrefix(`/`)", Reach::Any),
            ("PathPrefix(`/`)", Reach::Any),
            ("!Host(`a.test`)", Reach::Any),
            ("!Host(`b.test`) && Host(`a.test`)", Reach::Own),
            ("HostSNI(`*`)", Reach::Any),
            ("HostRegexp(`.*`)", Reach::Any),
            ("Host(`a.test`) || HostRegexp(`{subdomain:\\w+}.a.test`)", Reach::Own),
            ("HostRegexp(`^[a-z]+\\.a\\.test$`)", Reach::Own),
            ("HostRegexp(`{sub:.+}.ci.test`)", Reach::Any),
            ("HostRegexp(`{sub:.+}.xa.test`)", Reach::Any),
            ("HostRegexp(`{sub:.+}a.test`)", Reach::Any),
            ("HostRegexp(`{sub:x|.*}.a.test`)", Reach::Any),
            ("HostRegexp(`^.+\\.a.test$`)", Reach::Any),
            ("HostRegexp(`.+\\.a\\.test`)", Reach::Any),
            ("HostRegexp(`^(.+\\.a\\.test)?$`)", Reach::Any),
            ("HostRegexp(`{sub:.+}.a.test`, `.*`)", Reach::Any),
            ("HostRegexp(\"{sub:.+}.a.test\")", Reach::Own),
            ("HostRegexp(\"^.+\\\\.a\\\\.test$\")", Reach::Any),
            ("Host(\"\\x63i.test\")", Reach::Any),
            ("Host()", Reach::Any),
            ("Host(`a.test`", Reach::Any),
            ("Host(`a.test`) Host(`b.test`)", Reach::Any),
            ("", Reach::Any),
        ] {
            assert_eq!(reach(rule, "a.test"), expected, "{rule}");
        }
        assert_eq!(reach("Host(`a.test`)", ""), foreign(&["a.test"]));
        assert_eq!(reach(&"(".repeat(100_000), "a.test"), Reach::Any);
    }

    proptest! {
        #[test]
        fn no_rule_makes_it_panic(rule in "[!&|()`\"HosPath., é]{0,60}") {
            reach(&rule, "a.test");
        }
    }
}
