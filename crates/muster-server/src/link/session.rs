//! One device's link, as a machine: what it says and the passing of time go in,
//! what must be done comes out. The owner of the socket decides nothing.

use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_core::command::CommandEvent;
use muster_core::flow::actions::USES;
use muster_core::ids::{DeviceUuid, RowId};
use muster_core::limits::HEARTBEATS_MISSED_MAX;
use muster_link::{Facts, Metrics, Nonce, PublicKey, RefusedCode, RunId, ToDevice, ToServer, TunnelState, capability};
use muster_store::command_targets::CommandReport;
use muster_store::device_deletion::DeletedDevice;
use muster_store::devices::DeviceKey;
use muster_store::presence::Keepalive;
use muster_store::targets::{Report, ReportOutcome};

/// What this server can make use of.
const KNOWN_CAPABILITIES: [&str; 7] = [
    capability::PORT_TUNNEL,
    capability::TUNNEL_TO_NETWORK,
    capability::REMOTE_COMMANDS,
    capability::TERMINAL,
    capability::FILES,
    capability::UPLOAD_FILES,
    capability::DOCKER_ENGINE,
];

/// What a device must say first: who it is, and its proof.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    /// Who it says it is.
    pub device_uuid: DeviceUuid,
    /// Its answer to the nonce.
    pub signature: String,
    /// What it knows of itself.
    pub facts: Facts,
    /// What it can do beyond the first version.
    pub capabilities: Vec<String>,
}

fn is_known(capability: &str) -> bool {
    let action = capability.strip_prefix(capability::ACTION_PREFIX);
    KNOWN_CAPABILITIES.contains(&capability) || action.is_some_and(|action| USES.contains(&action))
}

impl Hello {
    /// The hello that the first message is, if it is one.
    pub fn from_message(message: ToServer) -> Option<Self> {
        match message {
            ToServer::Hello { device_uuid, signature, facts, mut capabilities, .. } => {
                // Others are of no use to this server.
                capabilities.retain(|word| is_known(word));
                capabilities.sort();
                capabilities.dedup();
                Some(Self { device_uuid, signature, facts: facts.bounded(), capabilities })
            }
            _ => None,
        }
    }

    /// The device, if it is the one that enrolled.
    pub fn check(&self, nonce: &Nonce, device: Option<DeviceKey>) -> Option<DeviceKey> {
        device.filter(|device| self.is_signed_by(nonce, &device.public_key))
    }

    /// Whether it comes from that device, which was deleted: nobody else learns of it.
    pub fn is_from_deleted(&self, nonce: &Nonce, device: &DeletedDevice) -> bool {
        self.is_signed_by(nonce, &device.public_key)
    }

    fn is_signed_by(&self, nonce: &Nonce, public_key: &str) -> bool {
        let key = PublicKey::try_from(public_key.to_owned());
        key.is_ok_and(|key| key.verifies(nonce, &self.device_uuid, &self.signature))
    }
}

/// What a device is told that is not let in. An unknown device and a wrong key are
/// refused alike, so that nobody learns which devices exist.
pub fn not_recognised() -> ToDevice {
    let message = "no such device, or its key does not match".to_owned();
    ToDevice::Refused { code: RefusedCode::NotRecognised, message }
}

/// What a device is told that was deleted.
pub fn deleted() -> ToDevice {
    let message = "the device was deleted from its fleet".to_owned();
    ToDevice::Refused { code: RefusedCode::Deleted, message }
}

/// An open link.
#[derive(Clone, Debug)]
pub struct Session {
    device_id: RowId,
    device_ip: String,
    heartbeat: Duration,
    heard_at: Timestamp,
}

