//! Logging in and out, and one's own password.

use std::net::IpAddr;
use std::time::Duration;

use muster_core::access::{Operation, Permission};
use muster_core::invalid::Invalid;
use muster_core::names::{Text, UserName};
use muster_core::token::{Secret, TokenKind};
use muster_store::audit::NewAuditEvent;
use muster_store::token_list::ListedToken;
use muster_store::tokens::NewToken;
use serde_json::json;

use super::rate::network_of;
use super::{PermittedAccount, passwords, refusals};
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// What somebody brings who wants to log in.
#[derive(Clone, Debug)]
pub struct Login {
    /// The user's name.
    pub user: UserName,
    /// Their password.
    pub password: Secret,
    /// Describes the token.
    pub description: Text,
    /// How long it lasts.
    pub life: Duration,
}

/// Exchanges a password for an access token. A wrong name and a wrong password are
/// answered alike.
pub async fn log_in(app: &App, login: &Login, source_ip: IpAddr) -> Result<(ListedToken, Secret)> {
    app.login_sources.check(&network_of(source_ip))?;
    app.login_names.check(&login.user.to_string())?;
    passwords::check_length(&login.password, "password")?;
    let known = app.store.read().find_login(&login.user).await?;
    let hash = known.as_ref().map(|(_, hash)| hash.clone());
    let is_right = app.passwords.is_right(&login.password, hash).await?;
    let (user, hash) = match known {
        Some(known) if is_right => known,
        known => {
            if let Some((user, _)) = known {
                refusals::note_login(app, user.account_id, &user.name, source_ip).await;
            }
            return Err(refused());
        }
    };
    let (user, hash) = (&user, &hash);
    let work = app.store.write(|tx| async move {
        // It may have been changed while it was compared.
        let now = tx.find_login(&login.user).await?;
        if now.is_none_or(|now| (now.0.id, &now.1) != (user.id, hash)) {
            return Err(refused().into());
        }
        let new = NewToken {
            user_id: Some(user.id),
            expires_at: tx.now().after(login.life),
            is_login: true,
            ..NewToken::of(TokenKind::Access, user.account_id, login.description.as_str())
        };
        let made = tx.make_token(&new).await?;
        tx.audit(&NewAuditEvent {
            account_id: user.account_id,
            fleet_id: None,
            actor: format!("user:{}", user.name),
            action: Operation::LogIn,
            subject: format!("token:{}", made.uuid),
            source_ip: source_ip.to_string(),
            detail: json!({}),
        })
        .await?;
        let token = tx.find_listed_token_by_id(user.account_id, made.id).await?;
        Ok::<_, WorkError>((token.ok_or_else(refused)?, made.secret))
    });
    Ok(work.await?)
}

fn refused() -> OpError {
    OpError::Unauthenticated("the user or the password is wrong".to_owned())
}

/// Revokes the token that the caller bears.
pub async fn log_out(app: &App, permitted: &PermittedAccount) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let caller = permitted.caller();
        let token = tx.find_listed_token_by_id(permitted.account_id(), caller.token_id()).await?;
        tx.revoke_token(caller.token_id()).await?;
        let uuid = token.map(|token| token.uuid).unwrap_or_default();
        tx.audit(&permitted.event(format!("token:{uuid}"), json!({}))).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// Changes the caller's own password. Everything else that they have logged in to ends.
pub async fn change_password(app: &App, permitted: &PermittedAccount, current: &Secret, new: &Secret) -> Result<()> {
    let user = permitted.caller().user();
    app.login_names.check(&user.name)?;
    passwords::check_length(current, "current_password")?;
    passwords::check_new(new, "new_password")?;
    let name = &UserName::parse(user.name.as_str())?;
    let wrong = || OpError::from(Invalid::new("current_password", "is wrong"));
    let hash = app.store.read().find_login(name).await?.map(|(_, hash)| hash);
    if !app.passwords.is_right(current, hash.clone()).await? {
        return Err(wrong());
    }
    let (hash, new_hash) = (&hash, &app.passwords.hash(new).await?);
    let work = app.store.write(|tx| async move {
        if tx.find_login(name).await?.map(|(_, hash)| hash) != *hash {
            return Err(wrong().into());
        }
        tx.set_password_hash(user.id, new_hash).await?;
        tx.revoke_logins(user.id, Some(permitted.caller().token_id())).await?;
        tx.audit(&permitted.event(permitted.caller().actor(), json!({ "changed": ["password"] }))).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// A fleet that the caller may see, with what they may do in it.
#[derive(Clone, Debug)]
pub struct OwnFleet {
    /// Its key.
    pub project_key: String,
    /// Its name.
    pub name: String,
    /// What the caller may do in it: by their roles, and by the scope of their token.
    pub permissions: Vec<Permission>,
    /// What they may do in it only under an access grant.
    pub needs_grant: Vec<Permission>,
}

/// The fleets that the caller may see, in the order they were made.
pub async fn own_fleets(app: &App, permitted: &PermittedAccount) -> Result<Vec<OwnFleet>> {
    let (caller, store) = (permitted.caller(), app.store.read());
    let allowed = |held: &[Permission]| held.iter().copied().filter(|held| caller.scope().allows(*held)).collect();
    if caller.user().is_admin {
        let fleets = caller.visible_fleets(store).await?.into_iter();
        let own = fleets.map(|fleet| OwnFleet {
            project_key: fleet.project_key,
            name: fleet.name,
            permissions: allowed(&Permission::ALL),
            needs_grant: Vec::new(),
        });
        return Ok(own.collect());
    }
    let held = store.held_fleets(caller.user().id).await?.into_iter();
    let held = held.filter(|held| caller.scope().allows_fleet(held.fleet_id));
    let own = held.map(|held| OwnFleet {
        permissions: allowed(&held.permissions),
        needs_grant: allowed(&held.needs_grant),
        project_key: held.project_key,
        name: held.name,
    });
    Ok(own.collect())
}

/// The token that the caller bears.
pub async fn own_token(app: &App, permitted: &PermittedAccount) -> Result<ListedToken> {
    let id = permitted.caller().token_id();
    let token = app.store.read().find_listed_token_by_id(permitted.account_id(), id).await?;
    token.ok_or_else(|| OpError::Unauthenticated("the access token is not valid any more".to_owned()))
}
