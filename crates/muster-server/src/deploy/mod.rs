//! Operations on deployments, and the engine that brings each to its end.

pub mod artifacts;
pub mod deployments;
pub mod dry_run;
pub mod engine;
pub mod flows;
pub mod preview;
pub mod prospects;
pub mod reports;
pub mod rollouts;
pub mod standing;
pub mod wake;
