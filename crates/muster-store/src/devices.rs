//! Devices: looked up, listed page by page, enrolled, changed, moved.

use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_core::ids::{DeviceUuid, RowId};
use muster_core::limits::NAME_CHARS_MAX;
use muster_core::names::DeviceName;
use sea_orm::sea_query::{Condition, Expr, ExprTrait, Func, Order, Query, SelectStatement};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryResult, QuerySelect, TryGetable,
};

use crate::db::{Db, Result, Tx};
use crate::entities::{device_presence, devices, fleets, groups};
use crate::error::StoreError;
use crate::filter::{Matching, SetForm, column};
use crate::fleets::Fleet;
use crate::printable::printable;

/// A device, with what it last said of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// The row; API v1's `device_id`.
    pub id: RowId,
    /// As every API names it.
    pub uuid: String,
    /// Whose it is.
    pub account_id: RowId,
    /// Its fleet.
    pub fleet_id: RowId,
    /// Its fleet's name; "project" in the Connect API.
    pub fleet_name: String,
    /// Its group.
    pub group_name: String,
    /// Its name.
    pub name: String,
    /// What a person says of it.
    pub description: String,
    /// Where it stands, as a person says.
    pub address: String,
    /// Degrees.
    pub lat: Option<f64>,
    /// Degrees.
    pub lng: Option<f64>,
    /// No new updates while this is set.
    pub is_update_trigger_set: bool,
    /// Version of its agent.
    pub agent_version: String,
    /// Hardware addresses; what it registered with, where it has no agent.
    pub mac_addresses: Vec<String>,
    /// Has an agent with a key of its own, and not only the Agent API.
    pub has_agent: bool,
    /// What its agent can do beyond the first version.
    pub capabilities: Vec<String>,
    /// Why its agent says that it is degraded.
    pub degraded: Vec<String>,
    /// The heartbeat that it was last told through the Agent API; zero for never.
    pub told_heartbeat: Duration,
    /// When it was enrolled.
    pub registered_at: Timestamp,
    /// When it was last heard of; its enrolment counts.
    pub last_keepalive_at: Timestamp,
    /// Online before that moment.
    pub online_until_at: Timestamp,
    /// The address it was last heard from.
    pub device_ip: Option<String>,
    /// 0 to 100.
    pub cpu_percent: Option<f64>,
    /// 0 to 100.
    pub ram_percent: Option<f64>,
    /// Used bytes of its disk.
    pub disk_used_bytes: Option<i64>,
    /// Size of its disk in bytes.
    pub disk_size_bytes: Option<i64>,
}

impl Device {
    /// Whether its link is up, or it was heard of lately.
    pub fn is_online(&self, now: Timestamp) -> bool {
        self.online_until_at > now
    }

    /// Whether an update can be deployed to it: that takes an agent. In statements
    /// over many devices the same is the column `has_agent`.
    pub fn can_run_flows(&self) -> bool {
        self.has_agent
    }
}

/// What enrols a device.
#[derive(Clone, Debug)]
pub struct NewDevice {
    /// Its name.
    pub name: DeviceName,
    /// The row of its group, in the fleet it joins.
    pub group_id: RowId,
    /// The public half of its key, in base64. For a device without an agent
    /// something that is no key, but as unique.
    pub public_key: String,
    /// How it reaches the server.
    pub access: DeviceAccess,
    /// What it says of itself.
    pub facts: DeviceFacts,
}

/// How a device reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceAccess {
    /// An agent with a key holds a link.
    Agent,
    /// The device calls the Agent API by itself, with its device token.
    AgentApi {
        /// The time between two calls that it is told when it registers.
        heartbeat: Duration,
    },
}

/// What a device says of itself and seldom changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFacts {
    /// Version of its agent.
    pub agent_version: String,
    /// Host name.
    pub hostname: String,
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub arch: String,
    /// Its own addresses.
    pub ip_addresses: Vec<String>,
    /// Hardware addresses.
    pub mac_addresses: Vec<String>,
    /// Its time zone, by its IANA name; empty where it does not tell.
    pub time_zone: String,
    /// Why its agent is degraded; empty where it is not.
    pub degraded: Vec<String>,
}

/// What a server needs of a device to open its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKey {
    /// The row.
    pub id: RowId,
    /// Its fleet.
    pub fleet_id: RowId,
    /// The public half of its key, in base64.
    pub public_key: String,
    /// Time between two keepalives in its fleet, in milliseconds.
    pub heartbeat_ms: u64,
}

