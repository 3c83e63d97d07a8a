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
}

impl AppEnv {
    /// The environment of a new app of a recipe, as `abra app new` makes it: the sample with its example domain
    /// replaced and certificates switched off. `extra` is set on top of it, and what `abra.sh` exports on top of all.
    pub fn new(tree: &Tree, recipe: &RecipeName, domain: &str, extra: &BTreeMap<String, String>) -> Result<AppEnv> {
        let sample = tree.text_if_any(".env.sample")?.unwrap_or_default();
        let sample = sample.replace(&format!("{recipe}.example.com"), domain);
        let mut env = AppEnv::parse(&sample).context("failed to read `.env.sample`")?;
        env.set("LETS_ENCRYPT_ENV", "");
        env.set("TYPE", recipe.as_str());
        let place = |env: &mut AppEnv| {
            env.set("DOMAIN", domain);
            env.set("STACK_NAME", stack_name(domain));
        };
        // Before, so that extra variables may refer to them, and after, so that none moves the app elsewhere.
        place(&mut env);
        env.extend(extra);
        place(&mut env);
        env.merge_abra_sh(tree.text_if_any("abra.sh")?.unwrap_or_default())?;
        Ok(env)
    }

    /// Reads a `.env` file: the last of repeated keys wins, and `$KEY` or `${KEY}` stands for what came before it,
    /// except in single quotes. A comment needs a blank before its `#`.
    pub fn parse(text: &str) -> Result<AppEnv> {
        let mut env = AppEnv::default();
        let mut rest = text;
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                return Ok(env);
            }
            let number = 1 + text[..text.len() - rest.len()].matches('\n').count();
            if rest.starts_with('#') {
                rest = after_line(rest);
                continue;
            }
            let (key, after_key) = key(rest).with_context(|| format!("line {number}: expected `KEY=value`"))?;
            let (value, after_value) = value(after_key, &env).with_context(|| format!("line {number}: `{key}`"))?;
            let (line, _) = after_value.split_once('\n').unwrap_or((after_value, ""));
            let comment = line.split_once('#').map(|(_, comment)| comment.trim()).unwrap_or_default();
            env.put(Var { key: key.to_owned(), value, comment: comment.to_owned(), exported: false });
            rest = after_line(after_value);
        }
    }

    /// Takes over `export KEY=value` lines; the script is read as text and never run, as abra does it.
    pub fn merge_abra_sh(&mut self, script: &str) -> Result<()> {
        for line in script.lines() {
            let Some(assignment) = line.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])) else {
                continue;
            };
            let Some((name, after_key)) = key(assignment.trim_start()) else { continue };
            let failed = || format!("failed to read `{}` in `abra.sh`", line.trim());
            let (value, _) = value(after_key, self).with_context(failed)?;
            self.put(Var { key: name.to_owned(), value, comment: String::new(), exported: true });
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
        self.put(Var { key: key.to_owned(), value: value.into(), comment, exported: false });
    }

    /// Sets several keys; their values may refer to what is set already (`$COMPOSE_FILE:compose.postgres.yml`).
    pub fn extend(&mut self, extra: &BTreeMap<String, String>) {
        let expanded: Vec<(&String, String)> = extra.iter().map(|(key, value)| (key, expand(value, self))).collect();
        for (key, value) in expanded {
            self.set(key, value);
        }
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

    /// A repeated key keeps its first place, and its comment unless it brings a new one.
    fn put(&mut self, var: Var) {
        match self.vars.iter_mut().find(|known| known.key == var.key) {
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
            "charset" => spec.charset = value.parse().with_context(failed)?,
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
        return Ok((expand(&quoted[..end], env), &quoted[end + 1..]));
    }
    let line = text.split_once('\n').map_or(text, |(line, _)| line);
    let blank_before = |at: usize| at == 0 || line[..at].ends_with([' ', '\t']);
    let end = line.match_indices('#').map(|(at, _)| at).find(|at| blank_before(*at)).unwrap_or(line.len());
    Ok((expand(line[..end].trim(), env), &text[end..]))
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
fn expand(text: &str, env: &AppEnv) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', '\\']) {
        out += &rest[..at];
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
    out + rest
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

    #[test]
    fn extra_variables_may_build_on_the_sample() {
        let mut env = env("COMPOSE_FILE=compose.yml\nA=1\n");
        let extra = [("COMPOSE_FILE", "$COMPOSE_FILE:compose.pg.yml"), ("A", "2"), ("NEW", "\\$5")];
        env.extend(&extra.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
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
        let unknown = error("SECRET_A_VERSION=v1 # charset=klingon");
        assert!(unknown.contains("charset `klingon` is not known: possible are `default`"), "{unknown}");
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
