//! One request to the forge, within bounds: no redirect is followed, no answer is read without end, and what may be better
//! in a moment is tried again, a few times and not for ever.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Method, Url};
use serde_json::Value;

use super::place::{Api, is_loopback};
use super::token::Token;

/// How often something is tried that may be better in a moment: a forge answers 500 also to what it does not know.
pub const ATTEMPTS: u32 = 3;
/// One attempt takes no longer.
const ATTEMPT: Duration = Duration::from_secs(15);
/// The pause after the first attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// Bytes of an answer. A list of comments holds all of a pull request's.
pub const SMALL: usize = 1 << 20;
pub const LIST: usize = 16 << 20;

/// What is asked.
pub struct Ask<'a> {
    pub method: Method,
    /// Below the address of the API.
    pub path: &'a str,
    pub body: Option<&'a Value>,
    /// Bytes that the answer may have.
    pub most: usize,
}

/// An answer, whatever its status.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// The forge asks to come back only then.
    pub later: Option<Duration>,
    /// What was asked, for messages.
    pub asked: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!("{} was answered by something that is no JSON: {}", self.asked, beginning(&self.body))
        })
    }

    /// The forge's own words, in one line.
    pub fn said(&self) -> String {
        let message = serde_json::from_slice::<Value>(&self.body).ok();
        let message = message.as_ref().and_then(|json| json["message"].as_str()).map(str::to_owned);
        message.filter(|it| !it.is_empty()).map_or_else(|| beginning(&self.body), |it| beginning(it.as_bytes()))
    }

    /// Whether it may be another answer in a moment.
    pub fn may_change(&self) -> bool {
        self.status >= 500 || self.status == 429 || self.status == 408 || (self.status == 403 && self.later.is_some())
    }
}

fn beginning(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let start: String = text.chars().take(200).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    if start.is_empty() { "(nothing)".into() } else { format!("{:?}{more}", start) }
}

/// Something of which nobody knows whether the forge has heard it.
#[derive(Debug)]
pub struct NoAnswer(String);

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

/// What speaks to one forge, as one user, until a deadline.
pub struct Client {
    http: reqwest::Client,
    /// The address of the API.
    base: String,
    pub token: Token,
    until: Instant,
    deadline: Duration,
}

impl Client {
    pub fn new(base: String, api: Api, token: Token, deadline: Duration) -> Result<Self> {
        // Another part of the program may have chosen one before: either will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let scheme = if api == Api::GitHub { "Bearer" } else { "token" };
        let mut secret = HeaderValue::from_str(&format!("{scheme} {}", token.value())).context("the token is none")?;
        secret.set_sensitive(true);
        let agent = HeaderValue::from_static(concat!("recipe-harness/", env!("CARGO_PKG_VERSION")));
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(AUTHORIZATION, secret), (USER_AGENT, agent), (ACCEPT, json)]);
        // Wherever a redirect leads, it is no place for the token.
        let mut builder = reqwest::Client::builder().redirect(Policy::none()).default_headers(headers);
        let url = Url::parse(&base).with_context(|| format!("`{base}` is no address"))?;
        if url.host_str().is_some_and(is_loopback) {
            builder = builder.no_proxy();
        }
        if url.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().context(
            "failed to get ready for https by this machine's CA certificates (on Debian, apt-get install ca-certificates)",
        )?;
        Ok(Client { http, base, token, until: Instant::now() + deadline, deadline })
    }

    /// Asks until there is an answer that will not change, at most [`ATTEMPTS`] times. For what may be done twice.
    pub async fn ask(&self, ask: &Ask<'_>) -> Result<Answer> {
        let mut attempt = 1;
        loop {
            let answer = self.once(ask).await;
            let again = match &answer {
                Ok(answer) => answer.may_change(),
                Err(error) => error.is::<NoAnswer>(),
            };
            if !again || attempt == ATTEMPTS {
                return answer;
            }
            let later = answer.as_ref().ok().and_then(|answer| answer.later);
            if let Err(error) = self.pause(attempt, later).await {
                // What the forge said last is told with why it is not asked again.
                return Err(match answer {
                    Ok(answer) => {
                        error.context(format!("{} was answered by {}: {}", answer.asked, answer.status, answer.said()))
                    }
                    Err(last) => last.context(error.to_string()),
                });
            }
            attempt += 1;
        }
    }

    /// Waits before another attempt: as long as the forge asks for, else longer each time.
    pub async fn pause(&self, attempt: u32, later: Option<Duration>) -> Result<()> {
        let pause = later.unwrap_or(PAUSE * 2u32.pow(attempt - 1));
        let left = self.until.saturating_duration_since(Instant::now());
        if pause >= left {
            let [pause, deadline] = [pause, self.deadline].map(|it| humantime::format_duration(it).to_string());
            bail!("another attempt would begin in {pause}, and `--deadline {deadline}` ends before that");
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Asks once.
    pub async fn once(&self, ask: &Ask<'_>) -> Result<Answer> {
        let asked = format!("{} {}{}", ask.method, self.base, ask.path);
        let left = self.until.saturating_duration_since(Instant::now());
        // Half of what is left is for another attempt.
        let limit = ATTEMPT.min(left / 2).max(Duration::from_millis(100));
        let mut request = self.http.request(ask.method.clone(), format!("{}{}", self.base, ask.path)).timeout(limit);
        if let Some(body) = ask.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(|error| no_answer(&asked, limit, error))?;
        let status = answer.status().as_u16();
        if answer.status().is_redirection() {
            let to = answer.headers().get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
            bail!(
                "{asked} was answered by a redirect ({status}) to `{}`, which is not followed, because the token would go \
                 there, too: give the address that the forge itself uses, as `--forge URL` and `--repo OWNER/NAME`",
                to.unwrap_or_else(|| "nowhere".into()).escape_debug()
            );
        }
        let later = answer.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok()?.trim().parse().ok());
        let body = read(answer, ask.most, &asked, limit).await?;
        Ok(Answer { status, body, later: later.map(Duration::from_secs), asked })
    }
}

async fn read(mut answer: reqwest::Response, most: usize, asked: &str, limit: Duration) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| no_answer(asked, limit, error))? {
        body.extend_from_slice(&chunk);
        if body.len() > most {
            bail!("{asked} was answered by more than {} MiB, and no more of it is read", most >> 20);
        }
    }
    Ok(body)
}

/// The layers above only repeat the address.
fn no_answer(asked: &str, limit: Duration, error: reqwest::Error) -> Error {
    let why = match error.is_timeout() {
        true => {
            format!("nothing within {}", humantime::format_duration(Duration::from_millis(limit.as_millis() as u64)))
        }
        false => anyhow!(error).chain().last().map(ToString::to_string).unwrap_or_default(),
    };
    NoAnswer(format!("{asked} was not answered: {why}")).into()
}
