//! What a YAML scalar means to docker's loader (Go's yaml.v3): YAML 1.1 octal numbers, digits grouped by `_`, dates, but
//! `yes` and `on` as text.

use anyhow::{Result, bail};
use serde_json::{Value, json};

/// A date is no text to docker until it stands among variables or labels, where it is printed with a time: it is kept
/// apart, in a mapping with this key.
const DATE: &str = "\0date";

/// The value of a scalar; `tag` is the name of one of YAML's own tags, or empty for another tag, which makes it text.
pub(super) fn scalar(text: &str, plain: bool, tag: Option<&str>) -> Result<Value> {
    match tag {
        Some("str" | "") => Ok(text.into()),
        None if !plain => Ok(text.into()),
        None => resolve(text),
        Some(tag) => {
            let value = resolve(text)?;
            let fits = match tag {
                "null" => value.is_null(),
                "bool" => value.is_boolean(),
                "int" => value.is_number() && !value.is_f64(),
                "float" => value.is_number(),
                _ => bail!("the tag `!!{}` has no place in a compose file", tag.escape_debug()),
            };
            if !fits {
                bail!("`{}` is no `!!{tag}`", text.escape_debug());
            }
            Ok(if tag == "float" { value.as_f64().into() } else { value })
        }
    }
}

/// The text that docker makes of a date among variables, labels and options.
pub(super) fn date(value: &Value) -> Option<&str> {
    value.get(DATE)?.as_str()
}

fn resolve(text: &str) -> Result<Value> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => match text.as_bytes()[0] {
            b'+' | b'-' | b'.' | b'0'..=b'9' => number(text)?,
            _ => text.into(),
        },
    })
}

/// A number, a date, or text that only begins like one.
fn number(text: &str) -> Result<Value> {
    let unsigned = text.trim_start_matches(['+', '-']);
    if unsigned.len() + 1 >= text.len() && [".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"].contains(&unsigned) {
        bail!("`{text}` is no number that compose knows");
    }
    if let Some(date) = calendar_date(text)? {
        return Ok(json!({DATE: format!("{date} 00:00:00 +0000 UTC")}));
    }
    // Every `_` is taken out, but only those between digits where a number begins with its point.
    let between = |at: usize| [at.wrapping_sub(1), at + 1].map(|at| text.as_bytes().get(at)).map(is_digit) == [true; 2];
    if text.starts_with('.') && text.match_indices('_').any(|(at, _)| !between(at)) {
        return Ok(text.into());
    }
    let digits = text.replace('_', "");
    Ok(integer(&digits).or_else(|| float(&digits)).unwrap_or_else(|| text.into()))
}

fn is_digit(byte: Option<&u8>) -> bool {
    byte.is_some_and(u8::is_ascii_digit)
}

/// `0x`, `0o` and `0b` give the base; a leading zero alone means octal.
fn integer(digits: &str) -> Option<Value> {
    let (negative, magnitude) = match digits.as_bytes() {
        [b'-', ..] => (true, &digits[1..]),
        [b'+', ..] => (false, &digits[1..]),
        _ => (false, digits),
    };
    let prefixed = |prefixes: [&str; 2]| prefixes.into_iter().find_map(|prefix| magnitude.strip_prefix(prefix));
    let (base, rest) = if let Some(rest) = prefixed(["0x", "0X"]) {
        (16, rest)
    } else if let Some(rest) = prefixed(["0o", "0O"]) {
        (8, rest)
    } else if let Some(rest) = prefixed(["0b", "0B"]) {
        (2, rest)
    } else if magnitude.len() > 1 && magnitude.starts_with('0') {
        (8, &magnitude[1..])
    } else {
        (10, magnitude)
    };
    if rest.starts_with(['+', '-']) {
        return None;
    }
    let value = u64::from_str_radix(rest, base).ok()?;
    match negative {
        true => 0i64.checked_sub_unsigned(value).map(Value::from),
        false if digits.starts_with('+') => i64::try_from(value).ok().map(Value::from),
        false => Some(value.into()),
    }
}

