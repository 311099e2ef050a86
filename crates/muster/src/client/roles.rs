//! `muster roles`.

use clap::Subcommand;
use serde_json::json;

use super::failure::Failure;
use super::output::ListArgs;
use super::pages::Pages;
use super::prompt::Consent;
use super::session::Session;
use super::table::{Column, column};

/// What can be done with roles.
#[derive(Subcommand)]
pub(crate) enum RolesCommand {
    /// List the roles of the account
    List(ListArgs),
    /// Make a role
    Create {
        /// Its name
        name: String,
        /// What it permits; repeat it for several
        #[arg(long, value_name = "PERMISSION")]
        permission: Vec<String>,
        /// What it permits only under an access grant; repeat it for several
        #[arg(long, value_name = "PERMISSION")]
        needs_grant: Vec<String>,
    },
    /// Show one role
    Show {
        /// The role
        role: String,
    },
    /// Change what a role permits
    Set {
        /// The role
        role: String,
        /// Everything that it permits; repeat it for several
        #[arg(long, value_name = "PERMISSION")]
        permission: Vec<String>,
        /// Everything that it permits only under an access grant; repeat it for several
        #[arg(long, value_name = "PERMISSION")]
        needs_grant: Vec<String>,
    },
    /// Delete a role that nobody has
    Delete {
        /// The role
        role: String,
        #[command(flatten)]
        consent: Consent,
    },
}

const ROLES: &[Column] = &[
    column("ROLE", "name"),
    column("BUILT IN", "is_built_in"),
    column("USERS", "user_count"),
    column("PERMISSIONS", "permissions"),
    column("UNDER A GRANT", "needs_grant"),
];

pub(super) async fn run(command: RolesCommand, session: &Session) -> Result<(), Failure> {
    use RolesCommand as C;
    let (http, out) = (&session.http, &session.out);
    match command {
        C::List(list) => out.list(Pages::new(http.get(&["account", "roles"])?, "roles", list.limit()), ROLES).await,
        C::Create { name, permission, needs_grant } => {
            let body = json!({ "name": name, "permissions": permission, "needs_grant": needs_grant });
            out.object(&http.post(&["account", "roles"])?.json(&body).value().await?, ROLES)
        }
        C::Show { role } => out.object(&http.get(&["account", "roles", &role])?.value().await?, ROLES),
        C::Set { role, permission, needs_grant } => {
            let body = json!({ "permissions": permission, "needs_grant": needs_grant });
            out.object(&http.patch(&["account", "roles", &role])?.json(&body).value().await?, ROLES)
        }
        C::Delete { role, consent } => {
            let call = http.delete(&["account", "roles", &role])?;
            consent.ask(&format!("Delete the role {role}?"))?;
            out.done(&call.value().await?, &format!("deleted the role {role}"))
        }
    }
}
