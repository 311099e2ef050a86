//! `muster commands`: saved commands of a fleet, and what was run.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::output::{self, ListArgs};
use super::pages::Pages;
use super::prompt::{Consent, all_of_stdin};
use super::session::Session;
use super::span;
use super::table::{Column, column};

/// What can be done with remote commands.
#[derive(Subcommand)]
pub(crate) enum CommandsCommand {
    /// List the saved commands of the fleet
    List(ListArgs),
    /// Save a command
    Create {
        /// The name
        name: String,
        /// The script, for sh
        #[arg(long, value_name = "TEXT", required_unless_present = "file")]
        script: Option<String>,
        /// The same, in a file; - for standard input
        #[arg(long, value_name = "FILE", conflicts_with = "script")]
        file: Option<PathBuf>,
        /// For people
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// The user of the device who runs it; by default the one that the device chooses
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        /// How long it may run, like 30s or 5m; by default 60s
        #[arg(long, value_name = "TIME", value_parser = span::seconds)]
        timeout: Option<u64>,
    },
    /// Change a saved command; what is not named stays
    Set {
        /// The command
        name: String,
        /// Another name
        #[arg(long, value_name = "NAME")]
        rename: Option<String>,
        /// The script, for sh
        #[arg(long, value_name = "TEXT")]
        script: Option<String>,
        /// The same, in a file; - for standard input
        #[arg(long, value_name = "FILE", conflicts_with = "script")]
        file: Option<PathBuf>,
        /// For people
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// The user of the device who runs it; empty for the one that the device chooses
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        /// How long it may run, like 30s or 5m
        #[arg(long, value_name = "TIME", value_parser = span::seconds)]
        timeout: Option<u64>,
    },
    /// Show a saved command
    Show {
        /// The command
        name: String,
    },
    /// Delete a saved command; its runs stay
    Delete {
        /// The command
        name: String,
        #[command(flatten)]
        consent: Consent,
    },
    /// List the runs of commands in the fleet, the newest first
    Runs(ListArgs),
    /// Show how the devices of a run stand
    Devices {
        /// The run
        run: String,
        /// Only devices that stand so: pending, running, succeeded, failed, timed_out, aborted or expired
        #[arg(long, value_name = "STATUS")]
        status: Option<String>,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Print what a command has put out on a device
    Output {
        /// The run
        run: String,
        /// The device
        device: String,
    },
    /// Abort a run on every device that has not ended
    Abort {
        /// The run
        run: String,
    },
}

const COMMANDS: &[Column] = &[
    column("COMMAND", "name"),
    column("DESCRIPTION", "description"),
    column("USER", "user"),
    column("SECONDS", "timeout_seconds"),
    column("UPDATED", "updated_time"),
];
const RUNS: &[Column] = &[
    column("RUN", "run_id"),
    column("COMMAND", "command"),
    column("SCRIPT", "script"),
    column("DEVICES", "device_count"),
    column("BY", "created_by"),
    column("CREATED", "created_time"),
];
const DEVICES: &[Column] = &[
    column("DEVICE", "device_uuid"),
    column("NAME", "device_name"),
    column("STATUS", "status"),
    column("EXIT", "exit_code"),
    column("MS", "duration_ms"),
    column("BYTES", "output_bytes"),
    column("REASON", "reason"),
];

/// A script: as it was given, or from a file.
pub(super) fn script(text: Option<String>, file: Option<&PathBuf>) -> Result<Option<String>, Failure> {
    match file {
        None => Ok(text),
        Some(path) if path.as_os_str() == "-" => Ok(Some(all_of_stdin()?)),
        Some(path) => {
            let read = std::fs::read_to_string(path);
            Ok(Some(read.with_context(|| format!("cannot read {}", path.display()))?))
        }
    }
}

/// The fields that were given.
fn body(fields: [(&str, Option<Value>); 5]) -> Value {
    let given = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

pub(super) async fn run(command: CommandsCommand, session: &Session) -> Result<(), Failure> {
    use CommandsCommand as C;
    let (http, out, fleet) = (&session.http, &session.out, session.fleet()?);
    let (saved, runs) = ([fleet, "remote_commands"], [fleet, "command_runs"]);
    match command {
        C::List(list) => out.list(Pages::new(http.get(&saved)?, "commands", list.limit()), COMMANDS).await,
        C::Create { name, script: text, file, description, user, timeout } => {
            let body = body([
                ("name", Some(json!(name))),
                ("script", script(text, file.as_ref())?.map(Value::from)),
                ("description", description.map(Value::from)),
                ("user", user.map(Value::from)),
                ("timeout_seconds", timeout.map(Value::from)),
            ]);
            out.done(&http.post(&saved)?.json(&body).value().await?, &format!("saved the command {name}"))
        }
        C::Set { name, rename, script: text, file, description, user, timeout } => {
            let user = user.map(|user| if user.is_empty() { Value::Null } else { Value::from(user) });
            let body = body([
                ("name", rename.map(Value::from)),
                ("script", script(text, file.as_ref())?.map(Value::from)),
                ("description", description.map(Value::from)),
                ("user", user),
                ("timeout_seconds", timeout.map(Value::from)),
            ]);
            let call = http.patch(&[saved[0], saved[1], &name])?.json(&body);
            out.done(&call.value().await?, &format!("changed the command {name}"))
        }
        C::Show { name } => {
            let command = http.get(&[saved[0], saved[1], &name])?.value().await?;
            out.object(&command, COMMANDS)?;
            out.text(&format!("\n{}", command["script"].as_str().unwrap_or_default().trim_end()))
        }
        C::Delete { name, consent } => {
            let call = http.delete(&[saved[0], saved[1], &name])?;
            consent.ask(&format!("Delete the command {name}?"))?;
            out.done(&call.value().await?, &format!("deleted the command {name}"))
        }
        C::Runs(list) => out.list(Pages::new(http.get(&runs)?, "runs", list.limit()), RUNS).await,
        C::Devices { run, status, list } => {
            let call = http.get(&[runs[0], runs[1], &run, "devices"])?.maybe("status", status.as_deref());
            out.list(Pages::new(call, "devices", list.limit()), DEVICES).await
        }
        C::Output { run, device } => {
            let text = http.get(&[runs[0], runs[1], &run, "devices", &device, "output"])?.text().await?;
            output::bytes(text.as_bytes())
        }
        C::Abort { run } => {
            let call = http.post(&[runs[0], runs[1], &run, "abort"])?.json(&json!({}));
            out.done(&call.value().await?, &format!("aborted the run {run}"))
        }
    }
}
