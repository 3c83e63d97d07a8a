//! `photograph`: takes a picture of one page with a headless Chromium, in a cage.
//!
//! It speaks the DevTools protocol over two pipes, not over a port: a page could knock at a port. Nothing is asked of
//! the app but GET and HEAD, from the app's own host.

mod chromium;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use data_encoding::BASE64;
use serde_json::{Value, json};

use chromium::Chromium;

/// What the program leaves in the directory that it is given.
pub const PICTURE: &str = "page.png";
/// Every text of the page, before and after the picture was taken: for whoever knows what must not stand there.
pub const TEXTS: &str = "page.txt";
/// Why there is no picture.
pub const REFUSED: &str = "refused.txt";

pub const SIZE: (u32, u32) = (1280, 800);

/// How long a page may take to show something.
const PAINT: Duration = Duration::from_secs(10);
/// A page that talks to its server for ever is photographed after this time as it is.
const QUIET: Duration = Duration::from_secs(3);
/// A browser that is busy starts slowly.
const START: Duration = Duration::from_secs(20);
/// One answer of the browser.
const ANSWER: Duration = Duration::from_secs(10);

/// What a page could change the app with although its requests are held back.
const TAKEN_AWAY: &str =
    "for (const name of ['WebSocket', 'WebTransport', 'EventSource', 'RTCPeerConnection']) delete globalThis[name];";

/// Resolves when what the page has is on the screen: its fonts are loaded, and two frames were drawn.
const DRAWN: &str = "document.fonts.ready.then(() => new Promise((done) => \
                     requestAnimationFrame(() => requestAnimationFrame(() => done(true)))))";

/// `photograph <chromium> <address> <directory> [flag…]`
pub fn main(args: &[String]) -> ExitCode {
    let [program, address, dir, flags @ ..] = args else {
        eprintln!("usage: photograph <chromium> <address> <directory> [flag…]");
        return ExitCode::from(2);
    };
    let dir = Path::new(dir);
    let taken = photograph(program, address, flags, dir);
    let reason = match taken {
        Ok(()) => return ExitCode::SUCCESS,
        Err(reason) => format!("{reason:#}"),
    };
    match fs::write(dir.join(REFUSED), reason) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn photograph(program: &str, address: &str, flags: &[String], dir: &Path) -> Result<()> {
    let mut browser = Chromium::start(program, flags, Instant::now() + START)?;
    let mut page = Page::open(&mut browser)?;
    page.go(address)?;
    page.wait_for_paint()?;
    page.evaluate(DRAWN).context("the page was not drawn to its end")?;
    let before = page.texts()?;
    let picture = page.call("Page.captureScreenshot", json!({"format": "png"}))?;
    let after = page.texts()?;
    let picture = picture["data"].as_str().context("the browser gave no picture")?;
    let picture = BASE64.decode(picture.as_bytes()).context("the browser gave no picture")?;
    fs::write(dir.join(TEXTS), before + &after).context("failed to write the page's texts")?;
    fs::write(dir.join(PICTURE), picture).context("failed to write the picture")
}

/// The one tab.
struct Page<'a> {
    browser: &'a mut Chromium,
    session: String,
    /// Only from there may anything come.
    origin: String,
    frame: String,
    seen: Seen,
}

/// What the main frame has come to.
#[derive(Default)]
struct Seen {
    painted: bool,
    quiet: bool,
}

