//! A scripted server: says what the test says, expects what the test expects.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use muster_core::target::{RunEvent, StepResult};
use muster_link::{EnrollRequest, Facts, Instruction, Nonce, PublicKey, RunId, ToDevice, ToServer};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const HEARTBEAT_MS: u64 = 1_000;

/// A connection, encrypted or not.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

pub(crate) struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    epoch: i64,
    /// Of the device that enrolled.
    pub(crate) key: Option<PublicKey>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a port"), tls: None, epoch: 0, key: None }
    }

    /// A server that speaks TLS, and its certificate as PEM.
    pub(crate) async fn start_tls() -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions").with_no_client_auth();
        let config = config.with_single_cert(vec![made.cert.der().clone()], key).expect("a configuration");
        (Self { tls: Some(Arc::new(config).into()), ..Self::start().await }, made.cert.pem())
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.listener.local_addr().expect("an address"))
    }

    pub(crate) async fn accept_stream(&self) -> Box<dyn Duplex> {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("the agent dials").expect("a stream");
        match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.accept(stream).await.expect("an encrypted stream")),
        }
    }

    /// Takes one connection, which must fail before anything is said.
    pub(crate) async fn refused_by_the_agent(&self) {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("the agent dials").expect("a stream");
        assert!(self.tls.as_ref().expect("TLS").accept(stream).await.is_err());
    }

    /// Answers one enrolment.
    pub(crate) async fn answer_enrolment(&mut self, status: &str, body: &Value) -> EnrollRequest {
        let mut stream = self.accept_stream().await;
        let (head, request) = read_request(&mut *stream).await;
        assert!(head.starts_with("POST /link/v1/enroll HTTP/1.1"), "{head}");
        let body = body.to_string();
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all((answer + &body).as_bytes()).await.expect("the answer leaves");
        let request: EnrollRequest = serde_json::from_slice(&request).expect("an enrolment");
        self.key = Some(request.public_key.clone());
        request
    }

    pub(crate) async fn open(&self) -> Link {
        let websocket = tokio_tungstenite::accept_async(self.accept_stream().await).await.expect("a WebSocket");
        Link { websocket, facts: Facts::default(), held: VecDeque::new() }
    }

    /// Takes one connection through the handshake.
    pub(crate) async fn welcome(&mut self) -> Link {
        let mut link = self.open().await;
        let nonce = Nonce::random(&mut StdRng::seed_from_u64(self.epoch.unsigned_abs()));
        link.send(&ToDevice::Challenge { nonce: nonce.clone(), protocol: 1 }).await;
        let ToServer::Hello { device_uuid, signature, facts, .. } = link.next().await else { panic!("no hello") };
        assert!(self.key.as_ref().expect("an enrolled device").verifies(&nonce, &device_uuid, &signature));
        link.facts = facts;
        self.epoch += 1;
        link.send(&ToDevice::Welcome { epoch: self.epoch, heartbeat_ms: HEARTBEAT_MS }).await;
        link
    }
}

async fn read_request(stream: &mut dyn Duplex) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).await.expect("a request");
        assert!(n > 0, "the request ends early");
        bytes.extend_from_slice(&chunk[..n]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let length: usize = length.expect("a length");
        if bytes.len() >= end + 4 + length {
            return (head, bytes[end + 4..].to_vec());
        }
    }
}

pub(crate) struct Link {
    websocket: WebSocketStream<Box<dyn Duplex>>,
    /// What the device said of itself.
    pub(crate) facts: Facts,
    /// Reports that came while something else was waited for.
    held: VecDeque<(RunId, i64, RunEvent)>,
}

async fn next(websocket: &mut WebSocketStream<Box<dyn Duplex>>) -> ToServer {
    loop {
        let message = timeout(PATIENCE, websocket.next()).await.expect("the agent speaks");
        if let Message::Text(text) = message.expect("the link is up").expect("a frame") {
            return serde_json::from_str(&text).expect("a message of the protocol");
        }
    }
}

impl Link {
    pub(crate) async fn send(&mut self, message: &ToDevice) {
        self.send_text(serde_json::to_string(message).expect("a message")).await;
    }

    pub(crate) async fn send_text(&mut self, text: String) {
        self.websocket.send(Message::Text(text.into())).await.expect("the message leaves");
    }

