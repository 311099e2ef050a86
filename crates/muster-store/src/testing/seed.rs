//! Many rows at once, in statements of at most a thousand: for plans, which small
//! tables do not have, and for benchmarks.

use std::time::Duration;

use muster_core::ids::{DeviceUuid, RowId};
use muster_core::names::{Region, ResourceId, ResourceUuid, ServiceType};
use muster_core::resource::Resource;
use sea_orm::{ActiveModelTrait, EntityTrait, IntoActiveModel};

use crate::db::{Result, Store, Tx};
use crate::entities::{app_versions, device_apps, device_presence, device_tags, devices};
use crate::fleets::Fleet;
use crate::presence::Keepalive;
use crate::resources::ResourceTag;

/// Rows of one statement: times the columns of the widest table well below both engines' limit on bound values.
const ROWS_MAX: usize = 1_000;
/// Rows of one transaction: a commit costs more than a statement.
const TRANSACTION_ROWS_MAX: usize = 10_000;

/// Enrols `count` devices into one group, named `device-0`, `device-1` and so on,
/// all of them offline, and answers with their rows.
pub async fn seed_devices(store: &Store, fleet: &Fleet, group_id: RowId, count: usize) -> Result<Vec<RowId>> {
    let numbers: Vec<usize> = (0..count).collect();
    let mut ids = Vec::with_capacity(count);
    for numbers in numbers.chunks(TRANSACTION_ROWS_MAX) {
        ids.extend(store.write(|tx| async move { insert_devices(&tx, fleet, group_id, numbers).await }).await?);
    }
    Ok(ids)
}

/// Puts a tag on many devices that do not bear it.
pub async fn seed_tag(store: &Store, tag_id: RowId, device_ids: &[RowId]) -> Result<()> {
    for ids in device_ids.chunks(TRANSACTION_ROWS_MAX) {
        let row = |id: &RowId| device_tags::Model { device_id: *id, tag_id };
        store.write(|tx| async move { insert_all(&tx, ids.iter().map(row)).await }).await?;
    }
    Ok(())
}

/// Puts a tag on `count` resources that are no devices: `BCC`, in two regions, `i-0`, `i-1` and so on.
pub async fn seed_resources(store: &Store, account_id: RowId, tag_id: RowId, count: usize) -> Result<()> {
    let (kind, regions) = (ServiceType::parse("BCC")?, [Region::parse("bj")?, Region::parse("gz")?]);
    let numbers: Vec<usize> = (0..count).collect();
    for numbers in numbers.chunks(TRANSACTION_ROWS_MAX) {
        let link = |number: &usize| {
            let (service_type, region) = (kind.clone(), regions[number % 2].clone());
            let resource = Resource { service_type, region, id: ResourceId::parse(format!("i-{number}"))? };
            Ok(ResourceTag { resource, uuid: ResourceUuid::default(), tag_id })
        };
        let links = &numbers.iter().map(link).collect::<Result<Vec<_>>>()?;
        store.write(|tx| async move { tx.tag_resources(account_id, links).await }).await?;
    }
    Ok(())
}

/// Says that many devices that lack an app have that version of it.
pub async fn seed_app(store: &Store, app_id: RowId, version: &str, device_ids: &[RowId]) -> Result<()> {
    let updated_at = store.clock().now().as_millis();
    let known = app_versions::Model { app_id, version: version.to_owned(), created_at: updated_at };
    let known = &known;
    store.write(|tx| async move { insert_all(&tx, [known.clone()].into_iter()).await }).await?;
    for ids in device_ids.chunks(TRANSACTION_ROWS_MAX) {
        let row = |id: &RowId| device_apps::Model { device_id: *id, app_id, version: version.to_owned(), updated_at };
        store.write(|tx| async move { insert_all(&tx, ids.iter().map(row)).await }).await?;
    }
    Ok(())
}

/// Lets many devices be heard of now, and so be online for three times `heartbeat`.
pub async fn seed_presence(store: &Store, heartbeat: Duration, device_ids: &[RowId]) -> Result<()> {
    let at = store.clock().now();
    let keepalive = |id: &RowId| Keepalive {
        device_id: *id,
        at,
        heartbeat,
        device_ip: "192.0.2.1".to_owned(),
        cpu_percent: Some(12.5),
        ram_percent: Some(40.0),
        disk_used_bytes: Some(1 << 30),
        disk_size_bytes: Some(1 << 33),
    };
    for ids in device_ids.chunks(ROWS_MAX) {
        let keepalives: Vec<Keepalive> = ids.iter().map(keepalive).collect();
        let keepalives = &keepalives;
        store.write(|tx| async move { tx.store_keepalives(keepalives).await }).await?;
    }
    Ok(())
}

async fn insert_devices(tx: &Tx, fleet: &Fleet, group_id: RowId, numbers: &[usize]) -> Result<Vec<RowId>> {
    let rows: Vec<_> = numbers.iter().map(|number| device(tx, fleet, group_id, *number)).collect();
    let ids: Vec<RowId> = rows.iter().map(|row| row.id).collect();
    insert_all(tx, rows.into_iter()).await?;
    insert_all(tx, ids.iter().map(|id| presence(tx, *id))).await?;
    Ok(ids)
}

fn device(tx: &Tx, fleet: &Fleet, group_id: RowId, number: usize) -> devices::Model {
    let id = tx.next_id();
    devices::Model {
        id,
        uuid: tx.random(DeviceUuid::random).as_str().to_owned(),
        account_id: fleet.account_id,
        fleet_id: fleet.id,
        group_id,
        name: format!("device-{number}"),
        description: String::new(),
        address: String::new(),
        lat: None,
        lng: None,
        is_update_trigger_set: false,
        public_key: format!("seeded-key-{id}"),
        agent_version: "0.1.0".to_owned(),
        hostname: format!("host-{number}"),
        os: "Debian GNU/Linux 12".to_owned(),
        arch: "aarch64".to_owned(),
        ip_addresses: r#"["192.0.2.1"]"#.to_owned(),
        mac_addresses: r#"["02:00:00:00:00:01"]"#.to_owned(),
        registered_at: tx.now().as_millis(),
        has_agent: true,
        capabilities: "[]".to_owned(),
        told_heartbeat_ms: 0,
        time_zone: String::new(),
        degraded: "[]".to_owned(),
    }
}

fn presence(tx: &Tx, device_id: RowId) -> device_presence::Model {
    let now = tx.now().as_millis();
    device_presence::Model {
        device_id,
        last_keepalive_at: now,
        online_until_at: now,
        device_ip: String::new(),
        cpu_percent: None,
        ram_percent: None,
        disk_used_bytes: None,
        disk_size_bytes: None,
        link_epoch: 0,
        link_server: String::new(),
    }
}

async fn insert_all<M, A>(tx: &Tx, rows: impl Iterator<Item = M>) -> Result<()>
where
    M: IntoActiveModel<A>,
    A: ActiveModelTrait + Send,
{
    let mut rows = rows.map(IntoActiveModel::into_active_model).peekable();
    while rows.peek().is_some() {
        let some: Vec<A> = rows.by_ref().take(ROWS_MAX).collect();
        <A::Entity as EntityTrait>::insert_many(some).exec_without_returning(&tx.conn).await?;
    }
    Ok(())
}
