//! How devices would stand in a deployment that is made now: the preview's questions, one
//! statement each, however many devices match.

use muster_core::ids::RowId;
use sea_orm::sea_query::{Alias, CaseStatement, Condition, Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{ConnectionTrait, FromQueryResult};

use crate::db::{Db, Result};
use crate::dispatch::{Gate, Standing};
use crate::entities::{device_presence, devices, targets};
use crate::error::StoreError;
use crate::filter::{Matching, SetForm};
use crate::targets::is_open;

/// How a device would stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prospect {
    /// `None` for one that no agent runs on, whose target fails at once.
    pub standing: Option<Standing>,
    /// What its agent announced over its newest link.
    pub capabilities: Vec<String>,
    row: ProspectRow,
}

/// One of the devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProspectDevice {
    /// Its row.
    pub id: RowId,
    /// Its uuid.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// Its agent's version; empty where it told none.
    pub agent_version: String,
    /// How it would stand.
    pub prospect: Prospect,
}

#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
struct ProspectRow {
    runs_flows: i32,
    linked: i32,
    held: i32,
    behind: i32,
    outside: i32,
    capabilities: String,
}

const KINDS: [&str; 6] = ["runs_flows", "linked", "held", "behind", "outside", "capabilities"];

impl TryFrom<ProspectRow> for Prospect {
    type Error = StoreError;

    fn try_from(row: ProspectRow) -> Result<Self> {
        let standing = Standing {
            is_linked: row.linked > 0,
            is_sent: false,
            is_update_trigger_set: row.held > 0,
            is_behind_another: row.behind > 0,
            is_abort_requested: false,
            is_held: false,
            is_put_off: false,
            is_outside_window: row.outside > 0,
            wave: 0,
        };
        let capabilities = serde_json::from_str(&row.capabilities);
        let corrupt = |error: serde_json::Error| StoreError::Corrupt { table: "devices", problem: error.to_string() };
        Ok(Self {
            standing: Some(standing).filter(|_| row.runs_flows > 0),
            capabilities: capabilities.map_err(corrupt)?,
            row,
        })
    }
}

impl Prospect {
    /// That a device would stand so, over the columns of the list of prospects.
    fn condition(&self) -> Condition {
        let numbers = [self.row.runs_flows, self.row.linked, self.row.held, self.row.behind, self.row.outside];
        let same = KINDS.into_iter().zip(numbers).fold(Condition::all(), |all, (kind, number)| {
            all.add(Expr::col((Alias::new("prospects"), Alias::new(kind))).eq(number))
        });
        same.add(Expr::col((Alias::new("prospects"), Alias::new("capabilities"))).eq(&self.row.capabilities))
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// How the matching devices would stand, with how many stand so: few rows.
    pub async fn prospects(&self, matching: &Matching) -> Result<Vec<(Prospect, u64)>> {
        let query = select_prospects(matching, &self.gate_of(matching).await?)
            .expr_as(Expr::cust("COUNT(*)"), "matching")
            .group_by_columns(KINDS.map(Alias::new))
            .take();
        let rows = self.conn.query_all(&query).await?;
        let prospect = |row: &sea_orm::QueryResult| {
            let devices: i64 = row.try_get("", "matching")?;
            let prospect = Prospect::try_from(ProspectRow::from_query_result(row, "")?)?;
            Ok((prospect, devices.try_into().unwrap_or(0)))
        };
        rows.iter().map(prospect).collect()
    }

    /// The next `limit` matching devices behind the row `after`, of those that would stand
    /// in one of these ways, and whether there are more.
    pub async fn prospect_devices(
        &self,
        matching: &Matching,
        of: &[Prospect],
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<ProspectDevice>, bool)> {
        let columns =
            [devices::Column::Id, devices::Column::Uuid, devices::Column::Name, devices::Column::AgentVersion];
        let behind = matching.clone().behind(after);
        let each = select_prospects(&behind, &self.gate_of(matching).await?)
            .columns(columns.map(|column| (devices::Entity, column)))
            .take();
        let query = Query::select()
            .column(sea_orm::sea_query::Asterisk)
            .from_subquery(each, "prospects")
            .cond_where(of.iter().fold(Condition::any(), |any, prospect| any.add(prospect.condition())))
            .order_by((Alias::new("prospects"), devices::Column::Id), Order::Asc)
            .limit(limit + 1)
            .take();
        let rows = if of.is_empty() { Vec::new() } else { self.conn.query_all(&query).await? };
        let is_more = rows.len() as u64 > limit;
        let rows = rows.iter().take(usize::try_from(limit).unwrap_or(usize::MAX));
        let device = |row: &sea_orm::QueryResult| {
            Ok(ProspectDevice {
                id: row.try_get("", "id")?,
                uuid: row.try_get("", "uuid")?,
                name: row.try_get("", "name")?,
                agent_version: row.try_get("", "agent_version")?,
                prospect: Prospect::try_from(ProspectRow::from_query_result(row, "")?)?,
            })
        };
        Ok((rows.map(device).collect::<Result<_>>()?, is_more))
    }

    async fn gate_of(&self, matching: &Matching) -> Result<Gate> {
        let of_devices = Query::select().from(devices::Entity).cond_where(matching.condition(SetForm::In)).take();
        Ok(Gate { now: self.now(), closed: self.closed_zones(&of_devices).await? })
    }
}

/// Each matching device with how it would stand.
fn select_prospects(matching: &Matching, gate: &Gate) -> SelectStatement {
    use device_presence::Column as P;
    let presence = |column: P| Expr::col((device_presence::Entity, column));
    let id = (devices::Entity, devices::Column::Id);
    let linked = presence(P::LinkServer).ne("").and(presence(P::OnlineUntilAt).gt(gate.now.as_millis()));
    let open = Query::select()
        .expr(Expr::value(1))
        .from(targets::Entity)
        .and_where(Expr::col((targets::Entity, targets::Column::DeviceId)).equals(id))
        .and_where(is_open())
        .take();
    let flag = |is_so: Expr| CaseStatement::new().case(is_so, 1).finally(0);
    let outside: Expr = match gate.closed.is_empty() {
        true => Expr::cust("0"),
        false => CaseStatement::new().case(gate.is_open(), 0).finally(1).into(),
    };
    Query::select()
        .expr_as(flag(Expr::col((devices::Entity, devices::Column::HasAgent))), "runs_flows")
        .expr_as(flag(linked), "linked")
        .expr_as(flag(Expr::col((devices::Entity, devices::Column::IsUpdateTriggerSet))), "held")
        .expr_as(flag(Expr::exists(open)), "behind")
        .expr_as(outside, "outside")
        .column((devices::Entity, devices::Column::Capabilities))
        .from(devices::Entity)
        .inner_join(device_presence::Entity, presence(P::DeviceId).equals(id))
        .cond_where(matching.condition(SetForm::In))
        .take()
}
