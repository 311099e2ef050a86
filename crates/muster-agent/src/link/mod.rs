//! The control link: one WebSocket to the server, always up.
//!
//! * [`session`]: what is said over one connection; pure;
//! * [`backoff`]: how long to wait before the next; pure;
//! * [`socket`]: one connection, from dialling to its end;
//! * [`keeper`]: one connection after the other;
//! * [`status`]: what `status` shows of it.

pub mod backoff;
pub mod keeper;
pub mod session;
pub mod socket;
pub mod status;
