//! Artifacts and the folders that they lie in.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::names::ArtifactPath;
use sea_orm::sea_query::{
    Alias, CommonTableExpression, Expr, ExprTrait, Query, SelectStatement, UnionType, WithClause,
};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::blobs::Blob;
use crate::db::{Db, Result, Tx};
use crate::entities::{artifact_folders, artifacts, blobs, repositories};
use crate::error::StoreError;

/// An artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The row.
    pub id: RowId,
    /// Where it lies in its repository.
    pub path: String,
    /// What it holds.
    pub blob: Blob,
    /// What kind of content its sender said it is.
    pub mime_type: String,
    /// Who stored it first.
    pub created_by: String,
    /// When it was stored first.
    pub created_at: Timestamp,
    /// Who stored it last.
    pub modified_by: String,
    /// When it was stored last.
    pub modified_at: Timestamp,
}

/// What is to be stored at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewArtifact {
    /// The repository.
    pub repository_id: RowId,
    /// Where in it.
    pub path: ArtifactPath,
    /// What it holds: a blob that is there already.
    pub blob_id: RowId,
    /// What kind of content it is.
    pub mime_type: String,
    /// Who stores it.
    pub by: String,
}

/// A folder of artifacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The row.
    pub id: RowId,
    /// Where it lies in its repository; empty for the repository itself.
    pub path: String,
    /// Whose artifact made it first.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
}

impl From<artifact_folders::Model> for Folder {
    fn from(row: artifact_folders::Model) -> Self {
        let created_at = Timestamp::from_millis(row.created_at);
        Self { id: row.id, path: row.path, created_by: row.created_by, created_at }
    }
}

/// What lies in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Children {
    /// Whole paths of the folders in it, sorted.
    pub folders: Vec<String>,
    /// Whole paths of the artifacts in it, sorted.
    pub artifacts: Vec<String>,
}

impl<C: ConnectionTrait> Db<C> {
    /// The artifact at that path.
    pub async fn find_artifact(&self, repository_id: RowId, path: &ArtifactPath) -> Result<Option<Artifact>> {
        let Some(row) = self.artifact_row(repository_id, path.as_str()).await? else { return Ok(None) };
        let lost = || StoreError::Corrupt { table: "artifacts", problem: format!("no blob {}", row.blob_id) };
        let blob = self.find_blob(row.blob_id).await?;
        let Some(blob) = blob else {
            // Outside of a transaction the artifact may have another by now.
            return match self.artifact_row(repository_id, path.as_str()).await? {
                Some(now) if now.blob_id == row.blob_id => Err(lost()),
                Some(now) => {
                    let blob = self.find_blob(now.blob_id).await?.ok_or_else(lost)?;
                    Ok(Some(artifact(now, blob)))
                }
                None => Ok(None),
            };
        };
        Ok(Some(artifact(row, blob)))
    }

    async fn artifact_row(&self, repository_id: RowId, path: &str) -> Result<Option<artifacts::Model>> {
        let query = artifacts::Entity::find()
            .filter(artifacts::Column::RepositoryId.eq(repository_id))
            .filter(artifacts::Column::Path.eq(path));
        Ok(query.one(&self.conn).await?)
    }

    /// The folder at that path; the repository itself for none.
    pub async fn find_folder(&self, repository_id: RowId, path: Option<&ArtifactPath>) -> Result<Option<Folder>> {
        let query = artifact_folders::Entity::find()
            .filter(artifact_folders::Column::RepositoryId.eq(repository_id))
            .filter(artifact_folders::Column::Path.eq(path.map_or("", ArtifactPath::as_str)));
        Ok(query.one(&self.conn).await?.map(Folder::from))
    }

