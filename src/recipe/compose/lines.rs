//! Where the parts of the merged document are written: file and line, for messages about them.

use serde_json::Value;
use std::collections::BTreeMap;

use super::scalar;

/// The line of a value, and those of its parts, by key or index.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    pub(super) line: usize,
    pub(super) below: BTreeMap<String, Lines>,
}

/// One compose file, for looking up where something comes from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) file: String,
    /// As it is written, variables replaced.
    pub(super) raw: Value,
    /// In its long forms, as it was merged.
    pub(super) normal: Value,
    pub(super) lines: Lines,
}

/// All compose files of an app, in the order of their merge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(pub(super) Vec<Source>);

impl Sources {
    /// File and line of what stands at a path of the merged document: the last file that says it. A part that cannot be
    /// followed to its line has that of what holds it.
    pub(crate) fn place(&self, document: &Value, path: &[String]) -> (String, usize) {
        let found = self.0.iter().rev().map(|source| (source, source.find(document, path)));
        // An empty value replaces none, so the last file that has the key may not be the one that has the value.
        let best = found.max_by_key(|(_, found)| (found.same, found.depth));
        best.map_or_else(Default::default, |(source, found)| (source.file.clone(), found.line))
    }
}

/// How far a path could be followed in one file.
struct Found {
    line: usize,
    depth: usize,
    /// The value there is that of the merged document.
    same: bool,
}

impl Source {
    fn find(&self, document: &Value, path: &[String]) -> Found {
        let (mut raw, mut normal, mut merged) = (Some(&self.raw), &self.normal, document);
        let (mut lines, mut written) = (Some(&self.lines), true);
        let mut found = Found { line: self.lines.line, depth: 0, same: false };
        for (depth, step) in path.iter().enumerate() {
            let Some(next_merged) = part(merged, step) else { return found };
            let Some(next) = same_part(normal, step, next_merged) else { return found };
            if written {
                let key = raw.and_then(|raw| written_as(raw, step, next_merged));
                lines = key.as_ref().and_then(|key| lines?.below.get(key));
                raw = key.as_ref().and_then(|key| part(raw?, key));
                // A short form says all its parts on one line.
                written = lines.is_some();
            }
            found.line = lines.map_or(found.line, |lines| lines.line);
            found.depth = depth + 1;
            (normal, merged) = (next, next_merged);
        }
        found.same = normal == merged;
        found
    }
}

fn part<'a>(value: &'a Value, step: &str) -> Option<&'a Value> {
    match value {
        Value::Array(list) => list.get(step.parse::<usize>().ok()?),
        value => value.get(step),
    }
}

/// The part of one file; lists are sorted by the merge, so an entry is known by its content.
fn same_part<'a>(normal: &'a Value, step: &str, merged: &Value) -> Option<&'a Value> {
    match normal {
        Value::Array(list) => list.iter().find(|entry| *entry == merged),
        normal => normal.get(step),
    }
}

/// The key or index under which a file says a part, in whatever form it does.
fn written_as(raw: &Value, step: &str, merged: &Value) -> Option<String> {
    let Value::Array(list) = raw else { return raw.get(step).map(|_| step.to_owned()) };
    // Most entries are written as they are meant; reading every other one in all its forms takes much longer.
    let as_it_is = |entry: &Value| match entry {
        Value::String(text) => text.split_once('=').map_or(text.as_str(), |(key, _)| key) == step || entry == merged,
        _ => false,
    };
    let says = |entry: &Value| match entry {
        Value::String(text) => {
            scalar::mount(text).is_ok_and(|mount| mount == *merged)
                || scalar::ports(text).is_ok_and(|ports| ports.contains(merged))
                || merged["source"] == *text.as_str()
        }
        Value::Number(number) => scalar::ports(&number.to_string()).is_ok_and(|ports| ports.contains(merged)),
        // Long forms differ from what is written in their numbers and in what is left out.
        Value::Object(map) => ["target", "published", "source", "type"].iter().all(|key| match map.get(*key) {
            Some(value) => text_of(value) == text_of(&merged[*key]),
            None => true,
        }),
        _ => false,
    };
    list.iter().position(as_it_is).or_else(|| list.iter().position(says)).map(|index| index.to_string())
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::tests::recipe;

    const FIRST: &str = "\
x-both: &both
  labels:
    shared: of-the-anchor
services:
  app:
    image: nginx:1
    deploy:
      <<: *both
      replicas: 2
    ports:
      - 80:80
      - \"8000-8001:8000-8001\"
      - target: 9000
        published: 9
    volumes:
      - /etc:/host:ro
      - {type: bind, source: /srv, target: /srv}
    cap_drop: [ALL]
    labels:
      - one=1
      - ${NAME}=2
";
    const SECOND: &str = "\
services:
  app:
    image: ''
    cap_add:
      - NET_ADMIN
    volumes:
      - /var:/var
    labels:
      one: '3'
";

    fn check(path: &str, file: &str, line: usize) {
        let env = "COMPOSE_FILE=compose.yml:compose.more.yml\nNAME=two.words\n";
        let compose = recipe(&[("compose.yml", FIRST), ("compose.more.yml", SECOND)], env).unwrap();
        let path: Vec<String> = path.split('/').map(str::to_owned).collect();
        assert_eq!(compose.sources.place(&compose.document, &path), (file.to_owned(), line), "{path:?}");
    }

    #[test]
    fn every_part_is_found_where_it_is_written() {
        check("services/app/deploy/replicas", "compose.yml", 9);
        check("services/app/deploy/labels/shared", "compose.yml", 3);
        check("services/app/labels/two.words", "compose.yml", 21);
        check("services/app/cap_add/0", "compose.more.yml", 5);
        // The second file says nothing with an empty value, and a new label with another.
        check("services/app/image", "compose.yml", 6);
        check("services/app/labels/one", "compose.more.yml", 9);
    }

    #[test]
    fn entries_of_lists_that_the_merge_sorts_are_found() {
        // Sorted by what is published: 9, 80, 8000, 8001.
        for (index, line) in [(0, 13), (1, 11), (2, 12), (3, 12)] {
            check(&format!("services/app/ports/{index}/target"), "compose.yml", line);
        }
        // Sorted by the target: /host, /srv, /var.
        check("services/app/volumes/0/source", "compose.yml", 16);
        check("services/app/volumes/1", "compose.yml", 17);
        check("services/app/volumes/2/source", "compose.more.yml", 7);
    }
}
