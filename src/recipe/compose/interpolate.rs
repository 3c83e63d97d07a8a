//! Variables in values, replaced as docker's loader does it: `$X`, `${X}`, and `:-`, `-`, `:?` and `?` behind a name.
//!
//! Docker finds them with a regular expression, and some texts mean something else to it than to a reader or to the
//! compose standard. Recipes are deployed by that very code, so its accidents are kept here, and each is told.
//!
//! Only the app's own environment is looked at, never this process's: a compose file must not read what a deploying
//! machine keeps in its variables.

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

use super::budget::{Budget, TEXT};

/// Looks a variable up.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What came of one text.
#[derive(Debug, PartialEq)]
pub(super) struct Text {
    pub(super) text: String,
    /// What a reader would not expect of it.
    pub(super) surprise: Option<&'static str>,
}

/// Replaces the variables in every value of a document. Returns the places that mean something else to docker than to
/// a reader, each with what it means.
pub(super) fn document(value: &mut Value, lookup: Lookup<'_>, budget: &Budget) -> Result<Vec<(String, &'static str)>> {
    let mut surprises = Vec::new();
    walk(value, &mut Vec::new(), (lookup, budget), &mut surprises)?;
    Ok(surprises)
}

/// Replaces the variables in one text.
pub(super) fn text(template: &str, lookup: Lookup<'_>) -> Result<Text> {
    let (mut out, mut rest) = (String::new(), template);
    let (mut surprise, mut problem) = (None, None);
    while let Some(at) = rest.find('$') {
        out += &rest[..at];
        let (found, tail) = find(&rest[at + 1..]);
        rest = tail;
        if out.len() > TEXT {
            bail!("it has more than {} KiB once variables are replaced", TEXT >> 10);
        }
        let value = match found {
            Found::Dollar => {
                out.push('$');
                continue;
            }
            Found::Wrong => Err(anyhow!(
                "a `$` must be followed by a name, or by `{{` with a name and maybe `:-`, `-`, `:?` or `?`: write `$$` \
                 for a dollar sign"
            )),
            Found::Variable(variable) => {
                surprise = surprise.or_else(|| variable.surprise());
                variable.value(lookup)
            }
        };
        // Docker keeps only what came of the last variable: a problem of an earlier one is forgotten.
        let forgotten = problem.take().is_some();
        match value {
            Ok(value) => out += &value,
            Err(error) => problem = Some(error),
        }
        if forgotten && problem.is_none() {
            surprise =
                Some("a wrong or missing variable counts as empty, because a later one of the same text is right");
        }
    }
    match problem {
        Some(problem) => Err(problem),
        None => Ok(Text { text: out + rest, surprise }),
    }
}

/// Names of the variables that a text refers to, in order.
pub(super) fn variables(template: &str) -> Vec<String> {
    let (mut names, mut rest) = (Vec::new(), template);
    while let Some(at) = rest.find('$') {
        let (found, tail) = find(&rest[at + 1..]);
        rest = tail;
        if let Found::Variable(variable) = found {
            names.push(variable.name().to_owned());
        }
    }
    names
}

