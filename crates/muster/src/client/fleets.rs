//! `muster fleets`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::device_changes::Switch;
use super::failure::Failure;
use super::output::ListArgs;
use super::pages::Pages;
use super::prompt::Consent;
use super::session::Session;
use super::table::{Column, column};

/// What can be done with fleets.
#[derive(Subcommand)]
pub(crate) enum FleetsCommand {
    /// List the fleets that you see
    List(ListArgs),
    /// Make a fleet
    Create {
        /// Its key, which names it in addresses and never changes
        key: String,
        /// Its name
        name: String,
        /// Seconds between two signs of life of its devices
        #[arg(long, value_name = "SECONDS")]
        heartbeat: Option<u64>,
    },
    /// Show one fleet
    Show {
        /// Key of the fleet
        key: String,
    },
    /// Give a fleet another name
    Rename {
        /// Key of the fleet
        key: String,
        /// Its new name
        name: String,
    },
    /// Change how often the devices of a fleet give a sign of life
    Heartbeat {
        /// Key of the fleet
        key: String,
        /// Seconds between two of them
        seconds: u64,
    },
    /// Allow streams and tunnels to other hosts of the devices' networks, or forbid them
    Network {
        /// Key of the fleet
        key: String,
        /// Whether they are allowed; each agent must allow them as well
        #[arg(value_enum)]
        allowed: Switch,
    },
    /// Delete a fleet that has no devices
    Delete {
        /// Key of the fleet
        key: String,
        #[command(flatten)]
        consent: Consent,
    },
}

const FLEETS: &[Column] = &[
    column("FLEET", "project_key"),
    column("NAME", "name"),
    column("DEVICES", "device_count"),
    column("GROUPS", "group_count"),
    column("HEARTBEAT S", "heartbeat_seconds"),
    column("NETWORK", "tunnels_to_network"),
    column("CREATED", "created_time"),
];

pub(super) async fn run(command: FleetsCommand, session: &Session) -> Result<(), Failure> {
    let (http, out) = (&session.http, &session.out);
    match command {
        FleetsCommand::List(list) => {
            out.list(Pages::new(http.get(&["account", "fleets"])?, "fleets", list.limit()), FLEETS).await
        }
        FleetsCommand::Create { key, name, heartbeat } => {
            let mut body = json!({ "project_key": key, "name": name });
            if let Some(seconds) = heartbeat {
                body["heartbeat_seconds"] = Value::from(seconds);
            }
            let made = http.post(&["account", "fleets"])?.json(&body).value().await?;
            out.done(&made, &format!("created the fleet {key}"))
        }
        FleetsCommand::Show { key } => out.object(&http.get(&["account", "fleets", &key])?.value().await?, FLEETS),
        FleetsCommand::Rename { key, name } => {
            let call = http.patch(&["account", "fleets", &key])?;
            let renamed = call.json(&json!({ "name": name })).value().await?;
            out.done(&renamed, &format!("renamed the fleet {key} to {name}"))
        }
        FleetsCommand::Heartbeat { key, seconds } => {
            let call = http.patch(&["account", "fleets", &key])?;
            let changed = call.json(&json!({ "heartbeat_seconds": seconds })).value().await?;
            out.done(&changed, &format!("the devices of the fleet {key} give a sign of life every {seconds} s"))
        }
        FleetsCommand::Network { key, allowed } => {
            let call = http.patch(&["account", "fleets", &key])?;
            let is_allowed = allowed == Switch::On;
            let changed = call.json(&json!({ "tunnels_to_network": is_allowed })).value().await?;
            let word = if is_allowed { "allows" } else { "forbids" };
            out.done(&changed, &format!("the fleet {key} {word} other hosts of its devices' networks"))
        }
        FleetsCommand::Delete { key, consent } => {
            let call = http.delete(&["account", "fleets", &key])?;
            consent.ask(&format!("Delete the fleet {key}, with its groups, flows and deployments?"))?;
            out.done(&call.value().await?, &format!("deleted the fleet {key}"))
        }
    }
}
