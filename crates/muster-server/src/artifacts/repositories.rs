//! Repositories of an account.

use muster_core::invalid::Invalid;
use muster_core::limits::REPOSITORIES_MAX;
use muster_core::names::{RepositoryName, Text};
use muster_store::repositories::{NewRepository, Repository, RepositoryKind, SeenRepositories};
use serde_json::{Value, json};

use crate::access::PermittedAccount;
use crate::access::artifacts::PermittedRepository;
use crate::app::App;
use crate::error::{OpError, Result, WorkError};

/// What is asked of a new repository.
#[derive(Clone, Debug)]
pub struct RepositoryOrder {
    /// Its name.
    pub name: RepositoryName,
    /// The key of the one fleet that it is for.
    pub project_key: Option<String>,
    /// What its maker says of it.
    pub description: Text,
}

/// Makes a repository.
pub async fn create(app: &App, permitted: &PermittedAccount, order: &RepositoryOrder) -> Result<Repository> {
    let account_id = permitted.account_id();
    let fleet_id = match &order.project_key {
        None => None,
        Some(key) => {
            let operation = muster_core::access::Operation::CreateRepository;
            let fleet = permitted.caller().fleet_by_key(app.store.read(), operation, key).await;
            let unknown = || Invalid::new("project_key", OpError::not_found("fleet", key).to_string());
            match fleet {
                Err(OpError::NotFound { .. }) => return Err(unknown().into()),
                fleet => Some(fleet?.fleet().id),
            }
        }
    };
    let new = &NewRepository {
        account_id,
        fleet_id,
        name: order.name.clone(),
        kind: RepositoryKind::Generic,
        description: order.description.clone(),
        created_by: permitted.caller().actor(),
    };
    let work = app.store.write(|tx| async move {
        if tx.find_repository(account_id, &new.name).await?.is_some() {
            return Err(OpError::taken("name", "repository", new.name.as_str()).into());
        }
        if tx.repositories_count(account_id, &SeenRepositories::All).await? >= REPOSITORIES_MAX {
            let problem = format!("the account has {REPOSITORIES_MAX} repositories, and may not have more");
            return Err(OpError::Conflict(Invalid::new("name", problem)).into());
        }
        tx.insert_repository(new).await?;
        let made = tx.find_repository(account_id, &new.name).await?;
        let made = made.ok_or_else(|| WorkError::lost("repositories"))?;
        let detail = json!({ "after": described(&made, order.project_key.as_deref()) });
        tx.audit(&permitted.event(format!("repository:{}", made.name), detail)).await?;
        Ok::<_, WorkError>(made)
    });
    Ok(work.await?)
}

/// Deletes a repository: an empty one, or one with all its artifacts.
pub async fn delete(app: &App, permitted: &PermittedRepository, with_artifacts: bool) -> Result<()> {
    let repository = permitted.repository();
    let work = app.store.write(|tx| async move {
        if !with_artifacts && tx.holds_artifacts(repository.id).await? {
            return Err(OpError::InUse("the repository holds artifacts".to_owned()).into());
        }
        tx.delete_repository(repository.id).await?;
        let mut event = permitted.event("", json!({ "before": described(repository, None) }));
        event.subject = format!("repository:{}", repository.name);
        tx.audit(&event).await?;
        Ok::<_, WorkError>(())
    });
    Ok(work.await?)
}

/// A repository as the audit log tells it.
fn described(repository: &Repository, project_key: Option<&str>) -> Value {
    let mut told = json!({ "kind": repository.kind.as_str(), "description": repository.description });
    if let Some(key) = project_key {
        told["project_key"] = json!(key);
    }
    told
}
