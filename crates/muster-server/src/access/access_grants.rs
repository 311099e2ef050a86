//! Access grants: asked for, answered by another user, ended by a person or by the clock.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::access::{Operation, Permission};
use muster_core::access_grant::{GrantActor, GrantEvent, GrantRefusal, GrantStatus};
use muster_core::clock::Timestamp;
use muster_core::ids::{DeviceUuid, RowId};
use muster_core::invalid::{Invalid, quoted};
use muster_core::limits::{ACCESS_GRANT_ANSWER_TIMEOUT, ACCESS_GRANT_LIFE_MIN, ACCESS_GRANTS_PENDING_MAX};
use muster_core::names::Text;
use muster_store::access_grants::{AccessGrant, GrantFilter, GrantNote, GrantViewer, NewAccessGrant};
use muster_store::audit::NewAuditEvent;
use muster_store::{ConnectionTrait, Db, StoreError, Tx};
use serde_json::{Value, json};

use super::Permitted;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};
use crate::periodic::{every, or_later};

/// What is asked for.
#[derive(Clone, Debug)]
pub struct GrantOrder {
    /// Permissions; at least one.
    pub permissions: BTreeSet<Permission>,
    /// The devices that it is to be for, as a caller wrote them; `None` for the whole fleet.
    pub devices: Option<Vec<String>>,
    /// Why; not empty.
    pub reason: Text,
    /// How long it is to hold.
    pub duration: Duration,
}

/// How another user answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It is to hold from now on: for that long, or else for as long as was asked for.
    Approve(Option<Duration>),
    /// It is refused.
    Deny,
}

/// Whose access grants the caller sees.
pub fn viewer(permitted: &Permitted) -> GrantViewer {
    GrantViewer { user_id: permitted.caller().user().id, answers: permitted.free().clone() }
}

/// The access grant of that id, as a caller wrote it, if they have a part in it.
pub async fn find<C: ConnectionTrait>(db: &Db<C>, permitted: &Permitted, uuid: &str) -> Result<AccessGrant> {
    // PostgreSQL takes no NUL, not even in a comparison.
    let found = db.find_access_grant(permitted.fleet().id, &viewer(permitted), &uuid.replace('\0', "")).await?;
    found.ok_or_else(|| OpError::not_found("access grant", uuid))
}

/// A page of the access grants that the caller sees behind the row `after`, whether there
/// are more, and how many there are in all.
pub async fn list(
    app: &App,
    permitted: &Permitted,
    filter: GrantFilter,
    after: Option<RowId>,
    limit: u64,
) -> Result<(Vec<AccessGrant>, bool, u64)> {
    let (store, fleet_id, viewer) = (app.store.read(), permitted.fleet().id, viewer(permitted));
    let (grants, is_more) = store.access_grants_page(fleet_id, &viewer, filter, after, limit).await?;
    Ok((grants, is_more, store.access_grants_count(fleet_id, &viewer, filter).await?))
}

/// Asks for an access grant.
pub async fn request(app: &App, permitted: &Permitted, order: &GrantOrder) -> Result<AccessGrant> {
    check_need(permitted, &order.permissions)?;
    check_duration(order.duration, permitted.fleet().access_grant_max)?;
    let work = app.store.write(|tx| async move {
        let user_id = permitted.caller().user().id;
        let pending = tx.pending_access_grants(permitted.fleet().id, user_id).await?;
        if pending >= ACCESS_GRANTS_PENDING_MAX {
            let problem = format!("{pending} of your requests wait for an answer, which is the most that may");
            return Err(OpError::NotNow { code: "too_many_requests", problem: Invalid::new("", problem) }.into());
        }
        let devices = match &order.devices {
            Some(named) => Some(device_ids(&tx, permitted, named).await?),
            None => None,
        };
        let uuid = tx
            .insert_access_grant(&NewAccessGrant {
                fleet_id: permitted.fleet().id,
                user_id,
                permissions: order.permissions.clone(),
                devices,
                reason: order.reason.as_str().to_owned(),
                duration: order.duration,
                answer_by: tx.now().after(ACCESS_GRANT_ANSWER_TIMEOUT),
            })
            .await?;
        let made = find(&tx, permitted, &uuid).await?;
        let detail = json!({ "before": null, "after": described(&made) });
        tx.audit(&permitted.event(format!("access_grant:{uuid}"), detail)).await?;
        Ok::<_, WorkError>(made)
    });
    Ok(work.await?)
}

/// Only what a role of the caller holds back is asked for.
fn check_need(permitted: &Permitted, permissions: &BTreeSet<Permission>) -> Result<()> {
    let held = permitted.held();
    for permission in permissions {
        if held.free.contains(permission) {
            let problem = format!("you have {} at any time", quoted(permission.as_str()));
            return Err(OpError::Conflict(Invalid::new("permissions", problem)));
        }
        if !held.held_back.contains(permission) {
            return Err(OpError::Forbidden(*permission));
        }
    }
    Ok(())
}

fn check_duration(duration: Duration, max: Duration) -> Result<()> {
    if (ACCESS_GRANT_LIFE_MIN..=max).contains(&duration) {
        return Ok(());
    }
    let (min, max) = (ACCESS_GRANT_LIFE_MIN.as_secs(), max.as_secs());
    let problem = format!("{} is not a number of seconds from {min} to {max}", duration.as_secs());
    Err(Invalid::new("duration_seconds", problem).into())
}

