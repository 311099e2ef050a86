//! Access keys, which programs sign requests of the Tag Service with: made, looked at, revoked.

use muster_core::access::Operation;
use muster_core::access_key::{AccessKeyId, TagPolicy, random_secret};
use muster_core::clock::Timestamp;
use muster_core::ids::RowId;
use muster_core::names::{Text, UserName};
use muster_core::token::Secret;
use muster_store::access_keys::{AccessKey, NewAccessKey};
use muster_store::accounts::User;
use muster_store::audit::NewAuditEvent;
use muster_store::{ConnectionTrait, Db, Store, Tx};
use rand::Rng;
use serde_json::{Value, json};

use super::PermittedAccount;
use super::tokens::subject;
use super::vault::Vault;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// What is asked of a new access key.
#[derive(Clone, Debug)]
pub struct KeyOrder {
    /// For people.
    pub description: Text,
    /// Who is to act with it; `None` for the caller.
    pub user: Option<UserName>,
    /// The most that it may do.
    pub policy: TagPolicy,
}

/// The two halves of a new key, and the secret one as it is stored.
struct Halves {
    id: AccessKeyId,
    secret: Secret,
    sealed_secret: String,
}

impl Halves {
    fn random(vault: &Vault, account_id: RowId, rng: &mut impl Rng) -> Result<Self> {
        let (id, secret) = (AccessKeyId::random(rng), random_secret(rng));
        let sealed_secret = vault.seal(secret.expose(), &owner_of_secret(account_id, id.as_str()), rng)?;
        Ok(Self { id, secret, sealed_secret })
    }
}

/// What a sealed secret is bound to.
fn owner_of_secret(account_id: RowId, access_key_id: &str) -> String {
    json!(["access_key", account_id, access_key_id]).to_string()
}

/// The key of that id with its secret, if there is one and it was not revoked.
pub(super) async fn open(app: &App, access_key_id: &str) -> Result<Option<(AccessKey, String)>> {
    let Ok(id) = access_key_id.parse::<AccessKeyId>() else { return Ok(None) };
    let found = app.store.read().find_access_key(&id).await?;
    let Some((key, sealed)) = found.filter(|(key, _)| key.revoked_at == Timestamp::NEVER) else { return Ok(None) };
    let secret = app.vault.open_sealed(&sealed, &owner_of_secret(key.account_id, id.as_str()))?;
    Ok(Some((key, secret)))
}

/// The access key of that id, as a caller wrote it. Somebody else's does not exist for a
/// caller who is no administrator.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &PermittedAccount, id: &str) -> Result<AccessKey> {
    let key = match id.parse::<AccessKeyId>() {
        Ok(id) => db.find_access_key(&id).await?.map(|(key, _)| key),
        Err(_) => None,
    };
    let owner = super::tokens::owner(permitted);
    let key = key.filter(|key| key.account_id == permitted.account_id());
    let key = key.filter(|key| owner.is_none_or(|owner| owner == key.user_id));
    key.ok_or_else(|| OpError::not_found("access key", id))
}

/// Makes an access key, and answers with it and its secret.
pub async fn create(app: &App, permitted: &PermittedAccount, order: &KeyOrder) -> Result<(AccessKey, Secret)> {
    let caller = permitted.caller();
    if !order.policy.scope().is_within(caller.scope()) {
        return Err(OpError::Refused("a token cannot make an access key that may do more than itself"));
    }
    let halves = &app.random(|rng| Halves::random(&app.vault, permitted.account_id(), rng))?;
    let work = app.store.write(|tx| async move {
        let user = subject(&tx, caller, order.user.as_ref()).await?;
        let made = insert(&tx, &user, order, halves).await?;
        tx.audit(&permitted.event(named(&made), json!({ "after": described(&made) }))).await?;
        Ok::<_, WorkError>(made)
    });
    Ok((work.await?, halves.secret.clone()))
}

async fn insert(tx: &Tx, user: &User, order: &KeyOrder, halves: &Halves) -> Result<AccessKey, WorkError> {
    let new = NewAccessKey {
        account_id: user.account_id,
        user_id: user.id,
        access_key_id: halves.id.clone(),
        sealed_secret: halves.sealed_secret.clone(),
        policy: order.policy,
        description: order.description.as_str().to_owned(),
    };
    tx.insert_access_key(&new).await?;
    let made = tx.find_access_key(&halves.id).await?;
    made.map(|(key, _)| key).ok_or_else(|| WorkError::lost("access_keys"))
}

/// Revokes an access key. Doing it again changes nothing.
pub async fn revoke(app: &App, permitted: &PermittedAccount, id: &str) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let key = find(&tx, permitted, id).await?;
        if !key.policy.scope().is_within(permitted.caller().scope()) {
            return Err(OpError::Refused("a token cannot revoke an access key that may do more than itself").into());
        }
        if key.revoked_at == Timestamp::NEVER {
            tx.revoke_access_key(key.id).await?;
            tx.audit(&permitted.event(named(&key), json!({ "before": described(&key) }))).await?;
        }
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

fn named(key: &AccessKey) -> String {
    format!("access_key:{}", key.access_key_id)
}

/// An access key as the audit log tells it.
fn described(key: &AccessKey) -> Value {
    json!({ "description": key.description, "subject": key.user_name, "policy": key.policy.as_str() })
}

/// Whom the audit log names for work on the data itself, by whoever can read it.
const OPERATOR: &str = "muster-admin";

fn by_operator(action: Operation, key: &AccessKey, detail: Value) -> NewAuditEvent {
    NewAuditEvent {
        account_id: key.account_id,
        fleet_id: None,
        actor: OPERATOR.to_owned(),
        action,
        subject: named(key),
        source_ip: String::new(),
        detail,
    }
}

/// Makes an access key with the rights of whoever can read the data and the key that
/// seals secrets.
pub async fn create_by_operator(
    store: &Store,
    vault: &Vault,
    user: &UserName,
    order: &KeyOrder,
    rng: &mut impl Rng,
) -> Result<(AccessKey, Secret)> {
    let found = store.read().find_user_by_name(user).await?;
    let user = &found.ok_or_else(|| OpError::not_found("user", user.as_str()))?;
    let halves = &Halves::random(vault, user.account_id, rng)?;
    let work = store.write(|tx| async move {
        let made = insert(&tx, user, order, halves).await?;
        let event = by_operator(Operation::CreateAccessKey, &made, json!({ "after": described(&made) }));
        tx.audit(&event).await?;
        Ok::<_, WorkError>(made)
    });
    Ok((work.await?, halves.secret.clone()))
}

/// Revokes an access key with the rights of whoever can write the data.
pub async fn revoke_by_operator(store: &Store, id: &str) -> Result<()> {
    let unknown = || OpError::not_found("access key", id);
    let parsed: &AccessKeyId = &id.parse().map_err(|_| unknown())?;
    let work = store.write(|tx| async move {
        let (key, _) = tx.find_access_key(parsed).await?.ok_or_else(unknown)?;
        if key.revoked_at == Timestamp::NEVER {
            tx.revoke_access_key(key.id).await?;
            let event = by_operator(Operation::RevokeAccessKey, &key, json!({ "before": described(&key) }));
            tx.audit(&event).await?;
        }
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}
