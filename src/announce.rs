//! `harness announce`: a run's verdict on its pull request, as a commit status and as one comment that later runs edit.
//!
//! Nothing is kept: where to, is told by flags or by the CI server's environment; the comment is found again by a hidden
//! mark in a comment of the token's own user.

mod forge;
mod place;
mod request;
mod token;
mod told;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::config::{secrets, state};
use crate::keeper::read_back::{self, read_back};
use crate::keeper::sweep;
use crate::mask::Masks;
use crate::plain::printed;
use crate::report::comment::{self, Beside};
use crate::report::history;
use crate::report::results::{Results, SCHEMA, Verdict};
use forge::{Forge, Found};
use place::{Api, Place};

/// What the status is called, unless somebody says otherwise.
const CONTEXT: &str = "recipe-harness/testme";
/// Characters of a status: what GitHub takes.
const LONGEST: usize = 140;
/// No results are nearly as large.
const LARGEST: u64 = 64 << 20;

#[derive(clap::Args)]
pub struct Options {
    /// The run's id, or the folder with its reports; not needed with `--pending`
    #[arg(required_unless_present = "pending")]
    run: Option<String>,
    /// Before a run: says that there will be a verdict
    #[arg(long)]
    pending: bool,
    /// The address of the forge, such as https://git.example.org; the CI server's when not given, like the next four
    #[arg(long, value_name = "URL")]
    forge: Option<String>,
    /// What the forge speaks: `gitea`, also for Forgejo, or `github`
    #[arg(long, value_name = "API")]
    api: Option<Api>,
    /// The repository of the pull request
    #[arg(long, value_name = "OWNER/NAME")]
    repo: Option<String>,
    /// The pull request
    #[arg(long, value_name = "NUMBER")]
    pr: Option<String>,
    /// The commit that was tested, and that the status stands at: 40 hex digits
    #[arg(long, value_name = "SHA")]
    sha: Option<String>,
    /// Where the log and the report are, with a name if you like; may be given several times, the first is the status's
    #[arg(long, value_name = "[NAME=]URL")]
    link: Vec<String>,
    /// What the status and the comment are told from others by
    #[arg(long, value_name = "NAME", default_value = CONTEXT)]
    context: String,
    /// The file with the token; else HARNESS_FORGE_TOKEN holds it
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Whose comments are edited: the token's own user, where the forge does not tell who that is
    #[arg(long, value_name = "LOGIN")]
    user: Option<String>,
    /// The run may be of another commit than the one that the status stands at, as where a repository of overlays tests
    /// a published recipe
    #[arg(long)]
    any_commit: bool,
    /// How long the forge is tried in all
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    deadline: Duration,
}

/// What is said about a commit.
struct Verdicts {
    state: &'static str,
    /// One line for the status.
    line: String,
    /// What was read of the run, if it could be read.
    results: Option<Box<Results>>,
    /// The last green run before it.
    green: Option<Box<Results>>,
    /// Why the run cannot be told of, if so.
    trouble: Option<String>,
}