/// A device from a row of [`select_devices`], whose columns are read by their places and in
/// their order: a page has a thousand rows, and looking each column up by its name took longer
/// than all else.
fn device(row: &QueryResult) -> Result<Device> {
    let mut columns = Columns { row, read: 0 };
    Ok(Device {
        id: columns.next()?,
        uuid: columns.next()?,
        account_id: columns.next()?,
        fleet_id: columns.next()?,
        name: columns.next()?,
        description: columns.next()?,
        address: columns.next()?,
        lat: columns.next()?,
        lng: columns.next()?,
        is_update_trigger_set: columns.next()?,
        agent_version: columns.next()?,
        mac_addresses: list(&columns.next::<String>()?)?,
        registered_at: columns.moment()?,
        has_agent: columns.next()?,
        capabilities: list(&columns.next::<String>()?)?,
        degraded: list(&columns.next::<String>()?)?,
        told_heartbeat: Duration::from_millis(columns.next::<i64>()?.try_into().unwrap_or(0)),
        last_keepalive_at: columns.moment()?,
        online_until_at: columns.moment()?,
        device_ip: Some(columns.next()?).filter(|ip: &String| !ip.is_empty()),
        cpu_percent: columns.next()?,
        ram_percent: columns.next()?,
        disk_used_bytes: columns.next()?,
        disk_size_bytes: columns.next()?,
        fleet_name: columns.next()?,
        group_name: columns.next()?,
    })
}

/// The columns of a row, one after the other.
struct Columns<'a> {
    row: &'a QueryResult,
    read: usize,
}

impl Columns<'_> {
    fn next<T: TryGetable>(&mut self) -> Result<T> {
        self.read += 1;
        Ok(self.row.try_get_by_index(self.read - 1)?)
    }

    fn moment(&mut self) -> Result<Timestamp> {
        self.next().map(Timestamp::from_millis)
    }
}

pub(crate) fn list(json: &str) -> Result<Vec<String>> {
    serde_json::from_str(json).map_err(|error| StoreError::Corrupt { table: "devices", problem: error.to_string() })
}

