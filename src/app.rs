//! What an assertion or a hook holds: the app, as it is after the last operation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::engine::embedded::cage::door::Changes;
use crate::engine::{Exec, ExecOutput, LogLine, ServiceState};
use crate::fault::Failure;
use crate::http;
pub use crate::http::Page;
use crate::keeper::protocol::{Answer, Call, Canary, Context, Databases, Evidence, Leak, Scattered};
use crate::keeper::silence::Silence;
use crate::keeper::socket;
use crate::poll::{Look, Poll};
use crate::recipe::abra::Identity;
use crate::recipe::backup::Lost;
use crate::recipe::route::Way;
use crate::tier::Tier;

/// The app under test. Every call has a deadline, and a call that cannot be answered is an error, never empty data.
#[derive(Clone)]
pub struct App {
    context: Context,
    run_dir: PathBuf,
    silence: Silence,
}

impl App {
    pub(crate) fn new(context: Context, run_dir: PathBuf, silence: Silence) -> Self {
        App { context, run_dir, silence }
    }

    /// The recipe's name.
    pub fn recipe(&self) -> &str {
        &self.context.recipe
    }

    /// The tier this assertion belongs to.
    pub fn tier(&self) -> Tier {
        self.context.tier
    }

    /// The domain the app was deployed under, as in `DOMAIN` of its `.env`.
    pub fn domain(&self) -> &str {
        &self.context.domain
    }

    /// The host that [`App::get`] asks for: the domain, unless `http.host` names another.
    pub fn host(&self) -> &str {
        &self.context.host
    }

    /// The Swarm stack name: the domain with `.` replaced by `_`.
    pub fn stack(&self) -> &str {
        &self.context.stack
    }

    /// What the run was configured with, `recipe.toml` included.
    pub fn settings(&self) -> &crate::config::Settings {
        &self.context.settings
    }

    /// Asks for a path through the app's own route and returns whatever status it answers with. Redirects are not
    /// followed. A connection that fails is tried again while a container may be cycling, until the `call` deadline.
    pub async fn get(&self, path: &str) -> Result<Page> {
        let settings = &self.context.settings;
        let path = &self.rewritten(path);
        http::get(self.base()?, self.host(), &settings.https, path, settings.call).await
    }

    /// Sends a form to a path through the app's own route and returns whatever status it answers with. It is sent
    /// once: a form that arrived twice would be two entries.
    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Result<Page> {
        let settings = &self.context.settings;
        let path = &self.rewritten(path);
        http::post(self.base()?, self.host(), &settings.https, path, form, settings.call).await
    }

    /// [`App::get`] with headers of your own.
    pub async fn get_with(&self, path: &str, headers: &BTreeMap<String, String>) -> Result<Page> {
        let settings = &self.context.settings;
        let path = &self.rewritten(path);
        http::get_with(self.base()?, self.host(), &settings.https, path, headers, settings.call).await
    }

    /// Sends a request of any method, once, as [`App::post`] does; its body is a form unless the headers say otherwise.
    pub async fn send(&self, method: &str, path: &str, headers: &BTreeMap<String, String>, body: &str) -> Result<Page> {
        let settings = &self.context.settings;
        let change = http::Change { method, path: &self.rewritten(path), headers, body };
        http::change(self.base()?, self.host(), &settings.https, &change, settings.call).await
    }

    /// The path that the container is asked for: what Traefik's middlewares would make of it, where no Traefik is asked.
    fn rewritten(&self, path: &str) -> String {
        self.context.rewrites.iter().fold(path.to_owned(), |path, rewrite| rewrite.apply(&path))
    }

    /// What a Traefik would do to a request on its way; nothing where one is asked. What is encrypted for the container
    /// itself nobody can change on the way.
    pub(crate) fn changes(&self) -> Changes {
        let is_plain = |url: &String| url.starts_with("http://");
        let url = self.context.url.as_ref().ok().filter(|url| is_plain(url));
        let headers = url.map(|url| http::forwarded(url, self.host())).unwrap_or_default();
        Changes { headers, rewrites: self.context.rewrites.clone() }
    }

    /// The address that [`App::get`] talks to. The app expects its domain in the `Host` header.
    pub fn base(&self) -> Result<&str> {
        match &self.context.url {
            Ok(url) => Ok(url),
            Err(reason) => bail!("the app has no HTTP address: {reason}"),
        }
    }

