//! `POST /link/v1/enroll`.

use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_core::names::GroupName;
use muster_core::token::{Secret, TokenKind};
use muster_link::{ENROLL_PATH, EnrollRequest, Facts};
use muster_store::testing::START;
use muster_store::tokens::NewToken;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::caller::{Answer, answer};
use crate::device::{SimulatedDevice, enrolled, facts, post_enrolment};

on_both_engines!(
    makes_a_device_of_the_fleet,
    names_a_device_after_its_host,
    the_same_key_is_the_same_device,
    needs_the_secret_half_of_the_key,
    a_pairing_token_may_be_limited,
    an_answer_that_was_lost_is_given_again,
    refuses_a_bad_pairing_token,
    a_key_belongs_to_one_account,
    refuses_a_wrong_body,
);

fn request(app: &TestApp, pairing: &Secret) -> EnrollRequest {
    EnrollRequest::new(&app.identity(), pairing.clone(), facts())
}

async fn devices(app: &TestApp) -> u64 {
    app.admin().get("devices").await.ok(200)["pagination_info"]["total"].as_u64().unwrap()
}

async fn makes_a_device_of_the_fleet(app: &TestApp) {
    let mut request = request(app, &app.house().pairing);
    request.name = Some("shop 7".to_owned().try_into().unwrap());
    request.group = Some(GroupName::parse("Test").unwrap());
    let answer = post_enrolment(app, &request).await;
    let made = enrolled(&answer);
    let expected = json!({
        "device_uuid": made.device_uuid, "device_token": made.device_token, "name": "shop 7", "group": "Test",
    });
    assert_eq!(answer.ok(200), expected);
    assert!(made.device_token.expose().starts_with("md_"));
    let question = json!({ "device_token": made.device_token });
    let state = app.viewer().v1_get("/v1/get_device_state", &question).await.ok(200);
    assert_eq!(state["message"]["device_id"], json!(made.device_uuid));
    let log = app.audit().await;
    let line = format!(
        r#"pairing-token EnrollDevice device:{} 127.0.0.1 {{"group":"Test","name":"shop 7"}}"#,
        made.device_uuid
    );
    assert_eq!(log, [line]);
}

async fn names_a_device_after_its_host(app: &TestApp) {
    for (hostname, expected) in [("edge-7", "edge-7"), ("", "New Device"), (" \u{0}", "New Device")] {
        let mut request = request(app, &app.house().pairing);
        request.facts = Facts { hostname: hostname.to_owned(), ..facts() };
        let made = enrolled(&post_enrolment(app, &request).await);
        assert_eq!((made.name.as_str(), made.group.as_str()), (expected, "Production"), "{hostname:?}");
    }
}

async fn the_same_key_is_the_same_device(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let again = EnrollRequest::new(&device.identity, app.house().pairing.clone(), facts());
    let made = enrolled(&post_enrolment(app, &again).await);
    assert_eq!((&made.device_uuid, made.name.as_str()), (&device.uuid, "device"), "it keeps its name");
    assert_ne!(made.device_token, device.token);
    let state =
        async |token: &Secret| app.viewer().v1_get("/v1/get_device_state", &json!({ "device_token": token })).await;
    state(&made.device_token).await.ok(200);
    let refusal = state(&device.token).await.v1_error();
    assert_eq!(refusal, "device_token: is not a valid device token of the account");
    assert_eq!(devices(app).await, 1);
}

async fn needs_the_secret_half_of_the_key(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let mut stolen = request(app, &app.house().pairing);
    stolen.public_key = device.identity.public_key();
    let mut other_token = EnrollRequest::new(&device.identity, app.house().second_pairing.clone(), facts());
    other_token.pairing_token = app.house().pairing.clone();
    let mut empty = request(app, &app.house().pairing);
    empty.proof = String::new();
    for request in [stolen, other_token, empty] {
        let refusal = post_enrolment(app, &request).await.refused(400);
        assert_eq!(refusal, "proof: does not prove that the sender holds the secret half of public_key");
    }
    let state = app.viewer().v1_get("/v1/get_device_state", &json!({ "device_token": device.token })).await;
    state.ok(200);
    assert_eq!(devices(app).await, 1);
}

async fn token(app: &TestApp, uses_max: Option<u32>, expires_at: Timestamp) -> Secret {
    let fleet = &app.house().fleet;
    let new = NewToken {
        fleet_id: Some(fleet.id),
        uses_max,
        expires_at,
        ..NewToken::of(TokenKind::Pairing, fleet.account_id, "limited")
    };
    app.write(async |tx| Ok(tx.insert_token(&new).await?)).await
}

