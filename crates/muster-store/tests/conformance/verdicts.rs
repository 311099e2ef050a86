//! The statements that change many targets at once, held against the pure rule.

use std::collections::BTreeMap;

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::target::{Reason, Target, TargetEvent, TargetStatus};
use muster_store::testing::{TestDatabase, seed_devices};
use muster_store::{ConnectionTrait, Tx};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sea_orm::Statement;

use crate::fixture::{DEADLINES, House};

on_both_engines!(the_abort_of_many_agrees_with_the_rule, the_expiry_of_many_agrees_with_the_rule);

const TARGETS: usize = 400;

async fn the_abort_of_many_agrees_with_the_rule(db: TestDatabase) {
    let house = House::on(db).await;
    let (deployment, before) = random_targets(&house, 21).await;
    for _ in 0..2 {
        house.write(async |tx| tx.abort_targets(deployment, None).await).await.unwrap();
        assert_agree(&house, &before, &TargetEvent::AbortRequested).await;
    }
}

async fn the_expiry_of_many_agrees_with_the_rule(db: TestDatabase) {
    let house = House::on(db).await;
    let (_, before) = random_targets(&house, 22).await;
    let expired = house.write(async |tx| tx.expire_targets(TARGETS as u64).await).await.unwrap();
    assert_agree(&house, &before, &TargetEvent::DeadlinePassed).await;
    let after = load(&house).await;
    let changed = before.iter().filter(|(id, target)| after[id] != **target).count();
    assert_eq!(expired, changed as u64);
}

async fn assert_agree(house: &House, before: &BTreeMap<RowId, Target>, event: &TargetEvent<'_>) {
    let (after, now) = (load(house).await, house.db.clock().now());
    for (id, target) in before {
        let expected = target.apply(event, now, DEADLINES).map_or_else(|_| target.clone(), |(next, _)| next);
        assert_eq!(after[id], expected, "{event:?} of {target:?}");
    }
}

/// A deployment whose targets stand in every way that a target can, near the present moment.
async fn random_targets(house: &House, seed: u64) -> (RowId, BTreeMap<RowId, Target>) {
    seed_devices(house.store(), &house.fleet, house.production, TARGETS).await.unwrap();
    let deployed = house.deploy(&house.everything()).await;
    let now = house.db.clock().now();
    let fresh = load(house).await;
    let set = house.write(async |tx| {
        let mut rng = StdRng::seed_from_u64(seed);
        for id in fresh.keys() {
            store(&tx, *id, &random_target(&mut rng, now)).await?;
        }
        Ok(())
    });
    set.await.unwrap();
    (deployed.id, load(house).await)
}

fn random_target(rng: &mut StdRng, now: Timestamp) -> Target {
    let mut near = |millis: i64| Timestamp::from_millis(now.as_millis() + rng.random_range(-millis..=millis));
    let (deadline_at, long_deadline_at, started_at) = (near(2), near(7_200_000), near(1_000));
    let status = TargetStatus::ALL[rng.random_range(0..5)];
    Target {
        status,
        reason: if status.is_final() { Reason::new("some", "Some end.") } else { Reason::default() },
        dispatched_epoch: rng.random_range(0..3),
        reported_seq: rng.random_range(0..3),
        is_abort_requested: rng.random(),
        started_at: if rng.random() { started_at } else { Timestamp::NEVER },
        finished_at: if status.is_final() { started_at } else { Timestamp::NEVER },
        deadline_at: if rng.random() { deadline_at } else { long_deadline_at },
        pending_until_at: now,
        ask_again_at: Timestamp::NEVER,
    }
}

async fn store(tx: &Tx, device_id: RowId, target: &Target) -> muster_store::Result<()> {
    let sql = format!(
        r#"UPDATE "targets" SET "status" = {}, "reason_code" = '{}', "reason" = '{}', "dispatched_epoch" = {},
           "reported_seq" = {}, "is_abort_requested" = {}, "started_at" = {}, "finished_at" = {}, "deadline_at" = {}
           WHERE "device_id" = {device_id}"#,
        target.status.code(),
        target.reason.code,
        target.reason.text,
        target.dispatched_epoch,
        target.reported_seq,
        target.is_abort_requested,
        target.started_at.as_millis(),
        target.finished_at.as_millis(),
        target.deadline_at.as_millis(),
    );
    tx.execute_unprepared(&sql).await?;
    Ok(())
}

async fn load(house: &House) -> BTreeMap<RowId, Target> {
    let read = house.store().read();
    let all = Statement::from_string(read.get_database_backend(), r#"SELECT * FROM "targets""#);
    let rows = read.query_all_raw(all).await.unwrap();
    let target = |row: &sea_orm::QueryResult| {
        let number = |column| row.try_get::<i64>("", column).unwrap();
        let text = |column| row.try_get::<String>("", column).unwrap();
        let moment = |column| Timestamp::from_millis(number(column));
        let target = Target {
            status: TargetStatus::from_code(row.try_get("", "status").unwrap()).unwrap(),
            reason: Reason { code: text("reason_code"), text: text("reason") },
            dispatched_epoch: number("dispatched_epoch"),
            reported_seq: number("reported_seq"),
            is_abort_requested: row.try_get("", "is_abort_requested").unwrap(),
            started_at: moment("started_at"),
            finished_at: moment("finished_at"),
            deadline_at: moment("deadline_at"),
            pending_until_at: moment("pending_until_at"),
            ask_again_at: moment("ask_again_at"),
        };
        (number("device_id"), target)
    };
    rows.iter().map(target).collect()
}
