//! The audit log: its filters, its pages, its export.

use std::time::Duration;

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;

const PATH: &str = "/api/v2/account/audit-log";

on_both_engines!(
    entries_tell_what_was_and_what_is,
    filters_add_up,
    pages_follow_each_other,
    refused_calls_are_told,
    a_fleet_is_remembered_by_its_key,
    an_export_holds_everything,
    refuses_wrong_questions,
);

async fn events(app: &TestApp, query: &str) -> Vec<Value> {
    app.admin().get(&format!("{PATH}?{query}")).await.ok(200)["events"].as_array().unwrap().clone()
}

async fn groups(app: &TestApp, names: &[&str]) {
    for name in names {
        app.admin().post("groups", &json!({ "name": name })).await.ok(201);
    }
}

async fn entries_tell_what_was_and_what_is(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let rename = json!([{ "op": "replace", "path": "device_name", "value": "renamed" }]);
    app.operator().change(device.uuid.as_str(), &rename).await;
    let found = events(app, "action=PatchDevice").await;
    let expected = json!([{
        "event_id": found[0]["event_id"], "time": "2025-06-09T14:10:44Z", "actor": "user:operator",
        "action": "PatchDevice", "subject": format!("device:{}", device.uuid), "project_key": "demo",
        "source_ip": "127.0.0.1", "before": { "device_name": "device" }, "after": { "device_name": "renamed" },
        "detail": {},
    }]);
    assert_eq!(json!(found), expected);
}

async fn filters_add_up(app: &TestApp) {
    groups(app, &["a", "b"]).await;
    app.wait(Duration::from_secs(60)).await;
    app.operator().post("/api/v2/demo/apps", &json!({ "name": "kiosk" })).await.ok(201);
    app.admin().post("/api/v2/second/groups", &json!({ "name": "c" })).await.ok(201);
    let subjects = async |query: &str| -> Vec<String> {
        let found = events(app, query).await;
        found.iter().map(|event| event["subject"].as_str().unwrap().to_owned()).collect()
    };
    for (query, expected) in [
        ("", &["group:c", "app:kiosk", "group:b", "group:a"][..]),
        ("actor=user:operator", &["app:kiosk"]),
        ("action=CreateGroup", &["group:c", "group:b", "group:a"]),
        ("subject=group:b", &["group:b"]),
        ("fleet=second", &["group:c"]),
        ("source_ip=127.0.0.1&fleet=demo", &["app:kiosk", "group:b", "group:a"]),
        ("source_ip=192.0.2.1", &[]),
        ("from=2025-06-09T14:11:44Z", &["group:c", "app:kiosk"]),
        ("to=2025-06-09T14:11:44Z", &["group:b", "group:a"]),
        ("from=2025-06-09T14:11:44Z&action=CreateGroup", &["group:c"]),
        ("actor=user:nobody", &[]),
    ] {
        assert_eq!(subjects(query).await, expected, "{query}");
    }
    assert_eq!(app.stranger().get(PATH).await.ok(200)["events"], json!([]));
}

async fn pages_follow_each_other(app: &TestApp) {
    let names = ["a", "b", "c", "d", "e"];
    groups(app, &names).await;
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = app.admin().get(&format!("{PATH}?limit=2&after={after}")).await.ok(200);
        assert_eq!(page["pagination_info"]["total"], 5);
        seen.extend(page["events"].as_array().unwrap().iter().map(|it| it["subject"].as_str().unwrap().to_owned()));
        match page["pagination_info"]["after"].as_str() {
            Some(next) => after = next.replace('+', "%2B").replace('=', "%3D"),
            None => break,
        }
        // What is written meanwhile is newer, and so comes on no later page.
        if seen.len() == 2 {
            let other = app.stranger().post("/api/v2/foreign/groups", &json!({ "name": "x" })).await;
            other.ok(201);
        }
    }
    assert_eq!(seen, ["group:e", "group:d", "group:c", "group:b", "group:a"]);
}

