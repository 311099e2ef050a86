//! What registries of the account have for devices, fetched by this server: so the account's
//! secrets never leave it. See `docs/decisions/0008`.
//!
//! Only the registry's own address is asked, below which the grant names one path. Where a
//! registry leads elsewhere, the server goes without the credential, and only as deep into
//! the network as the registry itself stands.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::{Stream, StreamExt, stream};
use muster_core::artifact::{Grant, Right};
use muster_core::limits::{REGISTRY_FETCHES_MAX, REGISTRY_REDIRECTS_MAX, REGISTRY_SILENCE_MAX};
use muster_core::names::ArtifactPath;
use muster_core::token::Secret;
use muster_store::registries::Registry;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode, Url};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::access::registries::opened;
use crate::app::App;
use crate::error::{OpError, Result};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The turns of what is fetched at once.
pub struct Upstream {
    turns: Arc<Semaphore>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(REGISTRY_FETCHES_MAX)) }
    }
}

/// What is asked of a registry.
#[derive(Clone, Debug)]
pub struct Question {
    /// `GET` or `POST`.
    pub method: Method,
    /// The path that was asked for.
    pub path: String,
    /// Behind the `?`.
    pub query: Option<String>,
    /// Headers that are handed on; none of them a credential.
    pub headers: HeaderMap,
    /// The body of a `POST`.
    pub body: Bytes,
}

/// What a registry answers; its body holds the place that it takes.
pub struct Told {
    /// 200, 206 or 416.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    response: Response,
    turn: OwnedSemaphorePermit,
    bytes_max: u64,
}

/// Asks the registry of a grant for what the grant names.
pub async fn ask(app: &App, grant: &Grant, name: &str, question: &Question) -> Result<Told> {
    let unknown = || OpError::not_found("registry", name);
    let found = app.store.read().find_registry_by_id(grant.repository).await?;
    let (account_id, registry) = found.filter(|(_, found)| found.name == name).ok_or_else(unknown)?;
    let url = target(&registry, grant, question)
        .ok_or_else(|| OpError::not_found("place in the registry", &question.path))?;
    let secret = opened(app, account_id, &registry)?;
    let turn = timeout(REGISTRY_SILENCE_MAX, Arc::clone(&app.upstream.turns).acquire_owned()).await;
    let turn = turn.map_err(|_| failed(&registry, "cannot be asked: too many devices ask this server"))?;
    let turn = turn.map_err(|error| OpError::Internal(error.to_string()))?;
    let response = go(&registry, url, credential(&registry, secret.as_ref()), question).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    match status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            return Err(OpError::NotYet(format!("registry {} has nothing there: it answered {status}", registry.name)));
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            return Err(failed(&registry, &format!("answered {status}")));
        }
        _ if status.is_server_error() => return Err(failed(&registry, &format!("answered {status}"))),
        _ => return Err(refused(&registry, &format!("answered {status}"))),
    }
    Ok(Told { status, headers, response, turn, bytes_max: app.config.artifact_bytes_max })
}

impl Told {
    /// The body, piece by piece, each of which must come in time. Dropping it ends the fetch.
    pub fn body(self) -> impl Stream<Item = std::io::Result<Bytes>> {
        let from = (Box::pin(self.response.bytes_stream()), self.turn, self.bytes_max);
        stream::unfold(Some(from), |from| async move {
            let (mut pieces, turn, left) = from?;
            let problem = match timeout(REGISTRY_SILENCE_MAX, pieces.next()).await {
                Ok(None) => return None,
                Ok(Some(Ok(piece))) => match left.checked_sub(piece.len() as u64) {
                    Some(left) => return Some((Ok(piece), Some((pieces, turn, left)))),
                    None => "what the registry sends is larger than an artifact may be".to_owned(),
                },
                Ok(Some(Err(error))) => error.without_url().to_string(),
                Err(_) => "the registry fell silent".to_owned(),
            };
            tracing::info!(problem, "a fetch from a registry was cut");
            Some((Err(std::io::Error::other(problem)), None))
        })
    }
}

fn failed(registry: &Registry, what: &str) -> OpError {
    OpError::RegistryFailed(format!("registry {} {what}", registry.name))
}

fn refused(registry: &Registry, what: &str) -> OpError {
    OpError::RegistryRefused(format!("registry {} {what}", registry.name))
}

