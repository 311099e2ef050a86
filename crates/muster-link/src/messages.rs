//! The messages of the control link.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use muster_core::command::CommandEvent;
use muster_core::flow::Flow;
use muster_core::flow::inputs::InputValues;
use muster_core::ids::{CommandRunUuid, DeploymentUuid, DeviceUuid};
use muster_core::invalid::{Invalid, quoted};
use muster_core::limits::{
    ADDRESSES_MAX, DEGRADED_REASON_CHARS_MAX, DEGRADED_REASONS_MAX, NAME_CHARS_MAX, VERSION_CHARS_MAX,
};
use muster_core::target::RunEvent;
use muster_core::token::Secret;
use serde::{Deserialize, Serialize};

use crate::handshake::Nonce;

/// From the server to a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToDevice {
    /// The first message: what the device must sign. Since version 1.
    Challenge {
        /// To be signed.
        nonce: Nonce,
        /// The server's version of the protocol.
        protocol: u32,
    },
    /// The device is known and its signature right. Since version 1.
    Welcome {
        /// Number of this connection of the device; higher than any before.
        epoch: i64,
        /// Time between two keepalives, in milliseconds.
        heartbeat_ms: u64,
    },
    /// The device may not connect, or no longer; the connection ends. Since version 1.
    Refused {
        /// For the agent.
        code: RefusedCode,
        /// For a person.
        message: String,
    },
    /// Time between two keepalives, in milliseconds, from now on. Since version 1.
    Heartbeat {
        /// Milliseconds.
        heartbeat_ms: u64,
    },
    /// Run a flow. May be repeated; the device knows the run by its id. Since version 1.
    Run(Instruction),
    /// Stop a run, and restore what its flow says. May be repeated, and may be the
    /// first that a device hears of the run; it answers with a report that the
    /// run is over. Since version 1.
    Abort {
        /// The run.
        run: RunId,
    },
    /// Every report of the run up to `seq` is stored and need not be repeated. Since version 1.
    Ack {
        /// The run.
        run: RunId,
        /// Number of the last stored report.
        seq: i64,
    },
    /// Open a tunnel to one of the device's ports, and answer with
    /// [`ToServer::Tunnel`]. Only to devices that announced
    /// [`capability::PORT_TUNNEL`]. Since version 2; served since version 4.
    OpenTunnel {
        /// Names the tunnel for ever.
        tunnel: String,
        /// The port.
        port: u16,
        /// Another host of the device's network; empty for the device itself. Only to
        /// devices that announced [`capability::TUNNEL_TO_NETWORK`]. Since version 4.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        host: String,
    },
    /// Close a tunnel: its streams end by themselves. Since version 2.
    CloseTunnel {
        /// The tunnel.
        tunnel: String,
    },
    /// Dial a carrier of streams with each of these secrets, see
    /// [`stream`](crate::stream). Each is good once, for a short time, for this device
    /// and as long as this link lasts. Only to devices that announced
    /// [`capability::PORT_TUNNEL`]. Since version 4.
    DialStreams {
        /// One for each carrier.
        secrets: Vec<Secret>,
    },
    /// Store what lies at a path of the device, by `PUT`: a file as it is, a folder as a
    /// tar. Only to devices that announced [`capability::UPLOAD_FILES`]. Repeated over each
    /// new link until it is stored or the device has answered with
    /// [`ToServer::UploadFailed`]. Since version 2.
    UploadFiles {
        /// Names the request for ever. Since version 4.
        #[serde(default)]
        request: String,
        /// A file or a folder.
        path: String,
        /// Where to.
        url: String,
        /// Sent with the request: a credential that is good for this and ends soon.
        #[serde(default)]
        headers: BTreeMap<String, Secret>,
    },
    /// Run a remote command. May be repeated; the device knows it by its id. Only to devices
    /// that announced [`capability::REMOTE_COMMANDS`]. Since version 5.
    RunCommand(CommandOrder),
    /// End a remote command. May be repeated, and may be the first that a device hears of
    /// it; it answers with how the command ended. Since version 5.
    AbortCommand {
        /// The run.
        command: CommandRunUuid,
    },
    /// How the command ended is stored and need not be repeated. Since version 5.
    CommandStored {
        /// The run.
        command: CommandRunUuid,
    },
    /// A message of a later version.
    #[serde(other)]
    Unknown,
}

