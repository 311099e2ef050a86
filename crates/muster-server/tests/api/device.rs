//! A simulated device: it enrols, holds its link, and reports what its script says.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use muster_core::ids::DeviceUuid;
use muster_core::names::{DeviceName, StepName};
use muster_core::target::{Reason, RunEvent, RunOutcome, StepResult};
use muster_core::token::Secret;
use muster_link::{
    ENROLL_PATH, EnrollRequest, EnrollResponse, Facts, Identity, Instruction, Metrics, Nonce, PROTOCOL_VERSION, RunId,
    ToDevice, ToServer,
};
use muster_store::devices::Device;
use muster_store::testing::START;
use reqwest::Method;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::app::{PATIENCE, TestApp};
use crate::caller::{Answer, answer};
use crate::house::Keys;

/// A device that has enrolled.
pub(crate) struct SimulatedDevice<'a> {
    app: &'a TestApp,
    pub(crate) identity: Identity,
    pub(crate) uuid: DeviceUuid,
    /// Names it in API v1.
    pub(crate) token: Secret,
}

/// What every simulated device says of itself.
pub(crate) fn facts() -> Facts {
    Facts {
        agent_version: "0.1.0".to_owned(),
        hostname: "edge".to_owned(),
        os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        arch: "aarch64".to_owned(),
        ip_addresses: vec!["192.0.2.7".to_owned()],
        mac_addresses: vec!["02:00:00:00:00:07".to_owned()],
        time_zone: String::new(),
        degraded: Vec::new(),
    }
}

impl<'a> SimulatedDevice<'a> {
    /// Enrols into the group Production of the fleet `demo`.
    pub(crate) async fn enroll(app: &'a TestApp, name: &str) -> Self {
        Self::enroll_with(app, &app.house().pairing, name).await
    }

    /// Enrols with that pairing token.
    pub(crate) async fn enroll_with(app: &'a TestApp, pairing: &Secret, name: &str) -> Self {
        let identity = app.identity();
        let mut request = EnrollRequest::new(&identity, pairing.clone(), facts());
        request.name = Some(DeviceName::parse(name).unwrap());
        let response = enrolled(&post_enrolment(app, &request).await);
        Self { app, identity, uuid: response.device_uuid, token: response.device_token }
    }

    /// The device as the store has it.
    pub(crate) async fn row(&self) -> Device {
        let store = self.app.store().read();
        for fleet in [&self.app.house().fleet, &self.app.house().second, &self.app.house().foreign] {
            if let Some(device) = store.find_device(fleet.id, &self.uuid).await.unwrap() {
                return device;
            }
        }
        panic!("{} is in no fleet", self.uuid)
    }

    /// What an administrator's `GET` says of it.
    pub(crate) async fn seen(&self) -> Value {
        self.app.admin().get(&format!("devices/{}?enrich_info=true", self.uuid)).await.ok(200)
    }

    /// Opens its link, as a device does that starts.
    pub(crate) async fn connect(&self) -> Link {
        self.connect_with(&[]).await
    }

    /// The same, as one that can do more than the first version.
    pub(crate) async fn connect_with(&self, capabilities: &[&str]) -> Link {
        let mut link = Link::dial(self.app).await;
        link.say_hello_with(&self.identity, &self.uuid, capabilities).await;
        match link.next().await {
            Some(ToDevice::Welcome { epoch, heartbeat_ms }) => {
                link.epoch = epoch;
                link.heartbeat_ms = heartbeat_ms;
            }
            other => panic!("no welcome but {other:?}"),
        }
        link
    }

    /// The device as a caller that puts its own token wherever a token is asked for,
    /// and enrols with its fleet's pairing token.
    pub(crate) fn keys(&self) -> Keys {
        Keys { pairing: self.app.house().pairing.clone(), ..Keys::all(&self.token) }
    }
}

/// Sends an enrolment.
pub(crate) async fn post_enrolment(app: &TestApp, request: &EnrollRequest) -> Answer {
    answer(app.anon().bare(Method::POST, ENROLL_PATH).json(request)).await
}

/// What a successful enrolment was answered.
#[track_caller]
pub(crate) fn enrolled(answer: &Answer) -> EnrollResponse {
    serde_json::from_value(answer.ok(200)).unwrap()
}

/// The device's end of a control link.
pub(crate) struct Link {
    socket: WebSocketStream<TcpStream>,
    /// With which the server has asked for carriers of streams, oldest first.
    pub(crate) carrier_secrets: VecDeque<Secret>,
    pub(crate) nonce: Option<Nonce>,
    pub(crate) epoch: i64,
    pub(crate) heartbeat_ms: u64,
}

impl Link {
    /// A link on which the server has spoken first, and the device not at all.
    pub(crate) async fn dial(app: &TestApp) -> Self {
        let stream = TcpStream::connect(app.address()).await.unwrap();
        let url = format!("ws://{}{}", app.address(), muster_link::CONTROL_PATH);
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        let mut link = Self { socket, carrier_secrets: VecDeque::new(), nonce: None, epoch: 0, heartbeat_ms: 0 };
        match link.next().await {
            Some(ToDevice::Challenge { nonce, protocol: PROTOCOL_VERSION }) => link.nonce = Some(nonce),
            other => panic!("no challenge but {other:?}"),
        }
        link
    }