/// The registry's address.
fn base(registry: &Registry) -> Option<Url> {
    let scheme = if registry.url.contains("://") { "" } else { "https://" };
    Url::parse(&format!("{scheme}{}", registry.url)).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// Where that is which the grant names; `None` for everything else.
fn target(registry: &Registry, grant: &Grant, question: &Question) -> Option<Url> {
    let mut url = base(registry)?;
    let is_plain = ArtifactPath::parse(grant.path.trim_start_matches('/')).is_ok();
    if !is_plain {
        return None;
    }
    match (&grant.right, &question.method) {
        (Right::FetchFromRegistry, &Method::GET) if question.path == grant.path => {
            url.set_path(&format!("{}/{}", url.path().trim_end_matches('/'), grant.path));
            url.set_query(None);
            Some(url)
        }
        (Right::CloneFromRegistry, method) => {
            let rest = question.path.strip_prefix(grant.path.as_str())?;
            let query = question.query.as_deref();
            let is_reading = match (rest, query) {
                ("/info/refs", Some("service=git-upload-pack")) => method == Method::GET,
                ("/git-upload-pack", None) => method == Method::POST,
                _ => false,
            };
            url.set_path(&question.path);
            url.set_query(query);
            is_reading.then_some(url)
        }
        _ => None,
    }
}

/// The path of the address of a repository of Git, where that is one of the registry's.
pub fn git_path(registry: &Registry, repository: &str) -> Option<String> {
    let (base, url) = (base(registry)?, Url::parse(repository).ok()?);
    let is_own = (base.host_str(), base.port_or_known_default()) == (url.host_str(), url.port_or_known_default());
    let is_http = matches!(url.scheme(), "http" | "https") && url.query().is_none();
    let path = url.path().trim_matches('/').to_owned();
    (is_own && is_http && ArtifactPath::parse(path.as_str()).is_ok()).then_some(path)
}

fn credential(registry: &Registry, secret: Option<&Secret>) -> Option<HeaderValue> {
    let secret = secret?.expose();
    let text = match registry.username.as_str() {
        "" => format!("Bearer {secret}"),
        name => format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{secret}"))),
    };
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Asks, wherever the answers lead.
async fn go(registry: &Registry, first: Url, credential: Option<HeaderValue>, question: &Question) -> Result<Response> {
    let mut url = first.clone();
    let mut depth = None;
    for _ in 0..=REGISTRY_REDIRECTS_MAX {
        let is_own = url.origin() == first.origin();
        let places = look_up(registry, &url).await?;
        let depth = *depth.get_or_insert_with(|| places.iter().map(|place| Depth::of(place.ip())).max());
        let places: Vec<SocketAddr> =
            places.into_iter().filter(|place| is_own || Some(Depth::of(place.ip())) <= depth).collect();
        if places.is_empty() {
            return Err(refused(registry, "leads into a network that it does not stand in"));
        }
        let response = send(registry, &url, &places, credential.as_ref().filter(|_| is_own), question).await?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| url.join(to).ok());
        let to = to.ok_or_else(|| refused(registry, "leads nowhere"))?;
        let is_weaker = url.scheme() == "https" && to.scheme() != "https";
        if is_weaker || !matches!(to.scheme(), "http" | "https") || question.method != Method::GET {
            return Err(refused(registry, "leads where this server does not follow"));
        }
        url = to;
    }
    Err(refused(registry, "leads on and on"))
}

async fn look_up(registry: &Registry, url: &Url) -> Result<Vec<SocketAddr>> {
    let port = url.port_or_known_default().unwrap_or(443);
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let found = timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((host.as_str(), port))).await;
    let found = found.map_err(|_| failed(registry, "has a name that is not resolved in time"))?;
    let found: Vec<SocketAddr> = found.map_err(|error| failed(registry, &format!("is not found: {error}")))?.collect();
    if found.is_empty() { Err(failed(registry, "has a name without an address")) } else { Ok(found) }
}

async fn send(
    registry: &Registry,
    url: &Url,
    places: &[SocketAddr],
    credential: Option<&HeaderValue>,
    question: &Question,
) -> Result<Response> {
    // The addresses that were looked at, and no others: a name may mean another one the next time.
    let client = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .resolve_to_addrs(url.host_str().unwrap_or_default(), places)
        .build()
        .map_err(|error| OpError::Internal(error.to_string()))?;
    let mut request = client.request(question.method.clone(), url.clone()).headers(question.headers.clone());
    if question.method == Method::POST {
        request = request.body(question.body.clone());
    }
    if let Some(credential) = credential {
        request = request.header(AUTHORIZATION, credential);
    }
    let response = timeout(REGISTRY_SILENCE_MAX, request.send()).await;
    let response = response.map_err(|_| failed(registry, "does not answer in time"))?;
    response.map_err(|error| {
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        failed(registry, &format!("cannot be reached: {error}{cause}"))
    })
}

/// How deep in the network an address lies, as seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    Public,
    Private,
    Machine,
    /// What clouds tell their machines, and what is no place.
    Forbidden,
}

