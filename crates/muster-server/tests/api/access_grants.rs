//! Access grants: what a role holds back is let go by another user, for a while.

use std::time::Duration;

use muster_core::access::Operation;
use muster_link::{ToServer, TunnelState};
use muster_server::remote::keeper;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::{Answer, Caller, answer};
use crate::device::{Link, SimulatedDevice};
use crate::device_streams;

const ROLES: &str = "/api/v2/account/roles";
/// In the order of the permissions.
const HELD_BACK: [&str; 6] = [
    "edit_remote_commands",
    "modify_devices",
    "register_and_move_devices",
    "remote_access",
    "run_remote_commands",
    "watch_sessions",
];

on_both_engines!(
    is_asked_for_approved_used_and_over,
    nobody_answers_for_themselves_or_for_what_they_do_not_have,
    an_answer_is_given_once,
    a_request_that_nobody_answers_lapses,
    lists_what_is_mine_and_what_is_mine_to_answer,
    a_grant_for_a_device_is_for_no_other,
    commands_run_on_the_devices_of_a_grant_and_on_no_other,
    ends_with_the_role_and_stays_within_the_scope_of_a_token,
    a_tunnel_ends_with_its_grant,
    refuses_wrong_requests,
    a_role_does_not_give_what_it_holds_back,
    the_other_faces_say_so_too,
);

/// A user whose role holds back what an operator may.
async fn on_call<'a>(app: &'a TestApp, name: &str) -> Caller<'a> {
    let role = json!({ "name": "on-call", "permissions": ["deploy"], "needs_grant": HELD_BACK });
    let made = app.admin().post(ROLES, &role).await;
    assert!([201, 409].contains(&made.status), "{made:?}");
    app.newcomer(name, "on-call").await
}

