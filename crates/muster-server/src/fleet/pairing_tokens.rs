//! Pairing tokens of a fleet: made, rotated, revoked.

use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_core::ids::{RowId, TokenUuid};
use muster_core::invalid::Invalid;
use muster_core::names::{GroupName, Text};
use muster_core::token::{Secret, TokenKind};
use muster_store::pairing::{PairingToken, Rotation};
use muster_store::tokens::NewToken;
use muster_store::{ConnectionTrait, Db, Tx};
use serde_json::{Value, json};

use crate::access::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// What is asked of a new pairing token.
#[derive(Clone, Debug)]
pub struct PairingOrder {
    /// For people.
    pub description: Text,
    /// After which it ends by itself; `None` for never.
    pub life: Option<Duration>,
    /// How many devices it may make; `None` for any number.
    pub uses_max: Option<u32>,
    /// The group that its devices land in, unless they name another.
    pub group: Option<GroupName>,
}

/// The pairing token of a fleet with that id, as a caller wrote it.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &Permitted, uuid: &str) -> Result<PairingToken> {
    let token = match uuid.parse::<TokenUuid>() {
        Ok(uuid) => db.find_pairing_token(permitted.fleet().id, &uuid).await?,
        Err(_) => None,
    };
    token.ok_or_else(|| OpError::not_found("pairing token", uuid))
}

/// Makes a pairing token, and answers with it and its secret.
pub async fn create(app: &App, permitted: &Permitted, order: &PairingOrder) -> Result<(PairingToken, Secret)> {
    let work = app.store.write(|tx| async move {
        let group_id = match &order.group {
            Some(group) => {
                let id = tx.find_group(permitted.fleet().id, group).await?;
                let unknown = || Invalid::unknown("group_name", "group of the fleet", group.as_str());
                Some(id.ok_or_else(unknown)?)
            }
            None => None,
        };
        let new = NewToken {
            expires_at: order.life.map_or(Timestamp::FOREVER, |life| tx.now().after(life)),
            uses_max: order.uses_max,
            ..of_fleet(permitted, order.description.as_str())
        };
        let (token, secret) = insert(&tx, permitted, &new, group_id).await?;
        let detail = json!({ "after": described(&token) });
        tx.audit(&permitted.event(format!("pairing-token:{}", token.uuid), detail)).await?;
        Ok::<_, WorkError>((token, secret))
    });
    Ok(work.await?)
}

fn of_fleet(permitted: &Permitted, description: &str) -> NewToken {
    let fleet = permitted.fleet();
    NewToken { fleet_id: Some(fleet.id), ..NewToken::of(TokenKind::Pairing, fleet.account_id, description) }
}

async fn insert(
    tx: &Tx,
    permitted: &Permitted,
    new: &NewToken,
    group_id: Option<RowId>,
) -> Result<(PairingToken, Secret), WorkError> {
    let made = tx.make_token(new).await?;
    if let Some(group_id) = group_id {
        tx.set_pairing_group(made.id, group_id).await?;
    }
    let token = tx.find_pairing_token_by_id(permitted.fleet().id, made.id).await?;
    Ok((token.ok_or_else(|| OpError::not_found("pairing token", made.uuid.as_str()))?, made.secret))
}

/// Makes a successor of a token, with the same description, group, end and limit, and
/// answers with it and its secret. Both work until the rotation ends.
pub async fn rotate(app: &App, permitted: &Permitted, uuid: &str) -> Result<(PairingToken, Secret)> {
    let work = app.store.write(|tx| async move {
        let old = find(&tx, permitted, uuid).await?;
        if old.revoked_at != Timestamp::NEVER {
            return Err(conflict("the pairing token is revoked").into());
        }
        if old.rotation.is_some() {
            return Err(conflict("the pairing token is being rotated already").into());
        }
        let new = NewToken {
            expires_at: old.expires_at,
            uses_max: old.uses_max.and_then(|max| max.try_into().ok()),
            ..of_fleet(permitted, &old.description)
        };
        let (new, secret) = insert(&tx, permitted, &new, old.group_id).await?;
        tx.start_rotation(old.id, new.id).await?;
        let detail = json!({ "new_token_id": new.uuid });
        tx.audit(&permitted.event(format!("pairing-token:{}", old.uuid), detail)).await?;
        Ok::<_, WorkError>((new, secret))
    });
    Ok(work.await?)
}

/// How a rotation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationEnd {
    /// The old token is revoked.
    Complete,
    /// The new token is revoked.
    Abort,
}

/// Ends the rotation of a token, and answers with that token as it is then.
pub async fn end_rotation(app: &App, permitted: &Permitted, uuid: &str, end: RotationEnd) -> Result<PairingToken> {
    let work = app.store.write(|tx| async move {
        let old = find(&tx, permitted, uuid).await?;
        let Some(Rotation { successor_id, successor_uuid, .. }) = &old.rotation else {
            return Err(conflict("the pairing token is not being rotated").into());
        };
        let (revoked, revoked_uuid) = match end {
            RotationEnd::Complete => (old.id, &old.uuid),
            RotationEnd::Abort => (*successor_id, successor_uuid),
        };
        tx.revoke_token(revoked).await?;
        tx.end_rotations(old.id).await?;
        let detail = json!({ "new_token_id": successor_uuid, "revoked_token_id": revoked_uuid });
        tx.audit(&permitted.event(format!("pairing-token:{}", old.uuid), detail)).await?;
        Ok::<_, WorkError>(find(&tx, permitted, uuid).await?)
    });
    Ok(work.await?)
}

/// Revokes a token, and with it its part in a rotation: the other token stays. Doing it
/// again changes nothing.
pub async fn revoke(app: &App, permitted: &Permitted, uuid: &str) -> Result<()> {
    let work = app.store.write(|tx| async move {
        let token = find(&tx, permitted, uuid).await?;
        if token.revoked_at == Timestamp::NEVER {
            tx.revoke_token(token.id).await?;
            tx.end_rotations(token.id).await?;
            let detail = json!({ "before": described(&token) });
            tx.audit(&permitted.event(format!("pairing-token:{}", token.uuid), detail)).await?;
        }
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

fn conflict(problem: &str) -> OpError {
    OpError::Conflict(Invalid::new("", problem))
}

/// A pairing token as the audit log tells it.
fn described(token: &PairingToken) -> Value {
    json!({
        "description": token.description,
        "group_name": token.group_name,
        "uses": token.uses,
        "uses_max": token.uses_max,
    })
}
