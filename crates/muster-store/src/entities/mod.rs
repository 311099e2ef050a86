//! The tables, one file each. A row type never leaves this crate.
#![expect(unreachable_pub, reason = "the derives make every item public; the modules are not")]

pub(crate) mod accounts;
pub(crate) mod app_parameters;
pub(crate) mod app_records;
pub(crate) mod app_versions;
pub(crate) mod apps;
pub(crate) mod audit_events;
pub(crate) mod deleted_device_tokens;
pub(crate) mod deleted_devices;
pub(crate) mod deployments;
pub(crate) mod device_apps;
pub(crate) mod device_files;
pub(crate) mod device_presence;
pub(crate) mod device_tags;
pub(crate) mod devices;
pub(crate) mod enrolments;
pub(crate) mod fleets;
pub(crate) mod flow_sources;
pub(crate) mod flows;
pub(crate) mod groups;
pub(crate) mod pairing_details;
pub(crate) mod port_tunnels;
pub(crate) mod registries;
pub(crate) mod role_permissions;
pub(crate) mod roles;
pub(crate) mod rollouts;
pub(crate) mod saved_filters;
pub(crate) mod sealing_checks;
pub(crate) mod steps;
pub(crate) mod tags;
pub(crate) mod targets;
pub(crate) mod token_fleets;
pub(crate) mod tokens;
pub(crate) mod user_roles;
pub(crate) mod users;
