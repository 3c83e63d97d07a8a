//! Configs with `template_driver: golang`: the part of Go's templates that recipes use.

use std::collections::BTreeMap;

use crate::recipe::stack::{FileObject, Stack};

/// Docker takes no larger config; a template may ask for the same variable as often as it likes.
const LONGEST: usize = 1 << 20;

/// What a template may ask for; a missing answer leaves the template as it is.
pub struct Context<'a> {
    /// `{{ env "X" }}`: the container's variables; an unset one is empty, as in Docker.
    pub environment: &'a BTreeMap<String, String>,
    /// `{{ secret "x" }}`, by the name of the file under `/run/secrets`.
    pub secrets: &'a dyn Fn(&str) -> Option<String>,
    /// `{{ config "/x" }}`, by where it is mounted.
    pub configs: &'a dyn Fn(&str) -> Option<String>,
    /// `{{ .Service.Name }}` and its like; `{{ index .Service.Labels "x" }}` is `.Service.Labels.x`.
    pub fields: &'a dyn Fn(&str) -> Option<String>,
}

/// Renders a template of text, `env`, `secret`, `config`, fields of service, task and node, and `if` with `else` over `eq`, `ne`, `not`, `and` and `or`. `None`
/// when it holds anything else, or asks for what is not known.
pub fn render(template: &str, context: &Context<'_>) -> Option<String> {
    let mut out = String::new();
    let mut parser = Parser { rest: template, trim: false, context, depth: 0 };
    matches!(parser.block(Some(&mut out))?, Stop::Eof).then_some(out)
}

/// What ended a block.
enum Stop {
    Eof,
    End,
    Else,
    ElseIf(String),
}

struct Parser<'a> {
    rest: &'a str,
    /// The last action ended with `-}}`: blanks after it are dropped.
    trim: bool,
    context: &'a Context<'a>,
    depth: usize,
}

impl<'a> Parser<'a> {
    /// Renders up to the end of the block; without `out` it is only passed over.
    fn block(&mut self, mut out: Option<&mut String>) -> Option<Stop> {
        self.depth += 1;
        while self.depth < 50 && out.as_ref().is_none_or(|out| out.len() <= LONGEST) {
            let (text, action) = self.next()?;
            if let Some(out) = &mut out {
                out.push_str(text);
            }
            let Some(action) = action else {
                self.depth -= 1;
                return Some(Stop::Eof);
            };
            let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
            let stop = match (word, rest.trim()) {
                ("end", "") => Stop::End,
                ("else", "") => Stop::Else,
                ("else", rest) => Stop::ElseIf(rest.strip_prefix("if ")?.to_owned()),
                ("if", condition) => {
                    self.choose(condition, out.as_deref_mut())?;
                    continue;
                }
                _ if action.starts_with("/*") && action.ends_with("*/") => continue,
                _ => {
                    if let Some(out) = &mut out {
                        out.push_str(&evaluate(action, self.context)?.text());
                    }
                    continue;
                }
            };
            self.depth -= 1;
            return Some(stop);
        }
        None
    }

    /// An `if` with its branches, up to its `end`.
    fn choose(&mut self, condition: &str, mut out: Option<&mut String>) -> Option<()> {
        let mut condition = Some(condition.to_owned());
        loop {
            // Once a branch was taken, and inside a block that is passed over, nothing is evaluated.
            let taken = match (&condition, &out) {
                (Some(condition), Some(_)) => evaluate(condition, self.context)?.holds(),
                (None, Some(_)) => true,
                (_, None) => false,
            };
            let stop = self.block(if taken { out.take() } else { None })?;
            let last = condition.is_none();
            match stop {
                Stop::End => return Some(()),
                Stop::Else if !last => condition = None,
                Stop::ElseIf(next) if !last => condition = Some(next),
                _ => return None,
            }
        }
    }

    /// The text before the next action, and that action.
    fn next(&mut self) -> Option<(&'a str, Option<&'a str>)> {
        let rest = if self.trim { self.rest.trim_start() } else { self.rest };
        let Some((before, action)) = rest.split_once("{{") else {
            (self.rest, self.trim) = ("", false);
            return Some((rest, None));
        };
        let (action, after) = action.split_once("}}")?;
        let (left, action) = trimmed(action.strip_prefix("- "), action);
        let (right, action) = trimmed(action.strip_suffix(" -"), action);
        (self.rest, self.trim) = (after, right);
        Some((if left { before.trim_end() } else { before }, Some(action.trim())))
    }
}

