//! Under nextest every trial is a process of its own. They share one keeper: the first that needs it starts it, the
//! others find it, and it outlives them all until nextest itself is gone or the trial `tier::teardown` ends it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Error, Result, anyhow, bail};
use rustix::fs::{FlockOperation, flock};

use super::candidates::Stopped;
use super::exit::Code;
use super::recipe_run::RecipeRun;
use super::selection::{TEARDOWN, operation_name};
use super::trial;
use super::{leaks, reports};
use crate::assertion::Registry;
use crate::config::cli::Cli;
use crate::config::state::{self, create_private};
use crate::engine::EngineSpec;
use crate::keeper::spec::Client;
use crate::prepare::{self, Prepared, Unbegun};
use crate::report::results::Verdict;
use crate::report::{header, verdict};
use crate::tier::Tier;

/// The group of `.config/nextest.toml` that runs one trial at a time.
const GROUP: &str = "recipe";
/// Where that file stands in a checkout.
const CONFIGURATION: &str = ".config/nextest.toml";

/// Whether nextest has started this process.
pub fn is_here() -> bool {
    variable("NEXTEST").is_some()
}

/// Lists the trials of a recipe, or runs the one that nextest asks for.
pub fn run(cli: &Cli, registry: Arc<Registry>, recipes: &[String]) -> Result<ExitCode> {
    let [recipe] = recipes else {
        bail!("nextest runs one recipe at a time, but {} were given: {}", recipes.len(), recipes.join(", "));
    };
    if cli.mimic.list {
        check_configuration()?;
    } else {
        check_group(variable("NEXTEST_TEST_GROUP").as_deref())?;
    }
    let share = Share::new(recipe)?;
    let prepared = share.prepared(cli, &registry, recipe)?;
    let run = Arc::new(RecipeRun::shared(prepared, registry, cli, share.lock));
    // nextest shows this where its configuration says so: for the first trial, and for the last.
    if !cli.mimic.list && run.selects(&operation_name(Tier::Install)) {
        header::print(&run.prepared, None);
    }
    let conclusion = libtest_mimic::run(&cli.mimic, trial::of_run(&run));
    let mut too_little = false;
    if !cli.mimic.list && run.selects(TEARDOWN) && run.prepared.run_dir.is_dir() {
        let (dir, results) = reports::of(&run);
        too_little = results.verdict == Verdict::TooLittle;
        eprint!(
            "{}",
            verdict::text(&[verdict::Row { results: &results, dir: Some(&dir) }], |text| run.session.masked(text))
        );
    }
    // The keeper has written the reports by then, after its own search.
    let clean = !run.session.has_ended() || leaks::search(cli, &[run]);
    Ok(match (clean, too_little) {
        (false, _) => ExitCode::from(Code::Trouble.number()),
        // No trial has failed; nextest shows the last one so, with the reason that stands above.
        (true, true) => ExitCode::from(Code::Unproven.number()),
        (true, false) => conclusion.exit_code(),
    })
}

/// What the processes of one nextest run know of each other, by files in the state directory.
struct Share {
    /// The decided run, once the first process has decided it.
    run: PathBuf,
    /// Held while the run is decided, and while the keeper is started.
    lock: PathBuf,
}

impl Share {
    fn new(recipe: &str) -> Result<Self> {
        let id =
            variable("NEXTEST_RUN_ID").context("nextest gives no NEXTEST_RUN_ID: version 0.9.138 or newer does")?;
        if !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            bail!("NEXTEST_RUN_ID is `{}`, which is no id of a run", id.escape_debug());
        }
        let dir = state::dir(&variable)?.join("nextest");
        create_private(&dir)?;
        Ok(Share { run: dir.join(format!("{id}-{recipe}.json")), lock: dir.join(format!("{id}-{recipe}.lock")) })
    }

    /// The run as the first process has decided it. That is one that lists, so that what cannot be proven is known
    /// before anything runs: nextest shows a trial that finds out while it runs as passed.
    fn prepared(&self, cli: &Cli, registry: &Registry, recipe: &str) -> Result<Prepared> {
        let _held = hold(&self.lock)?;
        if let Ok(json) = std::fs::read(&self.run) {
            return serde_json::from_slice(&json)
                .with_context(|| format!("failed to understand `{}`", self.run.display()));
        }
        forget_ended(self.run.parent().unwrap_or(Path::new(".")));
        let mut prepared = match prepare::prepare(cli, recipe)? {
            Ok(prepared) => prepared,
            Err(unbegun) => return Err(cannot_begin(cli, registry, *unbegun)),
        };
        prepared.spec.client = nextest()?;
        if matches!(prepared.spec.engine, EngineSpec::Embedded) {
            super::preflight(&prepared.spec.state)?;
        }
        let json = serde_json::to_vec(&prepared).context("failed to encode the run")?;
        std::fs::write(&self.run, json).with_context(|| format!("failed to write `{}`", self.run.display()))?;
        Ok(prepared)
    }
}

