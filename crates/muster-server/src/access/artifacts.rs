//! Who may act on a repository of artifacts: a caller, or whoever bears a [`Grant`].

use muster_core::access::{Operation, Permission, Requirement};
use muster_core::artifact::{Grant, Right};
use muster_core::ids::RowId;
use muster_core::names::RepositoryName;
use muster_store::audit::NewAuditEvent;
use muster_store::repositories::{Repository, RepositoryKind, SeenRepositories};
use muster_store::{ConnectionTrait, Db};
use serde_json::Value;

use super::Caller;
use crate::app::App;
use crate::error::{OpError, Result};

/// A repository that somebody may act on, for one operation.
#[derive(Clone, Debug)]
pub struct PermittedRepository {
    repository: Repository,
    operation: Operation,
    actor: String,
    source_ip: String,
    /// What else they see; nothing for a grant.
    seen: Option<SeenRepositories>,
}

impl PermittedRepository {
    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The audit log's name for who acts.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Whether they see that repository of the same account.
    pub fn sees(&self, other: &Repository) -> bool {
        other.account_id == self.repository.account_id
            && match (&self.seen, other.fleet_id) {
                (Some(SeenRepositories::All), _) | (Some(SeenRepositories::OfFleets(_)), None) => true,
                (Some(SeenRepositories::OfFleets(fleets)), Some(fleet)) => fleets.contains(&fleet),
                (None, _) => false,
            }
    }

    /// The entry of this operation in the audit log.
    pub fn event(&self, path: &str, detail: Value) -> NewAuditEvent {
        NewAuditEvent {
            account_id: self.repository.account_id,
            fleet_id: self.repository.fleet_id,
            actor: self.actor.clone(),
            action: self.operation,
            subject: format!("artifact:{}/{path}", self.repository.name),
            source_ip: self.source_ip.clone(),
            detail,
        }
    }
}

impl Caller {
    /// Which repositories the caller sees: those that all fleets share, when their token is
    /// for all and they have a role in any, and those of the fleets that they see.
    pub async fn seen_repositories<C: ConnectionTrait>(&self, db: &Db<C>) -> Result<SeenRepositories> {
        if self.user.is_admin && self.scope().fleets.is_none() {
            return Ok(SeenRepositories::All);
        }
        let fleets = self.visible_fleets(db).await?;
        Ok(SeenRepositories::OfFleets(fleets.into_iter().map(|fleet| fleet.id).collect()))
    }

    /// The repository with that name, for `operation`.
    pub async fn repository<C: ConnectionTrait>(
        &self,
        db: &Db<C>,
        operation: Operation,
        name: &str,
    ) -> Result<PermittedRepository> {
        let invisible = || OpError::not_found("repository", name);
        let found = match RepositoryName::parse(name) {
            Ok(name) => db.find_repository(self.account_id(), &name).await?,
            Err(_) => None,
        };
        let repository = found.ok_or_else(invisible)?;
        match repository.fleet_id {
            Some(fleet_id) => self.in_fleet(db, operation, &repository, fleet_id, invisible).await?,
            None => self.shared(db, operation, invisible).await?,
        }
        Ok(PermittedRepository {
            seen: Some(self.seen_repositories(db).await?),
            actor: self.actor(),
            source_ip: self.source_ip.clone(),
            repository,
            operation,
        })
    }

    async fn in_fleet<C: ConnectionTrait>(
        &self,
        db: &Db<C>,
        operation: Operation,
        repository: &Repository,
        fleet_id: RowId,
        invisible: impl Fn() -> OpError,
    ) -> Result<()> {
        let fleet = db.find_fleet(self.account_id(), fleet_id).await?.ok_or_else(&invisible)?;
        let permitted = self.permitted(db, operation, fleet, invisible).await?;
        match repository.kind {
            RepositoryKind::Generic => Ok(()),
            // What a log holds is as sensitive as what a terminal shows.
            RepositoryKind::DeviceFiles => permitted.also(Permission::RemoteAccess),
        }
    }

    async fn shared<C: ConnectionTrait>(
        &self,
        db: &Db<C>,
        operation: Operation,
        invisible: impl Fn() -> OpError,
    ) -> Result<()> {
        if !self.user.is_admin && db.fleets_count(&self.user).await? == 0 {
            return Err(invisible());
        }
        self.check_reach()?;
        match operation.requirement() {
            Requirement::Artifacts(needed) if !self.holds_anywhere(db, needed).await? => {
                Err(OpError::ForbiddenAnywhere(needed))
            }
            Requirement::Admin if !self.is_administrator() => Err(OpError::NotAdmin),
            _ => Ok(()),
        }
    }
}

/// The repository of a grant, for `operation` at that place in it.
pub async fn granted(
    app: &App,
    grant: &Grant,
    operation: Operation,
    name: &str,
    path: &str,
    source_ip: String,
) -> Result<PermittedRepository> {
    let is_for = match operation {
        Operation::GetArtifact | Operation::HeadArtifact => {
            matches!(grant.right, Right::Fetch | Right::FetchContent(_))
        }
        Operation::StoreArtifact => grant.right == Right::Store,
        _ => false,
    };
    let repository = app.store.read().find_repository_by_id(grant.repository).await?;
    let repository = repository.filter(|found| is_for && found.name == name && grant.path == path);
    Ok(PermittedRepository {
        repository: repository.ok_or_else(|| OpError::not_found("repository", name))?,
        operation,
        actor: grant.holder.clone(),
        source_ip,
        seen: None,
    })
}
