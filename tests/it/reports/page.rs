//! The HTML report in a real browser: complete, silent, and readable on every screen.

use std::path::{Path, PathBuf};

use harness::report::files;
use harness::report::results::Results;

use super::browser::{Browser, View};
use crate::Case;
use crate::kept;
use crate::runner::checkout;

pub const CASES: &[Case] = &[
    ("page::every_report_is_silent_and_fits_on_every_screen", every_screen),
    ("page::failures_come_first_with_the_command_to_run_them_again", failures_first),
    ("page::what_the_app_used_and_how_it_looked_is_shown", usage_and_pictures),
    ("page::words_are_whole_in_every_table", words),
    ("page::without_scripts_everything_is_there", without_scripts),
    ("page::hostile_strings_stay_text", hostile),
    ("page::a_log_is_searched", search),
    ("page::a_page_that_reaches_out_is_noticed", a_bad_page_is_noticed),
];

const LIGHT: View = View { width: 1280, dark: false, scripts: true };
const PHONE: View = View { width: 390, dark: false, scripts: true };

/// A kept page as it was written.
fn report(run: &str) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.html");
    std::fs::write(&file, kept::whole(&checkout().join("tests/data/runs").join(run))).unwrap();
    Report { file, _dir: dir }
}

/// A page on disk, as long as this value lives.
struct Report {
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl std::ops::Deref for Report {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.file
    }
}

/// Opens a page on which nothing may be wrong.
fn open(browser: &Browser, file: &Path, view: View) {
    let console = browser.open(file, view);
    assert_eq!(console, Vec::<String>::new(), "the console of {}", file.display());
    if view.scripts {
        let requests = browser.value("performance.getEntriesByType('resource').map(entry => entry.name)");
        assert_eq!(requests, serde_json::json!([]), "{} asked for something", file.display());
        let too_wide = browser.value("document.documentElement.scrollWidth - window.innerWidth");
        assert!(too_wide.as_i64().unwrap() <= 0, "{} is {too_wide} px too wide for {}", file.display(), view.width);
    }
}

fn text(browser: &Browser, selector: &str) -> String {
    let text = browser.value(&format!("document.querySelector({selector:?}).innerText"));
    text.as_str().unwrap().to_owned()
}

fn every_screen() {
    let browser = Browser::start();
    for run in std::fs::read_dir(checkout().join("tests/data/runs")).unwrap().flatten() {
        for view in [LIGHT, PHONE, View { dark: true, ..LIGHT }, View { dark: true, ..PHONE }] {
            open(&browser, &report(run.file_name().to_str().unwrap()), view);
            let page = browser.value("getComputedStyle(document.body).backgroundColor");
            let expected = if view.dark { "rgb(23, 25, 27)" } else { "rgb(251, 251, 249)" };
            assert_eq!(page.as_str(), Some(expected), "dark: {}", view.dark);
            assert!(contrast(&browser) >= 4.5, "{} is hard to read, dark: {}", run.path().display(), view.dark);
        }
    }
}

/// The lowest contrast of the words that carry a verdict against the card behind them, as WCAG counts it.
fn contrast(browser: &Browser) -> f64 {
    let script = "(() => {
        const light = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
            .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
            .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
        const behind = light(getComputedStyle(document.querySelector('.card')).backgroundColor);
        return Math.min(...[...document.querySelectorAll('.passed, .failed, .ignored, .not_run, .soft')]
            .map((element) => light(getComputedStyle(element).color))
            .map((front) => (Math.max(front, behind) + 0.05) / (Math.min(front, behind) + 0.05)));
    })()";
    browser.value(script).as_f64().unwrap()
}

fn failures_first() {
    let browser = Browser::start();
    open(&browser, &report("upgrade-fails"), LIGHT);
    assert_eq!(text(&browser, "h1"), "rolls-back");
    assert_eq!(text(&browser, ".pill"), "failed");
    let sections = browser.value("[...document.querySelectorAll('section')].map(section => section.id)");
    let expected = ["", "failures", "tiers", "pictures", "usage", "timeline", "assertions", "changes", "logs", "facts"];
    assert_eq!(sections, serde_json::json!(expected), "the level, then what failed");
    assert!(text(&browser, "#failures h2").starts_with("1 failure"));
    assert!(text(&browser, ".failure pre").starts_with("the update of service `app` failed: rollback_completed"));
    let again = "cargo test --test recipe -- --recipe rolls-back --engine embedded --exact tier::upgrade";
    assert_eq!(text(&browser, ".again"), again);
    assert!(text(&browser, "#changes").contains("nginx:1.27.5"));
    // The last lines of a program are often those that say it: a failure is shown whole, while a log may scroll.
    let hidden = |selector: &str| {
        let script = format!(
            "(() => {{ const box = document.querySelector({selector:?}); box.closest('details')?.setAttribute('open', ''); \
             box.textContent = 'line\\n'.repeat(300); return box.scrollHeight - box.clientHeight; }})()"
        );
        browser.value(&script).as_i64().unwrap()
    };
    assert!(hidden(".failure pre") <= 0 && hidden("#logs pre") > 0);
    open(&browser, &report("green"), LIGHT);
    let failures = browser.value("document.querySelectorAll('.failure').length");
    assert_eq!((text(&browser, ".pill").as_str(), failures.as_u64()), ("passed", Some(0)));
    let bars = browser.value("document.querySelectorAll('.timeline .bar').length").as_u64().unwrap();
    assert!(bars >= 38, "35 trials and 3 hooks have a bar each, but there are {bars}");
}