    /// Runs a command in the newest running container of a service. While the container is being replaced the call
    /// is tried again, until the `call` deadline; then it is an error. A command that fails is an [`ExecOutput`] with
    /// its exit code.
    pub async fn exec<S: AsRef<str>>(&self, service: &str, argv: impl IntoIterator<Item = S>) -> Result<ExecOutput> {
        let argv: Vec<String> = argv.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self.exec_with(Exec { service: service.to_owned(), argv, ..Exec::default() }).await
    }

    /// Runs a line in the container's shell: `app.sh("app", "ls /data | wc -l")`.
    pub async fn sh(&self, service: &str, line: &str) -> Result<ExecOutput> {
        self.exec(service, ["/bin/sh", "-c", line]).await
    }

    /// [`App::exec`] with standard input, user and deadline of your own.
    pub async fn exec_with(&self, mut exec: Exec) -> Result<ExecOutput> {
        if exec.deadline == Duration::ZERO {
            exec.deadline = self.context.settings.call;
        }
        match self.call(Call::Exec(exec)).await? {
            Answer::Exec(output) => Ok(output),
            other => unexpected(other),
        }
    }

    /// The last lines of a service's log over all its tasks, oldest first; all of them when `tail` is `None`.
    pub async fn logs(&self, service: &str, tail: impl Into<Option<usize>>) -> Result<Vec<LogLine>> {
        match self.call(Call::Logs { service: service.to_owned(), tail: tail.into() }).await? {
            Answer::Logs(lines) => Ok(lines),
            other => unexpected(other),
        }
    }

    /// Every service of the stack that exists, whether the compose files still name it or not.
    pub async fn services(&self) -> Result<Vec<ServiceState>> {
        match self.call(Call::Services).await? {
            Answer::Services(services) => Ok(services),
            other => unexpected(other),
        }
    }

    /// One service, by the name the compose file gives it.
    pub async fn service(&self, name: &str) -> Result<ServiceState> {
        let services = self.services().await?;
        let names: Vec<&str> = services.iter().map(|it| it.name.as_str()).collect();
        let known = names.join(", ");
        services
            .into_iter()
            .find(|it| it.name == name)
            .with_context(|| format!("no service `{name}`: there are {known}"))
    }

    /// Which recipe, version and commit the deployment says it is, by the labels abra puts on service `app`.
    pub async fn identity(&self) -> Result<Identity> {
        match self.call(Call::Identity).await? {
            Answer::Identity(identity) => Ok(identity),
            other => unexpected(other),
        }
    }

    /// Reads a file as the service's container sees it.
    pub async fn read(&self, service: &str, path: &str) -> Result<Vec<u8>> {
        match self.call(Call::Read { service: service.to_owned(), path: path.to_owned() }).await? {
            Answer::Content(content) => Ok(content),
            other => unexpected(other),
        }
    }

    /// Writes a file as the service's container sees it, with its parent directories.
    pub async fn write(&self, service: &str, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let content = content.as_ref().to_vec();
        match self.call(Call::Write { service: service.to_owned(), path: path.to_owned(), content }).await? {
            Answer::Done => Ok(()),
            other => unexpected(other),
        }
    }

    /// Keeps a value for a later hook or assertion of this run.
    pub async fn remember(&self, key: &str, value: impl Into<String>) -> Result<()> {
        match self.call(Call::Remember { key: key.to_owned(), value: value.into() }).await? {
            Answer::Done => Ok(()),
            other => unexpected(other),
        }
    }

    /// A value that an earlier hook or assertion of this run remembered; nothing remembered is an error.
    pub async fn recall(&self, key: &str) -> Result<String> {
        match self.call(Call::Recall { key: key.to_owned() }).await? {
            Answer::Recalled(Some(value)) => Ok(value),
            Answer::Recalled(None) => bail!("nothing was remembered as `{key}`: a hook has to call `remember` first"),
            other => unexpected(other),
        }
    }

    /// Notes something that a reader of the run should know and that is no failure. The same sentence is noted once.
    pub async fn note(&self, text: impl Into<String>) -> Result<()> {
        match self.call(Call::Note { text: text.into() }).await? {
            Answer::Done => Ok(()),
            other => unexpected(other),
        }
    }

