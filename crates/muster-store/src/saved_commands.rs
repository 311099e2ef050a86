//! Remote commands of a fleet that have a name.

use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::names::{CommandName, DeviceUser, Script, Text};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};

use crate::db::{Db, Result, Tx};
use crate::entities::saved_commands;
use crate::page::cut;

/// A saved command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedCommand {
    /// The row.
    pub id: RowId,
    /// Its name.
    pub name: String,
    /// What a person says of it.
    pub description: String,
    /// What it runs.
    pub script: String,
    /// The user of the device who runs it; empty for the one that the device chooses.
    pub user: String,
    /// How long it may run.
    pub timeout: Duration,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A command to be saved.
#[derive(Clone, Debug)]
pub struct NewSavedCommand {
    /// Its name.
    pub name: CommandName,
    /// What a person says of it.
    pub description: Text,
    /// What it runs.
    pub script: Script,
    /// The user of the device who runs it; `None` for the one that the device chooses.
    pub user: Option<DeviceUser>,
    /// How long it may run.
    pub timeout: Duration,
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn duration(millis: i64) -> Duration {
    Duration::from_millis(millis.try_into().unwrap_or(0))
}

impl From<saved_commands::Model> for SavedCommand {
    fn from(row: saved_commands::Model) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            script: row.script,
            user: row.device_user,
            timeout: duration(row.timeout_ms),
            created_at: Timestamp::from_millis(row.created_at),
            updated_at: Timestamp::from_millis(row.updated_at),
        }
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// The saved command of a fleet with that name.
    pub async fn find_saved_command(&self, fleet_id: RowId, name: &CommandName) -> Result<Option<SavedCommand>> {
        let query = saved_commands::Entity::find()
            .filter(saved_commands::Column::FleetId.eq(fleet_id))
            .filter(saved_commands::Column::Name.eq(name.as_str()));
        Ok(query.one(&self.conn).await?.map(SavedCommand::from))
    }

    /// The next `limit` saved commands of a fleet behind the row `after`, oldest first, and whether there are more.
    pub async fn saved_commands_page(
        &self,
        fleet_id: RowId,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<SavedCommand>, bool)> {
        let query = saved_commands::Entity::find()
            .filter(saved_commands::Column::FleetId.eq(fleet_id))
            .filter(saved_commands::Column::Id.gt(after.unwrap_or(0)))
            .order_by_asc(saved_commands::Column::Id)
            .limit(limit + 1);
        let (rows, is_more) = cut(query.all(&self.conn).await?, limit);
        Ok((rows.into_iter().map(SavedCommand::from).collect(), is_more))
    }

    /// How many saved commands a fleet has.
    pub async fn saved_commands_count(&self, fleet_id: RowId) -> Result<u64> {
        let query = saved_commands::Entity::find().filter(saved_commands::Column::FleetId.eq(fleet_id));
        Ok(query.count(&self.conn).await?)
    }
}

impl Tx {
    /// Saves a command. The name must be free in the fleet.
    pub async fn insert_saved_command(&self, fleet_id: RowId, new: &NewSavedCommand) -> Result<SavedCommand> {
        let now = self.now().as_millis();
        let row = saved_commands::Model {
            id: self.next_id(),
            fleet_id,
            name: new.name.as_str().to_owned(),
            description: new.description.as_str().to_owned(),
            script: new.script.as_str().to_owned(),
            device_user: new.user.as_ref().map_or_else(String::new, |user| user.as_str().to_owned()),
            timeout_ms: millis(new.timeout),
            created_at: now,
            updated_at: now,
        };
        let insert = saved_commands::Entity::insert(saved_commands::ActiveModel::from(row.clone()));
        insert.exec_without_returning(&self.conn).await?;
        Ok(row.into())
    }

    /// Replaces a saved command. Another name must be free in the fleet.
    pub async fn replace_saved_command(&self, id: RowId, new: &NewSavedCommand) -> Result<()> {
        let change = saved_commands::ActiveModel {
            name: Set(new.name.as_str().to_owned()),
            description: Set(new.description.as_str().to_owned()),
            script: Set(new.script.as_str().to_owned()),
            device_user: Set(new.user.as_ref().map_or_else(String::new, |user| user.as_str().to_owned())),
            timeout_ms: Set(millis(new.timeout)),
            updated_at: Set(self.now().as_millis()),
            ..Default::default()
        };
        let which = saved_commands::Column::Id.eq(id);
        saved_commands::Entity::update_many().set(change).filter(which).exec(&self.conn).await?;
        Ok(())
    }

    /// Deletes a saved command. Its runs stay.
    pub async fn delete_saved_command(&self, id: RowId) -> Result<()> {
        saved_commands::Entity::delete_by_id(id).exec(&self.conn).await?;
        Ok(())
    }
}
