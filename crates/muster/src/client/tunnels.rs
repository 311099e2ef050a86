//! `muster tunnels`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output::ListArgs;
use super::session::Session;
use super::table::{Column, column};

/// What can be done with port tunnels.
#[derive(Subcommand)]
pub(crate) enum TunnelsCommand {
    /// List the newest port tunnels of the fleet, oldest first
    List(ListArgs),
    /// Open a tunnel to a port of a device
    Create {
        /// The device
        device: String,
        /// The port of the device
        port: std::num::NonZeroU16,
        /// Another host of the device's network, where fleet and device allow it
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// The one address, or network, that is let through; by default yours
        #[arg(long, value_name = "ADDRESS")]
        allow: Option<String>,
    },
    /// End a tunnel
    Close {
        /// The tunnel
        tunnel: String,
    },
}

const TUNNELS: &[Column] = &[
    column("TUNNEL", "port_tunnel_id"),
    column("DEVICE", "device_id"),
    column("STATUS", "status"),
    column("ADDRESS", "remote_server_address"),
    column("PORT", "remote_server_port"),
    column("LETS THROUGH", "user_source_ip"),
    column("CREATED", "created_time"),
    column("ENDED", "finish_time"),
];
const CREATED: &[Column] =
    &[column("TUNNEL", "port_tunnel_id"), column("ADDRESS", "server_address"), column("PORT", "server_port")];

pub(super) async fn run(command: TunnelsCommand, session: &Session) -> Result<(), Failure> {
    let (http, out, all) = (&session.http, &session.out, [session.fleet()?, "port_tunnel"]);
    match command {
        TunnelsCommand::List(list) => {
            let tunnels = http.get(&all)?.value().await?;
            out.items(newest(&tunnels, list.limit()), TUNNELS)
        }
        TunnelsCommand::Create { device, port, host, allow } => {
            let mut body = json!({ "device_uuid": device, "port": port });
            if let Some(address) = allow {
                body["allowed_ip"] = Value::from(address);
            }
            if let Some(host) = host {
                body["host"] = Value::from(host);
            }
            out.object(&http.post(&all)?.json(&body).value().await?, CREATED)
        }
        TunnelsCommand::Close { tunnel } => {
            let call = http.delete(&[all[0], all[1], &tunnel])?;
            out.done(&call.value().await?, &format!("closed the tunnel {tunnel}"))
        }
    }
}

/// This list has no pages, and its newest are last.
fn newest(tunnels: &Value, limit: Option<u64>) -> &[Value] {
    let all = tunnels.as_array().map_or(&[] as &[Value], Vec::as_slice);
    let wanted = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    &all[all.len().saturating_sub(wanted)..]
}