fn order(more: &Value) -> Value {
    let mut body =
        json!({ "permissions": ["remote_access"], "reason": "Its disk is full.", "duration_seconds": 3_600 });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

async fn asked(caller: &Caller<'_>, more: Value) -> String {
    let made = caller.post("access_grants", &order(&more)).await.ok(201);
    format!("access_grants/{}", made["access_grant_id"].as_str().unwrap())
}

async fn granted(app: &TestApp, caller: &Caller<'_>, more: Value) -> String {
    let grant = asked(caller, more).await;
    app.admin().post(&format!("{grant}/approve"), &json!({})).await.ok(200);
    grant
}

async fn status(caller: &Caller<'_>, grant: &str) -> Value {
    caller.get(grant).await.ok(200)["status"].clone()
}

#[track_caller]
fn needs_grant(answer: &Answer) {
    let (status, code, text) = answer.v2_error();
    assert_eq!((status, code.as_str()), (403, "grant_needed"), "{text}");
    assert!(text.contains("POST /api/v2/demo/access_grants or `muster access request`"), "{text}");
}

async fn is_asked_for_approved_used_and_over(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let caller = on_call(app, "ada").await;
    needs_grant(&caller.get("port_tunnel").await);
    let made = caller.post("access_grants", &order(&json!({ "devices": [device.uuid] }))).await.ok(201);
    let path = format!("access_grants/{}", made["access_grant_id"].as_str().unwrap());
    let mut expected = json!({
        "access_grant_id": made["access_grant_id"], "user": "ada", "permissions": ["remote_access"],
        "devices": [device.uuid], "reason": "Its disk is full.", "duration_seconds": 3_600, "status": "pending",
        "created_time": "2025-06-09T14:10:44Z", "answer_by_time": "2025-06-10T14:10:44Z", "answered_time": null,
        "answered_by": null, "comment": "", "expires_time": null, "finished_time": null, "finished_by": null,
    });
    assert_eq!(made, expected);
    needs_grant(&caller.get("port_tunnel").await);
    app.wait(Duration::from_secs(60)).await;
    let answer = json!({ "comment": "until noon", "duration_seconds": 1_800 });
    expected["status"] = json!("approved");
    expected["answered_time"] = json!("2025-06-09T14:11:44Z");
    expected["answered_by"] = json!("user:operator");
    expected["comment"] = json!("until noon");
    expected["expires_time"] = json!("2025-06-09T14:41:44Z");
    expected["answer_by_time"] = json!(null);
    assert_eq!(app.operator().post(&format!("{path}/approve"), &answer).await.ok(200), expected);
    assert_eq!(caller.get("port_tunnel").await.ok(200), json!([]));
    app.app().clock().advance(Duration::from_secs(1_799));
    assert_eq!(caller.get("port_tunnel").await.ok(200), json!([]));
    app.app().clock().advance(Duration::from_secs(1));
    // Before anybody has noted it.
    needs_grant(&caller.get("port_tunnel").await);
    expected["status"] = json!("expired");
    expected["expires_time"] = json!(null);
    expected["finished_time"] = json!("2025-06-09T14:41:44Z");
    expected["finished_by"] = json!("server");
    assert_eq!(caller.get(&path).await.ok(200), expected);
    app.wait(Duration::from_secs(5)).await;
    assert_eq!(caller.get(&path).await.ok(200), expected);
    let log = app.audit().await;
    let uuid = made["access_grant_id"].as_str().unwrap();
    let was = json!({
        "user": "ada", "permissions": ["remote_access"], "devices": [device.uuid], "reason": "Its disk is full.",
        "duration_seconds": 3_600, "status": "pending",
    });
    let mut is = was.clone();
    is["status"] = json!("approved");
    is["expires_time"] = json!("2025-06-09T14:41:44Z");
    is["answered_by"] = json!("user:operator");
    is["comment"] = json!("until noon");
    let mut ended = is.clone();
    ended["status"] = json!("expired");
    for (who, what, from, detail) in [
        ("user:ada", "RequestAccess", "127.0.0.1", json!({ "before": null, "after": was })),
        ("user:operator", "ApproveAccess", "127.0.0.1", json!({ "before": was, "after": is })),
        ("server", "RevokeAccess", "", json!({ "before": is, "after": ended })),
    ] {
        let line = format!("{who} {what} access_grant:{uuid} {from} {detail}");
        assert!(log.contains(&line), "{line} is not in {log:#?}");
    }
    let refused = log.iter().filter(|line| line.starts_with("user:ada ListPortTunnels")).count();
    assert_eq!(refused, 3, "{log:#?}");
}

async fn nobody_answers_for_themselves_or_for_what_they_do_not_have(app: &TestApp) {
    let (caller, peer) = (on_call(app, "ada").await, on_call(app, "bob").await);
    let grant = asked(&caller, json!({})).await;
    for how in ["approve", "deny"] {
        let path = format!("{grant}/{how}");
        let own = caller.post(&path, &json!({})).await.v2_error();
        let text = "nobody answers their own request for an access grant";
        assert_eq!((own.0, own.1.as_str(), own.2.as_str()), (403, "forbidden", text));
        for other in [&peer, &app.viewer(), &app.neighbour(), &app.stranger()] {
            other.post(&path, &json!({})).await.refused(404);
        }
    }
    // A peer needs a grant as well, and one that they have does not make them a judge.
    granted(app, &peer, json!({})).await;
    peer.get("port_tunnel").await.ok(200);
    peer.post(&format!("{grant}/approve"), &json!({})).await.refused(404);
    let more = asked(&caller, json!({ "permissions": ["register_and_move_devices", "remote_access"] })).await;
    app.operator().post(&format!("{more}/approve"), &json!({})).await.refused(404);
    assert_eq!(status(&caller, &more).await, "pending");
    // A user who became what may answer still does not answer themselves.
    let roles = json!({ "roles": [{ "project_key": "demo", "role": "operator" }] });
    app.admin().patch("/api/v2/account/users/ada", &roles).await.ok(200);
    caller.post(&format!("{grant}/approve"), &json!({})).await.refused(403);
    app.admin().patch("/api/v2/account/users/ada", &json!({ "is_admin": true })).await.ok(200);
    caller.post(&format!("{grant}/approve"), &json!({})).await.refused(403);
    assert_eq!(status(&app.operator(), &grant).await, "pending");
}

async fn an_answer_is_given_once(app: &TestApp) {
    let caller = on_call(app, "ada").await;
    let denied = asked(&caller, json!({})).await;
    let seen = app.operator().post(&format!("{denied}/deny"), &json!({ "comment": "not today" })).await.ok(200);
    let told = json!([seen["status"], seen["answered_by"], seen["comment"], seen["finished_by"], seen["expires_time"]]);
    assert_eq!(told, json!(["denied", "user:operator", "not today", "user:operator", null]));
    let withdrawn = asked(&caller, json!({})).await;
    caller.post(&format!("{withdrawn}/revoke"), &json!({})).await.ok(200);
    let given_back = granted(app, &caller, json!({})).await;
    caller.post(&format!("{given_back}/revoke"), &json!({})).await.ok(200);
    let taken = granted(app, &caller, json!({})).await;
    app.operator().post(&format!("{taken}/revoke"), &json!({})).await.ok(200);
    for (grant, stands) in [(denied, "denied"), (withdrawn, "revoked"), (given_back, "revoked"), (taken, "revoked")] {
        for how in ["approve", "deny", "revoke"] {
            let refusal = app.operator().post(&format!("{grant}/{how}"), &json!({})).await.v2_error();
            let text = format!("the access grant is {stands} already");
            assert_eq!(refusal, (409, "conflict".to_owned(), text));
        }
    }
    needs_grant(&caller.get("port_tunnel").await);
    let grant = granted(app, &caller, json!({})).await;
    app.operator().post(&format!("{grant}/deny"), &json!({})).await.refused(409);
    assert_eq!(status(&caller, &grant).await, "approved");
}

async fn a_request_that_nobody_answers_lapses(app: &TestApp) {
    let caller = on_call(app, "ada").await;
    let grant = asked(&caller, json!({})).await;
    app.app().clock().advance(Duration::from_secs(24 * 60 * 60));
    assert_eq!(status(&caller, &grant).await, "lapsed");
    let late = app.operator().post(&format!("{grant}/approve"), &json!({})).await.refused(409);
    assert_eq!(late, "the access grant is lapsed already");
    app.wait(Duration::from_secs(1)).await;
    assert_eq!(status(&caller, &grant).await, "lapsed");
    let last = app.audit().await.pop().unwrap();
    assert!(last.starts_with("server DenyAccess access_grant:"), "{last}");
}

async fn lists_what_is_mine_and_what_is_mine_to_answer(app: &TestApp) {
    let (ada, bob) = (on_call(app, "ada").await, on_call(app, "bob").await);
    let mine = asked(&ada, json!({ "reason": "one" })).await;
    let moves = asked(&ada, json!({ "reason": "two", "permissions": ["register_and_move_devices"] })).await;
    asked(&bob, json!({ "reason": "three" })).await;
    let listed = async |caller: &Caller<'_>, query: &str| {
        let page = caller.get(&format!("access_grants{query}")).await.ok(200);
        let reasons: Vec<_> = page["access_grants"].as_array().unwrap().iter().map(|it| it["reason"].clone()).collect();
        (json!(reasons), page["pagination_info"]["total"].clone())
    };
    assert_eq!(listed(&ada, "").await, (json!(["one", "two"]), json!(2)));
    assert_eq!(listed(&bob, "").await, (json!(["three"]), json!(1)));
    assert_eq!(listed(&app.viewer(), "").await, (json!([]), json!(0)));
    assert_eq!(listed(&app.operator(), "").await, (json!(["one", "three"]), json!(2)));
    assert_eq!(listed(&app.admin(), "?mine=false").await, (json!(["one", "two", "three"]), json!(3)));
    assert_eq!(listed(&app.admin(), "?mine=true").await, (json!([]), json!(0)));
    bob.get(&mine).await.refused(404);
    app.operator().get(&moves).await.refused(404);
    app.admin().post(&format!("{mine}/approve"), &json!({})).await.ok(200);
    assert_eq!(listed(&app.operator(), "?status=pending").await, (json!(["three"]), json!(1)));
    assert_eq!(listed(&app.operator(), "?status=approved").await, (json!(["one"]), json!(1)));
    let first = app.admin().get("access_grants?limit=2").await.ok(200);
    let after = first["pagination_info"]["after"].as_str().unwrap();
    assert_eq!(listed(&app.admin(), &format!("?limit=2&after={after}")).await, (json!(["three"]), json!(3)));
    app.app().clock().advance(Duration::from_secs(3_600));
    assert_eq!(listed(&app.operator(), "?status=approved").await, (json!([]), json!(0)), "its time is over");
    for wrong in ["?mine=perhaps", "?status=good", "?limit=0"] {
        app.admin().get(&format!("access_grants{wrong}")).await.refused(400);
    }
}

