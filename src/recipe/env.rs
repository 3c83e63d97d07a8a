//! The environment of an app: `.env.sample` and `abra.sh` as abra reads them, and the `.env` file written from it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::name::RecipeName;
use super::secret::{Charset, SecretSpec};
use super::tree::{Tree, inside};

/// The variables of one app, in the order of its file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppEnv {
    vars: Vec<Var>,
}

/// One variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Var {
    key: String,
    value: String,
    /// What stood behind a `#` on its line: secrets declare length and charset there.
    comment: String,
    /// It comes from `abra.sh`, which abra reads by itself, so it has no place in the `.env` file.
    exported: bool,
    /// It says which app this is, which nothing of a recipe has a word in: it never changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pinned: bool,
}

/// The variables that say which app it is: its operator's to choose, never a recipe's.
const WHICH_APP: [&str; 2] = ["DOMAIN", "STACK_NAME"];

/// The largest `.env.sample` and `abra.sh`; those of published recipes have some 20 KiB.
const LARGEST: usize = 256 << 10;
/// The most variables; published recipes have up to some 200.
const MOST: usize = 1000;
/// The longest value: the kernel gives a process no longer variable.
const LONGEST: usize = 128 << 10;
/// All values together. A few lines that double what came before would otherwise take all memory.
const ALL: usize = 4 << 20;

impl AppEnv {
    /// The environment of a new app of a recipe, as `abra app new` makes it: the sample with its example domain
    /// replaced and certificates switched off. `extra` is set on top of it, and what `abra.sh` exports on top of all.
    pub fn new(tree: &Tree, recipe: &RecipeName, domain: &str, extra: &BTreeMap<String, String>) -> Result<AppEnv> {
        let sample = tree.text_if_any(".env.sample")?.unwrap_or_default();
        let sample = sample.replace(&format!("{recipe}.example.com"), domain);
        let mut env = AppEnv::parse(&sample).context("failed to read `.env.sample`")?;
        env.set("LETS_ENCRYPT_ENV", "");
        env.set("TYPE", recipe.as_str());
        // From here on nothing moves the app elsewhere; extra variables and exports may refer to where it is.
        env.pin(domain);
        env.extend(extra).context("failed to replace variables")?;
        env.merge_abra_sh(tree.text_if_any("abra.sh")?.unwrap_or_default())?;
        Ok(env)
    }

    /// Says which app it is, for good: `DOMAIN` and `STACK_NAME` keep these values whatever is set later. Every
    /// environment is pinned before anything is made of it, because the names of all that a run creates and removes
    /// follow from them.
    pub fn pin(&mut self, domain: &str) {
        for (key, value) in WHICH_APP.into_iter().zip([domain.to_owned(), stack_name(domain)]) {
            self.vars.iter_mut().filter(|var| var.key == key).for_each(|var| var.pinned = false);
            self.set(key, value);
            self.vars.iter_mut().filter(|var| var.key == key).for_each(|var| var.pinned = true);
        }
    }

    /// What of a written environment would make another app of it: the key, and its value there.
    pub fn moves_from(&self, domain: &str) -> Option<(&'static str, &str)> {
        let places = WHICH_APP.into_iter().zip([domain.to_owned(), stack_name(domain)]);
        places
            .map(|(key, own)| (key, own, self.get(key).unwrap_or_default()))
            .find_map(|(key, own, value)| (own != value).then_some((key, value)))
    }

