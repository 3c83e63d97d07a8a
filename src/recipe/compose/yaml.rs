//! YAML as docker's compose loader reads it: anchors, aliases and `<<`, keys that are text, and of several documents
//! only the first.
//!
//! Every value comes with the line that it is written on, for messages about it (`lines`).
//!
//! The crate parses; what a scalar means, and how `<<` merges, is docker's own reading (Go's yaml.v3), which no crate
//! has: see `resolve`.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput, StructureStyle, Tag};
use serde_json::{Map, Value};

use super::lines::Lines;
use super::resolve;

/// A compose file is a few KiB; a larger one is a mistake or an attack.
const MAX_BYTES: usize = 1 << 20;
/// How deep it may nest.
const MAX_DEPTH: usize = 32;
/// How many values it may have once every alias is replaced.
const MAX_NODES: usize = 50_000;
/// How many bytes its texts may have once every alias is replaced.
const MAX_TEXT: usize = 4 << 20;

/// Reads one compose file, and where its parts are written.
pub(super) fn parse(text: &str) -> Result<(Map<String, Value>, Lines)> {
    if text.len() > MAX_BYTES {
        bail!("it has {} bytes: at most {MAX_BYTES} are read", text.len());
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.emit_anchor_events = true;
    let parser = Parser::new_from_str_with_options(text, options);
    let mut composer = Composer { parser, anchors: HashMap::new(), size: Size::default(), flow: 0 };
    let node = composer.document().context("not valid YAML")?;
    let Value::Object(map) = node.value else {
        bail!("expected a mapping at the top, seen {}", super::at::kind(&node.value))
    };
    Ok((map, node.lines))
}

/// Makes values of the parser's events.
struct Composer<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Values that stand behind an anchor, where they are written, and how large each is.
    anchors: HashMap<usize, (Value, Lines, Size)>,
    size: Size,
    /// How many brackets and braces are open.
    flow: usize,
}

/// Values, and the bytes of their texts.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
}

/// A value, where it is written, and whether an alias stands in its place.
struct Node {
    value: Value,
    lines: Lines,
    alias: bool,
}

/// What a collection holds, and where that is written.
type Parts = (Value, BTreeMap<String, Lines>);

