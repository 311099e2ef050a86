//! Port tunnels: made, answered by their device, ended by a person or by the clock; and
//! whether an open one still has the right to be.

use muster_core::access::Permission;
use muster_core::access_grant::Reach;
use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::tunnel::{AllowedIp, Standing, TargetHost, TunnelStatus};
use rand::RngExt;
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, QueryFilter};

use crate::db::{Db, Result, Tx};
use crate::entities::{devices, port_tunnels};
use crate::error::StoreError;
use crate::standing::{StandingRow, with_standing};

/// A port tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTunnel {
    /// The row.
    pub id: RowId,
    /// As every API names it.
    pub uuid: String,
    /// The device's row.
    pub device_id: RowId,
    /// The device.
    pub device_uuid: String,
    /// The port of the device, or of `host`.
    pub port: u16,
    /// Where it ends in the device's network; empty for the device itself.
    pub host: String,
    /// Whom it lets through.
    pub allowed_ip: String,
    /// Where callers connect to.
    pub server_address: String,
    /// The port there.
    pub server_port: u16,
    /// How it stands.
    pub status: TunnelStatus,
    /// Why, once it is final.
    pub reason_code: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it became final.
    pub finished_at: Option<Timestamp>,
    /// When it ends by itself, once it is open.
    pub expires_at: Timestamp,
    /// Whose it is.
    pub account_id: RowId,
    /// Which fleet's it is.
    pub fleet_id: RowId,
    /// What it has moved, as far as that is stored.
    pub moved: Moved,
}

/// What a tunnel has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Connections.
    pub connections: u64,
    /// Bytes to the device.
    pub bytes_to_device: u64,
    /// Bytes from the device.
    pub bytes_from_device: u64,
}

/// An open tunnel, and what holds of its right to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingTunnel {
    /// The tunnel.
    pub tunnel: EndingTunnel,
    /// What holds.
    pub standing: Standing,
}

/// A tunnel to be made.
#[derive(Clone, Debug)]
pub struct NewTunnel {
    /// The fleet of its device.
    pub fleet_id: RowId,
    /// Its device.
    pub device_id: RowId,
    /// The port of the device, or of `host`.
    pub port: u16,
    /// Where it ends in the device's network, where that is not the device itself.
    pub host: Option<TargetHost>,
    /// Whom it lets through.
    pub allowed_ip: AllowedIp,
    /// Where callers connect to.
    pub server_address: String,
    /// The port there.
    pub server_port: u16,
    /// Who makes it.
    pub created_by: String,
    /// The token with which they do.
    pub token_id: RowId,
    /// The server that listens for it, by a name that outlives its process.
    pub home: String,
    /// When it ends unless its device has answered.
    pub answer_by: Timestamp,
    /// When it ends by itself, once it is open.
    pub expires_at: Timestamp,
}

/// A tunnel that ends, and what the audit log tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndingTunnel {
    /// The row.
    pub id: RowId,
    /// As every API names it.
    pub uuid: String,
    /// Whose it is.
    pub account_id: RowId,
    /// The fleet of its device.
    pub fleet_id: RowId,
    /// Its device's row.
    pub device_id: RowId,
    /// Its device.
    pub device_uuid: String,
    /// How it stood before.
    pub was: TunnelStatus,
}

#[derive(FromQueryResult)]
struct EndingRow {
    id: i64,
    uuid: String,
    account_id: i64,
    fleet_id: i64,
    device_id: i64,
    device_uuid: String,
    status: i16,
}

impl TryFrom<EndingRow> for EndingTunnel {
    type Error = StoreError;

    fn try_from(row: EndingRow) -> Result<Self> {
        let corrupt = || StoreError::Corrupt { table: "port_tunnels", problem: "status".to_owned() };
        Ok(Self {
            id: row.id,
            uuid: row.uuid,
            account_id: row.account_id,
            fleet_id: row.fleet_id,
            device_id: row.device_id,
            device_uuid: row.device_uuid,
            was: TunnelStatus::from_code(row.status).ok_or_else(corrupt)?,
        })
    }
}

#[derive(FromQueryResult)]
struct Row {
    id: i64,
    uuid: String,
    device_id: i64,
    device_uuid: String,
    port: i32,
    allowed_ip: String,
    server_address: String,
    server_port: i32,
    status: i16,
    reason_code: String,
    created_at: i64,
    finished_at: i64,
    expires_at: i64,
    account_id: i64,
    fleet_id: i64,
    host: String,
    connections: i64,
    bytes_to_device: i64,
    bytes_from_device: i64,
}

