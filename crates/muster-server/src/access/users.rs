//! Users of an account.

use muster_core::ids::RowId;
use muster_core::invalid::{Invalid, quoted};
use muster_core::names::{ProjectKey, RoleName, UserName};
use muster_core::token::Secret;
use muster_store::accounts::NewUser;
use muster_store::users::ListedUser;
use muster_store::{ConnectionTrait, Db, StoreError, Tx};
use serde_json::{Value, json};

use super::{PermittedAccount, passwords};
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// The roles of a user: a role by name, in a fleet by key.
pub type Roles = Vec<(ProjectKey, RoleName)>;

/// What is asked of a new user.
#[derive(Clone, Debug)]
pub struct UserOrder {
    /// The name with which they log in.
    pub name: UserName,
    /// May do everything in the account.
    pub is_admin: bool,
    /// With which they log in; `None` for a user who cannot.
    pub password: Option<Secret>,
    /// Their roles.
    pub roles: Roles,
}

/// What is to change on a user; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// Whether they may do everything in the account.
    pub is_admin: Option<bool>,
    /// A new password. It ends what they have logged in to.
    pub password: Option<Secret>,
    /// All of their roles.
    pub roles: Option<Roles>,
}

/// The user of that name, as a caller wrote it.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &PermittedAccount, name: &str) -> Result<ListedUser> {
    let user = match UserName::parse(name) {
        Ok(name) => db.find_listed_user(permitted.account_id(), &name).await?,
        Err(_) => None,
    };
    user.ok_or_else(|| OpError::not_found("user", name))
}

/// Makes a user.
pub async fn create(app: &App, permitted: &PermittedAccount, order: &UserOrder) -> Result<ListedUser> {
    let hash = &hash(app, order.password.as_ref()).await?.unwrap_or_default();
    let work = app.store.write(|tx| async move {
        if tx.find_user_by_name(&order.name).await?.is_some() {
            let problem = format!("user {} exists already", quoted(order.name.as_str()));
            return Err(OpError::Conflict(Invalid::new("name", problem)).into());
        }
        let roles = resolved(&tx, permitted.account_id(), &order.roles).await?;
        let new = NewUser {
            account_id: permitted.account_id(),
            name: order.name.clone(),
            password_hash: hash.clone(),
            is_admin: order.is_admin,
        };
        let made = tx.insert_user(&new).await?;
        tx.replace_user_roles(made.id, &roles).await?;
        let user = find(&tx, permitted, order.name.as_str()).await?;
        tx.audit(&permitted.event(format!("user:{}", user.name), json!({ "after": described(&user) }))).await?;
        Ok::<_, WorkError>(user)
    });
    Ok(work.await?)
}

/// Changes a user.
pub async fn change(app: &App, permitted: &PermittedAccount, name: &str, change: &UserChange) -> Result<ListedUser> {
    let hash = &hash(app, change.password.as_ref()).await?;
    let work = app.store.write(|tx| async move {
        let before = find(&tx, permitted, name).await?;
        if let Some(is_admin) = change.is_admin {
            if before.is_admin && !is_admin {
                keep_an_administrator(&tx, permitted.account_id()).await?;
            }
            tx.set_admin(before.id, is_admin).await?;
        }
        if let Some(hash) = hash {
            tx.set_password_hash(before.id, hash).await?;
            tx.revoke_logins(before.id, None).await?;
        }
        if let Some(roles) = &change.roles {
            let roles = resolved(&tx, permitted.account_id(), roles).await?;
            tx.replace_user_roles(before.id, &roles).await?;
        }
        let after = find(&tx, permitted, name).await?;
        let mut detail = json!({ "before": described(&before), "after": described(&after) });
        if hash.is_some() {
            detail["changed"] = json!(["password"]);
        }
        tx.audit(&permitted.event(format!("user:{name}"), detail)).await?;
        Ok::<_, WorkError>(after)
    });
    Ok(work.await?)
}

/// Deletes a user. Their tokens go with them; what the audit log tells of them stays.
pub async fn delete(app: &App, permitted: &PermittedAccount, name: &str) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let user = find(&tx, permitted, name).await?;
        if user.is_admin {
            keep_an_administrator(&tx, permitted.account_id()).await?;
        }
        tx.delete_user(user.id).await?;
        tx.audit(&permitted.event(format!("user:{name}"), json!({ "before": described(&user) }))).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// Refuses when one administrator less would be none.
async fn keep_an_administrator(tx: &Tx, account_id: RowId) -> Result<(), WorkError> {
    tx.claim_account(account_id).await?;
    if tx.admin_count(account_id).await? <= 1 {
        let problem = "the account's last administrator can be neither deleted nor demoted";
        return Err(OpError::Conflict(Invalid::new("", problem)).into());
    }
    Ok(())
}

async fn hash(app: &App, password: Option<&Secret>) -> Result<Option<String>> {
    let Some(password) = password else { return Ok(None) };
    passwords::check_new(password, "password")?;
    Ok(Some(app.passwords.hash(password).await?))
}

/// The rows of the fleets and roles; a role that is named twice counts once.
async fn resolved(tx: &Tx, account_id: RowId, roles: &Roles) -> Result<Vec<(RowId, RowId)>, StoreError> {
    let mut rows = Vec::with_capacity(roles.len());
    for (i, (key, role)) in roles.iter().enumerate() {
        let fleet = tx.find_fleet_by_key(account_id, key).await?;
        let unknown = || Invalid::unknown(format!("roles[{i}].project_key"), "fleet", key.as_str());
        let fleet_id = fleet.ok_or_else(unknown)?.id;
        let role_id = tx.find_role(account_id, role.as_str()).await?;
        let unknown = || Invalid::unknown(format!("roles[{i}].role"), "role", role.as_str());
        rows.push((fleet_id, role_id.ok_or_else(unknown)?));
    }
    rows.sort_unstable();
    rows.dedup();
    Ok(rows)
}

/// A user as the audit log tells them.
fn described(user: &ListedUser) -> Value {
    let role = |(key, role): &(String, String)| json!({ "project_key": key, "role": role });
    json!({ "is_admin": user.is_admin, "roles": user.roles.iter().map(role).collect::<Vec<_>>() })
}