impl<'a> Composer<'a> {
    /// The first document; an empty file has none.
    fn document(&mut self) -> Result<Node> {
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(..), _) => {}
                (Event::StreamEnd, _) => {
                    return Ok(Node { value: Value::Null, lines: Lines::default(), alias: false });
                }
                event => return self.node(event, 0),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span)> {
        loop {
            match self.parser.next_event().context("it ends too early")?? {
                (Event::Anchor(_, name), span) => {
                    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
                        return Err(here(&span, "docker takes only letters, digits, `_` and `-` for an anchor's name"));
                    }
                }
                event => return Ok(event),
            }
        }
    }

    fn node(&mut self, (event, span): (Event<'a>, Span), depth: usize) -> Result<Node> {
        if depth > MAX_DEPTH {
            return Err(here(&span, format!("it nests deeper than {MAX_DEPTH} levels")));
        }
        let bytes = if let Event::Scalar(text, ..) = &event { text.len() } else { 0 };
        let before = self.count(Size { nodes: 1, bytes }, &span)?;
        let ((value, below), anchor) = match event {
            Event::Alias(id) => {
                // Counted before it is copied: copying is what a bomb wants.
                let Some(size) = self.anchors.get(&id).map(|(_, _, size)| *size) else {
                    return Err(here(&span, "an anchor's value holds its own alias"));
                };
                self.count(size, &span)?;
                let (value, lines, _) = self.anchors.get(&id).cloned().unwrap_or_default();
                return Ok(Node { value, lines, alias: true });
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                if plain && self.flow > 0 && (text.contains('?') || text.starts_with(':')) {
                    return Err(here(
                        &span,
                        "between brackets, docker takes a `?` or a first `:` for a key: put it in quotes",
                    ));
                }
                let value = resolve::scalar(&text, plain, tag.as_deref().map(name_of_tag));
                ((value.map_err(|error| here(&span, error))?, BTreeMap::new()), anchor)
            }
            Event::SequenceStart(style, anchor, _) => (self.collection(style, |this| this.sequence(depth))?, anchor),
            Event::MappingStart(style, anchor, _) => (self.collection(style, |this| this.mapping(depth))?, anchor),
            _ => return Err(here(&span, "expected a value")),
        };
        let lines = Lines { line: span.start.line(), below };
        if anchor > 0 {
            let size = Size { nodes: self.size.nodes - before.nodes, bytes: self.size.bytes - before.bytes };
            self.anchors.insert(anchor, (value.clone(), lines.clone(), size));
        }
        Ok(Node { value, lines, alias: false })
    }

    fn count(&mut self, more: Size, span: &Span) -> Result<Size> {
        let before = self.size;
        self.size = Size { nodes: before.nodes + more.nodes, bytes: before.bytes + more.bytes };
        if self.size.nodes > MAX_NODES {
            return Err(here(span, format!("it has more than {MAX_NODES} values, aliases replaced")));
        }
        if self.size.bytes > MAX_TEXT {
            return Err(here(span, format!("it has more than {} MiB of text, aliases replaced", MAX_TEXT >> 20)));
        }
        Ok(before)
    }

    fn collection(&mut self, style: StructureStyle, read: impl FnOnce(&mut Self) -> Result<Parts>) -> Result<Parts> {
        let flow = usize::from(style == StructureStyle::Flow);
        self.flow += flow;
        let value = read(self);
        self.flow -= flow;
        value
    }

    fn sequence(&mut self, depth: usize) -> Result<Parts> {
        let (mut list, mut lines) = (Vec::new(), BTreeMap::new());
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok((list.into(), lines)),
                event => {
                    let node = self.node(event, depth + 1)?;
                    lines.insert(list.len().to_string(), node.lines);
                    list.push(node.value);
                }
            }
        }
    }

    /// A mapping's own keys come before merged ones, and earlier ones of a list of merges before later ones.
    fn mapping(&mut self, depth: usize) -> Result<Parts> {
        let (mut own, mut lines, mut merged) = (Map::new(), BTreeMap::new(), None);
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let Value::String(key) = self.node((event, span), depth + 1)?.value else {
                return Err(here(&span, "a key must be text: put it in quotes"));
            };
            let event = self.next()?;
            let node = self.node(event, depth + 1)?;
            let twice = if merge {
                merged.replace(layers(node).map_err(|error| here(&span, error))?).is_some()
            } else {
                // A value is found by its key; what an alias stands for is written elsewhere.
                let line = if node.alias { node.lines.line } else { span.start.line() };
                lines.insert(key.clone(), Lines { line, ..node.lines });
                own.insert(key.clone(), node.value).is_some()
            };
            if twice {
                return Err(here(&span, format!("the key `{}` stands here twice", key.escape_debug())));
            }
        }
        for (layer, mut written) in merged.into_iter().flatten() {
            for (key, value) in layer {
                if !own.contains_key(&key) {
                    lines.extend(written.below.remove(&key).map(|line| (key.clone(), line)));
                    own.insert(key, value);
                }
            }
        }
        Ok((own.into(), lines))
    }
}

/// What stands behind `<<`: a mapping, or a list of them; an alias must stand for a mapping.
fn layers(mut node: Node) -> Result<Vec<(Map<String, Value>, Lines)>> {
    let list: Vec<(Value, Lines)> = match node.value {
        Value::Array(list) if !node.alias => {
            let mut written = |index: usize| node.lines.below.remove(&index.to_string()).unwrap_or_default();
            list.into_iter().enumerate().map(|(index, value)| (value, written(index))).collect()
        }
        value => vec![(value, node.lines)],
    };
    let map = |(value, lines)| match value {
        Value::Object(map) => Ok((map, lines)),
        _ => bail!("`<<` merges a mapping, or a list of mappings"),
    };
    list.into_iter().map(map).collect()
}

/// The name of one of YAML's own tags, or nothing for another one.
fn name_of_tag(tag: &Tag) -> &str {
    let known = tag.core_suffix().or_else(|| {
        ["binary", "timestamp"].into_iter().find(|name| tag.handle() == "tag:yaml.org,2002:" && tag.suffix() == *name)
    });
    known.unwrap_or_default()
}