fn trimmed<'a>(stripped: Option<&'a str>, action: &'a str) -> (bool, &'a str) {
    (stripped.is_some(), stripped.unwrap_or(action))
}

#[derive(Clone, PartialEq)]
enum Value {
    Text(String),
    Bool(bool),
}

impl Value {
    fn text(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            Value::Bool(value) => value.to_string(),
        }
    }

    fn holds(&self) -> bool {
        match self {
            Value::Text(text) => !text.is_empty(),
            Value::Bool(value) => *value,
        }
    }
}

/// Evaluates one pipeline-less expression.
fn evaluate(expression: &str, context: &Context<'_>) -> Option<Value> {
    let mut rest = expression;
    let value = call(&mut rest, context, 0)?;
    rest.trim().is_empty().then_some(value)
}

/// A function with its operands, or one operand alone.
fn call(rest: &mut &str, context: &Context<'_>, depth: usize) -> Option<Value> {
    *rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (function, tail) = rest.split_at(end);
    *rest = tail;
    if function == "index" {
        return label(rest, context);
    }
    let mut operands = Vec::new();
    while !rest.trim_start().is_empty() && !rest.trim_start().starts_with(')') {
        operands.push(operand(rest, context, depth)?);
    }
    match (function, &operands[..]) {
        ("", [value]) => Some(value.clone()),
        ("env", [Value::Text(name)]) => Some(Value::Text(context.environment.get(name).cloned().unwrap_or_default())),
        ("secret", [Value::Text(name)]) => (context.secrets)(name).map(Value::Text),
        ("config", [Value::Text(name)]) => (context.configs)(name).map(Value::Text),
        // With several right sides, one that is equal is enough.
        ("eq", [first, others @ ..]) if !others.is_empty() => Some(Value::Bool(others.contains(first))),
        ("ne", [first, second]) => Some(Value::Bool(first != second)),
        ("not", [value]) => Some(Value::Bool(!value.holds())),
        ("and", [.., last]) => Some(operands.iter().find(|value| !value.holds()).unwrap_or(last).clone()),
        ("or", [.., last]) => Some(operands.iter().find(|value| value.holds()).unwrap_or(last).clone()),
        _ => None,
    }
}

/// `.Service.Labels "x"`
fn label(rest: &mut &str, context: &Context<'_>) -> Option<Value> {
    *rest = rest.trim_start().strip_prefix(".Service.Labels")?;
    let Value::Text(name) = operand(rest, context, 0)? else { return None };
    (context.fields)(&format!(".Service.Labels.{name}")).map(Value::Text)
}

/// A quoted text, a field, or an expression in parentheses.
fn operand(rest: &mut &str, context: &Context<'_>, depth: usize) -> Option<Value> {
    *rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('(').filter(|_| depth < 20) {
        *rest = inner;
        let value = call(rest, context, depth + 1)?;
        *rest = rest.trim_start().strip_prefix(')')?;
        return Some(value);
    }
    if rest.starts_with('.') {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
        let (path, tail) = rest.split_at(end);
        *rest = tail;
        return (context.fields)(path).map(Value::Text);
    }
    let quote = rest.chars().next().filter(|c| ['"', '`'].contains(c))?;
    let (text, tail) = rest[1..].split_once(quote)?;
    *rest = tail;
    (!text.contains('\\')).then(|| Value::Text(text.to_owned()))
}

/// Whether a text asks for something.
pub fn is_template(text: &str) -> bool {
    text.contains("{{")
}