/// What an agent may be able to do beyond version 1.
pub mod capability {
    /// Opens tunnels to its ports.
    pub const PORT_TUNNEL: &str = "port_tunnel";
    /// Opens tunnels to ports of other hosts in its network too. Since version 4.
    pub const TUNNEL_TO_NETWORK: &str = "tunnel_to_network";
    /// Opens terminals. Since version 5.
    pub const TERMINAL: &str = "terminal";
    /// Serves [`files`](crate::files) of the device. Since version 5.
    pub const FILES: &str = "files";
    /// Uploads files of the device.
    pub const UPLOAD_FILES: &str = "upload_files";
    /// Runs remote commands. Since version 5.
    pub const REMOTE_COMMANDS: &str = "remote_commands";
    /// Before the name of an action of a flow: carries it out. Since version 4; see [`carries_out`].
    pub const ACTION_PREFIX: &str = "action:";
    /// A container engine answered when the link was opened. Since version 4.
    pub const DOCKER_ENGINE: &str = "docker_engine";

    /// What agents carry out that announce no action, since their version had no word for it.
    const ACTIONS_BEFORE_4: [&str; 5] =
        ["connect/debian-package", "connect/download-artifact", "connect/file", "connect/git", "connect/script"];

    /// Whether an agent that announced `capabilities` carries out the action of that name.
    pub fn carries_out(capabilities: &[String], action: &str) -> bool {
        let mut announced = capabilities.iter().filter_map(|word| word.strip_prefix(ACTION_PREFIX)).peekable();
        if announced.peek().is_none() {
            return ACTIONS_BEFORE_4.contains(&action);
        }
        announced.any(|known| known == action)
    }
}

/// How a tunnel stands, as its device says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelState {
    /// It is open.
    Opened,
    /// It was open and is closed.
    Closed,
    /// It could not be opened; also what a later version says.
    #[serde(other)]
    Failed,
}

/// Why a device may not connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedCode {
    /// No such device, or its key does not match. Trying again is of no use
    /// until a person has looked.
    NotRecognised,
    /// A person has deleted the device. Trying again is of use only once a person
    /// has let it come back. Since version 2.
    Deleted,
    /// The server cannot serve at the moment: try again later.
    Unavailable,
    /// A reason of a later version: try again later.
    #[serde(other)]
    Other,
}

/// From a device to the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToServer {
    /// The answer to the challenge. Since version 1.
    Hello {
        /// Who the device is.
        device_uuid: DeviceUuid,
        /// Its signature over the nonce and its uuid, in base64.
        signature: String,
        /// The device's version of the protocol.
        protocol: u32,
        /// What it knows of itself.
        facts: Facts,
        /// What it can do beyond version 1, as [`capability`] names it. Since
        /// version 2; older devices announce nothing.
        #[serde(default)]
        capabilities: Vec<String>,
    },
    /// The device lives. Since version 1.
    Keepalive {
        /// How it is.
        metrics: Metrics,
        /// What it knows of itself, when that has changed since the last time.
        #[serde(default)]
        facts: Option<Facts>,
    },
    /// Something happened in a run; repeated until acknowledged. Since version 1.
    Report {
        /// The run.
        run: RunId,
        /// Number of the report in its run, from 1, without gaps.
        seq: i64,
        /// What happened.
        event: RunEvent,
    },
    /// How a tunnel stands that the device was asked for. Since version 2.
    Tunnel {
        /// The tunnel.
        tunnel: String,
        /// How it stands.
        state: TunnelState,
        /// Why, for a person, unless it is open.
        #[serde(default)]
        reason: String,
    },
    /// The device was told to run something, and will not begin now: ask again later.
    /// It has not begun, and knows nothing of the run. Since version 3.
    NotNow {
        /// The run.
        run: RunId,
        /// Why, for a person.
        #[serde(default)]
        reason: String,
    },
    /// What the device was asked for cannot be stored, and trying again is of no use.
    /// Since version 4.
    UploadFailed {
        /// The request.
        request: String,
        /// Why, for a person.
        #[serde(default)]
        reason: String,
    },
    /// Something happened to a remote command. How it ended is repeated until it is stored.
    /// Since version 5.
    Command {
        /// The run.
        command: CommandRunUuid,
        /// What happened.
        event: CommandEvent,
    },
    /// A message of a later version.
    #[serde(other)]
    Unknown,
}

