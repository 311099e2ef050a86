//! A client of the container engine on this device: HTTP over its Unix socket.
//!
//! The engine may be restarted at any moment. So a call that gets no answer is made
//! again once the engine is back: whoever calls must bear that it took twice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use super::context::Failure;

/// Where an engine listens unless it is told otherwise.
const SOCKET_DEFAULT: &str = "/var/run/docker.sock";
/// The version of its interface that is spoken where the engine knows it.
const API_WANTED: (u32, u32) = (1, 41);
/// The oldest that has all that is asked for.
const API_MIN: (u32, u32) = (1, 30);
/// Largest answer that is kept whole.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often it is looked whether waiting is still allowed.
const POLL: Duration = Duration::from_millis(100);
/// From one attempt to reach the engine to the next.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The socket: as set, as `DOCKER_HOST` says, or where every engine listens.
pub(super) fn socket(set: Option<&Path>, docker_host: Option<&str>) -> Result<PathBuf, Failure> {
    match (set, docker_host.filter(|host| !host.is_empty())) {
        (Some(path), _) => Ok(path.to_owned()),
        (None, None) => Ok(SOCKET_DEFAULT.into()),
        (None, Some(host)) => host.strip_prefix("unix://").map(PathBuf::from).ok_or_else(|| {
            Failure::because(format!("DOCKER_HOST is {host}, and the agent speaks over unix://PATH alone"))
        }),
    }
}

/// What allows an engine's client to wait: an error ends the waiting.
pub(super) type Leave<'a> = &'a dyn Fn() -> Result<(), Failure>;

/// An engine that answers.
pub(super) struct Engine<'a> {
    socket: PathBuf,
    /// Begins every path, once the versions are known.
    prefix: String,
    /// How long it may be away.
    away_max: Duration,
    leave: Leave<'a>,
    runtime: Runtime,
}

/// An answer of any status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    body: Vec<u8>,
}

/// Why there is no answer.
enum Problem {
    /// The engine is not there, or went away.
    Away(String),
    /// It is no use to ask again.
    Final(Failure),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

impl<'a> Engine<'a> {
    /// Waits for the engine at `socket` and agrees with it on a version.
    pub(super) fn reach(socket: PathBuf, away_max: Duration, leave: Leave<'a>) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut engine = Self { socket, prefix: String::new(), away_max, leave, runtime };
        let found: Value = engine.get("/version")?.json()?;
        let (least, most) = (version(&found["MinAPIVersion"]).unwrap_or(API_MIN), version(&found["ApiVersion"]));
        let most = most.ok_or_else(|| Failure::because("the engine does not tell its version"))?;
        if most < API_MIN {
            let why =
                format!("the engine's interface is {}.{}, and {}.{} is needed", most.0, most.1, API_MIN.0, API_MIN.1);
            return Err(Failure::because(why));
        }
        let (major, minor) = API_WANTED.max(least).min(most);
        engine.prefix = format!("/v{major}.{minor}");
        Ok(engine)
    }

    /// The same engine, which from now on may be away for so long.
    pub(super) fn patient(self, away_max: Duration) -> Self {
        Self { away_max, ..self }
    }

    /// Asks for `path`.
    pub(super) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.call(&Method::GET, path, None, None)
    }

    /// Posts `body`, which may be nothing, to `path`.
    pub(super) fn post(&self, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        self.call(&Method::POST, path, body, None)
    }

