//! The small languages inside compose values: durations, sizes, command lines, ports, mounts.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// A duration as Go writes it: `1m30s`, `1.5h`, `300ms`, `0`.
pub(super) fn duration(text: &str) -> Result<Duration> {
    let failed = || format!("`{}` is not a duration such as `1m30s`", text.escape_debug());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut nanos) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).with_context(failed)?;
        let number: f64 = rest[..end].parse().with_context(failed)?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => bail!(failed()),
        };
        nanos += number * unit;
        rest = &rest[end..];
    }
    // Go's durations end at about 292 years.
    if text.is_empty() || nanos > i64::MAX as f64 {
        bail!(failed());
    }
    Ok(Duration::from_nanos(nanos.round() as u64))
}

/// A size in bytes: `64m`, `1.5gb`, `512k`, `1048576`; a unit is a power of 1024.
pub(super) fn size(text: &str) -> Result<u64> {
    let failed = || format!("`{}` is not a size such as `64m`", text.escape_debug());
    let lower = text.trim().to_lowercase();
    let end = lower.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let number: f64 = number.parse().with_context(failed)?;
    let power = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => bail!(failed()),
    };
    Ok((number * 1024f64.powi(power)) as u64)
}

/// Splits a command line as docker does: quotes, backslashes (before any character) and comments, but no variables.
pub(super) fn words(line: &str) -> Result<Vec<String>> {
    let (mut words, mut word): (Vec<String>, Option<String>) = (Vec::new(), None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => {
                chars.by_ref().find(|c| *c == '\n');
            }
            '\\' => word.get_or_insert_default().push(chars.next().context("it ends with a backslash")?),
            '"' | '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().with_context(|| format!("a quote (`{c}`) is not closed"))? {
                        end if end == c => break,
                        '\\' if c == '"' => word.push(chars.next().context("it ends with a backslash")?),
                        inner => word.push(inner),
                    }
                }
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

/// A port in its short form, `[[address:]published:]target[/protocol]`, ranges included, as long forms.
pub(super) fn ports(spec: &str) -> Result<Vec<Value>> {
    let failed = || format!("`{}` is not a port such as `8080:80/tcp`", spec.escape_debug());
    let (numbers, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        bail!(failed());
    }
    // An address may hold colons itself, so the parts are taken from the end.
    let mut parts = numbers.rsplitn(3, ':');
    let targets = range(parts.next().unwrap_or_default()).with_context(failed)?;
    let published = parts.next().filter(|part| !part.is_empty()).map(range).transpose().with_context(failed)?;
    let Some(published) = published else {
        return Ok(targets.map(|target| json!({"mode": "ingress", "target": target, "protocol": protocol})).collect());
    };
    if published.len() != targets.len() {
        bail!("`{}` publishes {} ports for {}", spec.escape_debug(), published.len(), targets.len());
    }
    let long = |(target, published)| json!({"mode": "ingress", "target": target, "published": published, "protocol": protocol});
    Ok(targets.zip(published).map(long).collect())
}

fn range(text: &str) -> Result<std::ops::RangeInclusive<u16>> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let (start, end): (u16, u16) = (start.parse()?, end.parse()?);
    if start == 0 || end < start {
        bail!("not a range of ports");
    }
    Ok(start..=end)
}

