//! Which files of a folder are tests, hooks or install steps, by their names.

use super::{Code, INSTALL_STEPS, Role, Script};
use crate::recipe::tree::{Entry, Tree};
use crate::tier::Tier;

/// A file that may be one, as it stands in its folder.
pub struct File<'a> {
    pub name: &'a str,
    pub bytes: &'a [u8],
    pub executable: bool,
}

/// The files right below a recipe's `tests/`. Links are no files: they are never followed.
pub fn in_tests(tree: &Tree) -> Vec<File<'_>> {
    let files = tree.files.iter().filter_map(|(path, entry)| match entry {
        Entry::File { bytes, executable } => {
            let name = path.strip_prefix("tests/").filter(|name| !name.contains('/'))?;
            Some(File { name, bytes, executable: *executable })
        }
        Entry::Symlink { .. } => None,
    });
    files.collect()
}

/// Whether a file is code that the harness would run.
pub fn is_code(name: &str) -> bool {
    name == INSTALL_STEPS || role_and_tier(name).is_some()
}

/// The tests and hooks among the files.
pub fn scripts(files: &[File<'_>], code: &Code) -> Vec<Script> {
    let script = |file: &File<'_>| {
        let (is_hook, tier) = role_and_tier(file.name)?;
        let role = match is_hook {
            true => Role::Before,
            false if file.name.ends_with(".py") => Role::Functions(functions(&String::from_utf8_lossy(file.bytes))),
            false => Role::Test,
        };
        Some(Script { code: code.clone(), file: file.name.to_owned(), tier, role, executable: file.executable })
    };
    files.iter().filter_map(script).collect()
}

/// `before_<tier>*` and `test_<tier>*`; a test without a tier belongs to the custom one.
fn role_and_tier(name: &str) -> Option<(bool, Tier)> {
    let stem = name.strip_suffix(".py").or_else(|| name.strip_suffix(".sh"))?;
    // The name becomes part of a trial's and of a command line.
    if !stem.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return None;
    }
    let tier = |rest: &str| Tier::ALL.into_iter().find(|tier| rest.starts_with(tier.name()));
    match (stem.strip_prefix("before_"), stem.strip_prefix("test_")) {
        (Some(rest), _) => Some((true, tier(rest)?)),
        (_, Some(rest)) => Some((false, tier(rest).unwrap_or(Tier::Custom))),
        _ => None,
    }
}

/// The test functions of a Python file, as pytest finds them by default. They are read and not asked for: asking would
/// run the file, and what a run will show has to be known before anything runs.
fn functions(text: &str) -> Vec<String> {
    let (mut functions, mut class): (Vec<String>, Option<String>) = (Vec::new(), None);
    for line in text.lines() {
        let indented = line.starts_with([' ', '\t']);
        let word = line.trim_start();
        if !indented && !word.is_empty() && !word.starts_with('#') {
            class = None;
        }
        if let (false, Some(rest)) = (indented, word.strip_prefix("class Test")) {
            class = Some(format!("Test{}", identifier(rest)));
        }
        let Some(rest) = word.strip_prefix("async def ").or_else(|| word.strip_prefix("def ")) else { continue };
        let name = identifier(rest);
        let name = match (indented, &class) {
            (true, None) => continue,
            (true, Some(class)) => name.starts_with("test").then(|| format!("{class}::{name}")),
            (false, _) => name.starts_with("test").then_some(name),
        };
        functions.extend(name.filter(|name| !functions.contains(name)).into_iter().collect::<Vec<_>>());
    }
    functions
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_role_and_tier() {
        for (name, expected) in [
            ("test_install.sh", Some((false, Tier::Install))),
            ("test_upgrade_data.py", Some((false, Tier::Upgrade))),
            ("test_mail.py", Some((false, Tier::Custom))),
            ("before_restore.sh", Some((true, Tier::Restore))),
            ("before_dinner.sh", None),
            ("test_install", None),
            ("conftest.py", None),
            ("test_a b.sh", None),
            ("test_--x;y.sh", None),
            ("install_steps.sh", None),
        ] {
            assert_eq!(role_and_tier(name), expected, "{name}");
        }
        assert!(is_code("install_steps.sh") && !is_code("conftest.py"));
    }

    #[test]
    fn functions_are_read_as_pytest_collects_them() {
        let text = "import x\n\ndef helper():\n    def test_inner(): pass\n\ndef test_a(app):\n    pass\n\n@mark\nasync def \
                    test_b():\n    pass\n\nclass TestMail:\n    x = 1\n\n    def test_c(self):\n        def test_deep(): \
                    pass\n    def other(self): pass\n\nclass Other:\n    def test_d(self): pass\n# def test_e():\ndef \
                    test_a(): pass\n";
        assert_eq!(functions(text), ["test_a", "test_b", "TestMail::test_c", "TestMail::test_deep"]);
    }

    #[test]
    fn only_regular_files_right_below_tests_are_looked_at() {
        let file = || Entry::File { bytes: Vec::new(), executable: true };
        let mut tree = Tree::default();
        for path in ["tests/test_a.sh", "tests/deep/test_b.sh", "test_c.sh"] {
            tree.files.insert(path.into(), file());
        }
        tree.files.insert("tests/test_d.sh".into(), Entry::Symlink { target: "/bin/true".into() });
        let files = in_tests(&tree);
        let names: Vec<&str> = files.iter().map(|file| file.name).collect();
        assert_eq!(names, ["test_a.sh"]);
    }
}
