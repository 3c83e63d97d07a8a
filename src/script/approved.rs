//! Which recipes' own code may run: the allowlist `repo-local-approved.txt` of this repository, empty by default.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::find::{self, File};
use super::{Code, Script};
use crate::recipe::name::RecipeName;

/// What is approved of one recipe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approval {
    /// Everything, whatever it will say.
    whole: bool,
    /// Single files as they were, by their path and the hash that git has for their content.
    pinned: BTreeMap<String, BTreeSet<String>>,
}

/// A recipe's own code, sorted by what is approved.
#[derive(Clone, Debug, Default)]
pub struct Sorted {
    pub scripts: Vec<Script>,
    /// The code of the install steps, when they are approved.
    pub install_steps: Option<Code>,
    /// One line for every file that was found: whether it runs, and what would let it.
    pub approved: Vec<String>,
    pub ignored: Vec<String>,
}

impl Approval {
    /// Reads the entries of one recipe. A missing file approves nothing.
    pub fn read(path: &Path, recipe: &RecipeName) -> Result<Approval> {
        let failed = || format!("failed to read `{}`", path.display());
        match crate::regular::read_text(path) {
            Ok(text) => Approval::parse(&text, recipe).with_context(failed),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Approval::default()),
            Err(error) => Err(error).with_context(failed),
        }
    }

    fn parse(text: &str, recipe: &RecipeName) -> Result<Approval> {
        let mut approval = Approval::default();
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            let place = || format!("line {}", number + 1);
            match words[..] {
                [] => {}
                [name] => {
                    let name: RecipeName = name.parse().with_context(place)?;
                    approval.whole |= name == *recipe;
                }
                [name, path, hash] => {
                    let name: RecipeName = name.parse().with_context(place)?;
                    check_pin(path, hash).with_context(place)?;
                    if name == *recipe {
                        approval.pinned.entry(path.to_owned()).or_default().insert(hash.to_owned());
                    }
                }
                _ => bail!("{}: expected `<recipe>` or `<recipe> tests/<file> <blob hash>`", place()),
            }
        }
        Ok(approval)
    }

    /// Sorts the files of a recipe's `tests/`. `blobs` are git's hashes, by path.
    pub fn sort(
        &self,
        recipe: &RecipeName,
        files: &[File<'_>],
        blobs: &BTreeMap<String, String>,
        list: &str,
    ) -> Sorted {
        let path = |name: &str| format!("tests/{name}");
        let blob = |name: &str| blobs.get(&path(name)).map_or("", String::as_str);
        let is_pinned = |name: &str| self.pinned.get(&path(name)).is_some_and(|hashes| hashes.contains(blob(name)));
        let only = files.iter().map(|file| file.name).filter(|name| is_pinned(name)).map(path).collect();
        let code = Code::RepoLocal { only: (!self.whole).then_some(only) };
        let (mut sorted, mut allowed) = (Sorted::default(), Vec::new());
        for file in files.iter().filter(|file| find::is_code(file.name)) {
            let (name, blob) = (file.name, blob(file.name));
            if self.whole || is_pinned(name) {
                let how = if self.whole { "the whole recipe is approved" } else { "this very content is approved" };
                sorted.approved.push(format!("`tests/{name}` runs in a cage: {how} in `{list}`"));
                allowed.push(File { ..*file });
                if name == super::INSTALL_STEPS {
                    sorted.install_steps = Some(code.clone());
                }
                continue;
            }
            let why = match self.pinned.contains_key(&path(name)) {
                true => "it has changed since it was approved",
                false => "it is not approved",
            };
            sorted.ignored.push(format!(
                "`tests/{name}`, which the recipe brings along: {why}; `{recipe} tests/{name} {blob}` in `{list}` would let \
                 it run"
            ));
        }
        sorted.scripts = find::scripts(&allowed, &code);
        sorted
    }
}

fn check_pin(path: &str, hash: &str) -> Result<()> {
    if path.strip_prefix("tests/").is_none_or(|name| name.is_empty() || name.contains('/')) {
        bail!("`{path}` is no file right below `tests/`");
    }
    let hex = hash.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if !hex || ![40, 64].contains(&hash.len()) {
        bail!("`{hash}` is no whole blob hash: `git ls-tree HEAD {path}` shows it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

    fn sort(list: &str, blob: &str) -> Sorted {
        let recipe: RecipeName = "wiki".parse().unwrap();
        let file = |name| File { name, bytes: b"def test_x(): pass\n", executable: true };
        let files = [file("test_install.py"), file("conftest.py"), file("install_steps.sh")];
        let blobs = files.iter().map(|file| (format!("tests/{}", file.name), blob.to_owned())).collect();
        Approval::parse(list, &recipe).unwrap().sort(&recipe, &files, &blobs, "list.txt")
    }

    #[test]
    fn nothing_is_approved_by_default_or_by_another_recipes_entry() {
        for list in ["", "# wiki\n", "wikipedia\nother\n"] {
            let sorted = sort(list, HASH);
            assert!(sorted.scripts.is_empty() && sorted.install_steps.is_none() && sorted.approved.is_empty());
            assert_eq!(
                sorted.ignored,
                [
                    format!(
                        "`tests/test_install.py`, which the recipe brings along: it is not approved; `wiki \
                         tests/test_install.py {HASH}` in `list.txt` would let it run"
                    ),
                    format!(
                        "`tests/install_steps.sh`, which the recipe brings along: it is not approved; `wiki \
                         tests/install_steps.sh {HASH}` in `list.txt` would let it run"
                    ),
                ]
            );
        }
    }

    #[test]
    fn a_whole_recipe_is_approved_by_its_name() {
        let sorted = sort("other\nwiki # reviewed\n", HASH);
        assert_eq!((sorted.scripts.len(), sorted.approved.len(), sorted.ignored.len()), (1, 2, 0));
        assert_eq!(sorted.install_steps, Some(Code::RepoLocal { only: None }));
    }

    #[test]
    fn a_pinned_file_runs_as_it_was_and_sees_no_other() {
        let list = format!("wiki tests/test_install.py {HASH}\n");
        let sorted = sort(&list, HASH);
        let only = BTreeSet::from(["tests/test_install.py".to_owned()]);
        assert_eq!(sorted.scripts[0].code, Code::RepoLocal { only: Some(only) });
        assert_eq!((sorted.scripts.len(), sorted.install_steps.is_none(), sorted.ignored.len()), (1, true, 1));
        // One other byte is another hash.
        let changed = sort(&list, &HASH.replace("ce01", "ce02"));
        assert!(changed.scripts.is_empty());
        assert!(changed.ignored[0].contains("it has changed since it was approved"), "{changed:?}");
    }

    #[test]
    fn a_malformed_entry_is_refused_with_its_line() {
        let recipe: RecipeName = "wiki".parse().unwrap();
        for (list, expected) in [
            ("\nwiki x\n", "line 2: expected `<recipe>` or `<recipe> tests/<file> <blob hash>`"),
            (
                "wiki tests/a.sh ce0136\n",
                "line 1: `ce0136` is no whole blob hash: `git ls-tree HEAD tests/a.sh` shows it",
            ),
            (&format!("wiki ../a.sh {HASH}"), "line 1: `../a.sh` is no file right below `tests/`"),
        ] {
            assert_eq!(format!("{:#}", Approval::parse(list, &recipe).unwrap_err()), expected);
        }
        assert!(format!("{:#}", Approval::parse("../x\n", &recipe).unwrap_err()).starts_with("line 1: `../x` is not"));
    }
}