fn here(span: &Span, what: impl std::fmt::Display) -> Error {
    anyhow!("{what}, at line {} column {}", span.start.line(), span.start.col() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(text: &str, expected: Value) {
        assert_eq!(Value::Object(parse(text).unwrap().0), expected, "{text}");
    }

    fn error(text: &str) -> String {
        format!("{:#}", parse(text).unwrap_err())
    }

    #[test]
    fn scalars_are_typed_only_where_they_are_plain() {
        check(
            "a: true\nb: yes\nc: on\nd: ~\ne: null\nf:\ng: 'true'\n",
            json!({"a": true, "b": "yes", "c": "on", "d": null, "e": null, "f": null, "g": "true"}),
        );
        check(
            "a: 3.8\nb: '3.8'\nc: !!str 3.8\nd: 8080:80\n",
            json!({"a": 3.8, "b": "3.8", "c": "3.8", "d": "8080:80"}),
        );
        check("a: x?y\nb: ['x?', \":y\"]\n", json!({"a": "x?y", "b": ["x?", ":y"]}));
        check("a: |\n  two\n  lines\nb: >-\n  one\n  line\n", json!({"a": "two\nlines\n", "b": "one line"}));
    }

    #[test]
    fn anchors_and_merges_work() {
        let text = "a: &a {p: 1, q: 2}\nb: &b {q: 3, r: 4}\ns:\n  <<: [*a, *b]\n  r: 5\nt: *a\nu: {\"<<\": 1}\n";
        let (a, b) = (json!({"p": 1, "q": 2}), json!({"q": 3, "r": 4}));
        let s = json!({"p": 1, "q": 2, "r": 5});
        check(text, json!({"a": a, "b": b, "s": s, "t": a, "u": {"<<": 1}}));
        check(
            "a: &a {p: &p x}\nb: {<<: {<<: *a, q: *p}, p: ~}\n",
            json!({"a": {"p": "x"}, "b": {"p": null, "q": "x"}}),
        );
    }

    #[test]
    fn only_the_first_document_is_read() {
        check("a: 1\n---\na: 2\n", json!({"a": 1}));
    }

    #[test]
    fn what_is_no_mapping_with_text_keys_is_refused() {
        for (text, expected) in [
            ("", "expected a mapping at the top, seen nothing"),
            ("- a\n", "expected a mapping at the top, seen a list"),
            ("a: 1\na: 2\n", "not valid YAML: the key `a` stands here twice, at line 2 column 1"),
            ("1: a\n", "not valid YAML: a key must be text: put it in quotes, at line 1 column 1"),
            ("a: {true: 1}\n", "not valid YAML: a key must be text: put it in quotes, at line 1 column 5"),
            ("a: {[b]: 1}\n", "not valid YAML: a key must be text: put it in quotes, at line 1 column 5"),
            ("<<: a\n", "not valid YAML: `<<` merges a mapping, or a list of mappings, at line 1 column 1"),
            (
                "a: &a [{}]\nb: {<<: *a}\n",
                "not valid YAML: `<<` merges a mapping, or a list of mappings, at line 2 column 5",
            ),
            ("a: {<<: {}, <<: {}}\n", "not valid YAML: the key `<<` stands here twice, at line 1 column 13"),
            ("a: &a {b: *a}\n", "not valid YAML: an anchor's value holds its own alias, at line 1 column 11"),
            (
                "a: [x?]\n",
                "not valid YAML: between brackets, docker takes a `?` or a first `:` for a key: put it in quotes, at line 1 column 5",
            ),
            (
                "a: &ä x\n",
                "not valid YAML: docker takes only letters, digits, `_` and `-` for an anchor's name, at line 1 column 4",
            ),
            ("a: .inf\n", "not valid YAML: `.inf` is no number that compose knows, at line 1 column 4"),
        ] {
            assert_eq!(error(text), expected, "{text}");
        }
        assert!(error("a: [\n").starts_with("not valid YAML: "), "{}", error("a: [\n"));
        assert!(error("a: *none\n").starts_with("not valid YAML: "), "{}", error("a: *none\n"));
        assert!(error(&"#".repeat(MAX_BYTES + 1)).contains("at most 1048576 are read"));
    }

    #[test]
    fn bombs_are_refused_quickly() {
        let start = std::time::Instant::now();
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for n in 1..10 {
            let inner = vec![format!("*a{}", n - 1); 10].join(",");
            bomb += &format!("a{n}: &a{n} [{inner}]\n");
        }
        assert!(error(&bomb).contains("it has more than 50000 values, aliases replaced"), "{}", error(&bomb));
        assert!(error(&format!("a: {}{}", "[".repeat(60), "]".repeat(60))).contains("it nests deeper than 32 levels"));
        assert!(error(&format!("a: {}", "[".repeat(5_000))).starts_with("not valid YAML: "));
        let nested: String = (0..5_000).map(|n| format!("{}a:\n", " ".repeat(n % 60))).collect();
        let _ = parse(&nested);
        assert!(start.elapsed().as_secs() < 5);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a-c:&*<!{}\\[\\], \n'\"|>0-9-]{0,60}") {
            let _ = parse(&text);
        }
    }
}