/// Writes every report of a run that cannot begin; nextest itself is told by the error, and goes no further.
fn cannot_begin(cli: &Cli, registry: &Registry, unbegun: Unbegun) -> Error {
    let stopped = Stopped::new(unbegun, registry, cli, false);
    let recorded = stopped.record();
    reports::write(cli, &[(stopped.run_dir.clone(), stopped.results())]);
    let error = anyhow!("{}; the report is {}", stopped.failure, verdict::link(&stopped.run_dir));
    match recorded {
        Ok(()) => error,
        Err(failed) => error.context(format!("the reports could not be written: {failed:#}")),
    }
}

/// Takes a lock that ends with this process at the latest.
fn hold(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("failed to create `{}`", path.display()))?;
    flock(&file, FlockOperation::LockExclusive).with_context(|| format!("failed to lock `{}`", path.display()))?;
    Ok(file)
}

/// Removes what the processes of nextest runs that are over have left here.
fn forget_ended(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let run = std::fs::read(&path).ok().and_then(|json| serde_json::from_slice::<Prepared>(&json).ok());
        if run.is_some_and(|run| !run.spec.client.is_alive()) {
            // Two may do this at once; what one does not find, the other has removed.
            let _ = std::fs::remove_file(path.with_extension("lock"));
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The process of nextest itself: the nearest ancestor of that name, because a wrapper may stand between.
fn nextest() -> Result<Client> {
    let mut pid = std::process::id() as i32;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(1)?.parse().ok());
        match parent {
            Some(parent) if parent > 1 => pid = parent,
            _ => bail!("nextest has started this process, but no `cargo-nextest` is among its ancestors"),
        }
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim_end() == "cargo-nextest" {
            return Client::look_up(pid).context("failed to look nextest up in /proc");
        }
    }
}

/// Looks before anything is decided whether nextest will keep the order; what the file says is not all that counts, so
/// that each trial looks again.
fn check_configuration() -> Result<()> {
    let root = variable("NEXTEST_WORKSPACE_ROOT").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let path = Path::new(&root).join(CONFIGURATION);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let table: toml::Table = text.parse().with_context(|| format!("failed to read `{}`", path.display()))?;
    if !orders(&table) {
        bail!(
            "`{}` has no group `{GROUP}` with priorities, without which nextest runs the trials in no usable order: take \
             the file over from the recipe harness, or use `cargo test`",
            path.display()
        );
    }
    Ok(())
}

/// Whether any profile puts trials into the group, and ranks them.
fn orders(table: &toml::Table) -> bool {
    let has_group = table.get("test-groups").and_then(|groups| groups.get(GROUP)).is_some();
    let profiles = table.get("profile").and_then(toml::Value::as_table).into_iter().flat_map(|it| it.values());
    let overrides: Vec<&toml::Value> =
        profiles.filter_map(|profile| profile.get("overrides")?.as_array()).flatten().collect();
    let grouped = overrides.iter().any(|it| it.get("test-group").and_then(toml::Value::as_str) == Some(GROUP));
    has_group && grouped && overrides.iter().any(|it| it.get("priority").is_some())
}

fn check_group(group: Option<&str>) -> Result<()> {
    if group != Some(GROUP) {
        bail!(
            "nextest runs this trial in the group `{}`, not in `{GROUP}`: it has not read `{CONFIGURATION}`; use that \
             file, or `cargo test`",
            group.unwrap_or("@global")
        );
    }
    Ok(())
}

fn variable(key: &str) -> Option<String> {
    std::env::var(key).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_configuration_orders_and_others_do_not() {
        let shipped = std::fs::read_to_string(crate::program::root().join(CONFIGURATION)).unwrap();
        let orders = |text: &str| super::orders(&text.parse().unwrap());
        assert!(orders(&shipped));
        assert!(!orders(""));
        assert!(!orders(&shipped.replace("priority =", "# priority =")));
        assert!(!orders(&shipped.replace("test-group =", "# test-group =")));
        assert!(!orders(&shipped.replace("[test-groups]", "[other-groups]")));
    }

    #[test]
    fn a_trial_outside_the_group_is_refused() {
        assert!(check_group(Some("recipe")).is_ok());
        let line = check_group(None).unwrap_err().to_string();
        assert!(line.starts_with("nextest runs this trial in the group `@global`, not in `recipe`"), "{line}");
    }

    #[test]
    fn without_nextest_among_the_ancestors_nobody_is_watched() {
        // Under nextest itself it is found.
        if !is_here() {
            assert!(nextest().unwrap_err().to_string().contains("no `cargo-nextest` is among its ancestors"));
        }
    }
}