    /// What lies in a folder, at most `limit` of each kind.
    pub async fn folder_children(&self, folder_id: RowId, limit: u64) -> Result<Children> {
        let folders = artifact_folders::Entity::find()
            .select_only()
            .column(artifact_folders::Column::Path)
            .filter(artifact_folders::Column::ParentId.eq(folder_id))
            .order_by_asc(artifact_folders::Column::Path)
            .limit(limit);
        let files = artifacts::Entity::find()
            .select_only()
            .column(artifacts::Column::Path)
            .filter(artifacts::Column::FolderId.eq(folder_id))
            .order_by_asc(artifacts::Column::Path)
            .limit(limit);
        Ok(Children {
            folders: folders.into_tuple().all(&self.conn).await?,
            artifacts: files.into_tuple().all(&self.conn).await?,
        })
    }

    /// The first of the folders around `path` whose place an artifact has, and `path`
    /// itself where it is a folder: what stands in the way of an artifact there.
    pub async fn in_the_way(&self, repository_id: RowId, path: &ArtifactPath) -> Result<Option<String>> {
        let files = artifacts::Entity::find()
            .select_only()
            .column(artifacts::Column::Path)
            .filter(artifacts::Column::RepositoryId.eq(repository_id))
            .filter(artifacts::Column::Path.is_in(path.folders()))
            .limit(1);
        if let Some(file) = files.into_tuple().one(&self.conn).await? {
            return Ok(Some(file));
        }
        Ok(self.find_folder(repository_id, Some(path)).await?.map(|folder| folder.path))
    }
}

fn artifact(row: artifacts::Model, blob: Blob) -> Artifact {
    Artifact {
        id: row.id,
        path: row.path,
        blob,
        mime_type: row.mime_type,
        created_by: row.created_by,
        created_at: Timestamp::from_millis(row.created_at),
        modified_by: row.modified_by,
        modified_at: Timestamp::from_millis(row.modified_at),
    }
}

/// A folder, and those that lie in it at whatever depth.
fn select_within(folder_id: RowId) -> SelectStatement {
    use artifact_folders::Column as F;
    let (within, id) = (Alias::new("within"), Alias::new("id"));
    let folder = |column: F| Expr::col((artifact_folders::Entity, column));
    let mut folders =
        Query::select().column(F::Id).from(artifact_folders::Entity).and_where(folder(F::Id).eq(folder_id)).take();
    let inner = Query::select()
        .column((artifact_folders::Entity, F::Id))
        .from(artifact_folders::Entity)
        .inner_join(within.clone(), folder(F::ParentId).equals((within.clone(), id.clone())))
        .take();
    folders.union(UnionType::All, inner);
    let table = CommonTableExpression::new().query(folders).column(id.clone()).table_name(within.clone()).to_owned();
    Query::select()
        .column((within.clone(), id))
        .from(within)
        .with_cte(WithClause::new().recursive(true).cte(table).to_owned())
        .take()
}