fn walk(
    value: &mut Value,
    path: &mut Vec<String>,
    (lookup, budget): (Lookup<'_>, &Budget),
    surprises: &mut Vec<(String, &'static str)>,
) -> Result<()> {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                path.push(key.clone());
                walk(value, path, (lookup, budget), surprises)?;
                path.pop();
            }
        }
        Value::Array(list) => {
            for value in list {
                path.push("[]".into());
                walk(value, path, (lookup, budget), surprises)?;
                path.pop();
            }
        }
        Value::String(template) => {
            let place = || path.join(".").replace(".[]", "[]");
            let shown = || template.chars().take(80).collect::<String>().escape_debug().to_string();
            let result = text(template, lookup).with_context(|| format!("`{}`: `{}`", place(), shown()))?;
            surprises.extend(result.surprise.map(|surprise| (place(), surprise)));
            if result.text != *template {
                budget.take(result.text.len()).with_context(|| format!("`{}`", place()))?;
                *value = cast(&path.join("."), result.text).with_context(|| format!("`{}`", place()))?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// What stands behind a `$`.
enum Found<'a> {
    Dollar,
    Variable(Variable<'a>),
    Wrong,
}

/// `NAME` or `NAME<operator>word`, in braces or not.
struct Variable<'a> {
    text: &'a str,
    braced: bool,
}

/// Reads what stands behind a `$`, and returns it with the text after it.
fn find(text: &str) -> (Found<'_>, &str) {
    if let Some(rest) = text.strip_prefix('$') {
        return (Found::Dollar, rest);
    }
    if let Some(end) = end_of_variable(text) {
        return (Found::Variable(Variable { text: &text[..end], braced: false }), &text[end..]);
    }
    let braced = || {
        let inner = text.strip_prefix('{')?;
        let (variable, rest) = inner.split_at(end_of_variable(inner)?);
        Some((Found::Variable(Variable { text: variable, braced: true }), rest.strip_prefix('}')?))
    };
    braced().unwrap_or((Found::Wrong, text))
}

/// The end of a name and of the operator and word behind it, which reaches to the next `}` even without braces.
fn end_of_variable(text: &str) -> Option<usize> {
    let name = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    if name == 0 || text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let operator = text[name..].strip_prefix(':').unwrap_or(&text[name..]);
    let word = operator.starts_with(['-', '?']);
    Some(if word { text[name..].find('}').map_or(text.len(), |end| name + end) } else { name })
}

impl Variable<'_> {
    fn name(&self) -> &str {
        let end = self.text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(self.text.len());
        &self.text[..end]
    }

    /// Docker looks for each operator anywhere in the text, in this order: what stands before it is the name.
    fn value(&self, lookup: Lookup<'_>) -> Result<String> {
        if let Some((name, default)) = self.text.split_once(":-") {
            return Ok(lookup(name).filter(|value| !value.is_empty()).unwrap_or_else(|| default.into()));
        }
        if let Some((name, default)) = self.text.split_once('-') {
            return Ok(lookup(name).unwrap_or_else(|| default.into()));
        }
        if let Some((name, message)) = self.text.split_once(":?") {
            return lookup(name).filter(|value| !value.is_empty()).ok_or_else(|| required(name, message));
        }
        match self.text.split_once('?') {
            Some((name, message)) => lookup(name).ok_or_else(|| required(name, message)),
            None => Ok(lookup(self.text).unwrap_or_default()),
        }
    }

    fn surprise(&self) -> Option<&'static str> {
        let word = &self.text[self.name().len()..];
        if word.is_empty() {
            None
        } else if !self.braced {
            Some("what follows a variable without braces, up to a `}`, counts as its default or message")
        } else if word.trim_start_matches(':').starts_with('?') && word.contains('-') {
            Some("a `-` in the message of a required variable makes the rest its default: it is not required")
        } else if word.starts_with('-') && word.contains(":-") {
            Some("a `:-` within a default makes the rest the default: the variable is not looked up")
        } else if word.contains('$') {
            Some("a variable within a default is not replaced")
        } else {
            None
        }
    }
}

