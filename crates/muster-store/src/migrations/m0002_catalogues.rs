//! Saved device filters, and what the catalogues of an account need: their pages in
//! order, and deployments whose app has been deleted.

use sea_orm_migration::prelude::*;

use super::columns::{cascade, id, index, moment, reference, table, text, unique};
use crate::entities::{apps, deployments, fleets, flows, groups, saved_filters, tags};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(saved_filters()).await?;
        manager.alter_table(deleted_app()).await?;
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }
}

fn saved_filters() -> TableCreateStatement {
    use saved_filters::Column as F;
    table(saved_filters::Entity)
        .col(id(F::Id))
        .col(reference(F::FleetId))
        .col(text(F::Name))
        .col(text(F::Description))
        .col(text(F::DeviceFilter))
        .col(moment(F::CreatedAt))
        .col(moment(F::UpdatedAt))
        .foreign_key(&mut cascade((saved_filters::Entity, F::FleetId), (fleets::Entity, fleets::Column::Id)))
        .take()
}

/// The name of an app that was deleted after the deployment had been made: history
/// still tells what it set, and no longer stands in the way of the deletion.
fn deleted_app() -> TableAlterStatement {
    Table::alter().table(deployments::Entity).add_column(text(deployments::Column::DeletedApp).default("")).take()
}

fn indexes() -> Vec<IndexCreateStatement> {
    vec![
        unique(
            "saved_filters_name",
            saved_filters::Entity,
            [saved_filters::Column::FleetId, saved_filters::Column::Name],
        ),
        // Pages.
        index(
            "saved_filters_fleet",
            saved_filters::Entity,
            [saved_filters::Column::FleetId, saved_filters::Column::Id],
        ),
        index("fleets_account", fleets::Entity, [fleets::Column::AccountId, fleets::Column::Id]),
        index("groups_fleet", groups::Entity, [groups::Column::FleetId, groups::Column::Id]),
        index("tags_account", tags::Entity, [tags::Column::AccountId, tags::Column::Id]),
        index("apps_account", apps::Entity, [apps::Column::AccountId, apps::Column::Id]),
        // What refers to an app or a flow: the engines look for it when one is deleted.
        index("deployments_app", deployments::Entity, [deployments::Column::AppId, deployments::Column::AppVersion]),
        index("deployments_flow", deployments::Entity, [deployments::Column::FlowId]),
        index("flows_source", flows::Entity, [flows::Column::SourceId]),
    ]
}
