//! An SVG badge with the level, for a recipe's README.

use super::results::{Results, Verdict};

/// Width of a character at the badge's size, on average; the text is fitted to it.
const CHARACTER: usize = 7;

/// The badge.
pub fn render(results: &Results) -> String {
    let label = "recipe level";
    let (value, colour) = match results.verdict {
        Verdict::Passed => {
            (format!("{}, {}", results.level.reached, results.level.meaning), colour(results.level.reached))
        }
        // No level is shown for what did not go well: an old badge would be believed.
        verdict => (verdict.words().to_owned(), "#b3261e"),
    };
    let (left, right) = (label.len() * CHARACTER + 12, value.chars().count() * CHARACTER + 12);
    let width = left + right;
    let title = escape(&format!("{} {}: {value}", results.recipe, results.versions()));
    let value = escape(&value);
    let fit = |width: usize| width - 12;
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{title}">
<title>{title}</title>
<clipPath id="r"><rect width="{width}" height="20" rx="3"/></clipPath>
<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#444"/><rect x="{left}" width="{right}" height="20" fill="{colour}"/></g>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="6" y="14" textLength="{}">{label}</text>
<text x="{}" y="14" textLength="{}">{value}</text>
</g>
</svg>
"##,
        fit(left),
        left + 6,
        fit(right),
    )
}

/// Dark enough for white text at every level.
pub fn colour(level: u8) -> &'static str {
    match level {
        0 => "#b3261e",
        1 => "#9a5b00",
        2 => "#7a6a00",
        3 => "#4f7326",
        _ => "#1e7a3c",
    }
}

/// Text for XML, without what XML cannot hold.
pub fn escape(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control() && !['\u{fffe}', '\u{ffff}'].contains(c)).collect();
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
