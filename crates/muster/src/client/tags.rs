//! `muster tags`.

use clap::Subcommand;
use serde_json::json;

use super::failure::Failure;
use super::output::ListArgs;
use super::pages::Pages;
use super::prompt::Consent;
use super::session::Session;
use super::table::{Column, column};

/// What can be done with the account's tags. To put them on devices: muster devices tag.
#[derive(Subcommand)]
pub(crate) enum TagsCommand {
    /// List the tags of the account
    List(ListArgs),
    /// Make a tag
    Create {
        /// Its name: KEY or KEY=VALUE
        name: String,
    },
    /// Give a tag another name, on all its devices
    Rename {
        /// The tag
        tag: String,
        /// Its new name
        name: String,
    },
    /// Delete a tag, and take it off all its devices
    Delete {
        /// The tag
        tag: String,
        #[command(flatten)]
        consent: Consent,
    },
}

const TAGS: &[Column] = &[
    column("TAG", "name"),
    column("KEY", "key"),
    column("VALUE", "value"),
    column("DEVICES", "device_count"),
    column("CREATED", "created_time"),
];

pub(super) async fn run(command: TagsCommand, session: &Session) -> Result<(), Failure> {
    let (http, out) = (&session.http, &session.out);
    match command {
        TagsCommand::List(list) => {
            out.list(Pages::new(http.get(&["account", "tags"])?, "tags", list.limit()), TAGS).await
        }
        TagsCommand::Create { name } => {
            let made = http.post(&["account", "tags"])?.json(&json!({ "name": name })).value().await?;
            out.done(&made, &format!("created the tag {name}"))
        }
        TagsCommand::Rename { tag, name } => {
            let call = http.patch(&["account", "tags", &tag])?;
            let renamed = call.json(&json!({ "name": name })).value().await?;
            out.done(&renamed, &format!("renamed the tag {tag} to {name}"))
        }
        TagsCommand::Delete { tag, consent } => {
            let call = http.delete(&["account", "tags", &tag])?;
            consent.ask(&format!("Delete the tag {tag}, and take it off all its devices?"))?;
            out.done(&call.value().await?, &format!("deleted the tag {tag}"))
        }
    }
}
