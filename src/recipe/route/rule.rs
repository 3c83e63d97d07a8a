//! Traefik's rules, of version 2 and 3 alike, as far as recipes use them: which requests a router takes.

use std::fmt;

/// How deep a rule may nest.
const MAX_DEPTH: usize = 32;

/// A rule, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// ``Host(`a`, `b`)``, with its name in lower case.
    Matcher {
        name: String,
        arguments: Vec<String>,
    },
    All(Vec<Rule>),
    Any(Vec<Rule>),
    Not(Box<Rule>),
}

/// What a visitor asks for: a page, by its address and nothing more.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub host: &'a str,
    pub path: &'a str,
}

/// Whether a rule takes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meets {
    Yes,
    No,
    /// Nobody can say from the rule alone, because of this part of it.
    Unknown(String),
}

impl Rule {
    /// Reads a rule; the error says where it cannot be read any more.
    pub fn read(text: &str) -> Result<Rule, String> {
        let mut reader = Reader { rest: text.trim() };
        let rule = reader.any(0).map_err(|expected| reader.stuck(text, expected))?;
        reader.skip();
        if reader.rest.is_empty() { Ok(rule) } else { Err(reader.stuck(text, "`&&`, `||` or its end")) }
    }

    /// Whether the rule takes a request.
    pub fn meets(&self, request: Request<'_>) -> Meets {
        match self {
            Rule::All(rules) => {
                let met: Vec<Meets> = rules.iter().map(|rule| rule.meets(request)).collect();
                first(&met, |it| *it == Meets::No).or_else(|| first(&met, |it| *it != Meets::Yes)).unwrap_or(Meets::Yes)
            }
            Rule::Any(rules) => {
                let met: Vec<Meets> = rules.iter().map(|rule| rule.meets(request)).collect();
                first(&met, |it| *it == Meets::Yes).or_else(|| first(&met, |it| *it != Meets::No)).unwrap_or(Meets::No)
            }
            Rule::Not(rule) => match rule.meets(request) {
                Meets::Yes => Meets::No,
                Meets::No => Meets::Yes,
                unknown => unknown,
            },
            Rule::Matcher { name, arguments } => matcher(name, arguments, request),
        }
    }

