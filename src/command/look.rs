//! `harness exec`, `harness logs` and `harness init`: what is printed, and the exit code.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::caller;
use crate::client::look;
use crate::engine::Exec;
use crate::init;
use crate::plain::plain;
use crate::prepare::quoted;
use crate::program;
use anyhow::{Context as _, Result};

/// Whoever looks into an app has time, and no way to say when it is enough but Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(3600);

#[derive(clap::Args)]
pub struct Command {
    /// The run's id, as `harness runs` lists it
    pub run: String,
    /// The service, as the compose file names it
    service: String,
    /// Hand standard input on to the command, to its end
    #[arg(short = 'i', long)]
    stdin: bool,
    /// The user in the container; its own when not given
    #[arg(long)]
    user: Option<String>,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

#[derive(clap::Args)]
pub struct Logs {
    /// The run's id, as `harness runs` lists it
    pub run: String,
    /// The service, as the compose file names it
    service: String,
    /// Only so many lines, the last ones
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
}

#[derive(clap::Args)]
pub struct Init {
    /// The recipe's name
    recipe: String,
    /// A working copy of it, instead of where recipes come from
    #[arg(long, value_name = "PATH")]
    recipe_dir: Option<PathBuf>,
}

/// Ends with the command's own exit code.
pub async fn exec(command: Command, dir: &Path) -> Result<ExitCode> {
    let mut stdin = Vec::new();
    if command.stdin {
        std::io::stdin().read_to_end(&mut stdin).context("failed to read standard input")?;
    }
    let Command { run, service, user, argv, .. } = command;
    let exec = Exec { service, argv, stdin, user, deadline: PATIENCE };
    let output = look::exec(&run, dir, exec).await?;
    std::io::stdout().write_all(&output.stdout).context("failed to print")?;
    std::io::stderr().write_all(&output.stderr).context("failed to print")?;
    if output.truncated {
        eprintln!("note: the output was longer, and is cut");
    }
    Ok(ExitCode::from(u8::try_from(output.code).unwrap_or(u8::MAX)))
}

pub async fn logs(logs: Logs, dir: &Path) -> Result<ExitCode> {
    let lines = look::logs(&logs.run, dir, &logs.service, logs.tail).await?;
    let text: String = lines.iter().map(|line| plain(line) + "\n").collect();
    std::io::stdout().write_all(text.as_bytes()).context("failed to print")?;
    Ok(ExitCode::SUCCESS)
}

pub fn init(init: &Init) -> Result<ExitCode> {
    let working_copy = init.recipe_dir.as_deref().map(caller::absolute).transpose()?;
    for draft in init::drafts(&init.recipe, working_copy.as_deref())? {
        draft.write()?;
        eprintln!("wrote {}", draft.path.display());
    }
    let way = working_copy.map_or_else(String::new, |dir| format!(" --recipe-dir {}", quoted(&dir.to_string_lossy())));
    eprintln!("try it: {} --recipe {}{way}", program::test(), init.recipe);
    Ok(ExitCode::SUCCESS)
}
