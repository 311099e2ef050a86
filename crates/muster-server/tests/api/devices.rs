//! `GET /devices` and `GET /devices/{device_uuid}` of API v2.

use muster_core::names::{FleetName, ProjectKey};
use muster_link::Metrics;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;
use crate::orders::{Order, create};

on_both_engines!(
    lists_devices_as_documented,
    lists_at_most_a_hundred_tags,
    narrows_by_group_and_by_any_of_several_tags,
    narrows_by_a_device_filter,
    prints_a_single_device_as_documented,
    shows_the_last_five_updates,
    refuses_wrong_parameters,
    what_is_elsewhere_does_not_exist,
    one_key_may_be_in_two_accounts,
);

/// What a device that has only enrolled looks like; `time` in the form of the call.
fn silent(device: &SimulatedDevice<'_>, name: &str, time: &str) -> Value {
    json!({
        "address": "", "agent_version": "0.1.0", "cpu_usage": null, "current_disk_usage": 0, "description": "",
        "device_ip": null, "device_name": name, "device_status": "offline", "device_uuid": device.uuid,
        "disk_size": 0, "group_name": "Production", "is_update_trigger_set": false, "last_keepalive": time,
        "lat": null, "lng": null, "project": "Demo fleet", "ram_usage": null, "registered_date": time,
    })
}

const ISO: &str = "2025-06-09T14:10:44Z";
const SPACED: &str = "2025-06-09 14:10:44";

async fn lists_devices_as_documented(app: &TestApp) {
    let viewer = app.viewer();
    let empty = json!({ "devices": [], "pagination_info": { "after": null, "total": 0 } });
    assert_eq!(viewer.get("devices").await.ok(200), empty);
    let device = SimulatedDevice::enroll(app, "device1").await;
    let tags = json!([{ "op": "add", "path": "tags", "value": ["tag_1", "tag_2"] }]);
    app.admin().change(device.uuid.as_str(), &tags).await;
    let page = |item: &Value| json!({ "devices": [item], "pagination_info": { "after": null, "total": 1 } });
    let mut expected = silent(&device, "device1", ISO);
    for plain in ["devices", "devices?enrich_info=false", "devices?enrich_info=", "devices?unknown=1"] {
        assert_eq!(viewer.get(plain).await.ok(200), page(&expected), "{plain}");
    }
    expected["tags"] = json!({ "message": "", "names": ["tag_1", "tag_2"] });
    for enriched in ["devices?enrich_info=true", "devices?enrich_info=True", "devices?enrich_info=1"] {
        assert_eq!(viewer.get(enriched).await.ok(200), page(&expected), "{enriched}");
    }
}

async fn lists_at_most_a_hundred_tags(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let tags: Vec<String> = (0..101).map(|i| format!("tag {i}")).collect();
    let add = json!([{ "op": "add", "path": "tags", "value": tags }]);
    app.admin().change(device.uuid.as_str(), &add).await;
    let page = app.viewer().get("devices?enrich_info=true").await.ok(200);
    let expected = json!({ "message": "only the first 100 tags are listed", "names": tags[..100] });
    assert_eq!(page["devices"][0]["tags"], expected);
    assert_eq!(device.seen().await["tags"], json!(tags), "a single device shows all of them");
}

