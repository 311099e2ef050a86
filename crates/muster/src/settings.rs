//! Settings from a file. Every option of a command can stand in a TOML file under
//! its own name, with `_` for `-`; what is given on the command line or in the
//! environment comes first.
//!
//! The file's values become the defaults of the command's options, so an option
//! is declared in one place and checked in one way, wherever its value stood.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Command;

/// Environment variable that names the file.
const CONFIG_ENV: &str = "MUSTER_CONFIG";

/// `command` with the values of its settings file, if the arguments or the
/// environment name one, as the defaults of the chosen subcommand.
pub(crate) fn with_file_defaults(
    command: Command,
    args: impl IntoIterator<Item = OsString>,
) -> anyhow::Result<Command> {
    let args: Vec<OsString> = args.into_iter().collect();
    let Some(path) = file(&args) else { return Ok(command) };
    let chosen = args.iter().skip(1).filter_map(|arg| arg.to_str());
    let name = chosen.into_iter().find(|arg| command.find_subcommand(arg).is_some_and(takes_file));
    let Some(name) = name.map(str::to_owned) else { return Ok(command) };
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let table: toml::Table = text.parse().with_context(|| path.display().to_string())?;
    let known = known_options(&command, &name);
    for key in table.keys() {
        if !known.contains(key) {
            bail!("{}: {key:?} is no setting of muster {name}; known are {}", path.display(), known.join(", "));
        }
    }
    Ok(command.mut_subcommand(&name, |subcommand| with_defaults(subcommand, &table)))
}

fn file(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter().filter_map(|arg| arg.to_str());
    while let Some(arg) = args.next() {
        match arg.strip_prefix("--config") {
            Some("") => return args.next().map(PathBuf::from),
            Some(rest) if rest.starts_with('=') => return Some(PathBuf::from(&rest[1..])),
            _ => {}
        }
    }
    std::env::var_os(CONFIG_ENV).map(PathBuf::from)
}

fn takes_file(subcommand: &Command) -> bool {
    subcommand.get_arguments().any(|arg| arg.get_id() == "config")
}

fn known_options(command: &Command, subcommand: &str) -> Vec<String> {
    let arguments = command.find_subcommand(subcommand).into_iter().flat_map(Command::get_arguments);
    let options = arguments.filter(|arg| arg.get_long().is_some_and(|long| long != "config"));
    options.map(|arg| arg.get_id().to_string()).collect()
}

fn with_defaults(command: Command, table: &toml::Table) -> Command {
    table.iter().fold(command, |command, (key, value)| {
        let text = match value {
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        command.mut_arg(key, |arg| arg.default_value(text).required(false))
    })
}
