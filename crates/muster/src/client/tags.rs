//! `muster tags`.

use clap::Subcommand;
use serde_json::{Value, json};

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
    /// Put another tag on everything that bears a tag, and delete the tag
    Merge {
        /// The tag that goes
        tag: String,
        /// The tag that stays
        into: String,
        #[command(flatten)]
        consent: Consent,
    },
    /// Say what a tag would be taken off if it were deleted
    Preview {
        /// The tags
        #[arg(required = true)]
        tags: Vec<String>,
    },
    /// Delete a tag, and take it off everything that bears it
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
    column("OTHERS", "resource_count"),
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
        TagsCommand::Merge { tag, into, consent } => {
            let call = http.post(&["account", "tags", &tag, "merge"])?.json(&json!({ "into": into }));
            consent.ask(&format!("Merge the tag {tag} ({}) into {into}?", borne(session, &tag).await?))?;
            out.done(&call.value().await?, &format!("merged the tag {tag} into {into}"))
        }
        TagsCommand::Preview { tags } => {
            let answer = preview(session, &tags).await?;
            if out.is_json() {
                return out.done(&answer, "");
            }
            out.items(items(&answer, "tags"), TAGS)?;
            let missing: Vec<&str> = items(&answer, "missing").iter().filter_map(Value::as_str).collect();
            if missing.is_empty() { Ok(()) } else { out.text(&format!("No such tag: {}", missing.join(", "))) }
        }
        TagsCommand::Delete { tag, consent } => {
            let call = http.delete(&["account", "tags", &tag])?;
            consent.ask(&format!("Delete the tag {tag}, and take it off {}?", borne(session, &tag).await?))?;
            out.done(&call.value().await?, &format!("deleted the tag {tag}"))
        }
    }
}

/// What tags would leave if they were deleted.
async fn preview(session: &Session, tags: &[String]) -> Result<Value, Failure> {
    let call = session.http.post(&["account", "tag-deletions", "preview"])?;
    call.json(&json!({ "tags": tags })).value().await
}

/// In words, how many bear a tag.
async fn borne(session: &Session, tag: &str) -> Result<String, Failure> {
    let answer = preview(session, &[tag.to_owned()]).await?;
    let count = |name: &str| items(&answer, "tags").first().and_then(|tag| tag[name].as_u64()).unwrap_or(0);
    Ok(format!("{} devices and {} other resources", count("device_count"), count("resource_count")))
}

fn items<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map_or(&[], Vec::as_slice)
}