impl<'a> Page<'a> {
    fn open(browser: &'a mut Chromium) -> Result<Self> {
        let until = Instant::now() + START;
        let target =
            browser.call(None, "Target.createTarget", json!({"url": "about:blank"}), until, &mut |_, _| Ok(()))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call(None, "Target.attachToTarget", attach, until, &mut |_, _| Ok(()))?;
        let session = attached["sessionId"].as_str().context("the browser opened no page")?.to_owned();
        let mut page = Page { browser, session, origin: String::new(), frame: String::new(), seen: Seen::default() };
        let (width, height) = SIZE;
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        for (method, parameters) in [
            ("Page.enable", json!({})),
            ("Network.enable", json!({})),
            ("Network.setBypassServiceWorker", json!({"bypass": true})),
            ("Fetch.enable", json!({"patterns": [{"urlPattern": "*"}]})),
            ("Page.setLifecycleEventsEnabled", json!({"enabled": true})),
            ("Emulation.setDeviceMetricsOverride", metrics),
            ("Page.addScriptToEvaluateOnNewDocument", json!({"source": TAKEN_AWAY})),
            ("Target.setAutoAttach", auto_attach()),
        ] {
            page.call(method, parameters)?;
        }
        // The browser's own: workers that several pages share, and windows that this one opens.
        page.browser.call(None, "Target.setAutoAttach", auto_attach(), until, &mut |_, _| Ok(()))?;
        Ok(page)
    }

    fn go(&mut self, address: &str) -> Result<()> {
        self.origin = origin(address).context("the address is none")?.to_owned();
        let answer = self.call("Page.navigate", json!({"url": address}))?;
        self.frame = answer["frameId"].as_str().unwrap_or_default().to_owned();
        match answer["errorText"].as_str().filter(|text| !text.is_empty()) {
            Some(error) => bail!("the page could not be opened: {error}"),
            None => Ok(()),
        }
    }

    /// Waits until the page shows something, and then for its server to be left alone, within limits.
    fn wait_for_paint(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let limit = if self.seen.painted { QUIET } else { PAINT };
            if self.seen.painted && self.seen.quiet {
                return Ok(());
            }
            let Some(event) = self.browser.receive(begun + limit)? else {
                let limit = PAINT.as_secs();
                ensure!(self.seen.painted, "the page showed nothing within {limit}s");
                return Ok(());
            };
            self.handle(&event)?;
        }
    }

    /// Every text of the page: what stands in its nodes, attributes and fields, frames and shadow trees included, and
    /// what it shows. A page that asks for a password is refused, and so is one that is not the app's.
    fn texts(&mut self) -> Result<String> {
        let tree = self.call("Page.getFrameTree", json!({}))?;
        must_be_of(&tree["frameTree"]["frame"], &self.origin)?;
        let snapshot = self.call("DOMSnapshot.captureSnapshot", json!({"computedStyles": []}))?;
        let strings: Vec<&str> =
            snapshot["strings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        ensure!(!strings.is_empty(), "the browser did not say what stands on the page");
        ensure!(!asks_for_password(&snapshot, &strings), "the page asks for a password");
        let shown = self.evaluate("document.documentElement.innerText")?;
        Ok(format!("{}\n{}\n", strings.join("\n"), shown.as_str().unwrap_or_default()))
    }

    /// In a world of its own, which the page's scripts have not changed.
    fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let world = self.call("Page.createIsolatedWorld", json!({"frameId": self.frame}))?;
        let parameters = json!({
            "expression": expression,
            "contextId": world["executionContextId"],
            "awaitPromise": true,
            "returnByValue": true,
        });
        let mut answer = self.call("Runtime.evaluate", parameters)?;
        ensure!(answer.get("exceptionDetails").is_none(), "the page went away meanwhile");
        Ok(answer["result"]["value"].take())
    }

    fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        let mut events = Vec::new();
        let (session, origin) = (self.session.clone(), self.origin.clone());
        let answer =
            self.browser.call(Some(&session), method, parameters, Instant::now() + ANSWER, &mut |browser, event| {
                // A page that waits for an answer of ours would not come to an end.
                obey(browser, &session, &origin, &event)?;
                events.push(event);
                Ok(())
            });
        events.iter().for_each(|event| self.seen.note(event, &self.frame));
        answer
    }

    fn handle(&mut self, event: &Value) -> Result<()> {
        obey(self.browser, &self.session, &self.origin, event)?;
        self.seen.note(event, &self.frame);
        Ok(())
    }
}

