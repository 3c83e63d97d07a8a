//! Pictures of the app: what is on them, what is never on them, and what taking them does to the app.

use std::path::PathBuf;

use harness::keeper::photo::Picture;
use harness::process::Run;
use harness::report::results::Results;
use rustix::process::Signal;

use super::browser::{Browser, View};
use crate::Case;
use crate::runner::{Ended, World, checkout, finish};
use crate::running::wait;

pub const CASES: &[Case] = &[
    ("pictures::the_app_is_photographed_after_install_and_upgrade", after_install_and_upgrade),
    ("pictures::an_ordinary_user_takes_pictures_too", ordinary_user),
    ("pictures::what_a_script_shows_late_is_waited_for_and_nothing_is_sent_to_the_app", late_and_harmless),
    ("pictures::a_page_that_asks_for_a_password_is_not_photographed", password),
    ("pictures::frames_and_workers_are_searched_and_held_back_as_the_page_is", frames_and_workers),
    ("pictures::a_page_that_holds_a_secret_is_not_photographed", secret),
    ("pictures::a_page_that_shows_nothing_is_not_photographed", blank),
    ("pictures::the_browsers_own_error_page_is_not_photographed", leads_away),
    ("pictures::who_asks_for_one_assertion_gets_no_picture", one_assertion),
    ("pictures::a_run_that_goes_on_with_a_warm_app_takes_the_pictures_that_it_was_asked_for", warm),
    ("pictures::an_interrupted_run_does_not_wait_for_a_picture_at_its_end", interrupted_at_the_end),
    ("pictures::an_interrupted_run_does_not_wait_for_a_picture_before_an_operation", interrupted_before_an_operation),
];

/// A page that is never painted.
const NOTHING: &str = "<!doctype html><title>nothing</title>";

/// A recipe whose app runs this shell line before it serves.
struct Shown {
    world: World,
    _root: tempfile::TempDir,
}

impl Shown {
    fn new(line: &str) -> Self {
        let (root, data) = (tempfile::tempdir().unwrap(), checkout().join("tests/data"));
        std::fs::copy(data.join("harness.toml"), root.path().join("harness.toml")).unwrap();
        let head = root.path().join("recipes/shown/1.0.0+1.27.4");
        std::fs::create_dir_all(&head).unwrap();
        for file in std::fs::read_dir(data.join("recipes/prints-secret/1.0.0+1.27.4")).unwrap().flatten() {
            let text = std::fs::read_to_string(file.path()).unwrap();
            let text = text.replace("cat /run/secrets/token; echo;", line);
            std::fs::write(head.join(file.file_name()), text).unwrap();
        }
        Shown { world: World::new(root.path().to_owned()), _root: root }
    }

    /// An app with one page.
    fn page(html: &str) -> Self {
        Shown::files(&[("index.html", html.to_owned())])
    }

    /// An app with these files.
    fn files(files: &[(&str, String)]) -> Self {
        let write = |(name, text): &(&str, String)| {
            let text = data_encoding::BASE64.encode(text.as_bytes());
            format!("echo {text} | base64 -d >/usr/share/nginx/html/{name};")
        };
        Shown::new(&files.iter().map(write).collect::<String>())
    }

    fn install(&self) -> Picture {
        let ended = run(&self.world, &["--recipe", "shown", "--tiers", "install"]);
        picture(&self.world, 0).unwrap_or_else(|| panic!("nobody was to take a picture: {ended}"))
    }

    /// Why no picture was taken; and there is none.
    fn reason(&self) -> String {
        let Picture::NotTaken { not_taken } = self.install() else { panic!("it was photographed") };
        assert!(!run_dir(&self.world).join("pictures").exists());
        assert_eq!(self.world.leftovers(), Vec::<String>::new());
        let page = std::fs::read_to_string(run_dir(&self.world).join("report.html")).unwrap();
        assert!(page.contains("no screenshot: "), "the report does not say why");
        not_taken
    }
}

fn run(world: &World, arguments: &[&str]) -> Ended {
    finish(&world.command(arguments).env("HARNESS_SCREENSHOTS", "1"))
}

fn run_dir(world: &World) -> PathBuf {
    std::fs::read_dir(world.state().join("runs")).unwrap().next().unwrap().unwrap().path()
}

fn picture(world: &World, tier: usize) -> Option<Picture> {
    let results = std::fs::read(run_dir(world).join("results.json")).unwrap();
    serde_json::from_slice::<Results>(&results).unwrap().tiers[tier].picture.clone()
}

