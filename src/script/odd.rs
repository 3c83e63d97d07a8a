//! Files whose names promise a test or a hook, and which nothing runs: a mistake that nobody would see otherwise.

use crate::recipe::suggest::nearest;
use crate::tier::Tier;

/// The tier that such a file was probably meant for, and what to do; `None` of every other file.
pub fn why(name: &str) -> Option<(Tier, String)> {
    let lower = name.to_lowercase();
    let role = ["test_", "before_"].into_iter().find(|role| lower.starts_with(role))?;
    let (stem, suffix) = name.rsplit_once('.').unwrap_or((name, ""));
    let right_suffix = match suffix.to_lowercase().as_str() {
        "py" => "py",
        "sh" | "bash" | "" => "sh",
        // Data that tests read has other names; a link, an editor's copy and the like are told all the same.
        _ => return Some((tier_of(&stem.to_lowercase(), role).0, format!("{SUFFIXES}, and {}", shown(name)))),
    };
    let stem = stem.to_lowercase();
    let safe: String = stem.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let (tier, misspelt) = tier_of(&safe, role);
    let right = match (&misspelt, role) {
        (Some(word), _) => safe.replacen(word.as_str(), tier.name(), 1),
        (None, _) => safe.clone(),
    };
    let right = format!("{right}.{right_suffix}");
    if right == name && role == "before_" && safe[role.len()..].starts_with(Tier::Custom.name()) {
        return Some((tier, "the tier `custom` has no operation that a hook could run before".into()));
    }
    if right == name {
        // A hook has to name its tier, and nothing like one is there.
        let names_none = role == "before_" && !Tier::ALL.iter().any(|tier| safe[role.len()..].starts_with(tier.name()));
        let tiers = Tier::ALL.map(|tier| tier.name()).join(", ");
        return names_none
            .then(|| (tier, format!("a hook names its tier, as `before_upgrade.sh`: the tiers are {tiers}")));
    }
    let why = match misspelt {
        Some(word) => format!("`{word}` is no tier"),
        None if !stem.chars().all(is_plain) => "a name has letters, digits, `_` and `-` alone".into(),
        None if suffix != right_suffix => SUFFIXES.into(),
        None => "names are written in small letters".into(),
    };
    Some((tier, format!("{why}: did you mean `{right}`?")))
}

const SUFFIXES: &str = "only files that end in `.sh` or `.py` are run";

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// The tier that a name means, and the word that is written otherwise. A test without a tier belongs to the custom one.
fn tier_of(stem: &str, role: &str) -> (Tier, Option<String>) {
    let rest = stem.strip_prefix(role).unwrap_or_default();
    if let Some(tier) = Tier::ALL.into_iter().find(|tier| rest.starts_with(tier.name())) {
        return (tier, None);
    }
    let word = rest.split(['_', '-']).next().unwrap_or_default();
    let is_near = |tier: &Tier| strsim::osa_distance(word, tier.name()) <= 2 && word.len() > 3;
    let near = nearest(word, Tier::ALL.iter().filter(|tier| is_near(tier)).map(|tier| tier.name()), 1);
    match near.first().and_then(|name| name.parse().ok()) {
        Some(tier) => (tier, Some(word.to_owned())),
        None => (Tier::Custom, None),
    }
}

fn shown(name: &str) -> String {
    format!("`{}` is none: what tests read is better called otherwise", name.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_promises_and_is_not_taken_gets_the_right_one() {
        let unknown = |word: &str, right: &str| format!("`{word}` is no tier: did you mean `{right}`?");
        let suffix = |right: &str| format!("{SUFFIXES}: did you mean `{right}`?");
        let plain = |right: &str| format!("a name has letters, digits, `_` and `-` alone: did you mean `{right}`?");
        for (name, tier, expected) in [
            ("before_upgade.py", Tier::Upgrade, unknown("upgade", "before_upgrade.py")),
            ("test_upgade.sh", Tier::Upgrade, unknown("upgade", "test_upgrade.sh")),
            ("test_upgade_data.py", Tier::Upgrade, unknown("upgade", "test_upgrade_data.py")),
            ("before_restor.sh", Tier::Restore, unknown("restor", "before_restore.sh")),
            ("test_custom.bash", Tier::Custom, suffix("test_custom.sh")),
            ("test_custom_x.SH", Tier::Custom, suffix("test_custom_x.sh")),
            ("test_install", Tier::Install, suffix("test_install.sh")),
            ("test_custom_a b.sh", Tier::Custom, plain("test_custom_a_b.sh")),
            ("test_custom_grüße.sh", Tier::Custom, plain("test_custom_gr__e.sh")),
            (
                "Test_Install.sh",
                Tier::Install,
                "names are written in small letters: did you mean `test_install.sh`?".into(),
            ),
        ] {
            assert_eq!(why(name), Some((tier, expected)), "{name}");
        }
        let (tier, line) = why("before_dinner.sh").unwrap();
        assert_eq!(tier, Tier::Custom);
        assert!(line.starts_with("a hook names its tier, as `before_upgrade.sh`: the tiers are install, "), "{line}");
        let (_, line) = why("before_custom.sh").unwrap();
        assert_eq!(line, "the tier `custom` has no operation that a hook could run before");
        let (_, line) = why("test_page.html").unwrap();
        assert_eq!(
            line,
            format!("{SUFFIXES}, and `test_page.html` is none: what tests read is better called otherwise")
        );
    }

    #[test]
    fn what_is_taken_and_what_promises_nothing_is_not_odd() {
        for name in
            ["test_upgrade_data.py", "before_restore.sh", "test_mail.py", "conftest.py", "page.html", "upgrade.rs"]
        {
            assert_eq!(why(name), None, "{name}");
        }
    }
}
