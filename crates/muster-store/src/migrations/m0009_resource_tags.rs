//! Tags on resources that are no devices.

use sea_orm_migration::prelude::*;

use super::columns::{cascade, reference, table, text, to_account, unique};
use crate::entities::{resource_tags, tags};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use resource_tags::{Column as R, Entity as Links};
        let links = table(Links)
            .col(reference(R::TagId))
            .col(reference(R::Id))
            .col(reference(R::AccountId))
            .col(text(R::ServiceType))
            .col(text(R::Region))
            .col(text(R::ResourceId))
            .col(text(R::ResourceUuid))
            // A tag's resources are counted, listed and left by this.
            .primary_key(Index::create().col(R::TagId).col(R::Id))
            .foreign_key(&mut cascade((Links, R::TagId), (tags::Entity, tags::Column::Id)))
            .foreign_key(&mut to_account(Links, R::AccountId))
            .take();
        manager.create_table(links).await?;
        // The id first: it alone is asked for in queries that name no kind and no region.
        let place = [R::AccountId, R::ResourceId, R::ServiceType, R::Region, R::TagId];
        manager.create_index(unique("resource_tags_resource", Links, place)).await
    }
}