impl Seen {
    fn note(&mut self, event: &Value, frame: &str) {
        let of_frame = frame.is_empty() || event["params"]["frameId"] == frame;
        if event["method"] != "Page.lifecycleEvent" || !of_frame {
            return;
        }
        match event["params"]["name"].as_str() {
            // Another document: what was seen of the one before it does not count.
            Some("init") => *self = Seen::default(),
            Some("firstContentfulPaint") => self.painted = true,
            Some("networkIdle") => self.quiet = true,
            _ => {}
        }
    }
}

/// Whatever is to run beside the page is halted before its first step, and nobody lets it go on: its requests would not
/// come by here.
fn auto_attach() -> Value {
    json!({"autoAttach": true, "waitForDebuggerOnStart": true, "flatten": true})
}

/// Lets a request go on or holds it back, and closes a dialogue.
fn obey(browser: &mut Chromium, session: &str, origin: &str, event: &Value) -> Result<()> {
    let parameters = &event["params"];
    match event["method"].as_str() {
        Some("Fetch.requestPaused") => {
            let id = &parameters["requestId"];
            if may_pass(&parameters["request"], origin) {
                browser.send(Some(session), "Fetch.continueRequest", json!({"requestId": id}))
            } else {
                let refused = json!({"requestId": id, "errorReason": "BlockedByClient"});
                browser.send(Some(session), "Fetch.failRequest", refused)
            }
        }
        Some("Target.attachedToTarget") => {
            let what = parameters["targetInfo"]["type"].as_str().unwrap_or_default();
            ensure!(what != "iframe", "a frame of the page runs in a process of its own, where nobody could look");
            Ok(())
        }
        Some("Page.javascriptDialogOpening") => {
            browser.send(Some(session), "Page.handleJavaScriptDialog", json!({"accept": false}))
        }
        _ => Ok(()),
    }
}

/// Only what changes nothing, and only to the app itself.
fn may_pass(request: &Value, own: &str) -> bool {
    let url = request["url"].as_str().unwrap_or_default();
    let inline = url.starts_with("data:") || url.starts_with("blob:");
    let reads = matches!(request["method"].as_str(), Some("GET" | "HEAD"));
    reads && (inline || !own.is_empty() && origin(url) == Some(own))
}

/// A page may lead on by itself, and where it leads to nowhere the browser shows a page of its own.
fn must_be_of(frame: &Value, own: &str) -> Result<()> {
    let url = frame["url"].as_str().unwrap_or_default();
    let failed = frame["unreachableUrl"].as_str().filter(|url| !url.is_empty());
    // No more of an address than its host: what follows may hold a secret.
    match failed.map(|url| origin(url).unwrap_or("elsewhere")) {
        Some(to) if to == own => bail!("the page leads to another one of `{to}`, which could not be opened"),
        Some(to) => bail!("the page leads to `{to}`, which is not the app's own address"),
        None if origin(url) == Some(own) => Ok(()),
        None => bail!("the page leads to `{}`, which is not the app's own address", origin(url).unwrap_or("elsewhere")),
    }
}

/// `http://wiki.example.org`, of any address below it.
fn origin(url: &str) -> Option<&str> {
    let host = url.find("://")? + 3;
    let end = url[host..].find(['/', '?', '#', '\\']).map_or(url.len(), |at| host + at);
    let has_user = url[host..end].contains('@');
    (end > host && !has_user).then(|| &url[..end])
}