/// One run of a remote command, as a device is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOrder {
    /// Names the run for ever.
    pub command: CommandRunUuid,
    /// For `sh`.
    pub script: String,
    /// The user of the device who runs it; empty for the one that the device chooses.
    #[serde(default)]
    pub user: String,
    /// How long it may run, in milliseconds.
    pub timeout_ms: u64,
    /// How long the device may wait before it begins, in milliseconds.
    pub begin_within_ms: u64,
}

/// One deployment on one device, as the device is told of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instruction {
    /// Names the run for ever.
    pub run: RunId,
    /// What to do.
    pub flow: Flow,
    /// What the flow's inputs stand for.
    #[serde(default)]
    pub inputs: InputValues,
    /// Where the steps find what they need of a registry, by the step's place in the
    /// flow, from 0, in digits. Older servers send none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, Artifact>,
}

impl Instruction {
    /// What the step at that place of the flow needs of a registry.
    pub fn artifact(&self, step: usize) -> Option<&Artifact> {
        self.artifacts.get(&step.to_string())
    }
}

/// Something of a registry, for one step of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// An `http` or `https` URL; `GET` fetches it, and answers ranges if it can. For a
    /// repository of git, the repository.
    pub url: String,
    /// Sent with each request: a credential that is good for this and ends soon.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Its SHA-256 in hexadecimal, where the registry knows it.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Its size in bytes, where the registry knows it.
    #[serde(default)]
    pub size_bytes: Option<u64>,
}

/// Names one run of a deployment on a device: the deployment, and which attempt it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId {
    /// The deployment.
    pub deployment: DeploymentUuid,
    /// From 1.
    pub attempt: u32,
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.deployment, self.attempt)
    }
}

impl FromStr for RunId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parsed = text.split_once('.').and_then(|(deployment, attempt)| {
            Some(Self { deployment: deployment.parse().ok()?, attempt: attempt.parse().ok().filter(|n| *n > 0)? })
        });
        // A run id names a folder on the device, so only the one spelling will do.
        parsed
            .filter(|run| run.to_string() == text)
            .ok_or_else(|| Invalid::new("", format!("{} is not the id of a run", quoted(text))))
    }
}

impl TryFrom<String> for RunId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(run: RunId) -> Self {
        run.to_string()
    }
}

/// How a device is. Every figure may be absent on a device that cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Share of the processors in use since the last keepalive, 0 to 100.
    pub cpu_percent: Option<f64>,
    /// Share of the memory in use, 0 to 100.
    pub ram_percent: Option<f64>,
    /// Used bytes of the file system that holds the agent's state.
    pub disk_used_bytes: Option<i64>,
    /// Size of that file system in bytes.
    pub disk_size_bytes: Option<i64>,
}

impl Metrics {
    /// The same figures, without those that cannot be.
    #[must_use]
    pub fn plausible(self) -> Self {
        let percent = |value: Option<f64>| value.filter(|p| (0.0..=100.0).contains(p));
        let bytes = |value: Option<i64>| value.filter(|b| *b >= 0);
        Self {
            cpu_percent: percent(self.cpu_percent),
            ram_percent: percent(self.ram_percent),
            disk_used_bytes: bytes(self.disk_used_bytes),
            disk_size_bytes: bytes(self.disk_size_bytes),
        }
    }
}

