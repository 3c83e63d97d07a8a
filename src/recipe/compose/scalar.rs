//! The small languages inside compose values: durations, sizes, command lines, ports, mounts.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// A duration in nanoseconds, as Go reads it: `1m30s`, `1.5h`, `300ms`, `0`.
pub(super) fn nanoseconds(text: &str) -> Result<i64> {
    let failed = || format!("`{}` is not a duration such as `1m30s`", text.escape_debug());
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        bail!(failed());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let (number, tail) =
            rest.split_at(rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).with_context(failed)?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len()));
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit).with_context(failed)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if !number.contains(|c: char| c.is_ascii_digit()) || fraction.contains('.') {
            bail!(failed());
        }
        // Go's durations end at about 292 years.
        let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().with_context(failed)? };
        let scale = 10f64.powi(i32::try_from(fraction.len()).with_context(failed)?);
        let part = format!("0{fraction}").parse::<f64>().with_context(failed)? * (*unit as f64 / scale);
        let sum = whole.checked_mul(*unit).and_then(|whole| total.checked_add(whole)?.checked_add(part as i64));
        total = sum.with_context(failed)?;
        rest = tail;
    }
    if total > 0 && text.starts_with('-') {
        bail!("`{}` is a negative time", text.escape_debug());
    }
    Ok(total)
}

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A duration as [`nanoseconds`] reads it.
pub(in crate::recipe) fn duration(text: &str) -> Result<Duration> {
    nanoseconds(text).map(|nanos| Duration::from_nanos(nanos.unsigned_abs()))
}

/// A duration as Go prints it: `1h0m0s`, `1m30s`, `1.5s`, `300ms`, `0s`.
pub(super) fn duration_text(nanos: i64) -> String {
    let fraction = |unit: i64| (nanos as f64 / unit as f64).to_string();
    let (hours, minutes, nanos_of_minute) =
        (nanos / 3_600_000_000_000, nanos / 60_000_000_000 % 60, nanos % 60_000_000_000);
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(1_000_000)),
        _ => {
            let seconds = format!("{}.{:09}", nanos_of_minute / 1_000_000_000, nanos_of_minute % 1_000_000_000);
            let seconds = seconds.trim_end_matches('0').trim_end_matches('.');
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, _) => format!("{minutes}m{seconds}s"),
                _ => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// A size in bytes: `64m`, `1.5gb`, `512k`, `1048576`, `10 b`; a unit is a power of 1024.
pub(in crate::recipe) fn size(text: &str) -> Result<u64> {
    let failed = || format!("`{}` is not a size such as `64m`", text.escape_debug());
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').with_context(failed)?;
    let (number, unit) = text.split_at(if text[end..].starts_with(' ') { end } else { end + 1 });
    let number: f64 = number.parse().with_context(failed)?;
    let power = match unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => bail!(failed()),
    };
    let bytes = number * 1024f64.powi(power);
    if number.is_sign_negative() {
        bail!(failed());
    }
    if bytes > i64::MAX as f64 {
        bail!("`{}` is out of range", text.escape_debug());
    }
    Ok(bytes as u64)
}

/// A fraction as Go prints it: with an exponent from a million on, and below a ten-thousandth.
pub(super) fn float_text(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(power) if value != 0.0 && !(-4..6).contains(&power) => {
            format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
        }
        _ => value.to_string(),
    }
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

/// A few bytes can name all ports there are, many times over. No recipe has so many.
pub(super) const MOST_PORTS: usize = 500;

/// A port in its short form, `[[address:]published:]target[/protocol]`, ranges included, as long forms in docker's
/// order: by the target as text, so that `10` stands before `9`.
pub(super) fn ports(spec: &str) -> Result<Vec<Value>> {
    let failed = || format!("`{}` is not a port such as `8080:80/tcp`", spec.escape_debug());
    // An address may hold colons itself, so the parts are taken from the end.
    let mut parts = spec.rsplitn(3, ':');
    let mut target = parts.next().unwrap_or_default().split('/');
    let (targets, protocol) = (target.next().unwrap_or_default(), target.next().unwrap_or_default().to_lowercase());
    let protocol = if protocol.is_empty() { "tcp" } else { protocol.as_str() };
    let targets = range(targets).with_context(failed)?;
    let published = parts.next().filter(|part| !part.is_empty()).map(range).transpose().with_context(failed)?;
    let address = parts.next().unwrap_or_default();
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if !["tcp", "udp", "sctp"].contains(&protocol) || !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        bail!(failed());
    }
    if targets.len().max(published.as_ref().map_or(0, RangeInclusive::len)) > MOST_PORTS {
        bail!("`{}` names more than {MOST_PORTS} ports", spec.escape_debug());
    }
    let mut pairs: Vec<(u16, u16)> = match published {
        None => targets.map(|target| (target, 0)).collect(),
        Some(published) if published.len() == targets.len() => targets.zip(published).collect(),
        // One target is published under every port of the range.
        Some(published) if targets.len() == 1 => published.map(|published| (*targets.start(), published)).collect(),
        Some(published) => {
            bail!("`{}` publishes {} ports for {}", spec.escape_debug(), published.len(), targets.len())
        }
    };
    pairs.sort_by_key(|(target, _)| target.to_string());
    let long = |(target, published): (u16, u16)| {
        let mut port = json!({"mode": "ingress", "target": target, "protocol": protocol});
        if published > 0 {
            port["published"] = published.into();
        }
        port
    };
    Ok(pairs.into_iter().map(long).collect())
}