/// A script for those devices and no others.
fn run_order(devices: &[&str]) -> Value {
    let rules: Vec<_> =
        devices.iter().map(|uuid| json!({ "type": "specific_device", "operand": "is", "value": uuid })).collect();
    json!({ "script": "uptime", "device_filter": { "filters": rules } })
}

async fn run(caller: &Caller<'_>, devices: &[&str]) -> String {
    let made = caller.post("command_runs", &run_order(devices)).await.ok(201);
    format!("command_runs/{}", made["run_id"].as_str().unwrap())
}

async fn commands_run_on_the_devices_of_a_grant_and_on_no_other(app: &TestApp) {
    let mut devices = Vec::new();
    for name in ["one", "two", "three", "four"] {
        devices.push(SimulatedDevice::enroll(app, name).await);
    }
    let own = [devices[0].uuid.as_str(), devices[1].uuid.as_str()];
    let caller = on_call(app, "ada").await;
    let saved = json!({ "name": "uptime", "script": "uptime" });
    app.admin().post("remote_commands", &saved).await.ok(201);
    let everywhere = json!({ "command": "uptime", "device_filter": {} });
    let on_one = json!({ "command": "uptime", "device_filter": run_order(&own[..1])["device_filter"] });
    let whole = app.admin().post("command_runs", &everywhere).await.ok(201);
    needs_grant(&caller.post("command_runs", &on_one).await);
    granted(app, &caller, json!({ "permissions": ["run_remote_commands"], "devices": own })).await;
    let runs = async || caller.get("command_runs").await.ok(200)["pagination_info"]["total"].clone();
    assert_eq!(runs().await, 0);
    let refusal = caller.post("command_runs", &everywhere).await;
    needs_grant(&refusal);
    let expected = "your access grant is not for 2 of the devices that this would act on";
    assert!(refusal.text.contains(expected), "{}", refusal.text);
    let total = app.admin().get("command_runs").await.ok(200)["pagination_info"]["total"].clone();
    assert_eq!(total, 1, "nothing was made");
    let made = caller.post("command_runs", &on_one).await.ok(201);
    assert_eq!((&made["device_count"], &made["created_by"]), (&json!(1), &json!("user:ada")));
    assert_eq!(runs().await, 1);
    needs_grant(&caller.get(&format!("command_runs/{}", whole["run_id"].as_str().unwrap())).await);
    // A script of one's own needs another permission, on the same devices.
    needs_grant(&caller.post("command_runs", &run_order(&own[..1])).await);
    granted(app, &caller, json!({ "permissions": ["edit_remote_commands"], "devices": &own[1..] })).await;
    needs_grant(&caller.post("command_runs", &run_order(&own[..1])).await);
    run(&caller, &own[1..]).await;
    needs_grant(&caller.post("remote_commands", &json!({ "name": "x", "script": "x" })).await);
    granted(app, &caller, json!({ "permissions": ["run_remote_commands"] })).await;
    caller.post("command_runs", &everywhere).await.ok(201);
    assert_eq!(runs().await, 4);
}