/// What a device knows of itself and seldom changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Version of the agent.
    pub agent_version: String,
    /// Host name.
    pub hostname: String,
    /// Operating system, as its `os-release` names it.
    pub os: String,
    /// Processor architecture, as `uname -m` names it.
    pub arch: String,
    /// The device's own addresses, the one that reaches the server first.
    pub ip_addresses: Vec<String>,
    /// Hardware addresses of its network interfaces, in lower case.
    pub mac_addresses: Vec<String>,
    /// Its time zone, by its IANA name; empty when it cannot tell. Since version 3.
    pub time_zone: String,
    /// Why the agent is not what it should be, for a person: damaged files that it set
    /// aside, settings that it could not use. Since version 4.
    pub degraded: Vec<String>,
}

impl Facts {
    /// The same facts in a form that may be stored: bounded, without control characters.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        clean(&mut self.agent_version, VERSION_CHARS_MAX);
        for text in [&mut self.hostname, &mut self.os, &mut self.arch, &mut self.time_zone] {
            clean(text, NAME_CHARS_MAX);
        }
        for list in [&mut self.ip_addresses, &mut self.mac_addresses] {
            list.truncate(ADDRESSES_MAX);
            list.iter_mut().for_each(|address| clean(address, NAME_CHARS_MAX));
        }
        self.degraded.truncate(DEGRADED_REASONS_MAX);
        self.degraded.iter_mut().for_each(|reason| clean(reason, DEGRADED_REASON_CHARS_MAX));
        self
    }
}

fn clean(text: &mut String, chars_max: usize) {
    *text = text.chars().filter(|c| !c.is_control()).take(chars_max).collect();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_later_version_says_is_ignored() {
        let message: ToDevice = serde_json::from_value(json!({"type": "dance", "tempo": 3})).unwrap();
        assert_eq!(message, ToDevice::Unknown);
        let refused = json!({"type": "refused", "code": "full_moon", "message": "", "more": 1});
        let refused: ToDevice = serde_json::from_value(refused).unwrap();
        assert!(matches!(refused, ToDevice::Refused { code: RefusedCode::Other, .. }));
    }

    #[test]
    fn reports_have_a_stable_shape() {
        let run: RunId = "dp-1a2b-3c4d.1".parse().unwrap();
        let report = ToServer::Report { run, seq: 1, event: RunEvent::Accepted };
        let shape = json!({"type": "report", "run": "dp-1a2b-3c4d.1", "seq": 1, "event": {"event": "accepted"}});
        assert_eq!(serde_json::to_value(&report).unwrap(), shape);
        assert_eq!(serde_json::from_value::<ToServer>(shape).unwrap(), report);
    }

    #[test]
    fn a_run_id_cannot_name_another_folder() {
        for text in
            ["", "dp-1a2b-3c4d", "dp-1a2b-3c4d.0", "dp-1a2b-3c4d.01", "dp-1a2b-3c4d.+1", "../x.1", "dp-1a2b-3c4d.1/.."]
        {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_device_sends_is_bounded() {
        let facts =
            Facts { hostname: "a\0".repeat(1_000), mac_addresses: vec![String::new(); 1_000], ..Facts::default() };
        let facts = facts.bounded();
        assert_eq!((facts.hostname.len(), facts.mac_addresses.len()), (NAME_CHARS_MAX, ADDRESSES_MAX));
        let metrics = Metrics {
            cpu_percent: Some(f64::NAN),
            ram_percent: Some(101.0),
            disk_used_bytes: Some(-1),
            disk_size_bytes: None,
        };
        assert_eq!(metrics.plausible(), Metrics::default());
    }
}