/// How many pixels of each of the report's pictures are dark, as a reader's browser shows them.
fn dark_pixels(world: &World) -> Vec<u64> {
    let browser = Browser::start();
    let view = View { width: 390, dark: false, scripts: true };
    let console = browser.open(&run_dir(world).join("report.html"), view);
    assert_eq!(console, Vec::<String>::new());
    let counts = browser.value(
        "[...document.querySelectorAll('#pictures img')].map((image) => {
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            if (canvas.width !== 1280 || canvas.height !== 800) throw new Error(`${canvas.width} x ${canvas.height}`);
            const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
            return data.filter((value, at) => at % 4 === 0 && value < 128).length;
        })",
    );
    counts.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect()
}

fn after_install_and_upgrade() {
    let world = World::of_checkout();
    let ended = run(&world, &["--recipe", "custom-html", "--tiers", "install,upgrade"]);
    assert_eq!(ended.code, 0, "{ended}");
    for (tier, name) in ["install", "upgrade"].into_iter().enumerate() {
        let file = format!("pictures/{name}.png");
        assert!(run_dir(&world).join(&file).is_file());
        assert_eq!(picture(&world, tier), Some(Picture::Taken { file }));
    }
    let dark = dark_pixels(&world);
    assert!(dark.len() == 2 && dark.iter().all(|dark| *dark > 500), "letters on both: {dark:?}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

fn ordinary_user() {
    let Some(world) = World::of_checkout().for_ordinary_user() else { return };
    let ended = run(&world, &["--recipe", "custom-html", "--tiers", "install"]);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(picture(&world, 0), Some(Picture::Taken { file: "pictures/install.png".into() }));
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

fn late_and_harmless() {
    // It shows nothing until long after it was loaded and has become quiet.
    let shown = Shown::page(
        "<script>
            const beacon = () => navigator.sendBeacon('/beacon', 'x');
            fetch('/changed', { method: 'POST' }).catch(() => fetch('/deleted', { method: 'DELETE' })).catch(beacon)
                .finally(() => fetch('/asked').finally(() => setTimeout(() => {
                    document.body.innerHTML = '<h1 style=\"font-size: 200px\">late</h1>' + typeof WebSocket;
                }, 700)));
            new Image().src = 'http://example.org/x.png';
            alert('does not wait');
        </script>",
    );
    assert_eq!(shown.install(), Picture::Taken { file: "pictures/install.png".into() });
    let dark = dark_pixels(&shown.world);
    assert!(dark.len() == 1 && dark[0] > 10_000, "the picture was taken before anything was shown: {dark:?}");
    let log = std::fs::read_to_string(run_dir(&shown.world).join("logs/app.log")).unwrap();
    assert!(log.contains("\"GET /asked HTTP/1.1\""), "its script did not run: {log}");
    for method in ["POST", "DELETE"] {
        assert!(!log.contains(method), "the app was sent a {method}: {log}");
    }
}

fn password() {
    let page = "<form><label>Name<input name=n></label><label>Password<input type=password name=p></label></form>";
    assert_eq!(Shown::page(page).reason(), "the page asks for a password");
    // Where no script of the page, and no search from outside, would find it.
    let hidden = "<h1>hello</h1><div id=d></div><script>
        document.getElementById('d').attachShadow({ mode: 'closed' }).innerHTML = '<input type=password>';
    </script>";
    assert_eq!(Shown::page(hidden).reason(), "the page asks for a password");
}

/// Chromium gives such frames, and workers, processes of their own, whose requests do not come by the page.
fn frames_and_workers() {
    let sends = "const sends = () => { fetch('/sent', { method: 'POST' }); }; sends();";
    let page = "<h1>hello</h1><iframe sandbox='allow-scripts allow-forms' src='/frame.html'></iframe><script>
        new Worker('/worker.js');
        new SharedWorker('/worker.js');
    </script>";
    let files = [
        ("index.html", page.to_owned()),
        ("frame.html", format!("<p>framed<script>{sends}</script>")),
        ("worker.js", format!("{sends} new WebSocket('ws://' + location.host + '/socket');")),
    ];
    let shown = Shown::files(&files);
    assert_eq!(shown.install(), Picture::Taken { file: "pictures/install.png".into() });
    let log = std::fs::read_to_string(run_dir(&shown.world).join("logs/app.log")).unwrap();
    assert!(log.contains("\"GET /frame.html HTTP/1.1\""), "the frame was not loaded: {log}");
    for forbidden in ["POST", "/socket"] {
        assert!(!log.contains(forbidden), "the app was sent {forbidden}: {log}");
    }
    let asks = [
        ("index.html", "<h1>hello</h1><iframe sandbox src='/frame.html'></iframe>".to_owned()),
        ("frame.html", "<input type=password>".to_owned()),
    ];
    assert_eq!(Shown::files(&asks).reason(), "the page asks for a password");
}

fn secret() {
    let shown = Shown::new("(echo welcome, your token is:; cat /run/secrets/token) >/usr/share/nginx/html/index.html;");
    let reason = shown.reason();
    let stack = shown.world.domain().replace('.', "_");
    assert_eq!(reason, format!("the value of the secret `{stack}_token_v1` stands on the page"));
}

fn blank() {
    assert_eq!(Shown::page(NOTHING).reason(), "the page showed nothing within 10s");
}

fn leads_away() {
    let leads =
        |to: &str| Shown::page(&format!("<meta http-equiv=refresh content='0;url={to}'><h1>hello</h1>")).reason();
    let elsewhere = "the page leads to `http://unreachable.test`, which is not the app's own address";
    assert_eq!(leads("http://unreachable.test/welcome?token=1"), elsewhere);
    assert_eq!(leads("http://unreachable.test"), elsewhere);
}

fn one_assertion() {
    let world = World::of_checkout();
    let ended = run(&world, &["--recipe", "custom-html", "--exact", "generic::install::answers_over_http"]);
    assert_eq!(ended.code, 0, "{ended}");
    assert_eq!(picture(&world, 0), None);
}

fn warm() {
    let world = World::of_checkout();
    let click = |trial: &str| {
        let arguments = ["--recipe", "custom-html", "--exact", trial];
        let ended = finish(&world.command(&arguments).env("HARNESS_SCREENSHOTS", "1").env("HARNESS_WARM", "10m"));
        assert_eq!(ended.code, 0, "{ended}");
        ended
    };
    click("generic::install::answers_over_http");
    let upgraded = click("tier::upgrade");
    assert!(upgraded.stderr.contains("warm     reused run "), "{upgraded}");
    assert_eq!(picture(&world, 1), Some(Picture::Taken { file: "pictures/upgrade.png".into() }));
    assert_eq!(picture(&world, 0), None, "nobody has asked for the install");
    let run = run_dir(&world).file_name().unwrap().to_str().unwrap().to_owned();
    let down = Run::new(env!("CARGO_BIN_EXE_harness-command"), ["down", &run]).env("HARNESS_STATE", world.state());
    assert_eq!(finish(&down).code, 0);
}

/// Interrupts a run once its install is judged, of which a picture is then waited for: the page shows nothing.
fn interrupt(arguments: &[&str], judged: &[&str]) {
    let shown = Shown::page(NOTHING);
    let arguments = [&["--recipe", "shown"], arguments].concat();
    let mut running = shown.world.start_with(&arguments, &[("HARNESS_SCREENSHOTS", "1")]);
    wait("the install to be judged", || {
        let journal = shown.world.journal();
        let end_of = |trial: &str| format!("\"event\":\"trial_finished\",\"name\":\"{trial}\"");
        judged.iter().all(|trial| journal.contains(&end_of(trial)))
    });
    running.signal(Signal::INT);
    assert_eq!(running.end(), 130, "{}", running.said.lock().unwrap());
    let said = running.said.lock().unwrap().clone();
    assert!(said.contains("shown is torn down, nothing is left"), "{said}");
    // Whoever waits hears from the browser that the page showed nothing.
    let broken_off = Picture::NotTaken { not_taken: "the run was broken off".into() };
    assert_eq!(picture(&shown.world, 0), Some(broken_off), "{said}");
    assert_eq!(shown.world.leftovers(), Vec::<String>::new());
}

fn interrupted_at_the_end() {
    interrupt(&["--exact", "tier::install"], &["tier::install"]);
}

fn interrupted_before_an_operation() {
    let judged = ["answers_over_http", "services_are_stable", "no_secret_in_the_logs"];
    let judged = judged.map(|name| format!("generic::install::{name}"));
    interrupt(&["--tiers", "install,custom"], &judged.each_ref().map(String::as_str));
}
