//! `[[data]]` in `recipe.toml`: data that must survive, said without code.
//!
//! An entry says how its data is made, how it is seen, and, where the harness cannot know it, how it is lost. What
//! contradicts itself is refused here, before anything is created; what becomes of it is in `runner::data`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Result, anyhow, ensure};
use reqwest::header::{HeaderName, HeaderValue};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::recipe::stack::Stack;

/// A whole entry, for whoever has written a wrong one.
const EXAMPLE: &str =
    r#"data = [{ name = "page", service = "app", write = "/data/page.txt", text = "hello", get = "/page.txt" }]"#;

/// Data that is made before the upgrade, or before the backup where there is none, and must still be there after the
/// upgrade and after the restore. In between the harness spoils it, so that a restore which does nothing is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// What its trials are called, `upgrade::data_<name>` and `restore::data_<name>`; the number of the entry when not
    /// given.
    pub name: Option<String>,
    /// The service, as the compose file names it, for `write`, `run`, `ruin`, `read` and `expect_run`.
    pub service: Option<String>,
    /// Made by writing a file: its path in the service's container, with `text` as its content.
    pub write: Option<String>,
    /// The content of the file that `write` names.
    pub text: Option<String>,
    /// Made by a command in the service's container: a line for its shell, or a list of words. It must exit with 0.
    pub run: Option<Command>,
    /// Made by a POST request to this path of the app, with `body`. It must be answered with a status below 400.
    pub post: Option<String>,
    /// Made by a PUT request to this path of the app, with `body`. It must be answered with a status below 400.
    pub put: Option<String>,
    /// The body of the request; a form, unless `headers` says otherwise.
    pub body: Option<String>,
    /// Headers of every request of this entry, as `Content-Type` or `Authorization`.
    pub headers: BTreeMap<String, String>,
    /// Seen in a file: its path in the service's container.
    pub read: Option<String>,
    /// Seen in the output of a command in the service's container, which must exit with 0.
    pub expect_run: Option<Command>,
    /// Seen at this path of the app, which must be answered with a status from 200 to 299.
    pub get: Option<String>,
    /// What must be seen, and nothing else but line breaks after it; `text` when neither this nor `contains` is given.
    pub expect: Option<String>,
    /// What must stand in what is seen.
    pub contains: Option<String>,
    /// How the data is lost between backup and restore: a command in the service's container. Not needed for `write`,
    /// whose file is written over.
    pub ruin: Option<Command>,
    /// How the data is lost between backup and restore: a DELETE request to this path of the app; the same path when not
    /// given with `put`.
    pub delete: Option<String>,
    /// Whether the restore must bring it back; true when not given.
    pub restore: Option<bool>,
}

/// A command: a line for `/bin/sh -c`, or the words of an argument list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Command {
    Line(String),
    Words(Vec<String>),
}

