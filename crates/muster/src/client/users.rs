//! `muster users`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::ListArgs;
use super::pages::Pages;
use super::prompt::{Consent, new_password, password};
use super::session::Session;
use super::table::{Column, column};

/// What can be done with users.
#[derive(Subcommand)]
pub(crate) enum UsersCommand {
    /// List the users of the account
    List(ListArgs),
    /// Make a user
    Create {
        /// Their name
        name: String,
        /// May do everything in the account
        #[arg(long)]
        admin: bool,
        #[command(flatten)]
        more: UserArgs,
    },
    /// Show one user
    Show {
        /// Their name
        name: String,
    },
    /// Change a user; what is not given stays
    Set {
        /// Their name
        name: String,
        /// Whether they may do everything in the account
        #[arg(long, value_name = "TRUE|FALSE")]
        admin: Option<bool>,
        /// Take all their roles away
        #[arg(long, conflicts_with = "role")]
        no_roles: bool,
        #[command(flatten)]
        more: UserArgs,
    },
    /// Change your own password
    Password {
        /// Read the present one and the new one from standard input, a line each
        #[arg(long)]
        password_stdin: bool,
    },
    /// Delete a user; their tokens end at once
    Delete {
        /// Their name
        name: String,
        #[command(flatten)]
        consent: Consent,
    },
}

/// What can be said of a user.
#[derive(Args)]
pub(crate) struct UserArgs {
    /// A role in a fleet; repeat it for several. These are all of the user's roles
    #[arg(long, value_name = "FLEET=ROLE", value_parser = role)]
    role: Vec<(String, String)>,
    /// Ask for a password
    #[arg(long)]
    password: bool,
    /// Read a password from standard input
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,
}

fn role(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((fleet, role)) if !fleet.is_empty() && !role.is_empty() => Ok((fleet.to_owned(), role.to_owned())),
        _ => Err("not FLEET=ROLE, like demo=operator".to_owned()),
    }
}

impl UserArgs {
    fn add_to(&self, body: &mut Value) -> Result<(), Failure> {
        if !self.role.is_empty() {
            let roles = self.role.iter().map(|(key, role)| json!({ "project_key": key, "role": role }));
            body["roles"] = roles.collect();
        }
        if self.password || self.password_stdin {
            body["password"] = Value::from(new_password(self.password_stdin)?.expose());
        }
        Ok(())
    }
}

const USERS: &[Column] = &[
    column("USER", "name"),
    column("ADMINISTRATOR", "is_admin"),
    column("PASSWORD", "has_password"),
    column("ROLES", "roles"),
    column("CREATED", "created_time"),
];

pub(super) async fn run(command: UsersCommand, session: &Session) -> Result<(), Failure> {
    use UsersCommand as C;
    let (http, out) = (&session.http, &session.out);
    match command {
        C::List(list) => out.list(Pages::new(http.get(&["account", "users"])?, "users", list.limit()), USERS).await,
        C::Create { name, admin, more } => {
            let mut body = json!({ "name": name, "is_admin": admin });
            more.add_to(&mut body)?;
            out.object(&http.post(&["account", "users"])?.json(&body).value().await?, USERS)
        }
        C::Show { name } => out.object(&http.get(&["account", "users", &name])?.value().await?, USERS),
        C::Set { name, admin, no_roles, more } => {
            let body = changes(admin, no_roles, &more)?;
            out.object(&http.patch(&["account", "users", &name])?.json(&body).value().await?, USERS)
        }
        C::Password { password_stdin } => own_password(session, password_stdin).await,
        C::Delete { name, consent } => {
            let call = http.delete(&["account", "users", &name])?;
            consent.ask(&format!("Delete the user {name}?"))?;
            out.done(&call.value().await?, &format!("deleted the user {name}"))
        }
    }
}

fn changes(is_admin: Option<bool>, is_without_roles: bool, more: &UserArgs) -> Result<Value, Failure> {
    let mut body = json!({});
    if let Some(is_admin) = is_admin {
        body["is_admin"] = Value::from(is_admin);
    }
    if is_without_roles {
        body["roles"] = json!([]);
    }
    more.add_to(&mut body)?;
    if body == json!({}) {
        return Err(Failure::Usage("what is to be changed? --admin, --role, --no-roles, --password".to_owned()));
    }
    Ok(body)
}

async fn own_password(session: &Session, is_stdin: bool) -> Result<(), Failure> {
    let (current, new) = if is_stdin {
        let text = super::prompt::all_of_stdin()?;
        let mut lines = text.lines().map(str::to_owned);
        let missing = || Failure::Usage("--password-stdin: two lines are needed".to_owned());
        (lines.next().ok_or_else(missing)?, lines.next().ok_or_else(missing)?)
    } else {
        (password(false, "Present password")?.expose().to_owned(), new_password(false)?.expose().to_owned())
    };
    let body = json!({ "current_password": current, "new_password": new });
    let call = session.http.call(reqwest::Method::PUT, &["account", "password"])?;
    session.out.done(&call.json(&body).value().await?, "changed your password")
}
