//! Who asks, and what they may act on.
//!
//! A [`Caller`] can only come from a good credential. What it may act on comes
//! from one of its methods, as a [`Permitted`] fleet; the operations take nothing
//! else. What a caller may not see does not exist for it.

pub mod access_grants;
pub mod access_keys;
pub mod artifacts;
pub mod audit_log;
pub mod bce_auth;
pub mod device;
pub mod login;
pub mod passwords;
pub mod rate;
pub mod refusals;
pub mod registries;
pub mod roles;
pub mod signed;
pub mod tokens;
pub mod users;
pub mod vault;

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use muster_core::access::{Operation, Permission, Requirement};
use muster_core::access_grant::{Held, Missing, Reach};
use muster_core::access_key::TagPolicy;
use muster_core::ids::RowId;
use muster_core::names::{FleetName, ProjectKey};
use muster_core::scope::Scope;
use muster_core::token::{Secret, TokenKind};
use muster_store::accounts::User;
use muster_store::audit::NewAuditEvent;
use muster_store::filter::Matching;
use muster_store::fleets::Fleet;
use muster_store::{ConnectionTrait, Db, Store};

use crate::error::{GrantGap, OpError, Result};

/// A user, proven by a token or an access key.
#[derive(Clone, Debug)]
pub struct Caller {
    user: User,
    credentials: Credentials,
    source_ip: String,
}

/// What a caller bears, and how far it goes.
#[derive(Clone, Debug)]
struct Credentials {
    /// The row of the token or access key.
    id: RowId,
    scope: Scope,
    /// Of an access key.
    policy: Option<TagPolicy>,
}

/// The account of a caller who may do one operation in it.
#[derive(Clone, Debug)]
pub struct PermittedAccount {
    caller: Caller,
    operation: Operation,
    /// The fleet by which it was asked for, where the path names one.
    fleet_id: Option<RowId>,
}

/// A fleet that a caller may act on, for one operation.
#[derive(Clone, Debug)]
pub struct Permitted {
    caller: Caller,
    operation: Operation,
    fleet: Fleet,
    held: Held,
    reach: Reach,
}

impl Caller {
    /// The user who bears `secret`, a token of that kind.
    pub async fn from_token(store: &Store, kind: TokenKind, secret: &Secret, source_ip: IpAddr) -> Result<Self> {
        let token = store.read().find_token(kind, secret).await?;
        let user = match token.as_ref().and_then(|token| token.user_id) {
            Some(id) => store.read().find_user(id).await?,
            None => None,
        };
        match (token, user) {
            (Some(token), Some(user)) => {
                Ok(Self::with(user, Credentials { id: token.id, scope: token.scope, policy: None }, source_ip))
            }
            _ => Err(OpError::Unauthenticated(refused(kind).to_owned())),
        }
    }

    fn with(user: User, credentials: Credentials, source_ip: IpAddr) -> Self {
        Self { user, credentials, source_ip: source_ip.to_string() }
    }

    /// The account that the caller belongs to.
    pub fn account_id(&self) -> RowId {
        self.user.account_id
    }

    /// The row of the token or access key that the caller bears.
    pub fn token_id(&self) -> RowId {
        self.credentials.id
    }

    /// The user.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The most that the caller's token or access key may do.
    pub fn scope(&self) -> &Scope {
        &self.credentials.scope
    }

    /// The audit log's name for who acts.
    pub fn actor(&self) -> String {
        format!("user:{}", self.user.name)
    }

    /// Whether the caller may do everything in the account. A token with a scope may
    /// not, whoever its user is.
    pub fn is_administrator(&self) -> bool {
        self.user.is_admin && self.scope().is_everything()
    }

    /// The caller's account, for `operation`.
    pub async fn account<C: ConnectionTrait>(&self, db: &Db<C>, operation: Operation) -> Result<PermittedAccount> {
        self.check_policy(operation)?;
        match operation.requirement() {
            Requirement::User | Requirement::OwnerOrAdmin | Requirement::Credential => {}
            Requirement::Account => self.check_reach()?,
            Requirement::AnyFleet(needed) => {
                self.check_reach()?;
                if !self.holds_anywhere(db, needed).await? {
                    return Err(self.missing_everywhere(db, needed).await?);
                }
            }
            _ if self.is_administrator() => {}
            _ => return Err(OpError::NotAdmin),
        }
        Ok(PermittedAccount { caller: self.clone(), operation, fleet_id: None })
    }

    /// What an access key is for, whatever its user may besides.
    fn check_policy(&self, operation: Operation) -> Result<()> {
        match self.credentials.policy {
            Some(policy) if !policy.allows(operation) => {
                Err(OpError::Refused("the policy of the access key does not allow this"))
            }
            _ => Ok(()),
        }
    }

    /// A catalogue of the account says what is in all its fleets.
    fn check_reach(&self) -> Result<()> {
        match self.scope().fleets {
            Some(_) => {
                Err(OpError::Refused("this token is for some fleets only, and what all of them share is not for it"))
            }
            None => Ok(()),
        }
    }

