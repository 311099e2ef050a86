//! Tokens: made once, found by their hash, revoked, counted where their uses are limited.

use muster_core::access::Permission;
use muster_core::clock::Timestamp;
use muster_core::ids::{RowId, TokenUuid};
use muster_core::scope::Scope;
use muster_core::token::{Secret, TokenKind};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

use crate::db::{Db, Result, Tx};
use crate::entities::{token_fleets, tokens};

/// A token that is neither expired, revoked nor used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The row.
    pub id: RowId,
    /// Whose it is.
    pub account_id: RowId,
    /// The user who acts with it, for user and access tokens.
    pub user_id: Option<RowId>,
    /// The fleet into which it enrols, for pairing tokens.
    pub fleet_id: Option<RowId>,
    /// The device that it names, for device tokens.
    pub device_id: Option<RowId>,
    /// The most that its bearer may do.
    pub scope: Scope,
}

/// A token that was just made.
#[derive(Clone, Debug)]
pub struct MadeToken {
    /// The row.
    pub id: RowId,
    /// As the APIs name it.
    pub uuid: TokenUuid,
    /// The secret, which is stored as a hash only.
    pub secret: Secret,
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Whose it is.
    pub account_id: RowId,
    /// What it is good for.
    pub kind: TokenKind,
    /// The user who acts with it.
    pub user_id: Option<RowId>,
    /// The fleet into which it enrols.
    pub fleet_id: Option<RowId>,
    /// The device that it names.
    pub device_id: Option<RowId>,
    /// For people.
    pub description: String,
    /// When it ends by itself; [`Timestamp::FOREVER`] for never.
    pub expires_at: Timestamp,
    /// How often it may be used; `None` for any number.
    pub uses_max: Option<u32>,
    /// The most that its bearer may do.
    pub scope: Scope,
    /// Made by logging in, so that a new password ends it.
    pub is_login: bool,
}

impl NewToken {
    /// A token of that kind and account, without end or limit.
    pub fn of(kind: TokenKind, account_id: RowId, description: &str) -> Self {
        Self {
            account_id,
            kind,
            user_id: None,
            fleet_id: None,
            device_id: None,
            description: description.to_owned(),
            expires_at: Timestamp::FOREVER,
            uses_max: None,
            scope: Scope::default(),
            is_login: false,
        }
    }
}

/// Stands for "every permission".
const EVERY_PERMISSION: &str = "*";

/// The permissions of a scope as their column has them.
fn permissions_text(scope: &Scope) -> String {
    match &scope.permissions {
        None => EVERY_PERMISSION.to_owned(),
        Some(held) => held.iter().map(|permission| permission.as_str()).collect::<Vec<_>>().join(" "),
    }
}

