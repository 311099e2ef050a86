//! What server and agent say to each other.
//!
//! A device dials out, once, to `/link/v1/control` and keeps that WebSocket open.
//! Every message is one JSON text frame with a `type`; a message or a field that
//! the reader does not know is ignored, so that old and new can talk. Each message
//! says since which version of the protocol it exists.
//!
//! Order of a connection: the server sends [`ToDevice::Challenge`], the device
//! answers with [`ToServer::Hello`], the server with [`ToDevice::Welcome`] or
//! [`ToDevice::Refused`]; from then on both speak when they have something to say.
//!
//! Instructions are delivered at least once and carried out once: each has a
//! [`RunId`] that the device writes into its journal before it acts, and each
//! report has a number and is repeated until it is acknowledged.
//!
//! Bulk does not go over this link: for it a device dials carriers, see [`stream`].

pub mod enroll;
pub mod files;
pub mod handshake;
pub mod messages;
pub mod pin;
pub mod stream;

pub use enroll::{EnrollRequest, EnrollResponse};
pub use handshake::{Identity, Nonce, PublicKey};
pub use messages::{
    Artifact, CommandOrder, Facts, Instruction, Metrics, RefusedCode, RunId, ToDevice, ToServer, TunnelState,
    capability,
};
pub use pin::ServerPin;

/// Version of the protocol that this build speaks.
pub const PROTOCOL_VERSION: u32 = 5;
/// Where a device dials its control link.
pub const CONTROL_PATH: &str = "/link/v1/control";
/// Where a device dials a carrier of streams.
pub const STREAM_PATH: &str = "/link/v1/stream";
/// Where a device enrols.
pub const ENROLL_PATH: &str = "/link/v1/enroll";
