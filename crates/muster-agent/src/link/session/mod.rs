//! What a device says over one connection: `(session, input, now) → outputs`.
//! The socket's owner carries the outputs out and decides nothing.

use std::time::Duration;

use muster_core::command::{CommandEnd, CommandEvent, CommandResult};
use muster_core::ids::{CommandRunUuid, DeviceUuid};
use muster_core::limits::{HANDSHAKE_TIMEOUT, HEARTBEATS_MISSED_MAX};
use muster_core::target::{Reason, RunEvent};
use muster_core::token::Secret;
use muster_link::{
    CommandOrder, Facts, Identity, Instruction, Metrics, PROTOCOL_VERSION, RefusedCode, RunId, ToDevice, ToServer,
    TunnelState, capability,
};
use serde_json::Value;

use crate::remote::TunnelPolicy;
use crate::upload::{Order, Refused};

/// A server cannot make a device talk faster, or be silent for longer, than this.
const HEARTBEAT_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60 * 60));

/// What happens to a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A message came; its text.
    Received(String),
    /// Something else came: the other end lives.
    Traffic,
    /// The figures that [`Output::Sample`] asked for.
    Sampled {
        /// How the device is.
        metrics: Metrics,
        /// What it knows of itself.
        facts: Facts,
    },
    /// A report for the connection with that epoch.
    Report {
        /// The epoch.
        epoch: i64,
        /// The run.
        run: RunId,
        /// The report's number.
        seq: i64,
        /// What happened.
        event: RunEvent,
    },
    /// The device will not begin a run now.
    NotNow {
        /// The epoch of the connection that wanted it.
        epoch: i64,
        /// The run.
        run: RunId,
        /// Why.
        reason: String,
    },
    /// Something of a remote command, for the connection with that epoch.
    Command {
        /// The epoch.
        epoch: i64,
        /// The command.
        command: CommandRunUuid,
        /// What happened.
        event: CommandEvent,
    },
    /// Files that the server asked for cannot be sent.
    UploadFailed(Refused),
    /// The moment of [`Session::wake_at`] has come.
    Tick,
}

/// What the connection's owner must do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this.
    Send(ToServer),
    /// Send a ping of the WebSocket, which the other end must answer.
    Ping,
    /// Measure, and come back with [`Input::Sampled`].
    Sample,
    /// The connection is welcome, under that number.
    Up {
        /// The epoch.
        epoch: i64,
    },
    /// The server wants a run.
    Instructed(Box<Instruction>),
    /// The server wants a run that cannot be read; the problem.
    Unreadable(RunId, String),
    /// The server wants a run to end.
    Aborted(RunId),
    /// The server has stored a run's reports up to a number.
    Acked(RunId, i64),
    /// The server wants a remote command to run.
    RunCommand(CommandOrder),
    /// The server wants a remote command to end.
    AbortCommand(CommandRunUuid),
    /// The server has stored how a remote command ended.
    CommandStored(CommandRunUuid),
    /// The server wants files of the device.
    Upload(Order),
    /// Dial a carrier of streams with each of these.
    DialStreams(Vec<Secret>),
    /// End the connection.
    Close(End),
}

/// Why a session ended a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The server refused the device.
    #[error("the server refused the connection: {message}")]
    Refused {
        /// For the agent.
        code: RefusedCode,
        /// For a person.
        message: String,
    },
    /// The server did not do its part of the handshake.
    #[error("the server did not complete the handshake in time")]
    HandshakeTimedOut,
    /// Nothing came for too long.
    #[error("the server has been silent for too long")]
    Silent,
}

#[derive(Debug)]
enum State {
    Opened,
    Answered,
    Up { epoch: i64, heartbeat: Duration, beat_at: Duration },
    Closed,
}

/// One connection. All moments are durations since it was opened, so that a
/// device whose clock is set meanwhile does not mind.
#[derive(Debug)]
pub struct Session {
    device: DeviceUuid,
    identity: Identity,
    facts: Facts,
    capabilities: Vec<String>,
    tunnels: TunnelPolicy,
    serves_streams: bool,
    state: State,
    heard_at: Duration,
}

