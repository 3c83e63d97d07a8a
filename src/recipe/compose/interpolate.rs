//! Variables in values: `$X`, `${X}` and its forms with defaults, errors and alternatives.
//!
//! Only the app's own environment is looked at, never this process's: a compose file must not read what a deploying
//! machine keeps in its variables.

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

/// Looks a variable up.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What came of one text.
#[derive(Debug, PartialEq)]
pub(super) struct Text {
    pub(super) text: String,
    /// It uses what the compose standard has but `docker stack deploy` does not: `${X:+a}` or a variable in a default.
    pub(super) beyond_docker: bool,
}

/// Replaces the variables in every value of a document. Returns the places that use more than docker knows.
pub(super) fn document(value: &mut Value, lookup: Lookup<'_>) -> Result<Vec<String>> {
    let mut beyond = Vec::new();
    walk(value, &mut Vec::new(), lookup, &mut beyond)?;
    Ok(beyond)
}

/// Replaces the variables in one text.
pub(super) fn text(template: &str, lookup: Lookup<'_>) -> Result<Text> {
    let mut parser = Parser { rest: template, beyond_docker: false, lookup, depth: 0, unused: false };
    let text = parser.until_end(false)?;
    Ok(Text { text, beyond_docker: parser.beyond_docker })
}

/// Names of the variables that a text refers to, in order.
pub(super) fn variables(template: &str) -> Vec<String> {
    let seen = std::cell::RefCell::new(Vec::new());
    let record = |name: &str| {
        seen.borrow_mut().push(name.to_owned());
        Some(String::from("x"))
    };
    let _ = text(template, &record);
    seen.into_inner()
}

fn walk(value: &mut Value, path: &mut Vec<String>, lookup: Lookup<'_>, beyond: &mut Vec<String>) -> Result<()> {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                path.push(key.clone());
                walk(value, path, lookup, beyond)?;
                path.pop();
            }
        }
        Value::Array(list) => {
            for value in list {
                path.push("[]".into());
                walk(value, path, lookup, beyond)?;
                path.pop();
            }
        }
        Value::String(template) => {
            let place = || path.join(".").replace(".[]", "[]");
            let shown = || template.chars().take(80).collect::<String>().escape_debug().to_string();
            let result = text(template, lookup).with_context(|| format!("`{}`: `{}`", place(), shown()))?;
            if result.beyond_docker {
                beyond.push(place());
            }
            if result.text != *template {
                *value = cast(path, result.text).with_context(|| format!("`{}`", place()))?;
            }
        }
        _ => {}
    }
    Ok(())
}

struct Parser<'a> {
    rest: &'a str,
    beyond_docker: bool,
    lookup: Lookup<'a>,
    depth: usize,
    /// Inside a word that is read only to find its end.
    unused: bool,
}

impl Parser<'_> {
    /// Reads to the end of the text, or to the `}` that closes a braced expression.
    fn until_end(&mut self, braced: bool) -> Result<String> {
        let mut out = String::new();
        while let Some(c) = self.rest.chars().next() {
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                '}' if braced => return Ok(out),
                '$' => out += &self.variable()?,
                _ => out.push(c),
            }
        }
        if braced {
            bail!("a `${{` is not closed");
        }
        Ok(out)
    }

    /// What stands behind a `$`.
    fn variable(&mut self) -> Result<String> {
        if self.depth > 0 {
            self.beyond_docker = true;
        }
        if let Some(rest) = self.rest.strip_prefix('$') {
            self.rest = rest;
            return Ok("$".into());
        }
        if let Some(rest) = self.rest.strip_prefix('{') {
            self.rest = rest;
            return self.braced();
        }
        let name = self.name().context("a `$` must be followed by a name or `{`: write `$$` for a dollar sign")?;
        Ok(self.find(&name).unwrap_or_default())
    }

    /// `${NAME}` or `${NAME<operator>word}`; the name is next.
    fn braced(&mut self) -> Result<String> {
        if self.depth > 20 {
            bail!("variables are nested too deeply");
        }
        let name = self.name().context("a `${` must be followed by a name")?;
        let value = self.find(&name);
        if let Some(rest) = self.rest.strip_prefix('}') {
            self.rest = rest;
            return Ok(value.unwrap_or_default());
        }
        let colon = self.rest.starts_with(':');
        let operators = &self.rest[usize::from(colon)..];
        let operator = operators.chars().next().filter(|c| "-?+".contains(*c));
        let operator = operator
            .ok_or_else(|| anyhow!("`${{{name}` must be closed or followed by `:-`, `-`, `:?`, `?`, `:+` or `+`"))?;
        self.rest = &operators[1..];
        self.depth += 1;
        // With a colon, an empty value counts as none.
        let present = value.as_ref().is_some_and(|value| !colon || !value.is_empty());
        let word = self.word(if operator == '+' { present } else { !present })?;
        self.depth -= 1;
        match operator {
            '-' => Ok(if present { value.unwrap_or_default() } else { word }),
            '+' => {
                self.beyond_docker = true;
                Ok(if present { word } else { String::new() })
            }
            _ if present => Ok(value.unwrap_or_default()),
            _ if word.is_empty() => bail!("variable `{name}` is required"),
            _ => bail!("variable `{name}` is required: {word}"),
        }
    }

    /// The word behind an operator; when it is not used, what it requires does not count.
    fn word(&mut self, used: bool) -> Result<String> {
        let outer = self.unused;
        self.unused |= !used;
        let word = self.until_end(true);
        self.unused = outer;
        word
    }

    fn find(&self, name: &str) -> Option<String> {
        if self.unused { Some("x".into()) } else { (self.lookup)(name) }
    }

    fn name(&mut self) -> Option<String> {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.rest = rest;
        Some(name.to_owned())
    }
}