/// A file's bytes, in one of the ways to ask for them.
async fn content(caller: &Caller<'_>, method: Method, uuid: &str) -> Answer {
    let place = format!("devices/{uuid}/file_system/content?path=/var/log/a");
    answer(caller.request(method, &place)).await
}

async fn a_grant_for_a_device_is_for_no_other(app: &TestApp) {
    let (device, other) = (SimulatedDevice::enroll(app, "device").await, SimulatedDevice::enroll(app, "other").await);
    let caller = on_call(app, "ada").await;
    let (_link, _ends, own_session) = device_streams::open(app, &device).await;
    let (_other_link, _other_ends, foreign_session) = device_streams::open(app, &other).await;
    granted(app, &caller, json!({ "permissions": HELD_BACK, "devices": [device.uuid] })).await;
    let foreign = app.operator().post("port_tunnel", &json!({ "device_uuid": other.uuid, "port": 22 })).await.ok(201);
    let foreign = foreign["port_tunnel_id"].as_str().unwrap().to_owned();
    let run_of = async |uuid: &str| run(&app.admin(), &[uuid]).await;
    for operation in Operation::ALL.iter().filter(|operation| operation.checks_its_device()) {
        let attempt = async |device: &SimulatedDevice<'_>, tunnel: &str, session: &str| {
            let uuid = device.uuid.as_str();
            match operation {
                Operation::PatchDevice => {
                    caller.patch(&format!("devices/{uuid}"), &json!([{ "op": "remove", "path": "address" }])).await
                }
                Operation::DeleteDevice => caller.delete(&format!("devices/{uuid}")).await,
                Operation::SendMonitor => {
                    caller.post(&format!("monitor/{uuid}"), &json!({ "app_parameters": [] })).await
                }
                Operation::RequestDeviceLogs => {
                    caller.post(&format!("devices/{uuid}/logs"), &json!({ "files_path": "/var/log" })).await
                }
                Operation::GetDeviceFile => caller.get(&format!("devices/{uuid}/files/none")).await,
                Operation::DeleteDeviceFile => caller.delete(&format!("devices/{uuid}/files/none")).await,
                Operation::CreatePortTunnel => {
                    caller.post("port_tunnel", &json!({ "device_uuid": uuid, "port": 22 })).await
                }
                Operation::ListPortTunnels => caller.get("port_tunnel").await,
                Operation::GetPortTunnel => caller.get(&format!("port_tunnel/{tunnel}")).await,
                Operation::DeletePortTunnel => caller.delete(&format!("port_tunnel/{tunnel}")).await,
                Operation::GetDevicePath => caller.get(&format!("devices/{uuid}/file_system?path=/var/log")).await,
                Operation::DeleteDevicePath => {
                    caller.delete(&format!("devices/{uuid}/file_system?path=/var/log/a")).await
                }
                Operation::CreateDeviceFolder => {
                    caller.post(&format!("devices/{uuid}/file_system/folder?path=/var/log/a"), &json!({})).await
                }
                Operation::ReadDeviceFile => content(&caller, Method::GET, uuid).await,
                Operation::HeadDeviceFile => content(&caller, Method::HEAD, uuid).await,
                Operation::WriteDeviceFile => content(&caller, Method::PUT, uuid).await,
                Operation::GetDeviceArchive => {
                    caller.get(&format!("devices/{uuid}/file_system/archive?path=/var/log")).await
                }
                Operation::ListRemoteSessions => caller.get("remote_sessions").await,
                Operation::GetRemoteSession => caller.get(&format!("remote_sessions/{session}")).await,
                Operation::EndRemoteSession => caller.delete(&format!("remote_sessions/{session}")).await,
                Operation::GetSessionRecording => caller.get(&format!("remote_sessions/{session}/recording")).await,
                Operation::CreateCommandRun => caller.post("command_runs", &run_order(&[uuid])).await,
                Operation::ListCommandRuns => caller.get("command_runs").await,
                Operation::GetCommandRun => caller.get(&run_of(uuid).await).await,
                Operation::ListCommandRunDevices => caller.get(&format!("{}/devices", run_of(uuid).await)).await,
                Operation::GetCommandOutput => {
                    caller.get(&format!("{}/devices/{uuid}/output", run_of(uuid).await)).await
                }
                Operation::AbortCommandRun => caller.post(&format!("{}/abort", run_of(uuid).await), &json!({})).await,
                other => panic!("{} asks its device, and is not tried here", other.name()),
            }
        };
        if *operation == Operation::DeleteDevice {
            needs_grant(&attempt(&other, "", "").await);
            continue;
        }
        if let Operation::OpenDeviceStream | Operation::OpenTerminal | Operation::WatchSession = operation {
            let place = match operation {
                Operation::OpenTerminal => format!("devices/{}/terminal", other.uuid),
                Operation::OpenDeviceStream => format!("devices/{}/stream?port=22", other.uuid),
                _ => format!("remote_sessions/{foreign_session}/watch"),
            };
            let (status, body) = device_streams::socket(app, &caller, &place).await.err().unwrap();
            assert_eq!((status, &body["code"]), (403, &json!("grant_needed")), "{}", operation.name());
            continue;
        }
        let own = caller.post("port_tunnel", &json!({ "device_uuid": device.uuid, "port": 22 })).await.ok(201);
        let own = own["port_tunnel_id"].as_str().unwrap();
        let answer = attempt(&device, own, &own_session).await;
        assert!(![401, 403].contains(&answer.status), "{}: {answer:?}", operation.name());
        if matches!(operation, Operation::ListPortTunnels | Operation::ListRemoteSessions | Operation::ListCommandRuns)
        {
            let listed = answer.text;
            assert!(listed.contains(device.uuid.as_str()) && !listed.contains(other.uuid.as_str()), "{listed}");
            continue;
        }
        let refused = attempt(&other, &foreign, &foreign_session).await;
        if *operation == Operation::HeadDeviceFile {
            assert_eq!(refused.status, 403, "without a body, as HEAD is");
        } else {
            needs_grant(&refused);
        }
    }
    // What is about the fleet as a whole needs a grant for the whole.
    let to = json!({ "destination_project_key": "demo", "destination_group_name": "Production" });
    needs_grant(&caller.post(&format!("devices/{}/move", device.uuid), &to).await);
    needs_grant(&caller.post("devices/delete", &json!({ "device_filter": {}, "expected_count": 2 })).await);
    needs_grant(&caller.post("app-parameters", &json!({ "name": "x" })).await);
    granted(app, &caller, json!({ "permissions": HELD_BACK })).await;
    caller.post("app-parameters", &json!({ "name": "x" })).await.ok(201);
    caller.get(&format!("port_tunnel/{foreign}")).await.ok(200);
    let noted =
        app.audit().await.iter().filter(|line| line.starts_with("user:ada CreatePortTunnel fleet:demo")).count();
    assert_eq!(noted, 1, "the refusal is in the log");
}

