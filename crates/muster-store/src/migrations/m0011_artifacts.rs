//! Repositories of artifacts, and what the storage holds of them.

use sea_orm_migration::prelude::*;

use super::columns::{cascade, id, index, moment, optional, reference, restrict, table, text, to_account, unique};
use crate::entities::{artifact_folders, artifacts, blobs, fleets, loose_objects, repositories};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [repository_table(), folder_table(), blob_table(), artifact_table(), loose_table()] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        // Few of many: what the next collection takes.
        let doomed = r#"CREATE INDEX "blobs_unreferenced" ON "blobs" ("unreferenced_at") WHERE "unreferenced_at" > 0"#;
        manager.get_connection().execute_unprepared(doomed).await?;
        Ok(())
    }
}

fn repository_table() -> TableCreateStatement {
    use repositories::Column as R;
    table(repositories::Entity)
        .col(id(R::Id))
        .col(reference(R::AccountId))
        .col(optional(R::FleetId))
        .col(text(R::Name))
        .col(text(R::Kind))
        .col(text(R::Description))
        .col(text(R::CreatedBy))
        .col(moment(R::CreatedAt))
        .foreign_key(&mut to_account(repositories::Entity, R::AccountId))
        .foreign_key(&mut cascade((repositories::Entity, R::FleetId), (fleets::Entity, fleets::Column::Id)))
        .take()
}

fn folder_table() -> TableCreateStatement {
    use artifact_folders::Column as F;
    let repository = (repositories::Entity, repositories::Column::Id);
    table(artifact_folders::Entity)
        .col(id(F::Id))
        .col(reference(F::RepositoryId))
        .col(optional(F::ParentId))
        .col(text(F::Path))
        .col(text(F::CreatedBy))
        .col(moment(F::CreatedAt))
        .foreign_key(&mut cascade((artifact_folders::Entity, F::RepositoryId), repository))
        .foreign_key(&mut cascade((artifact_folders::Entity, F::ParentId), (artifact_folders::Entity, F::Id)))
        .take()
}

fn artifact_table() -> TableCreateStatement {
    use artifacts::Column as A;
    let folder = (artifact_folders::Entity, artifact_folders::Column::Id);
    table(artifacts::Entity)
        .col(id(A::Id))
        .col(reference(A::RepositoryId))
        .col(reference(A::FolderId))
        .col(text(A::Path))
        .col(reference(A::BlobId))
        .col(text(A::MimeType))
        .col(text(A::CreatedBy))
        .col(moment(A::CreatedAt))
        .col(text(A::ModifiedBy))
        .col(moment(A::ModifiedAt))
        .foreign_key(&mut cascade(
            (artifacts::Entity, A::RepositoryId),
            (repositories::Entity, repositories::Column::Id),
        ))
        .foreign_key(&mut cascade((artifacts::Entity, A::FolderId), folder))
        .foreign_key(&mut restrict((artifacts::Entity, A::BlobId), (blobs::Entity, blobs::Column::Id)))
        .take()
}

fn blob_table() -> TableCreateStatement {
    use blobs::Column as B;
    table(blobs::Entity)
        .col(id(B::Id))
        .col(text(B::Sha256))
        .col(text(B::Sha1))
        .col(text(B::Md5))
        .col(reference(B::Size))
        .col(moment(B::CreatedAt))
        .col(moment(B::UnreferencedAt))
        .take()
}

fn loose_table() -> TableCreateStatement {
    use loose_objects::Column as L;
    table(loose_objects::Entity).col(id(L::Id)).col(moment(L::DueAt)).take()
}

fn indexes() -> Vec<IndexCreateStatement> {
    use artifact_folders::Column as F;
    use artifacts::Column as A;
    use blobs::Column as B;
    use loose_objects::Column as L;
    use repositories::Column as R;
    vec![
        unique("repositories_name", repositories::Entity, [R::AccountId, R::Name]),
        index("repositories_account", repositories::Entity, [R::AccountId, R::Id]),
        index("repositories_fleet", repositories::Entity, [R::FleetId]),
        unique("artifact_folders_path", artifact_folders::Entity, [F::RepositoryId, F::Path]),
        index("artifact_folders_parent", artifact_folders::Entity, [F::ParentId, F::Path]),
        unique("artifacts_path", artifacts::Entity, [A::RepositoryId, A::Path]),
        index("artifacts_folder", artifacts::Entity, [A::FolderId, A::Path]),
        index("artifacts_blob", artifacts::Entity, [A::BlobId, A::RepositoryId]),
        unique("blobs_sha256", blobs::Entity, [B::Sha256]),
        index("loose_objects_due", loose_objects::Entity, [L::DueAt, L::Id]),
    ]
}
