//! Lists and totals of a group's devices from an index alone.
//!
//! A list always asks for the fleet too, which the first index of the groups did not
//! hold: a total then read every device of the table.

use sea_orm_migration::prelude::*;

use super::columns::index;
use crate::entities::devices::{Column as D, Entity as Devices};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let narrow = Index::drop().name("devices_group").table(Devices).to_owned();
        manager.drop_index(narrow).await?;
        // The group first: what refers to a group is looked up by it alone.
        manager.create_index(index("devices_group", Devices, [D::GroupId, D::FleetId, D::Id])).await
    }
}