/// The rows of devices of the fleet; each once.
async fn device_ids(tx: &Tx, permitted: &Permitted, named: &[String]) -> Result<Vec<RowId>, WorkError> {
    let uuids: Vec<DeviceUuid> = named.iter().filter_map(|uuid| uuid.parse().ok()).collect();
    let known = tx.device_ids(permitted.fleet().id, &uuids).await?;
    for (place, uuid) in named.iter().enumerate() {
        if !known.iter().any(|(_, known)| known == uuid) {
            return Err(Invalid::unknown(format!("devices[{place}]"), "device of the fleet", uuid).into());
        }
    }
    Ok(known.into_iter().map(|(id, _)| id).collect())
}

/// Answers what another user asked for.
pub async fn answer(
    app: &App,
    permitted: &Permitted,
    uuid: &str,
    answer: &Answer,
    comment: &Text,
) -> Result<AccessGrant> {
    let work = app.store.write(|tx| async move {
        let before = find(&tx, permitted, uuid).await?;
        let event = match answer {
            Answer::Approve(None) => GrantEvent::Approve(before.duration),
            Answer::Approve(Some(shorter)) => {
                check_duration(*shorter, before.duration)?;
                GrantEvent::Approve(*shorter)
            }
            Answer::Deny => GrantEvent::Deny,
        };
        apply(&tx, permitted, &before, event, comment.as_str()).await
    });
    Ok(work.await?)
}

/// Takes an access grant back, or the request for it.
pub async fn revoke(app: &App, permitted: &Permitted, uuid: &str) -> Result<AccessGrant> {
    let work = app.store.write(|tx| async move {
        let before = find(&tx, permitted, uuid).await?;
        apply(&tx, permitted, &before, GrantEvent::Revoke, "").await
    });
    Ok(work.await?)
}

async fn apply(
    tx: &Tx,
    permitted: &Permitted,
    before: &AccessGrant,
    event: GrantEvent,
    comment: &str,
) -> Result<AccessGrant, WorkError> {
    let user = permitted.caller().user().id;
    let actor = GrantActor { user, may_answer: permitted.held().may_answer(&before.permissions) };
    let after = before.state.apply(event, actor, tx.now()).map_err(|refusal| refused(before, refusal))?;
    let by = permitted.actor();
    if !tx.change_access_grant(before, after, GrantNote { by: &by, comment }).await? {
        return Err(refused(before, GrantRefusal::Stands(before.state.at(tx.now()).status)).into());
    }
    let now = find(tx, permitted, &before.uuid).await?;
    let detail = json!({ "before": described(before), "after": described(&now) });
    tx.audit(&permitted.event(format!("access_grant:{}", before.uuid), detail)).await?;
    Ok(now)
}

fn refused(grant: &AccessGrant, refusal: GrantRefusal) -> OpError {
    match refusal {
        GrantRefusal::OwnRequest => OpError::Refused("nobody answers their own request for an access grant"),
        GrantRefusal::NotTheirs => OpError::not_found("access grant", &grant.uuid),
        GrantRefusal::Stands(status) => {
            OpError::Conflict(Invalid::new("", format!("the access grant is {} already", status.word())))
        }
    }
}

/// What the audit log tells of an access grant.
fn described(grant: &AccessGrant) -> Value {
    let moment = |at: Timestamp| (at != Timestamp::NEVER).then(|| at.to_rfc3339());
    let mut told = json!({
        "user": grant.user,
        "permissions": grant.permissions.iter().map(|permission| permission.as_str()).collect::<Vec<_>>(),
        "devices": grant.devices,
        "reason": grant.reason,
        "duration_seconds": grant.duration.as_secs(),
        "status": grant.state.status.word(),
    });
    if grant.state.status == GrantStatus::Approved {
        told["expires_time"] = json!(moment(grant.state.ends_at));
    }
    if !grant.answered_by.is_empty() {
        told["answered_by"] = json!(grant.answered_by);
        told["comment"] = json!(grant.comment);
    }
    told
}

/// The audit log's name for the clock.
const SERVER: &str = "server";
/// Most access grants that are ended in one transaction.
const BATCH_MAX: u64 = 500;
/// How often it is noted that the time of access grants is over. Whether one holds is asked
/// of the clock each time, so nothing depends on this but the audit log.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks for ever for access grants whose time is over.
pub async fn run(app: App) {
    let mut period = every(PERIOD);
    loop {
        period.tick().await;
        or_later(expire(&app).await, "the end of access grants could not be noted");
    }
}

/// Notes the end of every access grant whose time is over.
pub async fn expire(app: &App) -> Result<(), StoreError> {
    loop {
        // A look first: a write would hold up others.
        if app.store.read().overdue_access_grants(1).await?.is_empty() {
            return Ok(());
        }
        let work = app.store.write(|tx| async move {
            let ended = tx.expire_access_grants(BATCH_MAX, SERVER).await?;
            tx.audit_all(&ended.iter().map(ended_by_clock).collect::<Vec<_>>()).await
        });
        work.await?;
    }
}

fn ended_by_clock(grant: &AccessGrant) -> NewAuditEvent {
    let status = grant.state.status;
    let action = if status == GrantStatus::Pending { Operation::DenyAccess } else { Operation::RevokeAccess };
    let mut after = described(grant);
    after["status"] = json!(status.when_overdue().word());
    NewAuditEvent {
        account_id: grant.account_id,
        fleet_id: Some(grant.fleet_id),
        actor: SERVER.to_owned(),
        action,
        subject: format!("access_grant:{}", grant.uuid),
        source_ip: String::new(),
        detail: json!({ "before": described(grant), "after": after }),
    }
}
