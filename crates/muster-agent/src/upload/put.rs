//! One attempt to send: a `PUT` whose body is read while it is sent.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{sleep, timeout};
use url::{Position, Url};

use super::pack::{Found, PackError, copy_file, find, pack};
use super::{Order, Problem};
use crate::net::Dialer;
use crate::server_url::ServerUrl;
use crate::trust::Trust;

/// Bytes that are handed on at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for the network.
const PIECES_MAX: usize = 4;
/// How long the server may take nothing, or not answer, before the link counts as cut.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A piece of the body, or why there is none.
type Piece = Result<Bytes, Problem>;

/// Sends what was asked for, once.
pub(super) async fn put(order: &Order, state: &Path, trust: &Trust) -> Result<(), Problem> {
    let url = Url::parse(&order.url).map_err(|error| Problem::Final(format!("the server's URL: {error}")))?;
    let (path, state) = (PathBuf::from(&order.path), state.to_owned());
    let found = tokio::task::spawn_blocking(move || find(&path, &state)).await;
    let found = found.map_err(|error| Problem::Again(error.to_string()))?.map_err(Problem::Final)?;
    let (pieces, body) = channel(PIECES_MAX);
    let length = match &found {
        Found::File(_, size) => Some(*size),
        Found::Folder(_) => None,
    };
    tokio::task::spawn_blocking(move || read(found, pieces));
    let (sent, problem) = (Arc::new(AtomicU64::new(0)), Arc::new(std::sync::Mutex::new(None)));
    let body = outgoing(body, Arc::clone(&sent), Arc::clone(&problem));
    let answered = tokio::select! {
        answered = exchange(&url, order, length, body, trust) => answered,
        () = silence(&sent) => Err(Problem::Again("the server takes nothing".to_owned())),
    };
    // Why the body ended early says more than that it did.
    let cause = problem.lock().ok().and_then(|mut problem| problem.take());
    let (status, text) = match (answered, cause) {
        (Ok((status, _)), _) if status.is_success() => return Ok(()),
        (_, Some(cause)) => return Err(cause),
        (answered, None) => answered?,
    };
    let reason = format!("the server answered {status}{text}");
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(Problem::Again(reason)),
        // No room is for a person to mend.
        StatusCode::INSUFFICIENT_STORAGE => Err(Problem::Final(reason)),
        _ if status.is_server_error() => Err(Problem::Again(reason)),
        _ => Err(Problem::Final(reason)),
    }
}

/// Reads what was found, into the channel.
fn read(found: Found, pieces: Sender<Piece>) {
    let mut writer = Pieces { pieces, buffer: Vec::with_capacity(PIECE_BYTES) };
    let problem = match found {
        Found::File(file, size) => match copy_file(file, size, &mut writer) {
            Ok(()) => return,
            Err(error) => Problem::Again(error.to_string()),
        },
        Found::Folder(folder) => match pack(&folder, &|_| true, &mut writer) {
            Ok(()) => return,
            Err(PackError::Gone) => Problem::Again("the link was cut".to_owned()),
            Err(PackError::Refused(reason)) => Problem::Final(reason),
        },
    };
    // Nobody listens any more when the attempt has ended.
    let _ = writer.pieces.blocking_send(Err(problem));
}

/// Hands on what is written, in pieces; from a thread that may wait.
struct Pieces {
    pieces: Sender<Piece>,
    buffer: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PIECE_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..n]);
        if self.buffer.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES));
        self.pieces.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

type Cause = Arc<std::sync::Mutex<Option<Problem>>>;
type Body = StreamBody<stream::BoxStream<'static, io::Result<Frame<Bytes>>>>;

/// The body of the request. What ends it early is put into `cause`, and cuts the connection:
/// so the server keeps nothing of it.
fn outgoing(pieces: Receiver<Piece>, sent: Arc<AtomicU64>, cause: Cause) -> Body {
    let frames = stream::unfold(Some((pieces, sent, cause)), |rest| async move {
        let (mut pieces, sent, cause) = rest?;
        match pieces.recv().await? {
            Ok(piece) => {
                sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                Some((Ok(Frame::data(piece)), Some((pieces, sent, cause))))
            }
            Err(problem) => {
                if let Ok(mut cause) = cause.lock() {
                    *cause = Some(problem);
                }
                Some((Err(io::ErrorKind::UnexpectedEof.into()), None))
            }
        }
    });
    StreamBody::new(Box::pin(frames))
}

/// Ends when nothing was taken for too long.
async fn silence(sent: &AtomicU64) {
    loop {
        let before = sent.load(Ordering::Relaxed);
        sleep(SILENCE_MAX).await;
        if sent.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

async fn exchange(
    url: &Url,
    order: &Order,
    length: Option<u64>,
    body: Body,
    trust: &Trust,
) -> Result<(StatusCode, String), Problem> {
    let refused = |problem: String| Problem::Final(problem);
    let again = |error: &dyn std::error::Error| Problem::Again(error.to_string());
    let server = ServerUrl::parse(&url[..Position::BeforePath]).map_err(refused)?;
    let mut request = Request::put(&url[Position::BeforePath..Position::AfterQuery])
        .header("host", server.authority())
        .header("user-agent", concat!("muster-agent/", env!("CARGO_PKG_VERSION")))
        .header("content-type", if length.is_some() { "application/octet-stream" } else { "application/x-tar" });
    if let Some(length) = length {
        request = request.header("content-length", length);
    }
    for (name, value) in &order.headers {
        request = request.header(name, value.expose());
    }
    let request = request.body(body).map_err(|error| Problem::Final(error.to_string()))?;
    let dialer = Dialer::new(server, trust).map_err(|error| again(&error))?;
    let stream = timeout(CONNECT_TIMEOUT, dialer.connect()).await;
    let stream = stream.map_err(|error| again(&error))?.map_err(|error| again(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| again(&error))?;
    tokio::spawn(async move { drop(connection.await) });
    let response = sender.send_request(request).await.map_err(|error| again(&error))?;
    Ok(told(response).await)
}

/// The status, and what the answer says of it.
async fn told(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body: Value = body.ok().and_then(|body| serde_json::from_slice(&body.to_bytes()).ok()).unwrap_or_default();
    let text = body["errors"][0]["message"].as_str().map(|text| format!(": {text}")).unwrap_or_default();
    (status, text)
}
