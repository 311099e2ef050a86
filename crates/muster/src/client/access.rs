//! `muster access`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::ListArgs;
use super::pages::Pages;
use super::session::Session;
use super::span;
use super::table::{Column, column};

/// What can be done with access grants.
#[derive(Subcommand)]
pub(crate) enum AccessCommand {
    /// Ask for permissions that your role holds back, for a while
    Request {
        /// What for; repeat it for several
        #[arg(long, value_name = "PERMISSION", default_value = "remote_access")]
        permission: Vec<String>,
        /// A device that it is to be for; repeat it for several. By default the whole fleet
        #[arg(long, value_name = "DEVICE")]
        device: Vec<String>,
        /// How long, like 30m or 8h
        #[arg(long = "for", value_name = "SPAN", default_value = "1h", value_parser = span::seconds)]
        duration: u64,
        /// Why, for whoever answers
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// List the access grants that you asked for or may answer
    List {
        #[command(flatten)]
        list: ListArgs,
        /// Only those that stand so: pending, approved, expired, revoked, denied or lapsed
        #[arg(long, value_name = "STATUS")]
        status: Option<String>,
        /// Only what you asked for
        #[arg(long, conflicts_with = "others")]
        mine: bool,
        /// Only what others asked for, and you may answer
        #[arg(long)]
        others: bool,
    },
    /// Show one access grant
    Show {
        /// The access grant
        grant: String,
    },
    /// Approve what another user asked for
    Approve {
        /// The access grant
        grant: String,
        /// For a shorter time than was asked for
        #[arg(long = "for", value_name = "SPAN", value_parser = span::seconds)]
        duration: Option<u64>,
        /// For whoever asked, and for the log
        #[arg(long, value_name = "TEXT", default_value = "")]
        comment: String,
    },
    /// Refuse what another user asked for
    Deny {
        /// The access grant
        grant: String,
        /// For whoever asked, and for the log
        #[arg(long, value_name = "TEXT", default_value = "")]
        comment: String,
    },
    /// Take an access grant back, or what you asked for; what was opened under it ends
    Revoke {
        /// The access grant
        grant: String,
    },
}

const GRANTS: &[Column] = &[
    column("ACCESS GRANT", "access_grant_id"),
    column("USER", "user"),
    column("STATUS", "status"),
    column("PERMISSIONS", "permissions"),
    column("DEVICES", "devices"),
    column("REASON", "reason"),
    column("ASKED", "created_time"),
    column("ENDS", "expires_time"),
    column("ANSWERED BY", "answered_by"),
];

pub(super) async fn run(command: AccessCommand, session: &Session) -> Result<(), Failure> {
    use AccessCommand as C;
    let (http, out, all) = (&session.http, &session.out, [session.fleet()?, "access_grants"]);
    let answer =
        |grant: &str, how: &str, body: Value| Ok::<_, Failure>(http.post(&[all[0], all[1], grant, how])?.json(&body));
    match command {
        C::Request { permission, device, duration, reason } => {
            let mut body = json!({ "permissions": permission, "duration_seconds": duration, "reason": reason });
            if !device.is_empty() {
                body["devices"] = json!(device);
            }
            out.object(&http.post(&all)?.json(&body).value().await?, GRANTS)
        }
        C::List { list, status, mine, others } => {
            let mut call = http.get(&all)?;
            if let Some(status) = status {
                call = call.query("status", &status);
            }
            if mine || others {
                call = call.query("mine", if mine { "true" } else { "false" });
            }
            out.list(Pages::new(call, "access_grants", list.limit()), GRANTS).await
        }
        C::Show { grant } => out.object(&http.get(&[all[0], all[1], &grant])?.value().await?, GRANTS),
        C::Approve { grant, duration, comment } => {
            let mut body = json!({ "comment": comment });
            if let Some(seconds) = duration {
                body["duration_seconds"] = json!(seconds);
            }
            out.object(&answer(&grant, "approve", body)?.value().await?, GRANTS)
        }
        C::Deny { grant, comment } => {
            out.object(&answer(&grant, "deny", json!({ "comment": comment }))?.value().await?, GRANTS)
        }
        C::Revoke { grant } => out.object(&answer(&grant, "revoke", json!({}))?.value().await?, GRANTS),
    }
}
