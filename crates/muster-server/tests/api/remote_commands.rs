//! Saved commands, and runs of commands on devices.

use std::time::Duration;

use muster_core::command::{CommandEnd, CommandEvent, CommandResult};
use muster_core::ids::CommandRunUuid;
use muster_core::target::Reason;
use muster_link::{CommandOrder, ToDevice, ToServer};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::{Link, SimulatedDevice};

on_both_engines!(
    saved_commands_are_made_changed_and_deleted,
    a_command_runs_and_its_output_is_kept,
    scripts_of_ones_own_need_the_right_to_edit,
    an_abort_ends_what_waits_and_asks_what_runs,
    a_device_that_does_not_come_in_time_expires,
    a_device_that_cannot_is_told_nothing,
    a_device_is_told_again_until_it_has_begun,
    a_device_is_told_of_a_few_at_a_time,
    output_is_followed_while_it_comes,
    old_runs_are_forgotten,
    refuses_wrong_orders,
);

const COMMANDS: &[&str] = &["remote_commands"];

fn on(device: &SimulatedDevice<'_>) -> Value {
    json!({ "filters": [{ "type": "specific_device", "operand": "is", "value": device.uuid }] })
}

async fn run(app: &TestApp, script: &str, filter: &Value) -> String {
    let run = app.admin().post("command_runs", &json!({ "script": script, "device_filter": filter })).await.ok(201);
    run["run_id"].as_str().unwrap().to_owned()
}

async fn told(link: &mut Link) -> CommandOrder {
    match link.next().await {
        Some(ToDevice::RunCommand(order)) => order,
        other => panic!("no command but {other:?}"),
    }
}

async fn says(link: &mut Link, command: &CommandRunUuid, event: CommandEvent) {
    link.send(&ToServer::Command { command: command.clone(), event }).await;
}

fn exited(code: i32, output: &str) -> CommandResult {
    CommandResult {
        exit_code: Some(code),
        duration_ms: 1_500,
        output: output.to_owned(),
        ..CommandResult::unbegun(CommandEnd::Exited, Reason::default())
    }
}

async fn ends(link: &mut Link, command: &CommandRunUuid, result: CommandResult) {
    says(link, command, CommandEvent::Ended(result)).await;
    assert_eq!(link.next().await, Some(ToDevice::CommandStored { command: command.clone() }));
}

async fn only_device(app: &TestApp, run: &str) -> Value {
    app.operator().get(&format!("command_runs/{run}/devices")).await.ok(200)["devices"][0].clone()
}

async fn standing(app: &TestApp, run: &str) -> (Value, Value) {
    let device = only_device(app, run).await;
    (device["status"].clone(), device["reason_code"].clone())
}

