//! Deleting devices, and what stays of them: a deleted device asks again and
//! again, and must be told that it was deleted and not that it is unknown.

use muster_core::clock::Timestamp;
use muster_core::ids::{DeviceUuid, RowId};
use muster_core::token::{Secret, TokenKind};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::db::{Db, Result, Tx};
use crate::devices::list;
use crate::entities::{deleted_device_tokens, deleted_devices, device_presence, devices, tokens};
use crate::error::StoreError;
use crate::filter::{Matching, SetForm, column};

/// A device that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedDevice {
    /// The row that it had.
    pub id: RowId,
    /// As every API named it.
    pub uuid: String,
    /// Whose it was.
    pub account_id: RowId,
    /// The fleet that it was in.
    pub fleet_id: RowId,
    /// Its name.
    pub name: String,
    /// The public half of its key, or what stood there for a device without one.
    /// In the clear: it is no secret, and no statement of both engines can hash it.
    pub public_key: String,
    /// Its hardware addresses, or what it registered with.
    pub identifiers: Vec<String>,
    /// When.
    pub deleted_at: Timestamp,
}

impl TryFrom<deleted_devices::Model> for DeletedDevice {
    type Error = StoreError;

    fn try_from(row: deleted_devices::Model) -> Result<Self> {
        Ok(Self {
            identifiers: list(&row.identifiers)?,
            id: row.id,
            uuid: row.uuid,
            account_id: row.account_id,
            fleet_id: row.fleet_id,
            name: row.name,
            public_key: row.public_key,
            deleted_at: Timestamp::from_millis(row.deleted_at),
        })
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// The deleted device of that uuid, in any account.
    pub async fn find_deleted_device(&self, uuid: &DeviceUuid) -> Result<Option<DeletedDevice>> {
        self.deleted_device(deleted_devices::Column::Uuid.eq(uuid.as_str())).await
    }

    /// The deleted device of that account that had this key.
    pub async fn find_deleted_device_by_key(
        &self,
        account_id: RowId,
        public_key: &str,
    ) -> Result<Option<DeletedDevice>> {
        let of_account = deleted_devices::Column::AccountId.eq(account_id);
        self.deleted_device(deleted_devices::Column::PublicKey.eq(public_key).and(of_account)).await
    }

    /// The deleted device that this device token named.
    pub async fn find_deleted_device_by_token(&self, secret: &Secret) -> Result<Option<DeletedDevice>> {
        let token = deleted_device_tokens::Entity::find_by_id(secret.hash().as_str()).one(&self.conn).await?;
        match token {
            Some(token) => self.deleted_device(deleted_devices::Column::Id.eq(token.device_id)).await,
            None => Ok(None),
        }
    }

    async fn deleted_device(&self, which: Expr) -> Result<Option<DeletedDevice>> {
        let row = deleted_devices::Entity::find().filter(which).one(&self.conn).await?;
        row.map(DeletedDevice::try_from).transpose()
    }

    /// The next `limit` devices deleted from a fleet behind the row `after`, in the
    /// order of their enrolment, and whether there are more.
    pub async fn deleted_devices_page(
        &self,
        fleet_id: RowId,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<DeletedDevice>, bool)> {
        let mut rows = deleted_devices::Entity::find()
            .filter(deleted_devices::Column::FleetId.eq(fleet_id))
            .filter(deleted_devices::Column::Id.gt(after.unwrap_or(0)))
            .order_by_asc(deleted_devices::Column::Id)
            .limit(limit + 1)
            .all(&self.conn)
            .await?;
        let is_more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((rows.into_iter().map(DeletedDevice::try_from).collect::<Result<_>>()?, is_more))
    }

    /// How many devices have been deleted from a fleet and not been forgotten.
    pub async fn deleted_devices_count(&self, fleet_id: RowId) -> Result<u64> {
        let query = deleted_devices::Entity::find().filter(deleted_devices::Column::FleetId.eq(fleet_id));
        Ok(query.count(&self.conn).await?)
    }

    /// The matching devices whose links `server` holds.
    pub async fn linked_matching(&self, matching: &Matching, server: &str) -> Result<Vec<RowId>> {
        use device_presence::Column as P;
        let presence = |column: P| Expr::col((device_presence::Entity, column));
        let query = Query::select()
            .column((devices::Entity, devices::Column::Id))
            .from(devices::Entity)
            .inner_join(device_presence::Entity, presence(P::DeviceId).eq(column(devices::Column::Id)))
            .cond_where(matching.condition(SetForm::Exists))
            .and_where(presence(P::LinkServer).eq(server))
            .take();
        let rows = self.conn.query_all(&query).await?;
        rows.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
    }
}

impl Tx {
    /// Deletes every device that matches, with all that hangs on it (presence, tags,
    /// apps, tokens, its part in deployments), and says how many. Three statements,
    /// whatever the number. What is needed to tell a deleted device so stays.
    pub async fn delete_matching(&self, matching: &Matching) -> Result<u64> {
        self.insert_from(deleted_devices::Entity, &self.tombstones(matching)).await?;
        self.insert_from(deleted_device_tokens::Entity, &lost_tokens(matching)).await?;
        let delete = Query::delete()
            .from_table(devices::Entity)
            .and_where(column(devices::Column::Id).in_subquery(matching.ids()))
            .take();
        Ok(self.conn.execute(&delete).await?.rows_affected())
    }

