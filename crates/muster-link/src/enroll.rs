//! Enrolment: a pairing token is exchanged for a place in a fleet.

use muster_core::ids::DeviceUuid;
use muster_core::names::{DeviceName, GroupName};
use muster_core::token::Secret;
use serde::{Deserialize, Serialize};

use crate::handshake::{Identity, PublicKey};
use crate::messages::Facts;

/// Body of `POST /link/v1/enroll`. Since version 1.
///
/// Sending it again with the same key answers with the same device and a new
/// token, so that an answer lost on the way costs nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnrollRequest {
    /// The fleet's pairing token.
    pub pairing_token: Secret,
    /// The public half of the key that the device made for itself.
    pub public_key: PublicKey,
    /// Proof that the device holds the other half.
    pub proof: String,
    /// The device's name; the server makes one from the host name when it is absent.
    #[serde(default)]
    pub name: Option<DeviceName>,
    /// The group; `Production` when it is absent.
    #[serde(default)]
    pub group: Option<GroupName>,
    /// What the device knows of itself.
    pub facts: Facts,
}

impl EnrollRequest {
    /// A request of the device that holds `identity`.
    pub fn new(identity: &Identity, pairing_token: Secret, facts: Facts) -> Self {
        let proof = identity.prove_enrollment(&pairing_token);
        Self { pairing_token, public_key: identity.public_key(), proof, name: None, group: None, facts }
    }

    /// Whether its sender holds the secret half of its key.
    pub fn is_proven(&self) -> bool {
        self.public_key.proves_enrollment(&self.pairing_token, &self.proof)
    }
}

/// Answer to [`EnrollRequest`]. Since version 1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnrollResponse {
    /// The device, as every API names it.
    pub device_uuid: DeviceUuid,
    /// Names the device in API v1; shown here and never again.
    pub device_token: Secret,
    /// The name that the device was given.
    pub name: DeviceName,
    /// The group that the device was put into.
    pub group: GroupName,
}