impl Session {
    /// The session of a connection that has just been opened.
    pub fn new(
        device: DeviceUuid,
        identity: Identity,
        facts: Facts,
        mut capabilities: Vec<String>,
        tunnels: TunnelPolicy,
    ) -> Self {
        capabilities.extend(tunnels.capabilities());
        let state = State::Opened;
        let streamed = [capability::PORT_TUNNEL, capability::TERMINAL, capability::FILES];
        let serves_streams = capabilities.iter().any(|word| streamed.contains(&word.as_str()));
        Self { device, identity, facts, capabilities, tunnels, serves_streams, state, heard_at: Duration::ZERO }
    }

    /// When [`Input::Tick`] is due, unless something else happens before.
    pub fn wake_at(&self) -> Duration {
        match self.state {
            State::Opened | State::Answered | State::Closed => HANDSHAKE_TIMEOUT,
            State::Up { heartbeat, beat_at, .. } => beat_at.min(self.heard_at + silence_max(heartbeat)),
        }
    }

    /// Takes in what happened; says what must be done.
    pub fn handle(&mut self, input: Input, now: Duration) -> Vec<Output> {
        match input {
            Input::Received(text) => {
                self.heard_at = now;
                self.received(&text, now)
            }
            Input::Traffic => {
                self.heard_at = now;
                Vec::new()
            }
            Input::Sampled { metrics, facts } => self.sampled(metrics, facts),
            Input::Report { epoch, run, seq, event } => match self.state {
                State::Up { epoch: present, .. } if present == epoch => {
                    vec![Output::Send(ToServer::Report { run, seq, event })]
                }
                _ => Vec::new(),
            },
            Input::NotNow { epoch, run, reason } => match self.state {
                State::Up { epoch: present, .. } if present == epoch => {
                    vec![Output::Send(ToServer::NotNow { run, reason })]
                }
                _ => Vec::new(),
            },
            Input::Command { epoch, command, event } => match self.state {
                State::Up { epoch: present, .. } if present == epoch => {
                    vec![Output::Send(ToServer::Command { command, event })]
                }
                _ => Vec::new(),
            },
            // Over the next connection the server asks again.
            Input::UploadFailed(_) if !matches!(self.state, State::Up { .. }) => Vec::new(),
            Input::UploadFailed(Refused { request, reason }) => {
                vec![Output::Send(ToServer::UploadFailed { request, reason })]
            }
            Input::Tick => self.tick(now),
        }
    }

    fn received(&mut self, text: &str, now: Duration) -> Vec<Output> {
        let message = match serde_json::from_str(text) {
            Ok(message) => message,
            Err(error) => return self.unreadable(text, &error),
        };
        match (message, &mut self.state) {
            (ToDevice::Challenge { nonce, .. }, State::Opened) => {
                self.state = State::Answered;
                vec![Output::Send(ToServer::Hello {
                    signature: self.identity.sign(&nonce, &self.device),
                    device_uuid: self.device.clone(),
                    protocol: PROTOCOL_VERSION,
                    facts: self.facts.clone(),
                    capabilities: std::mem::take(&mut self.capabilities),
                })]
            }
            (ToDevice::Welcome { epoch, heartbeat_ms }, State::Answered) => {
                self.state = State::Up { epoch, heartbeat: bounded(heartbeat_ms), beat_at: now };
                vec![Output::Up { epoch }]
            }
            // Also of a device that was welcome: it may be deleted at any moment.
            (ToDevice::Refused { code, message }, _) => self.close(End::Refused { code, message }),
            (ToDevice::Heartbeat { heartbeat_ms }, State::Up { heartbeat, beat_at, .. }) => {
                *heartbeat = bounded(heartbeat_ms);
                *beat_at = (*beat_at).min(now + *heartbeat);
                Vec::new()
            }
            (ToDevice::Run(instruction), State::Up { .. }) => vec![Output::Instructed(Box::new(instruction))],
            (ToDevice::Abort { run }, State::Up { .. }) => vec![Output::Aborted(run)],
            (ToDevice::Ack { run, seq }, State::Up { .. }) => vec![Output::Acked(run, seq)],
            (ToDevice::RunCommand(order), State::Up { .. }) => vec![Output::RunCommand(order)],
            (ToDevice::AbortCommand { command }, State::Up { .. }) => vec![Output::AbortCommand(command)],
            (ToDevice::CommandStored { command }, State::Up { .. }) => vec![Output::CommandStored(command)],
            (ToDevice::UploadFiles { request, path, url, headers }, State::Up { .. }) => {
                vec![Output::Upload(Order { request, path, url, headers })]
            }
            (ToDevice::OpenTunnel { tunnel, host, .. }, State::Up { .. }) => {
                vec![Output::Send(self.tunnel(tunnel, &host))]
            }
            (ToDevice::DialStreams { secrets }, State::Up { .. }) if self.serves_streams => {
                vec![Output::DialStreams(secrets)]
            }
            // Of a later version, or out of its place.
            _ => Vec::new(),
        }
    }