fn usage_and_pictures() {
    let browser = Browser::start();
    open(&browser, &report("green"), LIGHT);
    let shown = browser.value("[...document.images].map((image) => [image.naturalWidth, image.complete, image.alt])");
    let expected = serde_json::json!([[1280, true, "the app after install"], [1280, true, "the app after upgrade"]]);
    assert_eq!(shown, expected);
    let heads = browser.value("[...document.querySelectorAll('#usage th')].map((cell) => cell.innerText)");
    assert_eq!(heads, serde_json::json!(["what", "install", "upgrade", "backup", "restore"]));
    let table = text(&browser, "#usage table");
    for part in ["5.4 MiB", "352 B", "10ms", "not measured: `builtin:static-web` runs in its place"] {
        assert!(table.contains(part), "`{part}` does not stand in:\n{table}");
    }
    // On a phone there are no columns, so each figure says after what.
    open(&browser, &report("green"), PHONE);
    let label = "getComputedStyle(document.querySelector('#usage td[data-column]'), '::before').content";
    assert_eq!(browser.value(label).as_str(), Some("\"install: \""));
    open(&browser, &report("upgrade-fails"), LIGHT);
    assert!(text(&browser, "#pictures").contains("no screenshot: chromium is not installed"));
    open(&browser, &report("unverified"), LIGHT);
    assert!(text(&browser, "#usage").ends_with("Not measured: no operation got so far."));
}

/// Where much stands beside each other, no column is so narrow that its words break.
fn words() {
    let run = tempfile::tempdir().unwrap();
    let recorded = std::fs::read(checkout().join("tests/data/runs/green/results.json")).unwrap();
    let mut results: Results = serde_json::from_slice(&recorded).unwrap();
    results.tiers[4].usage = results.tiers[3].usage.clone();
    files::write(run.path(), &results).unwrap();
    let (browser, page) = (Browser::start(), run.path().join("report.html"));
    open(&browser, &page, LIGHT);
    let first = "document.querySelector('#usage tbody td').getBoundingClientRect().width";
    assert!(browser.value(first).as_f64().unwrap() > 120.0, "the figures' names have room beside five columns");
    let spans = browser.value(
        "[...document.querySelectorAll('#usage td[colspan]')].map((cell) => [cell.colSpan, cell.dataset.column])",
    );
    let later = "upgrade, backup, restore, custom";
    assert_eq!(spans, serde_json::json!([[4, later], [4, later]]), "a reason stands once in a row");
    open(&browser, &page, PHONE);
    let tiers =
        browser.value("[...document.querySelectorAll('#tiers tbody tr')].map((row) => row.innerText.split('\\n'))");
    let (first, last) = (&tiers[0], &tiers[4]);
    assert_eq!(
        *first,
        serde_json::json!(["install", "9 passed", "deploy 1.10.1+1.27.5", "54ms"]),
        "each on its own line"
    );
    assert_eq!(*last, serde_json::json!(["custom", "3 passed"]), "and no line for what there is none of");
    let label = "getComputedStyle(document.querySelector('#changes td[data-column]'), '::before').content";
    assert_eq!(browser.value(label).as_str(), Some("\"base: \""));
}

fn without_scripts() {
    let browser = Browser::start();
    open(&browser, &report("upgrade-fails"), View { scripts: false, ..PHONE });
    let source = browser.source();
    assert!(!source.contains("<html lang=\"en\" class=\"scripted\""), "the script ran all the same");
    for part in ["rollback_completed", "tier::upgrade", "generic::install::answers_over_http", "class=\"bar"] {
        assert!(source.contains(part), "`{part}` is not on the page");
    }
}

fn hostile() {
    let browser = Browser::start();
    // An alert would block every later command; a picture that fails to load would be in the console.
    open(&browser, &report("hostile"), LIGHT);
    let planted = "document.querySelectorAll('img, b, i, body script:not(:last-child)').length";
    assert_eq!(browser.value(planted).as_u64(), Some(0));
    let scripts = browser.value("document.scripts.length");
    assert_eq!(scripts.as_u64(), Some(1), "only the page's own script");
    assert!(text(&browser, "#failures").contains("<script>alert('x')</script> @mention"));
}

fn search() {
    let browser = Browser::start();
    open(&browser, &report("green"), LIGHT);
    let lines = "document.querySelector('#logs pre').textContent.trim().split('\\n').length";
    let all = browser.value(lines).as_u64().unwrap();
    browser.value(
        "(() => { const input = document.querySelector('.search input'); input.value = 'hello'; \
                   input.dispatchEvent(new Event('input')); })()",
    );
    let found = browser.value(lines).as_u64().unwrap();
    assert!(found > 0 && found < all, "{found} of {all} lines");
}

fn a_bad_page_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.html");
    let green = std::fs::read_to_string(&*report("green")).unwrap();
    let bad = "<script>alert(1)</script><img src=\"https://example.org/x.png\"></body>";
    std::fs::write(&file, green.replace("</body>", bad)).unwrap();
    let console = Browser::start().open(&file, LIGHT);
    let blocked =
        |what: &str| console.iter().any(|line| line.contains("Content Security Policy") && line.contains(what));
    assert!(blocked("script") && blocked("https://example.org/x.png"), "{console:?}");
}
