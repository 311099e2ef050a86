//! Control links: who is let in, what is heard, and how they end.

use std::time::Duration;

use muster_core::target::{RunEvent, RunOutcome};
use muster_link::{Facts, Metrics, RefusedCode, ToDevice, ToServer};
use serde_json::json;

use muster_store::fleets::FleetChange;

use crate::app::{TestApp, eventually};
use crate::device::{Link, SimulatedDevice, facts, finished};
use crate::orders::{Order, create, standing};

on_both_engines!(
    lets_in_the_key_that_enrolled_and_no_other,
    an_answer_is_good_for_one_challenge,
    whoever_does_not_say_who_they_are_is_cut_off,
    a_newer_link_takes_the_place_of_an_older,
    a_device_that_falls_silent_loses_its_link,
    hears_how_a_device_is,
    ignores_what_it_does_not_understand,
    cuts_off_what_is_too_large,
    notices_that_a_device_has_gone,
    closes_its_links_when_the_server_stops,
);

async fn lets_in_the_key_that_enrolled_and_no_other(app: &TestApp) {
    let (device, other) = (SimulatedDevice::enroll(app, "device").await, SimulatedDevice::enroll(app, "other").await);
    let unknown = "d-0000-0000".parse().unwrap();
    let mut said = Vec::new();
    for (identity, uuid) in
        [(&app.identity(), &device.uuid), (&other.identity, &device.uuid), (&device.identity, &unknown)]
    {
        let mut link = Link::dial(app).await;
        link.say_hello(identity, uuid).await;
        said.push(link.next().await.unwrap());
        link.ended().await;
    }
    assert!(matches!(said[0], ToDevice::Refused { code: RefusedCode::NotRecognised, .. }), "{said:?}");
    assert!(said.iter().all(|refusal| *refusal == said[0]), "nobody learns which devices exist: {said:?}");
    assert_eq!(device.seen().await["device_status"], "offline");
    let link = device.connect().await;
    assert_eq!((link.epoch, link.heartbeat_ms), (1, 25_000));
}

async fn an_answer_is_good_for_one_challenge(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let (overheard, mut link) = (Link::dial(app).await, Link::dial(app).await);
    assert_ne!(overheard.nonce, link.nonce);
    link.nonce = overheard.nonce.clone();
    link.say_hello(&device.identity, &device.uuid).await;
    assert!(matches!(link.next().await, Some(ToDevice::Refused { .. })));
}

async fn whoever_does_not_say_who_they_are_is_cut_off(app: &TestApp) {
    let mut link = Link::dial(app).await;
    link.send(&ToServer::Keepalive { metrics: Metrics::default(), facts: None }).await;
    link.ended().await;
    assert_eq!(app.app().links.count(), 0);
}

async fn a_newer_link_takes_the_place_of_an_older(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let old = device.connect().await;
    let mut new = device.connect().await;
    assert_eq!((old.epoch, new.epoch), (1, 2));
    old.ended().await;
    let deployment = create(app, &Order::default()).await;
    new.succeed().await;
    assert_eq!(deployment.stands(app, &device).await.0, "Succeeded");
    assert_eq!(app.app().links.count(), 1);
    let late = app.app().links.insert(device.row().await.id, 1);
    assert!(late.is_none(), "what opened first and was stored last is no link");
}

async fn a_device_that_falls_silent_loses_its_link(app: &TestApp) {
    let fleet_id = app.house().fleet.id;
    let change = FleetChange { heartbeat: Some(Duration::from_secs(1)), ..FleetChange::default() };
    app.write(async |tx| Ok(tx.change_fleet(fleet_id, &change).await?)).await;
    let device = SimulatedDevice::enroll(app, "device").await;
    let link = device.connect().await;
    assert_eq!(link.heartbeat_ms, 1_000);
    app.wait(Duration::from_secs(4)).await;
    link.ended().await;
    assert_eq!(device.seen().await["device_status"], "offline");
    device.connect().await.fence().await;
    assert_eq!(device.seen().await["device_status"], "online");
}

async fn hears_how_a_device_is(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect().await;
    app.wait(Duration::from_secs(10)).await;
    let impossible =
        Metrics { cpu_percent: Some(101.0), ram_percent: Some(40.0), disk_used_bytes: Some(-1), ..Metrics::default() };
    link.keep_alive(impossible).await;
    app.flush_keepalives().await;
    let seen = device.seen().await;
    assert_eq!((&seen["cpu_usage"], &seen["ram_usage"]), (&json!(null), &json!(40.0)));
    assert_eq!((&seen["current_disk_usage"], &seen["last_keepalive"]), (&json!(0), &json!("2025-06-09 14:10:54")));
    let changed = Facts {
        agent_version: "2.0\0".to_owned() + &"x".repeat(1_000),
        mac_addresses: vec!["02:00:00:00:00:08".to_owned(); 100],
        ..facts()
    };
    link.send(&ToServer::Keepalive { metrics: Metrics::default(), facts: Some(changed) }).await;
    link.fence().await;
    let seen = device.seen().await;
    assert_eq!(seen["agent_version"].as_str().unwrap().len(), 128);
    assert!(seen["agent_version"].as_str().unwrap().starts_with("2.0x"));
    assert_eq!(seen["mac_address"].as_array().unwrap().len(), 32);
}

async fn ignores_what_it_does_not_understand(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect().await;
    for text in ["", "nonsense", "{}", "null", r#"{"type":"dance"}"#, r#"{"type":"report","run":"../x.1","seq":1}"#] {
        link.send_text(text.to_owned()).await;
    }
    link.say_hello(&device.identity, &device.uuid).await;
    link.fence().await;
    create(app, &Order::default()).await;
    link.succeed().await;
}

async fn cuts_off_what_is_too_large(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect().await;
    let run = "dp-0000-0000.1".parse().unwrap();
    let reason = "x".repeat(muster_core::limits::LINK_MESSAGE_BYTES_MAX);
    link.report(&run, 1, finished(RunOutcome::Failed, &reason)).await;
    link.ended().await;
    device.connect().await.fence().await;
}

async fn notices_that_a_device_has_gone(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let deployment = create(app, &Order::default()).await;
    let mut link = device.connect().await;
    let run = link.instruction().await.run;
    link.hang_up().await;
    let offline = standing("Pending", "device_offline");
    eventually("the link ends", async || (deployment.stands(app, &device).await == offline).then_some(())).await;
    assert_eq!(app.app().links.count(), 0);
    let mut link = device.connect().await;
    assert_eq!(link.instruction().await.run, run);
    link.told(&run, 1, RunEvent::Accepted).await;
}

async fn closes_its_links_when_the_server_stops(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let link = device.connect().await;
    app.app().links.close_all();
    link.ended().await;
}
