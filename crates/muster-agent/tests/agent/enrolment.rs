//! `enroll`, `--print-token` and `status`.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use muster_link::{RefusedCode, ToDevice};
use serde_json::{Value, json};

use crate::device::{Device, accepted, until};
use crate::server::Server;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn enrols_once_and_keeps_its_secrets() {
    let mut server = Server::start().await;
    let device = Device::enrolled(&mut server).await;
    for entry in std::fs::read_dir(device.state()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
    assert_eq!(std::fs::metadata(device.state()).unwrap().permissions().mode() & 0o777, 0o700);
    let token = device.command("--print-token").output().unwrap();
    assert_eq!(text(&token.stdout), "md_secret\n");
    let again = device.command("enroll").args(["--server", &server.url(), "--pairing-token", "mp"]).output().unwrap();
    assert!(!again.status.success());
    assert!(text(&again.stderr).contains("d-1a2b-3c4d"), "{again:?}");
}

#[tokio::test]
async fn shows_a_refusal_and_tries_again_with_the_same_key() {
    let mut server = Server::start().await;
    let device = Device::new();
    let answer = json!({"message": "the pairing token is used up"});
    let refused = device.enrol(&mut server, "403 Forbidden", &answer).await;
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("(403): the pairing token is used up"), "{refused:?}");
    assert!(!text(&refused.stderr).contains("mp_secret"));
    let key = server.key.clone();
    assert!(device.enrol(&mut server, "200 OK", &accepted()).await.status.success());
    assert_eq!(server.key, key);
}

#[tokio::test]
async fn cannot_run_before_it_is_enrolled() {
    let output = Device::new().command("run").output().unwrap();
    assert!(!output.status.success() && text(&output.stderr).contains("enrol it with"), "{output:?}");
}

fn status(device: &Device) -> Value {
    let output = device.command("status").arg("--json").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn status_follows_the_link_and_two_agents_do_not_share_a_directory() {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    let before = status(&device);
    assert_eq!((&before["is_running"], &before["last_connected_at"]), (&json!(false), &Value::Null));
    device.start();
    let link = server.welcome().await;
    assert!(link.facts.ip_addresses.first().is_some_and(|ip| ip == "127.0.0.1"), "{:?}", link.facts);
    assert!(!link.facts.hostname.is_empty() && !link.facts.arch.is_empty() && !link.facts.os.is_empty());
    until("the status is up", || status(&device)["is_connected"] == true).await;
    let second = device.command("run").output().unwrap();
    assert!(!second.status.success() && text(&second.stderr).contains("another agent is using"), "{second:?}");
    device.terminate().await;
    link.gone().await;
    let after = status(&device);
    assert_eq!((&after["is_running"], &after["is_connected"]), (&json!(false), &json!(false)));
    assert!(after["last_connected_at"].is_i64());
    let shown = text(&device.command("status").output().unwrap().stdout);
    assert!(shown.contains("till-7 (d-1a2b-3c4d), group Lab"), "{shown}");
}

#[tokio::test]
async fn a_refusal_on_the_link_is_shown() {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    device.start();
    let mut link = server.open().await;
    link.send(&ToDevice::Refused { code: RefusedCode::NotRecognised, message: "who are you".to_owned() }).await;
    link.gone().await;
    let is_shown = || status(&device)["last_error"].as_str().is_some_and(|error| error.contains("who are you"));
    until("the refusal is shown", is_shown).await;
}

#[tokio::test]
async fn trusts_the_machines_authorities_and_no_others() {
    let (mut server, certificate) = Server::start_tls().await;
    let mut device = Device::new();
    std::fs::write(device.file("authority.pem"), certificate).unwrap();
    device.env.push(("SSL_CERT_FILE", device.file("authority.pem")));
    assert!(device.enrol(&mut server, "201 Created", &accepted()).await.status.success());
    device.start();
    server.welcome().await;
    let (stranger, _) = Server::start_tls().await;
    let mut other = Device::new();
    other.env = device.env.clone();
    let mut command = other.command("enroll");
    let child =
        command.args(["--server", &stranger.url(), "--pairing-token", "mp_secret"]).stderr(Stdio::piped()).spawn();
    stranger.refused_by_the_agent().await;
    let output = child.unwrap().wait_with_output().unwrap();
    assert!(!output.status.success() && text(&output.stderr).contains("certificate"), "{output:?}");
}
