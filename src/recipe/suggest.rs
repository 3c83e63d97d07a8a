//! "Did you mean": the nearest of the possible names, for one-line errors.

/// The `count` candidates most like `given`, best first; those without any likeness are left out.
pub fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|candidate| {
            let prefix = if !given.is_empty() && candidate.starts_with(given) { 1.0 } else { 0.0 };
            (strsim::jaro_winkler(given, candidate) + prefix, candidate)
        })
        .filter(|(score, _)| *score > 0.7)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(count).map(|(_, candidate)| candidate).collect()
}

/// `; did you mean …?`, or nothing when no candidate is near.
pub fn did_you_mean<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(given, candidates, 1).first() {
        Some(name) => format!("; did you mean `{name}`?"),
        None => String::new(),
    }
}

/// Names in backticks, at most `count` of them, and how many more there are.
pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>, count: usize) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() {
        return "none".into();
    }
    let shown: Vec<String> = names.iter().take(count).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(count);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        assert_eq!(did_you_mean("enviroment", ["image", "environment"]), "; did you mean `environment`?");
        assert_eq!(did_you_mean("zzz", ["image", "environment"]), "");
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(["a", "b", "c"], 2), "`a`, `b` and 1 more");
        assert_eq!(listed([], 2), "none");
    }
}
