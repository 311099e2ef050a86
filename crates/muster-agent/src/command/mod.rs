//! Remote commands: scripts that somebody runs on devices, beside the runs of deployments
//! and independent of them.
//!
//! * [`policy`]: what the device allows, whatever the server says;
//! * [`desk`]: every command of the device, and which may begin. Pure;
//! * [`store`]: the disk: `commands/ID/`, with the order, that it began, and how it ended;
//! * [`follow`]: what a running command puts out;
//! * [`driver`]: the thread that does what the desk says.
//!
//! A command runs in a step runner, as a step does ([`crate::step`]). That it begins is on
//! the disk before the runner is started; so it never runs twice, and a killed agent finds
//! it again. How it ended stays until the server has stored it.

pub mod desk;
pub mod driver;
pub mod follow;
pub mod policy;
pub mod store;