/// How an entry's data is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make<'a> {
    Write { path: &'a str, text: &'a str },
    Run(&'a Command),
    Send { method: &'static str, path: &'a str, body: &'a str },
}

/// How it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum See<'a> {
    Read(&'a str),
    Run(&'a Command),
    Get(&'a str),
}

/// How it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lose<'a> {
    WriteOver(&'a str),
    Run(&'a Command),
    Delete(&'a str),
}

/// What must be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    Equal(&'a str),
    Containing(&'a str),
}

impl Data {
    /// How it is made; `None` for an entry that [`check`] refuses, as for the others.
    pub fn make(&self) -> Option<Make<'_>> {
        let body = self.body.as_deref().unwrap_or_default();
        let send = |method, path| Make::Send { method, path, body };
        let write = self.write.as_deref().zip(self.text.as_deref()).map(|(path, text)| Make::Write { path, text });
        write
            .or_else(|| self.run.as_ref().map(Make::Run))
            .or_else(|| self.post.as_deref().map(|path| send("POST", path)))
            .or_else(|| self.put.as_deref().map(|path| send("PUT", path)))
    }

    pub fn see(&self) -> Option<See<'_>> {
        let read = self.read.as_deref().map(See::Read);
        read.or_else(|| self.expect_run.as_ref().map(See::Run)).or_else(|| self.get.as_deref().map(See::Get))
    }

    pub fn wanted(&self) -> Option<Wanted<'_>> {
        let contains = self.contains.as_deref().map(Wanted::Containing);
        contains.or_else(|| self.expect.as_deref().or(self.text.as_deref()).map(Wanted::Equal))
    }

    /// `None` also where nothing of it has to come back.
    pub fn lose(&self) -> Option<Lose<'_>> {
        let ruin = self.ruin.as_ref().map(Lose::Run).or_else(|| self.delete.as_deref().map(Lose::Delete));
        let ruin = ruin.or_else(|| self.write.as_deref().map(Lose::WriteOver));
        ruin.or_else(|| self.put.as_deref().map(Lose::Delete)).filter(|_| self.comes_back())
    }

    /// Whether a restore must bring it back.
    pub fn comes_back(&self) -> bool {
        self.restore.unwrap_or(true)
    }

    /// The service that its commands and files are in.
    pub fn service(&self) -> &str {
        self.service.as_deref().unwrap_or_default()
    }

    /// Why this entry cannot be.
    fn problem(&self) -> Option<String> {
        let makes = given(&[
            ("write", self.write.is_some()),
            ("run", self.run.is_some()),
            ("post", self.post.is_some()),
            ("put", self.put.is_some()),
        ]);
        let sees = given(&[
            ("read", self.read.is_some()),
            ("expect_run", self.expect_run.is_some()),
            ("get", self.get.is_some()),
        ]);
        let several = |names: &[&str]| format!("`{}`", names.join("` and `"));
        match (makes.as_slice(), sees.as_slice()) {
            ([], _) => Some("says not how the data is made: add `write`, `run`, `post` or `put`".into()),
            ([_, _, ..], _) => Some(format!("has {}: keep one way to make the data", several(&makes))),
            (_, []) => Some("says not how the data is seen: add `read`, `expect_run` or `get`".into()),
            (_, [_, _, ..]) => Some(format!("has {}: keep one way to see the data", several(&sees))),
            _ => self.mismatch().or_else(|| self.missing()).or_else(|| self.malformed()),
        }
    }

    /// Keys that do not go together.
    fn mismatch(&self) -> Option<String> {
        let sends = self.post.is_some() || self.put.is_some();
        let asks = sends || self.get.is_some() || self.delete.is_some();
        let gone = !self.comes_back() && (self.ruin.is_some() || self.delete.is_some());
        let pairs = [
            (self.text.is_some() && self.write.is_none(), "has `text` without `write`: `text` is a file's content"),
            (self.body.is_some() && !sends, "has `body` without `post` or `put`: `body` is what a request sends"),
            (!self.headers.is_empty() && !asks, "has `headers`, but none of its keys is a request"),
            (self.expect.is_some() && self.contains.is_some(), "has `expect` and `contains`: keep one"),
            (self.ruin.is_some() && self.delete.is_some(), "has `ruin` and `delete`: keep one way to lose the data"),
            (gone, "has `restore = false`, so that nothing has to be lost: leave out `ruin` and `delete`"),
        ];
        pairs.into_iter().find(|(is_so, _)| *is_so).map(|(_, text)| text.to_owned())
    }

    /// What has to be there beside what is.
    fn missing(&self) -> Option<String> {
        let in_service = given(&[
            ("write", self.write.is_some()),
            ("run", self.run.is_some()),
            ("ruin", self.ruin.is_some()),
            ("read", self.read.is_some()),
            ("expect_run", self.expect_run.is_some()),
        ]);
        if let (Some(key), None) = (in_service.first(), &self.service) {
            return Some(format!("has `{key}` and no `service` that it is in"));
        }
        if self.write.is_some() && self.text.is_none() {
            return Some("has `write` without `text`: add the file's content".into());
        }
        if self.wanted().is_none() {
            return Some("says not what must be seen: add `expect`, or `contains` for a part of it".into());
        }
        if self.comes_back() && self.lose().is_none() {
            return Some(
                "says not how the data is lost before the restore, so that one which does nothing would pass: add `ruin`, a \
                 command, or `delete`, a path; or `restore = false`, if no backup holds it"
                    .into(),
            );
        }
        None
    }

    /// Values that cannot be meant.
    fn malformed(&self) -> Option<String> {
        let paths = [
            ("write", &self.write),
            ("read", &self.read),
            ("post", &self.post),
            ("put", &self.put),
            ("get", &self.get),
            ("delete", &self.delete),
        ];
        let relative = |path: &&Option<String>| path.as_ref().is_some_and(|path| !path.starts_with('/'));
        if let Some((key, Some(path))) = paths.iter().find(|(_, path)| relative(path)) {
            return Some(format!("has `{key} = {path:?}`: write a path that starts with `/`"));
        }
        let commands = [("run", &self.run), ("ruin", &self.ruin), ("expect_run", &self.expect_run)];
        let empty = |command: &&Option<Command>| command.as_ref().is_some_and(Command::is_empty);
        if let Some((key, _)) = commands.iter().find(|(_, command)| empty(command)) {
            return Some(format!("has an empty `{key}`: write a line for the shell, or a list of words"));
        }
        let is_header = |name: &str, value: &str| {
            HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok()
        };
        if let Some((name, _)) = self.headers.iter().find(|(name, value)| !is_header(name, value)) {
            return Some(format!("has the header {name:?}, which is none, or has a value that none has"));
        }
        if let Some(Wanted::Containing("") | Wanted::Equal("")) = self.wanted() {
            return Some("wants to see nothing at all, which lost data would show, too".into());
        }
        None
    }
}

impl Command {
    /// The words to start.
    pub fn argv(&self) -> Vec<String> {
        match self {
            Command::Line(line) => ["/bin/sh", "-c", line].map(str::to_owned).into(),
            Command::Words(words) => words.clone(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Command::Line(line) => line.trim().is_empty(),
            Command::Words(words) => words.first().is_none_or(String::is_empty),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Line(line) => f.write_str(line),
            Command::Words(words) => f.write_str(&words.join(" ")),
        }
    }
}

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Equal(text) => write!(f, "{text:?}"),
            Wanted::Containing(text) => write!(f, "{text:?} in it"),
        }
    }
}

