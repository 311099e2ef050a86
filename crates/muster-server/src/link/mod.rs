//! The face that devices speak to: enrolment and the control link.
//!
//! [`session`] decides, [`control`] owns the socket, [`registry`] knows which
//! device's link is held here, [`dispatch`] what is told once. Over [`stream`] come the connections of port tunnels.

pub mod control;
pub mod dispatch;
pub mod enroll;
pub mod registries;
pub mod registry;
pub mod session;
pub mod stream;
