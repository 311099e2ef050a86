//! `muster quickstart`: the whole story on one machine. A server, a real agent
//! enrolled as its first device, a tag put on it and taken off by filter, an
//! update deployed to it, and the output of every step.

mod client;
mod device;
mod story;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use muster_core::clock::Clock;
use muster_core::names::{ProjectKey, UserName};
use muster_server::fleet::bootstrap::{FIRST_FLEET, Tokens, bootstrap, insert_tokens};
use muster_server::{Server, ServerConfig};
use muster_store::{Store, secure_rng};

use crate::serve::{DatabaseArgs, end_signal};
use crate::tls_args::self_signed;
use client::Client;
use device::Device;

/// Options of `muster quickstart`.
#[derive(Args)]
pub(crate) struct QuickstartArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Where to listen; by default port 8080 of this machine, or a free one if that is taken
    #[arg(long, value_name = "ADDR", env = "MUSTER_LISTEN")]
    listen: Option<SocketAddr>,
    /// End when the story has been told, with an error if any part of it failed
    #[arg(long)]
    exit: bool,
    /// What is logged to standard error
    #[arg(long, value_name = "FILTER", env = "MUSTER_LOG", default_value = "warn")]
    log: String,
}

const DEFAULT_PORT: u16 = 8080;
/// Description of the tokens that this command makes; those of an earlier start are revoked.
const TOKEN_DESCRIPTION: &str = "quickstart";

pub(crate) fn run(args: &QuickstartArgs) -> anyhow::Result<ExitCode> {
    crate::start_logging(&args.log)?;
    crate::runtime()?.block_on(async {
        let server = start(args).await?;
        let told = tell(args, &server).await;
        server.stop().await?;
        told?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn tell(args: &QuickstartArgs, server: &Server) -> anyhow::Result<()> {
    let (url, pin) = (reachable(server), server.pin());
    say!("Server    {url}, data in {}", args.database.data.display());
    if let Some(pin) = pin {
        say!("Pin       {pin} (the server vouches for itself; devices and clients know it by this)");
    }
    let tokens = tokens(&server.app().store).await?;
    let client = Client::new(&url, pin, &tokens)?;
    let device = Device::start(&args.database.data.join("agent"), &url, pin, &tokens.pairing).await?;
    let told = async {
        story::tell(&client, &device).await?;
        story::what_next(&url, pin, &tokens, &device);
        if !args.exit {
            say!("\nUp until Ctrl-C.");
            end_signal().await?;
        }
        Ok(())
    };
    let told = told.await;
    device.stop().await?;
    told
}

/// The server's address as this machine's programs reach it.
fn reachable(server: &Server) -> String {
    let address = server.address();
    let local: IpAddr = if address.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    let ip = if address.ip().is_unspecified() { local } else { address.ip() };
    let scheme = if server.pin().is_some() { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

/// Starts the server where it was told to, or on the first port that is free.
async fn start(args: &QuickstartArgs) -> anyhow::Result<Server> {
    let database = &args.database;
    let config = |listen: SocketAddr| ServerConfig {
        // Passwords and tokens leave this machine only over TLS.
        tls: (!listen.ip().is_loopback()).then(|| self_signed(&database.data, listen, None)),
        ..ServerConfig::new(database.data.clone(), database.database_url.as_deref(), listen)
    };
    let start = |listen| Server::start(config(listen), Clock::system(), secure_rng());
    if let Some(listen) = args.listen {
        return start(listen).await;
    }
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match start(local(DEFAULT_PORT)).await {
        Err(error) if is_address_taken(&error) => start(local(0)).await,
        started => started,
    }
}

fn is_address_taken(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == ErrorKind::AddrInUse))
}

/// Tokens to tell the story with: those of a new account, or new ones for the
/// account that an earlier start has made.
async fn tokens(store: &Store) -> anyhow::Result<Tokens> {
    if store.read().account_count().await? == 0 {
        let made = bootstrap(store, None, &mut secure_rng()).await?;
        let password = made.admin_password.expose();
        say!("Account   administrator {} with password {password} (shown once)", made.admin_user);
        return Ok(Tokens { user: made.user_token, access: made.access_token, pairing: made.pairing_token });
    }
    let (name, key) = (UserName::parse("admin")?, ProjectKey::parse(FIRST_FLEET)?);
    let user = store.read().find_user_by_name(&name).await?;
    let user = user.context("the data is not that of an earlier quickstart: it has no user \"admin\"")?;
    let Some(fleet) = store.read().find_fleet_by_key(user.account_id, &key).await? else {
        bail!("the data is not that of an earlier quickstart: it has no fleet \"{FIRST_FLEET}\"");
    };
    let (user, fleet) = (&user, &fleet);
    let made = store.write(|tx| async move {
        tx.revoke_tokens_described(user.account_id, TOKEN_DESCRIPTION).await?;
        insert_tokens(&tx, user, fleet, TOKEN_DESCRIPTION).await
    });
    Ok(made.await.map_err(muster_server::error::OpError::from)?)
}