async fn ends_with_the_role_and_stays_within_the_scope_of_a_token(app: &TestApp) {
    let caller = on_call(app, "ada").await;
    granted(app, &caller, json!({})).await;
    let narrow = json!({ "description": "", "scope": { "permissions": ["deploy"] } });
    let narrow = caller.post("/api/v2/account/tokens", &narrow).await.ok(201);
    let narrow = caller.with_token(narrow["token"].as_str().unwrap());
    assert_eq!(narrow.get("port_tunnel").await.v2_error().1, "forbidden");
    assert_eq!(narrow.post("access_grants", &order(&json!({}))).await.v2_error().1, "forbidden");
    caller.get("port_tunnel").await.ok(200);
    let me = caller.get("/api/v2/account/me").await.ok(200);
    assert_eq!(json!([me["fleets"][0]["permissions"], me["fleets"][0]["needs_grant"]]), json!([["deploy"], HELD_BACK]));
    let roles = json!({ "roles": [{ "project_key": "demo", "role": "viewer" }] });
    app.admin().patch("/api/v2/account/users/ada", &roles).await.ok(200);
    assert_eq!(caller.get("port_tunnel").await.v2_error().1, "forbidden");
}

struct Open {
    id: String,
    _link: Link,
}

async fn open(caller: &Caller<'_>, device: &SimulatedDevice<'_>) -> Open {
    let mut link = device.connect_with(&["port_tunnel"]).await;
    let made = caller.post("port_tunnel", &json!({ "device_uuid": device.uuid, "port": 22 })).await.ok(201);
    let id = made["port_tunnel_id"].as_str().unwrap().to_owned();
    link.next().await;
    let opened = ToServer::Tunnel { tunnel: id.clone(), state: TunnelState::Opened, reason: String::new() };
    link.send(&opened).await;
    link.fence().await;
    Open { id, _link: link }
}

