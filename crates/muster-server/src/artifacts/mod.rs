//! Artifacts: what updates come from, and what devices send when they are asked.
//!
//! A repository holds artifacts at paths. What an artifact holds is a blob: a content, of
//! which the storage has one for all artifacts that share it. [`objects`] is that storage.

pub mod collection;
pub mod grants;
pub mod objects;
mod parts;
pub mod reading;
pub mod repositories;
pub mod storing;
pub mod upstream;