/// A note for every config whose template has more in it than is understood here.
pub fn notes(stack: &Stack) -> Vec<String> {
    let anything = |_: &str| Some(String::new());
    let is_understood = |(_, config): &(&String, &FileObject)| {
        let template = config.content.as_ref().and_then(|content| std::str::from_utf8(content).ok());
        let environment = BTreeMap::new();
        let context = Context { environment: &environment, secrets: &anything, configs: &anything, fields: &anything };
        template.is_none_or(|template| render(template, &context).is_some())
    };
    let templates = stack.configs.iter().filter(|(_, config)| config.is_template());
    let unknown = templates.filter(|config| !is_understood(config));
    let note = |(key, _): (&String, &FileObject)| {
        format!(
            "config `{key}` is a template with more in it than `env`, `secret`, `config`, `if` and the names of service, task and \
             node: only Swarm itself renders it, and the embedded engine mounts it as it is"
        )
    };
    unknown.map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expected: Option<&str>) {
        let environment = BTreeMap::from([("X".to_owned(), "x".to_owned())]);
        let secrets = |name: &str| (name == "pw").then(|| "hunter2".to_owned());
        let configs = |name: &str| (name == "/c").then(|| "config".to_owned());
        let fields = |path: &str| match path {
            ".Node.Hostname" => Some("here".to_owned()),
            path => path.strip_prefix(".Service.Labels.").map(str::to_owned),
        };
        let context = Context { environment: &environment, secrets: &secrets, configs: &configs, fields: &fields };
        assert_eq!(render(template, &context).as_deref(), expected, "{template}");
    }

    #[test]
    fn variables_and_secrets_are_rendered() {
        check("plain", Some("plain"));
        check("a={{ env \"X\" }};b={{env `X`}};", Some("a=x;b=x;"));
        check("[{{ env \"NONE\" }}]", Some("[]"));
        check("pw={{ secret \"pw\" }}", Some("pw=hunter2"));
        check("{{ config \"/c\" }} {{.Node.Hostname}} {{ index .Service.Labels \"a.b\" }}", Some("config here a.b"));
        check("{{ if eq .Node.Hostname \"here\" }}a{{ end }}", Some("a"));
        check("a \n {{- env \"X\" -}} \n b", Some("axb"));
        check("a{{/* why */}}b", Some("ab"));
        check("{{ (env \"X\") }}", Some("x"));
    }

    #[test]
    fn branches_are_chosen() {
        check("{{ if eq (env \"X\") \"x\" }}a{{ else }}b{{ end }}c", Some("ac"));
        check("{{ if eq (env \"X\") \"1\" }}a{{ else }}b{{ end }}c", Some("bc"));
        check("{{ if eq (env \"X\") \"1\" }}a{{ else if ne (env \"X\") \"1\" }}b{{ else }}c{{ end }}", Some("b"));
        check("{{ if (env \"NONE\") }}a{{ end }}[{{ if not (env \"NONE\") }}b{{ end }}]", Some("[b]"));
        check("{{ if and (env \"X\") (env \"NONE\") }}a{{ end }}{{ if or (env \"NONE\") \"y\" }}b{{ end }}", Some("b"));
        check("{{ if env \"NONE\" }}{{ if env \"X\" }}a{{ end }}{{ secret \"none\" }}{{ else }}b{{ end }}", Some("b"));
        check("x:\n{{- if env \"X\" }}\n  y: {{ env \"X\" }}\n{{- end }}\nz", Some("x:\n  y: x\nz"));
        check("{{ if eq (env \"X\") \"a\" \"x\" }}a{{ end }}", Some("a"));
        check("{{ if env \"X\" }}a{{ else if secret \"none\" }}b{{ end }}", Some("a"));
    }

    #[test]
    fn nesting_has_a_limit() {
        check(&"{{ if env \"X\" }}".repeat(100_000), None);
        check(&format!("{{{{ {}", "(".repeat(100_000) + "}}"), None);
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        for template in [
            "{{ range .Service }}",
            "{{ if env \"X\" }}a",
            "a{{ end }}",
            "{{ if env \"X\" }}{{ else }}{{ else }}{{ end }}",
            "{{ .Node.Name }}",
            "{{ .Service.Labels }}",
            "{{ index .Node \"x\" }}",
            "{{ config \"none\" }}",
            "{{ env \"X\" | upper }}",
            "{{ env (env }}",
            "{{ secret \"none\" }}",
            "{{ env \"X\"",
            "{{ env }}",
            "{{ upper \"X\" }}",
            "{{ env \"a\" \"b\" }}",
        ] {
            check(template, None);
        }
    }
}