    async fn holds_anywhere<C: ConnectionTrait>(&self, db: &Db<C>, permission: Permission) -> Result<bool> {
        let is_held = self.user.is_admin || db.holds_anywhere(self.user.id, permission).await?;
        Ok(is_held && self.scope().allows(permission))
    }

    /// Why a caller who holds that permission nowhere is refused.
    async fn missing_everywhere<C: ConnectionTrait>(&self, db: &Db<C>, needed: Permission) -> Result<OpError> {
        let held_back = match self.scope().allows(needed) {
            true => db.held_back_anywhere(self.user.id, needed).await?,
            false => None,
        };
        Ok(match held_back {
            Some(project_key) => OpError::GrantNeeded { permission: needed, project_key, gap: GrantGap::Everything },
            None => OpError::ForbiddenAnywhere(needed),
        })
    }

    /// The fleet with that key, for `operation`.
    pub async fn fleet_by_key<C: ConnectionTrait>(
        &self,
        db: &Db<C>,
        operation: Operation,
        key: &str,
    ) -> Result<Permitted> {
        let fleet = match ProjectKey::parse(key) {
            Ok(key) => db.find_fleet_by_key(self.account_id(), &key).await?,
            Err(_) => None,
        };
        let fleet = fleet.ok_or_else(|| OpError::not_found("fleet", key))?;
        self.permitted(db, operation, fleet, || OpError::not_found("fleet", key)).await
    }

    /// The fleet with that name, for `operation`.
    pub async fn fleet_by_name<C: ConnectionTrait>(
        &self,
        db: &Db<C>,
        operation: Operation,
        name: &FleetName,
    ) -> Result<Permitted> {
        let unknown = || OpError::not_found("project", name.as_str());
        let fleet = db.find_fleet_by_name(self.account_id(), name).await?.ok_or_else(unknown)?;
        self.permitted(db, operation, fleet, unknown).await
    }

    /// The fleet of a device that was found by its token or id, for `operation`.
    pub async fn fleet_of_device<C: ConnectionTrait>(
        &self,
        db: &Db<C>,
        operation: Operation,
        fleet_id: RowId,
    ) -> Result<Permitted> {
        let unknown = || OpError::NotFound { what: "device", name: "of that id or token".to_owned() };
        let fleet = db.find_fleet(self.account_id(), fleet_id).await?.ok_or_else(unknown)?;
        self.permitted(db, operation, fleet, unknown).await
    }

    /// Every fleet that the caller may see.
    pub async fn visible_fleets<C: ConnectionTrait>(&self, db: &Db<C>) -> Result<Vec<Fleet>> {
        let mut fleets = db.visible_fleets(&self.user).await?;
        fleets.retain(|fleet| self.scope().allows_fleet(fleet.id));
        Ok(fleets)
    }

    /// The same, each with whether the caller holds `permission` there.
    pub async fn visible_fleets_with<C: ConnectionTrait>(
        &self,
        db: &Db<C>,
        permission: Permission,
    ) -> Result<Vec<(Fleet, bool)>> {
        let fleets = self.visible_fleets(db).await?;
        let is_allowed = self.scope().allows(permission);
        let held: HashSet<RowId> = match self.user.is_admin {
            true => fleets.iter().map(|fleet| fleet.id).collect(),
            false => db.fleets_with(self.user.id, permission).await?.into_iter().collect(),
        };
        let with = |fleet: Fleet| {
            let is_held = is_allowed && held.contains(&fleet.id);
            (fleet, is_held)
        };
        Ok(fleets.into_iter().map(with).collect())
    }

    async fn permitted<C: ConnectionTrait>(
        &self,
        db: &Db<C>,
        operation: Operation,
        fleet: Fleet,
        invisible: impl Fn() -> OpError,
    ) -> Result<Permitted> {
        if !self.scope().allows_fleet(fleet.id) {
            return Err(invisible());
        }
        let held = match self.user.is_admin {
            true => Held::everything(),
            false => db.held_in(self.user.id, fleet.id).await?.ok_or_else(invisible)?,
        };
        self.check_policy(operation)?;
        let held = held.within(|permission| self.scope().allows(permission));
        let mut permitted = Permitted { caller: self.clone(), operation, fleet, held, reach: Reach::Fleet };
        match operation.requirement() {
            Requirement::Fleet(needed) | Requirement::Either(needed, _) | Requirement::Artifacts(needed) => {
                permitted.reach = permitted.reach_for(operation.requirement(), needed)?;
                if permitted.reach != Reach::Fleet && !operation.checks_its_device() {
                    return Err(permitted.grant_needed(needed, GrantGap::Elsewhere));
                }
                Ok(permitted)
            }
            Requirement::Admin if !self.is_administrator() => Err(OpError::NotAdmin),
            _ => Ok(permitted),
        }
    }
}

impl Caller {
    fn event(
        &self,
        action: Operation,
        fleet_id: Option<RowId>,
        subject: String,
        detail: serde_json::Value,
    ) -> NewAuditEvent {
        let (account_id, actor, source_ip) = (self.account_id(), self.actor(), self.source_ip.clone());
        NewAuditEvent { account_id, fleet_id, actor, action, subject, source_ip, detail }
    }
}

