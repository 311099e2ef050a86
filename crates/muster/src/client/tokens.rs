//! `muster tokens`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::ListArgs;
use super::pages::Pages;
use super::prompt::Consent;
use super::session::Session;
use super::span;
use super::table::{Column, column};

/// What can be done with access tokens and user tokens.
#[derive(Subcommand)]
pub(crate) enum TokensCommand {
    /// List your tokens; an administrator sees everybody's
    List(ListArgs),
    /// Make a token; its secret is shown this once
    Create(CreateArgs),
    /// Show one token, without its secret
    Show {
        /// Its id
        token_id: String,
    },
    /// Make a token worthless
    Revoke {
        /// Its id
        token_id: String,
        #[command(flatten)]
        consent: Consent,
    },
}

/// Options of `muster tokens create`.
#[derive(Args)]
pub(crate) struct CreateArgs {
    /// What it is for
    description: String,
    /// Who is to act with it; by default you
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// access for API v2, user for API v1
    #[arg(long, value_parser = ["access", "user"])]
    kind: Option<String>,
    /// How long it lives, like 12h or 90d; by default for ever
    #[arg(long, value_name = "SPAN", value_parser = span::seconds)]
    expires_in: Option<u64>,
    /// Only for this fleet; repeat it for several
    #[arg(long, value_name = "KEY")]
    only_fleet: Vec<String>,
    /// Only with this permission of its user; repeat it for several
    #[arg(long, value_name = "PERMISSION")]
    only_permission: Vec<String>,
}

impl CreateArgs {
    fn body(&self) -> Value {
        let some = |names: &[String]| if names.is_empty() { Value::Null } else { json!(names) };
        let mut body = json!({ "description": self.description });
        if let Some(user) = &self.user {
            body["user"] = Value::from(user.as_str());
        }
        if let Some(kind) = &self.kind {
            body["kind"] = Value::from(kind.as_str());
        }
        if let Some(seconds) = self.expires_in {
            body["expires_in_seconds"] = Value::from(seconds);
        }
        if !self.only_fleet.is_empty() || !self.only_permission.is_empty() {
            body["scope"] = json!({ "fleets": some(&self.only_fleet), "permissions": some(&self.only_permission) });
        }
        body
    }
}

const TOKENS: &[Column] = &[
    column("TOKEN", "token_id"),
    column("KIND", "kind"),
    column("USER", "subject"),
    column("DESCRIPTION", "description"),
    column("CREATED", "created_time"),
    column("EXPIRES", "expires_time"),
    column("REVOKED", "revoked_time"),
    column("FLEETS", "scope.fleets"),
    column("PERMISSIONS", "scope.permissions"),
];

pub(super) async fn run(command: TokensCommand, session: &Session) -> Result<(), Failure> {
    let (http, out) = (&session.http, &session.out);
    match command {
        TokensCommand::List(list) => {
            out.list(Pages::new(http.get(&["account", "tokens"])?, "tokens", list.limit()), TOKENS).await
        }
        TokensCommand::Create(args) => {
            let made = http.post(&["account", "tokens"])?.json(&args.body()).value().await?;
            out.secret(&made, TOKENS)
        }
        TokensCommand::Show { token_id } => {
            out.object(&http.get(&["account", "tokens", &token_id])?.value().await?, TOKENS)
        }
        TokensCommand::Revoke { token_id, consent } => {
            let call = http.delete(&["account", "tokens", &token_id])?;
            consent.ask(&format!("Revoke the token {token_id}?"))?;
            out.done(&call.value().await?, &format!("revoked the token {token_id}"))
        }
    }
}
