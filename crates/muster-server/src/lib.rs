//! The server: HTTP faces, device links, the deployment engine.
//!
//! Each HTTP face is a folder that translates and nothing else: [`v1`], [`v2`],
//! [`artifactory`], [`link`]. Behind the faces stands one set of operations that knows no HTTP:
//! [`access`] (who may), [`fleet`] (devices, tags, apps, groups), [`deploy`]
//! (flows, deployments, the engine), [`remote`] (tunnels, files that devices are asked for),
//! [`artifacts`] (what updates come from), [`telemetry`] (keepalives, the data monitor). Two faces that do
//! the same thing call the same operation.
//!
//! Reading order: [`router`] (everything that can be asked), [`server`] (what runs),
//! then a face, then the operation that it calls.

pub mod access;
pub mod acme;
pub mod app;
pub mod artifactory;
pub mod artifacts;
pub mod config;
pub mod deploy;
pub mod error;
pub mod fleet;
pub mod health;
pub mod http;
pub mod link;
mod listener;
pub mod openapi;
mod periodic;
pub mod remote;
pub mod router;
pub mod server;
pub mod tag_service;
pub mod telemetry;
pub mod tls;
pub mod v1;
pub mod v2;

pub use config::ServerConfig;
pub use server::Server;