/// Whether any node of any document is a field for a password.
fn asks_for_password(snapshot: &Value, strings: &[&str]) -> bool {
    let text = |index: &Value| index.as_u64().and_then(|at| strings.get(at as usize)).copied().unwrap_or_default();
    let documents = snapshot["documents"].as_array().into_iter().flatten();
    let nodes = documents.flat_map(|document| document["nodes"]["attributes"].as_array().into_iter().flatten());
    let is_password = |attributes: &Value| {
        let pairs = attributes.as_array().map(Vec::as_slice).unwrap_or_default().chunks_exact(2);
        let mut pairs = pairs.map(|pair| (text(&pair[0]), text(&pair[1])));
        pairs.any(|(name, value)| {
            name.eq_ignore_ascii_case("type") && value.trim().eq_ignore_ascii_case("password")
                || name.eq_ignore_ascii_case("autocomplete") && value.to_ascii_lowercase().contains("-password")
        })
    };
    nodes.into_iter().any(is_password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reading_from_the_app_itself_may_pass() {
        let passes = |method: &str, url: &str| may_pass(&json!({"method": method, "url": url}), "http://wiki.test");
        for url in ["http://wiki.test", "http://wiki.test/a?b", "data:image/png;base64,AA", "http://wiki.test?x"] {
            assert!(passes("GET", url), "{url}");
        }
        assert!(!passes("POST", "http://wiki.test/a") && !passes("DELETE", "http://wiki.test/a"));
        for url in [
            "https://wiki.test/",
            "http://wiki.test:81/",
            "http://wiki.test.evil.test/",
            "http://wiki.test@evil.test/",
            "http://evil.test/http://wiki.test/",
            "file:///etc/passwd",
            "chrome://version",
        ] {
            assert!(!passes("GET", url), "{url}");
        }
        assert!(!may_pass(&json!({"method": "GET", "url": "http://x.test/"}), ""));
    }

    #[test]
    fn the_browsers_own_pages_and_those_of_others_are_not_the_apps() {
        let own = "http://wiki.test";
        let refusal = |frame: Value| must_be_of(&frame, own).unwrap_err().to_string();
        assert!(must_be_of(&json!({"url": "http://wiki.test/start?a#b"}), own).is_ok());
        let error_page = |to: &str| json!({"url": "chrome-error://chromewebdata/", "unreachableUrl": to});
        assert_eq!(
            refusal(error_page("http://wiki.test/gone?token=1")),
            "the page leads to another one of `http://wiki.test`, which could not be opened"
        );
        let elsewhere = "the page leads to `http://evil.test`, which is not the app's own address";
        assert_eq!(refusal(error_page("http://evil.test/?token=1")), elsewhere);
        assert_eq!(refusal(json!({"url": "http://evil.test/x"})), elsewhere);
        let nowhere = "the page leads to `chrome-error://chromewebdata`, which is not the app's own address";
        assert_eq!(refusal(json!({"url": "chrome-error://chromewebdata/"})), nowhere);
        assert!(refusal(json!({"url": "about:blank"})).contains("`elsewhere`"));
    }

    #[test]
    fn a_field_for_a_password_is_seen_in_every_document() {
        let strings = ["type", "text", "PassWord", "autocomplete", "current-password"];
        let snapshot = |attributes: Value| json!({"documents": [{"nodes": {"attributes": [[]]}}, {"nodes": {"attributes": attributes}}]});
        assert!(!asks_for_password(&snapshot(json!([[0, 1], []])), &strings));
        assert!(asks_for_password(&snapshot(json!([[], [3, 1, 0, 2]])), &strings));
        assert!(asks_for_password(&snapshot(json!([[3, 4]])), &strings));
    }

    #[test]
    fn what_another_document_showed_does_not_count() {
        let event = |name: &str, frame: &str| json!({"method": "Page.lifecycleEvent", "params": {"name": name, "frameId": frame}});
        let mut seen = Seen::default();
        for (name, frame) in [("firstContentfulPaint", "main"), ("networkIdle", "other")] {
            seen.note(&event(name, frame), "main");
        }
        assert_eq!((seen.painted, seen.quiet), (true, false));
        seen.note(&event("init", "main"), "main");
        assert!(!seen.painted);
    }
}