/// A mount in its short form, `[source:]target[:options]`, as its long form.
pub(super) fn mount(spec: &str) -> Result<Value> {
    let parts: Vec<&str> = spec.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        bail!("`{}` has an empty part", spec.escape_debug());
    }
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => bail!("`{}` has too many colons", spec.escape_debug()),
    };
    let bind = source.is_some_and(|source| source.starts_with(['.', '/', '~']));
    let mut mount = json!({"type": if bind { "bind" } else { "volume" }, "target": target});
    if let Some(source) = source {
        mount["source"] = source.into();
    }
    for option in options.split(',') {
        match option {
            "ro" => mount["read_only"] = true.into(),
            "rw" => mount["read_only"] = false.into(),
            "nocopy" => mount["volume"] = json!({"nocopy": true}),
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => {
                mount["bind"] = json!({"propagation": option})
            }
            // Docker ignores options that it does not know, such as `z`.
            _ => {}
        }
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_gos() {
        let check =
            |text: &str, millis: u64| assert_eq!(duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        check("1m30s", 90_000);
        check("1.5h", 5_400_000);
        check("300ms", 300);
        check("0", 0);
        check("0s", 0);
        check("2h45m.5s", 9_900_500);
        for text in ["", "10", "s", "1x", "-1s", "1m 30s", "1d", "1..5s", ".", "9999999999h"] {
            let error = duration(text).unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` is not a duration such as `1m30s`"));
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let check = |text: &str, bytes: u64| assert_eq!(size(text).unwrap(), bytes, "{text}");
        check("64m", 64 << 20);
        check("1gb", 1 << 30);
        check("1.5GiB", 3 << 29);
        check("512k", 512 << 10);
        check("1048576", 1 << 20);
        check("10 b", 10);
        for text in ["", "m", "1x", "-1m", "1.2.3m"] {
            assert_eq!(size(text).unwrap_err().to_string(), format!("`{text}` is not a size such as `64m`"));
        }
    }

    #[test]
    fn command_lines_are_split_as_docker_does() {
        let check = |line: &str, expected: &[&str]| assert_eq!(words(line).unwrap(), expected, "{line}");
        check("a b\t c\n", &["a", "b", "c"]);
        check("sh -c \"echo 'x y' \\\"z\\\"\"", &["sh", "-c", "echo 'x y' \"z\""]);
        check("'a \\b' c\\ d \"\" ''", &["a \\b", "c d", "", ""]);
        check("\"a\\nb\"", &["anb"]);
        check("a # comment\nb c#d", &["a", "b", "c#d"]);
        check("a\"b\"'c'", &["abc"]);
        check("", &[]);
        assert_eq!(words("a 'b").unwrap_err().to_string(), "a quote (`'`) is not closed");
        assert_eq!(words("a \\").unwrap_err().to_string(), "it ends with a backslash");
    }

    #[test]
    fn ports_have_short_forms() {
        let long = |target: u16, published: u16| json!({"mode": "ingress", "target": target, "published": published, "protocol": "tcp"});
        assert_eq!(ports("80").unwrap(), [json!({"mode": "ingress", "target": 80, "protocol": "tcp"})]);
        assert_eq!(ports("8080:80").unwrap(), [long(80, 8080)]);
        assert_eq!(ports("127.0.0.1:8080:80").unwrap(), [long(80, 8080)]);
        assert_eq!(ports("[::1]:8080:80").unwrap(), [long(80, 8080)]);
        assert_eq!(ports("3000-3001:4000-4001").unwrap(), [long(4000, 3000), long(4001, 3001)]);
        assert_eq!(ports("53:53/UDP").unwrap()[0]["protocol"], "udp");
        for spec in ["", "a", "0", "70000", "80/icmp", "9-8", "1:2:3:x"] {
            assert!(ports(spec).unwrap_err().to_string().contains("is not a port such as"), "{spec}");
        }
        assert_eq!(ports("8000-8001:80").unwrap_err().to_string(), "`8000-8001:80` publishes 2 ports for 1");
    }

    #[test]
    fn mounts_have_short_forms() {
        assert_eq!(mount("/data").unwrap(), json!({"type": "volume", "target": "/data"}));
        assert_eq!(mount("v:/data").unwrap(), json!({"type": "volume", "target": "/data", "source": "v"}));
        let expected = json!({"type": "bind", "target": "/d", "source": "./x", "read_only": true});
        assert_eq!(mount("./x:/d:ro").unwrap(), expected);
        assert_eq!(mount("/etc/timezone:/etc/timezone:ro,z").unwrap()["type"], "bind");
        assert_eq!(mount("v:/d:nocopy").unwrap()["volume"], json!({"nocopy": true}));
        assert_eq!(mount("v:/d:rslave").unwrap()["bind"], json!({"propagation": "rslave"}));
        assert_eq!(mount("v:").unwrap_err().to_string(), "`v:` has an empty part");
        assert_eq!(mount("a:/b:c:d").unwrap_err().to_string(), "`a:/b:c:d` has too many colons");
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "\\PC{0,20}") {
            let _ = (duration(&text), size(&text), words(&text), ports(&text), mount(&text));
        }

        #[test]
        fn quoted_words_come_back(list in proptest::collection::vec("[^']{0,8}", 0..4)) {
            let line = list.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words(&line).unwrap(), list);
        }
    }
}
