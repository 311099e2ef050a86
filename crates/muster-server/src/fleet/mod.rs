//! Operations on a fleet: its devices, groups, tags and apps.

pub mod apps;
pub mod bootstrap;
pub mod devices;
pub mod enrolment;
pub mod groups;
pub mod pairing_tokens;
pub mod tags;
