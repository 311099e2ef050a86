//! Requests for files of devices; what each repository holds; uploads in parts.

use sea_orm_migration::prelude::*;

use super::columns::{cascade, id, index, moment, reference, table, text, unique};
use crate::entities::{devices, file_requests, loose_objects, repositories};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let parts = ColumnDef::new(loose_objects::Column::MultipartId).text().not_null().default("").take();
        add(manager, loose_objects::Entity, parts).await?;
        let used = ColumnDef::new(repositories::Column::UsedBytes).big_integer().not_null().default(0).take();
        add(manager, repositories::Entity, used).await?;
        manager.create_table(request_table()).await?;
        for index in indexes() {
            manager.create_index(index).await?;
        }
        for statement in STATEMENTS {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

const STATEMENTS: [&str; 2] = [
    r#"UPDATE "repositories" SET "used_bytes" = (SELECT CAST(COALESCE(SUM("blobs"."size"), 0) AS BIGINT) FROM "artifacts" INNER JOIN "blobs" ON "blobs"."id" = "artifacts"."blob_id" WHERE "artifacts"."repository_id" = "repositories"."id")"#,
    // What is still to be sent.
    r#"CREATE INDEX "file_requests_pending" ON "file_requests" ("device_id", "id") WHERE "status" < 1"#,
];

async fn add(manager: &SchemaManager<'_>, table: impl IntoTableRef, mut column: ColumnDef) -> Result<(), DbErr> {
    manager.alter_table(Table::alter().table(table).add_column(&mut column).take()).await
}

fn request_table() -> TableCreateStatement {
    use file_requests::Column as F;
    let (device, repository) =
        ((devices::Entity, devices::Column::Id), (repositories::Entity, repositories::Column::Id));
    table(file_requests::Entity)
        .col(id(F::Id))
        .col(reference(F::DeviceId))
        .col(reference(F::RepositoryId))
        .col(text(F::Path))
        .col(text(F::FilesPath))
        .col(ColumnDef::new(F::Status).small_integer().not_null())
        .col(text(F::Reason))
        .col(reference(F::DispatchedEpoch))
        .col(moment(F::CreatedAt))
        .col(moment(F::EndsAt))
        .foreign_key(&mut cascade((file_requests::Entity, F::DeviceId), device))
        .foreign_key(&mut cascade((file_requests::Entity, F::RepositoryId), repository))
        .take()
}

fn indexes() -> [IndexCreateStatement; 3] {
    use file_requests::Column as F;
    [
        unique("file_requests_path", file_requests::Entity, [F::RepositoryId, F::Path]),
        index("file_requests_device", file_requests::Entity, [F::DeviceId]),
        index("file_requests_ends", file_requests::Entity, [F::EndsAt]),
    ]
}
