//! Update flows and the documents they came in.

use muster_core::clock::Timestamp;
use muster_core::flow::Flow;
use muster_core::ids::{FlowUuid, RowId};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::db::{Db, Result, Tx};
use crate::entities::{flow_sources, flows};
use crate::error::StoreError;

/// An update flow as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredFlow {
    /// The row.
    pub id: RowId,
    /// As every API names it.
    pub uuid: String,
    /// The parsed flow.
    pub flow: Flow,
    /// When it was made.
    pub created_at: Timestamp,
}

impl TryFrom<flows::Model> for StoredFlow {
    type Error = StoreError;

    fn try_from(row: flows::Model) -> Result<Self> {
        let flow = serde_json::from_str(&row.definition)
            .map_err(|error| StoreError::Corrupt { table: "flows", problem: error.to_string() })?;
        Ok(Self { id: row.id, uuid: row.uuid, flow, created_at: Timestamp::from_millis(row.created_at) })
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// A flow of that fleet.
    pub async fn find_flow(&self, fleet_id: RowId, uuid: &FlowUuid) -> Result<Option<StoredFlow>> {
        let query = flows::Entity::find()
            .filter(flows::Column::Uuid.eq(uuid.as_str()))
            .filter(flows::Column::FleetId.eq(fleet_id));
        query.one(&self.conn).await?.map(StoredFlow::try_from).transpose()
    }

    /// The flow of a row that refers to it.
    pub(crate) async fn flow(&self, id: RowId) -> Result<StoredFlow> {
        let row = flows::Entity::find_by_id(id).one(&self.conn).await?;
        let missing = || StoreError::Corrupt { table: "deployments", problem: format!("flow {id} is missing") };
        row.ok_or_else(missing)?.try_into()
    }

    /// The document of a flow, byte for byte.
    pub async fn flow_yaml(&self, fleet_id: RowId, uuid: &FlowUuid) -> Result<Option<String>> {
        let source: Option<RowId> = flows::Entity::find()
            .select_only()
            .column(flows::Column::SourceId)
            .filter(flows::Column::Uuid.eq(uuid.as_str()))
            .filter(flows::Column::FleetId.eq(fleet_id))
            .into_tuple()
            .one(&self.conn)
            .await?;
        let Some(source) = source else { return Ok(None) };
        Ok(flow_sources::Entity::find_by_id(source).one(&self.conn).await?.map(|row| row.yaml))
    }

    /// The next `limit` flows of a fleet behind the row `after`, oldest first, and whether there are more.
    pub async fn flows_page(
        &self,
        fleet_id: RowId,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<StoredFlow>, bool)> {
        let mut query = flows::Entity::find()
            .filter(flows::Column::FleetId.eq(fleet_id))
            .order_by_asc(flows::Column::Id)
            .limit(limit + 1);
        if let Some(after) = after {
            query = query.filter(flows::Column::Id.gt(after));
        }
        let mut rows = query.all(&self.conn).await?;
        let is_more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((rows.into_iter().map(StoredFlow::try_from).collect::<Result<_>>()?, is_more))
    }

    /// How many flows a fleet has.
    pub async fn flows_count(&self, fleet_id: RowId) -> Result<u64> {
        Ok(flows::Entity::find().filter(flows::Column::FleetId.eq(fleet_id)).count(&self.conn).await?)
    }
}

impl Tx {
    /// Stores every flow of a document, and the document as it came.
    pub async fn insert_flows(&self, fleet_id: RowId, yaml: &str, parsed: &[Flow]) -> Result<Vec<FlowUuid>> {
        let source_id = self.next_id();
        let source = flow_sources::Model { id: source_id, yaml: yaml.to_owned() };
        flow_sources::Entity::insert(flow_sources::ActiveModel::from(source))
            .exec_without_returning(&self.conn)
            .await?;
        let mut uuids = Vec::with_capacity(parsed.len());
        for flow in parsed {
            let uuid = self.random(FlowUuid::random);
            let definition = serde_json::to_string(flow)
                .map_err(|error| StoreError::Corrupt { table: "flows", problem: error.to_string() })?;
            let row = flows::Model {
                id: self.next_id(),
                uuid: uuid.as_str().to_owned(),
                fleet_id,
                source_id,
                name: flow.name.as_str().to_owned(),
                definition,
                created_at: self.now().as_millis(),
            };
            flows::Entity::insert(flows::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
            uuids.push(uuid);
        }
        Ok(uuids)
    }

    /// Deletes every flow of a fleet, with their documents. No deployment may have one of them.
    pub(crate) async fn delete_flows_of(&self, fleet_id: RowId) -> Result<()> {
        let of_fleet = flows::Column::FleetId.eq(fleet_id);
        // A document goes after its flows, which are what tells whose it was.
        let sources: Vec<RowId> = flows::Entity::find()
            .select_only()
            .column(flows::Column::SourceId)
            .distinct()
            .filter(of_fleet.clone())
            .into_tuple()
            .all(&self.conn)
            .await?;
        flows::Entity::delete_many().filter(of_fleet).exec(&self.conn).await?;
        for some in sources.chunks(SOURCES_MAX) {
            let some = flow_sources::Column::Id.is_in(some.iter().copied());
            flow_sources::Entity::delete_many().filter(some).exec(&self.conn).await?;
        }
        Ok(())
    }
}

/// Documents of one statement: well below both engines' limit on bound values.
const SOURCES_MAX: usize = 1_000;