/// A decimal fraction with at least one digit, and maybe an exponent.
fn float(digits: &str) -> Option<Value> {
    let known = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
    let value: f64 = digits.parse().ok().filter(|_| digits.chars().all(known))?;
    value.is_finite().then(|| value.into())
}

/// `2024-1-2` as `2024-01-02`. A date with a time of day is an error: what docker makes of it depends on the machine.
fn calendar_date(text: &str) -> Result<Option<String>> {
    let mut parts = text.splitn(3, '-');
    let (Some(year), Some(month), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { return Ok(None) };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (day, time) = rest.split_at(end);
    let number = |text: &str, most: usize| {
        let digits = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten()
    };
    let (Some(y), Some(m), Some(d)) = (number(year, 4).filter(|_| year.len() == 4), number(month, 2), number(day, 2))
    else {
        return Ok(None);
    };
    let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    let days = match m {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    if d == 0 || d > days {
        return Ok(None);
    }
    match time.as_bytes() {
        [] => Ok(Some(format!("{y:04}-{m:02}-{d:02}"))),
        [b't' | b'T' | b' ', b'0'..=b'9', rest @ ..] if rest.contains(&b':') => {
            bail!("`{}` is a point in time: put it in quotes", text.escape_debug())
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Value) {
        assert_eq!(scalar(text, true, None).unwrap(), expected, "{text}");
    }

    #[test]
    fn numbers_are_gos() {
        for (text, expected) in [("0440", 288), ("0o440", 288), ("0x10", 16), ("010", 8), ("0b11", 3), ("-5", -5)] {
            check(text, json!(expected));
        }
        check("+5", json!(5));
        check("1_000", json!(1000));
        check("-0x10", json!(-16));
        check("18446744073709551615", json!(u64::MAX));
        check("18446744073709551616", json!(18446744073709551616f64));
        for (text, expected) in
            [("1.10", 1.1), ("1e3", 1000.0), (".5", 0.5), (".5_0", 0.5), ("5.", 5.0), ("08", 8.0), ("1_0.5", 10.5)]
        {
            check(text, json!(expected));
        }
    }

    #[test]
    fn what_only_begins_like_a_number_is_text() {
        for text in ["1:30", "8080:80", "1.2.3", "0b12", "0x", "-", "+", ".", "..", "1e400", "._5", "0o8", "--5", "1-2"]
        {
            check(text, json!(text));
        }
        for text in ["yes", "on", "No", "nUll", "tRue", "nan", "inf", "infinity", "é"] {
            check(text, json!(text));
        }
    }

    #[test]
    fn a_date_is_printed_with_a_time() {
        assert_eq!(date(&scalar("2024-2-29", true, None).unwrap()), Some("2024-02-29 00:00:00 +0000 UTC"));
        assert_eq!(date(&scalar("2024-02-29", false, None).unwrap()), None);
        for text in ["2023-02-29", "2024-13-01", "2024-1", "24-01-01", "2024-01-01x", "2024-01-011", "2024-01-00"] {
            check(text, json!(text));
        }
        let error = scalar("2024-01-01 10:00:00", true, None).unwrap_err().to_string();
        assert_eq!(error, "`2024-01-01 10:00:00` is a point in time: put it in quotes");
    }

    #[test]
    fn tags_decide() {
        let tagged = |text: &str, tag: &str| scalar(text, false, Some(tag)).map_err(|error| error.to_string());
        assert_eq!(tagged("5", "str"), Ok(json!("5")));
        assert_eq!(tagged("5", ""), Ok(json!("5")));
        assert_eq!(tagged("5", "int"), Ok(json!(5)));
        assert_eq!(tagged("5", "float"), Ok(json!(5.0)));
        assert_eq!(tagged("", "null"), Ok(Value::Null));
        assert_eq!(tagged("x", "int"), Err("`x` is no `!!int`".into()));
        assert_eq!(tagged("eA==", "binary"), Err("the tag `!!binary` has no place in a compose file".into()));
    }
}