impl Depth {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, ..] = v4.octets();
                match v4 {
                    _ if v4.is_loopback() => Self::Machine,
                    _ if v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() || a == 0 || a >= 240 => {
                        Self::Forbidden
                    }
                    _ if v4.is_private() || (a == 100 && (64..128).contains(&b)) => Self::Private,
                    _ => Self::Public,
                }
            }
            IpAddr::V6(v6) => match v6 {
                _ if v6.is_loopback() => Self::Machine,
                _ if v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified() => Self::Forbidden,
                _ if v6.is_unique_local() => Self::Private,
                _ => Self::Public,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_core::clock::Timestamp;
    use muster_core::registry::RegistryKind;

    use super::*;

    fn registry(url: &str) -> Registry {
        Registry {
            id: 1,
            name: "r".to_owned(),
            kind: RegistryKind::Generic,
            url: url.to_owned(),
            username: String::new(),
            sealed_secret: String::new(),
            created_at: Timestamp::NEVER,
        }
    }

    fn grant(right: Right, path: &str) -> Grant {
        Grant { repository: 1, path: path.to_owned(), right, holder: String::new(), ends_at: Timestamp::NEVER }
    }

    fn asked(right: Right, granted: &str, method: Method, path: &str) -> Option<String> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query.to_owned())));
        let question = Question { method, path: path.to_owned(), query, headers: HeaderMap::new(), body: Bytes::new() };
        let found = target(&registry("https://r.example.com/base/"), &grant(right, granted), &question);
        found.map(|url| url.to_string())
    }

    #[test]
    fn only_what_the_grant_names_is_asked_for() {
        let fetch = |granted: &str, path: &str| asked(Right::FetchFromRegistry, granted, Method::GET, path);
        assert_eq!(fetch("a/b c", "a/b c").as_deref(), Some("https://r.example.com/base/a/b%20c"));
        assert_eq!(fetch("a?b#c", "a?b#c"), None, "what was asked behind a question mark is no path");
        for (granted, path) in
            [("a/b", "a/c"), ("a/b", "a/b/c"), ("../x", "../x"), ("a/../x", "a/../x"), ("a//b", "a//b")]
        {
            assert_eq!(fetch(granted, path), None, "{granted} {path}");
        }
        let clone = |method, path: &str| asked(Right::CloneFromRegistry, "team/a.git", method, path);
        assert_eq!(
            clone(Method::GET, "team/a.git/info/refs?service=git-upload-pack").as_deref(),
            Some("https://r.example.com/team/a.git/info/refs?service=git-upload-pack")
        );
        assert!(clone(Method::POST, "team/a.git/git-upload-pack").is_some());
        for (method, path) in [
            (Method::GET, "team/a.git/info/refs?service=git-receive-pack"),
            (Method::GET, "team/a.git/info/refs"),
            (Method::POST, "team/a.git/git-receive-pack"),
            (Method::POST, "team/a.git/git-upload-pack?x"),
            (Method::GET, "team/a.git/config"),
            (Method::GET, "team/b.git/info/refs?service=git-upload-pack"),
        ] {
            assert_eq!(clone(method, path), None, "{path}");
        }
        assert_eq!(asked(Right::Fetch, "a", Method::GET, "a"), None);
        assert_eq!(asked(Right::FetchFromRegistry, "a", Method::POST, "a"), None);
    }

    #[test]
    fn a_repository_is_of_its_own_registry() {
        let own = registry("git.example.com");
        assert_eq!(git_path(&own, "https://git.example.com/a/b.git").as_deref(), Some("a/b.git"));
        for other in [
            "https://evil.example.org/a.git",
            "https://git.example.com.evil.org/a.git",
            "https://git.example.com@evil.org/a.git",
            "https://git.example.com:8443/a.git",
            "ssh://git.example.com/a.git",
            "git@git.example.com:a.git",
        ] {
            assert_eq!(git_path(&own, other), None, "{other}");
        }
    }

    #[test]
    fn addresses_lie_so_deep() {
        for (text, depth) in [
            ("8.8.8.8", Depth::Public),
            ("10.1.2.3", Depth::Private),
            ("100.64.0.1", Depth::Private),
            ("fd00::1", Depth::Private),
            ("127.0.0.1", Depth::Machine),
            ("::1", Depth::Machine),
            ("::ffff:127.0.0.1", Depth::Machine),
            ("169.254.169.254", Depth::Forbidden),
            ("fe80::1", Depth::Forbidden),
            ("0.0.0.0", Depth::Forbidden),
        ] {
            assert_eq!(Depth::of(text.parse().unwrap()), depth, "{text}");
        }
    }
}