#[track_caller]
fn assert_not_valid(answer: &Answer) {
    assert_eq!(answer.refused(401), "pairing_token: is not valid, or used up");
}

async fn a_pairing_token_may_be_limited(app: &TestApp) {
    let twice = token(app, Some(2), Timestamp::FOREVER).await;
    let first = request(app, &twice);
    for _ in 0..2 {
        enrolled(&post_enrolment(app, &first).await);
    }
    enrolled(&post_enrolment(app, &request(app, &twice)).await);
    assert_not_valid(&post_enrolment(app, &request(app, &twice)).await);
    assert_eq!(devices(app).await, 2);
    let short = token(app, None, START.after(Duration::from_secs(60))).await;
    enrolled(&post_enrolment(app, &request(app, &short)).await);
    app.wait(Duration::from_secs(60)).await;
    assert_not_valid(&post_enrolment(app, &request(app, &short)).await);
}

async fn an_answer_that_was_lost_is_given_again(app: &TestApp) {
    let once = token(app, Some(1), Timestamp::FOREVER).await;
    let lost = request(app, &once);
    let first = enrolled(&post_enrolment(app, &lost).await);
    let again = enrolled(&post_enrolment(app, &lost).await);
    assert_eq!((&again.device_uuid, &again.name), (&first.device_uuid, &first.name));
    let question = json!({ "device_token": again.device_token });
    app.viewer().v1_get("/v1/get_device_state", &question).await.ok(200);
    let listed = app.admin().get("pairing-tokens").await.ok(200);
    let uses: Vec<_> = listed["pairing_tokens"].as_array().unwrap().iter().map(|it| it["uses"].clone()).collect();
    assert_eq!(uses.last(), Some(&json!(1)), "it counts once: {uses:?}");
    assert_not_valid(&post_enrolment(app, &request(app, &once)).await);
    // Another token's device does not get in by one that is used up.
    let device = SimulatedDevice::enroll(app, "other").await;
    assert_not_valid(&post_enrolment(app, &EnrollRequest::new(&device.identity, once.clone(), facts())).await);
    let account_id = app.house().account_id;
    app.write(async |tx| Ok(tx.revoke_tokens_described(account_id, "limited").await?)).await;
    assert_not_valid(&post_enrolment(app, &lost).await);
    assert_eq!(devices(app).await, 2);
}

async fn refuses_a_bad_pairing_token(app: &TestApp) {
    let revoked = token(app, None, Timestamp::FOREVER).await;
    let account_id = app.house().account_id;
    app.write(async |tx| Ok(tx.revoke_tokens_described(account_id, "limited").await?)).await;
    let admin = app.admin().keys;
    for secret in [revoked, admin.user, admin.access, Secret::received(""), Secret::received("mp_' OR 1=1 --")] {
        assert_not_valid(&post_enrolment(app, &request(app, &secret)).await);
    }
    assert_eq!(devices(app).await, 0);
}

async fn a_key_belongs_to_one_account(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let abroad = EnrollRequest::new(&device.identity, app.house().foreign_pairing.clone(), facts());
    let refusal = post_enrolment(app, &abroad).await.refused(400);
    assert_eq!(refusal, "public_key: is enrolled elsewhere");
    assert_eq!(device.row().await.account_id, app.house().account_id);
}

async fn refuses_a_wrong_body(app: &TestApp) {
    let good = serde_json::to_value(request(app, &app.house().pairing)).unwrap();
    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    let cases = [
        (json!({}), "pairing_token: is required"),
        (json!([]), "invalid type: sequence, expected an object"),
        (with("pairing_token", json!(7)), "pairing_token: invalid type: integer `7`, expected a string"),
        (with("public_key", json!("AAAA")), "public_key: not an Ed25519 public key in base64"),
        (with("facts", json!(null)), "facts: invalid type: null, expected an object"),
        (with("facts", json!({ "hostname": 1 })), "facts.hostname: invalid type: integer `1`, expected a string"),
        (with("name", json!("")), "name: \"\" is empty"),
        (with("group", json!("a\u{0}")), "group: \"a\\0\" holds the control character U+0000"),
        (with("group", json!("Nowhere")), "group: no group of the fleet is called \"Nowhere\""),
    ];
    for (body, expected) in cases {
        let request = app.anon().bare(Method::POST, ENROLL_PATH).json(&body);
        let refusal = answer(request).await.refused(400);
        assert!(refusal.starts_with(expected), "{body}: {refusal}");
    }
    assert_eq!(devices(app).await, 0);
}