async fn refused_calls_are_told(app: &TestApp) {
    for _ in 0..40 {
        app.viewer().post("groups", &json!({ "name": "x" })).await.refused(403);
    }
    app.operator().get("/api/v2/account/users").await.refused(403);
    let found = events(app, "").await;
    let viewers = found.iter().filter(|event| event["actor"] == "user:viewer").count();
    assert!((30..40).contains(&viewers), "bounded: {viewers}");
    let mut refused = found[0].clone();
    refused.as_object_mut().unwrap().remove("event_id");
    let expected = json!({
        "time": "2025-06-09T14:10:44Z", "actor": "user:operator", "action": "ListUsers", "subject": "account",
        "project_key": null, "source_ip": "127.0.0.1", "before": null, "after": null,
        "detail": { "refused": "only an administrator of the account may do this" },
    });
    assert_eq!(refused, expected);
    let told = &events(app, "fleet=demo&actor=user:viewer").await[0];
    let reason = json!({ "refused": "this needs the permission manage_groups in the fleet" });
    assert_eq!((&told["action"], &told["detail"]), (&json!("CreateGroup"), &reason));
}

async fn a_fleet_is_remembered_by_its_key(app: &TestApp) {
    SimulatedDevice::enroll(app, "device").await;
    assert_eq!(events(app, "fleet=demo").await[0]["actor"], "pairing-token");
}

async fn an_export_holds_everything(app: &TestApp) {
    let account_id = app.house().account_id;
    // More than are read at once, some of them with what a spreadsheet would carry out.
    app.write(async |tx| {
        for number in 0..1_234 {
            let event = muster_store::audit::NewAuditEvent {
                account_id,
                fleet_id: None,
                actor: "=HYPERLINK(\"x\")".to_owned(),
                action: muster_core::access::Operation::CreateGroup,
                subject: format!("number:{number}"),
                source_ip: "192.0.2.1".to_owned(),
                detail: json!({ "after": { "text": "a,\"b\"\nc" } }),
            };
            tx.audit(&event).await?;
        }
        Ok(())
    })
    .await;
    groups(app, &["last"]).await;
    let lines = app.admin().get(&format!("{PATH}/export?format=jsonl")).await;
    assert_eq!((lines.status, lines.header("content-type")), (200, "application/x-ndjson"));
    let read: Vec<Value> = lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((read.len(), &read[0]["subject"]), (1_235, &json!("group:last")));
    let numbers: Vec<_> = read[1..].iter().map(|it| it["subject"].as_str().unwrap().to_owned()).collect();
    let expected: Vec<_> = (0..1_234).rev().map(|number| format!("number:{number}")).collect();
    assert_eq!(numbers, expected);
    let file = app.admin().get(&format!("{PATH}/export?format=csv&source_ip=192.0.2.1")).await;
    assert_eq!(file.header("content-disposition"), "attachment; filename=\"audit-log.csv\"");
    let mut rows = csv::Reader::from_reader(file.text.as_bytes());
    assert_eq!(rows.headers().unwrap().iter().collect::<Vec<_>>()[..3], ["event_id", "time", "actor"]);
    let rows: Vec<_> = rows.records().collect::<Result<_, _>>().unwrap();
    assert_eq!((rows.len(), &rows[0][2], &rows[0][4]), (1_234, "'=HYPERLINK(\"x\")", "number:1233"));
    assert_eq!(&rows[0][8], r#"{"text":"a,\"b\"\nc"}"#);
}

async fn refuses_wrong_questions(app: &TestApp) {
    for (query, expected) in [
        ("action=Fly", "action: \"Fly\" is no operation"),
        ("from=yesterday", "from: \"yesterday\" is no moment like 2025-06-09T14:10:44Z"),
        ("to=", "to: \"\" is no moment"),
        ("actor=%00", "actor: \"\\0\" is nothing that the log could hold"),
        ("limit=0", "limit: \"0\" is not a number"),
        ("after=eyJjdXJzb3IiOiA0OTEsICJsaW1pdCI6IDN9", "after: is not the \"after\" of an earlier page"),
    ] {
        let refusal = app.admin().get(&format!("{PATH}?{query}")).await.refused(400);
        assert!(refusal.starts_with(expected), "{query}: {refusal}");
    }
    assert_eq!(app.admin().get(&format!("{PATH}/export")).await.refused(400), "format: is required");
    app.admin().get(&format!("{PATH}/export?format=xls")).await.refused(400);
}