fn json(list: &[String]) -> String {
    serde_json::Value::from(list).to_string()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn fact(text: &str) -> String {
    printable(text, NAME_CHARS_MAX)
}

/// What [`device`] reads, in its order, from the four tables that hold it.
fn select_devices() -> SelectStatement {
    use device_presence::Column as P;
    use devices::Column as D;
    let of = |column: D| (devices::Entity, column);
    let presence = |column: P| (device_presence::Entity, column);
    Query::select()
        .columns(
            [D::Id, D::Uuid, D::AccountId, D::FleetId, D::Name, D::Description, D::Address, D::Lat, D::Lng].map(of),
        )
        .columns([D::IsUpdateTriggerSet, D::AgentVersion, D::MacAddresses, D::RegisteredAt].map(of))
        .columns([D::HasAgent, D::Capabilities, D::Degraded, D::ToldHeartbeatMs].map(of))
        .columns([P::LastKeepaliveAt, P::OnlineUntilAt, P::DeviceIp, P::CpuPercent, P::RamPercent].map(presence))
        .columns([P::DiskUsedBytes, P::DiskSizeBytes].map(presence))
        .expr_as(Expr::col((fleets::Entity, fleets::Column::Name)), "fleet_name")
        .expr_as(Expr::col((groups::Entity, groups::Column::Name)), "group_name")
        .from(devices::Entity)
        .inner_join(device_presence::Entity, Expr::col(presence(P::DeviceId)).equals(of(D::Id)))
        .inner_join(fleets::Entity, Expr::col((fleets::Entity, fleets::Column::Id)).equals(of(D::FleetId)))
        .inner_join(groups::Entity, Expr::col((groups::Entity, groups::Column::Id)).equals(of(D::GroupId)))
        .take()
}

/// What the join says already, for the engines' sake: PostgreSQL would join a page in the
/// middle of a fleet from the first row of `device_presence`.
fn presence_behind(after: Option<RowId>) -> Condition {
    let id = Expr::col((device_presence::Entity, device_presence::Column::DeviceId));
    after.map_or_else(Condition::all, |after| Condition::all().add(id.gt(after)))
}

impl<C: ConnectionTrait> Db<C> {
    /// The row of a device of that fleet.
    pub async fn device_id(&self, fleet_id: RowId, uuid: &DeviceUuid) -> Result<Option<RowId>> {
        let query = devices::Entity::find()
            .select_only()
            .column(devices::Column::Id)
            .filter(devices::Column::Uuid.eq(uuid.as_str()))
            .filter(devices::Column::FleetId.eq(fleet_id));
        Ok(query.into_tuple().one(&self.conn).await?)
    }

    /// The rows of those devices of a fleet that there are, each with its uuid.
    pub async fn device_ids(&self, fleet_id: RowId, uuids: &[DeviceUuid]) -> Result<Vec<(RowId, String)>> {
        let query = devices::Entity::find()
            .select_only()
            .columns([devices::Column::Id, devices::Column::Uuid])
            .filter(devices::Column::FleetId.eq(fleet_id))
            .filter(devices::Column::Uuid.is_in(uuids.iter().map(DeviceUuid::as_str)));
        Ok(query.into_tuple().all(&self.conn).await?)
    }

    /// A device of that fleet.
    pub async fn find_device(&self, fleet_id: RowId, uuid: &DeviceUuid) -> Result<Option<Device>> {
        let which = column(devices::Column::Uuid).eq(uuid.as_str());
        self.device(which.and(column(devices::Column::FleetId).eq(fleet_id))).await
    }

    /// A device of that account, by its uuid.
    pub async fn find_device_of_account(&self, account_id: RowId, uuid: &DeviceUuid) -> Result<Option<Device>> {
        let which = column(devices::Column::Uuid).eq(uuid.as_str());
        self.device(which.and(column(devices::Column::AccountId).eq(account_id))).await
    }

    /// A device of that account, by its row.
    pub async fn find_device_by_id(&self, account_id: RowId, id: RowId) -> Result<Option<Device>> {
        let which = column(devices::Column::Id).eq(id);
        self.device(which.and(column(devices::Column::AccountId).eq(account_id))).await
    }

    async fn device(&self, which: Expr) -> Result<Option<Device>> {
        let query = select_devices().and_where(which).take();
        let row = self.conn.query_one(&query).await?;
        row.as_ref().map(device).transpose()
    }

    /// The next `limit` matching devices behind the row `after`, in the order of
    /// their enrolment, and whether there are more.
    pub async fn devices_page(
        &self,
        matching: &Matching,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<Device>, bool)> {
        let matching = matching.clone().behind(after);
        let query = select_devices()
            .cond_where(matching.condition(self.page_form()))
            .cond_where(presence_behind(after))
            .order_by((devices::Entity, devices::Column::Id), Order::Asc)
            .limit(limit + 1)
            .take();
        let rows = self.conn.query_all(&query).await?;
        let is_more = rows.len() as u64 > limit;
        let rows = rows.iter().take(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((rows.map(device).collect::<Result<_>>()?, is_more))
    }

    /// How many devices match.
    pub async fn devices_count(&self, matching: &Matching) -> Result<u64> {
        let query = Query::select()
            .expr_as(Func::count(column(devices::Column::Id)), "count")
            .from(devices::Entity)
            .cond_where(matching.condition(SetForm::In))
            .take();
        let row = self.conn.query_one(&query).await?;
        let count: i64 = row.map_or(Ok(0), |row| row.try_get("", "count"))?;
        Ok(count.try_into().unwrap_or(0))
    }

    /// What is needed to open the link of a device.
    pub async fn find_device_key(&self, uuid: &DeviceUuid) -> Result<Option<DeviceKey>> {
        let row: Option<(i64, i64, String)> = devices::Entity::find()
            .select_only()
            .columns([devices::Column::Id, devices::Column::FleetId, devices::Column::PublicKey])
            .filter(devices::Column::Uuid.eq(uuid.as_str()))
            .into_tuple()
            .one(&self.conn)
            .await?;
        let Some((id, fleet_id, public_key)) = row else { return Ok(None) };
        let fleet = fleets::Entity::find_by_id(fleet_id).one(&self.conn).await?;
        let heartbeat_ms = fleet.and_then(|fleet| fleet.heartbeat_ms.try_into().ok()).unwrap_or_default();
        Ok(Some(DeviceKey { id, fleet_id, public_key, heartbeat_ms }))
    }

    /// The device that enrolled with that key, in any account.
    pub async fn find_device_by_key(&self, public_key: &str) -> Result<Option<Device>> {
        self.device(column(devices::Column::PublicKey).eq(public_key)).await
    }
}

impl Tx {
    /// Enrols a device into a fleet. Its key must be new.
    pub async fn insert_device(&self, fleet: &Fleet, new: &NewDevice) -> Result<DeviceUuid> {
        let uuid = self.random(DeviceUuid::random);
        let now = self.now().as_millis();
        let told = match new.access {
            DeviceAccess::Agent => Duration::ZERO,
            DeviceAccess::AgentApi { heartbeat } => heartbeat,
        };
        let row = devices::Model {
            id: self.next_id(),
            uuid: uuid.as_str().to_owned(),
            account_id: fleet.account_id,
            fleet_id: fleet.id,
            group_id: new.group_id,
            name: new.name.as_str().to_owned(),
            description: String::new(),
            address: String::new(),
            lat: None,
            lng: None,
            is_update_trigger_set: false,
            public_key: new.public_key.clone(),
            agent_version: fact(&new.facts.agent_version),
            hostname: fact(&new.facts.hostname),
            os: fact(&new.facts.os),
            arch: fact(&new.facts.arch),
            ip_addresses: json(&new.facts.ip_addresses),
            mac_addresses: json(&new.facts.mac_addresses),
            registered_at: now,
            has_agent: new.access == DeviceAccess::Agent,
            capabilities: json(&[]),
            told_heartbeat_ms: millis(told),
            time_zone: fact(&new.facts.time_zone),
            degraded: json(&new.facts.degraded),
        };
        let presence = device_presence::Model {
            device_id: row.id,
            last_keepalive_at: now,
            online_until_at: now,
            device_ip: String::new(),
            cpu_percent: None,
            ram_percent: None,
            disk_used_bytes: None,
            disk_size_bytes: None,
            link_epoch: 0,
            link_server: String::new(),
        };
        devices::Entity::insert(devices::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        let presence = device_presence::ActiveModel::from(presence);
        device_presence::Entity::insert(presence).exec_without_returning(&self.conn).await?;
        Ok(uuid)
    }

    /// Stores what a device says of itself.
    pub async fn set_device_facts(&self, device_id: RowId, facts: &DeviceFacts) -> Result<()> {
        let change = devices::ActiveModel {
            agent_version: Set(fact(&facts.agent_version)),
            hostname: Set(fact(&facts.hostname)),
            os: Set(fact(&facts.os)),
            arch: Set(fact(&facts.arch)),
            ip_addresses: Set(json(&facts.ip_addresses)),
            mac_addresses: Set(json(&facts.mac_addresses)),
            time_zone: Set(fact(&facts.time_zone)),
            degraded: Set(json(&facts.degraded)),
            ..Default::default()
        };
        self.update_device(device_id, change).await
    }

    /// Notes what a device's agent can do beyond the first version.
    pub async fn set_device_capabilities(&self, device_id: RowId, capabilities: &[String]) -> Result<()> {
        let change = devices::ActiveModel { capabilities: Set(json(capabilities)), ..Default::default() };
        self.update_device(device_id, change).await
    }

    /// Notes which heartbeat a device has been told through the Agent API.
    pub async fn set_told_heartbeat(&self, device_id: RowId, heartbeat: Duration) -> Result<()> {
        let change = devices::ActiveModel { told_heartbeat_ms: Set(millis(heartbeat)), ..Default::default() };
        self.update_device(device_id, change).await
    }

    /// Moves a device into a group of another fleet of its account.
    pub async fn move_device(&self, device_id: RowId, fleet_id: RowId, group_id: RowId) -> Result<()> {
        let change = devices::ActiveModel { fleet_id: Set(fleet_id), group_id: Set(group_id), ..Default::default() };
        self.update_device(device_id, change).await
    }

    /// Makes this transaction the only one of its moment that changes the device. Of two
    /// that read what the device has and replace it, neither sees the rows that the other
    /// one adds: only where both write one row does PostgreSQL notice, and the later is repeated.
    pub(crate) async fn claim_device(&self, device_id: RowId) -> Result<()> {
        self.claim_devices(&[device_id]).await
    }

    /// The same for several devices: at most a thousand, in one statement.
    pub async fn claim_devices(&self, device_ids: &[RowId]) -> Result<()> {
        devices::Entity::update_many()
            .col_expr(devices::Column::AccountId, Expr::col(devices::Column::AccountId))
            .filter(devices::Column::Id.is_in(device_ids.iter().copied()))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    pub(crate) async fn update_device(&self, device_id: RowId, change: devices::ActiveModel) -> Result<()> {
        devices::Entity::update_many().set(change).filter(devices::Column::Id.eq(device_id)).exec(&self.conn).await?;
        Ok(())
    }
}