/// What the owner of the socket must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Keep the device's sign of life.
    Keep(Keepalive),
    /// Store what the device says of itself.
    StoreFacts(Facts),
    /// Store a report, then hand the outcome to [`answer`].
    Store(Report),
    /// Store what the device says of a command, then hand the outcome to [`answer_command`].
    StoreCommand(CommandReport),
    /// A tunnel stands differently, says its device.
    Tunnel {
        /// The tunnel.
        uuid: String,
        /// How it stands.
        state: TunnelState,
        /// Why, in the device's words.
        reason: String,
    },
    /// The device will not begin a run now.
    PutOff {
        /// The run.
        run: RunId,
        /// Why, in the device's words.
        reason: String,
    },
    /// The device cannot send files that it was asked for.
    UploadFailed {
        /// The request.
        request: String,
        /// Why, in the device's words.
        reason: String,
    },
    /// End the link: the device has been silent for too long.
    Close,
}

impl Session {
    /// The link of a device that has proven itself, from that address.
    pub fn open(device: &DeviceKey, device_ip: String, now: Timestamp) -> Self {
        let heartbeat = Duration::from_millis(device.heartbeat_ms);
        Self { device_id: device.id, device_ip, heartbeat, heard_at: now }
    }

    /// The sign of life that the opening of the link is.
    pub fn first_keepalive(&self) -> Keepalive {
        self.keepalive(self.heard_at, Metrics::default())
    }

    /// The device said something.
    pub fn heard(&mut self, message: ToServer, now: Timestamp) -> Vec<Effect> {
        self.heard_at = now;
        match message {
            ToServer::Keepalive { metrics, facts } => {
                let keep = Effect::Keep(self.keepalive(now, metrics.plausible()));
                let facts = facts.map(|facts| Effect::StoreFacts(facts.bounded()));
                [keep].into_iter().chain(facts).collect()
            }
            ToServer::Report { run, seq, event } => vec![Effect::Store(Report {
                device_id: self.device_id,
                deployment: run.deployment,
                attempt: run.attempt,
                seq,
                event,
            })],
            ToServer::Tunnel { tunnel, state, reason } => vec![Effect::Tunnel { uuid: tunnel, state, reason }],
            ToServer::UploadFailed { request, reason } => vec![Effect::UploadFailed { request, reason }],
            ToServer::NotNow { run, reason } => vec![Effect::PutOff { run, reason }],
            ToServer::Command { command, event } => {
                vec![Effect::StoreCommand(CommandReport { device_id: self.device_id, run: command, event })]
            }
            ToServer::Hello { .. } | ToServer::Unknown => Vec::new(),
        }
    }

    /// The device showed in another way that it lives.
    pub fn heard_sign_of_life(&mut self, now: Timestamp) {
        self.heard_at = now;
    }

    /// Time has passed.
    pub fn waited(&self, now: Timestamp) -> Option<Effect> {
        let silence_max = self.heartbeat.saturating_mul(HEARTBEATS_MISSED_MAX);
        (now.since(self.heard_at) > silence_max).then_some(Effect::Close)
    }

    /// How often [`Session::waited`] wants to be asked.
    pub fn period(&self) -> Duration {
        self.heartbeat.max(Duration::from_secs(1))
    }

    fn keepalive(&self, at: Timestamp, metrics: Metrics) -> Keepalive {
        Keepalive {
            device_id: self.device_id,
            at,
            heartbeat: self.heartbeat,
            device_ip: self.device_ip.clone(),
            cpu_percent: metrics.cpu_percent,
            ram_percent: metrics.ram_percent,
            disk_used_bytes: metrics.disk_used_bytes,
            disk_size_bytes: metrics.disk_size_bytes,
        }
    }
}

/// What a device is told about a report that has been dealt with.
pub fn answer(report: &Report, outcome: ReportOutcome) -> Vec<ToDevice> {
    let run = RunId { deployment: report.deployment.clone(), attempt: report.attempt };
    let ack = ToDevice::Ack { run: run.clone(), seq: report.seq };
    match outcome {
        ReportOutcome::Stored { .. } => vec![ack],
        // Not acknowledged: the device repeats from the first report that was not.
        ReportOutcome::OutOfOrder => Vec::new(),
        ReportOutcome::MustStop if is_last(report) => vec![ack],
        ReportOutcome::MustStop => vec![ack, ToDevice::Abort { run }],
    }
}

