//! `POST /v1/set_update_trigger`.

use serde_json::json;

use crate::app::TestApp;
use crate::device::SimulatedDevice;

on_both_engines!(sets_and_clears_the_trigger, refuses_what_is_neither_true_nor_false);

const PATH: &str = "/v1/set_update_trigger";

async fn sets_and_clears_the_trigger(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    for is_set in [true, true, false, false] {
        let body = json!({ "device_token": device.token, "trigger_set": is_set });
        let answer = app.operator().v1_post(PATH, &body).await;
        assert_eq!(answer.ok(200), json!({ "message": "Success" }));
        assert_eq!(device.seen().await["is_update_trigger_set"], is_set);
    }
    let expected = format!(
        "user:operator SetUpdateTrigger device:{} 127.0.0.1 {}",
        device.uuid, r#"{"after":{"is_update_trigger_set":true},"before":{"is_update_trigger_set":false}}"#,
    );
    assert_eq!(app.audit().await[1], expected);
}

async fn refuses_what_is_neither_true_nor_false(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "device").await;
    let cases = [
        (json!({ "device_token": device.token }), "trigger_set: is required"),
        (
            json!({ "device_token": device.token, "trigger_set": "true" }),
            "trigger_set: invalid type: string \"true\", expected a boolean",
        ),
        (
            json!({ "device_token": device.token, "trigger_set": 1 }),
            "trigger_set: invalid type: integer `1`, expected a boolean",
        ),
        (json!({ "trigger_set": true }), "device_token: is required"),
        (
            json!({ "device_token": "md_x", "trigger_set": true }),
            "device_token: is not a valid device token of the account",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(app.operator().v1_post(PATH, &body).await.v1_error(), expected);
    }
    assert_eq!(device.seen().await["is_update_trigger_set"], false);
}