    /// What the device says of a tunnel. It remembers none: each connection asks again.
    fn tunnel(&self, tunnel: String, host: &str) -> ToServer {
        match self.tunnels.check(host) {
            Ok(()) => ToServer::Tunnel { tunnel, state: TunnelState::Opened, reason: String::new() },
            Err(reason) => ToServer::Tunnel { tunnel, state: TunnelState::Failed, reason: reason.to_owned() },
        }
    }

    /// An instruction that cannot be read is still answered for, when its run can
    /// be told: a deployment must not wait for a device that will never begin.
    fn unreadable(&self, text: &str, error: &serde_json::Error) -> Vec<Output> {
        tracing::warn!(%error, "a message of the server cannot be read");
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        let command = message["command"].as_str().and_then(|command| command.parse().ok());
        if let (Some(command), State::Up { .. }, true) = (command, &self.state, message["type"] == "run_command") {
            let text = format!("This version of the agent cannot read the command: {error}.");
            let refused = CommandResult::unbegun(CommandEnd::Refused, Reason::new("bad_command", text));
            return vec![Output::Send(ToServer::Command { command, event: CommandEvent::Ended(refused) })];
        }
        let run = message["run"].as_str().and_then(|run| run.parse().ok());
        match (run, &self.state) {
            (Some(run), State::Up { .. }) if message["type"] == "run" => {
                vec![Output::Unreadable(run, error.to_string())]
            }
            _ => Vec::new(),
        }
    }

    fn sampled(&mut self, metrics: Metrics, facts: Facts) -> Vec<Output> {
        if !matches!(self.state, State::Up { .. }) {
            return Vec::new();
        }
        let changed = (facts != self.facts).then(|| facts.clone());
        self.facts = facts;
        vec![Output::Send(ToServer::Keepalive { metrics, facts: changed })]
    }

    fn tick(&mut self, now: Duration) -> Vec<Output> {
        match &mut self.state {
            State::Opened | State::Answered if now >= HANDSHAKE_TIMEOUT => self.close(End::HandshakeTimedOut),
            State::Up { heartbeat, .. } if now >= self.heard_at + silence_max(*heartbeat) => self.close(End::Silent),
            State::Up { heartbeat, beat_at, .. } if now >= *beat_at => {
                *beat_at = now + *heartbeat;
                vec![Output::Sample, Output::Ping]
            }
            _ => Vec::new(),
        }
    }

    fn close(&mut self, end: End) -> Vec<Output> {
        self.state = State::Closed;
        vec![Output::Close(end)]
    }
}

fn bounded(heartbeat_ms: u64) -> Duration {
    Duration::from_millis(heartbeat_ms).clamp(HEARTBEAT_RANGE.0, HEARTBEAT_RANGE.1)
}

fn silence_max(heartbeat: Duration) -> Duration {
    heartbeat * HEARTBEATS_MISSED_MAX
}

#[cfg(test)]
mod tests;
