//! Brings an artifact onto the device: over HTTP, with what was fetched already kept,
//! its size and its SHA-256 looked at.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_RANGE, LOCATION};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use muster_link::Artifact;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use super::context::{Context, Failure};
use crate::net::Dialer;
use crate::server_url::ServerUrl;

/// How often a fetch looks whether its step was asked to stop.
const STOP_POLL: Duration = Duration::from_millis(100);
/// How long a server may be silent before the link counts as cut.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// From one attempt to the next, at first and at most.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(30);
/// Redirections that are followed.
const REDIRECTS_MAX: usize = 5;

/// The size of the step's artifact; 0 when nobody knows.
pub(super) fn size_of(cx: &Context) -> u64 {
    cx.artifact().and_then(|artifact| artifact.size_bytes).unwrap_or(0)
}

/// Fetches the step's artifact into the file `into`, at most `bytes_per_second`.
///
/// A cut link is dialled again until the step's time is over; what `into` holds from
/// an earlier attempt, or an earlier runner, is not fetched again.
pub(super) fn fetch(cx: &Context, into: &Path, bytes_per_second: Option<u64>) -> Result<(), Failure> {
    let artifact = cx.artifact().ok_or_else(|| Failure::because("the server did not say where the artifact is"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut part = Part::open(into)?;
    let mut pause = AGAIN_AFTER;
    loop {
        let before = part.len_bytes;
        let attempt = async {
            tokio::select! {
                stopped = stopped(cx) => Err(Problem::Final(stopped)),
                ended = transfer(cx, artifact, &mut part, bytes_per_second) => ended,
            }
        };
        match runtime.block_on(attempt) {
            Ok(()) => break,
            Err(Problem::Final(failure)) => return Err(failure),
            Err(Problem::Again(why)) => cx.note(&format!("{why}; trying again")),
        }
        pause = if part.len_bytes > before { AGAIN_AFTER } else { (pause * 2).min(AGAIN_AFTER_MAX) };
        runtime.block_on(async {
            tokio::select! { failure = stopped(cx) => Err(failure), () = sleep(pause) => Ok(()) }
        })?;
    }
    part.finish(artifact)?;
    cx.say(&format!("{} bytes were fetched", part.len_bytes));
    Ok(())
}

async fn stopped(cx: &Context) -> Failure {
    loop {
        if let Err(failure) = cx.check_time() {
            return failure;
        }
        sleep(STOP_POLL).await;
    }
}

enum Problem {
    /// Trying again may help.
    Again(String),
    /// It will not.
    Final(Failure),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

/// What is there of the artifact.
struct Part {
    file: File,
    len_bytes: u64,
    sha256: Sha256,
}

impl Part {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let (mut sha256, mut len_bytes, mut buffer) = (Sha256::new(), 0, vec![0; 64 * 1024]);
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                return Ok(Self { file, len_bytes, sha256 });
            }
            sha256.update(&buffer[..n]);
            len_bytes += n as u64;
        }
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.sha256.update(bytes);
        self.len_bytes += bytes.len() as u64;
        Ok(())
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        io::Seek::rewind(&mut self.file)?;
        self.sha256 = Sha256::new();
        self.len_bytes = 0;
        Ok(())
    }

    /// Checks that it is what the server promised. What is wrong is thrown away, so
    /// that nobody goes on from it.
    fn finish(&mut self, artifact: &Artifact) -> Result<(), Failure> {
        let sha256: String = self.sha256.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let wanted = artifact.sha256.as_ref().filter(|wanted| !wanted.eq_ignore_ascii_case(&sha256));
        if let Some(wanted) = wanted {
            self.begin_anew()?;
            return Err(Failure::because(format!("the artifact's SHA-256 is {sha256}, and should be {wanted}")));
        }
        Ok(self.file.sync_all()?)
    }
}