    /// Reads a `.env` file: the last of repeated keys wins, and `$KEY` or `${KEY}` stands for what came before it,
    /// except in single quotes. A comment needs a blank before its `#`.
    pub fn parse(text: &str) -> Result<AppEnv> {
        check_size(text)?;
        let mut env = AppEnv::default();
        let (mut rest, mut number, mut counted) = (text, 1, 0);
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                return Ok(env);
            }
            if rest.starts_with('#') {
                rest = after_line(rest);
                continue;
            }
            let here = text.len() - rest.len();
            number += text[counted..here].matches('\n').count();
            counted = here;
            let (key, after_key) = key(rest).with_context(|| format!("line {number}: expected `KEY=value`"))?;
            let (value, after_value) = value(after_key, &env).with_context(|| format!("line {number}: `{key}`"))?;
            let (line, _) = after_value.split_once('\n').unwrap_or((after_value, ""));
            let comment = line.split_once('#').map(|(_, comment)| comment.trim()).unwrap_or_default();
            let var = Var { key: key.to_owned(), value, comment: comment.to_owned(), exported: false, pinned: false };
            env.put(var);
            env.check_amount().with_context(|| format!("line {number}"))?;
            rest = after_line(after_value);
        }
    }

    /// Takes over `export KEY=value` lines; the script is read as text and never run, as abra does it.
    ///
    /// One that would make another app of it is an error: abra would read, change and remove what belongs to that app.
    pub fn merge_abra_sh(&mut self, script: &str) -> Result<()> {
        check_size(script).context("failed to read `abra.sh`")?;
        for line in script.lines() {
            let Some(assignment) = line.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])) else {
                continue;
            };
            let Some((name, after_key)) = key(assignment.trim_start()) else { continue };
            let failed = || format!("failed to read `{}` in `abra.sh`", shown(line));
            let (value, _) = value(after_key, self).with_context(failed)?;
            if self.vars.iter().any(|var| var.pinned && var.key == name && var.value != value) {
                bail!(
                    "`abra.sh` exports `{name}`, which says which app this is: abra would deploy, change and remove \
                     another one's; remove `{}`, because that is its operator's to say",
                    shown(line)
                );
            }
            self.put(Var { key: name.to_owned(), value, comment: String::new(), exported: true, pinned: false });
            self.check_amount().with_context(failed)?;
        }
        Ok(())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.vars.iter().find(|var| var.key == key).map(|var| var.value.as_str())
    }

    /// Sets a key, in place when it is known.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        let known = self.vars.iter().find(|var| var.key == key);
        let comment = known.map(|var| var.comment.clone()).unwrap_or_default();
        self.put(Var { key: key.to_owned(), value: value.into(), comment, exported: false, pinned: false });
    }

    /// Sets several keys; their values may refer to what is set already (`$COMPOSE_FILE:compose.postgres.yml`).
    pub fn extend(&mut self, extra: &BTreeMap<String, String>) -> Result<()> {
        let expanded =
            extra.iter().map(|(key, value)| Ok((key, expand(value, self).with_context(|| format!("`{key}`"))?)));
        for (key, value) in expanded.collect::<Result<Vec<(&String, String)>>>()? {
            self.set(key, value);
        }
        self.check_amount()
    }

    /// Takes over the values of an app that is installed already; what `abra.sh` exports follows the checkout instead.
    pub fn keep(&mut self, installed: &AppEnv) {
        for var in installed.vars.iter().filter(|var| !var.exported) {
            self.put(var.clone());
        }
    }

    /// Keys and values, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.vars.iter().map(|var| (var.key.as_str(), var.value.as_str()))
    }

    /// The keys of a `.env` file, without what `abra.sh` exports.
    pub fn declared(&self) -> impl Iterator<Item = &str> {
        self.vars.iter().filter(|var| !var.exported).map(|var| var.key.as_str())
    }

    /// The same without one key.
    pub fn without(&self, key: &str) -> AppEnv {
        AppEnv { vars: self.vars.iter().filter(|var| var.key != key).cloned().collect() }
    }

    /// The Swarm stack name of the app.
    pub fn stack(&self) -> &str {
        self.get("STACK_NAME").unwrap_or_default()
    }

    /// The compose files that `COMPOSE_FILE` names, `compose.yml` by default: each a regular file of the recipe.
    pub fn compose_files(&self, tree: &Tree) -> Result<Vec<String>> {
        let named = self.get("COMPOSE_FILE").filter(|value| !value.is_empty()).unwrap_or("compose.yml");
        let mut files = Vec::new();
        for name in named.split(':').filter(|name| !name.is_empty()) {
            let failed = || format!("failed to read `COMPOSE_FILE={named}`");
            let path = inside(name).with_context(failed)?;
            tree.file(&path).with_context(failed)?;
            files.push(path);
        }
        if files.is_empty() {
            bail!("`COMPOSE_FILE={named}` names no file");
        }
        Ok(files)
    }

    /// The secrets declared by `SECRET_<NAME>_VERSION=v1  # length=64 charset=hex generate=false`.
    pub fn secrets(&self) -> Result<Vec<SecretSpec>> {
        let declared = self.vars.iter().filter(|var| !var.exported);
        declared.filter_map(|var| Some((var, secret_name(&var.key)?))).map(|(var, name)| secret(var, name)).collect()
    }

    /// The text of a `.env` file that reads back as this environment; what `abra.sh` exports is left to abra.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for var in self.vars.iter().filter(|var| !var.exported) {
            text += &format!("{}={}", var.key, quoted(&var.value));
            text += &if var.comment.is_empty() { "\n".into() } else { format!(" # {}\n", var.comment) };
        }
        text
    }

    /// So much is no environment of an app, but an attempt to take this machine's memory.
    fn check_amount(&self) -> Result<()> {
        if self.vars.len() > MOST {
            bail!("more than {MOST} variables are not read");
        }
        if self.vars.iter().map(|var| var.value.len()).sum::<usize>() > ALL {
            bail!("the values of all variables together have more than {} MiB, once variables are replaced", ALL >> 20);
        }
        Ok(())
    }

    /// A repeated key keeps its first place, and its comment unless it brings a new one; a pinned one is what it is.
    fn put(&mut self, var: Var) {
        match self.vars.iter_mut().find(|known| known.key == var.key) {
            Some(known) if known.pinned => {}
            Some(known) => {
                let comment = if var.comment.is_empty() { std::mem::take(&mut known.comment) } else { var.comment };
                *known = Var { comment, ..var };
            }
            None => self.vars.push(var),
        }
    }
}

