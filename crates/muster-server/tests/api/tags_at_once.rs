//! Many administrators change the tags of one device at once: nobody's change is
//! lost, and what was acknowledged is so.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use muster_core::names::UserName;
use muster_server::fleet::bootstrap::insert_tokens;
use muster_store::accounts::NewUser;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::device::SimulatedDevice;
use crate::house::Keys;

on_both_engines!(acknowledged_changes_of_tags_are_never_lost, a_tag_that_comes_and_goes_ends_as_its_owner_left_it);

/// Tasks of each kind.
const TASKS: usize = 4;
/// Changes that each task makes, one after the other.
const ROUNDS: usize = 6;

fn added(round: usize, task: usize) -> String {
    format!("added {task} {round}")
}

fn removed(round: usize, task: usize) -> String {
    format!("removed {task} {round}")
}

fn swept(round: usize, task: usize) -> String {
    format!("swept {task} {round}")
}

fn named(round: usize, task: usize) -> String {
    format!("named {task} {round}")
}

fn each(name: fn(usize, usize) -> String) -> impl Iterator<Item = String> {
    (0..ROUNDS).flat_map(move |round| (0..TASKS).map(move |task| name(round, task)))
}

async fn seen(device: &SimulatedDevice<'_>) -> BTreeSet<String> {
    let tags: Vec<String> = serde_json::from_value(device.seen().await["tags"].clone()).unwrap();
    let unique: BTreeSet<String> = tags.iter().cloned().collect();
    assert_eq!(unique.len(), tags.len(), "a tag twice: {tags:?}");
    unique
}

/// The tokens of another administrator of the same account.
async fn second_admin(app: &TestApp) -> Keys {
    let user = NewUser {
        account_id: app.house().account_id,
        name: UserName::parse("second admin").unwrap(),
        password_hash: "$argon2id$".to_owned(),
        is_admin: true,
    };
    app.write(async |tx| {
        let user = tx.insert_user(&user).await?;
        let tokens = insert_tokens(&tx, &user, &app.house().fleet, "of a test").await?;
        Ok(Keys { user: tokens.user, access: tokens.access, pairing: tokens.pairing })
    })
    .await
}

/// One administrator's half of the calls bears one token, the other half another's.
fn keys(app: &TestApp, others: &Keys, task: usize) -> Keys {
    if task.is_multiple_of(2) { app.admin().keys.clone() } else { others.clone() }
}

async fn add(app: &TestApp, keys: Keys, uuid: &str, names: &[String]) {
    app.bearer(keys).change(uuid, &json!([{ "op": "add", "path": "tags", "value": names }])).await;
}

async fn acknowledged_changes_of_tags_are_never_lost(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "contended").await;
    let bystander = SimulatedDevice::enroll(app, "bystander").await;
    let others = second_admin(app).await;
    let before: Vec<String> = each(removed).chain(each(swept)).chain(["kept".to_owned()]).collect();
    for uuid in [&device.uuid, &bystander.uuid] {
        add(app, others.clone(), uuid.as_str(), &before).await;
    }
    let (device_ref, others) = (&device, &others);
    let adding = join_all((0..TASKS).map(async |task| {
        for round in 0..ROUNDS {
            add(app, keys(app, others, task), device_ref.uuid.as_str(), &[added(round, task)]).await;
        }
    }));
    let removing = join_all((0..TASKS).map(async |task| {
        for round in 0..ROUNDS {
            let operations = json!([{ "op": "remove", "path": "tags", "value": [removed(round, task)] }]);
            app.bearer(keys(app, others, task)).change(device_ref.uuid.as_str(), &operations).await;
        }
    }));
    let naming = join_all((0..TASKS).map(async |task| {
        for round in 0..ROUNDS {
            let body = json!({ "device_token": device_ref.token, "tag": named(round, task) });
            app.bearer(keys(app, others, task)).v1_post("/v1/devices_details", &body).await.ok(200);
        }
    }));
    let sweeping = join_all((0..TASKS).map(async |task| {
        for round in 0..ROUNDS {
            sweep(app, keys(app, others, task), device_ref, &swept(round, task)).await;
        }
    }));
    tokio::join!(adding, removing, naming, sweeping);
    let expected: BTreeSet<String> = each(added).chain(each(named)).chain(["kept".to_owned()]).collect();
    assert_eq!(seen(&device).await, expected);
    assert_eq!(seen(&bystander).await, before.into_iter().collect(), "nobody asked for this one");
}

async fn sweep(app: &TestApp, keys: Keys, device: &SimulatedDevice<'_>, tag: &str) {
    let filters: Value = json!([
        { "type": "specific_device", "operand": "is", "value": device.uuid },
        { "type": "tag", "operand": "is", "value": tag },
    ]);
    let filter = json!({ "project": { "name": "Demo fleet" }, "groups": [], "filters": filters });
    let body = json!({ "tag_name": tag, "device_filter": filter });
    app.bearer(keys).v1_delete("/v1/device_tags", &body).await.ok(200);
}

/// Each task puts its own tag on and takes it off, in each of the ways, and sees at
/// once what it did, however many others change the same device.
async fn a_tag_that_comes_and_goes_ends_as_its_owner_left_it(app: &TestApp) {
    let device = SimulatedDevice::enroll(app, "contended").await;
    let others = second_admin(app).await;
    let (device_ref, others) = (&device, &others);
    let tasks = (0..2 * TASKS).map(async |task| {
        let own = format!("own {task}");
        for round in 0..ROUNDS {
            let keys = keys(app, others, task + round);
            if (task + round).is_multiple_of(2) {
                add(app, keys.clone(), device_ref.uuid.as_str(), std::slice::from_ref(&own)).await;
            } else {
                let body = json!({ "device_token": device_ref.token, "tag": own });
                app.bearer(keys.clone()).v1_post("/v1/devices_details", &body).await.ok(200);
            }
            assert!(seen(device_ref).await.contains(&own), "{own} was acknowledged");
            sweep(app, keys, device_ref, &own).await;
            assert!(!seen(device_ref).await.contains(&own), "{own} was taken off");
        }
        if task.is_multiple_of(2) {
            add(app, others.clone(), device_ref.uuid.as_str(), &[own]).await;
        }
    });
    join_all(tasks).await;
    let left: BTreeSet<String> = (0..2 * TASKS).step_by(2).map(|task| format!("own {task}")).collect();
    assert_eq!(seen(&device).await, left);
}