fn required(name: &str, message: &str) -> anyhow::Error {
    if message.is_empty() {
        anyhow!("variable `{name}` is required")
    } else {
        anyhow!("variable `{name}` is required: {message}")
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

/// A name with a dot makes a longer path, which no pattern fits: docker leaves such a value a text.
fn cast(path: &str, text: String) -> Result<Value> {
    let keys: Vec<&str> = path.split('.').collect();
    let matches = |pattern: &str| {
        let parts: Vec<&str> = pattern.split('.').collect();
        parts.len() == keys.len() && parts.iter().zip(&keys).all(|(part, key)| *part == "*" || part == key)
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
            ("$lower.$NONE.${NONE}", "low.."),
            ("$$X $${X} $$$X $$$$", "$X ${X} $x $$"),
            ("${NONE:-d}${NONE-d}${EMPTY:-d}${EMPTY-d}${X:-d}${X-d}", "dddxx"),
            ("${X:?e}${X?e}[${EMPTY?e}]", "xx[]"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("${NONE:-two\nlines}", "two\nlines"),
            ("Host(`$X`)", "Host(`x`)"),
            ("${D}", "$$X${X}"),
            ("ünï ${X}", "ünï x"),
        ] {
            check(template, expected);
            assert_eq!(text(template, &lookup).unwrap().surprise, None, "{template}");
        }
    }

    #[test]
    fn dockers_accidents_are_kept_and_told() {
        for (template, expected, told) in [
            ("$X-data", "x", "without braces"),
            ("$NONE-data more} rest", "data more} rest", "without braces"),
            ("$NONE:-d}", "d}", "without braces"),
            ("${NONE:-${X}}", "${X}", "within a default is not replaced"),
            ("${NONE:-$X}", "$X", "within a default is not replaced"),
            ("${NONE:-$$5}", "$$5", "within a default is not replaced"),
            ("${NONE:-{\"a\":1}}", "{\"a\":1}", ""),
            ("${NONE:?must be non-empty}", "empty", "it is not required"),
            ("${X-a:-b}", "b", "not looked up"),
            ("${NONE:?} $X", " x", "counts as empty"),
            ("$(date) ${X}", "(date) x", "counts as empty"),
        ] {
            let result = text(template, &lookup).unwrap();
            assert_eq!(result.text, expected, "{template}");
            assert!(result.surprise.unwrap_or_default().contains(told), "{template}: {:?}", result.surprise);
        }
    }

    #[test]
    fn malformed_and_required_variables_are_errors() {
        for template in
            ["$", "$(date)", "$5", "${}", "${1X}", "${X", "${X!}", "${X:}", "${NONE:-x", "${X:+a}", "$X $$ $"]
        {
            let expected = "a `$` must be followed by a name, or by `{` with a name and maybe `:-`, `-`, `:?` or `?`: \
                            write `$$` for a dollar sign";
            assert_eq!(error(template), expected, "{template}");
        }
        for (template, expected) in [
            ("${NONE:?}", "variable `NONE` is required"),
            ("${NONE?set it to $X}", "variable `NONE` is required: set it to $X"),
            ("${EMPTY:?not empty}", "variable `EMPTY` is required: not empty"),
            ("$X ${NONE?}", "variable `NONE` is required"),
        ] {
            assert_eq!(error(template), expected, "{template}");
        }
    }

    #[test]
    fn a_name_with_a_dot_keeps_its_values_texts() {
        let mut value = json!({"services": {"a.b": {"read_only": "$B"}}});
        document(&mut value, &lookup, &Budget::default()).unwrap();
        assert_eq!(value, json!({"services": {"a.b": {"read_only": "yes"}}}));
        let mut value = json!({"services": {"a": {"volumes": ["$X"], "secrets": ["$X"]}}});
        document(&mut value, &lookup, &Budget::default()).unwrap();
        assert_eq!(value, json!({"services": {"a": {"volumes": ["x"], "secrets": ["x"]}}}), "short forms stay texts");
    }

    #[test]
    fn typed_places_are_typed_again_but_only_after_a_replacement() {
        let mut value = json!({"services": {"a": {"deploy": {"replicas": "$N"}, "read_only": "$B", "image": "i:$N"},
            "b": {"deploy": {"replicas": "3"}, "ports": [{"target": "${N}"}]}}, "networks": {"n": {"external": "${B}"}}});
        document(&mut value, &lookup, &Budget::default()).unwrap();
        let expected = json!({"services": {"a": {"deploy": {"replicas": 3}, "read_only": true, "image": "i:3"},
            "b": {"deploy": {"replicas": "3"}, "ports": [{"target": 3}]}}, "networks": {"n": {"external": true}}});
        assert_eq!(value, expected);
    }

    #[test]
    fn an_error_names_its_place() {
        let error = |mut value: Value| format!("{:#}", document(&mut value, &lookup, &Budget::default()).unwrap_err());
        assert_eq!(
            error(json!({"services": {"a": {"command": ["ok", "$(x)"]}}})),
            "`services.a.command[]`: `$(x)`: a `$` must be followed by a name, or by `{` with a name and maybe `:-`, `-`, \
             `:?` or `?`: write `$$` for a dollar sign"
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