impl TryFrom<Row> for PortTunnel {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let corrupt = |what: &str| StoreError::Corrupt { table: "port_tunnels", problem: what.to_owned() };
        let port = |port: i32| u16::try_from(port).map_err(|_| corrupt("port"));
        Ok(Self {
            id: row.id,
            uuid: row.uuid,
            device_id: row.device_id,
            device_uuid: row.device_uuid,
            port: port(row.port)?,
            host: row.host,
            allowed_ip: row.allowed_ip,
            server_address: row.server_address,
            server_port: port(row.server_port)?,
            status: TunnelStatus::from_code(row.status).ok_or_else(|| corrupt("status"))?,
            reason_code: row.reason_code,
            created_at: Timestamp::from_millis(row.created_at),
            finished_at: crate::targets::moment(row.finished_at),
            expires_at: Timestamp::from_millis(row.expires_at),
            account_id: row.account_id,
            fleet_id: row.fleet_id,
            moved: Moved {
                connections: row.connections.try_into().unwrap_or(0),
                bytes_to_device: row.bytes_to_device.try_into().unwrap_or(0),
                bytes_from_device: row.bytes_from_device.try_into().unwrap_or(0),
            },
        })
    }
}

/// Not final, in the very words of the partial index.
fn is_open() -> Expr {
    Expr::cust(r#""port_tunnels"."status" < 2"#)
}

/// Final, in the very words of the partial index.
fn is_over() -> Expr {
    Expr::cust(r#""port_tunnels"."status" >= 2"#)
}

fn of(column: port_tunnels::Column) -> Expr {
    Expr::col((port_tunnels::Entity, column))
}

/// The open tunnels, each with its device.
fn select_open() -> SelectStatement {
    use port_tunnels::Column as T;
    Query::select()
        .columns([T::Id, T::Uuid, T::FleetId, T::DeviceId, T::Status].map(|column| (port_tunnels::Entity, column)))
        .column((devices::Entity, devices::Column::AccountId))
        .expr_as(Expr::col((devices::Entity, devices::Column::Uuid)), "device_uuid")
        .from(port_tunnels::Entity)
        .inner_join(devices::Entity, is_its_device())
        .and_where(is_open())
        .take()
}

fn is_its_device() -> Expr {
    Expr::col((devices::Entity, devices::Column::Id)).equals((port_tunnels::Entity, port_tunnels::Column::DeviceId))
}

fn select_tunnels() -> SelectStatement {
    use port_tunnels::Column as T;
    let names = [
        T::Id,
        T::Uuid,
        T::DeviceId,
        T::Port,
        T::AllowedIp,
        T::ServerAddress,
        T::ServerPort,
        T::Status,
        T::ReasonCode,
        T::CreatedAt,
        T::FinishedAt,
        T::ExpiresAt,
        T::FleetId,
        T::Host,
        T::Connections,
        T::BytesToDevice,
        T::BytesFromDevice,
    ];
    Query::select()
        .columns(names.map(|column| (port_tunnels::Entity, column)))
        .column((devices::Entity, devices::Column::AccountId))
        .expr_as(Expr::col((devices::Entity, devices::Column::Uuid)), "device_uuid")
        .from(port_tunnels::Entity)
        .inner_join(devices::Entity, is_its_device())
        .take()
}

impl<C: ConnectionTrait> Db<C> {
    /// The newest `limit` tunnels of what is reached of a fleet, oldest first.
    pub async fn port_tunnels(&self, fleet_id: RowId, reach: &Reach, limit: u64) -> Result<Vec<PortTunnel>> {
        let is_reached = match reach {
            Reach::Fleet => None,
            Reach::Devices(ids) => Some(of(port_tunnels::Column::DeviceId).is_in(ids.iter().copied())),
        };
        let query = select_tunnels()
            .and_where(of(port_tunnels::Column::FleetId).eq(fleet_id))
            .and_where_option(is_reached)
            .order_by((port_tunnels::Entity, port_tunnels::Column::Id), Order::Desc)
            .limit(limit)
            .take();
        let rows = self.conn.query_all(&query).await?;
        rows.iter().rev().map(|row| PortTunnel::try_from(Row::from_query_result(row, "")?)).collect()
    }

    /// A tunnel of that fleet.
    pub async fn find_port_tunnel(&self, fleet_id: RowId, uuid: &str) -> Result<Option<PortTunnel>> {
        let query = select_tunnels()
            .and_where(of(port_tunnels::Column::FleetId).eq(fleet_id))
            .and_where(of(port_tunnels::Column::Uuid).eq(uuid))
            .take();
        let row = self.conn.query_one(&query).await?;
        row.map(|row| PortTunnel::try_from(Row::from_query_result(&row, "")?)).transpose()
    }

    /// The open tunnels for which that server listens.
    pub async fn port_tunnels_held_by(&self, home: &str) -> Result<Vec<PortTunnel>> {
        let query = select_tunnels().and_where(is_open()).and_where(of(port_tunnels::Column::Home).eq(home)).take();
        let rows = self.conn.query_all(&query).await?;
        rows.iter().map(|row| PortTunnel::try_from(Row::from_query_result(row, "")?)).collect()
    }

    /// The same, each with what holds of its right to be. One statement.
    pub async fn standing_port_tunnels(&self, home: &str) -> Result<Vec<StandingTunnel>> {
        use port_tunnels::Column as T;
        let permission = Expr::value(Permission::RemoteAccess.as_str());
        let query = with_standing(select_open(), port_tunnels::Entity, T::TokenId, T::FleetId, &permission, self.now())
            .column((port_tunnels::Entity, T::Host))
            .and_where(of(T::Home).eq(home))
            .take();
        let rows = self.conn.query_all(&query).await?;
        let read = |row| {
            let tunnel = EndingTunnel::try_from(EndingRow::from_query_result(row, "")?)?;
            let standing = StandingRow::from_query_result(row, "")?.standing(tunnel.fleet_id, self.now());
            Ok(StandingTunnel { tunnel, standing })
        };
        rows.iter().map(read).collect()
    }

    /// Open tunnels whose time is over, the most overdue first.
    pub async fn overdue_port_tunnels(&self, limit: u64) -> Result<Vec<EndingTunnel>> {
        use port_tunnels::Column as T;
        let query = select_open()
            .and_where(of(T::EndsAt).lte(self.now().as_millis()))
            .order_by((port_tunnels::Entity, T::EndsAt), Order::Asc)
            .limit(limit)
            .take();
        let rows = self.conn.query_all(&query).await?;
        rows.iter().map(|row| EndingTunnel::try_from(EndingRow::from_query_result(row, "")?)).collect()
    }

    /// The open tunnel of that device.
    pub async fn find_open_port_tunnel(&self, device_id: RowId, uuid: &str) -> Result<Option<EndingTunnel>> {
        use port_tunnels::Column as T;
        let query = select_open().and_where(of(T::Uuid).eq(uuid)).and_where(of(T::DeviceId).eq(device_id)).take();
        let row = self.conn.query_one(&query).await?;
        row.map(|row| EndingTunnel::try_from(EndingRow::from_query_result(&row, "")?)).transpose()
    }
}

impl Tx {
    /// Makes a tunnel that waits for its device, and answers with its uuid.
    pub async fn insert_port_tunnel(&self, new: &NewTunnel) -> Result<String> {
        let uuid = self.random(|rng| uuid::Builder::from_random_bytes(rng.random()).into_uuid().to_string());
        let row = port_tunnels::Model {
            id: self.next_id(),
            uuid: uuid.clone(),
            fleet_id: new.fleet_id,
            device_id: new.device_id,
            port: new.port.into(),
            allowed_ip: new.allowed_ip.as_str().to_owned(),
            server_address: new.server_address.clone(),
            server_port: new.server_port.into(),
            status: TunnelStatus::Pending.code(),
            reason_code: String::new(),
            reason: String::new(),
            created_by: new.created_by.clone(),
            created_at: self.now().as_millis(),
            finished_at: Timestamp::NEVER.as_millis(),
            ends_at: new.answer_by.as_millis(),
            expires_at: new.expires_at.as_millis(),
            host: new.host.as_ref().map_or_else(String::new, |host| host.as_str().to_owned()),
            home: new.home.clone(),
            token_id: new.token_id,
            connections: 0,
            bytes_to_device: 0,
            bytes_from_device: 0,
        };
        port_tunnels::Entity::insert(port_tunnels::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(uuid)
    }

    /// Its device has opened a tunnel. Answers whether it was waited for.
    pub async fn open_port_tunnel(&self, device_id: RowId, uuid: &str) -> Result<bool> {
        use port_tunnels::Column as T;
        let opened = port_tunnels::Entity::update_many()
            .col_expr(T::Status, Expr::value(TunnelStatus::Opened.code()))
            .col_expr(T::EndsAt, Expr::col(T::ExpiresAt))
            .filter(T::Uuid.eq(uuid))
            .filter(T::DeviceId.eq(device_id))
            .filter(T::Status.eq(TunnelStatus::Pending.code()))
            .exec(&self.conn)
            .await?;
        Ok(opened.rows_affected > 0)
    }

    /// Ends a tunnel of a device that is not final. Answers whether it was so.
    pub async fn end_port_tunnel(
        &self,
        device_id: RowId,
        uuid: &str,
        status: TunnelStatus,
        reason: (&str, &str),
    ) -> Result<bool> {
        use port_tunnels::Column as T;
        let ended = port_tunnels::Entity::update_many()
            .set(self.ended(status, reason))
            .filter(T::Uuid.eq(uuid))
            .filter(T::DeviceId.eq(device_id))
            .filter(is_open())
            .exec(&self.conn)
            .await?;
        Ok(ended.rows_affected > 0)
    }

    /// Ends tunnels whose time is over, at most `limit`, and answers with them. Few
    /// statements, whatever the number.
    pub async fn expire_port_tunnels(&self, limit: u64) -> Result<Vec<EndingTunnel>> {
        let overdue = self.overdue_port_tunnels(limit).await?;
        for status in [TunnelStatus::Pending, TunnelStatus::Opened] {
            let ids: Vec<RowId> =
                overdue.iter().filter(|tunnel| tunnel.was == status).map(|tunnel| tunnel.id).collect();
            if ids.is_empty() {
                continue;
            }
            let (ended, code, text) = status.when_overdue();
            port_tunnels::Entity::update_many()
                .set(self.ended(ended, (code, text)))
                .filter(port_tunnels::Column::Id.is_in(ids))
                .exec(&self.conn)
                .await?;
        }
        Ok(overdue)
    }

    /// Adds to what tunnels have moved. One statement.
    pub async fn add_moved(&self, moved: &[(String, Moved)]) -> Result<()> {
        use port_tunnels::Column as T;
        if moved.is_empty() {
            return Ok(());
        }
        let more = |column: T, of_tunnel: fn(&Moved) -> u64| {
            let cases = moved.iter().fold(CaseStatement::new(), |cases, (uuid, moved)| {
                cases.case(Expr::col(T::Uuid).eq(uuid), i64::try_from(of_tunnel(moved)).unwrap_or(i64::MAX))
            });
            let added: Expr = cases.finally(0_i64).into();
            (column, Expr::col(column).add(added))
        };
        let mut update = port_tunnels::Entity::update_many();
        for (column, sum) in [
            more(T::Connections, |moved| moved.connections),
            more(T::BytesToDevice, |moved| moved.bytes_to_device),
            more(T::BytesFromDevice, |moved| moved.bytes_from_device),
        ] {
            update = update.col_expr(column, sum);
        }
        update.filter(T::Uuid.is_in(moved.iter().map(|(uuid, _)| uuid.as_str()))).exec(&self.conn).await?;
        Ok(())
    }

    /// Forgets tunnels that ended before that moment, the oldest first, at most `limit`.
    /// Answers how many those were.
    pub async fn forget_port_tunnels(&self, before: Timestamp, limit: u64) -> Result<u64> {
        use port_tunnels::Column as T;
        let some = Query::select()
            .column(T::Id)
            .from(port_tunnels::Entity)
            .and_where(is_over())
            .and_where(of(T::FinishedAt).lt(before.as_millis()))
            .order_by((port_tunnels::Entity, T::FinishedAt), Order::Asc)
            .limit(limit)
            .take();
        let gone = port_tunnels::Entity::delete_many().filter(T::Id.in_subquery(some)).exec(&self.conn).await?;
        Ok(gone.rows_affected)
    }

    fn ended(&self, status: TunnelStatus, (code, text): (&str, &str)) -> port_tunnels::ActiveModel {
        port_tunnels::ActiveModel {
            status: Set(status.code()),
            reason_code: Set(code.to_owned()),
            reason: Set(text.to_owned()),
            finished_at: Set(self.now().as_millis()),
            ..Default::default()
        }
    }
}