/// abra's stack name: the domain with `.` replaced by `_`.
pub fn stack_name(domain: &str) -> String {
    domain.replace('.', "_")
}

/// `SECRET_DB_PASSWORD_VERSION` declares the secret `db_password`.
fn secret_name(key: &str) -> Option<String> {
    let name = key.strip_prefix("SECRET_")?.strip_suffix("_VERSION")?;
    (!name.is_empty()).then(|| name.to_lowercase())
}

fn secret(var: &Var, key: String) -> Result<SecretSpec> {
    let mut spec = SecretSpec {
        key,
        variable: var.key.clone(),
        version: var.value.clone(),
        length: None,
        charset: Charset::default(),
        generate: true,
    };
    let failed = || format!("failed to read the declaration `{}={} # {}`", var.key, var.value, var.comment);
    for (name, value) in var.comment.split_whitespace().filter_map(|word| word.split_once('=')) {
        match name {
            "length" => spec.length = Some(value.parse().with_context(failed)?),
            "charset" => spec.charset = value.parse()?,
            "generate" => spec.generate = value != "false",
            _ => {}
        }
    }
    Ok(spec)
}

/// Splits `KEY=…` (or `export KEY=…`, or `KEY: …`) after the separator.
fn key(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix("export ").map(str::trim_start).unwrap_or(text);
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))?;
    let (key, rest) = text.split_at(end);
    let rest = rest.trim_start_matches([' ', '\t']);
    let rest = rest.strip_prefix('=').or_else(|| rest.strip_prefix(':'))?;
    (!key.is_empty() && !key.starts_with(|c: char| c.is_ascii_digit())).then_some((key, rest))
}

/// Reads one value and returns it with the text after it.
fn value<'a>(text: &'a str, env: &AppEnv) -> Result<(String, &'a str)> {
    let text = text.trim_start_matches([' ', '\t', '\r']);
    if let Some(raw) = text.strip_prefix('\'') {
        let end = raw.find('\'').context("a single quote is not closed")?;
        return Ok((raw[..end].to_owned(), &raw[end + 1..]));
    }
    if let Some(quoted) = text.strip_prefix('"') {
        let end = closing_quote(quoted).context("a double quote is not closed")?;
        return Ok((expand(&quoted[..end], env)?, &quoted[end + 1..]));
    }
    let line = text.split_once('\n').map_or(text, |(line, _)| line);
    let blank_before = |at: usize| at == 0 || line[..at].ends_with([' ', '\t']);
    let end = line.match_indices('#').map(|(at, _)| at).find(|at| blank_before(*at)).unwrap_or(line.len());
    Ok((expand(line[..end].trim(), env)?, &text[end..]))
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(at)
    })
}