    /// Whether the host is named anywhere in the rule, so that somebody meant the rule for it.
    pub fn names_host(&self, host: &str) -> bool {
        match self {
            Rule::All(rules) | Rule::Any(rules) => rules.iter().any(|rule| rule.names_host(host)),
            Rule::Not(rule) => rule.names_host(host),
            Rule::Matcher { .. } => {
                let request = Request { host, path: "/" };
                matches!(self, Rule::Matcher { name, .. } if name.starts_with("host"))
                    && self.meets(request) == Meets::Yes
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, rules: &[Rule], between: &str| {
            for (at, rule) in rules.iter().enumerate() {
                write!(f, "{}{rule}", if at > 0 { between } else { "" })?;
            }
            Ok(())
        };
        match self {
            Rule::All(rules) => list(f, rules, " && "),
            Rule::Any(rules) => list(f, rules, " || "),
            Rule::Not(rule) => write!(f, "!{rule}"),
            Rule::Matcher { name, arguments } => write!(f, "{name}({})", arguments.join(", ")),
        }
    }
}

fn first(met: &[Meets], is: impl Fn(&Meets) -> bool) -> Option<Meets> {
    met.iter().find(|it| is(it)).cloned()
}

/// One matcher. A visitor sends no headers of anybody's choice and asks with `GET`.
fn matcher(name: &str, arguments: &[String], request: Request<'_>) -> Meets {
    let unknown = || Meets::Unknown(format!("{name}({})", arguments.join(", ")));
    let any = |is: &dyn Fn(&str) -> bool| if arguments.iter().any(|it| is(it)) { Meets::Yes } else { Meets::No };
    let is_template = arguments.iter().any(|argument| argument.contains('{'));
    match name {
        "host" | "hostheader" => any(&|host| host.eq_ignore_ascii_case(request.host)),
        "hostregexp" => pattern(arguments, request.host, unknown),
        "path" | "pathprefix" if is_template => pattern(arguments, request.path, unknown),
        "path" => any(&|path| path == request.path),
        "pathprefix" => any(&|prefix| request.path.starts_with(prefix)),
        "pathregexp" => pattern(arguments, request.path, unknown),
        "method" => any(&|method| method.eq_ignore_ascii_case("GET")),
        "headers" | "header" | "headersregexp" | "headerregexp" => match arguments.first() {
            Some(header) if header.eq_ignore_ascii_case("host") => unknown(),
            _ => Meets::No,
        },
        "query" | "queryregexp" => Meets::No,
        _ => unknown(),
    }
}

/// A pattern that is met by everything, or by nothing but one text. More of patterns is not judged here.
fn pattern(arguments: &[String], text: &str, unknown: impl Fn() -> Meets) -> Meets {
    let inner = |argument: &str| -> String {
        // Version 2 puts them into braces with a name, as `{any:.+}`.
        let braced = argument.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
        let bare = braced.map_or(argument, |inside| inside.split_once(':').map_or(".+", |(_, pattern)| pattern));
        bare.trim_start_matches('^').trim_end_matches('$').to_owned()
    };
    let takes_all = |argument: &String| [".+", ".*", "/.*", ""].contains(&inner(argument).as_str());
    let is_text = |argument: &String| inner(argument).replace("\\.", ".").eq_ignore_ascii_case(text);
    if arguments.iter().any(|it| takes_all(it) || is_text(it)) { Meets::Yes } else { unknown() }
}

struct Reader<'a> {
    rest: &'a str,
}

type Read<T> = Result<T, &'static str>;

impl Reader<'_> {
    fn stuck(&self, text: &str, expected: &str) -> String {
        let at = text.len() - self.rest.len().min(text.len());
        let seen: String = self.rest.chars().take(20).collect();
        let seen = if seen.is_empty() { "it ends".to_owned() } else { format!("there is `{seen}`") };
        format!("after {at} letters {expected} is expected, and {seen}")
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn any(&mut self, depth: usize) -> Read<Rule> {
        let mut rules = vec![self.all(depth)?];
        while self.take("||") {
            rules.push(self.all(depth)?);
        }
        Ok(if rules.len() == 1 { rules.remove(0) } else { Rule::Any(rules) })
    }

    fn all(&mut self, depth: usize) -> Read<Rule> {
        let mut rules = vec![self.one(depth)?];
        while self.take("&&") {
            rules.push(self.one(depth)?);
        }
        Ok(if rules.len() == 1 { rules.remove(0) } else { Rule::All(rules) })
    }

    fn one(&mut self, depth: usize) -> Read<Rule> {
        if depth > MAX_DEPTH {
            return Err("a rule that nests less deeply");
        }
        if self.take("!") {
            return self.one(depth + 1).map(|rule| Rule::Not(Box::new(rule)));
        }
        if self.take("(") {
            let rule = self.any(depth + 1)?;
            return if self.take(")") { Ok(rule) } else { Err("`)`") };
        }
        self.skip();
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        if end == 0 {
            return Err("a matcher such as ``Host(`a.test`)``");
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(Rule::Matcher { name: name.to_ascii_lowercase(), arguments: self.arguments()? })
    }

    fn arguments(&mut self) -> Read<Vec<String>> {
        if !self.take("(") {
            return Err("`(`");
        }
        let mut arguments = Vec::new();
        loop {
            self.skip();
            let quote = self.rest.chars().next().filter(|c| ['`', '"'].contains(c)).ok_or("a text in backticks")?;
            let inside = &self.rest[1..];
            let end = inside.find(quote).ok_or("the end of a text")?;
            arguments.push(inside[..end].to_owned());
            self.rest = &inside[end + 1..];
            if self.take(")") {
                return Ok(arguments);
            }
            if !self.take(",") {
                return Err("`)` or `,`");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meets(rule: &str, path: &str) -> Meets {
        Rule::read(rule).unwrap().meets(Request { host: "wiki.test", path })
    }

    #[test]
    fn rules_are_met_as_traefik_has_them() {
        for (rule, path, expected) in [
            ("Host(`wiki.test`)", "/", Meets::Yes),
            ("Host(`a.test`, `WIKI.test`)", "/", Meets::Yes),
            ("Host (\"wiki.test\")", "/", Meets::Yes),
            ("Host(`other.test`)", "/", Meets::No),
            ("Host(`wiki.test`) && PathPrefix(`/api`)", "/", Meets::No),
            ("Host(`wiki.test`) && PathPrefix(`/api`)", "/api/x", Meets::Yes),
            ("Host(`wiki.test`) && !PathPrefix(`/api`)", "/", Meets::Yes),
            ("Host(`wiki.test`) && (Path(`/`) || Path(`/b`))", "/b", Meets::Yes),
            ("Host(`a.test`) || Host(`wiki.test`) && Path(`/b`)", "/", Meets::No),
            ("Host(`wiki.test`) && Method(`POST`)", "/", Meets::No),
            ("Host(`wiki.test`) && Headers(`X-Key`, `1`)", "/", Meets::No),
            ("HostRegexp(`{any:.+}`)", "/", Meets::Yes),
            ("HostRegexp(`^wiki\\.test$`)", "/", Meets::Yes),
            ("Host(`other.test`) && ClientIP(`10.0.0.0/8`)", "/", Meets::No),
        ] {
            assert_eq!(meets(rule, path), expected, "{rule} {path}");
        }
        let unknown = meets("Host(`wiki.test`) && ClientIP(`10.0.0.0/8`)", "/");
        assert_eq!(unknown, Meets::Unknown("clientip(10.0.0.0/8)".into()));
    }

    #[test]
    fn a_rule_that_cannot_be_read_says_where() {
        let stuck = |rule| Rule::read(rule).unwrap_err();
        assert_eq!(stuck("Host(`a`) && PathPrefix(`/`"), "after 27 letters `)` or `,` is expected, and it ends");
        assert_eq!(stuck("Host(a)"), "after 5 letters a text in backticks is expected, and there is `a)`");
        assert!(stuck("Host(`a`) PathPrefix(`/`)").starts_with("after 10 letters `&&`, `||` or its end is expected"));
        assert!(stuck("").contains("a matcher such as"));
        assert!(stuck(&format!("{}Host(`a`)", "(".repeat(100))).contains("nests less deeply"));
    }
}
