//! The client's only way to a server: HTTP, and what an answer means.

use std::time::Duration;

use anyhow::Context;
use muster_core::token::Secret;
use muster_link::ServerPin;
use reqwest::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use reqwest::redirect::Policy;
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::Value;

use super::failure::Failure;

/// How long a server may take to answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be silent in the middle of a call.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(120);

/// A server, and whom it is asked for.
pub(super) struct Http {
    client: reqwest::Client,
    url: Url,
    token: Option<Secret>,
}

impl Http {
    /// Calls to the server at that address, in the name of whoever bears the token.
    pub(super) fn new(url: &str, pin: Option<ServerPin>, token: Option<Secret>) -> Result<Self, Failure> {
        let url = server_url(url).map_err(Failure::Usage)?;
        // A redirect would carry a body, and with it a password, to somebody else.
        let client = reqwest::Client::builder().redirect(Policy::none()).connect_timeout(CONNECT_TIMEOUT);
        let client = client.read_timeout(SILENCE_TIMEOUT).user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")));
        // Without TLS, no authority is needed: a small device may have none.
        let client = match url.scheme() {
            "https" => client.tls_backend_preconfigured(crate::tls_config(url.as_str(), pin)?),
            _ => client.tls_backend_preconfigured(crate::tls_config_of_nobody()?),
        };
        Ok(Self { client: client.build().context("cannot make calls")?, url, token })
    }

    /// A call of API v2: `path` is what follows `/api/v2`, in parts, as they are.
    pub(super) fn call(&self, method: Method, path: &[&str]) -> Result<Call<'_>, Failure> {
        let mut url = self.url.clone();
        if let Some(part) = path.iter().find(|part| matches!(**part, "" | "." | "..")) {
            return Err(Failure::Usage(format!("{part:?} cannot be the name of anything")));
        }
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(["api", "v2"]).extend(path);
        }
        Ok(Call { http: self, method, url, body: None, header: Vec::new(), stream: None, websocket_key: None })
    }

    pub(super) fn get(&self, path: &[&str]) -> Result<Call<'_>, Failure> {
        self.call(Method::GET, path)
    }

    pub(super) fn post(&self, path: &[&str]) -> Result<Call<'_>, Failure> {
        self.call(Method::POST, path)
    }

    pub(super) fn patch(&self, path: &[&str]) -> Result<Call<'_>, Failure> {
        self.call(Method::PATCH, path)
    }

    pub(super) fn delete(&self, path: &[&str]) -> Result<Call<'_>, Failure> {
        self.call(Method::DELETE, path)
    }
}

/// The address of a server, checked.
pub(super) fn server_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|problem| format!("{text:?} is no address of a server: {problem}"))?;
    match url.scheme() {
        "http" | "https" if !url.username().is_empty() || url.password().is_some() => {
            Err("the address of a server has no user and no password in it".to_owned())
        }
        "http" | "https" => Ok(url),
        scheme => Err(format!("{text:?}: this program speaks http and https, not {scheme}")),
    }
}

/// One call, until it is sent.
pub(super) struct Call<'a> {
    http: &'a Http,
    method: Method,
    url: Url,
    body: Option<(HeaderValue, Vec<u8>)>,
    /// Beside those of every call.
    header: Vec<(&'static str, String)>,
    /// A body that is read while it is sent, and its length.
    stream: Option<(reqwest::Body, u64)>,
    /// Of the handshake that it is.
    websocket_key: Option<String>,
}

