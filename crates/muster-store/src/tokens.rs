//! Tokens: made once, found by their hash, revoked, counted where their uses are limited.

use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::token::{Secret, TokenKind};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use crate::db::{Db, Result, Tx};
use crate::entities::tokens;

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
        }
    }
}

impl<C: ConnectionTrait> Db<C> {
    /// The token that `secret` is, if it is of that kind and still good.
    pub async fn find_token(&self, kind: TokenKind, secret: &Secret) -> Result<Option<Token>> {
        let row = tokens::Entity::find()
            .filter(tokens::Column::SecretHash.eq(secret.hash().as_str()))
            .filter(tokens::Column::Kind.eq(kind.as_str()))
            .filter(tokens::Column::RevokedAt.eq(Timestamp::NEVER.as_millis()))
            .filter(tokens::Column::ExpiresAt.gt(self.now().as_millis()))
            .filter(Expr::col(tokens::Column::Uses).lt(Expr::col(tokens::Column::UsesMax)))
            .one(&self.conn)
            .await?;
        Ok(row.map(|row| Token {
            id: row.id,
            account_id: row.account_id,
            user_id: row.user_id,
            fleet_id: row.fleet_id,
            device_id: row.device_id,
        }))
    }
}

impl Tx {
    /// Makes a token and answers with its secret, which is stored as a hash only.
    pub async fn insert_token(&self, token: &NewToken) -> Result<Secret> {
        let secret = self.random(|rng| Secret::random(token.kind, rng));
        let row = tokens::Model {
            id: self.next_id(),
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
        };
        tokens::Entity::insert(tokens::ActiveModel::from(row)).exec_without_returning(&self.conn).await?;
        Ok(secret)
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
