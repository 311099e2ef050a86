//! Enrolment: a pairing token and a new key become a device of a fleet.

use std::net::IpAddr;

use muster_core::access::Operation;
use muster_core::ids::{DeviceUuid, RowId};
use muster_core::invalid::Invalid;
use muster_core::names::{DeviceName, GroupName};
use muster_core::token::{Secret, TokenKind};
use muster_link::{EnrollRequest, EnrollResponse, Facts};
use muster_store::audit::NewAuditEvent;
use muster_store::devices::{Device, DeviceAccess, DeviceFacts, NewDevice};
use muster_store::fleets::Fleet;
use muster_store::tokens::{NewToken, Token};
use muster_store::{StoreError, Tx};
use serde_json::json;

use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// Enrols a device. Doing it again with the same key answers with the same
/// device and a new token; the old token is revoked.
pub async fn enroll(app: &App, request: &EnrollRequest, source_ip: IpAddr) -> Result<EnrollResponse> {
    if !request.is_proven() {
        let problem = "does not prove that the sender holds the secret half of public_key";
        return Err(Invalid::new("proof", problem).into());
    }
    let work = app.store.write(|tx| async move {
        let (token, is_used_up, fleet) = pairing(&tx, request).await?;
        let known = tx.find_device_by_key(request.public_key.as_str()).await?;
        // The answer may have been lost: the device that used the token up may ask again.
        if is_used_up && !is_made_by(&tx, known.as_ref(), &token).await? {
            return Err(refused().into());
        }
        let device = match known {
            Some(device) if device.account_id == fleet.account_id => device,
            Some(_) => return Err(Invalid::new("public_key", "is enrolled elsewhere").into()),
            None => {
                refuse_deleted(&tx, &fleet, request.public_key.as_str(), "public_key").await?;
                new_device(&tx, &fleet, &token, request).await?
            }
        };
        let device_token = device_token(&tx, &device, "made at enrolment").await?;
        tx.audit(&event(&fleet, &device, source_ip)).await?;
        Ok::<_, WorkError>(EnrollResponse {
            device_uuid: device.uuid.parse().map_err(OpError::from)?,
            device_token,
            name: DeviceName::parse(device.name)?,
            group: GroupName::parse(device.group_name)?,
        })
    });
    Ok(work.await?)
}

fn refused() -> OpError {
    OpError::Unauthenticated("pairing_token: is not valid, or used up".to_owned())
}

/// The token, whether it is used up, and its fleet.
async fn pairing(tx: &Tx, request: &EnrollRequest) -> Result<(Token, bool, Fleet), WorkError> {
    let found = tx.find_pairing_secret(&request.pairing_token).await?;
    let (token, is_used_up) = found.ok_or_else(refused)?;
    let fleet = match token.fleet_id {
        Some(id) => tx.find_fleet(token.account_id, id).await?,
        None => None,
    };
    Ok((token, is_used_up, fleet.ok_or_else(refused)?))
}

async fn is_made_by(tx: &Tx, device: Option<&Device>, token: &Token) -> Result<bool, WorkError> {
    let Some(device) = device else { return Ok(false) };
    Ok(tx.is_enrolled_by(device.id, token.id).await?)
}

/// The group that the device names, else the one that its token names, else the default one.
async fn group(tx: &Tx, fleet: &Fleet, token: &Token, request: &EnrollRequest) -> Result<RowId, WorkError> {
    let Some(named) = &request.group else {
        let group_id = match tx.group_of_pairing_token(token.id).await? {
            Some(group_id) => Some(group_id),
            None => tx.default_group(fleet.id).await?,
        };
        return Ok(group_id.ok_or_else(|| Invalid::unknown("group", "group of the fleet", ""))?);
    };
    let group_id = tx.find_group(fleet.id, named).await?;
    Ok(group_id.ok_or_else(|| Invalid::unknown("group", "group of the fleet", named.as_str()))?)
}

/// A device that was deleted comes back only when a person has let it.
async fn refuse_deleted(tx: &Tx, fleet: &Fleet, public_key: &str, field: &str) -> Result<(), WorkError> {
    match tx.find_deleted_device_by_key(fleet.account_id, public_key).await? {
        Some(device) => {
            let problem =
                format!("is that of the device {}, which was deleted; let it be forgotten first", device.uuid);
            Err(Invalid::new(field, problem).into())
        }
        None => Ok(()),
    }
}

async fn new_device(tx: &Tx, fleet: &Fleet, token: &Token, request: &EnrollRequest) -> Result<Device, WorkError> {
    let group_id = group(tx, fleet, token, request).await?;
    let facts = request.facts.clone().bounded();
    let new = NewDevice {
        name: request.name.clone().map_or_else(|| name_from(&facts), Ok)?,
        group_id,
        public_key: request.public_key.as_str().to_owned(),
        access: DeviceAccess::Agent,
        facts: stored_facts(facts),
    };
    tx.count_use(token.id).await?;
    let uuid: DeviceUuid = tx.insert_device(fleet, &new).await?;
    let device = tx.find_device(fleet.id, &uuid).await?;
    let lost = || StoreError::Corrupt { table: "devices", problem: format!("{uuid} is missing") };
    let device = device.ok_or_else(lost)?;
    tx.note_enrolment(device.id, token.id).await?;
    Ok(device)
}

/// A device that was given no name is called what it calls itself.
fn name_from(facts: &Facts) -> Result<DeviceName, Invalid> {
    DeviceName::parse(facts.hostname.as_str()).or_else(|_| DeviceName::parse("New Device"))
}

/// What a device says of itself, as the store keeps it.
pub fn stored_facts(facts: Facts) -> DeviceFacts {
    DeviceFacts {
        agent_version: facts.agent_version,
        hostname: facts.hostname,
        os: facts.os,
        arch: facts.arch,
        ip_addresses: facts.ip_addresses,
        mac_addresses: facts.mac_addresses,
        time_zone: facts.time_zone,
        degraded: facts.degraded,
    }
}

/// Makes the device's one token; an older one ends.
pub(crate) async fn device_token(tx: &Tx, device: &Device, description: &str) -> Result<Secret, WorkError> {
    tx.revoke_device_tokens(device.id).await?;
    let token = NewToken::of(TokenKind::Device, device.account_id, description);
    Ok(tx.insert_token(&NewToken { device_id: Some(device.id), ..token }).await?)
}

fn event(fleet: &Fleet, device: &Device, source_ip: IpAddr) -> NewAuditEvent {
    NewAuditEvent {
        account_id: fleet.account_id,
        fleet_id: Some(fleet.id),
        actor: "pairing-token".to_owned(),
        action: Operation::EnrollDevice,
        subject: format!("device:{}", device.uuid),
        source_ip: source_ip.to_string(),
        detail: json!({ "name": device.name, "group": device.group_name }),
    }
}
