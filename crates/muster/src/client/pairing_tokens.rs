//! `muster pairing-tokens`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::ListArgs;
use super::pages::Pages;
use super::prompt::Consent;
use super::session::Session;
use super::span;
use super::table::{Column, column};

/// What can be done with pairing tokens.
#[derive(Subcommand)]
pub(crate) enum PairingTokensCommand {
    /// List the pairing tokens of the fleet
    List(ListArgs),
    /// Make a pairing token; its secret is shown this once
    Create(CreateArgs),
    /// Show one pairing token, without its secret
    Show(TokenId),
    /// Make a successor; both work until the rotation is completed or aborted
    Rotate(TokenId),
    /// End a rotation: the old pairing token is revoked
    CompleteRotation(TokenId),
    /// Take a rotation back: the new pairing token is revoked
    AbortRotation(TokenId),
    /// Make a pairing token worthless; its devices stay
    Revoke {
        #[command(flatten)]
        token: TokenId,
        #[command(flatten)]
        consent: Consent,
    },
}

/// Which pairing token.
#[derive(Args)]
pub(crate) struct TokenId {
    /// Its id; in a rotation that of the old one
    token_id: String,
}

/// Options of `muster pairing-tokens create`.
#[derive(Args)]
pub(crate) struct CreateArgs {
    /// What it is for
    description: String,
    /// How long it lives, like 12h or 90d; by default for ever
    #[arg(long, value_name = "SPAN", value_parser = span::seconds)]
    expires_in: Option<u64>,
    /// How many devices it may enrol; by default any number
    #[arg(long, value_name = "N")]
    uses: Option<u32>,
    /// Group of its devices that name none
    #[arg(long)]
    group: Option<String>,
}

impl CreateArgs {
    fn body(&self) -> Value {
        let mut body = json!({ "description": self.description });
        if let Some(seconds) = self.expires_in {
            body["expires_in_seconds"] = Value::from(seconds);
        }
        if let Some(uses) = self.uses {
            body["uses_max"] = Value::from(uses);
        }
        if let Some(group) = &self.group {
            body["group_name"] = Value::from(group.as_str());
        }
        body
    }
}

const PAIRING_TOKENS: &[Column] = &[
    column("TOKEN", "token_id"),
    column("DESCRIPTION", "description"),
    column("GROUP", "group_name"),
    column("USES", "uses"),
    column("AT MOST", "uses_max"),
    column("CREATED", "created_time"),
    column("EXPIRES", "expires_time"),
    column("REVOKED", "revoked_time"),
    column("SUCCESSOR", "rotation.new_token_id"),
];

pub(super) async fn run(command: PairingTokensCommand, session: &Session) -> Result<(), Failure> {
    use PairingTokensCommand as C;
    let (http, out, all) = (&session.http, &session.out, [session.fleet()?, "pairing-tokens"]);
    match command {
        C::List(list) => out.list(Pages::new(http.get(&all)?, "pairing_tokens", list.limit()), PAIRING_TOKENS).await,
        C::Create(args) => out.secret(&http.post(&all)?.json(&args.body()).value().await?, PAIRING_TOKENS),
        C::Show(token) => out.object(&http.get(&[all[0], all[1], &token.token_id])?.value().await?, PAIRING_TOKENS),
        C::Rotate(token) => out.secret(&told(session, &token, "rotate").await?, PAIRING_TOKENS),
        C::CompleteRotation(token) => out.object(&told(session, &token, "complete-rotation").await?, PAIRING_TOKENS),
        C::AbortRotation(token) => out.object(&told(session, &token, "abort-rotation").await?, PAIRING_TOKENS),
        C::Revoke { token, consent } => {
            let call = http.delete(&[all[0], all[1], &token.token_id])?;
            consent.ask(&format!("Revoke the pairing token {}?", token.token_id))?;
            out.done(&call.value().await?, &format!("revoked the pairing token {}", token.token_id))
        }
    }
}

async fn told(session: &Session, token: &TokenId, what: &str) -> Result<Value, Failure> {
    session.http.post(&[session.fleet()?, "pairing-tokens", &token.token_id, what])?.value().await
}
