//! What is made of the definition of the command line: shell completions, man pages.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;

use super::failure::Failure;
use super::output::{bytes, line};

/// Options of `muster completions`.
#[derive(Args)]
pub(crate) struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

/// Options of `muster man`.
#[derive(Args)]
pub(crate) struct ManArgs {
    /// Where the pages go; it is made if need be
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints what a shell reads to complete `muster`.
pub(super) fn completions(args: &CompletionsArgs, mut program: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "muster", &mut script);
    bytes(&script)
}

/// Writes a page for each command.
pub(super) fn man(args: &ManArgs, program: Command) -> Result<(), Failure> {
    let folder = &args.folder;
    let made = std::fs::create_dir_all(folder);
    made.and_then(|()| clap_mangen::generate_to(program, folder))
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    line(&format!("the pages are in {}", folder.display()))
}
