//! What bounds a terminal: the size of its recording, and how long nobody types.

use std::time::Duration;

use muster_core::remote_session::EndReason;
use muster_link::stream::{Exit, StreamMessage, Turn};
use muster_server::ServerConfig;
use serde_json::json;

use crate::app::TestApp;
use crate::device::SimulatedDevice;
use crate::terminals::{events, heard, open, over, say, tell};

const RECORDING_BYTES_MAX: u64 = 600;
const IDLE: Duration = Duration::from_millis(500);

fn small_recordings(config: &mut ServerConfig) {
    config.recording_bytes_max = RECORDING_BYTES_MAX;
}

fn impatient(config: &mut ServerConfig) {
    config.terminal_idle = IDLE;
}

on_both_engines!(with: super::small_recordings; a_recording_ends_at_its_limit_and_its_terminal_goes_on);

async fn a_recording_ends_at_its_limit_and_its_terminal_goes_on(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, (mut caller, mut shell), session) = open(app, &device).await;
    for piece in ["fits", &"x".repeat(1_000), "afterwards"] {
        say(&mut shell, piece.as_bytes()).await;
        assert_eq!(heard(&mut caller).await, Turn::Data(piece.as_bytes().to_vec()), "the terminal goes on");
    }
    say(&mut caller, b"typed").await;
    assert_eq!(heard(&mut shell).await, Turn::Data(b"typed".to_vec()));
    tell(&mut shell, StreamMessage::Exited(Exit { code: Some(0), signal: None })).await;
    heard(&mut caller).await;
    let seen = over(app, &session).await;
    assert_eq!(seen["terminal"], json!({ "exit_code": 0, "exit_signal": null, "recording": "cut_short" }));
    assert_eq!((&seen["bytes_to_device"], &seen["bytes_from_device"]), (&json!(5), &json!(1_014)));
    let cast = app.admin().get(&format!("remote_sessions/{session}/recording")).await;
    let why = "The recording ends here: it has reached its limit of 600 bytes.";
    let event = |kind: &str, data: &str| (kind.to_owned(), data.to_owned());
    assert_eq!(events(&cast.text).1, [event("o", "fits"), event("m", why)]);
}

/// Half a second each, since a terminal has to be idle for a while.
mod idle {
    use super::a_terminal_ends_in_which_nobody_types;

    on_both_engines!(with: super::super::impatient; a_terminal_ends_in_which_nobody_types);
}

async fn a_terminal_ends_in_which_nobody_types(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (_link, (mut caller, mut shell), session) = open(app, &device).await;
    // What it shows does not keep it: somebody has to be there.
    say(&mut shell, b"shown").await;
    assert_eq!(heard(&mut caller).await, Turn::Data(b"shown".to_vec()));
    let told = StreamMessage::Failed { reason: EndReason::IDLE.text.to_owned() };
    assert_eq!(heard(&mut caller).await, Turn::Message(told));
    assert!(shell.turn(true).await.is_err(), "the device's end is cut");
    let seen = over(app, &session).await;
    assert_eq!((&seen["reason"], &seen["terminal"]["recording"]), (&json!("idle"), &json!("kept")));
    let ended = app.audit().await.into_iter().find(|line| line.contains("EndRemoteSession"));
    assert!(ended.unwrap().contains(r#""reason":"idle""#));
}
