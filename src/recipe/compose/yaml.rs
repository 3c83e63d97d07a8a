//! YAML as docker's compose loader reads it: anchors and `<<`, YAML 1.1 octal numbers, but `yes` and `on` as text.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

/// A compose file is a few KiB; a larger one is a mistake or an attack.
const MAX_BYTES: usize = 1 << 20;

/// Reads one compose file.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>> {
    if text.len() > MAX_BYTES {
        bail!("it has {} bytes: at most {MAX_BYTES} are read", text.len());
    }
    let options = serde_saphyr::options! {
        strict_booleans: true,
        legacy_octal_numbers: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_nodes: 50_000,
            max_events: 200_000,
            max_aliases: 2_000,
            max_merge_keys: 1_000,
            max_documents: 1,
            max_total_scalar_bytes: 4 * MAX_BYTES,
            max_recorded_anchor_bytes: 4 * MAX_BYTES,
        },
    };
    let value: Value = serde_saphyr::from_str_with_options(text, options).context("not valid YAML")?;
    let Value::Object(map) = value else { bail!("expected a mapping at the top, seen {}", super::at::kind(&value)) };
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(text: &str, expected: Value) {
        assert_eq!(Value::Object(parse(text).unwrap()), expected, "{text}");
    }

    fn error(text: &str) -> String {
        format!("{:#}", parse(text).unwrap_err())
    }

    #[test]
    fn scalars_are_typed_as_docker_types_them() {
        check(
            "a: true\nb: yes\nc: on\nd: ~\ne: null\nf:\n",
            json!({"a": true, "b": "yes", "c": "on", "d": null, "e": null, "f": null}),
        );
        check("a: 0440\nb: 0o440\nc: 0x10\nd: 010\n", json!({"a": 288, "b": 288, "c": 16, "d": 8}));
        check("a: 1.10\nb: '1.10'\nc: 3\nd: 1e3\n", json!({"a": 1.1, "b": "1.10", "c": 3, "d": 1000.0}));
        check("a: 3.8\nb: 1:30\nc: 8080:80\n", json!({"a": 3.8, "b": "1:30", "c": "8080:80"}));
        check("a: |\n  two\n  lines\nb: >-\n  one\n  line\n", json!({"a": "two\nlines\n", "b": "one line"}));
    }

    #[test]
    fn anchors_and_merges_work() {
        let text = "a: &a {p: 1, q: 2}\nb: &b {q: 3, r: 4}\ns:\n  <<: [*a, *b]\n  r: 5\nt: *a\n";
        let (a, b) = (json!({"p": 1, "q": 2}), json!({"q": 3, "r": 4}));
        check(text, json!({"a": a, "b": b, "s": {"p": 1, "q": 2, "r": 5}, "t": a}));
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        assert!(error("- a\n").contains("expected a mapping at the top, seen a list"), "{}", error("- a\n"));
        assert!(error("a: 1\na: 2\n").contains("duplicate"), "{}", error("a: 1\na: 2\n"));
        assert!(error("a: [\n").starts_with("not valid YAML: "), "{}", error("a: [\n"));
        assert!(error("a: *none\n").starts_with("not valid YAML: "));
        assert!(error(&"#".repeat(MAX_BYTES + 1)).contains("at most 1048576 are read"));
        assert!(parse("").is_err());
    }

    #[test]
    fn bombs_are_refused_quickly() {
        let start = std::time::Instant::now();
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for n in 1..10 {
            let inner = vec![format!("*a{}", n - 1); 10].join(",");
            bomb += &format!("a{n}: &a{n} [{inner}]\n");
        }
        assert!(error(&bomb).starts_with("not valid YAML: "));
        assert!(error(&format!("a: {}", "[".repeat(5_000))).starts_with("not valid YAML: "));
        let nested: String = (0..5_000).map(|n| format!("{}a:\n", " ".repeat(n % 60))).collect();
        let _ = parse(&nested);
        assert!(start.elapsed().as_secs() < 5);
    }
}
