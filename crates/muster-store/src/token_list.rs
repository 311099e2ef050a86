//! The tokens of users, as people look at them.

use std::collections::BTreeMap;

use muster_core::clock::Timestamp;
use muster_core::ids::{RowId, TokenUuid};
use muster_core::scope::Scope;
use muster_core::token::TokenKind;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, JoinType, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};

use crate::db::{Db, Result};
use crate::entities::{fleets, token_fleets, tokens, users};
use crate::error::StoreError;
use crate::tokens::scope;

/// A user token or an access token, good or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedToken {
    /// The row.
    pub id: RowId,
    /// As the APIs name it.
    pub uuid: String,
    /// What it is good for.
    pub kind: TokenKind,
    /// For people.
    pub description: String,
    /// The row of the user who acts with it.
    pub user_id: RowId,
    /// Their name.
    pub user_name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself; [`Timestamp::FOREVER`] for never.
    pub expires_at: Timestamp,
    /// When it was revoked; [`Timestamp::NEVER`] when it was not.
    pub revoked_at: Timestamp,
    /// The most that its bearer may do.
    pub scope: Scope,
    /// The keys of the fleets in the scope, in the order of the fleets.
    pub scope_fleets: Vec<String>,
}

/// Whose tokens are meant.
fn of(account_id: RowId, owner: Option<RowId>) -> Condition {
    Condition::all()
        .add(tokens::Column::AccountId.eq(account_id))
        // Stated for the index, which holds only these; device tokens have no user.
        .add(tokens::Column::UserId.is_not_null())
        .add_option(owner.map(|owner| tokens::Column::UserId.eq(owner)))
}

impl<C: ConnectionTrait> Db<C> {
    /// The next `limit` tokens of an account, or of one of its users, behind the row
    /// `after`, oldest first, and whether there are more.
    pub async fn tokens_page(
        &self,
        account_id: RowId,
        owner: Option<RowId>,
        after: Option<RowId>,
        limit: u64,
    ) -> Result<(Vec<ListedToken>, bool)> {
        let which = of(account_id, owner).add_option(after.map(|after| tokens::Column::Id.gt(after)));
        let mut found = self.listed_tokens(which, limit + 1).await?;
        let is_more = found.len() as u64 > limit;
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok((found, is_more))
    }

    /// How many tokens an account, or one of its users, has.
    pub async fn tokens_count(&self, account_id: RowId, owner: Option<RowId>) -> Result<u64> {
        Ok(tokens::Entity::find().filter(of(account_id, owner)).count(&self.conn).await?)
    }

    /// The token of a user of the account with that id.
    pub async fn find_listed_token(&self, account_id: RowId, uuid: &TokenUuid) -> Result<Option<ListedToken>> {
        let which = of(account_id, None).add(tokens::Column::Uuid.eq(uuid.as_str()));
        Ok(self.listed_tokens(which, 1).await?.pop())
    }

    /// The token of a user of the account in that row.
    pub async fn find_listed_token_by_id(&self, account_id: RowId, id: RowId) -> Result<Option<ListedToken>> {
        let which = of(account_id, None).add(tokens::Column::Id.eq(id));
        Ok(self.listed_tokens(which, 1).await?.pop())
    }

    async fn listed_tokens(&self, which: Condition, limit: u64) -> Result<Vec<ListedToken>> {
        let rows = tokens::Entity::find().filter(which).order_by_asc(tokens::Column::Id).limit(limit);
        let rows = rows.all(&self.conn).await?;
        let users: BTreeMap<RowId, String> = self.user_names(rows.iter().filter_map(|row| row.user_id)).await?;
        let scoped: Vec<RowId> = rows.iter().filter(|row| row.is_fleet_scoped).map(|row| row.id).collect();
        let fleets = if scoped.is_empty() { Vec::new() } else { self.fleets_of_tokens(&scoped).await? };
        rows.into_iter().map(|row| listed(row, &users, &fleets)).collect()
    }

    async fn user_names(&self, ids: impl Iterator<Item = RowId>) -> Result<BTreeMap<RowId, String>> {
        let query = users::Entity::find()
            .select_only()
            .columns([users::Column::Id, users::Column::Name])
            .filter(users::Column::Id.is_in(ids));
        let names: Vec<(RowId, String)> = query.into_tuple().all(&self.conn).await?;
        Ok(names.into_iter().collect())
    }

    /// Token, fleet, key of the fleet.
    async fn fleets_of_tokens(&self, ids: &[RowId]) -> Result<Vec<(RowId, RowId, String)>> {
        let to_fleet: sea_orm::RelationDef = token_fleets::Entity::belongs_to(fleets::Entity)
            .from(token_fleets::Column::FleetId)
            .to(fleets::Column::Id)
            .into();
        let query = token_fleets::Entity::find()
            .select_only()
            .columns([token_fleets::Column::TokenId, token_fleets::Column::FleetId])
            .column(fleets::Column::ProjectKey)
            .join(JoinType::InnerJoin, to_fleet)
            .filter(token_fleets::Column::TokenId.is_in(ids.iter().copied()))
            .order_by_asc(token_fleets::Column::FleetId);
        Ok(query.into_tuple().all(&self.conn).await?)
    }
}

fn listed(
    row: tokens::Model,
    users: &BTreeMap<RowId, String>,
    fleets: &[(RowId, RowId, String)],
) -> Result<ListedToken> {
    let corrupt = |problem: String| StoreError::Corrupt { table: "tokens", problem };
    let own = || fleets.iter().filter(|(token_id, ..)| *token_id == row.id);
    let user_id = row.user_id.ok_or_else(|| corrupt("it has no user".to_owned()))?;
    Ok(ListedToken {
        kind: TokenKind::from_name(&row.kind).ok_or_else(|| corrupt(row.kind.clone()))?,
        user_name: users.get(&user_id).cloned().unwrap_or_default(),
        scope: scope(&row, own().map(|(_, fleet_id, _)| *fleet_id)),
        scope_fleets: own().map(|(.., key)| key.clone()).collect(),
        user_id,
        id: row.id,
        uuid: row.uuid,
        description: row.description,
        created_at: Timestamp::from_millis(row.created_at),
        expires_at: Timestamp::from_millis(row.expires_at),
        revoked_at: Timestamp::from_millis(row.revoked_at),
    })
}