/// The entries with the names that their trials have.
pub fn named(entries: &[Data]) -> Vec<(String, &Data)> {
    let name = |(at, data): (usize, &Data)| data.name.clone().unwrap_or_else(|| (at + 1).to_string());
    entries.iter().enumerate().map(|(at, data)| (name((at, data)), data)).collect()
}

/// Refuses what contradicts itself, with an example.
pub fn check(entries: &[Data]) -> Result<()> {
    let mut names = BTreeSet::new();
    for (name, data) in named(entries) {
        // It becomes part of a trial's name and of a command line.
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        ensure!(
            !name.is_empty() && name.chars().all(is_plain),
            "`[[data]]` has the name {name:?}: write lower-case letters, digits and `_`"
        );
        ensure!(names.insert(name.clone()), "two entries of `[[data]]` have the name `{name}`: give each its own");
        if let Some(problem) = data.problem() {
            return Err(with_example(&format!("`[[data]]` `{name}` {problem}")));
        }
    }
    Ok(())
}

/// Refuses a service that is not there when the data is made.
pub fn check_services(entries: &[Data], which: &str, stack: &Stack) -> Result<()> {
    for (name, data) in named(entries) {
        let Some(service) = data.service.as_ref().filter(|service| !stack.services.contains_key(*service)) else {
            continue;
        };
        let known: Vec<&str> = stack.services.keys().map(String::as_str).collect();
        return Err(anyhow!(
            "`[[data]]` `{name}` is about a service `{service}`, and {which} has none of that name: there are `{}`",
            known.join("`, `")
        ));
    }
    Ok(())
}

/// A refusal in one line, with an entry that is right.
pub fn with_example(problem: &str) -> anyhow::Error {
    anyhow!("{problem}; for example: {EXAMPLE}")
}

fn given<'a>(keys: &[(&'a str, bool)]) -> Vec<&'a str> {
    keys.iter().filter(|(_, is_given)| *is_given).map(|(key, _)| *key).collect()
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LineOrWords)
    }
}

/// Reads either form; a derived reader would say nothing of what was wrong.
struct LineOrWords;

impl<'de> Visitor<'de> for LineOrWords {
    type Value = Command;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line for the shell, or a list of words")
    }

    fn visit_str<E: de::Error>(self, line: &str) -> Result<Command, E> {
        Ok(Command::Line(line.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, words: A) -> Result<Command, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(words)).map(Command::Words)
    }
}