/// Replaces `$KEY`, `${KEY}` and escapes. An unknown key is empty; a `$` before anything else stands for itself.
fn expand(text: &str, env: &AppEnv) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', '\\']) {
        out += &rest[..at];
        check_length(&out)?;
        let after = &rest[at + 1..];
        if rest[at..].starts_with('\\') {
            let next = after.chars().next();
            out += &match next {
                Some('n') => "\n".to_owned(),
                Some('r') => "\r".to_owned(),
                Some(c) => c.to_string(),
                None => "\\".to_owned(),
            };
            rest = &after[next.map_or(0, char::len_utf8)..];
            continue;
        }
        let (name, tail) = variable(after);
        out += if name.is_empty() { "$" } else { env.get(name).unwrap_or_default() };
        rest = tail;
    }
    out += rest;
    check_length(&out)?;
    Ok(out)
}

fn check_length(value: &str) -> Result<()> {
    if value.len() > LONGEST {
        bail!("a value of more than {} KiB, once variables are replaced, is not read", LONGEST >> 10);
    }
    Ok(())
}

fn check_size(text: &str) -> Result<()> {
    if text.len() > LARGEST {
        bail!("it has {} bytes, and more than {} KiB are not read", text.len(), LARGEST >> 10);
    }
    Ok(())
}

/// A line for a message: not endless.
fn shown(line: &str) -> String {
    let line = line.trim();
    let cut: String = line.chars().take(80).collect();
    if cut.len() < line.len() { cut + "…" } else { cut }
}

/// The name behind a `$`, and what follows it; no name when it is none.
fn variable(text: &str) -> (&str, &str) {
    let braced = text.strip_prefix('{');
    let inner = braced.unwrap_or(text);
    let end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(inner.len());
    let (name, tail) = inner.split_at(end);
    match (braced, tail.strip_prefix('}')) {
        (None, _) => (name, tail),
        (Some(_), Some(tail)) => (name, tail),
        (Some(_), None) => ("", text),
    }
}

fn after_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

