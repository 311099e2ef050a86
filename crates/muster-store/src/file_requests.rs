//! Requests for files of devices. A row is written before a device is told, and the device is
//! told again over each new link, until the files are stored or it has said that it cannot.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use sea_orm::sea_query::{Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, PaginatorTrait, QueryFilter,
};

use crate::db::{Db, Result, Tx};
use crate::entities::{device_presence, devices, file_requests, repositories};

/// Not answered yet.
const PENDING: i16 = 0;
/// The files are stored.
const STORED: i16 = 1;
/// The device cannot send them.
const FAILED: i16 = 2;

/// A request to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFileRequest {
    /// From [`Store::reserve_id`](crate::Store::reserve_id).
    pub id: RowId,
    /// The device.
    pub device_id: RowId,
    /// Where the files are to be stored.
    pub repository_id: RowId,
    /// As what.
    pub path: String,
    /// What is asked for.
    pub files_path: String,
    /// When the device may send them no more.
    pub ends_at: Timestamp,
}

/// What a device must be told.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct DueFileRequest {
    /// The row.
    pub id: RowId,
    /// The device's row.
    pub device_id: RowId,
    /// The device.
    pub device_uuid: String,
    /// The link to tell it over.
    pub link_epoch: i64,
    /// The repository's row.
    pub repository_id: RowId,
    /// Where the files are to be stored.
    pub repository_name: String,
    /// As what.
    pub path: String,
    /// What is asked for.
    pub files_path: String,
    ends_at: i64,
}

impl DueFileRequest {
    /// When the device may send them no more.
    pub fn ends_at(&self) -> Timestamp {
        Timestamp::from_millis(self.ends_at)
    }
}

/// How a request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileRequestStatus {
    /// The device has not answered yet.
    Pending,
    /// It has not, and may do so no more.
    Overdue,
    /// The files were stored.
    Stored,
    /// The device cannot send them; why, in its words.
    Failed(String),
}