    /// Deletes what stands at `path`.
    pub(super) fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.call(&Method::DELETE, path, None, None)
    }

    /// One call; `auth` is what the engine shows to a registry.
    pub(super) fn call(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        auth: Option<&str>,
    ) -> Result<Answer, Failure> {
        let mut kept = Vec::new();
        let status = self.stream(method, path, body, auth, &mut |bytes| {
            if kept.len() + bytes.len() > ANSWER_BYTES_MAX {
                return Err(Failure::because(format!("the engine's answer is larger than {ANSWER_BYTES_MAX} bytes")));
            }
            kept.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(Answer { status, body: kept })
    }

    /// One call whose answer is handed over as it comes; its status. After a cut nothing
    /// is handed over twice: the call then fails, unless nothing had come.
    pub(super) fn stream(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        auth: Option<&str>,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<u16, Failure> {
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let away_since = Instant::now();
        loop {
            let mut is_begun = false;
            let mut take = |bytes: &[u8]| {
                is_begun = true;
                take(bytes)
            };
            let attempt = async {
                tokio::select! {
                    failure = self.left() => Err(Problem::Final(failure)),
                    ended = self.exchange(method, path, &body, auth, &mut take) => ended,
                }
            };
            let why = match self.runtime.block_on(attempt) {
                Ok(status) => return Ok(status),
                Err(Problem::Final(failure)) => return Err(failure),
                Err(Problem::Away(why)) => why,
            };
            if is_begun || away_since.elapsed() >= self.away_max {
                return Err(Failure::because(format!("no container engine at {}: {why}", self.socket.display())));
            }
            self.pause(AGAIN_AFTER)?;
        }
    }

    /// Waits, as long as that is allowed.
    pub(super) fn pause(&self, pause: Duration) -> Result<(), Failure> {
        self.runtime.block_on(async {
            tokio::select! { failure = self.left() => Err(failure), () = sleep(pause) => Ok(()) }
        })
    }

    async fn left(&self) -> Failure {
        loop {
            if let Err(failure) = (self.leave)() {
                return failure;
            }
            sleep(POLL).await;
        }
    }

    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: &[u8],
        auth: Option<&str>,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<u16, Problem> {
        let response = self.request(method, path, body, auth).await?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Problem::Away(error.to_string()))?;
            if let Ok(bytes) = frame.into_data() {
                take(&bytes)?;
            }
        }
        Ok(status)
    }

    async fn request(
        &self,
        method: &Method,
        path: &str,
        body: &[u8],
        auth: Option<&str>,
    ) -> Result<Response<Incoming>, Problem> {
        let away = |error: &dyn std::error::Error| Problem::Away(error.to_string());
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header("host", "engine")
            .header("user-agent", concat!("muster-agent/", env!("CARGO_PKG_VERSION")));
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        if let Some(auth) = auth {
            request = request.header("x-registry-auth", auth);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body)));
        let request = request.map_err(|error| Failure::because(error.to_string()))?;
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| away(&error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| away(&error))?;
        tokio::spawn(async move { drop(connection.await) });
        sender.send_request(request).await.map_err(|error| away(&error))
    }
}

impl Answer {
    /// Fails unless the engine did what it was asked for, or it was done already.
    pub(super) fn done(self) -> Result<Self, Failure> {
        match self.status {
            200..=299 | 304 => Ok(self),
            _ => Err(Failure::because(self.message())),
        }
    }

    /// What the engine says against it.
    pub(super) fn message(&self) -> String {
        let said = serde_json::from_slice::<Value>(&self.body).ok();
        let said = said.as_ref().and_then(|said| said["message"].as_str());
        said.map_or_else(|| format!("the engine answered {}", self.status), ToOwned::to_owned)
    }

    /// The answer's content, when there is what was asked for.
    pub(super) fn json<T: DeserializeOwned>(self) -> Result<T, Failure> {
        let done = self.done()?;
        serde_json::from_slice(&done.body)
            .map_err(|error| Failure::because(format!("the engine's answer cannot be read: {error}")))
    }
}

/// `1.41` as numbers.
fn version(text: &Value) -> Option<(u32, u32)> {
    let (major, minor) = text.as_str()?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `text` as it may stand in a query.
pub(super) fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_where_somebody_says() {
        let of = |set: Option<&str>, host| socket(set.map(Path::new), host).map_err(|failure| failure.why);
        assert_eq!(of(None, None).unwrap(), Path::new(SOCKET_DEFAULT));
        assert_eq!(of(None, Some("")).unwrap(), Path::new(SOCKET_DEFAULT));
        assert_eq!(of(None, Some("unix:///run/a.sock")).unwrap(), Path::new("/run/a.sock"));
        assert_eq!(of(Some("/run/b.sock"), Some("tcp://x:1")).unwrap(), Path::new("/run/b.sock"));
        assert!(of(None, Some("tcp://x:1")).unwrap_err().contains("tcp://x:1"));
    }

    #[test]
    fn an_engine_that_is_not_there_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("none.sock");
        let failure = Engine::reach(path.clone(), Duration::ZERO, &|| Ok(())).err().unwrap();
        assert!(failure.why.contains(&path.display().to_string()), "{}", failure.why);
        let stopped = Engine::reach(path, Duration::from_secs(3_600), &|| Err(Failure::because("stopped")));
        assert_eq!(stopped.err().unwrap().why, "stopped");
    }
}