    pub(crate) async fn next(&mut self) -> ToServer {
        next(&mut self.websocket).await
    }

    /// The next report, whatever else is said before it.
    pub(crate) async fn report(&mut self) -> (RunId, i64, RunEvent) {
        if let Some(held) = self.held.pop_front() {
            return held;
        }
        loop {
            if let ToServer::Report { run, seq, event } = self.next().await {
                return (run, seq, event);
            }
        }
    }

    pub(crate) async fn ack(&mut self, run: &RunId, seq: i64) {
        self.send(&ToDevice::Ack { run: run.clone(), seq }).await;
    }

    pub(crate) async fn instruct(&mut self, instruction: &Instruction) {
        self.send(&ToDevice::Run(instruction.clone())).await;
    }

    /// Acknowledges each report until the run is over. Their numbers must follow `after`.
    pub(crate) async fn until_over(&mut self, after: i64) -> Told {
        let mut told = Told::default();
        loop {
            let (run, seq, event) = self.report().await;
            assert_eq!(seq, after + told.0.len() as i64 + 1, "{event:?}");
            self.ack(&run, seq).await;
            told.0.push(event);
            if matches!(told.0.last(), Some(RunEvent::Finished { .. })) {
                return told;
            }
        }
    }

    /// Waits for `other`, and meanwhile reads on, so that the agent does not think the
    /// server silent.
    pub(crate) async fn meanwhile(&mut self, other: impl Future<Output = ()>) {
        let reads = async {
            loop {
                if let ToServer::Report { run, seq, event } = next(&mut self.websocket).await {
                    self.held.push_back((run, seq, event));
                }
            }
        };
        tokio::select! {
            () = other => {}
            () = reads => {}
        }
    }

    /// Waits until the agent has taken what was sent: a link that is dropped before takes the
    /// last of it along.
    pub(crate) async fn taken(&mut self) {
        let payload = "taken";
        self.websocket.send(Message::Ping(payload.into())).await.expect("the ping leaves");
        loop {
            let message = timeout(PATIENCE, self.websocket.next()).await.expect("the agent answers");
            let message = message.expect("the link is up").expect("a frame");
            if matches!(message, Message::Pong(back) if back.as_ref() == payload.as_bytes()) {
                return;
            }
        }
    }

    /// Waits until the agent has ended the connection.
    pub(crate) async fn gone(mut self) {
        while let Some(Ok(_)) = timeout(PATIENCE, self.websocket.next()).await.expect("the agent goes") {}
    }
}

/// What a server was told of a run.
#[derive(Debug, Default)]
pub(crate) struct Told(pub(crate) Vec<RunEvent>);

impl Told {
    pub(crate) fn steps(&self) -> Vec<&StepResult> {
        let steps = self.0.iter().filter_map(|event| match event {
            RunEvent::StepFinished(step) => Some(step),
            _ => None,
        });
        steps.collect()
    }

    /// Names of the steps, and their exit codes.
    pub(crate) fn summary(&self) -> Vec<(String, Option<i32>)> {
        self.steps().into_iter().map(|step| (step.name.to_string(), step.exit_code)).collect()
    }

    /// The reason's sentence.
    pub(crate) fn reason(&self) -> &str {
        match self.0.last() {
            Some(RunEvent::Finished { reason, .. }) => &reason.text,
            other => panic!("the run is not over: {other:?}"),
        }
    }

    /// The outcome and the reason's code.
    pub(crate) fn end(&self) -> (muster_core::target::RunOutcome, &str) {
        match self.0.last() {
            Some(RunEvent::Finished { outcome, reason }) => (*outcome, &reason.code),
            other => panic!("the run is not over: {other:?}"),
        }
    }
}

/// An instruction; `steps` and the rest of the flow in the shape of the link.
pub(crate) fn instruction(run: &str, steps: &Value, rest: &Value) -> Instruction {
    let mut flow = json!({"name": "flow", "steps": steps});
    for (key, value) in rest.as_object().cloned().unwrap_or_default() {
        flow[key] = value;
    }
    serde_json::from_value(json!({"run": run, "flow": flow})).expect("an instruction")
}

/// A step that runs `script`.
pub(crate) fn step(name: &str, script: &str) -> Value {
    json!({"name": name, "run": script, "timeout_ms": 60_000})
}