    fn tombstones(&self, matching: &Matching) -> Filled<deleted_devices::Column> {
        use deleted_devices::Column as T;
        use devices::Column as D;
        let rows = [
            (T::Id, column(D::Id)),
            (T::Uuid, column(D::Uuid)),
            (T::AccountId, column(D::AccountId)),
            (T::FleetId, column(D::FleetId)),
            (T::Name, column(D::Name)),
            (T::PublicKey, column(D::PublicKey)),
            (T::Identifiers, column(D::MacAddresses)),
            (T::DeletedAt, Expr::value(self.now().as_millis())),
        ];
        let (columns, values): (Vec<T>, Vec<Expr>) = rows.into_iter().unzip();
        let select =
            Query::select().exprs(values).from(devices::Entity).cond_where(matching.condition(SetForm::In)).take();
        Filled { columns, select }
    }

    async fn insert_from<C: sea_orm::sea_query::IntoIden + Clone>(
        &self,
        table: impl sea_orm::sea_query::IntoTableRef,
        filled: &Filled<C>,
    ) -> Result<()> {
        let insert = Query::insert()
            .into_table(table)
            .columns(filled.columns.iter().cloned())
            .select_from(filled.select.clone())
            .map_err(|error| StoreError::Corrupt { table: "deleted_devices", problem: error.to_string() })?
            .take();
        self.conn.execute(&insert).await?;
        Ok(())
    }

    /// Forgets a device deleted from that fleet, so that it may come back as a new
    /// one. Answers whether there was one.
    pub async fn forget_deleted_device(&self, fleet_id: RowId, uuid: &DeviceUuid) -> Result<bool> {
        let forgotten = deleted_devices::Entity::delete_many()
            .filter(deleted_devices::Column::Uuid.eq(uuid.as_str()))
            .filter(deleted_devices::Column::FleetId.eq(fleet_id))
            .exec(&self.conn)
            .await?;
        Ok(forgotten.rows_affected > 0)
    }
}

/// Columns, and the rows that fill them.
struct Filled<C> {
    columns: Vec<C>,
    select: SelectStatement,
}

/// The tokens that name the matching devices until now.
fn lost_tokens(matching: &Matching) -> Filled<deleted_device_tokens::Column> {
    use deleted_device_tokens::Column as T;
    let of = |column: tokens::Column| Expr::col((tokens::Entity, column));
    let select = Query::select()
        .exprs([of(tokens::Column::SecretHash), of(tokens::Column::DeviceId)])
        .from(tokens::Entity)
        .and_where(of(tokens::Column::Kind).eq(TokenKind::Device.as_str()))
        .and_where(of(tokens::Column::RevokedAt).eq(Timestamp::NEVER.as_millis()))
        .and_where(of(tokens::Column::DeviceId).in_subquery(matching.ids()))
        .take();
    Filled { columns: vec![T::SecretHash, T::DeviceId], select }
}