/// A value that reads back as itself, in the mildest quotes that do.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+,=-".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    if !value.contains(['\'', '\n', '\r']) {
        return format!("'{value}'");
    }
    let escape = |c: char| match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\\' | '"' | '$' => format!("\\{c}"),
        _ => c.to_string(),
    };
    format!("\"{}\"", value.chars().map(escape).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::tree::Entry;
    use proptest::prelude::*;

    fn env(text: &str) -> AppEnv {
        AppEnv::parse(text).unwrap()
    }

    fn tree(files: &[(&str, &str)]) -> Tree {
        let file = |text: &str| Entry::File { bytes: text.as_bytes().to_vec(), executable: false };
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect();
        Tree { files, submodules: Vec::new() }
    }

    #[test]
    fn values_are_read_as_abra_reads_them() {
        let check = |line: &str, value: &str| {
            let text = format!("A=1\nB=two\n{line}\nLAST=x");
            assert_eq!(env(&text).get("K"), Some(value), "{line}");
            assert_eq!(env(&text).get("LAST"), Some("x"), "{line}");
        };
        check("K=v", "v");
        check("K = v ", "v");
        check("export K=v", "v");
        check("K: v", "v");
        check("K=", "");
        check("K= # nothing", "");
        check("K=v # comment", "v");
        check("K=v#no comment", "v#no comment");
        check("K=\"v # kept\" # dropped", "v # kept");
        check("K='v # kept'", "v # kept");
        check("K=a=b", "a=b");
        check("K=$A-${B}", "1-two");
        check("K=\"$A:${B}:$NONE:\"", "1:two::");
        check("K='$A'", "$A");
        check("K=\"\\$A \\\"q\\\" \\\\ \\n\"", "$A \"q\" \\ \n");
        check("K=a$", "a$");
        check("K=\"${A:-x}\"", "${A:-x}");
        check("K=', `www.example.com`'", ", `www.example.com`");
        check("K=`a`", "`a`");
        check("K=\"two\nlines\"", "two\nlines");
        check("#K=no\nK=yes", "yes");
        check("K=1\nK=2", "2");
        check("K=a\r", "a");
    }

    #[test]
    fn compose_files_are_appended_to_what_came_before() {
        let env = env("COMPOSE_FILE=compose.yml\nCOMPOSE_FILE=\"$COMPOSE_FILE:compose.postgres.yml\"\n");
        assert_eq!(env.get("COMPOSE_FILE"), Some("compose.yml:compose.postgres.yml"));
        let tree = tree(&[("compose.yml", ""), ("compose.postgres.yml", "")]);
        assert_eq!(env.compose_files(&tree).unwrap(), ["compose.yml", "compose.postgres.yml"]);
    }

    #[test]
    fn a_malformed_line_is_named() {
        let error = |text: &str| format!("{:#}", AppEnv::parse(text).unwrap_err());
        assert_eq!(error("A=1\n\nwhat is this\n"), "line 3: expected `KEY=value`");
        assert_eq!(error("1A=1"), "line 1: expected `KEY=value`");
        assert_eq!(error("A=\"x\n"), "line 1: `A`: a double quote is not closed");
        assert_eq!(error("A='x\n"), "line 1: `A`: a single quote is not closed");
    }

    #[test]
    fn compose_files_stay_inside_the_recipe() {
        let tree = tree(&[("compose.yml", ""), ("sub/compose.yml", "")]);
        let files = |value: &str| env(&format!("COMPOSE_FILE={value}")).compose_files(&tree);
        assert_eq!(env("").compose_files(&tree).unwrap(), ["compose.yml"]);
        assert_eq!(files("./compose.yml:sub/compose.yml").unwrap(), ["compose.yml", "sub/compose.yml"]);
        let error = |value: &str| format!("{:#}", files(value).unwrap_err());
        assert_eq!(
            error("../x.yml"),
            "failed to read `COMPOSE_FILE=../x.yml`: path `../x.yml` leaves the recipe, which nothing allows: put the file into the recipe"
        );
        assert_eq!(
            error("/etc/passwd"),
            "failed to read `COMPOSE_FILE=/etc/passwd`: path `/etc/passwd` leaves the recipe, which nothing allows: put the file into the recipe"
        );
        assert_eq!(error("none.yml"), "failed to read `COMPOSE_FILE=none.yml`: the recipe has no file `none.yml`");
        assert_eq!(error("sub"), "failed to read `COMPOSE_FILE=sub`: `sub` is a directory, expected a file");
        assert_eq!(error(":"), "`COMPOSE_FILE=:` names no file");
    }

    #[test]
    fn a_new_app_has_its_own_domain_and_the_exported_versions() {
        let tree = tree(&[
            (
                ".env.sample",
                "TYPE=custom-html\nDOMAIN=custom-html.example.com\nLETS_ENCRYPT_ENV=production\nX_VERSION=v0\nWWW=www.custom-html.example.com\n",
            ),
            (
                "abra.sh",
                "#!/bin/bash\nexport X_VERSION=v4\nexport Y_VERSION=\"v5\" # why\n  export Z=no\nexportQ=1\nrun() {\n  rm -rf /\n}\n",
            ),
        ]);
        let extra = BTreeMap::from([
            ("X_VERSION".to_owned(), "v9".to_owned()),
            ("MORE".to_owned(), "$WWW $STACK_NAME".to_owned()),
            ("DOMAIN".to_owned(), "elsewhere.org".to_owned()),
        ]);
        let env = AppEnv::new(&tree, &"custom-html".parse().unwrap(), "cust-1a2b3c.test.local", &extra).unwrap();
        assert_eq!(env.get("DOMAIN"), Some("cust-1a2b3c.test.local"));
        assert_eq!(env.get("WWW"), Some("www.cust-1a2b3c.test.local"));
        assert_eq!(env.stack(), "cust-1a2b3c_test_local");
        assert_eq!(env.get("LETS_ENCRYPT_ENV"), Some(""));
        assert_eq!((env.get("X_VERSION"), env.get("Y_VERSION"), env.get("Z")), (Some("v4"), Some("v5"), None));
        assert_eq!(
            (env.get("TYPE"), env.get("MORE")),
            (Some("custom-html"), Some("www.cust-1a2b3c.test.local cust-1a2b3c_test_local"))
        );
        let rendered = env.render();
        assert!(rendered.contains("DOMAIN=cust-1a2b3c.test.local\n"), "{rendered}");
        assert!(!rendered.contains("Y_VERSION"), "{rendered}");
    }

    fn new(sample: &str, abra_sh: &str) -> Result<AppEnv> {
        let tree = tree(&[(".env.sample", sample), ("abra.sh", abra_sh)]);
        AppEnv::new(&tree, &"wiki".parse().unwrap(), "wiki-3fa9c1.test", &BTreeMap::new())
    }

    #[test]
    fn nothing_of_a_recipe_says_which_app_it_is() {
        let env = new("STACK_NAME=victim\nexport DOMAIN=victim.example.org\nA=$STACK_NAME\n", "export B=$STACK_NAME\n")
            .unwrap();
        assert_eq!((env.stack(), env.get("DOMAIN")), ("wiki-3fa9c1_test", Some("wiki-3fa9c1.test")));
        assert_eq!(env.get("B"), Some("wiki-3fa9c1_test"), "what follows may refer to it");
        for line in ["export STACK_NAME=victim", "export DOMAIN=\"victim.example.org\" # why"] {
            let key = if line.contains("STACK") { "STACK_NAME" } else { "DOMAIN" };
            assert_eq!(
                format!("{:#}", new("", &format!("export A=1\n{line}\n")).unwrap_err()),
                format!(
                    "`abra.sh` exports `{key}`, which says which app this is: abra would deploy, change and remove another \
                     one's; remove `{line}`, because that is its operator's to say"
                )
            );
        }
        // A line that changes nothing is no harm, and is how some recipes pass it on.
        let env = new("", "export STACK_NAME=$STACK_NAME\n").unwrap();
        assert!(env.render().contains("STACK_NAME=wiki-3fa9c1_test\n"), "it stays in the `.env`");
        let mut kept = new("", "").unwrap();
        kept.keep(&AppEnv::parse("STACK_NAME=victim\nDOMAIN=victim.org\nA=1\n").unwrap());
        kept.extend(&BTreeMap::from([("STACK_NAME".to_owned(), "victim".to_owned())])).unwrap();
        kept.set("DOMAIN", "victim.org");
        assert_eq!(
            (kept.stack(), kept.get("DOMAIN"), kept.get("A")),
            ("wiki-3fa9c1_test", Some("wiki-3fa9c1.test"), Some("1"))
        );
    }

    #[test]
    fn a_written_environment_that_makes_another_app_of_it_is_told() {
        let moved =
            |text: &str| AppEnv::parse(text).unwrap().moves_from("a.test").map(|(key, value)| format!("{key}={value}"));
        assert_eq!(moved("DOMAIN=a.test\nSTACK_NAME=a_test\n"), None);
        assert_eq!(moved("DOMAIN=a.test\nSTACK_NAME=a_test\nSTACK_NAME=b\n").as_deref(), Some("STACK_NAME=b"));
        assert_eq!(moved("STACK_NAME=a_test\n").as_deref(), Some("DOMAIN="));
    }

    /// Lines of which each doubles what the one before says.
    fn doubling(prefix: &str) -> String {
        let first = format!("{prefix}A0={}\n", "x".repeat(64));
        let more = (1..25).map(|line| format!("{prefix}A{line}=$A{0}$A{0}\n", line - 1));
        [first].into_iter().chain(more).collect()
    }

    #[test]
    fn a_few_lines_do_not_take_all_memory() {
        let said = |result: Result<AppEnv>| format!("{:#}", result.unwrap_err());
        let long = "a value of more than 128 KiB, once variables are replaced, is not read";
        assert_eq!(said(AppEnv::parse(&doubling(""))), format!("line 13: `A12`: {long}"));
        assert_eq!(
            said(new("", &doubling("export "))),
            format!("failed to read `export A12=$A11$A11` in `abra.sh`: {long}")
        );
        let many: String = (0..40).map(|line| format!("B{line}=$A11\n")).collect();
        let twelve: String = doubling("").lines().take(12).map(|line| format!("{line}\n")).collect();
        assert_eq!(
            said(AppEnv::parse(&(twelve + &many))),
            "line 43: the values of all variables together have more than 4 MiB, once variables are replaced"
        );
        let lines: String = (0..2000).map(|line| format!("A{line}=1\n")).collect();
        assert_eq!(said(AppEnv::parse(&lines)), "line 1001: more than 1000 variables are not read");
        let large = "A=1\n".repeat(100_000);
        assert_eq!(said(AppEnv::parse(&large)), "it has 400000 bytes, and more than 256 KiB are not read");
        assert_eq!(
            said(new("", &large)),
            "failed to read `abra.sh`: it has 400000 bytes, and more than 256 KiB are not read"
        );
    }

    #[test]
    fn extra_variables_may_build_on_the_sample() {
        let mut env = env("COMPOSE_FILE=compose.yml\nA=1\n");
        let extra = [("COMPOSE_FILE", "$COMPOSE_FILE:compose.pg.yml"), ("A", "2"), ("NEW", "\\$5")];
        env.extend(&extra.map(|(key, value)| (key.to_owned(), value.to_owned())).into()).unwrap();
        let all: Vec<_> = env.iter().collect();
        assert_eq!(all, [("COMPOSE_FILE", "compose.yml:compose.pg.yml"), ("A", "2"), ("NEW", "$5")]);
    }

    #[test]
    fn an_upgrade_keeps_the_installed_values_and_takes_over_new_keys() {
        let mut head = env("A=new\nADDED=1\n");
        head.merge_abra_sh("export CONF_VERSION=v2\n").unwrap();
        let mut installed = env("A=old\nGONE=1\n");
        installed.merge_abra_sh("export CONF_VERSION=v1\n").unwrap();
        head.keep(&installed);
        let all: Vec<_> = head.iter().collect();
        assert_eq!(all, [("A", "old"), ("ADDED", "1"), ("CONF_VERSION", "v2"), ("GONE", "1")]);
    }

    #[test]
    fn secrets_are_declared_in_comments() {
        let env = env(concat!(
            "SECRET_DB_PASSWORD_VERSION=v1\n",
            "SECRET_KEY_VERSION=v2 # length=64 charset=hex\n",
            "SECRET_API_VERSION=\"v1\"  # the key of your account generate=false\n",
            "#SECRET_OFF_VERSION=v1\n",
            "SECRETS=x\n",
        ));
        let secrets = env.secrets().unwrap();
        let shown: Vec<_> =
            secrets.iter().map(|s| (s.key.as_str(), s.version.as_str(), s.length, s.generate)).collect();
        assert_eq!(
            shown,
            [("db_password", "v1", None, true), ("key", "v2", Some(64), true), ("api", "v1", None, false)]
        );
        assert_eq!(secrets[1].variable, "SECRET_KEY_VERSION");
        assert!(env.render().contains("SECRET_KEY_VERSION=v2 # length=64 charset=hex\n"));
    }

    #[test]
    fn a_wrong_declaration_is_quoted() {
        let error = |line: &str| format!("{:#}", env(line).secrets().unwrap_err());
        assert_eq!(
            error("SECRET_A_VERSION=v1 # length=many"),
            "failed to read the declaration `SECRET_A_VERSION=v1 # length=many`: invalid digit found in string"
        );
    }

    proptest! {
        #[test]
        fn a_rendered_environment_reads_back_as_itself(values in proptest::collection::vec("[ -~\\n\\rä]{0,12}", 1..5)) {
            let mut env = AppEnv::default();
            for (index, value) in values.iter().enumerate() {
                env.set(&format!("K{index}"), value.as_str());
            }
            prop_assert_eq!(AppEnv::parse(&env.render()).unwrap(), env);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[A-C=\"'\\\\$#{}: \\n\\rä]{0,40}") {
            let _ = AppEnv::parse(&text);
        }
    }
}
