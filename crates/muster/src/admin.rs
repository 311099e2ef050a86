//! `muster admin`: work on the data itself, with the rights of whoever can read it.

mod access_key;
mod agent_release;

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use muster_core::clock::Clock;
use muster_core::names::AccountName;
use muster_server::error::OpError;
use muster_server::fleet::bootstrap::{Bootstrapped, bootstrap};
use muster_store::{Location, Store, secure_rng};

use crate::serve::DatabaseArgs;

/// Options of `muster admin`.
#[derive(Args)]
pub(crate) struct AdminArgs {
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Subcommand)]
enum AdminCommand {
    /// Make an account with an administrator, a fleet and the first tokens
    Bootstrap(BootstrapArgs),
    /// Make, list and revoke access keys, which sign requests of the Tag Service
    #[command(subcommand)]
    AccessKey(access_key::AccessKeyCommand),
    /// Make keys for, and sign, releases of the agent
    #[command(subcommand)]
    AgentRelease(agent_release::AgentReleaseCommand),
    /// Bring the database's schema up to date; a server does so by itself when it starts
    Migrate(MigrateArgs),
}

#[derive(Args)]
struct BootstrapArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Name of the account; without it, the first account of an empty database
    #[arg(long, value_name = "NAME", env = "MUSTER_ACCOUNT")]
    account: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(crate) fn run(args: AdminArgs) -> anyhow::Result<ExitCode> {
    crate::start_logging("warn")?;
    let runtime = crate::runtime()?;
    match args.command {
        AdminCommand::Bootstrap(args) => runtime.block_on(run_bootstrap(args))?,
        AdminCommand::AccessKey(command) => runtime.block_on(access_key::run(command))?,
        AdminCommand::AgentRelease(command) => agent_release::run(command)?,
        AdminCommand::Migrate(args) => runtime.block_on(run_migrate(args))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn open(database: &DatabaseArgs) -> anyhow::Result<Store> {
    let data = &database.data;
    std::fs::create_dir_all(data).with_context(|| format!("cannot make the data folder {}", data.display()))?;
    let location = Location::new(data, database.database_url.as_deref());
    Store::connect(&location, Clock::system(), secure_rng()).await.context("cannot open the database")
}

async fn run_bootstrap(args: BootstrapArgs) -> anyhow::Result<()> {
    let account = args.account.map(AccountName::parse).transpose().context("--account")?;
    let store = open(&args.database).await?;
    store.migrate().await.context("cannot bring the database's schema up to date")?;
    let made = bootstrap(&store, account, &mut secure_rng()).await;
    store.close().await;
    let made = match made {
        Err(OpError::Conflict(conflict)) => bail!("{conflict}"),
        other => other?,
    };
    print(&made, args.json)
}

fn print(made: &Bootstrapped, is_json: bool) -> anyhow::Result<()> {
    if is_json {
        say!("{}", serde_json::to_string(made)?);
        return Ok(());
    }
    say!("Shown once; keep them:");
    say!("  administrator   {}", made.admin_user);
    say!("  password        {}", made.admin_password.expose());
    say!("  user token      {}  (API v1)", made.user_token.expose());
    say!("  access token    {}  (API v2)", made.access_token.expose());
    say!("  pairing token   {}  (enrols devices)", made.pairing_token.expose());
    say!("  fleet           {} (key {})", made.project_name, made.project_key);
    Ok(())
}

async fn run_migrate(args: MigrateArgs) -> anyhow::Result<()> {
    let store = open(&args.database).await?;
    let pending = store.migrations().await?.into_iter().filter(|(_, is_applied)| !is_applied);
    let pending: Vec<String> = pending.map(|(name, _)| name).collect();
    store.migrate().await.context("cannot bring the database's schema up to date")?;
    store.close().await;
    for name in &pending {
        say!("applied {name}");
    }
    if pending.is_empty() {
        say!("the schema is up to date");
    }
    Ok(())
}