fn range(text: &str) -> Result<RangeInclusive<u16>> {
    let mut ends = text.split('-');
    let start: u16 = port_number(ends.next())?;
    let end = ends.next().map_or(Ok(start), |end| port_number(Some(end)))?;
    if end < start {
        bail!("not a range of ports");
    }
    Ok(start..=end)
}

fn port_number(text: Option<&str>) -> Result<u16> {
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())).context("not a number")?;
    Ok(text.parse()?)
}

/// A mount in its short form, `[source:]target[:options]`, as its long form. One letter before a colon is no name of a
/// volume to docker but a Windows drive.
pub(super) fn mount(spec: &str) -> Result<Value> {
    let mut parts: Vec<String> = Vec::new();
    let mut part = String::new();
    for c in spec.chars() {
        if c != ':' || spec.len() <= 2 || drive(&part) {
            part.push(c);
        } else {
            parts.push(std::mem::take(&mut part));
        }
    }
    parts.push(part);
    if parts.iter().any(String::is_empty) {
        bail!("`{}` has an empty part", spec.escape_debug());
    }
    let (source, target, options) = match &parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options.as_str()),
        _ => bail!("`{}` has too many colons", spec.escape_debug()),
    };
    let is_path = |source: &&String| {
        source.starts_with(['.', '/', '~']) || source.starts_with("\\\\") || source.chars().nth(1) == Some(':')
    };
    let mut mount = json!({"type": if source.is_some_and(|source| is_path(&source)) { "bind" } else { "volume" }, "target": target});
    if let Some(source) = source {
        mount["source"] = source.as_str().into();
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

fn drive(part: &str) -> bool {
    let mut chars = part.chars();
    chars.next().is_some_and(char::is_alphabetic) && chars.next().is_none()
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
        check("+5.s", 5000);
        check("-0s", 0);
        assert_eq!(duration("-1s").unwrap_err().to_string(), "`-1s` is a negative time");
        for text in ["", "10", "s", "1x", "--1s", "1m 30s", "1d", "1..5s", ".", ".s", "9999999999h"] {
            let error = duration(text).unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` is not a duration such as `1m30s`"));
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (text, expected) in [
            ("90s", "1m30s"),
            ("3600s", "1h0m0s"),
            ("1500ms", "1.5s"),
            ("0", "0s"),
            ("0.3s", "300ms"),
            ("1500ns", "1.5µs"),
            ("7ns", "7ns"),
            ("1h0.25s", "1h0m0.25s"),
        ] {
            assert_eq!(duration_text(nanoseconds(text).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn fractions_are_printed_as_go_prints_them() {
        let texts = [1.1, 1e6, 123456.5, 1234567.5, 1e-5, 0.0001, 0.0, -2.5e30].map(float_text);
        assert_eq!(texts, ["1.1", "1e+06", "123456.5", "1.2345675e+06", "1e-05", "0.0001", "0", "-2.5e+30"]);
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
        check("10 ", 10);
        check("1e3", 1000);
        for text in ["", "m", "1x", "-1m", "1.2.3m", " 10m", "10bb", "1 0"] {
            assert_eq!(size(text).unwrap_err().to_string(), format!("`{text}` is not a size such as `64m`"));
        }
        assert_eq!(size("9999999p").unwrap_err().to_string(), "`9999999p` is out of range");
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
        let targets = ports("9-10").unwrap().into_iter().map(|port| port["target"].clone());
        assert_eq!(targets.collect::<Vec<_>>(), [10, 9], "they are sorted as text");
        assert_eq!(ports("8000-8001:80").unwrap(), [long(80, 8000), long(80, 8001)]);
        assert_eq!(ports(":80").unwrap(), ports("80").unwrap());
        for spec in ["", "a", "+80", "70000", "80/icmp", "9-8", "1:2:3:x", "localhost:80:80"] {
            assert!(ports(spec).unwrap_err().to_string().contains("is not a port such as"), "{spec}");
        }
        let error = ports("8000-8002:80-81").unwrap_err().to_string();
        assert_eq!(error, "`8000-8002:80-81` publishes 3 ports for 2");
    }

    #[test]
    fn mounts_have_short_forms() {
        assert_eq!(mount("/data").unwrap(), json!({"type": "volume", "target": "/data"}));
        assert_eq!(mount("vv:/data").unwrap(), json!({"type": "volume", "target": "/data", "source": "vv"}));
        assert_eq!(mount("v:/data").unwrap(), json!({"type": "volume", "target": "v:/data"}), "a Windows drive");
        assert_eq!(mount("c:\\x:/data").unwrap(), json!({"type": "bind", "target": "/data", "source": "c:\\x"}));
        let expected = json!({"type": "bind", "target": "/d", "source": "./x", "read_only": true});
        assert_eq!(mount("./x:/d:ro").unwrap(), expected);
        assert_eq!(mount("/etc/timezone:/etc/timezone:ro,z").unwrap()["type"], "bind");
        assert_eq!(mount("vv:/d:nocopy").unwrap()["volume"], json!({"nocopy": true}));
        assert_eq!(mount("vv:/d:rslave").unwrap()["bind"], json!({"propagation": "rslave"}));
        assert_eq!(mount("vv:").unwrap_err().to_string(), "`vv:` has an empty part");
        assert_eq!(mount("aa:/b:cc:d").unwrap_err().to_string(), "`aa:/b:cc:d` has too many colons");
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