async fn output(app: &TestApp, run: &str, device: &SimulatedDevice<'_>) -> String {
    let answer = app.operator().get(&format!("command_runs/{run}/devices/{}/output", device.uuid)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.text
}

async fn saved_commands_are_made_changed_and_deleted(app: &TestApp) {
    let body = json!({ "name": "uptime", "script": "uptime", "user": "pi" });
    let made = app.admin().post("remote_commands", &body).await.ok(201);
    let mut expected = json!({
        "name": "uptime", "description": "", "script": "uptime", "user": "pi", "timeout_seconds": 60,
        "created_time": "2025-06-09T14:10:44Z", "updated_time": "2025-06-09T14:10:44Z",
    });
    assert_eq!(made, expected);
    app.wait(Duration::from_secs(1)).await;
    let change = json!({ "name": "load", "user": null, "timeout_seconds": 5 });
    let changed = app.admin().patch("remote_commands/uptime", &change).await.ok(200);
    for (field, value) in [
        ("name", json!("load")),
        ("user", Value::Null),
        ("timeout_seconds", json!(5)),
        ("updated_time", json!("2025-06-09T14:10:45Z")),
    ] {
        expected[field] = value;
    }
    assert_eq!(changed, expected);
    let audit = app.audit().await.pop().unwrap();
    assert!(audit.contains("PatchRemoteCommand remote_command:uptime") && audit.contains(r#""user":"pi""#), "{audit}");
    let page = app.viewer().get("remote_commands").await.ok(200);
    assert_eq!(page, json!({ "commands": [expected], "pagination_info": { "after": null, "total": 1 } }));
    app.admin().post("remote_commands", &json!({ "name": "load", "script": "x" })).await.refused(409);
    app.admin().get("remote_commands/uptime").await.refused(404);
    app.admin().delete("remote_commands/load").await.empty(204);
    app.viewer().get("remote_commands/load").await.refused(404);
}

async fn a_command_runs_and_its_output_is_kept(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect_with(COMMANDS).await;
    app.admin()
        .post("remote_commands", &json!({ "name": "greet", "script": "echo hello", "user": "pi" }))
        .await
        .ok(201);
    let body = json!({ "command": "greet", "device_filter": on(&device) });
    let made = app.operator().post("command_runs", &body).await.ok(201);
    let order = told(&mut link).await;
    let command = order.command.clone();
    let expected = CommandOrder {
        command: command.clone(),
        script: "echo hello".to_owned(),
        user: "pi".to_owned(),
        timeout_ms: 60_000,
        begin_within_ms: 3_600_000,
    };
    assert_eq!(order, expected);
    let counts = |running, succeeded| {
        json!({
            "pending": 0, "running": running, "succeeded": succeeded, "failed": 0, "timed_out": 0, "aborted": 0,
            "expired": 0,
        })
    };
    assert_eq!((made["is_over"].clone(), made["devices"]["pending"].clone()), (json!(false), json!(1)));
    says(&mut link, &command, CommandEvent::Started).await;
    link.fence().await;
    let path = format!("command_runs/{command}");
    assert_eq!(app.operator().get(&path).await.ok(200)["devices"], counts(1, 0));
    ends(&mut link, &command, exited(0, "hello\n")).await;
    let mut seen = made.clone();
    (seen["devices"], seen["is_over"]) = (counts(0, 1), json!(true));
    assert_eq!(app.operator().get(&path).await.ok(200), seen);
    let ended = json!({
        "device_uuid": device.uuid, "device_name": "device", "status": "succeeded", "reason_code": null, "reason": null,
        "exit_code": 0, "started_time": "2025-06-09T14:10:44Z", "finished_time": "2025-06-09T14:10:44Z",
        "duration_ms": 1500, "output_head": "hello\n", "output_tail": "", "output_bytes": 6, "truncated": false,
    });
    let page = app.operator().get(&format!("{path}/devices?status=succeeded")).await.ok(200);
    assert_eq!(page, json!({ "devices": [ended], "pagination_info": { "after": null, "total": 1 } }));
    assert_eq!(output(app, command.as_str(), &device).await, "hello\n");
    // Said again, it changes nothing.
    ends(&mut link, &command, exited(7, "other")).await;
    assert_eq!(only_device(app, command.as_str()).await["exit_code"], 0);
    let runs = app.operator().get("command_runs").await.ok(200);
    assert_eq!(
        (runs["runs"][0]["run_id"].clone(), runs["pagination_info"]["total"].clone()),
        (json!(command), json!(1))
    );
    let audit = app.audit().await.pop().unwrap();
    assert!(audit.contains(&format!("CreateCommandRun command_run:{command}")), "{audit}");
    assert!(audit.contains(r#""script":"echo hello""#) && audit.contains(r#""devices":1"#), "{audit}");
}

async fn scripts_of_ones_own_need_the_right_to_edit(app: &TestApp) {
    app.admin().post("remote_commands", &json!({ "name": "greet", "script": "echo hello" })).await.ok(201);
    for more in [
        json!({ "script": "x" }),
        json!({ "command": "greet", "user": "root" }),
        json!({ "command": "greet", "timeout_seconds": 9 }),
    ] {
        let mut body = more.clone();
        body["device_filter"] = json!({});
        app.operator().post("command_runs", &body).await.refused(403);
        app.admin().post("command_runs", &body).await.ok(201);
    }
    app.operator().post("command_runs", &json!({ "command": "greet", "device_filter": {} })).await.ok(201);
}

async fn an_abort_ends_what_waits_and_asks_what_runs(app: &TestApp) {
    let online = SimulatedDevice::enroll(app, "online").await;
    let _offline = SimulatedDevice::enroll(app, "offline").await;
    let mut link = online.connect_with(COMMANDS).await;
    let id = run(app, "sleep 100", &json!({})).await;
    let command = told(&mut link).await.command;
    says(&mut link, &command, CommandEvent::Started).await;
    link.fence().await;
    let after = app.operator().post(&format!("command_runs/{id}/abort"), &json!({})).await.ok(200);
    assert_eq!((after["devices"]["running"].clone(), after["devices"]["aborted"].clone()), (json!(1), json!(1)));
    assert_eq!(link.next().await, Some(ToDevice::AbortCommand { command: command.clone() }));
    ends(&mut link, &command, CommandResult::unbegun(CommandEnd::Aborted, Reason::default())).await;
    let over = app.operator().post(&format!("command_runs/{id}/abort"), &json!({})).await.ok(200);
    assert_eq!((over["is_over"].clone(), over["devices"]["aborted"].clone()), (json!(true), json!(2)));
}

async fn a_device_that_does_not_come_in_time_expires(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let body = json!({ "script": "x", "device_filter": {}, "expires_in_seconds": 60 });
    let id = app.admin().post("command_runs", &body).await.ok(201)["run_id"].as_str().unwrap().to_owned();
    app.wait(Duration::from_secs(59)).await;
    assert_eq!(standing(app, &id).await, (json!("pending"), Value::Null));
    app.wait(Duration::from_secs(1)).await;
    assert_eq!(standing(app, &id).await, (json!("expired"), json!("expired")));
    let mut link = device.connect_with(COMMANDS).await;
    let second = run(app, "y", &json!({})).await;
    assert_eq!(told(&mut link).await.command.as_str(), second, "it is not told of what has expired");
    // Told, and silent ever since.
    link.hang_up().await;
    app.wait(Duration::from_secs(60 * 60 + 120)).await;
    assert_eq!(standing(app, &second).await, (json!("expired"), json!("start_unconfirmed")));
    let mut link = device.connect_with(COMMANDS).await;
    let command: CommandRunUuid = second.parse().unwrap();
    says(&mut link, &command, CommandEvent::Started).await;
    assert_eq!(link.next().await, Some(ToDevice::AbortCommand { command }), "what comes too late must stop");
}

async fn a_device_that_cannot_is_told_nothing(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect().await;
    let id = run(app, "x", &json!({})).await;
    app.reconcile().await;
    link.fence().await;
    assert_eq!(standing(app, &id).await, (json!("failed"), json!("not_supported_by_device")));
}

async fn a_device_is_told_again_until_it_has_begun(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect_with(COMMANDS).await;
    let id = run(app, "x", &json!({})).await;
    told(&mut link).await;
    let mut link = device.connect_with(COMMANDS).await;
    let command = told(&mut link).await.command;
    says(&mut link, &command, CommandEvent::Started).await;
    link.fence().await;
    let mut link = device.connect_with(COMMANDS).await;
    let other = run(app, "y", &json!({})).await;
    assert_eq!(told(&mut link).await.command.as_str(), other, "what has begun is not told again");
    ends(&mut link, &command, CommandResult::unbegun(CommandEnd::Interrupted, Reason::default())).await;
    assert_eq!(standing(app, &id).await, (json!("failed"), json!("interrupted")));
}

async fn a_device_is_told_of_a_few_at_a_time(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut ids = Vec::new();
    for _ in 0..18 {
        ids.push(run(app, "x", &json!({})).await);
    }
    let mut link = device.connect_with(COMMANDS).await;
    for id in &ids[..16] {
        assert_eq!(told(&mut link).await.command.as_str(), id);
    }
    let first: CommandRunUuid = ids[0].parse().unwrap();
    ends(&mut link, &first, exited(0, "")).await;
    assert_eq!(told(&mut link).await.command.as_str(), ids[16]);
}

async fn output_is_followed_while_it_comes(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut link = device.connect_with(COMMANDS).await;
    let id = run(app, "x", &json!({})).await;
    let command = told(&mut link).await.command;
    says(&mut link, &command, CommandEvent::Started).await;
    for (from, to, text) in [(0, 4, "one\n"), (0, 4, "one\n"), (4, 8, "two\n"), (108, 112, "six\n")] {
        says(&mut link, &command, CommandEvent::Output { from, to, text: text.to_owned() }).await;
    }
    link.fence().await;
    let partial = "one\ntwo\n\n[… 100 bytes were left out here …]\nsix\n";
    assert_eq!(output(app, &id, &device).await, partial);
    let seen = only_device(app, &id).await;
    assert_eq!((seen["truncated"].clone(), seen["output_bytes"].clone()), (json!(true), json!(112)));
    let long = "x".repeat(5_000);
    ends(&mut link, &command, CommandResult { left_out_bytes: 7, ..exited(3, &format!("begin{long}end")) }).await;
    let seen = only_device(app, &id).await;
    assert_eq!((seen["status"].clone(), seen["reason_code"].clone()), (json!("failed"), json!("exit_code")));
    assert_eq!((seen["truncated"].clone(), seen["output_bytes"].clone()), (json!(true), json!(5_015)));
    let (head, tail) = (seen["output_head"].as_str().unwrap(), seen["output_tail"].as_str().unwrap());
    assert!(head.starts_with("begin") && tail.ends_with("end") && (head.len(), tail.len()) == (1_024, 1_024));
}

async fn old_runs_are_forgotten(app: &TestApp) {
    SimulatedDevice::enroll(app, "device").await;
    let first = run(app, "x", &json!({})).await;
    app.wait(Duration::from_secs(89 * 86_400)).await;
    let second = run(app, "y", &json!({})).await;
    muster_server::remote::retention::forget(app.app()).await.unwrap();
    assert_eq!(app.operator().get(&format!("command_runs/{first}")).await.ok(200)["devices"]["expired"], 1);
    app.wait(Duration::from_secs(86_401)).await;
    muster_server::remote::retention::forget(app.app()).await.unwrap();
    app.operator().get(&format!("command_runs/{first}")).await.refused(404);
    app.operator().get(&format!("command_runs/{second}")).await.ok(200);
}

async fn refuses_wrong_orders(app: &TestApp) {
    for (body, expected) in [
        (json!({ "script": "x" }), "device_filter: is required"),
        (json!({ "device_filter": {} }), "command: is required, or a script in its place"),
        (json!({ "command": "a", "script": "x", "device_filter": {} }), "script: is given, and a command as well"),
        (json!({ "command": "a", "device_filter": {} }), "command: no saved command is called \"a\""),
        (json!({ "script": " ", "device_filter": {} }), "script: \" \" is empty"),
        (
            json!({ "script": "x", "timeout_seconds": 0, "device_filter": {} }),
            "timeout_seconds: 0 is not a number of seconds from 1 to 86400",
        ),
        (
            json!({ "script": "x", "expires_in_seconds": 0, "device_filter": {} }),
            "expires_in_seconds: 0 is not a number of seconds from 1 to 2592000",
        ),
        (
            json!({ "script": "x", "user": "-x", "device_filter": {} }),
            "user: \"-x\" is not the name of a user: a letter, a digit or _, then also -, . and $, at most 32 in all",
        ),
        (
            json!({ "script": "x", "device_filter": { "groups": [{ "name": "None" }] } }),
            "device_filter.groups[0].name: no group of the fleet is called \"None\"",
        ),
    ] {
        assert_eq!(app.admin().post("command_runs", &body).await.refused(400), expected);
    }
    for id in ["x", "%00", "cr-0000-0000"] {
        for path in ["", "/devices", "/devices/d-0000-0000/output"] {
            app.operator().get(&format!("command_runs/{id}{path}")).await.refused(404);
        }
    }
    assert_eq!(app.audit().await.iter().filter(|event| event.contains("CommandRun")).count(), 0);
}