impl Call<'_> {
    /// With a parameter in the address.
    pub(super) fn query(mut self, key: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(key, value);
        self
    }

    /// With a parameter in the address, if there is one.
    pub(super) fn maybe(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    /// With a header more.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.header.push((name, value.to_owned()));
        self
    }

    /// As the handshake of a WebSocket, with that key.
    pub(super) fn websocket(mut self, key: &str) -> Self {
        self.websocket_key = Some(key.to_owned());
        self
    }

    /// With a JSON body.
    pub(super) fn json(mut self, body: &Value) -> Self {
        self.body = Some((HeaderValue::from_static("application/json"), body.to_string().into_bytes()));
        self
    }

    /// With a body that is read while it is sent.
    pub(super) fn stream(mut self, body: reqwest::Body, bytes: u64) -> Self {
        self.stream = Some((body, bytes));
        self
    }

    /// With a YAML body.
    pub(super) fn yaml(mut self, body: String) -> Self {
        self.body = Some((HeaderValue::from_static("application/yaml"), body.into_bytes()));
        self
    }

    /// The same call again, with a parameter more.
    pub(super) fn page(&self, limit: u64, after: Option<&str>) -> Self {
        let Self { http, method, url, body, header, stream: _, websocket_key: _ } = self;
        let (method, url, body, header) = (method.clone(), url.clone(), body.clone(), header.clone());
        let again = Self { http, method, url, body, header, stream: None, websocket_key: None };
        again.query("limit", &limit.to_string()).maybe("after", after)
    }

    /// Sends it; an answer that is no success is a failure with the server's message.
    pub(super) async fn send(self) -> Result<Response, Failure> {
        let address = origin(&self.url);
        let mut request = self.http.client.request(self.method, self.url);
        if let Some(token) = &self.http.token {
            request = request.bearer_auth(token.expose());
        }
        for (name, value) in self.header {
            request = request.header(name, value);
        }
        if let Some(key) = self.websocket_key {
            request = request.header(CONNECTION, "upgrade").header(UPGRADE, "websocket");
            request = request.header(SEC_WEBSOCKET_VERSION, "13").header(SEC_WEBSOCKET_KEY, key);
        }
        if let Some((body, bytes)) = self.stream {
            request = request.header(CONTENT_LENGTH, bytes).body(body);
        }
        if let Some((kind, body)) = self.body {
            request = request.header(CONTENT_TYPE, kind).body(body);
        }
        let sent = request.send().await.map_err(reqwest::Error::without_url);
        let response = sent.with_context(|| format!("cannot reach {address}"))?;
        if response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            Ok(response)
        } else {
            Err(refusal(response).await)
        }
    }

    /// Sends it, and reads the JSON of the answer; null where it has no body.
    pub(super) async fn value(self) -> Result<Value, Failure> {
        let body = bytes(self.send().await?).await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&body).context("the server's answer is no JSON; is this a Muster server?")?)
    }

    /// Sends it, and reads the text of the answer.
    pub(super) async fn text(self) -> Result<String, Failure> {
        let body = bytes(self.send().await?).await?;
        Ok(String::from_utf8(body).context("the server's answer is no text")?)
    }
}

async fn bytes(response: Response) -> Result<Vec<u8>, Failure> {
    let body = response.bytes().await.map_err(reqwest::Error::without_url);
    Ok(body.context("the server's answer broke off")?.to_vec())
}

async fn refusal(response: Response) -> Failure {
    let status = response.status();
    let body: Option<Value> = response.json().await.ok();
    let message = body.as_ref().and_then(|body| body["message"].as_str());
    let message = message.map_or_else(|| format!("the server answered {status}"), str::to_owned);
    let code = body.as_ref().and_then(|body| body["code"].as_str()).unwrap_or_default().to_owned();
    Failure::Api { status: status.as_u16(), code, message }
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_the_path_whatever_is_in_it() {
        let http = Http::new("http://host:1/behind/a/proxy/", None, None).unwrap();
        let call = http.get(&["account", "tags", "site=a/b ?#%"]).unwrap().query("a", "b&c");
        let expected = "http://host:1/behind/a/proxy/api/v2/account/tags/site=a%2Fb%20%3F%23%25?a=b%26c";
        assert_eq!(call.url.as_str(), expected);
    }

    #[test]
    fn a_name_that_would_climb_the_path_is_refused() {
        let http = Http::new("http://host", None, None).unwrap();
        for name in ["", ".", ".."] {
            let refused = http.delete(&["account", "tags", name]).err().unwrap();
            assert_eq!(refused.exit_code(), 2, "{name:?}");
        }
    }

    #[test]
    fn an_address_is_checked() {
        assert!(server_url("http://127.0.0.1:8080").is_ok() && server_url("https://host").is_ok());
        for (text, expected) in [
            ("127.0.0.1:8080", "no address"),
            ("ssh://host", "speaks http and https, not ssh"),
            ("ftp://host", "not ftp"),
            ("http://me:secret@host", "no user and no password"),
        ] {
            let problem = server_url(text).unwrap_err();
            assert!(problem.contains(expected), "{text} gave {problem}");
            assert!(!problem.contains("secret"));
        }
    }
}