async fn transfer(cx: &Context, artifact: &Artifact, part: &mut Part, cap: Option<u64>) -> Result<(), Problem> {
    if artifact.size_bytes.is_some_and(|size| part.len_bytes == size && size > 0) {
        return Ok(());
    }
    let response = timeout(SILENCE_MAX, request(cx, artifact, part.len_bytes));
    let response = response.await.map_err(|_| Problem::Again("the server is silent".to_owned()))??;
    let promised = begin(&response, part)?;
    let mut body = response.into_body();
    let (began, mut received) = (Instant::now(), 0_u64);
    loop {
        let frame = timeout(SILENCE_MAX, body.frame()).await;
        let frame = frame.map_err(|_| Problem::Again("the server fell silent".to_owned()))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| Problem::Again(format!("the link was cut: {error}")))?;
        let Ok(bytes) = frame.into_data() else { continue };
        if artifact.size_bytes.is_some_and(|size| part.len_bytes + bytes.len() as u64 > size) {
            part.begin_anew().map_err(Failure::from)?;
            return Err(Failure::because("the artifact is larger than the server said").into());
        }
        part.push(&bytes).map_err(Failure::from)?;
        received += bytes.len() as u64;
        if let Some(cap) = cap {
            let due = Duration::from_millis(received.saturating_mul(1_000) / cap.max(1));
            sleep(due.saturating_sub(began.elapsed())).await;
        }
    }
    match artifact.size_bytes.or(promised) {
        Some(size) if part.len_bytes < size => Err(Problem::Again("the link was cut".to_owned())),
        _ => Ok(()),
    }
}

/// Looks at how the answer begins; the whole size, where it tells.
fn begin(response: &Response<Incoming>, part: &mut Part) -> Result<Option<u64>, Problem> {
    let status = response.status();
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
    let length = hyper::body::Body::size_hint(response.body()).exact();
    match status {
        StatusCode::PARTIAL_CONTENT if range.starts_with(&format!("bytes {}-", part.len_bytes)) => {
            Ok(range.rsplit('/').next().and_then(|size| size.parse().ok()))
        }
        StatusCode::OK => {
            part.begin_anew().map_err(Failure::from)?;
            Ok(length)
        }
        // There is more here than there: it has changed.
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT if part.len_bytes > 0 => {
            part.begin_anew().map_err(Failure::from)?;
            Err(Problem::Again(format!("the server answered {status}")))
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Err(Problem::Again(format!("the server answered {status}")))
        }
        _ if status.is_server_error() => Err(Problem::Again(format!("the server answered {status}"))),
        _ => Err(Failure::because(format!("the server answered {status}")).into()),
    }
}

/// Asks for the artifact from `offset` on, wherever the answers lead.
async fn request(cx: &Context, artifact: &Artifact, offset: u64) -> Result<Response<Incoming>, Problem> {
    let mut url =
        Url::parse(&artifact.url).map_err(|error| Failure::because(format!("the artifact's URL: {error}")))?;
    let origin = url.origin();
    for _ in 0..=REDIRECTS_MAX {
        // A credential is for the server that it was made for.
        let headers = (url.origin() == origin).then_some(artifact);
        let response = request_once(cx, &url, headers, offset).await?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        let to = to.and_then(|to| url.join(to).ok()).ok_or_else(|| Failure::because("a redirection leads nowhere"))?;
        if url.scheme() == "https" && to.scheme() != "https" {
            return Err(Failure::because("a redirection leads out of TLS").into());
        }
        url = to;
    }
    Err(Failure::because(format!("more than {REDIRECTS_MAX} redirections")).into())
}

async fn request_once(
    cx: &Context,
    url: &Url,
    artifact: Option<&Artifact>,
    offset: u64,
) -> Result<Response<Incoming>, Problem> {
    let server = ServerUrl::parse(&url[..url::Position::BeforePath]).map_err(Failure::because)?;
    let mut request = Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header("host", server.authority())
        .header("user-agent", concat!("muster-agent/", env!("CARGO_PKG_VERSION")));
    for (name, value) in artifact.map(|artifact| &artifact.headers).into_iter().flatten() {
        request = request.header(name, value.expose());
    }
    if offset > 0 {
        request = request.header("range", format!("bytes={offset}-"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| Failure::because(error.to_string()))?;
    let dialer = Dialer::new(server, &cx.trust).map_err(|error| Failure::because(error.to_string()))?;
    let again = |error: &dyn std::error::Error| Problem::Again(error.to_string());
    let stream = dialer.connect().await.map_err(|error| again(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| again(&error))?;
    tokio::spawn(async move { drop(connection.await) });
    sender.send_request(request).await.map_err(|error| again(&error))
}
