//! Registries of an account, and the secrets that open them.

use muster_core::ids::RowId;
use muster_core::invalid::{Invalid, quoted};
use muster_core::names::RegistryName;
use muster_core::registry::{RegistryKind, RegistrySecret};
use muster_core::token::Secret;
use muster_store::registries::{Registry, RegistryContent};
use muster_store::{ConnectionTrait, Db};
use serde_json::{Value, json};

use super::PermittedAccount;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// What is asked of a new registry.
#[derive(Clone, Debug)]
pub struct RegistryOrder {
    /// Its name.
    pub name: RegistryName,
    /// What kind it is.
    pub kind: RegistryKind,
    /// Where it is.
    pub url: String,
    /// Who logs in; empty for nobody.
    pub username: String,
    /// With what.
    pub secret: Option<RegistrySecret>,
}

/// What is to change on a registry; `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct RegistryChange {
    /// What kind it is.
    pub kind: Option<RegistryKind>,
    /// Where it is.
    pub url: Option<String>,
    /// Who logs in.
    pub username: Option<String>,
    /// A new secret; `Some(None)` takes it away.
    pub secret: Option<Option<RegistrySecret>>,
}

/// The registry of that name, as a caller wrote it.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &PermittedAccount, name: &str) -> Result<Registry> {
    let registry = match RegistryName::parse(name) {
        Ok(name) => db.find_registry(permitted.account_id(), &name).await?,
        Err(_) => None,
    };
    registry.ok_or_else(|| OpError::not_found("registry", name))
}

/// Makes a registry.
pub async fn create(app: &App, permitted: &PermittedAccount, order: &RegistryOrder) -> Result<Registry> {
    let content = RegistryContent {
        kind: order.kind,
        url: order.url.clone(),
        username: order.username.clone(),
        sealed_secret: sealed(app, permitted, order.name.as_str(), order.secret.as_ref())?,
    };
    let content = &content;
    let work = app.store.write(|tx| async move {
        if tx.find_registry(permitted.account_id(), &order.name).await?.is_some() {
            let problem = format!("registry {} exists already", quoted(order.name.as_str()));
            return Err(OpError::Conflict(Invalid::new("name", problem)).into());
        }
        tx.insert_registry(permitted.account_id(), &order.name, content).await?;
        let registry = find(&tx, permitted, order.name.as_str()).await?;
        let detail = json!({ "after": described(&registry) });
        tx.audit(&permitted.event(format!("registry:{}", order.name), detail)).await?;
        Ok::<_, WorkError>(registry)
    });
    Ok(work.await?)
}

/// Changes a registry.
pub async fn change(app: &App, permitted: &PermittedAccount, name: &str, change: &RegistryChange) -> Result<Registry> {
    let secret = change.secret.as_ref().map(|secret| sealed(app, permitted, name, secret.as_ref())).transpose()?;
    let secret = &secret;
    let work = app.store.write(|tx| async move {
        let before = find(&tx, permitted, name).await?;
        let content = RegistryContent {
            kind: change.kind.unwrap_or(before.kind),
            url: change.url.clone().unwrap_or_else(|| before.url.clone()),
            username: change.username.clone().unwrap_or_else(|| before.username.clone()),
            sealed_secret: secret.clone().unwrap_or_else(|| before.sealed_secret.clone()),
        };
        tx.update_registry(before.id, &content).await?;
        let after = find(&tx, permitted, name).await?;
        let mut detail = json!({ "before": described(&before), "after": described(&after) });
        if secret.is_some() {
            detail["changed"] = json!(["secret"]);
        }
        tx.audit(&permitted.event(format!("registry:{name}"), detail)).await?;
        Ok::<_, WorkError>(after)
    });
    Ok(work.await?)
}

/// Deletes a registry with its secret.
pub async fn delete(app: &App, permitted: &PermittedAccount, name: &str) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let registry = find(&tx, permitted, name).await?;
        tx.delete_registry(registry.id).await?;
        let detail = json!({ "before": described(&registry) });
        tx.audit(&permitted.event(format!("registry:{name}"), detail)).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// The secret, sealed for its row; nothing for none.
fn sealed(app: &App, permitted: &PermittedAccount, name: &str, secret: Option<&RegistrySecret>) -> Result<String> {
    let Some(secret) = secret else { return Ok(String::new()) };
    let owner = owner(permitted.account_id(), name);
    app.random(|rng| app.vault.seal(secret.expose(), &owner, rng))
}

/// What a secret is bound to. JSON keeps the parts apart, whatever the name holds.
fn owner(account_id: RowId, name: &str) -> String {
    json!(["registry", account_id, name]).to_string()
}

/// The secret of a registry in the clear, to ask the registry with.
pub(crate) fn opened(app: &App, account_id: RowId, registry: &Registry) -> Result<Option<Secret>> {
    if registry.sealed_secret.is_empty() {
        return Ok(None);
    }
    let secret = app.vault.open_sealed(&registry.sealed_secret, &owner(account_id, &registry.name))?;
    Ok(Some(Secret::received(&secret)))
}

/// A registry as the audit log tells it.
fn described(registry: &Registry) -> Value {
    json!({
        "kind": registry.kind.as_str(),
        "url": registry.url,
        "username": registry.username,
        "has_secret": !registry.sealed_secret.is_empty(),
    })
}
