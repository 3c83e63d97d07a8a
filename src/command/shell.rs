//! What a shell and `man` want to know of the command: made from its declaration, so that it cannot be out of date.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Command;
use clap_complete::Shell;

/// Prints the completions for a shell.
pub fn completions(command: &mut Command, shell: Shell) -> Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(shell, command, "harness", &mut text);
    print(&text)
}

/// Prints the manual: the command's page, and one below it for each of its subcommands.
pub fn manual(mut command: Command) -> Result<ExitCode> {
    // Names of subcommands get the command before them.
    command.build();
    let mut text = Vec::new();
    let pages = std::iter::once(&command).chain(command.get_subcommands().filter(|it| it.get_name() != "help"));
    for page in pages {
        clap_mangen::Man::new(page.clone()).render(&mut text).context("failed to write the manual")?;
    }
    print(&text)
}

fn print(text: &[u8]) -> Result<ExitCode> {
    std::io::stdout().write_all(text).context("failed to print")?;
    Ok(ExitCode::SUCCESS)
}
