//! The command line of the runner: libtest's own flags, and the harness's beside them.

use std::path::PathBuf;

use clap::Parser;
use libtest_mimic::Arguments;

/// Every flag. Values stay text here: they are checked in one place, which answers with one line.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    name = "cargo test --test recipe --",
    about = "Deploys Co-op Cloud recipes once, performs one operation per tier, and judges the state after each",
    disable_version_flag = true,
    after_help = "Guides: README.md, docs/. Without a recipe every trial is listed as ignored and nothing is deployed."
)]
pub struct Cli {
    /// The recipe to test; may be given several times
    #[arg(long, value_name = "NAME", env = "HARNESS_RECIPE", value_delimiter = ',')]
    pub recipe: Vec<String>,

    /// Test a working copy instead of a published repository, uncommitted changes included
    #[arg(long, value_name = "PATH", env = "HARNESS_RECIPE_DIR")]
    pub recipe_dir: Option<PathBuf>,

    /// The commit, branch or tag under test; the default branch when not given
    #[arg(long = "ref", value_name = "SHA|BRANCH|TAG", env = "HARNESS_REF")]
    pub reference: Option<String>,

    /// Test the head of this pull request
    #[arg(long, value_name = "NUMBER", env = "HARNESS_PR")]
    pub pr: Option<String>,

    /// The published version to upgrade from; the newest one older than the head when not given
    #[arg(long, value_name = "VERSION", env = "HARNESS_BASE")]
    pub base: Option<String>,

    /// Only these tiers: install, upgrade, backup, restore, custom
    #[arg(long, value_name = "TIER,…", env = "HARNESS_TIERS", value_delimiter = ',')]
    pub tiers: Vec<String>,

    /// Leave out the generic assertions, of all tiers or of those named; said loudly and recorded
    #[arg(long, value_name = "TIER,…", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub skip_generic: Option<String>,

    /// What deploys: auto, abra, swarm, embedded
    #[arg(long, value_name = "ENGINE", env = "HARNESS_ENGINE")]
    pub engine: Option<String>,

    /// Leave the app up at the end (always, or `on-failure`), and say how to reach and remove it
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    pub keep: Option<String>,

    /// The value of a secret, from a file; may be given several times. HARNESS_SECRET_<NAME> does the same
    #[arg(long, value_name = "NAME=@FILE")]
    pub secret: Vec<String>,

    /// Stop at the first failure of a recipe: what has not begun by then is shown as ignored
    #[arg(short = 'x', long)]
    pub fail_fast: bool,

    /// Only the trials that failed in the recipe's last run; all of them when none did
    #[arg(long)]
    pub last_failed: bool,

    /// Run again whenever a file of the overlay or the recipe changes, on the same app; Ctrl-C tears it down
    #[arg(long)]
    pub watch: bool,

    /// Plant one fault between the harness and the app: the run must fail, and proves nothing about the recipe
    #[arg(long, value_name = "FAULT")]
    pub sabotage: Option<String>,

    /// What is not proven fails, with exit code 4: an unverified tier, no recipe, a file that nothing runs, a trial without
    /// effect. On where CI=true, and off with `--strict=false`
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", env = "HARNESS_STRICT")]
    pub strict: Option<String>,

    /// The level that a recipe must reach, 0 to 5; exit code 4 below it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=5))]
    pub min_level: Option<u8>,

    /// How many recipes are tested at the same time; as many as the machine has room for when not given
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,

    /// Print what would be done, and why, and stop
    #[arg(long)]
    pub plan: bool,

    /// Where the run keeps its journal, logs and state; a new directory below the state directory when not given
    #[arg(long, value_name = "PATH")]
    pub run_dir: Option<PathBuf>,

    /// Write a JUnit file here, beside the one in the run directory
    #[arg(long, value_name = "PATH", env = "HARNESS_JUNIT")]
    pub junit: Option<PathBuf>,

    /// Copy each recipe's reports to a folder of its name in here, in the place of earlier ones: what CI collects
    #[arg(long, value_name = "DIR", env = "HARNESS_REPORT_DIR")]
    pub report_dir: Option<PathBuf>,

    /// Accepted and without effect: output is never captured
    #[arg(long = "no-capture", hide = true)]
    pub no_capture: bool,

    #[command(flatten)]
    pub mimic: Arguments,

    /// Short names of the environment that stand for a flag, each with it
    #[arg(skip)]
    pub short: Vec<(&'static str, &'static str)>,
}

impl Cli {
    /// Whether `--recipe` was typed, rather than taken from the environment.
    pub fn names_recipe_on_command_line(arguments: &[String]) -> bool {
        arguments.iter().any(|argument| argument == "--recipe" || argument.starts_with("--recipe="))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Cli {
        Cli::try_parse_from([&["recipe"], arguments].concat()).unwrap()
    }

    #[test]
    fn the_harnesss_flags_stand_beside_libtests() {
        let cli =
            parse(&["--recipe", "a", "--recipe", "b", "--keep", "--exact", "tier::install", "--no-capture", "-q"]);
        assert_eq!(cli.recipe, ["a", "b"]);
        assert_eq!(cli.keep.as_deref(), Some("always"));
        assert!(cli.mimic.exact && cli.mimic.quiet);
        assert_eq!(cli.mimic.filter.as_deref(), Some("tier::install"));
    }

    #[test]
    fn a_flag_with_an_optional_value_does_not_swallow_the_filter() {
        let cli = parse(&["--skip-generic", "overlays::custom_html"]);
        assert_eq!(cli.skip_generic.as_deref(), Some("all"));
        assert_eq!(cli.mimic.filter.as_deref(), Some("overlays::custom_html"));
        assert_eq!(parse(&["--skip-generic=backup,restore"]).skip_generic.as_deref(), Some("backup,restore"));
        assert_eq!(parse(&["--keep=on-failure"]).keep.as_deref(), Some("on-failure"));
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        let error = Cli::try_parse_from(["recipe", "--receipt", "x"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("unexpected argument '--receipt'"), "{error}");
    }
}
