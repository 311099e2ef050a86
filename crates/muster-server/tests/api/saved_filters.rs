//! Saved device filters, and the dry run of any: `/api/v2/{project_key}/filters`.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;
use crate::orders::{FLOW, Order, create, flow};

on_both_engines!(
    a_filter_is_saved_replaced_and_deleted,
    a_filter_is_kept_as_it_was_written,
    refuses_wrong_filters,
    a_dry_run_counts_what_a_deployment_would_do,
    a_dry_run_takes_saved_filters,
    a_dry_run_checks_what_would_be_deployed,
    a_dry_run_writes_nothing,
);

fn tagged(tag: &str) -> Value {
    json!({ "filters": [{ "type": "tag", "operand": "is", "value": tag }] })
}

fn saved(name: &str, description: &str, filter: &Value) -> Value {
    json!({
        "name": name, "description": description, "device_filter": filter,
        "created_time": "2025-06-09T14:10:44Z", "updated_time": "2025-06-09T14:10:44Z",
    })
}

async fn tag(app: &TestApp, device: &SimulatedDevice<'_>, name: &str) {
    app.admin().change(device.uuid.as_str(), &json!([{ "op": "add", "path": "tags", "value": [name] }])).await;
}

async fn a_filter_is_saved_replaced_and_deleted(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    tag(app, &device, "red").await;
    let (all, red) = (json!({ "groups": [{ "name": "Test" }] }), tagged("red"));
    let body = json!({ "name": "a/b", "device_filter": all });
    assert_eq!(app.operator().post("filters", &body).await.ok(201), saved("a/b", "", &all));
    let taken = app.operator().post("filters", &body).await.v2_error();
    assert_eq!(taken, (409, "conflict".to_owned(), "name: saved filter \"a/b\" exists already".to_owned()));
    app.app().clock().advance(std::time::Duration::from_secs(1));
    let body = json!({ "name": "Red", "description": "the red ones", "device_filter": red });
    let mut expected = saved("Red", "the red ones", &red);
    expected["updated_time"] = json!("2025-06-09T14:10:45Z");
    assert_eq!(app.operator().put("filters/a%2Fb", &body).await.ok(200), expected);
    app.viewer().get("filters/a%2Fb").await.refused(404);
    assert_eq!(app.viewer().get("filters/Red").await.ok(200), expected);
    let page = json!({ "filters": [expected], "pagination_info": { "after": null, "total": 1 } });
    assert_eq!(app.viewer().get("filters").await.ok(200), page);
    assert_eq!(app.neighbour().get("/api/v2/second/filters").await.ok(200)["filters"], json!([]));
    app.operator().delete("filters/Red").await.done();
    app.operator().delete("filters/Red").await.refused(404);
    let log = app.audit().await;
    let actions: Vec<&str> = log.iter().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(actions[actions.len() - 3..], ["CreateFilter", "ReplaceFilter", "DeleteFilter"]);
    assert!(
        log[log.len() - 2]
            .contains(r#""before":{"description":"","device_filter":{"groups":[{"name":"Test"}]},"name":"a/b"}"#)
    );
}

async fn a_filter_is_kept_as_it_was_written(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    for (name, filter) in [
        ("1", json!({})),
        ("2", json!({ "groups": [] })),
        ("3", json!({ "groups": [{ "name": "all" }], "filters": [] })),
        ("4", json!({ "filters": [{ "type": "specific_device", "operand": "is_not", "value": device.uuid }] })),
    ] {
        let body = json!({ "name": name, "device_filter": filter });
        assert_eq!(app.operator().post("filters", &body).await.ok(201)["device_filter"], filter);
        assert_eq!(app.viewer().get(&format!("filters/{name}")).await.ok(200)["device_filter"], filter);
    }
}

async fn refuses_wrong_filters(app: &TestApp) {
    let with = |filter: Value| json!({ "name": "x", "device_filter": filter });
    let one = |kind: &str, value: &str| json!({ "filters": [{ "type": kind, "operand": "is", "value": value }] });
    app.operator().post("filters", &json!({ "name": "there", "device_filter": {} })).await.ok(201);
    let before = app.viewer().get("filters").await.ok(200);
    for (body, expected) in [
        (json!({ "name": "x" }), "device_filter: is required"),
        (json!({ "device_filter": {} }), "name: is required"),
        (json!({ "name": "", "device_filter": {} }), "name: \"\" is empty"),
        (json!({ "name": "dry-run", "device_filter": {} }), "name: \"dry-run\" is reserved"),
        (with(tagged("unknown")), "device_filter.filters[0].value: no tag is called \"unknown\""),
        (with(one("app", "unknown")), "device_filter.filters[0].value: no app is called \"unknown\""),
        (
            with(json!({ "groups": [{ "name": "No" }] })),
            "device_filter.groups[0].name: no group of the fleet is called \"No\"",
        ),
        (with(one("device_state", "away")), "device_filter.filters[0].value: \"away\" is neither"),
        (with(json!({ "groups": [{ "nam": "x" }] })), "device_filter.groups[0].nam: unknown field"),
        (with(json!({ "filters": [5] })), "device_filter.filters[0]: invalid type: integer `5`"),
        (with(json!("all")), "device_filter: invalid type: string \"all\", expected an object"),
        (json!({ "name": "x", "device_filter": {}, "description": 5 }), "description: invalid type"),
    ] {
        let refusals = [app.operator().post("filters", &body).await, app.operator().put("filters/there", &body).await];
        for refusal in refusals {
            let refusal = refusal.refused(400);
            assert!(refusal.starts_with(expected), "{body}: {refusal}");
        }
    }
    assert_eq!(app.viewer().get("filters").await.ok(200), before);
    for path in ["filters/unknown", "filters/%00"] {
        app.viewer().get(path).await.refused(404);
        app.operator().put(path, &with(json!({}))).await.refused(404);
        app.operator().delete(path).await.refused(404);
    }
}

async fn a_dry_run_counts_what_a_deployment_would_do(app: &TestApp) {
    let mut devices = Vec::new();
    for name in ["ready", "held", "busy", "offline", "other"] {
        devices.push(SimulatedDevice::enroll(app, name).await);
    }
    for device in &devices[..4] {
        tag(app, device, "red").await;
    }
    let busy = create(app, &Order::to(&devices[2])).await;
    let mut links = Vec::new();
    for device in [&devices[0], &devices[1], &devices[2], &devices[4]] {
        links.push(device.connect().await);
    }
    links[2].instruction().await;
    let hold = json!([{ "op": "replace", "path": "is_update_trigger_set", "value": true }]);
    app.admin().change(devices[1].uuid.as_str(), &hold).await;
    let run = app.viewer().post("filters/dry-run", &json!({ "device_filter": tagged("red") })).await.ok(200);
    let shown = |name: &str, i: usize| json!({ "device_uuid": devices[i].uuid, "device_name": name });
    let reason = |code: &str, message: &str| json!({ "code": code, "message": message, "count": 1 });
    let expected = json!({
        "matching": 4, "would_start": 1,
        "would_wait": [
            reason("device_offline", "The device has no link to the server; it begins once it connects."),
            reason("update_trigger_set", "The device's update trigger is set; it begins once the trigger is cleared."),
            reason(
                "waiting_for_earlier_deployment",
                "An earlier deployment is still open on the device; it begins once that has ended.",
            ),
        ],
        "refused": [],
        "sample": [shown("ready", 0), shown("held", 1), shown("busy", 2), shown("offline", 3)],
    });
    assert_eq!(run, expected);
    // The deployment itself finds what was foretold.
    let filter = tagged("red");
    let deployment = create(app, &Order { filter, ..Order::default() }).await;
    let mut stand = Vec::new();
    for device in &devices[..4] {
        stand.push(deployment.stands(app, device).await.1);
    }
    assert_eq!(stand, ["starting", "update_trigger_set", "waiting_for_earlier_deployment", "device_offline"]);
    drop(busy);
}

async fn a_dry_run_takes_saved_filters(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    tag(app, &device, "red").await;
    app.operator().post("filters", &json!({ "name": "red", "device_filter": tagged("red") })).await.ok(201);
    let run = async |body: Value| app.viewer().post("filters/dry-run", &body).await;
    assert_eq!(run(json!({ "filter_name": "red" })).await.ok(200)["matching"], 1);
    app.admin().delete("/api/v2/account/tags/red").await.done();
    for (body, expected) in [
        (json!({ "filter_name": "red" }), "filter_name.filters[0].value: no tag is called \"red\""),
        (json!({ "filter_name": "blue" }), "filter_name: no saved filter of the fleet is called \"blue\""),
        (json!({ "filter_name": "" }), "filter_name: no saved filter of the fleet is called \"\""),
        (json!({}), "device_filter: is required"),
        (json!({ "filter_name": "red", "device_filter": {} }), "filter_name: does not go with device_filter"),
        (
            json!({ "device_filter": { "groups": 5 } }),
            "device_filter.groups: invalid type: integer `5`, expected a sequence",
        ),
    ] {
        assert_eq!(run(body).await.refused(400), expected);
    }
}

async fn a_dry_run_checks_what_would_be_deployed(app: &TestApp) {
    let inputs = "on:\n  workflow-dispatch:\n    inputs:\n      who: {}\nflows:\n  Update:\n    steps:\n      - name: s\n        run: echo ${{ inputs.who }}\n";
    let (plain, asks) = (flow(app, FLOW).await, flow(app, inputs).await);
    let run =
        async |what: Value| app.viewer().post("filters/dry-run", &json!({ "device_filter": {}, "for": what })).await;
    run(json!({ "flow_uuid": plain, "app": { "name": "firmware", "version": "1" } })).await.ok(200);
    run(json!({ "flow_uuid": asks, "parameters_mapping": { "who": "me" } })).await.ok(200);
    for (what, expected) in [
        (json!({}), "for.flow_uuid: is required"),
        (json!({ "flow_uuid": "f-0000-0000" }), "for.flow_uuid: no update flow of the fleet is called \"f-0000-0000\""),
        (
            json!({ "flow_uuid": plain, "app": { "name": "unknown", "version": "1" } }),
            "for.app.name: no app is called \"unknown\"",
        ),
        (json!({ "flow_uuid": plain, "app": { "name": "firmware", "version": "" } }), "for.app.version: \"\" is empty"),
        (json!({ "flow_uuid": plain, "parameters_mapping": { "x": "y" } }), "for.parameters_mapping"),
        (json!({ "flow_uuid": asks }), "for.parameters_mapping"),
    ] {
        let refusal = run(what).await.refused(400);
        assert!(refusal.starts_with(expected), "{refusal}");
    }
}

async fn a_dry_run_writes_nothing(app: &TestApp) {
    SimulatedDevice::enroll(app, "device").await;
    let flow_uuid = flow(app, FLOW).await;
    let before = app.audit().await;
    let body = json!({ "device_filter": {}, "for": { "flow_uuid": flow_uuid } });
    app.viewer().post("filters/dry-run", &body).await.ok(200);
    assert_eq!(app.audit().await, before);
    assert_eq!(app.viewer().get("deployments").await.ok(200)["deployments"], json!([]));
}
