//! API v2 of Connect, and Muster's own calls in its conventions: a bearer token,
//! the fleet's key in the path, cursors. Translates, and nothing else.

pub mod access_grants;
pub mod access_keys;
pub mod app_versions;
pub mod apps;
pub mod audit_log;
pub mod command_run_devices;
pub mod command_runs;
pub mod deleted_devices;
pub mod deployment_devices;
pub mod deployment_preview;
pub mod deployments;
pub mod device_content;
pub mod device_deletion;
pub mod device_files;
pub mod device_list;
pub mod device_logs;
pub mod device_paths;
pub mod device_streams;
pub mod device_wire;
pub mod devices;
pub mod file_rules;
pub mod filter_dry_run;
pub mod fleets;
pub mod groups;
pub mod login;
pub mod monitor;
pub mod pairing_tokens;
pub mod port_tunnels;
pub mod registries;
pub mod remote_commands;
pub mod remote_sessions;
pub mod repositories;
pub mod roles;
pub mod rollouts;
pub mod saved_filters;
pub mod socket;
pub mod tags;
pub mod terminals;
pub mod tokens;
pub mod update_flows;
pub mod users;
pub mod wire;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use muster_core::access::Operation;
use muster_core::token::{Secret, TokenKind};

use crate::access::artifacts::PermittedRepository;
use crate::access::rate::Source;
use crate::access::{Caller, Permitted, PermittedAccount, refusals};
use crate::app::App;
use crate::error::OpError;
use crate::http::ApiError;

/// A caller of API v2, proven by its bearer token.
pub struct Bearer {
    caller: Caller,
    app: App,
}

impl Bearer {
    /// The fleet with that key, for `operation`.
    pub(crate) async fn fleet(&self, operation: Operation, key: &str) -> Result<Permitted, OpError> {
        let permitted = self.caller.fleet_by_key(self.app.store.read(), operation, key).await;
        if let Err(error) = &permitted {
            refusals::note(&self.app, &self.caller, operation, Some(key), error).await;
        }
        permitted
    }

    /// The caller's account, for `operation`.
    pub(crate) async fn account(&self, operation: Operation) -> Result<PermittedAccount, OpError> {
        let permitted = self.caller.account(self.app.store.read(), operation).await;
        if let Err(error) = &permitted {
            refusals::note(&self.app, &self.caller, operation, None, error).await;
        }
        permitted
    }

    /// The artifact repository with that name, for `operation`.
    pub(crate) async fn repository(&self, operation: Operation, name: &str) -> Result<PermittedRepository, OpError> {
        let permitted = self.caller.repository(self.app.store.read(), operation, name).await;
        self.told(operation, permitted).await
    }

    /// What an operation in that fleet answered; a refusal is noted in the audit log.
    pub(crate) async fn told_in<T>(
        &self,
        key: &str,
        operation: Operation,
        answer: Result<T, OpError>,
    ) -> Result<T, OpError> {
        if let Err(error) = &answer {
            refusals::note(&self.app, &self.caller, operation, Some(key), error).await;
        }
        answer
    }

    /// What an operation of the account answered; a refusal is noted in the audit log.
    pub(crate) async fn told<T>(&self, operation: Operation, answer: Result<T, OpError>) -> Result<T, OpError> {
        if let Err(error) = &answer {
            refusals::note(&self.app, &self.caller, operation, None, error).await;
        }
        answer
    }
}

impl FromRequestParts<App> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let source = Source::from_request_parts(parts, app).await?;
        Self::of(&bearer_secret(parts), &source, app).await
    }
}

impl Bearer {
    /// The caller who bears that secret.
    async fn of(secret: &Secret, source: &Source, app: &App) -> Result<Self, ApiError> {
        let caller = Caller::from_token(&app.store, TokenKind::Access, secret, source.address()).await?;
        source.count(&app.token_calls, &caller.token_id())?;
        Ok(Self { caller, app: app.clone() })
    }
}

/// What the header `Authorization` bears.
fn bearer_secret(parts: &Parts) -> Secret {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let secret = header.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| is_bearer(scheme));
    Secret::received(secret.map_or("", |(_, token)| token.trim()))
}

fn is_bearer(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("bearer")
}