fn refused(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::User => "user_token: is not a valid account token",
        TokenKind::Access => "the access token is missing or not valid",
        TokenKind::Pairing => "pairing_token: is not valid, or used up",
        TokenKind::Device => "device_token: is not a valid device token",
    }
}

impl Permitted {
    /// The fleet.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Who acts.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Where the request came from.
    pub fn source_ip(&self) -> &str {
        &self.caller.source_ip
    }

    /// The audit log's name for who acts.
    pub fn actor(&self) -> String {
        self.caller.actor()
    }

    /// The entry of this operation in the audit log.
    pub fn event(&self, subject: String, detail: serde_json::Value) -> NewAuditEvent {
        self.caller.event(self.operation, Some(self.fleet.id), subject, detail)
    }

    /// For a part of the operation that needs a permission of its own, in the whole fleet.
    pub fn also(&self, needed: Permission) -> Result<()> {
        match self.reach_of(needed)? {
            Reach::Fleet => Ok(()),
            Reach::Devices(_) => Err(self.grant_needed(needed, GrantGap::Elsewhere)),
        }
    }

    /// Which devices the operation may be done to: all, unless an access grant for some
    /// devices is all that permits it.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Whether the operation may be done to that device of the fleet. Whatever is found by
    /// [`crate::fleet::devices::find`] has been asked about already.
    pub fn check_device(&self, device_id: RowId) -> Result<()> {
        match self.operation.requirement() {
            Requirement::Fleet(needed) | Requirement::Either(needed, _) if !self.reach.has(device_id) => {
                Err(self.grant_needed(needed, GrantGap::Elsewhere))
            }
            _ => Ok(()),
        }
    }

    /// What the caller may do in the fleet at any time, without an access grant.
    pub fn free(&self) -> &BTreeSet<Permission> {
        &self.held.free
    }

    /// What the caller may do in the fleet.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// The same for something that acts on whatever a filter matches: every device of it must
    /// be reached, by the permission of the operation and by those that it needs `also`.
    pub async fn check_devices<C: ConnectionTrait>(
        &self,
        db: &Db<C>,
        matching: &Matching,
        also: &[Permission],
    ) -> Result<()> {
        let own = self.permission();
        for needed in own.iter().chain(also) {
            let Reach::Devices(reached) = self.reach_of(*needed)? else { continue };
            let others = db.devices_count(&matching.clone().without(&reached)).await?;
            if others > 0 {
                return Err(self.grant_needed(*needed, GrantGap::Devices(others)));
            }
        }
        Ok(())
    }

    /// For permissions of which the operation needs each for its devices, whichever those are.
    pub fn check_held(&self, needed: &[Permission]) -> Result<()> {
        needed.iter().try_for_each(|needed| self.reach_of(*needed).map(drop))
    }

    /// What the operation needs in the fleet.
    pub fn permission(&self) -> Option<Permission> {
        match self.operation.requirement() {
            Requirement::Fleet(needed) => Some(needed),
            _ => None,
        }
    }

    /// For whatever no single device can be named of.
    pub fn beyond_reach(&self) -> OpError {
        match self.permission() {
            Some(needed) => self.grant_needed(needed, GrantGap::Elsewhere),
            None => OpError::Refused("an access grant for some devices does not allow this"),
        }
    }

    /// What one of two permissions reaches, the other reaches as well.
    fn reach_for(&self, requirement: Requirement, needed: Permission) -> Result<Reach> {
        let Requirement::Either(_, other) = requirement else { return self.reach_of(needed) };
        match (self.held.reach_of(needed), self.held.reach_of(other)) {
            (Ok(reach), Ok(more)) => Ok(reach.and(more)),
            (Ok(reach), Err(_)) | (Err(_), Ok(reach)) => Ok(reach),
            (Err(Missing::Permission), Err(Missing::Grant)) => self.reach_of(other),
            (Err(_), Err(_)) => self.reach_of(needed),
        }
    }

    fn reach_of(&self, needed: Permission) -> Result<Reach> {
        self.held.reach_of(needed).map_err(|missing| match missing {
            Missing::Permission => OpError::Forbidden(needed),
            Missing::Grant => self.grant_needed(needed, GrantGap::Everything),
        })
    }

    fn grant_needed(&self, permission: Permission, gap: GrantGap) -> OpError {
        OpError::GrantNeeded { permission, project_key: self.fleet.project_key.clone(), gap }
    }
}

/// What may be done in a fleet may touch what the account shares.
impl From<Permitted> for PermittedAccount {
    fn from(permitted: Permitted) -> Self {
        Self { caller: permitted.caller, operation: permitted.operation, fleet_id: Some(permitted.fleet.id) }
    }
}

impl PermittedAccount {
    /// The account's row.
    pub fn account_id(&self) -> RowId {
        self.caller.account_id()
    }

    /// Who acts.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The user who acts: what they see is what they are shown.
    pub fn user(&self) -> &User {
        self.caller.user()
    }

    /// The entry of this operation in the audit log.
    pub fn event(&self, subject: String, detail: serde_json::Value) -> NewAuditEvent {
        self.caller.event(self.operation, self.fleet_id, subject, detail)
    }
}
