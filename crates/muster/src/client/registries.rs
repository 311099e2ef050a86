//! `muster registries`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::ListArgs;
use super::pages::Pages;
use super::prompt::{Consent, first_line};
use super::session::Session;
use super::table::{Column, column};

/// What can be done with registries.
#[derive(Subcommand)]
pub(crate) enum RegistriesCommand {
    /// List the registries of the account
    List(ListArgs),
    /// Store a registry
    Create {
        /// Its name
        name: String,
        /// What it is: docker, artifactory, git or generic
        #[arg(long)]
        kind: String,
        /// Where it is
        #[arg(long, value_name = "URL")]
        address: String,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// Show one registry, without its secret
    Show {
        /// The registry
        registry: String,
    },
    /// Change a registry; what is not given stays
    Set {
        /// The registry
        registry: String,
        /// What it is: docker, artifactory, git or generic
        #[arg(long)]
        kind: Option<String>,
        /// Where it is
        #[arg(long, value_name = "URL")]
        address: Option<String>,
        /// Forget the secret
        #[arg(long, conflicts_with = "secret_stdin")]
        no_secret: bool,
        #[command(flatten)]
        login: LoginArgs,
    },
    /// Delete a registry with its secret
    Delete {
        /// The registry
        registry: String,
        #[command(flatten)]
        consent: Consent,
    },
}

/// As whom devices ask a registry.
#[derive(Args)]
pub(crate) struct LoginArgs {
    /// Name of the user there
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Read a password or a token from standard input
    #[arg(long)]
    secret_stdin: bool,
}

impl LoginArgs {
    fn add_to(&self, body: &mut Value) -> Result<(), Failure> {
        if let Some(name) = &self.username {
            body["username"] = Value::from(name.as_str());
        }
        if self.secret_stdin {
            body["secret"] = Value::from(first_line("--secret-stdin")?.expose());
        }
        Ok(())
    }
}

const REGISTRIES: &[Column] = &[
    column("REGISTRY", "name"),
    column("KIND", "kind"),
    column("ADDRESS", "url"),
    column("USERNAME", "username"),
    column("SECRET", "has_secret"),
    column("CREATED", "created_time"),
];

pub(super) async fn run(command: RegistriesCommand, session: &Session) -> Result<(), Failure> {
    use RegistriesCommand as C;
    let (http, out) = (&session.http, &session.out);
    match command {
        C::List(list) => {
            let call = http.get(&["account", "registries"])?;
            out.list(Pages::new(call, "registries", list.limit()), REGISTRIES).await
        }
        C::Create { name, kind, address, login } => {
            let mut body = json!({ "name": name, "kind": kind, "url": address });
            login.add_to(&mut body)?;
            out.object(&http.post(&["account", "registries"])?.json(&body).value().await?, REGISTRIES)
        }
        C::Show { registry } => {
            out.object(&http.get(&["account", "registries", &registry])?.value().await?, REGISTRIES)
        }
        C::Set { registry, kind, address, no_secret, login } => {
            let mut body = json!({});
            if let Some(kind) = kind {
                body["kind"] = Value::from(kind);
            }
            if let Some(address) = address {
                body["url"] = Value::from(address);
            }
            if no_secret {
                body["secret"] = Value::Null;
            }
            login.add_to(&mut body)?;
            let call = http.patch(&["account", "registries", &registry])?;
            out.object(&call.json(&body).value().await?, REGISTRIES)
        }
        C::Delete { registry, consent } => {
            let call = http.delete(&["account", "registries", &registry])?;
            consent.ask(&format!("Delete the registry {registry} and its secret?"))?;
            out.done(&call.value().await?, &format!("deleted the registry {registry}"))
        }
    }
}
