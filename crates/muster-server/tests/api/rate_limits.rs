//! Too many calls of API v1.

use std::num::NonZeroU32;

use muster_server::ServerConfig;
use reqwest::Method;
use serde_json::json;

use crate::app::TestApp;
use crate::caller::Answer;
use crate::device::SimulatedDevice;

on_both_engines!(
    with: super::few_calls;
    a_device_token_has_three_calls_a_minute,
    an_account_token_has_its_own_limit,
);

fn few_calls(config: &mut ServerConfig) {
    config.v1_device_calls_per_minute = NonZeroU32::new(3).unwrap();
    config.v1_account_calls_per_minute = NonZeroU32::new(6).unwrap();
}

/// As documented: an empty object, and how long to wait at most.
fn assert_limited(answer: &Answer, wait_s_max: u64) {
    assert_eq!(answer.ok(429), json!({}));
    let wait: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=wait_s_max).contains(&wait), "{answer:?}");
    answer.header("x-request-id");
}

async fn a_device_token_has_three_calls_a_minute(app: &TestApp) {
    let (busy, idle) = (SimulatedDevice::enroll(app, "busy").await, SimulatedDevice::enroll(app, "idle").await);
    let set = async |device: &SimulatedDevice<'_>| {
        let body = json!({ "device_token": device.token, "trigger_set": true });
        app.operator().v1(Method::POST, "/v1/set_update_trigger", &body).await
    };
    for _ in 0..3 {
        set(&busy).await.ok(200);
    }
    assert_limited(&set(&busy).await, 20);
    set(&idle).await.ok(200);
}

async fn an_account_token_has_its_own_limit(app: &TestApp) {
    let list = async |caller: crate::caller::Caller<'_>| caller.v1_get("/v1/get_devices_state", &json!({})).await;
    for _ in 0..6 {
        list(app.viewer()).await.ok(200);
    }
    assert_limited(&list(app.viewer()).await, 10);
    list(app.operator()).await.ok(200);
    app.viewer().get("devices").await.ok(200);
}
