//! Which files of a fleet's devices people may reach.

use muster_core::file_rules::FileRules;
use muster_core::ids::RowId;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ConnectionTrait, EntityTrait};

use crate::db::{Db, Result, Tx};
use crate::entities::file_rules;
use crate::error::StoreError;

fn corrupt(error: &serde_json::Error) -> StoreError {
    StoreError::Corrupt { table: "file_rules", problem: error.to_string() }
}

impl<C: ConnectionTrait> Db<C> {
    /// The rules of a fleet; the default ones where it has none of its own.
    pub async fn file_rules(&self, fleet_id: RowId) -> Result<FileRules> {
        let row = file_rules::Entity::find_by_id(fleet_id).one(&self.conn).await?;
        let Some(row) = row else { return Ok(FileRules::default()) };
        serde_json::from_str(&row.rules).map_err(|error| corrupt(&error))
    }
}

impl Tx {
    /// Gives a fleet these rules in the place of those that it has.
    pub async fn replace_file_rules(&self, fleet_id: RowId, rules: &FileRules) -> Result<()> {
        let rules = serde_json::to_string(rules).map_err(|error| corrupt(&error))?;
        let row = file_rules::ActiveModel::from(file_rules::Model { fleet_id, rules });
        let replace =
            OnConflict::column(file_rules::Column::FleetId).update_column(file_rules::Column::Rules).to_owned();
        file_rules::Entity::insert(row).on_conflict(replace).exec_without_returning(&self.conn).await?;
        Ok(())
    }
}
