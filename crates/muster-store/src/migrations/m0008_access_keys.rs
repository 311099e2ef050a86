//! Access keys of the Tag Service.

use sea_orm_migration::prelude::*;

use super::columns::{cascade, id, index, moment, reference, table, text, to_account, unique};
use crate::entities::{access_keys, users};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        use access_keys::Column as K;
        let keys = table(access_keys::Entity)
            .col(id(K::Id))
            .col(reference(K::AccountId))
            .col(reference(K::UserId))
            .col(text(K::AccessKeyId))
            .col(text(K::SealedSecret))
            .col(text(K::Policy))
            .col(text(K::Description))
            .col(moment(K::CreatedAt))
            .col(moment(K::RevokedAt))
            .foreign_key(&mut to_account(access_keys::Entity, K::AccountId))
            .foreign_key(&mut cascade((access_keys::Entity, K::UserId), (users::Entity, users::Column::Id)))
            .take();
        manager.create_table(keys).await?;
        manager.create_index(unique("access_keys_key", access_keys::Entity, [K::AccessKeyId])).await?;
        manager.create_index(index("access_keys_account", access_keys::Entity, [K::AccountId, K::Id])).await?;
        manager.create_index(index("access_keys_user", access_keys::Entity, [K::UserId, K::Id])).await
    }
}
