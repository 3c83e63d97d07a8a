//! Which files of a folder are tests, hooks or install steps, by their names.

use super::{Code, INSTALL_STEPS, Overlooked, Role, Script, odd};
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

/// A trial that says why a file runs nothing.
pub fn odd_script(code: &Code, file: &str, tier: Tier, why: String) -> Script {
    Script {
        code: code.clone(),
        file: file.to_owned(),
        tier,
        role: Role::Odd(why),
        executable: false,
        overlooked: Vec::new(),
    }
}

/// Whether a file is code that the harness would run.
pub fn is_code(name: &str) -> bool {
    name == INSTALL_STEPS || role_and_tier(name).is_some()
}

/// The tests and hooks among the files.
pub fn scripts(files: &[File<'_>], code: &Code) -> Vec<Script> {
    let script = |file: &File<'_>| {
        if let (Code::Overlay { .. }, Some((tier, why))) = (code, odd::why(file.name)) {
            return Some(odd_script(code, file.name, tier, why));
        }
        let (is_hook, tier) = role_and_tier(file.name)?;
        let text = String::from_utf8_lossy(file.bytes);
        let (role, overlooked) = match is_hook {
            true => (Role::Before, Vec::new()),
            false if file.name.ends_with(".py") => (Role::Functions(functions(&text)), overlooked(&text)),
            false => (Role::Test, Vec::new()),
        };
        let (code, file, executable) = (code.clone(), file.name.to_owned(), file.executable);
        Some(Script { code, file, tier, role, executable, overlooked })
    };
    let mut scripts: Vec<Script> = files.iter().filter_map(script).collect();
    if let Code::Overlay { .. } = code {
        let odd: Vec<Script> = scripts.iter().filter_map(without_functions).collect();
        scripts.extend(odd);
    }
    scripts
}

/// A Python file of which nothing runs.
fn without_functions(script: &Script) -> Option<Script> {
    let Role::Functions(found) = &script.role else { return None };
    let why = "it has no function whose name begins with `test`, so nothing runs";
    let is_odd = found.is_empty() && script.overlooked.is_empty();
    is_odd.then(|| odd_script(&script.code, &script.file, script.tier, why.into()))
}

/// The files of Rust, for a program that has none of them compiled in: a trial each, so that nobody takes them for run.
pub fn not_compiled(files: &[File<'_>], code: &Code) -> Vec<Script> {
    let script = |file: &File<'_>| {
        let stem = file.name.strip_suffix(".rs")?;
        let tier = stem.parse().unwrap_or(Tier::Custom);
        let (code, file, role) = (code.clone(), file.name.to_owned(), Role::NotCompiled);
        Some(Script { code, file, tier, role, executable: false, overlooked: Vec::new() })
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

/// The tests that pytest may find in a Python file beside its functions: those in an `if` or another block, and names that
/// are given a function when the file is imported. Which of them are there, only running the file would show.
fn overlooked(text: &str) -> Vec<Overlooked> {
    const BLOCKS: [&str; 11] =
        ["if", "elif", "else", "for", "while", "with", "try", "except", "finally", "match", "async"];
    let (mut found, mut block): (Vec<Overlooked>, Option<&str>) = (Vec::new(), None);
    // What is indented more than a definition is inside of it.
    let mut inside = usize::MAX;
    for (at, line) in text.lines().enumerate() {
        let (indented, word) = (line.starts_with([' ', '\t']), line.trim_start());
        let first = word.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        if !indented && !word.is_empty() && !word.starts_with('#') {
            inside = usize::MAX;
            block = BLOCKS.into_iter().find(|block| *block == first && !word.starts_with("async def"));
        }
        let indent = line.len() - word.len();
        if indent > inside && !word.is_empty() {
            continue;
        }
        let definition = ["async def ", "def ", "class "].iter().find_map(|start| word.strip_prefix(start));
        if indented && definition.is_some() {
            inside = indent;
        }
        let (name, how) = match (definition.map(identifier), block) {
            (Some(name), Some(block)) if indented => (name, format!("stands in a block (`{block}`)")),
            (None, _) if is_given(word, first) && (!indented || block.is_some()) => {
                (first.to_owned(), "is given its value".into())
            }
            _ => continue,
        };
        let is_test = name.starts_with("test") || (definition.is_some() && name.starts_with("Test"));
        if is_test && !found.iter().any(|it| it.name == name) {
            found.push(Overlooked { name, why: format!("it {how} in line {}, and {READ}", at + 1) });
        }
    }
    let known = functions(text);
    found.retain(|it| !known.contains(&it.name));
    found
}

const READ: &str = "tests are read from the text, which shows only `def` and `class` at the left margin: put it there, with \
                    `@pytest.mark.skipif` for a condition, or give it another name if it is no test";

/// Whether a line gives a name what a call or a `lambda` makes; a plain value is no test.
fn is_given(word: &str, name: &str) -> bool {
    let value = word.strip_prefix(name).and_then(|rest| rest.trim_start().strip_prefix('=')).map(str::trim_start);
    let is_call = |value: &str| {
        let end = value.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.').unwrap_or(value.len());
        end > 0 && !value.starts_with(|c: char| c.is_ascii_digit()) && value[end..].trim_start().starts_with('(')
    };
    value.is_some_and(|value| value.starts_with("lambda") || is_call(value))
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
    fn tests_that_only_an_import_would_show_are_told() {
        let text = "import os\n\nif os.environ.get('X'):\n    def test_a(): pass\n    class TestB:\n        def test_c(self): \
                    pass\nelse:\n    test_d = make()\n\ndef test_e():\n    test_x = 1\n    def test_inner(): pass\n\ntest_f = \
                    make()\ntest_e == 1\ntest_g = 7\ntest_h = [1]\nwith x:\n    def helper(): pass\n";
        let found: Vec<(String, String)> = overlooked(text).into_iter().map(|it| (it.name, it.why)).collect();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["test_a", "TestB", "test_d", "test_f"]);
        assert_eq!(found[0].1, format!("it stands in a block (`if`) in line 4, and {READ}"));
        assert!(found[3].1.starts_with("it is given its value in line 14, "), "{}", found[3].1);
        assert_eq!(functions(text), ["test_e"]);
    }

    #[test]
    fn a_python_file_of_which_nothing_runs_says_so() {
        let code = Code::Overlay { folder: "/overlays/wiki".into(), module: "wiki".into() };
        let odd = |text: &str| {
            let file = File { name: "test_upgrade.py", bytes: text.as_bytes(), executable: false };
            let found = scripts(&[file], &code);
            found.into_iter().find_map(|it| if let Role::Odd(why) = it.role { Some(why) } else { None })
        };
        assert_eq!(odd("def test_a(): pass\n"), None);
        assert_eq!(
            odd("def check(): pass\n").unwrap(),
            "it has no function whose name begins with `test`, so nothing runs"
        );
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