async fn a_tunnel_ends_with_its_grant(app: &TestApp) {
    let (device, other) = (SimulatedDevice::enroll(app, "device").await, SimulatedDevice::enroll(app, "other").await);
    let caller = on_call(app, "ada").await;
    let told = async |tunnel: &Open| {
        keeper::look(app.app()).await.unwrap();
        let seen = app.admin().get(&format!("port_tunnel/{}?enrich_info=true", tunnel.id)).await.ok(200);
        json!([seen["status"], seen["reason"]])
    };
    let (stands, ended) = (json!(["opened", ""]), json!(["closed", "permission_ended"]));
    let grant = granted(app, &caller, json!({ "devices": [device.uuid] })).await;
    granted(app, &caller, json!({ "devices": [other.uuid] })).await;
    let first = open(&caller, &device).await;
    let second = open(&caller, &other).await;
    assert_eq!((told(&first).await, told(&second).await), (stands.clone(), stands.clone()));
    app.operator().post(&format!("{grant}/revoke"), &json!({})).await.ok(200);
    assert_eq!((told(&first).await, told(&second).await), (ended.clone(), stands));
    app.app().clock().advance(Duration::from_secs(3_600));
    assert_eq!(told(&second).await, ended);
}

async fn refuses_wrong_requests(app: &TestApp) {
    let caller = on_call(app, "ada").await;
    let foreign = SimulatedDevice::enroll_with(app, &app.house().second_pairing, "elsewhere").await.uuid;
    for (more, expected) in [
        (json!({ "permissions": [] }), "permissions: names none"),
        (json!({ "permissions": ["fly"] }), "permissions[0]: \"fly\" is no permission"),
        (json!({ "devices": [] }), "devices: names none"),
        (json!({ "devices": ["d-0"] }), "devices[0]: no device of the fleet is called \"d-0\""),
        (json!({ "devices": [foreign] }), "devices[0]: "),
        (json!({ "devices": vec!["d-0"; 101] }), "devices: 101 devices are more than 100"),
        (json!({ "reason": " \n" }), "reason: \" \\n\" is empty"),
        (json!({ "duration_seconds": 4 }), "duration_seconds: 4 is not a number of seconds from 5 to 28800"),
        (json!({ "duration_seconds": 28_801 }), "duration_seconds: 28801 is not"),
        (json!({ "until": "noon" }), "until"),
    ] {
        let refusal = caller.post("access_grants", &order(&more)).await.refused(400);
        assert!(refusal.contains(expected), "{more}: {refusal}");
    }
    let held = caller.post("access_grants", &order(&json!({ "permissions": ["deploy"] }))).await.v2_error();
    assert_eq!((held.0, held.2.as_str()), (409, "permissions: you have \"deploy\" at any time"));
    let none = caller.post("access_grants", &order(&json!({ "permissions": ["manage_groups"] }))).await.v2_error();
    assert_eq!((none.0, none.1.as_str()), (403, "forbidden"));
    for wrong in ["none", "%00", "a%20b"] {
        caller.get(&format!("access_grants/{wrong}")).await.refused(404);
    }
    let shorter = json!({ "access_grant_max_seconds": 600 });
    app.admin().patch("/api/v2/account/fleets/demo", &json!({ "access_grant_max_seconds": 4 })).await.refused(400);
    let fleet = app.admin().patch("/api/v2/account/fleets/demo", &shorter).await.ok(200);
    assert_eq!(fleet["access_grant_max_seconds"], 600);
    caller.post("access_grants", &order(&json!({}))).await.refused(400);
    let grant = asked(&caller, json!({ "duration_seconds": 600 })).await;
    app.admin().post(&format!("{grant}/approve"), &json!({ "duration_seconds": 601 })).await.refused(400);
    app.admin().post(&format!("{grant}/approve"), &json!({ "comment": "\0" })).await.refused(400);
    for _ in 1..20 {
        asked(&caller, json!({ "duration_seconds": 600 })).await;
    }
    let many = caller.post("access_grants", &order(&json!({ "duration_seconds": 600 }))).await.v2_error();
    assert_eq!((many.0, many.1.as_str()), (409, "too_many_requests"));
    assert_eq!(caller.get("access_grants").await.ok(200)["pagination_info"]["total"], 20);
}

