//! Contents of artifacts. Each lies in the storage under the id of its row, and an id is
//! never used again: so nobody removes what another has just stored.
//!
//! What may lie in the storage without a blob is a loose object: noted before an upload
//! begins, and when a blob is dropped. So after a crash nothing is lost and nothing is
//! forgotten, and nobody ever has to list the storage.

use muster_core::artifact::Checksums;
use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use sea_orm::sea_query::{Expr, Query, SelectStatement};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
};

use crate::db::{Db, Result, Tx};
use crate::entities::{artifacts, blobs, loose_objects};

/// A content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The row, which names the object in the storage.
    pub id: RowId,
    /// What tells it.
    pub checksums: Checksums,
    /// Bytes.
    pub size: i64,
}

impl From<blobs::Model> for Blob {
    fn from(row: blobs::Model) -> Self {
        let checksums = Checksums { sha256: row.sha256, sha1: row.sha1, md5: row.md5 };
        Self { id: row.id, checksums, size: row.size }
    }
}

/// What the storage may hold without a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LooseObject {
    /// The object.
    pub id: RowId,
    /// What the storage calls an upload of it in parts; empty when there is none.
    pub multipart_id: String,
}

/// Of those rows of blobs, no artifact has them.
fn unused() -> Expr {
    let mut users: SelectStatement = Query::select();
    users.expr(Expr::value(1)).from(artifacts::Entity).and_where(
        Expr::col((artifacts::Entity, artifacts::Column::BlobId)).equals((blobs::Entity, blobs::Column::Id)),
    );
    Expr::exists(users).not()
}

impl<C: ConnectionTrait> Db<C> {
    /// The blob of that row.
    pub async fn find_blob(&self, id: RowId) -> Result<Option<Blob>> {
        Ok(blobs::Entity::find_by_id(id).one(&self.conn).await?.map(Blob::from))
    }

    /// The blob of that content.
    pub async fn find_blob_by_sha256(&self, sha256: &str) -> Result<Option<Blob>> {
        let query = blobs::Entity::find().filter(blobs::Column::Sha256.eq(sha256));
        Ok(query.one(&self.conn).await?.map(Blob::from))
    }

    /// The repositories in which an artifact has that blob, at most `limit` of them.
    pub async fn repositories_of_blob(&self, blob_id: RowId, limit: u64) -> Result<Vec<RowId>> {
        let query = artifacts::Entity::find()
            .select_only()
            .column(artifacts::Column::RepositoryId)
            .distinct()
            .filter(artifacts::Column::BlobId.eq(blob_id))
            .limit(limit);
        Ok(query.into_tuple().all(&self.conn).await?)
    }

    /// The rows of the next `limit` blobs behind `after`: the last of them.
    pub async fn blobs_end(&self, after: RowId, limit: u64) -> Result<Option<RowId>> {
        let query = blobs::Entity::find()
            .select_only()
            .column(blobs::Column::Id)
            .filter(blobs::Column::Id.gt(after))
            .order_by_asc(blobs::Column::Id)
            .limit(limit);
        Ok(query.into_tuple::<RowId>().all(&self.conn).await?.last().copied())
    }

    /// The loose object of that id.
    pub async fn find_loose_object(&self, id: RowId) -> Result<Option<LooseObject>> {
        let row = loose_objects::Entity::find_by_id(id).one(&self.conn).await?;
        Ok(row.map(|row| LooseObject { id: row.id, multipart_id: row.multipart_id }))
    }

    /// Loose objects that are due by now, at most `limit` of them.
    pub async fn loose_objects_due(&self, limit: u64) -> Result<Vec<LooseObject>> {
        let query = loose_objects::Entity::find()
            .filter(loose_objects::Column::DueAt.lte(self.now().as_millis()))
            .order_by_asc(loose_objects::Column::DueAt)
            .order_by_asc(loose_objects::Column::Id)
            .limit(limit);
        let rows = query.all(&self.conn).await?;
        Ok(rows.into_iter().map(|row| LooseObject { id: row.id, multipart_id: row.multipart_id }).collect())
    }
}

