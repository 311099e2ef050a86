//! Where a request comes from, and what its rate limits have left.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use ipnet::IpNet;

use super::error::ApiError;
use crate::access::rate::{Source, WINDOW};
use crate::error::{OpError, Result};

/// The sender of a request: the other end of the connection, or whom a proxy that is
/// trusted names.
pub fn source_of(request: &Request, trusted_proxies: &[IpNet]) -> Result<Source> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let ConnectInfo(peer) = peer.ok_or_else(|| OpError::Internal("a request has no sender".to_owned()))?;
    Ok(Source::new(client_address(peer.ip(), request.headers(), trusted_proxies)))
}

/// Tells the sender what its limits leave, in the headers of the IETF's draft
/// "RateLimit header fields for HTTP".
pub fn tell(source: &Source, response: &mut Response) {
    let (mut policies, mut lefts) = (String::new(), String::new());
    for left in source.counted() {
        let comma = if policies.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(policies, "{comma}\"{}\";q={};w={}", left.name, left.quota, WINDOW.as_secs());
        let _ = write!(lefts, "{comma}\"{}\";r={};t={}", left.name, left.calls, left.reset_seconds());
    }
    for (name, text) in [("ratelimit-policy", policies), ("ratelimit", lefts)] {
        if let (false, Ok(value)) = (text.is_empty(), HeaderValue::from_str(&text)) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Source {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let source = parts.extensions.get::<Self>().cloned();
        Ok(source.ok_or_else(|| OpError::Internal("a request has no source".to_owned()))?)
    }
}

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Each proxy appends whom it was asked by. From the right, the first that is no
/// trusted proxy is the sender: what stands left of it, the sender may have made up.
fn client_address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted_proxies.iter().any(|network| network.contains(address));
    let mut sender = peer.to_canonical();
    let named: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|it| it.split(','))
        .collect();
    for name in named.iter().rev() {
        let (true, Ok(address)) = (is_trusted(&sender), name.trim().parse::<IpAddr>()) else { break };
        sender = address.to_canonical();
    }
    sender
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&'static str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|it| it.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_name_the_sender() {
        let proxies = ["10.0.0.0/8", "fd00::/8"];
        assert_eq!(client("192.0.2.1", &["198.51.100.7"], &proxies), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.7"], &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.7"], &proxies), "198.51.100.7");
        assert_eq!(client("::ffff:10.0.0.1", &["198.51.100.7"], &proxies), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.0.0.2"], &proxies), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "198.51.100.7", "fd00::1"], &proxies), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["nonsense"], &proxies), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["10.0.0.3"], &proxies), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &[], &proxies), "10.0.0.1");
    }
}
