//! The check value of the key that seals secrets: a server that cannot open it has
//! another key than the one that sealed what is in this database.

use sea_orm::sea_query::OnConflict;
use sea_orm::{ConnectionTrait, EntityTrait};

use crate::db::{Db, Result, Tx};
use crate::entities::sealing_checks;

/// There is one row, and this is it.
const ONLY_ROW: i64 = 1;

impl<C: ConnectionTrait> Db<C> {
    /// The check value, sealed; `None` before the first server has stored one.
    pub async fn sealing_check(&self) -> Result<Option<String>> {
        Ok(sealing_checks::Entity::find_by_id(ONLY_ROW).one(&self.conn).await?.map(|row| row.sealed))
    }
}

impl Tx {
    /// Stores the check value unless there is one, and answers with the one that there is.
    pub async fn ensure_sealing_check(&self, sealed: &str) -> Result<String> {
        let row = sealing_checks::ActiveModel::from(sealing_checks::Model { id: ONLY_ROW, sealed: sealed.to_owned() });
        let keep = OnConflict::column(sealing_checks::Column::Id).do_nothing().to_owned();
        sealing_checks::Entity::insert(row).on_conflict(keep).exec_without_returning(&self.conn).await?;
        Ok(self.sealing_check().await?.unwrap_or_default())
    }
}
