//! Operations on a fleet: its devices, groups, tags, apps and saved filters.

pub mod apps;
pub mod bootstrap;
pub mod device_deletion;
pub mod devices;
pub mod enrolment;
pub mod fleets;
pub mod groups;
pub mod pairing_tokens;
pub mod registration;
pub mod resources;
pub mod saved_filters;
pub mod tag_links;
pub mod tags;
