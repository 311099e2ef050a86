//! The audit log.

use muster_core::access::Operation;
use muster_core::names::AccountName;
use muster_store::audit::{AuditFilter, NewAuditEvent};
use muster_store::testing::TestDatabase;
use muster_store::{Result, StoreError};

use crate::fixture::{House, parsed, text};

on_both_engines!(
    entries_are_read_newest_first,
    an_entry_is_written_with_what_it_tells_or_not_at_all,
    many_entries_are_two_statements,
);

fn event(account_id: i64, subject: &str) -> NewAuditEvent {
    NewAuditEvent {
        account_id,
        fleet_id: None,
        actor: "user:ada".to_owned(),
        action: Operation::DeleteDeviceTags,
        subject: subject.to_owned(),
        source_ip: "192.0.2.9".to_owned(),
        detail: serde_json::json!({"filter": "\u{0} odd"}),
    }
}

async fn entries_are_read_newest_first(db: TestDatabase) {
    let house = House::on(db).await;
    let foreign = parsed(AccountName::parse("Other"));
    let foreign = house.write(async |tx| tx.insert_account(&foreign).await).await.unwrap();
    for subject in ["tag:a", "tag:b", "tag:c"] {
        house.write(async |tx| tx.audit(&event(house.account, subject)).await).await.unwrap();
        house.write(async |tx| tx.audit(&event(foreign, subject)).await).await.unwrap();
    }
    let read = house.store().read();
    let first = read.audit_page(house.account, &AuditFilter::default(), None, 2).await.unwrap();
    assert_eq!(first.iter().map(|e| e.subject.as_str()).collect::<Vec<_>>(), ["tag:c", "tag:b"]);
    let rest = read.audit_page(house.account, &AuditFilter::default(), Some(first[1].id), 2).await.unwrap();
    assert_eq!(rest.iter().map(|e| e.subject.as_str()).collect::<Vec<_>>(), ["tag:a"]);
    let entry = &rest[0];
    assert_eq!((entry.actor.as_str(), entry.source_ip.as_str()), ("user:ada", "192.0.2.9"));
    assert_eq!((entry.action.as_str(), entry.at), ("DeleteDeviceTags", house.db.clock().now()));
    let detail: serde_json::Value = serde_json::from_str(&entry.detail).unwrap();
    assert_eq!(detail, event(house.account, "").detail);
}

async fn an_entry_is_written_with_what_it_tells_or_not_at_all(db: TestDatabase) {
    let house = House::on(db).await;
    let device = house.device("one").await;
    let failed: Result<()> = house
        .write(async |tx| {
            tx.audit(&event(house.account, "device")).await?;
            let changes = [muster_core::patch::DeviceChange::Description(text("x"))];
            tx.change_device(&device, &changes, |i| format!("changes[{i}]")).await?;
            Err(StoreError::Corrupt { table: "none", problem: "a test".to_owned() })
        })
        .await;
    assert!(failed.is_err());
    assert_eq!(house.store().read().audit_page(house.account, &AuditFilter::default(), None, 9).await.unwrap(), []);
    assert_eq!(house.reload(&device).await, device);
}

async fn many_entries_are_two_statements(db: TestDatabase) {
    let house = House::on(db).await;
    let second = house.second_fleet().await;
    let fleets = [Some(house.fleet.id), Some(second.id), None];
    let events: Vec<NewAuditEvent> = (0..60)
        .map(|number| NewAuditEvent { fleet_id: fleets[number % 3], ..event(house.account, &format!("tag:{number}")) })
        .collect();
    let (store, statements) = house.db.connect_recording().await;
    statements.take();
    crate::fixture::write(&store, async |tx| tx.audit_all(&events).await).await.unwrap();
    assert_eq!(statements.take().len(), 2);
    crate::fixture::write(&store, async |tx| tx.audit_all(&[]).await).await.unwrap();
    let page = house.store().read().audit_page(house.account, &AuditFilter::default(), None, 100).await.unwrap();
    let written: Vec<(String, String)> = page.into_iter().rev().map(|e| (e.subject, e.project_key)).collect();
    let keys = ["demo", "second", ""];
    let expected: Vec<(String, String)> =
        (0..60).map(|number| (format!("tag:{number}"), keys[number % 3].to_owned())).collect();
    assert_eq!(written, expected);
}