/// Tells the forge, and says on standard error what became of it.
pub async fn run(options: Options) -> Result<ExitCode> {
    let env = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
    ensure!(is_context(&options.context), "`--context` takes letters, digits and any of `_-./ `, at most 100 of them");
    let given = place::Given {
        forge: &options.forge,
        api: options.api,
        repo: &options.repo,
        pr: &options.pr,
        sha: &options.sha,
    };
    let Some(place) = place::find(&given, &options.link, &env)? else {
        eprintln!("this build is of no pull request: nothing is announced (`--pr NUMBER` names one)");
        return Ok(ExitCode::SUCCESS);
    };
    let token = token::find(options.token_file.as_deref(), &env)?;
    for (what, value, from) in place.lines().into_iter().chain([("token", "***".to_owned(), token.from.clone())]) {
        eprintln!("{what:<8} {} ({})", printed(&value), printed(&from));
    }
    let masks = masks(token.value())?;
    let verdicts = if options.pending { pending() } else { judged(&options, &place, &masks)? };
    let forge = Forge::new(&place, token, options.deadline)?;
    let status = forge.status(verdicts.state, &line(&masks.mask(&verdicts.line)), &options.context).await;
    let status =
        status.map(|()| eprintln!("status   {}: {}", verdicts.state, printed(&line(&masks.mask(&verdicts.line)))));
    // The one may be refused where the other is not: both are tried.
    let comment = tell(&forge, &place, &options, &verdicts, &masks).await;
    let comment = comment.map(|told| eprintln!("comment  {}", printed(&masks.mask(&told))));
    let failed = [status.err(), comment.err()].into_iter().flatten().map(|error| {
        eprintln!("error: {}", printed(&masks.mask(&format!("{error:#}"))));
    });
    let forge_refused = failed.count() > 0;
    if let Some(trouble) = &verdicts.trouble {
        eprintln!("error: {}", printed(&masks.mask(trouble)));
    }
    Ok(match (forge_refused, verdicts.trouble.is_some()) {
        (true, _) => ExitCode::from(3),
        (false, true) => ExitCode::from(2),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// Writes the comment, or edits the one that is there. Says which, and where it is.
async fn tell(forge: &Forge, place: &Place, options: &Options, verdicts: &Verdicts, masks: &Masks) -> Result<String> {
    let head = forge.head_of_pull().await?;
    let user = forge.own_user(options.user.as_deref(), place.automatic_users()).await?;
    let moved_to = (head != place.sha.value).then_some(head.as_str());
    let beside =
        Beside { sha: &place.sha.value, moved_to, green: verdicts.green.as_deref(), links: &place.links, masks };
    let text = match (&verdicts.results, &verdicts.trouble) {
        (Some(results), _) => comment::render(results, &beside),
        (None, Some(trouble)) => comment::nothing(trouble, &beside),
        (None, None) => comment::pending(&beside),
    };
    let mark = told::mark(&options.context, &place.sha.value);
    let body = format!("{mark}\n{}", masks.mask(&text));
    let is_ours = |body: &str| told::is_marked(body, &options.context);
    // A slower run of an older commit must not take the place of what is said about the head.
    let is_newer = |body: &str| moved_to.is_some() && told::sha(body, &options.context) == Some(head.as_str());
    match forge.say(&user, &body, is_ours, is_newer).await? {
        Found::Written(address) => Ok(format!("written: {address}")),
        Found::Edited(address) => Ok(format!("edited: {address}")),
        Found::Newer(address) => Ok(format!("left as it is, because it is about the newer head: {address}")),
    }
}

fn pending() -> Verdicts {
    Verdicts { state: "pending", line: "the recipe is being tested".into(), results: None, green: None, trouble: None }
}

/// What the run says. One that left nothing, or is about another commit, is an error: the status must not stay pending,
/// and must never be green.
fn judged(options: &Options, place: &Place, masks: &Masks) -> Result<Verdicts> {
    let run = options.run.as_deref().context("no run is named")?;
    let error = |line: &str, trouble: String| {
        let trouble = Some(masks.mask(&trouble));
        Ok(Verdicts { state: "error", line: line.to_owned(), results: None, green: None, trouble })
    };
    let results = match read(&dir_of(run)?) {
        Ok(results) => Box::new(results),
        Err(why) => return error("the run has left no results", format!("{why:#}")),
    };
    let sha = &place.sha.value;
    let is_same = results.commit == *sha && !results.dirty;
    // Of a run that could not begin nobody may know the commit.
    if !is_same && !options.any_commit && !results.commit.is_empty() {
        let dirty = if results.dirty { " with uncommitted changes" } else { "" };
        let line = format!("tested was {}{dirty}, and not this commit", results.commit);
        let trouble = format!(
            "the run is of commit `{}`{dirty}, and not of `{sha}`: test that commit, or give `--any-commit` where that is meant",
            results.commit
        );
        return error(&line, trouble);
    }
    let state = match results.verdict {
        Verdict::Passed if results.commit.is_empty() && !options.any_commit => {
            return error("nobody knows which commit was tested", "the run names no commit".into());
        }
        Verdict::Passed => "success",
        Verdict::Failed | Verdict::NothingProven | Verdict::TooLittle => "failure",
        Verdict::Error | Verdict::BrokenOff => "error",
    };
    let green = last_green(&results).map(Box::new);
    let line = comment::in_short(&results, green.as_deref());
    Ok(Verdicts { state, line, results: Some(results), green, trouble: None })
}

/// A run's folder by its path, or by its id among this machine's runs.
fn dir_of(run: &str) -> Result<PathBuf> {
    if run.contains('/') || Path::new(run).is_dir() {
        return Ok(run.into());
    }
    Ok(runs_dir()?.join(run))
}

fn runs_dir() -> Result<PathBuf> {
    Ok(sweep::runs_dir(&state::dir(&|key| std::env::var(key).ok())?))
}

/// The folder may come from another machine: only a plain file of a known format is believed.
fn read(dir: &Path) -> Result<Results> {
    let failed = || format!("failed to read the results of the run in `{}`", dir.display());
    let json = read_back::open(dir).and_then(|open| read_back(&open, "results.json", LARGEST)).with_context(failed)?;
    let json = json
        .with_context(|| format!("there is no `results.json` in `{}`: it ended before it left any", dir.display()))?;
    let results: Results = serde_json::from_slice(&json).with_context(failed)?;
    if results.schema != SCHEMA {
        bail!("the results in `{}` have format {}, and this harness knows {SCHEMA}", dir.display(), results.schema);
    }
    Ok(results)
}

/// The last green run of the same recipe on the same engine before this one, among this machine's runs.
fn last_green(results: &Results) -> Option<Results> {
    let is_it = |it: &Results| {
        let same = it.recipe == results.recipe && it.engine == results.engine && it.run_id != results.run_id;
        same && it.verdict == Verdict::Passed && it.started < results.started
    };
    history::read(&runs_dir().ok()?).into_iter().rfind(is_it)
}

/// Beside the token, whatever this process was given that is called a secret: a log may have printed it.
fn masks(token: &str) -> Result<Masks> {
    let is_secret = |name: &str, value: &str| {
        let called =
            ["TOKEN", "SECRET", "PASSWORD", "PASSWD"].iter().any(|word| name.to_ascii_uppercase().contains(word));
        // Of a guess, only what nobody would write by chance.
        name.starts_with(secrets::PREFIX) || (called && value.len() >= 12)
    };
    let vars =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut values: Vec<String> = vars.filter(|(name, value)| is_secret(name, value)).map(|(_, value)| value).collect();
    values.push(token.to_owned());
    Masks::new(values.iter().map(String::as_str))
}

/// One line of so many characters as a status has room for, with nothing in it that acts.
fn line(text: &str) -> String {
    let text: String = crate::report::comment::one_line(text);
    match text.chars().count() > LONGEST {
        true => text.chars().take(LONGEST - 1).chain(['…']).collect(),
        false => text,
    }
}

fn is_context(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-./ ".contains(c);
    (1..=100).contains(&name.len()) && name.chars().all(fits) && name.trim() == name && !name.contains("--")
}