/// What a device is told about what it has said of a command, once that is dealt with.
pub fn answer_command(report: &CommandReport, outcome: ReportOutcome) -> Option<ToDevice> {
    let command = report.run.clone();
    match (&report.event, outcome) {
        (_, ReportOutcome::OutOfOrder) => None,
        (CommandEvent::Ended(_), _) => Some(ToDevice::CommandStored { command }),
        (CommandEvent::Started, ReportOutcome::MustStop) => Some(ToDevice::AbortCommand { command }),
        (CommandEvent::Started | CommandEvent::Output { .. } | CommandEvent::Unknown, _) => None,
    }
}

fn is_last(report: &Report) -> bool {
    matches!(report.event, muster_core::target::RunEvent::Finished { .. })
}

#[cfg(test)]
mod tests {
    use muster_core::target::{Reason, RunEvent, RunOutcome};
    use muster_link::Identity;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn device(identity: &Identity) -> DeviceKey {
        let public_key = identity.public_key().as_str().to_owned();
        DeviceKey { id: 7, fleet_id: 1, public_key, heartbeat_ms: 25_000 }
    }

    fn session() -> Session {
        let identity = Identity::random(&mut StdRng::seed_from_u64(1));
        Session::open(&device(&identity), "10.0.0.1".to_owned(), NOW)
    }

    fn report(event: RunEvent) -> Report {
        Report { device_id: 7, deployment: "dp-1a2b-3c4d".parse().unwrap(), attempt: 1, seq: 2, event }
    }

    #[test]
    fn lets_in_the_key_that_enrolled_and_no_other() {
        let mut rng = StdRng::seed_from_u64(1);
        let (identity, thief) = (Identity::random(&mut rng), Identity::random(&mut rng));
        let nonce = Nonce::random(&mut rng);
        let uuid: DeviceUuid = "d-1a2b-3c4d".parse().unwrap();
        let hello = |identity: &Identity| Hello {
            device_uuid: uuid.clone(),
            signature: identity.sign(&nonce, &uuid),
            facts: Facts::default(),
            capabilities: Vec::new(),
        };
        assert!(hello(&identity).check(&nonce, Some(device(&identity))).is_some());
        assert!(hello(&thief).check(&nonce, Some(device(&identity))).is_none());
        assert!(hello(&identity).check(&nonce, None).is_none());
    }

    #[test]
    fn keeps_what_is_plausible() {
        let metrics = Metrics { cpu_percent: Some(12.5), ram_percent: Some(1e9), ..Metrics::default() };
        let effects = session().heard(ToServer::Keepalive { metrics, facts: None }, NOW);
        let [Effect::Keep(keepalive)] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!((keepalive.cpu_percent, keepalive.ram_percent), (Some(12.5), None));
    }

    #[test]
    fn ends_after_three_heartbeats_of_silence() {
        let mut session = session();
        assert_eq!(session.waited(NOW.after(Duration::from_secs(75))), None);
        assert_eq!(session.waited(NOW.after(Duration::from_secs(76))), Some(Effect::Close));
        session.heard_sign_of_life(NOW.after(Duration::from_secs(60)));
        assert_eq!(session.waited(NOW.after(Duration::from_secs(76))), None);
    }

    #[test]
    fn acknowledges_what_is_stored_and_stops_what_is_over() {
        let started = report(RunEvent::Accepted);
        assert_eq!(answer(&started, ReportOutcome::OutOfOrder), []);
        assert_eq!(answer(&started, ReportOutcome::Stored { is_final: false }).len(), 1);
        let stopped = answer(&started, ReportOutcome::MustStop);
        assert!(matches!(stopped[..], [ToDevice::Ack { seq: 2, .. }, ToDevice::Abort { .. }]), "{stopped:?}");
        let over = report(RunEvent::Finished { outcome: RunOutcome::Failed, reason: Reason::default() });
        assert!(matches!(answer(&over, ReportOutcome::MustStop)[..], [ToDevice::Ack { .. }]));
    }
}