impl JsonSchema for Command {
    fn schema_name() -> Cow<'static, str> {
        "Command".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "array"], "items": { "type": "string" } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Data {
        toml::from_str(text).unwrap()
    }

    fn refusal(text: &str) -> String {
        check(&[entry(text)]).unwrap_err().to_string()
    }

    const WRITTEN: &str = "service = \"app\"\nwrite = \"/x\"\ntext = \"hello\"\n";

    #[test]
    fn an_entry_is_read_and_what_it_leaves_open_is_filled() {
        let data = entry(&format!("{WRITTEN}get = \"/x\""));
        check(std::slice::from_ref(&data)).unwrap();
        assert_eq!(data.make(), Some(Make::Write { path: "/x", text: "hello" }));
        assert_eq!((data.see(), data.wanted()), (Some(See::Get("/x")), Some(Wanted::Equal("hello"))));
        assert_eq!(data.lose(), Some(Lose::WriteOver("/x")));
        let data = entry("put = \"/notes/1\"\nbody = \"hello\"\nget = \"/notes\"\ncontains = \"hello\"");
        check(std::slice::from_ref(&data)).unwrap();
        assert_eq!(data.make(), Some(Make::Send { method: "PUT", path: "/notes/1", body: "hello" }));
        assert_eq!((data.lose(), data.wanted()), (Some(Lose::Delete("/notes/1")), Some(Wanted::Containing("hello"))));
        let data =
            entry("service = \"db\"\nrun = [\"a\", \"b c\"]\nexpect_run = \"d\"\nexpect = \"e\"\nrestore = false");
        check(std::slice::from_ref(&data)).unwrap();
        let Some(Make::Run(command)) = data.make() else { panic!("{data:?}") };
        assert_eq!((command.argv(), data.lose()), (vec!["a".into(), "b c".into()], None));
    }

    #[test]
    fn what_contradicts_itself_is_refused_in_one_line_with_an_example() {
        for (text, expected) in [
            ("get = \"/\"", "says not how the data is made: add `write`, `run`, `post` or `put`"),
            ("WRITTEN\nrun = \"a\"\nget = \"/\"", "has `write` and `run`: keep one way to make the data"),
            ("WRITTEN", "says not how the data is seen: add `read`, `expect_run` or `get`"),
            ("WRITTEN\nread = \"/x\"\nget = \"/\"", "has `read` and `get`: keep one way to see the data"),
            ("post = \"/\"\ntext = \"a\"\nget = \"/\"", "has `text` without `write`: `text` is a file's content"),
            (
                "WRITTEN\nbody = \"a\"\nget = \"/\"",
                "has `body` without `post` or `put`: `body` is what a request sends",
            ),
            ("WRITTEN\nread = \"/x\"\nheaders = { A = \"b\" }", "has `headers`, but none of its keys is a request"),
            ("write = \"/x\"\ntext = \"a\"\nget = \"/\"", "has `write` and no `service` that it is in"),
            (
                "service = \"app\"\nwrite = \"/x\"\nget = \"/\"\nexpect = \"a\"",
                "has `write` without `text`: add the file's content",
            ),
            (
                "put = \"/a\"\nbody = \"b\"\nget = \"/\"",
                "says not what must be seen: add `expect`, or `contains` for a part of it",
            ),
            (
                "service = \"db\"\nrun = \"a\"\nexpect_run = \"b\"\nexpect = \"c\"",
                "says not how the data is lost before the restore, so that one which does nothing would pass: add `ruin`, a \
                 command, or `delete`, a path; or `restore = false`, if no backup holds it",
            ),
            (
                "WRITTEN\nread = \"/x\"\nrestore = false\ndelete = \"/\"",
                "has `restore = false`, so that nothing has to be lost: leave out `ruin` and `delete`",
            ),
            ("WRITTEN\nread = \"x\"", "has `read = \"x\"`: write a path that starts with `/`"),
            (
                "service = \"db\"\nrun = []\nruin = \"x\"\nexpect_run = \"b\"\nexpect = \"c\"",
                "has an empty `run`: write a line for the shell, or a list of words",
            ),
            (
                "WRITTEN\nget = \"/x\"\nheaders = { \"A b\" = \"c\" }",
                "has the header \"A b\", which is none, or has a value that none has",
            ),
            ("WRITTEN\nread = \"/x\"\nexpect = \"\"", "wants to see nothing at all, which lost data would show, too"),
        ] {
            let text = text.replace("WRITTEN", WRITTEN);
            assert_eq!(refusal(&text), format!("`[[data]]` `1` {expected}; for example: {EXAMPLE}"), "{text}");
        }
    }

    #[test]
    fn the_example_is_right() {
        #[derive(Deserialize)]
        struct Toml {
            data: Vec<Data>,
        }
        check(&toml::from_str::<Toml>(EXAMPLE).unwrap().data).unwrap();
    }

    #[test]
    fn names_are_plain_and_each_entrys_own() {
        let entry = |name: &str| entry(&format!("name = \"{name}\"\n{WRITTEN}read = \"/x\""));
        let error = check(&[entry("A page")]).unwrap_err().to_string();
        assert_eq!(error, "`[[data]]` has the name \"A page\": write lower-case letters, digits and `_`");
        let error = check(&[entry("a"), entry("a")]).unwrap_err().to_string();
        assert_eq!(error, "two entries of `[[data]]` have the name `a`: give each its own");
        let unnamed = Data { name: None, ..entry("b") };
        let entries = [entry("a"), unnamed];
        let names: Vec<String> = named(&entries).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "2"]);
    }

    #[test]
    fn a_command_of_another_kind_is_refused_in_words() {
        let error = toml::from_str::<Data>("run = 7").unwrap_err().to_string();
        assert!(
            error.contains("invalid type: integer `7`, expected a line for the shell, or a list of words"),
            "{error}"
        );
    }
}