#[derive(Clone, Copy)]
enum Cast {
    Int,
    Float,
    Bool,
}

/// Values that are typed again after a variable was replaced in them; docker's loader has the same list.
const CASTS: &[(&str, Cast)] = &[
    ("services.*.configs.[].mode", Cast::Int),
    ("services.*.secrets.[].mode", Cast::Int),
    ("services.*.healthcheck.retries", Cast::Int),
    ("services.*.healthcheck.disable", Cast::Bool),
    ("services.*.deploy.replicas", Cast::Int),
    ("services.*.deploy.update_config.parallelism", Cast::Int),
    ("services.*.deploy.update_config.max_failure_ratio", Cast::Float),
    ("services.*.deploy.rollback_config.parallelism", Cast::Int),
    ("services.*.deploy.rollback_config.max_failure_ratio", Cast::Float),
    ("services.*.deploy.restart_policy.max_attempts", Cast::Int),
    ("services.*.deploy.placement.max_replicas_per_node", Cast::Int),
    ("services.*.ports.[].target", Cast::Int),
    ("services.*.ports.[].published", Cast::Int),
    ("services.*.ulimits.*", Cast::Int),
    ("services.*.ulimits.*.hard", Cast::Int),
    ("services.*.ulimits.*.soft", Cast::Int),
    ("services.*.privileged", Cast::Bool),
    ("services.*.oom_score_adj", Cast::Int),
    ("services.*.read_only", Cast::Bool),
    ("services.*.stdin_open", Cast::Bool),
    ("services.*.tty", Cast::Bool),
    ("services.*.volumes.[].read_only", Cast::Bool),
    ("services.*.volumes.[].volume.nocopy", Cast::Bool),
    ("networks.*.external", Cast::Bool),
    ("networks.*.internal", Cast::Bool),
    ("networks.*.attachable", Cast::Bool),
    ("volumes.*.external", Cast::Bool),
    ("secrets.*.external", Cast::Bool),
    ("configs.*.external", Cast::Bool),
];

