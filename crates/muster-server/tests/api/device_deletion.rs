//! Deleting devices, and what a deleted device hears.

use muster_core::target::RunEvent;
use muster_link::{EnrollRequest, Metrics, RefusedCode, ToDevice};
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::{Answer, answer};
use crate::device::{Link, SimulatedDevice, enrolled, facts, post_enrolment};
use crate::orders::{Order, create};

on_both_engines!(
    a_deleted_device_is_gone_with_its_part_in_deployments,
    ends_its_link_and_opens_no_other,
    tells_nobody_but_the_device_that_it_was_deleted,
    notices_what_another_server_has_deleted,
    comes_back_only_when_it_is_forgotten,
    deletes_as_many_as_expected_or_none,
    an_empty_filter_is_the_whole_fleet_and_no_more,
    lists_what_was_deleted,
    refuses_wrong_questions,
    the_log_says_what_there_was,
);

fn is_deleted(message: Option<ToDevice>) -> bool {
    let text = "the device was deleted from its fleet".to_owned();
    message == Some(ToDevice::Refused { code: RefusedCode::Deleted, message: text })
}

async fn delete(app: &TestApp, device: &SimulatedDevice<'_>) {
    app.admin().delete(&format!("devices/{}", device.uuid)).await.empty(204);
}

async fn delete_many(app: &TestApp, filter: &Value, expected_count: u64) -> Answer {
    let body = json!({ "device_filter": filter, "expected_count": expected_count });
    app.admin().post("devices/delete", &body).await
}

async fn a_deleted_device_is_gone_with_its_part_in_deployments(app: &TestApp) {
    let (device, other) = (SimulatedDevice::enroll(app, "device").await, SimulatedDevice::enroll(app, "other").await);
    let deployment = create(app, &Order::default()).await;
    let mut link = device.connect().await;
    let run = link.instruction().await.run;
    link.told(&run, 1, RunEvent::Accepted).await;
    delete(app, &device).await;
    let path = format!("devices/{}", device.uuid);
    for answer in [app.admin().get(&path).await, app.admin().delete(&path).await] {
        assert_eq!(answer.refused(404), format!("no device \"{}\" was found", device.uuid));
    }
    assert_eq!(deployment.devices(app).await, [other.uuid.as_str()]);
    let state = app.viewer().v1_get("/v1/get_device_state", &json!({ "device_token": device.token })).await;
    assert_eq!(state.v1_error(), "device_token: is not a valid device token of the account");
    other.connect().await.succeed().await;
    assert_eq!(deployment.stands(app, &other).await.0, "Succeeded");
}

async fn ends_its_link_and_opens_no_other(app: &TestApp) {
    let (device, other) = (SimulatedDevice::enroll(app, "device").await, SimulatedDevice::enroll(app, "other").await);
    let (mut link, mut others) = (device.connect().await, other.connect().await);
    delete(app, &device).await;
    assert!(is_deleted(link.next().await));
    link.ended().await;
    let mut again = Link::dial(app).await;
    again.say_hello(&device.identity, &device.uuid).await;
    assert!(is_deleted(again.next().await));
    again.ended().await;
    others.fence().await;
    assert_eq!(app.app().links.count(), 1);
}

async fn tells_nobody_but_the_device_that_it_was_deleted(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    delete(app, &device).await;
    let mut link = Link::dial(app).await;
    link.say_hello(&app.identity(), &device.uuid).await;
    assert!(matches!(link.next().await, Some(ToDevice::Refused { code: RefusedCode::NotRecognised, .. })));
}

async fn notices_what_another_server_has_deleted(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect().await;
    let (fleet_id, row) = (app.house().fleet.id, device.row().await.id);
    app.write(async |tx| {
        let matching = tx.everything_in(vec![fleet_id]).only(row);
        Ok(tx.delete_matching(&matching).await?)
    })
    .await;
    link.keep_alive(Metrics::default()).await;
    app.flush_keepalives().await;
    assert!(is_deleted(link.next().await));
    link.ended().await;
}

async fn comes_back_only_when_it_is_forgotten(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    delete(app, &device).await;
    let request = EnrollRequest::new(&device.identity, app.house().pairing.clone(), facts());
    let refusal = post_enrolment(app, &request).await.refused(400);
    let expected =
        format!("public_key: is that of the device {}, which was deleted; let it be forgotten first", device.uuid);
    assert_eq!(refusal, expected);
    let abroad = EnrollRequest::new(&device.identity, app.house().foreign_pairing.clone(), facts());
    enrolled(&post_enrolment(app, &abroad).await);
    let path = format!("deleted-devices/{}/forget", device.uuid);
    app.admin().post(&path, &json!({})).await.empty(204);
    assert_eq!(
        app.admin().post(&path, &json!({})).await.refused(404),
        format!("no deleted device \"{}\" was found", device.uuid)
    );
    let elsewhere = post_enrolment(app, &request).await.refused(400);
    assert_eq!(elsewhere, "public_key: is enrolled elsewhere");
    let other = SimulatedDevice::enroll(app, "other").await;
    delete(app, &other).await;
    app.admin().post(&format!("deleted-devices/{}/forget", other.uuid), &json!({})).await.empty(204);
    let again = EnrollRequest::new(&other.identity, app.house().pairing.clone(), facts());
    let made = enrolled(&post_enrolment(app, &again).await);
    assert_ne!(made.device_uuid, other.uuid, "it is a new device");
}