/// Not answered, in the very words of the partial index.
fn is_pending() -> Expr {
    Expr::cust(r#""file_requests"."status" < 1"#)
}

fn select_due(server: &str, device_ids: Option<&[RowId]>, now: Timestamp, limit: u64) -> SelectStatement {
    use device_presence::Column as P;
    use file_requests::Column as F;
    let of = |column: F| Expr::col((file_requests::Entity, column));
    let presence = |column: P| Expr::col((device_presence::Entity, column));
    let repository = |column: repositories::Column| (repositories::Entity, column);
    let mut query = Query::select()
        .columns(
            [F::Id, F::DeviceId, F::RepositoryId, F::Path, F::FilesPath, F::EndsAt]
                .map(|column| (file_requests::Entity, column)),
        )
        .column((device_presence::Entity, P::LinkEpoch))
        .expr_as(Expr::col((devices::Entity, devices::Column::Uuid)), "device_uuid")
        .expr_as(Expr::col(repository(repositories::Column::Name)), "repository_name")
        .from(file_requests::Entity)
        .inner_join(device_presence::Entity, presence(P::DeviceId).equals((file_requests::Entity, F::DeviceId)))
        .inner_join(
            devices::Entity,
            Expr::col((devices::Entity, devices::Column::Id)).equals((file_requests::Entity, F::DeviceId)),
        )
        .inner_join(
            repositories::Entity,
            Expr::col(repository(repositories::Column::Id)).equals((file_requests::Entity, F::RepositoryId)),
        )
        .and_where(is_pending())
        .and_where(presence(P::LinkServer).eq(server))
        .and_where(of(F::DispatchedEpoch).lt(presence(P::LinkEpoch)))
        .and_where(of(F::EndsAt).gt(now.as_millis()))
        .order_by((file_requests::Entity, F::DeviceId), Order::Asc)
        .order_by((file_requests::Entity, F::Id), Order::Asc)
        .limit(limit)
        .take();
    if let Some(ids) = device_ids {
        query.and_where(of(F::DeviceId).is_in(ids.iter().copied()));
    }
    query
}

impl<C: ConnectionTrait> Db<C> {
    /// What must be told over the links of `server`, at most `limit`: to the given devices,
    /// or to any.
    pub async fn due_file_requests(
        &self,
        server: &str,
        device_ids: Option<&[RowId]>,
        limit: u64,
    ) -> Result<Vec<DueFileRequest>> {
        let rows = self.conn.query_all(&select_due(server, device_ids, self.now(), limit)).await?;
        Ok(rows.iter().map(|row| DueFileRequest::from_query_result(row, "")).collect::<Result<_, _>>()?)
    }

    /// How the request stands whose files are to be stored there.
    pub async fn find_file_request(&self, repository_id: RowId, path: &str) -> Result<Option<FileRequestStatus>> {
        let query = file_requests::Entity::find()
            .filter(file_requests::Column::RepositoryId.eq(repository_id))
            .filter(file_requests::Column::Path.eq(path));
        let now = self.now().as_millis();
        Ok(query.one(&self.conn).await?.map(|row| match row.status {
            STORED => FileRequestStatus::Stored,
            FAILED => FileRequestStatus::Failed(row.reason),
            _ if row.ends_at <= now => FileRequestStatus::Overdue,
            _ => FileRequestStatus::Pending,
        }))
    }

    /// How many requests a device has not answered, and may answer still.
    pub async fn pending_file_requests(&self, device_id: RowId) -> Result<u64> {
        let query = file_requests::Entity::find()
            .filter(file_requests::Column::DeviceId.eq(device_id))
            .filter(is_pending())
            .filter(file_requests::Column::EndsAt.gt(self.now().as_millis()));
        Ok(query.count(&self.conn).await?)
    }
}

impl Tx {
    /// Makes a request that nobody has been told of.
    pub async fn insert_file_request(&self, new: &NewFileRequest) -> Result<()> {
        let row = file_requests::Model {
            id: new.id,
            device_id: new.device_id,
            repository_id: new.repository_id,
            path: new.path.clone(),
            files_path: new.files_path.clone(),
            status: PENDING,
            reason: String::new(),
            dispatched_epoch: 0,
            created_at: self.now().as_millis(),
            ends_at: new.ends_at.as_millis(),
        };
        file_requests::Entity::insert(file_requests::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(())
    }

    /// Notes that devices are told over their links. One statement.
    pub async fn mark_file_requests_sent(&self, due: &[DueFileRequest]) -> Result<()> {
        use device_presence::Column as P;
        use file_requests::Column as F;
        if due.is_empty() {
            return Ok(());
        }
        let epoch = Query::select()
            .column(P::LinkEpoch)
            .from(device_presence::Entity)
            .and_where(Expr::col((device_presence::Entity, P::DeviceId)).equals((file_requests::Entity, F::DeviceId)))
            .take();
        file_requests::Entity::update_many()
            .col_expr(F::DispatchedEpoch, crate::page::subquery(epoch))
            .filter(F::Id.is_in(due.iter().map(|due| due.id)))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    /// The files that were to be stored there are.
    pub async fn file_request_stored(&self, repository_id: RowId, path: &str) -> Result<()> {
        let change =
            file_requests::ActiveModel { status: Set(STORED), reason: Set(String::new()), ..Default::default() };
        file_requests::Entity::update_many()
            .set(change)
            .filter(file_requests::Column::RepositoryId.eq(repository_id))
            .filter(file_requests::Column::Path.eq(path))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    /// A device cannot send what it was asked for. Answers whether it was waited for.
    pub async fn file_request_failed(&self, device_id: RowId, id: RowId, reason: &str) -> Result<bool> {
        let change =
            file_requests::ActiveModel { status: Set(FAILED), reason: Set(reason.to_owned()), ..Default::default() };
        let failed = file_requests::Entity::update_many()
            .set(change)
            .filter(file_requests::Column::Id.eq(id))
            .filter(file_requests::Column::DeviceId.eq(device_id))
            .filter(is_pending())
            .exec(&self.conn)
            .await?;
        Ok(failed.rows_affected > 0)
    }

    /// Forgets requests that ended before that moment. Answers with how many.
    pub async fn forget_file_requests(&self, before: Timestamp) -> Result<u64> {
        let which = file_requests::Column::EndsAt.lt(before.as_millis());
        Ok(file_requests::Entity::delete_many().filter(which).exec(&self.conn).await?.rows_affected)
    }
}
