//! `muster admin access-key`: works beside a running server as well as without one.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use muster_core::access_key::TagPolicy;
use muster_core::clock::Timestamp;
use muster_core::names::{Text, UserName};
use muster_core::token::Secret;
use muster_server::access::access_keys::{KeyOrder, create_by_operator, revoke_by_operator};
use muster_server::access::vault::Vault;
use muster_server::config::SECRET_KEY_FILE;
use muster_server::fleet::bootstrap::FIRST_ADMIN;
use muster_store::access_keys::AccessKey;
use muster_store::{Store, secure_rng};
use serde_json::{Value, json};

use crate::serve::DatabaseArgs;

#[derive(Subcommand)]
pub(crate) enum AccessKeyCommand {
    /// Make an access key; its secret is shown once
    Create(CreateArgs),
    /// List the access keys of a user's account
    List(ListArgs),
    /// Revoke an access key
    Revoke(RevokeArgs),
}

#[derive(Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Who is to act with it
    #[arg(long, value_name = "NAME", default_value = FIRST_ADMIN)]
    user: String,
    /// The most that it may do: TAGFullControlAccessPolicy, TAGOperateAccessPolicy or TAGReadAccessPolicy
    #[arg(long, value_name = "POLICY", default_value = TagPolicy::FullControl.as_str(), value_parser = TagPolicy::parse)]
    policy: TagPolicy,
    /// For people
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Key that seals secrets; by default secret.key in the data folder
    #[arg(long, value_name = "FILE", env = "MUSTER_SECRET_KEY_FILE")]
    secret_key_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// A user of the account
    #[arg(long, value_name = "NAME", default_value = FIRST_ADMIN)]
    user: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The access key
    access_key_id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(command: AccessKeyCommand) -> anyhow::Result<()> {
    let database = match &command {
        AccessKeyCommand::Create(args) => &args.database,
        AccessKeyCommand::List(args) => &args.database,
        AccessKeyCommand::Revoke(args) => &args.database,
    };
    let store = super::open(database).await?;
    store.migrate().await.context("cannot bring the database's schema up to date")?;
    let done = match command {
        AccessKeyCommand::Create(args) => create(&store, args).await,
        AccessKeyCommand::List(args) => list(&store, args).await,
        AccessKeyCommand::Revoke(args) => revoke(&store, &args).await,
    };
    store.close().await;
    done
}

async fn create(store: &Store, args: CreateArgs) -> anyhow::Result<()> {
    let user = UserName::parse(args.user).context("--user")?;
    let description = Text::parse(args.description).context("--description")?;
    let file = args.secret_key_file.unwrap_or_else(|| args.database.data.join(SECRET_KEY_FILE));
    let mut rng = secure_rng();
    let vault = Vault::open(&file, store, &mut rng).await?;
    let order = KeyOrder { description, user: None, policy: args.policy };
    let (key, secret) = create_by_operator(store, &vault, &user, &order, &mut rng).await?;
    print_made(&key, &secret, args.json);
    Ok(())
}

fn print_made(key: &AccessKey, secret: &Secret, is_json: bool) {
    if is_json {
        say!("{}", json!({ "access_key_id": key.access_key_id, "secret_access_key": secret }));
        return;
    }
    say!("Shown once; keep them:");
    say!("  access key id      {}", key.access_key_id);
    say!("  secret access key  {}", secret.expose());
}

/// Access keys that are read at once.
const PAGE: u64 = 1_000;

async fn list(store: &Store, args: ListArgs) -> anyhow::Result<()> {
    let name = UserName::parse(args.user).context("--user")?;
    let user = store.read().find_user_by_name(&name).await?;
    let user = user.with_context(|| format!("no user is called {name}"))?;
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let (page, is_more) = store.read().access_keys_page(user.account_id, None, after, PAGE).await?;
        after = page.last().map(|key| key.id);
        keys.extend(page);
        if !is_more {
            break;
        }
    }
    if args.json {
        say!("{}", json!({ "access_keys": keys.iter().map(told).collect::<Vec<_>>() }));
        return Ok(());
    }
    for key in &keys {
        let state = if key.revoked_at == Timestamp::NEVER { "good" } else { "revoked" };
        let AccessKey { access_key_id, user_name, policy, description, .. } = key;
        say!("{access_key_id}  {state:<7}  {:<26}  {user_name}  {description}", policy.as_str());
    }
    Ok(())
}

fn told(key: &AccessKey) -> Value {
    let revoked = (key.revoked_at != Timestamp::NEVER).then(|| key.revoked_at.to_rfc3339());
    json!({
        "access_key_id": key.access_key_id,
        "description": key.description,
        "subject": key.user_name,
        "policy": key.policy.as_str(),
        "created_time": key.created_at.to_rfc3339(),
        "revoked_time": revoked,
    })
}

async fn revoke(store: &Store, args: &RevokeArgs) -> anyhow::Result<()> {
    revoke_by_operator(store, &args.access_key_id).await?;
    if args.json {
        say!("{}", json!({ "access_key_id": args.access_key_id }));
    } else {
        say!("revoked {}", args.access_key_id);
    }
    Ok(())
}