async fn deletes_as_many_as_expected_or_none(app: &TestApp) {
    let mut devices = Vec::new();
    for name in ["one", "two", "three"] {
        devices.push(SimulatedDevice::enroll(app, name).await);
    }
    let tags = json!([{ "op": "add", "path": "tags", "value": ["old"] }]);
    for device in &devices[..2] {
        app.admin().change(device.uuid.as_str(), &tags).await;
    }
    let mut link = devices[0].connect().await;
    let old = json!({ "groups": [], "filters": [{ "type": "tag", "operand": "is", "value": "old" }] });
    for expected in [0, 1, 3] {
        let refusal = delete_many(app, &old, expected).await.v2_error();
        let text = format!("expected_count: 2 devices match, not {expected}");
        assert_eq!(refusal, (409, "count_differs".to_owned(), text));
    }
    assert_eq!(app.admin().get("devices").await.ok(200)["pagination_info"]["total"], 3);
    assert_eq!(delete_many(app, &old, 2).await.ok(200), json!({ "deleted": 2 }));
    assert_eq!(delete_many(app, &old, 0).await.ok(200), json!({ "deleted": 0 }));
    assert!(is_deleted(link.next().await));
    let left = app.admin().get("devices").await.ok(200);
    assert_eq!(left["devices"].as_array().unwrap().len(), 1);
    assert_eq!(left["devices"][0]["device_uuid"], json!(devices[2].uuid));
}

async fn an_empty_filter_is_the_whole_fleet_and_no_more(app: &TestApp) {
    let house = app.house();
    SimulatedDevice::enroll(app, "one").await;
    let neighbour = SimulatedDevice::enroll_with(app, &house.second_pairing, "neighbour").await;
    assert_eq!(delete_many(app, &json!({}), 2).await.v2_error().0, 409);
    assert_eq!(delete_many(app, &json!({}), 1).await.ok(200), json!({ "deleted": 1 }));
    assert_eq!(neighbour.row().await.name, "neighbour");
}

async fn lists_what_was_deleted(app: &TestApp) {
    let nothing = json!({ "deleted_devices": [], "pagination_info": { "after": null, "total": 0 } });
    assert_eq!(app.viewer().get("deleted-devices").await.ok(200), nothing);
    let mut uuids = Vec::new();
    for name in ["one", "two", "three"] {
        let device = SimulatedDevice::enroll(app, name).await;
        uuids.push(device.uuid);
    }
    delete_many(app, &json!({}), 3).await.ok(200);
    let item = |i: usize, name: &str| {
        json!({
            "device_uuid": uuids[i], "device_name": name, "identifiers": ["02:00:00:00:00:07"],
            "deleted_at": "2025-06-09T14:10:44Z",
        })
    };
    let first = app.viewer().get("deleted-devices?limit=2").await.ok(200);
    let after = first["pagination_info"]["after"].as_str().unwrap().to_owned();
    let expected = json!({
        "deleted_devices": [item(0, "one"), item(1, "two")], "pagination_info": { "after": after, "total": 3 },
    });
    assert_eq!(first, expected);
    let last = app.viewer().get(&format!("deleted-devices?limit=2&after={after}")).await.ok(200);
    let expected = json!({ "deleted_devices": [item(2, "three")], "pagination_info": { "after": null, "total": 3 } });
    assert_eq!(last, expected);
    assert_eq!(app.neighbour().get("/api/v2/second/deleted-devices").await.ok(200), nothing);
}

async fn refuses_wrong_questions(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    for (body, expected) in [
        (json!({}), "device_filter: is required"),
        (json!({ "device_filter": {} }), "expected_count: is required"),
        (
            json!({ "device_filter": {}, "expected_count": -1 }),
            "expected_count: invalid value: integer `-1`, expected u64",
        ),
        (
            json!({ "device_filter": {}, "expected_count": "1" }),
            "expected_count: invalid type: string \"1\", expected u64",
        ),
        (json!({ "device_filter": {}, "expected_count": 1, "force": true }), "force: unknown field `force`"),
        (
            json!({ "device_filter": { "groups": [{ "name": "Nowhere" }] }, "expected_count": 1 }),
            "device_filter.groups[0].name: no group of the fleet is called \"Nowhere\"",
        ),
    ] {
        let refusal = app.admin().post("devices/delete", &body).await.refused(400);
        assert!(refusal.starts_with(expected), "{body}: {refusal}");
    }
    for uuid in ["d-0000-0000", "x", "%00"] {
        app.admin().delete(&format!("devices/{uuid}")).await.refused(404);
        app.admin().post(&format!("deleted-devices/{uuid}/forget"), &json!({})).await.refused(404);
    }
    app.admin().post(&format!("deleted-devices/{}/forget", device.uuid), &json!({})).await.refused(404);
    let without_body = answer(app.admin().request(Method::DELETE, &format!("devices/{}", device.uuid))).await;
    without_body.empty(204);
}

async fn the_log_says_what_there_was(app: &TestApp) {
    let (one, two) = (SimulatedDevice::enroll(app, "one").await, SimulatedDevice::enroll(app, "two").await);
    delete(app, &one).await;
    delete_many(app, &json!({ "groups": [{ "name": "Production" }] }), 1).await.ok(200);
    app.admin().post(&format!("deleted-devices/{}/forget", two.uuid), &json!({})).await.empty(204);
    let log = app.audit().await;
    let expected = [
        format!(
            r#"user:admin DeleteDevice device:{} 127.0.0.1 {{"after":null,"before":{{"device_name":"one","group_name":"Production"}}}}"#,
            one.uuid
        ),
        r#"user:admin DeleteDevices devices 127.0.0.1 {"after":{"devices":0},"before":{"devices":1},"device_filter":{"filters":[],"groups":[{"name":"Production"}]}}"#.to_owned(),
        format!(r#"user:admin ForgetDeletedDevice device:{} 127.0.0.1 {{"after":null,"before":"deleted"}}"#, two.uuid),
    ];
    assert_eq!(log[log.len() - 3..], expected);
}