    /// Answers the challenge with that key, as that device.
    pub(crate) async fn say_hello(&mut self, identity: &Identity, uuid: &DeviceUuid) {
        self.say_hello_with(identity, uuid, &[]).await;
    }

    /// The same, and announces what it can do.
    pub(crate) async fn say_hello_with(&mut self, identity: &Identity, uuid: &DeviceUuid, capabilities: &[&str]) {
        let signature = identity.sign(self.nonce.as_ref().unwrap(), uuid);
        let (device_uuid, facts) = (uuid.clone(), facts());
        let capabilities = capabilities.iter().map(|word| (*word).to_owned()).collect();
        let protocol = PROTOCOL_VERSION;
        self.send(&ToServer::Hello { device_uuid, signature, protocol, facts, capabilities }).await;
    }

    pub(crate) async fn send(&mut self, message: &ToServer) {
        self.send_text(serde_json::to_string(message).unwrap()).await;
    }

    pub(crate) async fn send_text(&mut self, text: String) {
        self.socket.send(Message::Text(text.into())).await.unwrap();
    }

    /// The next message; `None` when the server has ended the link. That carriers are
    /// wanted is kept and not told: it may come between any two others.
    pub(crate) async fn next(&mut self) -> Option<ToDevice> {
        loop {
            match self.heard().await {
                Some(ToDevice::DialStreams { secrets }) => self.carrier_secrets.extend(secrets),
                other => return other,
            }
        }
    }

    async fn heard(&mut self) -> Option<ToDevice> {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("the server speaks") {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// A secret for a carrier that the server wants; whatever else it says before is lost.
    pub(crate) async fn carrier_secret(&mut self) -> Secret {
        loop {
            if let Some(secret) = self.carrier_secrets.pop_front() {
                return secret;
            }
            if let ToDevice::DialStreams { secrets } = self.heard().await.expect("the link is up") {
                self.carrier_secrets.extend(secrets);
            }
        }
    }

    /// Waits until the server ends the link, which must say nothing before.
    pub(crate) async fn ended(mut self) {
        assert_eq!(self.next().await, None);
    }

    /// Ends the link from the device's side.
    pub(crate) async fn hang_up(mut self) {
        self.socket.close(None).await.unwrap();
    }

    /// The instruction that must come next.
    pub(crate) async fn instruction(&mut self) -> Instruction {
        match self.next().await {
            Some(ToDevice::Run(instruction)) => instruction,
            other => panic!("no instruction but {other:?}"),
        }
    }

    /// The run whose abort must come next.
    pub(crate) async fn abort(&mut self) -> RunId {
        match self.next().await {
            Some(ToDevice::Abort { run }) => run,
            other => panic!("no abort but {other:?}"),
        }
    }

    /// Reports without waiting for an answer.
    pub(crate) async fn report(&mut self, run: &RunId, seq: i64, event: RunEvent) {
        self.send(&ToServer::Report { run: run.clone(), seq, event }).await;
    }

    /// Reports, and waits until that is acknowledged.
    pub(crate) async fn told(&mut self, run: &RunId, seq: i64, event: RunEvent) {
        self.report(run, seq, event).await;
        assert_eq!(self.next().await, Some(ToDevice::Ack { run: run.clone(), seq }));
    }

    /// Runs the whole of the next instruction well, with one step.
    pub(crate) async fn succeed(&mut self) -> Instruction {
        let instruction = self.instruction().await;
        let script = [RunEvent::Accepted, step(0, 0), finished(RunOutcome::Succeeded, "")];
        for (seq, event) in (1..).zip(script) {
            self.told(&instruction.run, seq, event).await;
        }
        instruction
    }

    /// Says how it is, and waits until the server has read that.
    pub(crate) async fn keep_alive(&mut self, metrics: Metrics) {
        self.send(&ToServer::Keepalive { metrics, facts: None }).await;
        self.fence().await;
    }

    /// Waits until the server has read everything so far: a report of no known run is answered at once.
    pub(crate) async fn fence(&mut self) {
        let run: RunId = "dp-0000-0000.1".parse().unwrap();
        self.told(&run, 1, finished(RunOutcome::Failed, "fence")).await;
    }
}

/// A step that ended with that code.
pub(crate) fn step(index: u32, exit_code: i32) -> RunEvent {
    RunEvent::StepFinished(StepResult {
        index,
        name: StepName::parse(format!("step {index}")).unwrap(),
        exit_code: Some(exit_code),
        stdout: format!("out {index}"),
        stderr: format!("err {index}"),
        started_at: START,
        finished_at: START,
    })
}

/// The end of a run; `code` is empty for a success.
pub(crate) fn finished(outcome: RunOutcome, code: &str) -> RunEvent {
    let text = if code.is_empty() { String::new() } else { format!("Because of {code}.") };
    RunEvent::Finished { outcome, reason: Reason::new(code, text) }
}