async fn narrows_by_group_and_by_any_of_several_tags(app: &TestApp) {
    let viewer = app.viewer();
    for (name, tag, group) in [("a", "tag-a", "Test"), ("b", "tag b", "Test"), ("c", "tag&c", "Production")] {
        let device = SimulatedDevice::enroll(app, name).await;
        let change = json!([
            { "op": "add", "path": "tags", "value": [tag, "all of them"] },
            { "op": "replace", "path": "group_name", "value": group },
        ]);
        app.admin().change(device.uuid.as_str(), &change).await;
    }
    let names = async |query: &str| -> Vec<String> {
        let page = viewer.get(&format!("devices?{query}")).await.ok(200);
        let devices = page["devices"].as_array().unwrap();
        assert_eq!(page["pagination_info"]["total"], devices.len());
        devices.iter().map(|device| device["device_name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("group_name=Test").await, ["a", "b"]);
    assert_eq!(names("tags=tag-a").await, ["a"]);
    assert_eq!(names("tags=tag-a&tags=tag+b").await, ["a", "b"]);
    assert_eq!(names("tags=tag%20b&tags=tag%26c").await, ["b", "c"]);
    assert_eq!(names("group_name=Production&tags=tag-a&tags=all+of+them").await, ["c"]);
    assert_eq!(names("group_name=all").await, ["a", "b", "c"]);
}

/// The query for the devices that match a filter.
fn matching(filter: &str) -> String {
    format!("devices?device_filter={}", form_urlencoded::byte_serialize(filter.as_bytes()).collect::<String>())
}

async fn narrows_by_a_device_filter(app: &TestApp) {
    for (name, tag) in [("a", "London"), ("b", "Paris"), ("c", "Paris")] {
        let device = SimulatedDevice::enroll(app, name).await;
        let add = json!([{ "op": "add", "path": "tags", "value": [tag, format!("is {name}")] }]);
        app.admin().change(device.uuid.as_str(), &add).await;
    }
    let names = async |query: &str| -> Vec<String> {
        let page = app.viewer().get(query).await.ok(200);
        let devices = page["devices"].as_array().unwrap();
        assert_eq!(page["pagination_info"]["total"], devices.len());
        devices.iter().map(|device| device["device_name"].as_str().unwrap().to_owned()).collect()
    };
    let paris = matching(r#"{"filters": [{"type": "tag", "operand": "is", "value": "Paris"}]}"#);
    let in_paris = names(&paris).await;
    assert_eq!(in_paris, ["b", "c"]);
    assert_eq!(names(&format!("{paris}&tags=is+c&tags=is+a")).await, ["c"]);
    assert_eq!(names(&matching("{}")).await, ["a", "b", "c"]);
    let no_one = matching(r#"{"groups": [{"name": "Test"}], "filters": []}"#);
    assert_eq!(names(&no_one).await, [""; 0]);
    let first = app.viewer().get(&format!("{paris}&limit=1")).await.ok(200);
    let after = first["pagination_info"]["after"].as_str().unwrap();
    assert_eq!(first["pagination_info"]["total"], 2);
    let second = app.viewer().get(&format!("{paris}&limit=1&after={after}")).await.ok(200);
    assert_eq!(second["devices"][0]["device_name"], "c");
}

async fn prints_a_single_device_as_documented(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device1").await;
    let path = format!("devices/{}", device.uuid);
    let mut expected = silent(&device, "device1", SPACED);
    assert_eq!(app.viewer().get(&path).await.ok(200), expected);
    let more = json!({ "apps": [], "mac_address": ["02:00:00:00:00:07"], "tags": [], "updates": [] });
    expected.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    assert_eq!(device.seen().await, expected);

    let mut link = device.connect().await;
    let metrics = Metrics {
        cpu_percent: Some(1.04),
        ram_percent: Some(11.0),
        disk_used_bytes: Some(3_282_999_999),
        disk_size_bytes: Some(214_735_000_000),
    };
    link.keep_alive(metrics).await;
    app.flush_keepalives().await;
    let heard = json!({
        "cpu_usage": 1.0, "ram_usage": 11.0, "current_disk_usage": 3282, "disk_size": 214_735,
        "device_ip": "127.0.0.1", "device_status": "online",
    });
    expected.as_object_mut().unwrap().extend(heard.as_object().unwrap().clone());
    assert_eq!(device.seen().await, expected);
}

async fn shows_the_last_five_updates(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect().await;
    create(app, &Order { comment: "0", app: Some(("firmware", "1.0")), ..Order::default() }).await;
    link.succeed().await;
    let updates = device.seen().await["updates"].clone();
    let done = json!({
        "apps_updated": [{ "app_name": "firmware", "app_new_version": "1.0" }], "comment": "0",
        "deployment_finish_time": SPACED, "deployment_schedule_time": SPACED, "deployment_start_time": SPACED,
        "deployment_status": "success", "deployment_type": "api-deployment", "flow_name": "Update",
    });
    assert_eq!(updates, json!([done]));
    for comment in ["1", "2", "3", "4", "5"] {
        create(app, &Order { comment, ..Order::default() }).await;
    }
    let updates = device.seen().await["updates"].clone();
    let comments: Vec<&Value> = updates.as_array().unwrap().iter().map(|update| &update["comment"]).collect();
    assert_eq!(json!(comments), json!(["5", "4", "3", "2", "1"]));
    let waiting = json!({
        "apps_updated": [], "comment": "5", "deployment_finish_time": "", "deployment_schedule_time": SPACED,
        "deployment_start_time": "", "deployment_status": "pending", "deployment_type": "api-deployment",
        "flow_name": "Update",
    });
    assert_eq!(updates[0], waiting);
}

async fn refuses_wrong_parameters(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let single = |query: &str| format!("devices/{}?{query}", device.uuid);
    let many = "tags=x&".repeat(101);
    let cases = [
        ("devices?limit=0".to_owned(), "limit: \"0\" is not a number from 1 to 1000"),
        ("devices?limit=1001".to_owned(), "limit: \"1001\" is not a number from 1 to 1000"),
        ("devices?limit=x".to_owned(), "limit: \"x\" is not a number from 1 to 1000"),
        ("devices?after=x".to_owned(), "after: \"x\" is not the \"after\" of an earlier page"),
        ("devices?enrich_info=maybe".to_owned(), "enrich_info: \"maybe\" is neither true nor false"),
        ("devices?group_name=x".to_owned(), "group_name: no group of the fleet is called \"x\""),
        ("devices?group_name=".to_owned(), "group_name: \"\" is empty"),
        ("devices?tags=x".to_owned(), "tags: no tag is called \"x\""),
        ("devices?tags=".to_owned(), "tags: \"\" is empty"),
        (matching("{"), "device_filter: is not JSON: EOF while parsing an object at line 1 column 1"),
        (matching(r#"{"group": []}"#), "device_filter.group: unknown field `group`, expected `groups` or `filters`"),
        (
            matching(r#"{"groups": [{"name": "x"}]}"#),
            "device_filter.groups[0].name: no group of the fleet is called \"x\"",
        ),
        (
            matching(r#"{"filters": [{"type": "tag", "operand": "is", "value": ""}]}"#),
            "device_filter.filters[0].value: \"\" is empty",
        ),
        (
            format!("{}&group_name=Test", matching("{}")),
            "device_filter: has groups of its own, and does not go with group_name",
        ),
        (format!("devices?{many}"), "tags: has 101 items, at most 100 are allowed"),
        (single("enrich_info=maybe"), "enrich_info: \"maybe\" is neither true nor false"),
    ];
    for (path, expected) in cases {
        assert_eq!(app.viewer().get(&path).await.refused(400), expected, "{path}");
    }
}

async fn what_is_elsewhere_does_not_exist(app: &TestApp) {
    let elsewhere = SimulatedDevice::enroll_with(app, &app.house().second_pairing, "elsewhere").await;
    let viewer = app.viewer();
    for uuid in [elsewhere.uuid.as_str(), "d-0000-0000", "x", "D-0000-0000", "%00", "..%2f..%2fhealthz"] {
        let (status, code, _) = viewer.get(&format!("devices/{uuid}")).await.v2_error();
        assert_eq!((status, code.as_str()), (404, "not_found"), "{uuid}");
    }
    let refusal = viewer.get("devices/d-0000-0000").await.refused(404);
    assert_eq!(refusal, "no device \"d-0000-0000\" was found");
    for key in ["second", "foreign", "nowhere", "DEMO", "%00"] {
        let (status, code, _) = viewer.get(&format!("/api/v2/{key}/devices")).await.v2_error();
        assert_eq!((status, code.as_str()), (404, "not_found"), "{key}");
    }
}

async fn one_key_may_be_in_two_accounts(app: &TestApp) {
    let (key, name) = (ProjectKey::parse("demo").unwrap(), FleetName::parse("Demo fleet").unwrap());
    let account_id = app.house().foreign.account_id;
    app.write(async |tx| Ok(tx.insert_fleet(account_id, &key, &name).await?)).await;
    SimulatedDevice::enroll(app, "device").await;
    let total = async |caller: crate::caller::Caller<'_>| {
        caller.get("devices").await.ok(200)["pagination_info"]["total"].clone()
    };
    assert_eq!((total(app.stranger()).await, total(app.admin()).await), (json!(0), json!(1)));
}
