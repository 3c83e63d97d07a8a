//! What a visitor gets: a page with one of the accepted statuses, and what must stand in it. A page that only looks like
//! one of an app that works is noted.

use std::time::Duration;

use anyhow::Result;

use super::no_page;
use crate::app::{App, Page, skip};
use crate::config::page::PageCheck;
use crate::poll::{Look, Poll};
use crate::tier::Tier;

/// Under what the size of a page of the base is kept between tiers, with its path.
const BEFORE: &str = "harness: the size of the page before the upgrade";

/// Titles of pages that are none of a working app: errors, and what a web server shows of its own.
const TITLES: [&str; 12] = [
    "error",
    "fatal",
    "exception",
    "not found",
    "unavailable",
    "bad gateway",
    "forbidden",
    "maintenance",
    "welcome to nginx",
    "apache2 debian default page",
    "it works",
    "index of",
];

/// Words that an app prints when it has broken down in the middle of a page.
const WORDS: [&str; 9] = [
    "Fatal error",
    "Uncaught ",
    "Traceback (most recent call last)",
    "Stack trace",
    "stack trace",
    "Parse error",
    "SQLSTATE[",
    "Internal Server Error",
    "Exception in thread",
];

/// A page below this size says nothing by becoming smaller; bytes.
const SMALL: usize = 512;

/// The app answers through its own route with one of the accepted statuses, and with what `recipe.toml` wants to see
/// there, within the `call` deadline.
pub async fn answers_over_http(app: &App) -> Result<()> {
    let http = &app.settings().recipe_toml.http;
    if let Some(why) = &http.none {
        return skip(why.clone());
    }
    if app.base().is_err() && app.way().await?.is_none {
        return skip(no_page("ask for"));
    }
    for check in http.pages() {
        let page = answered(app, &check).await?;
        // What a recipe says of a page counts for more than what anybody suspects.
        if !check.is_described() {
            remark(app, &page, &check.path).await?;
        }
    }
    Ok(())
}

/// The page, once it is as it should be.
async fn answered(app: &App, check: &PageCheck) -> Result<Page> {
    let accepted = &check.status;
    let poll = Poll { interval: Duration::from_millis(50), deadline: app.settings().call };
    // A status that is not accepted may still become one: an app that migrates answers 503 until it is done.
    let what = format!("`{}` of `{}` to answer with {accepted:?}{}", check.path, app.host(), check.described());
    // A request has a deadline of its own, and says more about its end than that nothing was seen.
    let answered = poll.until_seen(what, async || {
        let page = app.get(&check.path).await?;
        let lacking = if accepted.contains(&page.status) { lacks(check, &page.text()) } else { Some(String::new()) };
        Ok(match lacking {
            None => Look::Ready(page),
            Some(lacking) => Look::NotYet(format!("{page:?}{lacking}")),
        })
    });
    match answered.await {
        Ok(page) => Ok(page),
        Err(error) => {
            // The way to the app leads past the daemon: where that is away, silence says nothing about the app.
            app.services().await?;
            Err(error)
        }
    }
}

/// What the page lacks of what it should have.
fn lacks(check: &PageCheck, text: &str) -> Option<String> {
    if let Some(wanted) = &check.title {
        let title = title(text);
        if !title.as_ref().is_some_and(|title| title.contains(wanted.as_str())) {
            return Some(format!(", whose title is {title:?}"));
        }
    }
    let missing = check.contains.iter().find(|wanted| !text.contains(wanted.as_str()))?;
    Some(format!(", in which there is no {missing:?}"))
}

/// The text of `<title>`, in one line.
fn title(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let open = lower.find("<title")?;
    let start = open + lower[open..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    Some(text[start..end].split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Notes a page that looks like none of a working app: it proves that somebody answers, and no more.
async fn remark(app: &App, page: &Page, path: &str) -> Result<()> {
    // Each page has its own size.
    let key = format!("{BEFORE}: {path}");
    let before = if app.tier() == Tier::Install {
        app.remember(&key, page.body.len().to_string()).await?;
        None
    } else {
        app.recall(&key).await.ok().and_then(|size| size.parse().ok())
    };
    let is_html = page.header("content-type").is_none_or(|kind| kind.contains("html"));
    if let Some(remark) = suspicious(page.status, &page.text(), is_html, before) {
        let text = format!(
            "`{path}` answers with {}, but {remark}: `http.title` or `http.contains` in recipe.toml says what should be there",
            page.status
        );
        app.note(text).await?;
    }
    Ok(())
}

/// What is odd about a page whose status is accepted.
fn suspicious(status: u16, text: &str, is_html: bool, before: Option<usize>) -> Option<String> {
    match status {
        403 => return Some("an empty document root answers so, too".into()),
        200 => {}
        _ => return None,
    }
    if text.trim().is_empty() {
        return Some("the page is empty".into());
    }
    let title = title(text).filter(|_| is_html);
    let words = title.as_deref().unwrap_or_default().to_lowercase();
    let words: Vec<&str> = words.split(|c: char| !c.is_alphanumeric()).filter(|it| !it.is_empty()).collect();
    let words = format!(" {} ", words.join(" "));
    if TITLES.iter().any(|it| words.contains(&format!(" {it} "))) {
        return Some(format!("its title is `{}`", title.unwrap_or_default()));
    }
    if let Some(word) = WORDS.iter().find(|it| text.contains(**it)) {
        return Some(format!("`{}` stands in it", word.trim()));
    }
    let before = before.filter(|size| *size >= SMALL && text.len() * 4 < *size)?;
    Some(format!("it has {} bytes, and that of the base had {before}", text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_looks_like_an_error_is_remarked_upon() {
        let said = |text: &str, before| suspicious(200, text, true, before).unwrap_or_default();
        assert_eq!(said("<html><TITLE lang=en>\n Fatal\n Error </title>", None), "its title is `Fatal Error`");
        assert_eq!(said("<title>Wiki</title><b>Fatal error</b>: Uncaught", None), "`Fatal error` stands in it");
        assert_eq!(
            said("Traceback (most recent call last):\n", None),
            "`Traceback (most recent call last)` stands in it"
        );
        assert_eq!(said("<p>tiny", Some(4096)), "it has 7 bytes, and that of the base had 4096");
        assert_eq!(said(" \n", None), "the page is empty");
        assert_eq!(suspicious(403, "", true, None).unwrap(), "an empty document root answers so, too");
        assert_eq!(said("<title>It works!</title>", None), "its title is `It works!`");
    }

    #[test]
    fn an_ordinary_page_is_none_of_its_business() {
        assert_eq!(suspicious(200, "<title>Terror of the seas</title>welcome", true, None), None);
        assert_eq!(suspicious(302, "", true, None), None);
        assert_eq!(suspicious(200, "tiny", true, Some(100)), None, "it was tiny before");
    }

    #[test]
    fn what_a_page_must_have_is_looked_for() {
        let check = PageCheck { title: Some("Wiki".into()), contains: vec!["Log in".into()], ..PageCheck::default() };
        assert_eq!(lacks(&check, "<title>My Wiki</title>Log in"), None);
        assert_eq!(lacks(&check, "<title>Setup</title>Log in").unwrap(), ", whose title is Some(\"Setup\")");
        assert_eq!(lacks(&check, "<title>My Wiki</title>Setup").unwrap(), ", in which there is no \"Log in\"");
    }
}
