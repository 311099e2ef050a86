//! Access tokens and user tokens: made, looked at, revoked.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::access::Permission;
use muster_core::clock::Timestamp;
use muster_core::ids::{RowId, TokenUuid};
use muster_core::invalid::Invalid;
use muster_core::names::{ProjectKey, Text, UserName};
use muster_core::scope::Scope;
use muster_core::token::{Secret, TokenKind};
use muster_store::accounts::User;
use muster_store::token_list::ListedToken;
use muster_store::tokens::NewToken;
use muster_store::{ConnectionTrait, Db, Tx};
use serde_json::{Value, json};

use super::{Caller, PermittedAccount};
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// What is asked of a new token.
#[derive(Clone, Debug)]
pub struct TokenOrder {
    /// For people.
    pub description: Text,
    /// Who is to act with it; `None` for the caller.
    pub user: Option<UserName>,
    /// An access token or a user token.
    pub kind: TokenKind,
    /// After which it ends by itself; `None` for never.
    pub life: Option<Duration>,
    /// The keys of the only fleets that it reaches; `None` for all.
    pub fleets: Option<Vec<ProjectKey>>,
    /// The only permissions that it has; `None` for all.
    pub permissions: Option<BTreeSet<Permission>>,
}

/// Whose tokens the caller may look at; `None` for everybody's.
pub fn owner(permitted: &PermittedAccount) -> Option<RowId> {
    let caller = permitted.caller();
    if caller.is_administrator() { None } else { Some(caller.user().id) }
}

/// The token with that id, as a caller wrote it. One of somebody else's does not exist
/// for a caller who is no administrator.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &PermittedAccount, uuid: &str) -> Result<ListedToken> {
    let token = match uuid.parse::<TokenUuid>() {
        Ok(uuid) => db.find_listed_token(permitted.account_id(), &uuid).await?,
        Err(_) => None,
    };
    let token = token.filter(|token| owner(permitted).is_none_or(|owner| owner == token.user_id));
    token.ok_or_else(|| OpError::not_found("token", uuid))
}

/// Makes a token, and answers with it and its secret.
pub async fn create(app: &App, permitted: &PermittedAccount, order: &TokenOrder) -> Result<(ListedToken, Secret)> {
    let work = app.store.write(|tx| async move {
        let user = subject(&tx, permitted.caller(), order.user.as_ref()).await?;
        let scope = scope(&tx, permitted.caller(), order).await?;
        if !scope.is_within(permitted.caller().scope()) {
            return Err(OpError::Refused("a token cannot make one that may do more than itself").into());
        }
        let new = NewToken {
            user_id: Some(user.id),
            expires_at: order.life.map_or(Timestamp::FOREVER, |life| tx.now().after(life)),
            scope,
            ..NewToken::of(order.kind, user.account_id, order.description.as_str())
        };
        let made = tx.make_token(&new).await?;
        let token = tx.find_listed_token_by_id(user.account_id, made.id).await?;
        let token = token.ok_or_else(|| OpError::not_found("token", made.uuid.as_str()))?;
        tx.audit(&permitted.event(format!("token:{}", made.uuid), json!({ "after": described(&token) }))).await?;
        Ok::<_, WorkError>((token, made.secret))
    });
    Ok(work.await?)
}

/// Who is to act with a credential: the caller, or for an administrator anybody of the account.
pub(super) async fn subject(tx: &Tx, caller: &Caller, named: Option<&UserName>) -> Result<User, WorkError> {
    let Some(name) = named.filter(|name| name.as_str() != caller.user().name) else {
        return Ok(caller.user().clone());
    };
    if !caller.is_administrator() {
        return Err(OpError::NotAdmin.into());
    }
    let user = tx.find_user_by_name(name).await?.filter(|user| user.account_id == caller.account_id());
    Ok(user.ok_or_else(|| Invalid::unknown("user", "user of the account", name.as_str()))?)
}

/// A fleet that the caller cannot see is as unknown as one that does not exist.
async fn scope(tx: &Tx, caller: &Caller, order: &TokenOrder) -> Result<Scope, WorkError> {
    let permissions = order.permissions.clone();
    let Some(keys) = &order.fleets else { return Ok(Scope { fleets: None, permissions }) };
    let visible = caller.visible_fleets(tx).await?;
    let row = |(i, key): (usize, &ProjectKey)| {
        let fleet = visible.iter().find(|fleet| fleet.project_key == key.as_str());
        let unknown = || Invalid::unknown(format!("scope.fleets[{i}]"), "fleet", key.as_str());
        fleet.map(|fleet| fleet.id).ok_or_else(unknown)
    };
    let fleets = keys.iter().enumerate().map(row).collect::<Result<_, _>>()?;
    Ok(Scope { fleets: Some(fleets), permissions })
}

/// Revokes a token. Doing it again changes nothing.
pub async fn revoke(app: &App, permitted: &PermittedAccount, uuid: &str) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let token = find(&tx, permitted, uuid).await?;
        if !token.scope.is_within(permitted.caller().scope()) {
            return Err(OpError::Refused("a token cannot revoke one that may do more than itself").into());
        }
        if token.revoked_at == Timestamp::NEVER {
            tx.revoke_token(token.id).await?;
            let detail = json!({ "before": described(&token) });
            tx.audit(&permitted.event(format!("token:{}", token.uuid), detail)).await?;
        }
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// A token as the audit log tells it.
fn described(token: &ListedToken) -> Value {
    json!({
        "kind": token.kind.as_str(),
        "description": token.description,
        "subject": token.user_name,
        "scope": {
            "fleets": token.scope.fleets.is_some().then_some(&token.scope_fleets),
            "permissions": permission_names(&token.scope),
        },
    })
}

/// The names of the permissions in a scope; `None` for all of them.
pub fn permission_names(scope: &Scope) -> Option<Vec<&'static str>> {
    scope.permissions.as_ref().map(|held| held.iter().map(|held| held.as_str()).collect())
}