async fn a_role_does_not_give_what_it_holds_back(app: &TestApp) {
    let both = json!({ "name": "x", "permissions": ["deploy"], "needs_grant": ["remote_access", "deploy"] });
    let refusal = app.admin().post(ROLES, &both).await.refused(400);
    assert_eq!(refusal, "needs_grant: \"deploy\" stands in permissions as well, which need no grant");
    let caller = on_call(app, "ada").await;
    let path = format!("{ROLES}/on-call");
    let mut expected = json!({
        "name": "on-call", "permissions": ["deploy"], "needs_grant": HELD_BACK, "is_built_in": false, "user_count": 1,
    });
    assert_eq!(app.admin().get(&path).await.ok(200), expected);
    expected["permissions"] = json!([]);
    assert_eq!(app.admin().patch(&path, &json!({ "permissions": [] })).await.ok(200), expected);
    app.admin().patch(&path, &json!({ "permissions": ["remote_access"] })).await.refused(400);
    // What one role gives, no other holds back.
    let roles = ["on-call", "operator"].map(|role| json!({ "project_key": "demo", "role": role }));
    app.admin().patch("/api/v2/account/users/ada", &json!({ "roles": roles })).await.ok(200);
    caller.get("port_tunnel").await.ok(200);
    let change = json!({ "permissions": ["remote_access"], "needs_grant": [] });
    let changed = app.admin().patch(&path, &change).await.ok(200);
    assert_eq!((&changed["permissions"], changed.get("needs_grant")), (&json!(["remote_access"]), None));
    let log = app.audit().await;
    let detail = json!({
        "before": { "permissions": [], "needs_grant": HELD_BACK }, "after": { "permissions": ["remote_access"] },
    });
    assert!(log.contains(&format!("user:admin PatchRole role:on-call 127.0.0.1 {detail}")), "{log:#?}");
}

async fn the_other_faces_say_so_too(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let caller = on_call(app, "ada").await;
    let body = json!({ "device_token": device.token, "tag": "a" });
    let refusal = caller.v1_post("/v1/devices_details", &body).await.v1_error();
    assert!(refusal.contains("this needs the permission modify_devices in the fleet"), "{refusal}");
    assert!(refusal.contains("/access_grants"), "{refusal}");
    needs_grant(&caller.post("/api/v2/account/apps", &json!({ "name": "kiosk" })).await);
    granted(app, &caller, json!({ "permissions": ["modify_devices"], "devices": [device.uuid] })).await;
    needs_grant(&caller.post("/api/v2/account/apps", &json!({ "name": "kiosk" })).await);
    granted(app, &caller, json!({ "permissions": ["modify_devices"] })).await;
    caller.post("/api/v2/account/apps", &json!({ "name": "kiosk" })).await.ok(201);
    caller.v1_post("/v1/devices_details", &body).await.ok(200);
}
