//! The session, by what goes in and what comes out.

use muster_core::limits::HANDSHAKE_TIMEOUT;
use muster_core::target::RunEvent;
use muster_link::{Facts, Identity, Metrics, Nonce, PROTOCOL_VERSION, RefusedCode, RunId, ToDevice, ToServer};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;

use super::*;

const BEAT: Duration = Duration::from_secs(25);
const MS: Duration = Duration::from_millis(1);

fn identity() -> Identity {
    Identity::from_secret_bytes(&[7; 32])
}

fn facts() -> Facts {
    Facts { hostname: "till-7".to_owned(), ..Facts::default() }
}

fn run() -> RunId {
    "dp-1a2b-3c4d.1".parse().unwrap()
}

fn opened() -> Session {
    Session::new(
        "d-1a2b-3c4d".parse().unwrap(),
        identity(),
        facts(),
        vec!["action:connect/file".to_owned()],
        TunnelPolicy::Off,
    )
}

fn hear(session: &mut Session, message: &ToDevice, now: Duration) -> Vec<Output> {
    session.handle(Input::Received(serde_json::to_string(message).unwrap()), now)
}

fn nonce() -> Nonce {
    Nonce::random(&mut StdRng::seed_from_u64(1))
}

fn challenge() -> ToDevice {
    ToDevice::Challenge { nonce: nonce(), protocol: 1 }
}

fn welcome() -> ToDevice {
    ToDevice::Welcome { epoch: 3, heartbeat_ms: 25_000 }
}

/// A session that is up from the moment of its opening.
fn up() -> Session {
    let mut session = opened();
    hear(&mut session, &challenge(), Duration::ZERO);
    assert_eq!(hear(&mut session, &welcome(), Duration::ZERO), [Output::Up { epoch: 3 }]);
    session
}

#[test]
fn proves_who_it_is() {
    let outputs = hear(&mut opened(), &challenge(), Duration::ZERO);
    let [Output::Send(ToServer::Hello { device_uuid, signature, protocol, facts: told, capabilities })] =
        outputs.as_slice()
    else {
        panic!("{outputs:?}")
    };
    assert!(identity().public_key().verifies(&nonce(), device_uuid, signature));
    assert_eq!((*protocol, told), (PROTOCOL_VERSION, &facts()));
    assert_eq!(capabilities, &["action:connect/file"]);
}

#[test]
fn signs_once_and_obeys_nobody_before_the_welcome() {
    let abort = ToDevice::Abort { run: run() };
    let mut session = opened();
    for message in [&abort, &welcome(), &ToDevice::Ack { run: run(), seq: 1 }] {
        assert_eq!(hear(&mut session, message, Duration::ZERO), [], "{message:?} before the challenge");
    }
    assert_eq!(hear(&mut session, &challenge(), Duration::ZERO).len(), 1);
    assert_eq!(hear(&mut session, &challenge(), Duration::ZERO), [], "a second challenge");
    assert_eq!(hear(&mut session, &abort, Duration::ZERO), []);
    hear(&mut session, &welcome(), Duration::ZERO);
    assert_eq!(hear(&mut session, &abort, Duration::ZERO), [Output::Aborted(run())]);
}

#[test]
fn gives_up_a_handshake_that_does_not_come_to_its_end() {
    let mut answered = opened();
    hear(&mut answered, &challenge(), Duration::ZERO);
    for mut session in [opened(), answered] {
        assert_eq!(session.wake_at(), HANDSHAKE_TIMEOUT);
        assert_eq!(session.handle(Input::Tick, HANDSHAKE_TIMEOUT - MS), []);
        assert_eq!(session.handle(Input::Tick, HANDSHAKE_TIMEOUT), [Output::Close(End::HandshakeTimedOut)]);
    }
}

#[test]
fn a_refusal_ends_it() {
    let (code, message) = (RefusedCode::NotRecognised, "who?".to_owned());
    let outputs = hear(&mut opened(), &ToDevice::Refused { code, message: message.clone() }, Duration::ZERO);
    assert_eq!(outputs, [Output::Close(End::Refused { code, message })]);
}

#[test]
fn a_device_may_be_deleted_while_it_is_connected() {
    let (code, message) = (RefusedCode::Deleted, "it was deleted".to_owned());
    let outputs = hear(&mut up(), &ToDevice::Refused { code, message: message.clone() }, BEAT);
    assert_eq!(outputs, [Output::Close(End::Refused { code, message })]);
}

#[test]
fn beats_at_once_and_then_at_the_servers_pace() {
    let mut session = up();
    let beat = [Output::Sample, Output::Ping];
    assert_eq!(session.handle(Input::Tick, Duration::ZERO), beat);
    assert_eq!(session.wake_at(), BEAT);
    assert_eq!(session.handle(Input::Tick, BEAT - MS), []);
    assert_eq!(session.handle(Input::Tick, BEAT), beat);
    hear(&mut session, &ToDevice::Heartbeat { heartbeat_ms: 5_000 }, BEAT + MS);
    assert_eq!(session.wake_at(), BEAT + MS + Duration::from_secs(5));
    hear(&mut session, &ToDevice::Heartbeat { heartbeat_ms: 0 }, BEAT + MS);
    assert!(session.wake_at() >= BEAT + Duration::from_millis(100), "no server makes a device spin");
}