fn cast(path: &[String], text: String) -> Result<Value> {
    let matches = |pattern: &str| {
        let parts: Vec<&str> = pattern.split('.').collect();
        parts.len() == path.len() && parts.iter().zip(path).all(|(part, key)| *part == "*" || part == key)
    };
    let Some((_, cast)) = CASTS.iter().find(|(pattern, _)| matches(pattern)) else { return Ok(text.into()) };
    let failed = |what: &str| anyhow!("expected {what}, seen `{}` once variables are replaced", text.escape_debug());
    match cast {
        Cast::Int => text.parse::<i64>().map(Value::from).map_err(|_| failed("a whole number")),
        Cast::Float => text.parse::<f64>().map(Value::from).map_err(|_| failed("a number")),
        Cast::Bool => match text.to_lowercase().as_str() {
            "y" | "yes" | "true" | "on" => Ok(true.into()),
            "n" | "no" | "false" | "off" => Ok(false.into()),
            _ => Err(failed("a boolean")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn lookup(name: &str) -> Option<String> {
        let known = [("X", "x"), ("EMPTY", ""), ("lower", "low"), ("N", "3"), ("B", "yes"), ("D", "$$X${X}")];
        known.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    fn check(template: &str, expected: &str) {
        assert_eq!(text(template, &lookup).unwrap().text, expected, "{template}");
    }

    fn error(template: &str) -> String {
        format!("{:#}", text(template, &lookup).unwrap_err())
    }

    #[test]
    fn every_form_is_replaced() {
        for (template, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("$X", "x"),
            ("a${X}b$X.c", "axbx.c"),
            ("$lower-$NONE-${NONE}", "low--"),
            ("$$X $${X} $$$X $$$$", "$X ${X} $x $$"),
            ("${NONE:-d}${NONE-d}${EMPTY:-d}${EMPTY-d}${X:-d}${X-d}", "dddxx"),
            ("${X:?e}${X?e}[${EMPTY?e}]", "xx[]"),
            ("${X:+a}${X+a}[${EMPTY:+a}${EMPTY+a}${NONE:+a}${NONE+a}]", "aa[a]"),
            ("${NONE:-${X}}", "x"),
            ("${NONE:-a${NONE2:-b${X}c}d}e", "abxcde"),
            ("${NONE:-$X}", "x"),
            ("${X:-${NONE:?never asked}}", "x"),
            ("${NONE:+${X:?}}", ""),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("${NONE:-{\"a\":1}}", "{\"a\":1}"),
            ("Host(`$X`)", "Host(`x`)"),
            ("${D}", "$$X${X}"),
            ("${NONE:-$$5}", "$5"),
            ("ünï ${X}", "ünï x"),
        ] {
            check(template, expected);
        }
    }

    #[test]
    fn malformed_and_required_variables_are_errors() {
        for (template, expected) in [
            ("$", "a `$` must be followed by a name or `{`: write `$$` for a dollar sign"),
            ("$(date)", "a `$` must be followed by a name or `{`: write `$$` for a dollar sign"),
            ("$5", "a `$` must be followed by a name or `{`: write `$$` for a dollar sign"),
            ("${}", "a `${` must be followed by a name"),
            ("${1X}", "a `${` must be followed by a name"),
            ("${X", "`${X` must be closed or followed by `:-`, `-`, `:?`, `?`, `:+` or `+`"),
            ("${X!}", "`${X` must be closed or followed by `:-`, `-`, `:?`, `?`, `:+` or `+`"),
            ("${X:}", "`${X` must be closed or followed by `:-`, `-`, `:?`, `?`, `:+` or `+`"),
            ("${NONE:-x", "a `${` is not closed"),
            ("${X:-x", "a `${` is not closed"),
            ("${NONE:?}", "variable `NONE` is required"),
            ("${NONE?set it to $X}", "variable `NONE` is required: set it to x"),
            ("${EMPTY:?not empty}", "variable `EMPTY` is required: not empty"),
        ] {
            assert_eq!(error(template), expected, "{template}");
        }
        let deep = "${NONE:-".repeat(50);
        assert_eq!(error(&deep), "variables are nested too deeply");
    }

    #[test]
    fn what_docker_does_not_know_is_marked() {
        let beyond = |template: &str| text(template, &lookup).unwrap().beyond_docker;
        assert!(!beyond("$X ${X:-d} ${X?e} $$"));
        assert!(beyond("${X:+a}") && beyond("${X:-${NONE}}") && beyond("${NONE:-$X}"));
    }

    #[test]
    fn typed_places_are_typed_again_but_only_after_a_replacement() {
        let mut value = json!({"services": {"a": {"deploy": {"replicas": "$N"}, "read_only": "$B", "image": "i:$N"},
            "b": {"deploy": {"replicas": "3"}, "ports": [{"target": "${N}"}]}}, "networks": {"n": {"external": "${B}"}}});
        document(&mut value, &lookup).unwrap();
        let expected = json!({"services": {"a": {"deploy": {"replicas": 3}, "read_only": true, "image": "i:3"},
            "b": {"deploy": {"replicas": "3"}, "ports": [{"target": 3}]}}, "networks": {"n": {"external": true}}});
        assert_eq!(value, expected);
    }

    #[test]
    fn an_error_names_its_place() {
        let error = |mut value: Value| format!("{:#}", document(&mut value, &lookup).unwrap_err());
        assert_eq!(
            error(json!({"services": {"a": {"command": ["ok", "$(x)"]}}})),
            "`services.a.command[]`: `$(x)`: a `$` must be followed by a name or `{`: write `$$` for a dollar sign"
        );
        assert_eq!(
            error(json!({"services": {"a": {"deploy": {"replicas": "$X"}}}})),
            "`services.a.deploy.replicas`: expected a whole number, seen `x` once variables are replaced"
        );
    }

    #[test]
    fn variables_of_a_name_are_found() {
        assert_eq!(variables("${STACK_NAME}_db_${SECRET_DB_VERSION:-v1}"), ["STACK_NAME", "SECRET_DB_VERSION"]);
    }

    proptest! {
        #[test]
        fn a_text_with_doubled_dollars_comes_out_as_it_was(plain in "\\PC{0,30}") {
            let escaped = plain.replace('$', "$$");
            prop_assert_eq!(text(&escaped, &lookup).unwrap().text, plain);
        }

        #[test]
        fn no_text_makes_it_panic(template in "[${}:?+aX\\-ä]{0,30}") {
            let _ = text(&template, &lookup);
        }
    }
}
