//! `muster tunnel`: a port of a device, here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use muster_link::stream::Local;
use serde_json::json;
use tokio::io::{AsyncWriteExt, copy, copy_bidirectional, stdin, stdout};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::device_stream::{self, Target};
use super::failure::Failure;
use super::session::{Common, Session};
use super::table::printable;

/// Connections at once; the others wait to be accepted.
const CONNECTIONS_MAX: usize = 1_000;

/// A port of a device, here.
#[derive(Args)]
pub(crate) struct TunnelArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// The device
    device: String,
    /// Its port, or another host of its network where fleet and device allow it
    #[arg(value_name = "[HOST:]PORT")]
    target: Target,
    /// Where to listen; by default a free port of 127.0.0.1
    #[arg(long, value_name = "[ADDRESS:]PORT", conflicts_with = "stdio")]
    listen: Option<ListenAt>,
    /// One connection over standard input and output, as ProxyCommand of OpenSSH wants it
    #[arg(long)]
    stdio: bool,
}

/// An address here; without one, 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ListenAt(SocketAddr);

impl FromStr for ListenAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let own = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let address = text.parse().ok().or_else(|| text.parse().ok().map(own));
        address.map(Self).ok_or_else(|| format!("{text:?} is neither PORT nor ADDRESS:PORT"))
    }
}

pub(super) async fn run(args: &TunnelArgs) -> Result<(), Failure> {
    let session = Session::open(&args.common)?;
    if args.stdio {
        return over_stdio(&session, &args.device, &args.target).await;
    }
    let at = args.listen.map_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), |listen| listen.0);
    let listener = TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at}"))?;
    let at = listener.local_addr().context("cannot listen")?;
    let sentence = format!("{at} leads to {} of {}; Ctrl-C ends it", args.target, args.device);
    session.out.done(&json!({ "address": at.ip(), "port": at.port() }), &sentence)?;
    forward(Arc::new(session), listener, args).await
}

/// One connection. It is over when the device's side has ended, as with `nc`: whoever
/// reads standard input may never end it.
async fn over_stdio(session: &Session, device: &str, target: &Target) -> Result<(), Failure> {
    let stream = device_stream::open(&session.http, session.fleet()?, device, target).await?;
    let (mut from_device, mut to_device) = tokio::io::split(stream);
    let sending = async {
        copy(&mut stdin(), &mut to_device).await?;
        to_device.shutdown().await?;
        std::future::pending::<std::io::Result<()>>().await
    };
    let receiving = async {
        let mut out = stdout();
        copy(&mut from_device, &mut out).await?;
        out.flush().await
    };
    let done = tokio::select! {
        failed = sending => failed,
        ended = receiving => ended,
    };
    done.map_err(|error| anyhow::anyhow!("the connection to {device} ended: {error}").into())
}

/// Every connection that comes, until somebody ends the program.
async fn forward(session: Arc<Session>, listener: TcpListener, args: &TunnelArgs) -> Result<(), Failure> {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        let (connection, peer) = listener.accept().await.context("cannot listen any more")?;
        let (session, device, target) = (Arc::clone(&session), args.device.clone(), args.target.clone());
        connections.spawn(async move {
            if let Err(error) = carry(&session, &device, &target, connection).await {
                eprintln!("muster: {peer}: {}", printable(&error.to_string()));
            }
        });
    }
}

async fn carry(session: &Session, device: &str, target: &Target, connection: TcpStream) -> Result<(), Failure> {
    // Reset, and not ended, when the stream breaks: a part is not the whole.
    let mut local = Local::new(connection).context("the connection broke")?;
    let mut stream = device_stream::open(&session.http, session.fleet()?, device, target).await?;
    copy_bidirectional(&mut local, &mut stream).await.context("the connection broke")?;
    local.over();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_to_listen_is_a_port_or_an_address_with_one() {
        let read = |text: &str| text.parse::<ListenAt>().map(|at| at.0.to_string());
        assert_eq!(read("8080").as_deref(), Ok("127.0.0.1:8080"));
        assert_eq!(read("0.0.0.0:80").as_deref(), Ok("0.0.0.0:80"));
        assert_eq!(read("[::1]:80").as_deref(), Ok("[::1]:80"));
        assert!(read("host:80").is_err() && read("").is_err());
    }
}
