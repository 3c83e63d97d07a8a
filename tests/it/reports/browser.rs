//! A headless Chromium, driven through ChromeDriver.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use harness::process;
use serde_json::{Value, json};

/// One browser with one page; it ends with this value.
pub struct Browser {
    driver: Child,
    session: String,
    runtime: tokio::runtime::Runtime,
    _profile: tempfile::TempDir,
}

/// What a page looks like from outside.
#[derive(Clone, Copy)]
pub struct View {
    pub width: u32,
    pub dark: bool,
    pub scripts: bool,
}

impl Browser {
    pub fn start() -> Self {
        // The client is built for TLS, although ChromeDriver speaks none; once for all browsers.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let profile = tempfile::tempdir().unwrap();
        let mut command = process::command("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            Some(line.split_once("started successfully on port ")?.1.trim_end_matches('.').to_owned())
        });
        let mut browser = Browser {
            driver,
            session: format!("http://127.0.0.1:{}/session", port.expect("ChromeDriver names its port")),
            runtime: tokio::runtime::Runtime::new().unwrap(),
            _profile: profile,
        };
        let id = browser.post("", &browser.capabilities())["sessionId"].as_str().unwrap().to_owned();
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    fn capabilities(&self) -> Value {
        let profile = format!("--user-data-dir={}", self._profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &profile,
        ];
        json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}})
    }

    /// Opens a file as a reader would, and returns what the console says.
    pub fn open(&self, file: &Path, view: View) -> Vec<String> {
        let scheme = if view.dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features}));
        let size = json!({"width": view.width, "height": 844, "deviceScaleFactor": 1, "mobile": view.width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        self.devtools("Emulation.setScriptExecutionDisabled", json!({"value": !view.scripts}));
        self.post("/url", &json!({"url": format!("file://{}", file.display())}));
        let log = self.post("/se/log", &json!({"type": "browser"}));
        log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// The value of an expression in the page; scripts have to be allowed.
    pub fn value(&self, expression: &str) -> Value {
        self.post("/execute/sync", &json!({"script": format!("return {expression}"), "args": []}))
    }

    /// The text of the page as it stands in its document, which can be had without scripts.
    pub fn source(&self) -> String {
        let answer = self.call(reqwest::Method::GET, "/source", None);
        answer.as_str().unwrap().to_owned()
    }

    fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.call(reqwest::Method::POST, path, Some(body))
    }

    fn call(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> Value {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.request(method, format!("{}{path}", self.session));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let limit = std::time::Duration::from_secs(120);
        let text = self.runtime.block_on(async { request.timeout(limit).send().await?.text().await }).unwrap();
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        assert!(answer["value"].get("error").is_none(), "ChromeDriver refuses `{path}`: {answer}");
        answer["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its end ends the browser; without it the driver's own end would leave one.
        let quit = reqwest::Client::builder().no_proxy().build().unwrap().delete(&self.session);
        let limit = std::time::Duration::from_secs(20);
        let _ = self.runtime.block_on(async { quit.timeout(limit).send().await });
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
