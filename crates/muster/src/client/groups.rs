//! `muster groups`.

use clap::Subcommand;
use serde_json::json;

use super::failure::Failure;
use super::output::ListArgs;
use super::pages::Pages;
use super::prompt::Consent;
use super::session::Session;
use super::table::{Column, column};

/// What can be done with groups.
#[derive(Subcommand)]
pub(crate) enum GroupsCommand {
    /// List the groups of the fleet
    List(ListArgs),
    /// Make a group
    Create {
        /// Its name
        name: String,
    },
    /// Give a group another name
    Rename {
        /// The group
        group: String,
        /// Its new name
        name: String,
    },
    /// Delete a group
    Delete {
        /// The group
        group: String,
        /// Group for its devices; without one, only an empty group is deleted
        #[arg(long, value_name = "GROUP")]
        move_to: Option<String>,
        #[command(flatten)]
        consent: Consent,
    },
}

const GROUPS: &[Column] =
    &[column("GROUP", "name"), column("DEVICES", "device_count"), column("CREATED", "created_time")];

pub(super) async fn run(command: GroupsCommand, session: &Session) -> Result<(), Failure> {
    let fleet = session.fleet()?;
    let (http, out) = (&session.http, &session.out);
    match command {
        GroupsCommand::List(list) => {
            out.list(Pages::new(http.get(&[fleet, "groups"])?, "groups", list.limit()), GROUPS).await
        }
        GroupsCommand::Create { name } => {
            let made = http.post(&[fleet, "groups"])?.json(&json!({ "name": name })).value().await?;
            out.done(&made, &format!("created the group {name}"))
        }
        GroupsCommand::Rename { group, name } => {
            let call = http.patch(&[fleet, "groups", &group])?;
            let renamed = call.json(&json!({ "name": name })).value().await?;
            out.done(&renamed, &format!("renamed the group {group} to {name}"))
        }
        GroupsCommand::Delete { group, move_to, consent } => {
            let call = http.delete(&[fleet, "groups", &group])?.maybe("move_to", move_to.as_deref());
            consent.ask(&format!("Delete the group {group}?"))?;
            out.done(&call.value().await?, &format!("deleted the group {group}"))
        }
    }
}
