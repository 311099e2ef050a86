//! Access keys, with their secrets as somebody else has sealed them.

use std::fmt;

use muster_core::access_key::{AccessKeyId, TagPolicy};
use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, JoinType, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, RelationDef,
};

use crate::db::{Db, Result, Tx};
use crate::entities::{access_keys, users};
use crate::error::StoreError;

/// An access key, good or not, as people look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// The row.
    pub id: RowId,
    /// Whose it is.
    pub account_id: RowId,
    /// As requests name it.
    pub access_key_id: String,
    /// The row of the user who acts with it.
    pub user_id: RowId,
    /// Their name.
    pub user_name: String,
    /// The most that it may do.
    pub policy: TagPolicy,
    /// For people.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked; [`Timestamp::NEVER`] when it was not.
    pub revoked_at: Timestamp,
}

/// An access key to be made. Its `Debug` leaves the secret out, sealed as it is.
#[derive(Clone)]
pub struct NewAccessKey {
    /// Whose it is.
    pub account_id: RowId,
    /// The user who acts with it.
    pub user_id: RowId,
    /// As requests name it.
    pub access_key_id: AccessKeyId,
    /// The secret, sealed.
    pub sealed_secret: String,
    /// The most that it may do.
    pub policy: TagPolicy,
    /// For people.
    pub description: String,
}

impl fmt::Debug for NewAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewAccessKey").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Whose keys are meant.
fn of(account_id: RowId, owner: Option<RowId>) -> Condition {
    Condition::all()
        .add(access_keys::Column::AccountId.eq(account_id))
        .add_option(owner.map(|owner| access_keys::Column::UserId.eq(owner)))
}

impl<C: ConnectionTrait> Db<C> {
    /// The next `limit` access keys of an account, or of one of its users, behind the row
    /// `after`, oldest first, and whether there are more.
    pub async fn access_keys_page(
        &self,
        account_id: RowId,
        owner: Option<RowId>,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<AccessKey>, bool)> {
        let which = of(account_id, owner).add_option(after.map(|after| access_keys::Column::Id.gt(after)));
        let mut found = self.access_keys(which, limit + 1).await?;
        let is_more = found.len() as u64 > limit;
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((found.into_iter().map(|(key, _)| key).collect(), is_more))
    }

    /// How many access keys an account, or one of its users, has.
    pub async fn access_keys_count(&self, account_id: RowId, owner: Option<RowId>) -> Result<u64> {
        Ok(access_keys::Entity::find().filter(of(account_id, owner)).count(&self.conn).await?)
    }

    /// The access key of that id, good or not, with its sealed secret.
    pub async fn find_access_key(&self, id: &AccessKeyId) -> Result<Option<(AccessKey, String)>> {
        let which = Condition::all().add(access_keys::Column::AccessKeyId.eq(id.as_str()));
        Ok(self.access_keys(which, 1).await?.pop())
    }

    async fn access_keys(&self, which: Condition, limit: u64) -> Result<Vec<(AccessKey, String)>> {
        let to_user: RelationDef = access_keys::Entity::belongs_to(users::Entity)
            .from(access_keys::Column::UserId)
            .to(users::Column::Id)
            .into();
        let rows: Vec<(access_keys::Model, Option<users::Model>)> = access_keys::Entity::find()
            .select_also(users::Entity)
            .join(JoinType::InnerJoin, to_user)
            .filter(which)
            .order_by_asc(access_keys::Column::Id)
            .limit(limit)
            .all(&self.conn)
            .await?;
        rows.into_iter().map(|(row, user)| listed(row, user.map(|user| user.name))).collect()
    }
}

fn listed(row: access_keys::Model, user_name: Option<String>) -> Result<(AccessKey, String)> {
    let unknown = || StoreError::Corrupt { table: "access_keys", problem: row.policy.clone() };
    let key = AccessKey {
        policy: TagPolicy::from_name(&row.policy).ok_or_else(unknown)?,
        id: row.id,
        account_id: row.account_id,
        access_key_id: row.access_key_id,
        user_id: row.user_id,
        user_name: user_name.unwrap_or_default(),
        description: row.description,
        created_at: Timestamp::from_millis(row.created_at),
        revoked_at: Timestamp::from_millis(row.revoked_at),
    };
    Ok((key, row.sealed_secret))
}

impl Tx {
    /// Makes an access key.
    pub async fn insert_access_key(&self, new: &NewAccessKey) -> Result<RowId> {
        let id = self.next_id();
        let row = access_keys::Model {
            id,
            account_id: new.account_id,
            user_id: new.user_id,
            access_key_id: new.access_key_id.as_str().to_owned(),
            sealed_secret: new.sealed_secret.clone(),
            policy: new.policy.as_str().to_owned(),
            description: new.description.clone(),
            created_at: self.now().as_millis(),
            revoked_at: Timestamp::NEVER.as_millis(),
        };
        access_keys::Entity::insert(access_keys::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(id)
    }

    /// Ends an access key for good, and forgets its secret.
    pub async fn revoke_access_key(&self, id: RowId) -> Result<()> {
        access_keys::Entity::update_many()
            .col_expr(access_keys::Column::RevokedAt, Expr::value(self.now().as_millis()))
            .col_expr(access_keys::Column::SealedSecret, Expr::value(""))
            .filter(access_keys::Column::Id.eq(id))
            .filter(access_keys::Column::RevokedAt.eq(Timestamp::NEVER.as_millis()))
            .exec(&self.conn)
            .await?;
        Ok(())
    }
}
