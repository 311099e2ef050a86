//! Files that devices have sent: a row for each. What they hold lies beside the
//! database; whoever changes rows is told which files nobody needs any more.

use std::collections::HashSet;

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::names::FileName;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::db::{Db, Result, Tx};
use crate::entities::device_files;

/// A file that a device has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFile {
    /// The row, which names the file on disk.
    pub id: RowId,
    /// Its name, unique for the device.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// When it came.
    pub created_at: Timestamp,
}

impl From<device_files::Model> for DeviceFile {
    fn from(row: device_files::Model) -> Self {
        Self { id: row.id, name: row.name, size: row.size, created_at: Timestamp::from_millis(row.created_at) }
    }
}

/// A file that lies on disk already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDeviceFile {
    /// From [`Store::reserve_id`](crate::Store::reserve_id).
    pub id: RowId,
    /// Whose it is.
    pub device_id: RowId,
    /// Its name.
    pub name: FileName,
    /// Bytes.
    pub size: i64,
}

impl<C: ConnectionTrait> Db<C> {
    /// The next `limit` files of a device behind the row `after`, newest first, and
    /// whether there are more.
    pub async fn device_files_page(
        &self,
        device_id: RowId,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<DeviceFile>, bool)> {
        let mut rows = device_files::Entity::find()
            .filter(device_files::Column::DeviceId.eq(device_id))
            .filter(device_files::Column::Id.lt(after.unwrap_or(RowId::MAX)))
            .order_by_desc(device_files::Column::Id)
            .limit(limit + 1)
            .all(&self.conn)
            .await?;
        let is_more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((rows.into_iter().map(DeviceFile::from).collect(), is_more))
    }

    /// How many files a device has.
    pub async fn device_files_count(&self, device_id: RowId) -> Result<u64> {
        let query = device_files::Entity::find().filter(device_files::Column::DeviceId.eq(device_id));
        Ok(query.count(&self.conn).await?)
    }

    /// The file of a device with that name.
    pub async fn find_device_file(&self, device_id: RowId, name: &FileName) -> Result<Option<DeviceFile>> {
        let query = device_files::Entity::find()
            .filter(device_files::Column::DeviceId.eq(device_id))
            .filter(device_files::Column::Name.eq(name.as_str()));
        Ok(query.one(&self.conn).await?.map(DeviceFile::from))
    }

    /// Those of these ids that are files.
    pub async fn known_device_files(&self, ids: &[RowId]) -> Result<HashSet<RowId>> {
        let query = device_files::Entity::find()
            .select_only()
            .column(device_files::Column::Id)
            .filter(device_files::Column::Id.is_in(ids.iter().copied()));
        let known: Vec<RowId> = query.into_tuple().all(&self.conn).await?;
        Ok(known.into_iter().collect())
    }
}

impl Tx {
    /// Notes a file of a device in the place of an older one of the same name, keeps the
    /// newest `kept_max` of the device, and answers with the ids of those that went. A
    /// fixed number of statements.
    pub async fn insert_device_file(&self, new: &NewDeviceFile, kept_max: u64) -> Result<Vec<RowId>> {
        let mut gone = Vec::new();
        if let Some(older) = self.find_device_file(new.device_id, &new.name).await? {
            self.delete_device_files(&[older.id]).await?;
            gone.push(older.id);
        }
        let row = device_files::Model {
            id: new.id,
            device_id: new.device_id,
            name: new.name.as_str().to_owned(),
            size: new.size,
            created_at: self.now().as_millis(),
        };
        device_files::Entity::insert(device_files::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        let surplus = device_files::Entity::find()
            .select_only()
            .column(device_files::Column::Id)
            .filter(device_files::Column::DeviceId.eq(new.device_id))
            .order_by_desc(device_files::Column::Id)
            .offset(kept_max)
            // SQLite takes no offset without a limit. More than a few there never are.
            .limit(1_000);
        let surplus: Vec<RowId> = surplus.into_tuple().all(&self.conn).await?;
        if !surplus.is_empty() {
            self.delete_device_files(&surplus).await?;
            gone.extend(surplus);
        }
        Ok(gone)
    }

    /// Forgets files.
    pub async fn delete_device_files(&self, ids: &[RowId]) -> Result<()> {
        let which = device_files::Column::Id.is_in(ids.iter().copied());
        device_files::Entity::delete_many().filter(which).exec(&self.conn).await?;
        Ok(())
    }
}
