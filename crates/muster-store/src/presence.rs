//! Presence: when a device was last heard of, and which server holds its link.
//!
//! Keepalives come by the thousand and none is important alone: a server gathers
//! them and stores many in one statement.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::limits::HEARTBEATS_MISSED_MAX;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::db::{Result, Tx};
use crate::entities::{device_presence, devices};

/// One keepalive.
#[derive(Clone, Debug, PartialEq)]
pub struct Keepalive {
    /// Whose it is.
    pub device_id: RowId,
    /// When it came.
    pub at: Timestamp,
    /// Time between two keepalives of the device.
    pub heartbeat: Duration,
    /// Where it came from.
    pub device_ip: String,
    /// 0 to 100.
    pub cpu_percent: Option<f64>,
    /// 0 to 100.
    pub ram_percent: Option<f64>,
    /// Used bytes of the disk.
    pub disk_used_bytes: Option<i64>,
    /// Size of the disk in bytes.
    pub disk_size_bytes: Option<i64>,
}

impl Keepalive {
    fn online_until(&self) -> Timestamp {
        self.at.after(self.heartbeat.saturating_mul(HEARTBEATS_MISSED_MAX))
    }
}

/// Most keepalives of one statement: well below both engines' limit on bound values.
pub const KEEPALIVES_MAX: usize = 1_000;

impl Tx {
    /// Stores keepalives, at most [`KEEPALIVES_MAX`], in one statement. One that is
    /// older than what is stored, or of a device that is gone, changes nothing.
    /// Answers with the rows of the devices that are gone.
    pub async fn store_keepalives(&self, keepalives: &[Keepalive]) -> Result<Vec<RowId>> {
        use device_presence::Column as P;
        let mut newest = newest_of_each(keepalives);
        let known: Vec<RowId> = devices::Entity::find()
            .select_only()
            .column(devices::Column::Id)
            .filter(devices::Column::Id.is_in(newest.keys().copied()))
            // One order of rows for every server, so that two never wait for each other.
            .order_by_asc(devices::Column::Id)
            .into_tuple()
            .all(&self.conn)
            .await?;
        let rows: Vec<_> = known.iter().filter_map(|id| newest.remove(id)).map(row).collect();
        let gone = newest.into_keys().collect();
        if rows.is_empty() {
            return Ok(gone);
        }
        let newer =
            Expr::col((device_presence::Entity, P::LastKeepaliveAt)).lte(Expr::col(("excluded", P::LastKeepaliveAt)));
        let replace = OnConflict::column(P::DeviceId)
            .update_columns([
                P::LastKeepaliveAt,
                P::OnlineUntilAt,
                P::DeviceIp,
                P::CpuPercent,
                P::RamPercent,
                P::DiskUsedBytes,
                P::DiskSizeBytes,
            ])
            .action_and_where(newer)
            .to_owned();
        device_presence::Entity::insert_many(rows).on_conflict(replace).exec_without_returning(&self.conn).await?;
        Ok(gone)
    }

    /// Notes that `server` holds the device's link from now on, and answers with
    /// the link's epoch: higher than that of any link before. 0 for a device that is gone.
    pub async fn open_link(&self, server: &str, keepalive: &Keepalive) -> Result<i64> {
        use device_presence::Column as P;
        device_presence::Entity::update_many()
            .set(device_presence::ActiveModel {
                link_server: Set(server.to_owned()),
                last_keepalive_at: Set(keepalive.at.as_millis()),
                online_until_at: Set(keepalive.online_until().as_millis()),
                device_ip: Set(keepalive.device_ip.clone()),
                ..Default::default()
            })
            .col_expr(P::LinkEpoch, Expr::col(P::LinkEpoch).add(1))
            .filter(P::DeviceId.eq(keepalive.device_id))
            .exec(&self.conn)
            .await?;
        let query = device_presence::Entity::find_by_id(keepalive.device_id).select_only().column(P::LinkEpoch);
        Ok(query.into_tuple().one(&self.conn).await?.unwrap_or(0))
    }

    /// Notes that the link of that epoch is gone; a later link is left alone.
    pub async fn close_link(&self, device_id: RowId, epoch: i64) -> Result<()> {
        use device_presence::Column as P;
        device_presence::Entity::update_many()
            .col_expr(P::LinkServer, Expr::value(""))
            .filter(P::DeviceId.eq(device_id))
            .filter(P::LinkEpoch.eq(epoch))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    /// Notes that `server` holds no link: it has just started, or ends.
    pub async fn close_links_of(&self, server: &str) -> Result<()> {
        use device_presence::Column as P;
        device_presence::Entity::update_many()
            .col_expr(P::LinkServer, Expr::value(""))
            .filter(P::LinkServer.eq(server))
            .exec(&self.conn)
            .await?;
        Ok(())
    }
}

/// The last keepalive of each device: no engine lets one statement change a row twice.
fn newest_of_each(keepalives: &[Keepalive]) -> BTreeMap<RowId, &Keepalive> {
    let mut newest: BTreeMap<RowId, &Keepalive> = BTreeMap::new();
    for keepalive in keepalives {
        let kept = newest.entry(keepalive.device_id).or_insert(keepalive);
        if keepalive.at >= kept.at {
            *kept = keepalive;
        }
    }
    newest
}

fn row(keepalive: &Keepalive) -> device_presence::ActiveModel {
    device_presence::ActiveModel {
        device_id: Set(keepalive.device_id),
        last_keepalive_at: Set(keepalive.at.as_millis()),
        online_until_at: Set(keepalive.online_until().as_millis()),
        device_ip: Set(keepalive.device_ip.clone()),
        cpu_percent: Set(keepalive.cpu_percent),
        ram_percent: Set(keepalive.ram_percent),
        disk_used_bytes: Set(keepalive.disk_used_bytes),
        disk_size_bytes: Set(keepalive.disk_size_bytes),
        link_epoch: Set(0),
        link_server: Set(String::new()),
    }
}