/// The scope that a row tells of, given the fleets that belong to it.
pub(crate) fn scope(row: &tokens::Model, fleets: impl Iterator<Item = RowId>) -> Scope {
    let names = row.scope_permissions.split(' ');
    Scope {
        fleets: row.is_fleet_scoped.then(|| fleets.collect()),
        permissions: (row.scope_permissions != EVERY_PERMISSION)
            .then(|| names.filter_map(Permission::from_name).collect()),
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// The token that `secret` is, if it is of that kind and still good.
    pub async fn find_token(&self, kind: TokenKind, secret: &Secret) -> Result<Option<Token>> {
        let is_left = Expr::col(tokens::Column::Uses).lt(Expr::col(tokens::Column::UsesMax));
        Ok(self.token(kind, secret, Some(is_left)).await?.map(|(token, _)| token))
    }

    /// The pairing token that `secret` is, neither expired nor revoked, and whether it is used up.
    pub async fn find_pairing_secret(&self, secret: &Secret) -> Result<Option<(Token, bool)>> {
        self.token(TokenKind::Pairing, secret, None).await
    }

    async fn token(&self, kind: TokenKind, secret: &Secret, more: Option<Expr>) -> Result<Option<(Token, bool)>> {
        let mut query = tokens::Entity::find()
            .filter(tokens::Column::SecretHash.eq(secret.hash().as_str()))
            .filter(tokens::Column::Kind.eq(kind.as_str()))
            .filter(tokens::Column::RevokedAt.eq(Timestamp::NEVER.as_millis()))
            .filter(tokens::Column::ExpiresAt.gt(self.now().as_millis()));
        if let Some(more) = more {
            query = query.filter(more);
        }
        let Some(row) = query.one(&self.conn).await? else { return Ok(None) };
        let fleets = if row.is_fleet_scoped { self.fleets_of_token(row.id).await? } else { Vec::new() };
        let token = Token {
            id: row.id,
            account_id: row.account_id,
            user_id: row.user_id,
            fleet_id: row.fleet_id,
            device_id: row.device_id,
            scope: scope(&row, fleets.into_iter()),
        };
        Ok(Some((token, row.uses >= row.uses_max)))
    }

    async fn fleets_of_token(&self, token_id: RowId) -> Result<Vec<RowId>> {
        let query = token_fleets::Entity::find()
            .select_only()
            .column(token_fleets::Column::FleetId)
            .filter(token_fleets::Column::TokenId.eq(token_id));
        Ok(query.into_tuple().all(&self.conn).await?)
    }
}

impl Tx {
    /// Makes a token and answers with its secret, which is stored as a hash only.
    pub async fn insert_token(&self, token: &NewToken) -> Result<Secret> {
        Ok(self.make_token(token).await?.secret)
    }

    /// Makes a token.
    pub async fn make_token(&self, token: &NewToken) -> Result<MadeToken> {
        let secret = self.random(|rng| Secret::random(token.kind, rng));
        let uuid = self.random(TokenUuid::random);
        let id = self.next_id();
        let row = tokens::Model {
            id,
            account_id: token.account_id,
            kind: token.kind.as_str().to_owned(),
            secret_hash: secret.hash().as_str().to_owned(),
            user_id: token.user_id,
            fleet_id: token.fleet_id,
            device_id: token.device_id,
            description: token.description.clone(),
            created_at: self.now().as_millis(),
            expires_at: token.expires_at.as_millis(),
            revoked_at: Timestamp::NEVER.as_millis(),
            uses: 0,
            uses_max: token.uses_max.map_or(i64::MAX, i64::from),
            uuid: uuid.as_str().to_owned(),
            is_login: token.is_login,
            is_fleet_scoped: token.scope.fleets.is_some(),
            scope_permissions: permissions_text(&token.scope),
        };
        tokens::Entity::insert(tokens::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        let fleets = token.scope.fleets.iter().flatten();
        let fleets: Vec<_> = fleets
            .map(|fleet_id| token_fleets::ActiveModel::from(token_fleets::Model { token_id: id, fleet_id: *fleet_id }))
            .collect();
        if !fleets.is_empty() {
            token_fleets::Entity::insert_many(fleets).exec_without_returning(&self.conn).await?;
        }
        Ok(MadeToken { id, uuid, secret })
    }

    /// Counts one use of a token.
    pub async fn count_use(&self, token_id: RowId) -> Result<()> {
        tokens::Entity::update_many()
            .col_expr(tokens::Column::Uses, Expr::col(tokens::Column::Uses).add(1))
            .filter(tokens::Column::Id.eq(token_id))
            .exec(&self.conn)
            .await?;
        Ok(())
    }

    /// Ends a token for good.
    pub async fn revoke_token(&self, token_id: RowId) -> Result<()> {
        self.revoke(tokens::Column::Id.eq(token_id)).await
    }

    /// Ends what a user has logged in to, apart from one token.
    pub async fn revoke_logins(&self, user_id: RowId, except: Option<RowId>) -> Result<()> {
        let logins = tokens::Column::UserId.eq(user_id).and(tokens::Column::IsLogin.eq(true));
        self.revoke(match except {
            Some(kept) => logins.and(tokens::Column::Id.ne(kept)),
            None => logins,
        })
        .await
    }

    /// Ends every token that names a device.
    pub async fn revoke_device_tokens(&self, device_id: RowId) -> Result<()> {
        self.revoke(tokens::Column::DeviceId.eq(device_id)).await
    }

    /// Ends every token of an account with that description.
    pub async fn revoke_tokens_described(&self, account_id: RowId, description: &str) -> Result<()> {
        let described = tokens::Column::Description.eq(description);
        self.revoke(tokens::Column::AccountId.eq(account_id).and(described)).await
    }

    async fn revoke(&self, which: Expr) -> Result<()> {
        tokens::Entity::update_many()
            .col_expr(tokens::Column::RevokedAt, Expr::value(self.now().as_millis()))
            .filter(which)
            .filter(tokens::Column::RevokedAt.eq(Timestamp::NEVER.as_millis()))
            .exec(&self.conn)
            .await?;
        Ok(())
    }
}