impl Tx {
    /// Puts an artifact in its place, or in that of an earlier one. Nothing may be
    /// [in the way](Db::in_the_way), and the blob must be [kept](Tx::keep_blob). Answers by
    /// how many bytes what the repository holds has grown.
    pub async fn put_artifact(&self, new: &NewArtifact) -> Result<i64> {
        let now = self.now().as_millis();
        let earlier = self.artifact_row(new.repository_id, new.path.as_str()).await?;
        let before = match &earlier {
            Some(earlier) => self.blob_size(earlier.blob_id).await?,
            None => 0,
        };
        let growth = self.blob_size(new.blob_id).await? - before;
        self.add_used_bytes(new.repository_id, growth).await?;
        if let Some(earlier) = earlier {
            let change = artifacts::ActiveModel {
                blob_id: Set(new.blob_id),
                mime_type: Set(new.mime_type.clone()),
                modified_by: Set(new.by.clone()),
                modified_at: Set(now),
                ..Default::default()
            };
            let which = artifacts::Column::Id.eq(earlier.id);
            artifacts::Entity::update_many().set(change).filter(which).exec(&self.conn).await?;
            return Ok(growth);
        }
        let row = artifacts::Model {
            id: self.next_id(),
            repository_id: new.repository_id,
            folder_id: self.ensure_folders(new).await?,
            path: new.path.as_str().to_owned(),
            blob_id: new.blob_id,
            mime_type: new.mime_type.clone(),
            created_by: new.by.clone(),
            created_at: now,
            modified_by: new.by.clone(),
            modified_at: now,
        };
        artifacts::Entity::insert(artifacts::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(growth)
    }

    async fn blob_size(&self, id: RowId) -> Result<i64> {
        Ok(self.find_blob(id).await?.map_or(0, |blob| blob.size))
    }

    async fn add_used_bytes(&self, repository_id: RowId, bytes: i64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        repositories::Entity::update_many()
            .col_expr(repositories::Column::UsedBytes, Expr::col(repositories::Column::UsedBytes).add(bytes))
            .filter(repositories::Column::Id.eq(repository_id))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    /// Takes off what a repository holds the artifacts of which that is true, before they are deleted.
    async fn give_back(&self, which: Expr) -> Result<()> {
        let sizes = Query::select()
            .column((artifacts::Entity, artifacts::Column::RepositoryId))
            .expr_as(Expr::cust(r#"CAST(SUM("blobs"."size") AS BIGINT)"#), "bytes")
            .from(artifacts::Entity)
            .inner_join(
                blobs::Entity,
                Expr::col((blobs::Entity, blobs::Column::Id)).equals((artifacts::Entity, artifacts::Column::BlobId)),
            )
            .and_where(which)
            .group_by_col((artifacts::Entity, artifacts::Column::RepositoryId))
            .take();
        for row in self.conn.query_all(&sizes).await? {
            self.add_used_bytes(row.try_get("", "repository_id")?, -row.try_get::<i64>("", "bytes")?).await?;
        }
        Ok(())
    }

    /// Makes the folders around an artifact where they are missing, and answers with the innermost.
    async fn ensure_folders(&self, new: &NewArtifact) -> Result<RowId> {
        let lost = || StoreError::Corrupt { table: "artifact_folders", problem: format!("none of {}", new.path) };
        let paths: Vec<&str> = std::iter::once("").chain(new.path.folders()).collect();
        let known = artifact_folders::Entity::find()
            .filter(artifact_folders::Column::RepositoryId.eq(new.repository_id))
            .filter(artifact_folders::Column::Path.is_in(paths.iter().copied()))
            .all(&self.conn)
            .await?;
        let mut parent = known.iter().find(|folder| folder.parent_id.is_none()).ok_or_else(lost)?.id;
        let mut missing = Vec::new();
        for path in paths.into_iter().skip(1) {
            if let Some(folder) = known.iter().find(|folder| folder.path == path) {
                parent = folder.id;
                continue;
            }
            let row = artifact_folders::Model {
                id: self.next_id(),
                repository_id: new.repository_id,
                parent_id: Some(parent),
                path: path.to_owned(),
                created_by: new.by.clone(),
                created_at: self.now().as_millis(),
            };
            parent = row.id;
            missing.push(artifact_folders::ActiveModel::from(row));
        }
        if !missing.is_empty() {
            artifact_folders::Entity::insert_many(missing).exec_without_returning(&self.conn).await?;
        }
        Ok(parent)
    }

    /// Deletes an artifact.
    pub async fn delete_artifact(&self, id: RowId) -> Result<()> {
        self.give_back(Expr::col((artifacts::Entity, artifacts::Column::Id)).eq(id)).await?;
        artifacts::Entity::delete_by_id(id).exec(&self.conn).await?;
        Ok(())
    }

    /// Deletes a folder with all that lies in it, at whatever depth. Few statements.
    pub async fn delete_folder(&self, id: RowId) -> Result<()> {
        let folder = Expr::col((artifacts::Entity, artifacts::Column::FolderId));
        self.give_back(folder.in_subquery(select_within(id))).await?;
        artifact_folders::Entity::delete_by_id(id).exec(&self.conn).await?;
        Ok(())
    }
}
