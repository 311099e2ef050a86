//! The story itself: each part is a call that anyone can repeat, and is checked.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use muster_link::ServerPin;
use muster_server::fleet::bootstrap::{FIRST_FLEET, Tokens};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::device::Device;

const TAG: &str = "quickstart";
/// How long each part of the story may take.
const PART_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at something that is awaited.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// What is deployed.
const FLOW: &str = r#"flows:
  Say hello:
    steps:
      - name: who-am-i
        run: uname -srm
      - name: write-greeting
        run: echo "Hello ${{ inputs.name }}, from $(hostname)" > "$INPUT_FILE"
      - name: read-greeting
        run: cat "$INPUT_FILE" && rm "$INPUT_FILE"
on:
  workflow-dispatch:
    inputs:
      name: {}
      file: {}
"#;

/// Tells the story; an error when any part of it fails.
pub(super) async fn tell(client: &Client, device: &Device) -> anyhow::Result<()> {
    online(client, device).await?;
    tag(client, device).await?;
    update(client, device).await
}

async fn online(client: &Client, device: &Device) -> anyhow::Result<()> {
    let body = json!({ "device_id": device.uuid });
    let is_online = async || {
        let state = client.v1(Method::GET, "get_device_state", body.clone()).await?;
        Ok((state["message"]["device_status"] == "online").then_some(()))
    };
    until("the device to come online", is_online).await?;
    say!("Device    {} is online (agent process {})", device.uuid, device.process_id());
    Ok(())
}

async fn tag(client: &Client, device: &Device) -> anyhow::Result<()> {
    let change = json!({ "device_token": device.token, "tag": TAG });
    client.v1(Method::POST, "devices_details", change).await?;
    let found = client.v2(Method::GET, &format!("devices?tags={TAG}")).await?;
    let found: Vec<_> = found["devices"].as_array().into_iter().flatten().map(|item| &item["device_uuid"]).collect();
    ensure!(found == [&json!(device.uuid)], "the devices with the tag are {found:?}");
    say!("Tag       \"{TAG}\" put on it; the devices with that tag: {}", device.uuid);
    let filter = json!([{ "type": "tag", "operand": "is", "value": TAG }]);
    let filter = json!({ "project": { "name": FIRST_FLEET }, "groups": [], "filters": filter });
    client.v1(Method::DELETE, "device_tags", json!({ "tag_name": TAG, "device_filter": filter })).await?;
    let now = client.v2(Method::GET, &format!("devices/{}?enrich_info=true", device.uuid)).await?;
    ensure!(now["tags"] == json!([]), "the tag is still there: {}", now["tags"]);
    say!("Tag       \"{TAG}\" taken off every device that has it; the device's tags: none");
    Ok(())
}

async fn update(client: &Client, device: &Device) -> anyhow::Result<()> {
    let created = client.v2_yaml("update-flows", FLOW).await?;
    let flow = created["update_flows"][0]["uuid"].as_str().context("no flow was created")?.to_owned();
    let order = json!({
        "device_filter": {
            "groups": [],
            "filters": [{ "type": "specific_device", "operand": "is", "value": device.uuid }],
        },
        "deployment_configuration": {
            "flow_uuid": flow,
            "comment": "told by quickstart",
            "app": { "name": "default_app", "version": "v1.0" },
            "parameters_mapping": { "name": "fleet", "file": device.greeting },
        },
    });
    let created = client.v2_json(Method::POST, "deployments", &order).await?;
    let deployment = created["deployment_uuid"].as_str().context("no deployment was created")?;
    say!("Update    flow {flow} deployed as {deployment}");
    let path = format!("deployments/{deployment}/devices/{}?enrich_info=true", device.uuid);
    let is_final = async || {
        let target = client.v2(Method::GET, &path).await?;
        let is_open = matches!(target["status"].as_str(), Some("Pending" | "In Progress"));
        Ok((!is_open).then_some(target))
    };
    let target = until("the deployment to end", is_final).await?;
    print_steps(&target);
    ensure!(target["status"] == "Succeeded", "the deployment ended {}: {}", target["status"], target["reason"]);
    say!("Update    Succeeded; the device now has default_app v1.0");
    Ok(())
}

fn print_steps(target: &Value) {
    for step in target["steps"].as_array().into_iter().flatten() {
        let name = step["name"].as_str().unwrap_or_default();
        say!("  step    {name}: exit code {}", step["exit_code"]);
        for stream in ["stdout", "stderr"] {
            step[stream].as_str().unwrap_or_default().lines().for_each(|line| say!("            {line}"));
        }
    }
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let deadline = tokio::time::Instant::now() + PART_TIMEOUT;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if tokio::time::Instant::now() >= deadline {
            bail!("waited {} s for {what}", PART_TIMEOUT.as_secs());
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}

/// What a newcomer may type next.
pub(super) fn what_next(url: &str, pin: Option<ServerPin>, tokens: &Tokens, device: &Device) {
    let curl = pin.map_or_else(|| "curl".to_owned(), |pin| format!("curl --insecure --pinnedpubkey {pin}"));
    let enroll = pin.map(|pin| format!(" --server-pin {pin}")).unwrap_or_default();
    say!("\nTry next, API v1 (whether the device is online):");
    say!("  {curl} -X GET {url}/v1/get_device_state -H 'Content-Type: application/json' \\");
    say!("    -d '{{\"user_token\": \"{}\", \"device_id\": \"{}\"}}'", tokens.user.expose(), device.uuid);
    say!("API v2 (the fleet's devices):");
    say!("  {curl} {url}/api/v2/{FIRST_FLEET}/devices -H 'Authorization: Bearer {}'", tokens.access.expose());
    say!("Another device:");
    say!("  muster-agent enroll --server {url}{enroll} --pairing-token {} --state DIR", tokens.pairing.expose());
    say!("  muster-agent run --state DIR");
}