impl Tx {
    /// Notes what is about to be stored under `id`: unless it becomes a blob, it is removed after `due_at`.
    pub async fn insert_loose_object(&self, id: RowId, due_at: Timestamp) -> Result<()> {
        let row = loose_objects::Model { id, due_at: due_at.as_millis(), multipart_id: String::new() };
        loose_objects::Entity::insert(loose_objects::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(())
    }

    /// Notes that a loose object arrives in parts, and what the storage calls that: its
    /// parts lie there until somebody names it.
    pub async fn note_multipart(&self, id: RowId, multipart_id: &str) -> Result<()> {
        let change = loose_objects::ActiveModel { multipart_id: Set(multipart_id.to_owned()), ..Default::default() };
        let which = loose_objects::Column::Id.eq(id);
        loose_objects::Entity::update_many().set(change).filter(which).exec(&self.conn).await?;
        Ok(())
    }

    /// Makes loose objects due at once.
    pub async fn give_up_objects(&self, ids: &[RowId]) -> Result<()> {
        let change = loose_objects::ActiveModel { due_at: Set(0), ..Default::default() };
        let which = loose_objects::Column::Id.is_in(ids.iter().copied());
        loose_objects::Entity::update_many().set(change).filter(which).exec(&self.conn).await?;
        Ok(())
    }

    /// Forgets loose objects, which the storage holds no more, or which are blobs now.
    /// Answers with how many were noted.
    pub async fn forget_loose_objects(&self, ids: &[RowId]) -> Result<u64> {
        let which = loose_objects::Column::Id.is_in(ids.iter().copied());
        Ok(loose_objects::Entity::delete_many().filter(which).exec(&self.conn).await?.rows_affected)
    }

    /// Makes a blob of what lies in the storage under `blob.id`.
    pub async fn insert_blob(&self, blob: &Blob) -> Result<()> {
        let row = blobs::Model {
            id: blob.id,
            sha256: blob.checksums.sha256.clone(),
            sha1: blob.checksums.sha1.clone(),
            md5: blob.checksums.md5.clone(),
            size: blob.size,
            created_at: self.now().as_millis(),
            unreferenced_at: 0,
        };
        blobs::Entity::insert(blobs::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(())
    }

    /// Keeps a blob that an artifact is about to have: whoever drops it at the same time
    /// comes in between, and one of the two is repeated.
    pub async fn keep_blob(&self, id: RowId) -> Result<()> {
        let change = blobs::ActiveModel { unreferenced_at: Set(0), ..Default::default() };
        blobs::Entity::update_many().set(change).filter(blobs::Column::Id.eq(id)).exec(&self.conn).await?;
        Ok(())
    }

    /// Notes of the blobs behind the row `after` up to `last` since when no artifact has them.
    pub async fn mark_unused_blobs(&self, after: RowId, last: RowId) -> Result<u64> {
        let change = blobs::ActiveModel { unreferenced_at: Set(self.now().as_millis()), ..Default::default() };
        let marked = blobs::Entity::update_many()
            .set(change)
            .filter(blobs::Column::Id.gt(after))
            .filter(blobs::Column::Id.lte(last))
            .filter(blobs::Column::UnreferencedAt.eq(0))
            .filter(unused());
        Ok(marked.exec(&self.conn).await?.rows_affected)
    }

    /// Drops blobs that no artifact has had since `before`, at most `limit` of them: what
    /// the storage holds of them is loose from here on, and due. Answers with how many.
    pub async fn drop_unused_blobs(&self, before: Timestamp, limit: u64) -> Result<usize> {
        let query = blobs::Entity::find()
            .select_only()
            .column(blobs::Column::Id)
            .filter(blobs::Column::UnreferencedAt.gt(0))
            .filter(blobs::Column::UnreferencedAt.lt(before.as_millis()))
            .filter(unused())
            .order_by_asc(blobs::Column::UnreferencedAt)
            .limit(limit);
        let ids: Vec<RowId> = query.into_tuple().all(&self.conn).await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let which = blobs::Column::Id.is_in(ids.iter().copied());
        blobs::Entity::delete_many().filter(which).exec(&self.conn).await?;
        let row = |id: &RowId| loose_objects::Model { id: *id, due_at: 0, multipart_id: String::new() };
        let loose = ids.iter().map(|id| loose_objects::ActiveModel::from(row(id)));
        loose_objects::Entity::insert_many(loose).exec_without_returning(&self.conn).await?;
        Ok(ids.len())
    }
}
