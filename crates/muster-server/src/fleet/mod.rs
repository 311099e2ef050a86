//! Operations on a fleet: its devices, groups, tags and apps.

pub mod apps;
pub mod bootstrap;
pub mod device_deletion;
pub mod devices;
pub mod enrolment;
pub mod groups;
pub mod tags;
