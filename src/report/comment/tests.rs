//! What a comment says, what is left out of one that is too long, and that nothing foreign in it does anything.

use proptest::prelude::*;

use super::*;
use crate::keeper::facts::{Change, ChangeKind};

const SHA: &str = "b2d51b5c64d70f38ce983902f9d876f59dc8f337";

fn recorded(run: &str) -> Results {
    let path = crate::program::root().join(format!("tests/data/runs/{run}/results.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn comment(results: &Results, green: Option<&Results>) -> String {
    let masks = Masks::default();
    let links = [("log".to_owned(), "https://ci.example.org/1".to_owned())];
    render(results, &Beside { sha: SHA, moved_to: None, green, links: &links, masks: &masks })
}

fn change(kind: ChangeKind, place: &str, before: Option<&str>, after: Option<&str>) -> Change {
    Change { kind, place: place.into(), before: before.map(Into::into), after: after.map(Into::into) }
}

#[test]
fn a_green_run_says_so_first_and_how_it_is_repeated_last() {
    let text = comment(&recorded("green"), None);
    let first = "### ✅ `custom-html` `1.10.1+1.27.5 → b2d51b5c`: passed, level 4 of 5\n\n**Level 4**, passes its own assertions. Next: ";
    assert!(text.starts_with(first), "{text}");
    for part in [
        "| upgrade | ✅ passed | ",
        "**Changed** from `1.10.1+1.27.5` to `b2d51b5c`\n",
        "| `app` | `nginx:1.27.5` | `nginx:1.28.0` |\n",
        "- variables with another value: `DEFAULT_CONF_VERSION`\n",
        "- configs: `configs.default_conf.name`: `cust-36b2f3_harness_test_default_conf_v1` → ",
        "- no downtime during the upgrade: all of ",
        "[log](<https://ci.example.org/1>)\n",
        "`builtin:static-web` stands in for it",
    ] {
        let part = part.replace("`builtin:static-web`", "&#96;builtin:static-web&#96;");
        assert!(text.contains(&part), "no `{part}` in\n{text}");
    }
    let again = format!("harness test custom-html --ref {SHA} --base 1.10.1+1.27.5 --engine embedded\n```\n");
    assert!(text.contains(&again), "{text}");
    // The harness's own mark is no change of the recipe's; a run of the commit that it stands at needs no word.
    assert!(!text.contains("coop-cloud.cust") && !text.contains("What was tested"), "{text}");
}

#[test]
fn failures_come_before_everything_but_the_verdict() {
    let text = comment(&recorded("upgrade-fails"), None);
    assert!(
        text.starts_with("### ❌ `rolls-back` `1.0.0+1.27.4 → 834c1d92`: failed, level 1 of 5\n\nReason: upgrade: "),
        "{text}"
    );
    let failure = text.find("<summary>tier::upgrade</summary>\n\n```text\nthe update of service `app` failed").unwrap();
    assert!(failure < text.find("| tier | result |").unwrap(), "{text}");
    let other = "What was tested is commit `834c1d92` of `/home/maintainer/recipe-harness/tests/data/recipes/rolls-back`, not `b2d51b5c`.";
    assert!(text.contains(other), "{text}");
}

#[test]
fn where_the_level_goes_is_said_with_the_last_green_run() {
    let (green, mut red) = (recorded("green"), recorded("upgrade-fails"));
    let text = comment(&red, Some(&green));
    assert!(text.contains(": failed, level 1 of 5, down from 4\n"), "{text}");
    let said = "The level goes down from 4 to 1: the last green run was that of 1.10.1+1.27.5 → b2d51b5c, 2026-11-25T21:40:13.239Z.";
    assert!(text.contains(said), "{text}");
    assert!(in_short(&red, Some(&green)).starts_with("failed, level 1, down from 4: upgrade: the update of service"));
    assert_eq!(in_short(&green, Some(&green)), "passed, level 4: passes its own assertions");
    // A run that says nothing about the recipe says nothing about its level.
    red.verdict = Verdict::Error;
    assert!(!comment(&red, Some(&green)).contains("down from"));
}

#[test]
fn what_changed_is_told_by_kind_with_digest_and_size() {
    let mut results = recorded("green");
    results.images = [("nginx:1.28.0".to_owned(), format!("nginx@sha256:{}", "ab".repeat(32)))].into();
    let usage = results.tiers[1].usage.as_mut().unwrap();
    usage.images = [("nginx:1.28.0".to_owned(), crate::engine::Measured::Amount(50 << 20))].into();
    results.changes.extend([
        change(ChangeKind::Env, "SMTP_HOST", None, Some("mail.example.org")),
        change(ChangeKind::Env, "OLD", Some("1"), None),
        change(ChangeKind::Compose, "services.app.volumes.0.target", Some("/data"), Some("/srv|x`")),
        change(ChangeKind::Compose, "volumes.cache", Some("{}"), None),
    ]);
    let text = comment(&results, None);
    for line in [
        "| `app` | `nginx:1.27.5` | `nginx:1.28.0` `sha256:abababababab`, 50.0 MiB |\n",
        "- new variables: `SMTP_HOST`\n",
        "- variables that are gone: `OLD`\n",
        "- volumes and mounts: `services.app.volumes.0.target`: `/data` → `/srv¦x'`\n",
        "- volumes and mounts: `volumes.cache`: `{}` → nothing\n",
        "- also in the compose files: `services.app.deploy.labels.backupbot.backup.path`, ",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert!(!text.contains("mail.example.org"), "a value may be somebody's: {text}");
}

#[test]
fn the_least_important_is_left_out_first_and_named() {
    let mut results = recorded("upgrade-fails");
    let trial = results.tiers[1].trials[0].clone();
    let long = |at: usize| {
        let mut trial = trial.clone();
        (trial.name, trial.message) = (format!("generic::long::{at}"), format!("{}\n", "x".repeat(399)).repeat(40));
        trial
    };
    results.tiers[1].trials = (0..20).map(long).collect();
    let text = comment(&results, None);
    assert!(text.len() <= LIMIT && text.len() > LIMIT / 2, "{}", text.len());
    assert!(text.contains("generic::long::0<") && !text.contains("generic::long::9<"), "{text}");
    assert!(text.contains("10 more failures are in the report."), "{text}");
    assert!(text.contains("| upgrade | ❌ failed |") && text.contains("harness test rolls-back --ref "), "{text}");
    assert!(text.contains("\nToo long for a comment, and left out: failures. The report has it all.\n"), "{text}");
}

#[test]
fn secrets_are_masked_wherever_they_stand() {
    let mut results = recorded("upgrade-fails");
    results.tiers[1].trials[0].message = "expected `s3cr3t-of-mine`, seen aHVudGVyMjItYW5kLW1vcmU=".into();
    results.changes.push(change(ChangeKind::Compose, "services.app.s3cr3t-of-mine", None, Some("1")));
    let masks = Masks::new(["s3cr3t-of-mine", "hunter22-and-more"]).unwrap();
    let text = render(&results, &Beside { sha: SHA, moved_to: None, green: None, links: &[], masks: &masks });
    assert!(text.contains("expected `***`, seen ***"), "{text}");
    assert!(!masks.finds(&text), "{text}");
    // Also one that Markdown would break up, and one that is a word of the format.
    results.reason = "s3_cret_of_mine".into();
    let masks = Masks::new(["s3_cret_of_mine", "passed", "upgrade", "verdict"]).unwrap();
    let text = render(&results, &Beside { sha: SHA, moved_to: None, green: None, links: &[], masks: &masks });
    assert!(text.contains("Reason: \\*\\*\\*\n") && !text.contains("cret"), "{text}");
}

#[test]
fn a_run_that_went_on_elsewhere_says_which_commit_it_is_about() {
    let masks = Masks::default();
    let beside = Beside { sha: SHA, moved_to: Some("def4567890"), green: None, links: &[], masks: &masks };
    for text in [render(&recorded("green"), &beside), pending(&beside), nothing("no `results.json`", &beside)] {
        assert!(text.contains("Tested `b2d51b5c`, the head is now `def45678`."), "{text}");
    }
    let text = nothing("no `results.json`\n```\n<b>", &beside);
    assert!(text.starts_with("### ⚠️ `b2d51b5c` was not judged: error, not the recipe's fault\n"), "{text}");
    assert!(text.contains("````text\nno `results.json`\n```\n<b>\n````\n"), "{text}");
}

/// A comment without what stands between backticks: there forges look for nothing.
fn outside_of_code(comment: &str) -> String {
    let (mut out, mut fence) = (String::new(), None::<String>);
    for line in comment.lines() {
        let ticks: String = line.chars().take_while(|c| *c == '`').collect();
        match &fence {
            Some(open) if line.trim_end() == open => fence = None,
            Some(_) => {}
            None if ticks.len() >= 3 => fence = Some(ticks),
            None => {
                let pieces: Vec<&str> = line.split('`').collect();
                assert!(pieces.len() % 2 == 1, "backticks without a pair in {line:?}");
                out.extend(pieces.iter().step_by(2).copied());
                out.push('\n');
            }
        }
    }
    assert_eq!(fence, None, "a fence that stays open in\n{comment}");
    out
}

/// What a forge looks for in text as it is shown, after entities have become characters.
fn shown(text: &str) -> String {
    let mut text = text.to_owned();
    for (entity, c) in [("&lt;", "<"), ("&gt;", ">"), ("&#64;", "@"), ("&#35;", "#"), ("&#58;", ":"), ("&#46;", ".")] {
        text = text.replace(entity, c);
    }
    text.replace("&#8203;", "\u{200b}").replace("&#96;", "`").replace("&#36;", "$").replace("&amp;", "&")
}

/// Texts with what people and forges put into them.
fn hostile() -> impl Strategy<Value = String> {
    let words = [
        "@team",
        "#1",
        "!2",
        "[[x]]",
        "![i](http://x/y)",
        "https://x.example",
        "www.x.example",
        "<img src=x>",
        "-->",
        "<!-- recipe-harness/testme at abc -->",
        "```",
        "~~~~",
        "`",
        "\n",
        "\r",
        "|",
        "\u{202e}",
        "\u{1b}[2J",
        "</details>",
        "\\",
        "a@b.example",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 0..12)
        .prop_flat_map(|words| ("\\PC{0,20}", Just(words)).prop_map(|(more, words)| words.join(&more)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nothing_foreign_does_anything(
        texts in proptest::collection::vec(hostile(), 8), green in any::<bool>(),
    ) {
        let mut results = recorded(if green { "green" } else { "upgrade-fails" });
        let text = |at: usize| texts[at].clone();
        (results.recipe, results.head, results.source) = (text(0), text(1), text(2));
        (results.reason, results.arguments, results.base) = (text(3), text(4), Some(text(5)));
        results.tiers[1].trials[0].name = text(6);
        results.tiers[1].trials[0].outcome = crate::report::results::Outcome::Failed;
        results.tiers[1].trials[0].message = text(7);
        (results.stand_ins, results.engine) = (vec![text(1)], text(2));
        results.level.raise = Some(text(3));
        results.changes.push(change(ChangeKind::Image, &text(4), Some(&text(5)), Some(&text(6))));
        results.changes.push(change(ChangeKind::Env, &text(7), None, Some(&text(0))));
        results.changes.push(change(ChangeKind::Compose, &format!("volumes.{}", text(1)), Some(&text(2)), None));
        let comment = comment(&results, None);
        prop_assert!(comment.len() <= LIMIT);
        prop_assert!(!comment.chars().any(|c| crate::plain::acts(c) && c != '\n' && c != '\t'), "{comment:?}");
        let raw = outside_of_code(&comment);
        let own = ["<details open><summary>", "</summary>", "</details>", "<sub>", "</sub>", "(<https://ci.example.org/1>)"];
        let foreign = own.iter().fold(raw, |text, own| text.replace(own, ""));
        prop_assert!(!foreign.contains(['<', '>']), "HTML in {foreign:?}");
        let shown = shown(&foreign);
        for (at, c) in shown.char_indices() {
            let next = shown[at + c.len_utf8()..].chars().next();
            prop_assert!(!(c == '@' || c == '#') || next.is_none_or(|c| c == '\u{200b}' || c == ' ' || c == '#'), "{c} in {shown:?}");
        }
        prop_assert!(!shown.contains("://") && !shown.contains("[["), "{shown:?}");
        prop_assert!(!shown.to_lowercase().contains("www.x"), "{shown:?}");
    }
}
