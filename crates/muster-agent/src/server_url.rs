//! The server's address, as a person gives it.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Where the server is: `https://muster.example.com`, with a port and a path if need be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerUrl(Url);

impl ServerUrl {
    /// Checks `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{text:?} is not a URL: {error}"))?;
        let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !is_plain {
            return Err(format!("{text:?} is not of the form https://HOST[:PORT][/PATH]"));
        }
        Ok(Self(url))
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The host as a resolver and a certificate name it: IPv6 without brackets.
    pub fn host(&self) -> String {
        match self.0.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        }
    }

    /// The port, from the scheme when none is given.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// `HOST[:PORT]`, as the `Host` header names it.
    pub fn authority(&self) -> String {
        self.0.authority().to_owned()
    }

    /// The path of `endpoint` on this server, below the URL's own path.
    pub fn path_of(&self, endpoint: &str) -> String {
        format!("{}{endpoint}", self.0.path().trim_end_matches('/'))
    }

    /// `endpoint` as a WebSocket URL.
    pub fn websocket(&self, endpoint: &str) -> String {
        let scheme = if self.is_tls() { "wss" } else { "ws" };
        format!("{scheme}://{}{}", self.authority(), self.path_of(endpoint))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl std::str::FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ServerUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<ServerUrl> for String {
    fn from(url: ServerUrl) -> Self {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_endpoint() {
        let cases = [
            ("https://a.example", "wss://a.example/link", "a.example", 443),
            ("http://a.example:81/", "ws://a.example:81/link", "a.example", 81),
            ("https://[::1]:8443/fleet/", "wss://[::1]:8443/fleet/link", "::1", 8443),
        ];
        for (text, websocket, host, port) in cases {
            let url = ServerUrl::parse(text).unwrap();
            assert_eq!((url.websocket("/link"), url.host(), url.port()), (websocket.to_owned(), host.to_owned(), port));
            assert_eq!(ServerUrl::parse(&url.to_string()).unwrap().websocket("/link"), websocket);
        }
    }

    #[test]
    fn refuses_what_is_no_server() {
        for text in ["", "a.example", "ftp://a", "https://", "https://u:p@a", "https://a/?q=1", "/a"] {
            assert!(ServerUrl::parse(text).is_err(), "{text}");
        }
    }
}
