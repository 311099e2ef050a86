//! The store: one function body for each query, run on SQLite and on PostgreSQL.
//!
//! [`Store`] is the handle. [`Store::read`] looks, [`Store::write`] changes, in a
//! transaction that is repeated when another came in between. What can be asked
//! is a method of [`Db`], in the file of its noun; what changes something is a
//! method of [`Tx`].
//!
//! Reading order: [`db`], [`filter`] (the device filter as one `WHERE`), then the
//! nouns. Row types stay inside; every query is one that both engines run, and
//! one conformance suite is run on both.

pub mod access_grants;
pub mod access_keys;
pub mod accounts;
pub mod apps;
pub mod artifacts;
pub mod audit;
pub mod blobs;
pub mod command_dispatch;
pub mod command_runs;
pub mod command_targets;
pub mod db;
pub mod deployments;
mod device_changes;
pub mod device_deletion;
pub mod device_files;
pub mod device_tags;
pub mod devices;
pub mod dispatch;
mod entities;
pub mod error;
pub mod file_requests;
pub mod file_rules;
pub mod filter;
pub mod fleets;
pub mod flows;
pub mod groups;
mod migrations;
pub mod monitor;
mod page;
pub mod pairing;
pub mod port_tunnels;
pub mod presence;
mod printable;
pub mod prospects;
pub mod registries;
pub mod remote_sessions;
pub mod repositories;
pub mod resources;
pub mod roles;
pub mod rollouts;
pub mod saved_commands;
pub mod saved_filters;
pub mod sealing;
mod standing;
pub mod tags;
pub mod targets;
pub mod terminals;
#[cfg(feature = "testing")]
pub mod testing;
pub mod token_list;
pub mod tokens;
pub mod updates;
pub mod users;

pub use db::{AsStoreError, Db, Location, Result, Store, Tx, secure_rng};
pub use error::StoreError;
pub use sea_orm::ConnectionTrait;
