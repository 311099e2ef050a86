//! A stream to a port of a device, over the API's own connection.

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use muster_link::stream::{ByteStream, Carrier, Side};
use rand::rngs::SysRng;
use rand::{TryRng, rand_core};
use reqwest::Upgraded;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::failure::Failure;
use super::http::Http;

/// Where a stream ends: `PORT` of the device, or `HOST:PORT` in its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Empty for the device itself.
    pub(super) host: String,
    pub(super) port: u16,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port = port.parse().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| format!("{text:?} is neither PORT nor HOST:PORT"))?;
        Ok(Self { host: host.trim_start_matches('[').trim_end_matches(']').to_owned(), port })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.is_empty() { write!(f, "port {}", self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

/// A stream to that place; there when the device has connected to it.
pub(super) async fn open(
    http: &Http,
    fleet: &str,
    device: &str,
    target: &Target,
) -> Result<ByteStream<Upgraded>, Failure> {
    let call = http.get(&[fleet, "devices", device, "stream"])?.query("port", &target.port.to_string());
    let host = Some(target.host.as_str()).filter(|host| !host.is_empty());
    Ok(ByteStream::new(socket(call.maybe("host", host)).await?))
}

/// The WebSocket that a call opens, from the client's end.
pub(super) async fn socket(call: super::http::Call<'_>) -> Result<Carrier<Upgraded>, Failure> {
    let mut key = [0; 16];
    SysRng.try_fill_bytes(&mut key).context("the system has no random numbers")?;
    let key = BASE64_STANDARD.encode(key);
    let answer = call.websocket(&key).send().await?;
    let accepted = answer.headers().get("sec-websocket-accept").and_then(|value| value.to_str().ok());
    if answer.status().as_u16() != 101 || accepted != Some(derive_accept_key(key.as_bytes()).as_str()) {
        let problem = "something between here and the server does not let WebSockets through";
        return Err(anyhow::anyhow!(problem).into());
    }
    let socket = answer.upgrade().await.map_err(reqwest::Error::without_url);
    let mask_seed = seed().context("the system has no random numbers")?;
    Ok(Carrier::new(socket.context("the server's answer broke off")?, Side::Client, mask_seed))
}

fn seed() -> Result<u64, <SysRng as rand_core::TryRng>::Error> {
    SysRng.try_next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_port_or_a_host_with_one() {
        let target = |text: &str| text.parse::<Target>().map(|target| (target.host, target.port));
        assert_eq!(target("22"), Ok((String::new(), 22)));
        assert_eq!(target("10.0.0.1:80"), Ok(("10.0.0.1".to_owned(), 80)));
        assert_eq!(target("[fe80::1]:80"), Ok(("fe80::1".to_owned(), 80)));
        for wrong in ["", "x", "0", "65536", "host:", "host:0"] {
            assert!(target(wrong).unwrap_err().contains("neither PORT nor HOST:PORT"), "{wrong}");
        }
    }
}
