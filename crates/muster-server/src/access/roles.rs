//! Roles of an account.

use muster_core::access::{Permission, RoleRights, is_built_in};
use muster_core::invalid::{Invalid, quoted};
use muster_core::names::RoleName;
use muster_store::roles::Role;
use muster_store::{ConnectionTrait, Db};
use serde_json::{Value, json};

use super::PermittedAccount;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// The role of that name, as a caller wrote it.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &PermittedAccount, name: &str) -> Result<Role> {
    let role = match RoleName::parse(name) {
        Ok(name) => db.find_whole_role(permitted.account_id(), &name).await?,
        Err(_) => None,
    };
    role.ok_or_else(|| OpError::not_found("role", name))
}

/// Makes a role.
pub async fn create(app: &App, permitted: &PermittedAccount, name: &RoleName, rights: &RoleRights) -> Result<Role> {
    check(rights)?;
    let work = app.store.write(|tx| async move {
        if tx.find_role(permitted.account_id(), name.as_str()).await?.is_some() {
            let problem = format!("role {} exists already", quoted(name.as_str()));
            return Err(OpError::Conflict(Invalid::new("name", problem)).into());
        }
        tx.insert_role(permitted.account_id(), name.as_str(), rights).await?;
        let role = find(&tx, permitted, name.as_str()).await?;
        tx.audit(&permitted.event(format!("role:{name}"), json!({ "after": described(&role) }))).await?;
        Ok::<_, WorkError>(role)
    });
    Ok(work.await?)
}

/// What of a role's rights is replaced; `None` for what stays.
#[derive(Clone, Debug, Default)]
pub struct RoleChange {
    /// What it gives at any time.
    pub permissions: Option<Vec<Permission>>,
    /// What it gives only under an access grant.
    pub needs_grant: Option<Vec<Permission>>,
}

/// Replaces what a role gives.
pub async fn change(app: &App, permitted: &PermittedAccount, name: &str, change: &RoleChange) -> Result<Role> {
    let work = app.store.write(|tx| async move {
        let before = changeable(find(&tx, permitted, name).await?)?;
        let rights = RoleRights {
            permissions: change.permissions.as_ref().unwrap_or(&before.rights.permissions).clone(),
            needs_grant: change.needs_grant.as_ref().unwrap_or(&before.rights.needs_grant).clone(),
        };
        check(&rights)?;
        tx.replace_role_rights(before.id, &rights).await?;
        let after = find(&tx, permitted, name).await?;
        let detail = json!({ "before": described(&before), "after": described(&after) });
        tx.audit(&permitted.event(format!("role:{name}"), detail)).await?;
        Ok::<_, WorkError>(after)
    });
    Ok(work.await?)
}

fn check(rights: &RoleRights) -> Result<(), Invalid> {
    match rights.contradiction() {
        Some(permission) => {
            let problem = format!("{} stands in permissions as well, which need no grant", quoted(permission.as_str()));
            Err(Invalid::new("needs_grant", problem))
        }
        None => Ok(()),
    }
}

/// Deletes a role that nobody has.
pub async fn delete(app: &App, permitted: &PermittedAccount, name: &str) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let role = changeable(find(&tx, permitted, name).await?)?;
        if role.user_count > 0 {
            let problem = format!("role {} is in use: users who have it: {}", quoted(name), role.user_count);
            return Err(OpError::Conflict(Invalid::new("", problem)).into());
        }
        tx.delete_role(role.id).await?;
        tx.audit(&permitted.event(format!("role:{name}"), json!({ "before": described(&role) }))).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

fn changeable(role: Role) -> Result<Role> {
    if is_built_in(&role.name) {
        let problem = format!("role {} is built in and stays as it is", quoted(&role.name));
        return Err(OpError::Conflict(Invalid::new("", problem)));
    }
    Ok(role)
}

fn described(role: &Role) -> Value {
    let names = |held: &[Permission]| held.iter().map(|held| held.as_str()).collect::<Vec<_>>();
    let mut described = json!({ "permissions": names(&role.rights.permissions) });
    if !role.rights.needs_grant.is_empty() {
        described["needs_grant"] = json!(names(&role.rights.needs_grant));
    }
    described
}