#[test]
fn notices_a_silent_server_and_only_that() {
    let mut session = up();
    session.handle(Input::Tick, Duration::ZERO);
    assert_eq!(session.handle(Input::Traffic, BEAT), []);
    assert_eq!(session.handle(Input::Tick, BEAT * 4 - MS), [Output::Sample, Output::Ping]);
    assert_eq!(session.wake_at(), BEAT * 4);
    assert_eq!(session.handle(Input::Tick, BEAT * 4), [Output::Close(End::Silent)]);
}

#[test]
fn tells_facts_only_when_they_changed() {
    let mut session = up();
    let mut sampled = |facts: Facts| session.handle(Input::Sampled { metrics: Metrics::default(), facts }, BEAT);
    let keepalive = |facts| [Output::Send(ToServer::Keepalive { metrics: Metrics::default(), facts })];
    assert_eq!(sampled(facts()), keepalive(None));
    let moved = Facts { ip_addresses: vec!["192.0.2.1".to_owned()], ..facts() };
    assert_eq!(sampled(moved.clone()), keepalive(Some(moved.clone())));
    assert_eq!(sampled(moved), keepalive(None));
}

#[test]
fn sends_only_the_reports_of_its_own_connection() {
    let report = |epoch| Input::Report { epoch, run: run(), seq: 1, event: RunEvent::Accepted };
    let mut session = up();
    assert_eq!(session.handle(report(2), BEAT), []);
    let sent = ToServer::Report { run: run(), seq: 1, event: RunEvent::Accepted };
    assert_eq!(session.handle(report(3), BEAT), [Output::Send(sent)]);
    assert_eq!(opened().handle(report(3), BEAT), []);
}

#[test]
fn hands_on_what_the_server_wants() {
    let mut session = up();
    let flow = json!({"name": "f", "steps": [{"name": "a", "run": "true", "timeout_ms": 1}]});
    let instruction: Instruction = serde_json::from_value(json!({"run": run(), "flow": flow})).unwrap();
    let outputs = hear(&mut session, &ToDevice::Run(instruction.clone()), BEAT);
    assert_eq!(outputs, [Output::Instructed(Box::new(instruction))]);
    assert_eq!(hear(&mut session, &ToDevice::Ack { run: run(), seq: 4 }, BEAT), [Output::Acked(run(), 4)]);
}

#[test]
fn answers_for_an_instruction_that_it_cannot_read() {
    let hear = |text: &str| up().handle(Input::Received(text.to_owned()), BEAT);
    let outputs = hear(r#"{"type":"run","run":"dp-1a2b-3c4d.1","flow":{"name":"f","steps":[{"dance":1}]}}"#);
    assert!(matches!(outputs.as_slice(), [Output::Unreadable(named, _)] if *named == run()), "{outputs:?}");
    for text in ["", "[]", "{}", r#"{"type":"run"}"#, r#"{"type":"run","run":"../x"}"#, r#"{"type":"dance","run":3}"#] {
        assert_eq!(hear(text), [], "{text}");
    }
}

#[test]
fn says_what_it_allows_of_tunnels_and_keeps_to_it() {
    let open = |host: &str| ToDevice::OpenTunnel { tunnel: "t".to_owned(), port: 22, host: host.to_owned() };
    let dial = ToDevice::DialStreams { secrets: vec![Secret::received("mc_1")] };
    for (policy, capabilities, local, network) in [
        (TunnelPolicy::Off, &[] as &[&str], TunnelState::Failed, TunnelState::Failed),
        (TunnelPolicy::Local, &["port_tunnel"], TunnelState::Opened, TunnelState::Failed),
        (TunnelPolicy::Network, &["port_tunnel", "tunnel_to_network"], TunnelState::Opened, TunnelState::Opened),
    ] {
        let mut session = Session::new("d-1a2b-3c4d".parse().unwrap(), identity(), facts(), Vec::new(), policy);
        let hello = hear(&mut session, &challenge(), Duration::ZERO);
        let [Output::Send(ToServer::Hello { capabilities: told, .. })] = hello.as_slice() else { panic!("{hello:?}") };
        assert_eq!(told, capabilities);
        assert_eq!(hear(&mut session, &dial, Duration::ZERO), [], "before the welcome");
        hear(&mut session, &welcome(), Duration::ZERO);
        for (host, expected) in [("", local), ("10.0.0.9", network)] {
            let answer = hear(&mut session, &open(host), Duration::ZERO);
            let [Output::Send(ToServer::Tunnel { tunnel, state, .. })] = answer.as_slice() else {
                panic!("{answer:?}")
            };
            assert_eq!((tunnel.as_str(), *state), ("t", expected), "{policy:?} {host}");
        }
        let dialled = hear(&mut session, &dial, Duration::ZERO);
        assert_eq!(dialled.len(), usize::from(policy != TunnelPolicy::Off), "{policy:?}");
    }
}