    /// Whether a port of a service's container accepts a TCP connection now.
    pub async fn connects(&self, service: &str, port: u16) -> Result<bool> {
        match self.call(Call::Connects { service: service.to_owned(), port }).await? {
            Answer::Connects(connects) => Ok(connects),
            other => unexpected(other),
        }
    }

    /// Looks again and again until it is so, within the `call` deadline; a time-out says what was last seen.
    pub async fn eventually<T, F>(&self, what: &str, look: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Look<T>>>,
    {
        Poll { interval: Duration::from_millis(20), deadline: self.context.settings.call }.until(what, look).await
    }

    /// What the harness knows and did: versions, images, operations, the snapshot.
    pub async fn evidence(&self) -> Result<Evidence> {
        match self.call(Call::Evidence).await? {
            Answer::Evidence(evidence) => Ok(*evidence),
            other => unexpected(other),
        }
    }

    /// The files that the harness put into every named volume, and what became of them.
    pub async fn canaries(&self) -> Result<Vec<Canary>> {
        match self.call(Call::Canaries).await? {
            Answer::Canaries(canaries) => Ok(canaries),
            other => unexpected(other),
        }
    }

    /// The way from the app's address to its container, as Traefik would take it.
    pub async fn way(&self) -> Result<Way> {
        match self.call(Call::Way).await? {
            Answer::Way(way) => Ok(*way),
            other => unexpected(other),
        }
    }

    /// The rows that the harness wrote into the app's databases, and what became of them.
    pub async fn databases(&self) -> Result<Databases> {
        match self.call(Call::Databases).await? {
            Answer::Databases(databases) => Ok(databases),
            other => unexpected(other),
        }
    }

    /// What containers wrote where nothing outlives them.
    pub async fn scattered(&self) -> Result<Scattered> {
        match self.call(Call::Scattered).await? {
            Answer::Scattered(scattered) => Ok(scattered),
            other => unexpected(other),
        }
    }

    /// What the base puts into a snapshot and the labels of what is deployed do not.
    pub async fn uncovered(&self) -> Result<Vec<Lost>> {
        match self.call(Call::Uncovered).await? {
            Answer::Uncovered(lost) => Ok(lost),
            other => unexpected(other),
        }
    }

    /// Generated secrets that stand in a service's log.
    pub async fn leaks(&self) -> Result<Vec<Leak>> {
        match self.call(Call::Leaks).await? {
            Answer::Leaks(leaks) => Ok(leaks),
            other => unexpected(other),
        }
    }

    /// Every call has a connection of its own: calls may overlap, and one that hangs holds up no other.
    async fn call(&self, call: Call) -> Result<Answer> {
        let gone = |error| self.silence.failure(error);
        let mut wire = socket::connect(&self.run_dir).await.map_err(gone)?;
        wire.send(&call).await.map_err(gone)?;
        match wire.receive().await.map_err(gone)? {
            Some(Answer::Failed(failure)) => Err(failure.into()),
            Some(answer) => Ok(answer),
            None => Err(gone(anyhow::anyhow!("it closed the connection"))),
        }
    }
}

fn unexpected<T>(answer: Answer) -> Result<T> {
    Err(Failure::harness(anyhow::anyhow!("the keeper answered with something else: {answer:?}")).into())
}

impl ExecOutput {
    /// Standard output as text, without the last line break.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches('\n').to_owned()
    }

    /// This output, or an error with the end of what the command said if it failed.
    pub fn success(self) -> Result<ExecOutput> {
        if self.code == 0 {
            return Ok(self);
        }
        let said = if self.stderr.is_empty() { &self.stdout } else { &self.stderr };
        let said = String::from_utf8_lossy(said);
        let tail: Vec<&str> = said.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect();
        bail!("the command exited with code {}: {}", self.code, tail.join(" | "))
    }
}

/// Ends an assertion as ignored, with the reason: it could not look, which is neither a pass nor a failure.
///
/// ```ignore
/// if app.evidence().await?.snapshot.is_none() {
///     return harness::skip("no snapshot was made");
/// }
/// ```
pub fn skip(reason: impl Into<String>) -> Result<()> {
    Err(CouldNotLook(reason.into()).into())
}

/// The error behind [`skip`].
#[derive(Debug)]
pub struct CouldNotLook(pub String);

impl std::fmt::Display for CouldNotLook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CouldNotLook {}
