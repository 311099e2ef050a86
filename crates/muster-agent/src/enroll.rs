//! Enrolment: a pairing token is exchanged for a place in a fleet.

use std::time::Duration;

use muster_core::names::{DeviceName, GroupName};
use muster_core::token::Secret;
use muster_link::{ENROLL_PATH, EnrollRequest, EnrollResponse, ServerPin};
use rand::CryptoRng;
use serde::Deserialize;
use tokio::time::timeout;

use crate::http::{self, Answer, HttpError};
use crate::inventory::Inventory;
use crate::net::{ConnectError, Dialer};
use crate::state::{Enrolment, StateDir, StateError};

/// How long all of it may take.
const ENROL_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a device was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// It is enrolled already.
    #[error("this is already the device {} ({}) of {}; use another state directory, or remove {path}", .found.name.as_str(), .found.device_uuid, .found.server)]
    Already {
        /// What it is enrolled as.
        found: Box<Enrolment>,
        /// The state directory.
        path: String,
    },
    /// The state directory is of no use.
    #[error(transparent)]
    State(#[from] StateError),
    /// The server cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server did not answer.
    #[error("the server did not answer: {0}")]
    Http(#[from] HttpError),
    /// It took too long.
    #[error("the server did not answer within {} s", ENROL_TIMEOUT.as_secs())]
    TimedOut,
    /// The server said no.
    #[error("the server refused the enrolment ({status}): {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// The server said something else.
    #[error("the server's answer cannot be read: {0}")]
    BadAnswer(String),
}

/// What a person says about the device.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// The fleet's pairing token.
    pub pairing_token: Secret,
    /// The device's name; the server makes one when it is absent.
    pub name: Option<DeviceName>,
    /// The group; the server's default when it is absent.
    pub group: Option<GroupName>,
    /// The key that the server must have, where a person named one.
    pub server_pin: Option<ServerPin>,
}

/// Enrols the device and writes the state directory.
pub async fn enrol(
    state: &StateDir,
    dialer: &Dialer,
    wishes: Wishes,
    rng: &mut impl CryptoRng,
) -> Result<Enrolment, EnrolError> {
    state.create()?;
    let _lock = state.lock()?;
    if let Some(found) = state.find_enrolment()? {
        return Err(EnrolError::Already { found: Box::new(found), path: state.path().display().to_string() });
    }
    let identity = state.identity_or_new(rng)?;
    let server_pin = wishes.server_pin;
    let answer = timeout(ENROL_TIMEOUT, ask(state, dialer, wishes, &identity)).await;
    let response = read(&answer.map_err(|_| EnrolError::TimedOut)??)?;
    let enrolment = Enrolment {
        server: dialer.server().clone(),
        server_pin,
        device_uuid: response.device_uuid,
        name: response.name,
        group: response.group,
    };
    state.save_enrolment(&enrolment, &response.device_token)?;
    Ok(enrolment)
}

async fn ask(
    state: &StateDir,
    dialer: &Dialer,
    wishes: Wishes,
    identity: &muster_link::Identity,
) -> Result<Answer, EnrolError> {
    let stream = dialer.connect().await?;
    let facts = Inventory::new(state.path().to_owned()).facts(stream.local_ip());
    let Wishes { pairing_token, name, group, server_pin: _ } = wishes;
    let request = EnrollRequest { name, group, ..EnrollRequest::new(identity, pairing_token, facts) };
    let server = dialer.server();
    Ok(http::post(stream, &server.authority(), &server.path_of(ENROLL_PATH), &request).await?)
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

fn read(answer: &Answer) -> Result<EnrollResponse, EnrolError> {
    if answer.status.is_success() {
        return serde_json::from_slice(&answer.body).map_err(|error| EnrolError::BadAnswer(error.to_string()));
    }
    let refusal = serde_json::from_slice(&answer.body).map(|refusal: Refusal| refusal.message);
    let reason = || answer.status.canonical_reason().unwrap_or("no reason given").to_owned();
    Err(EnrolError::Refused { status: answer.status.as_u16(), message: refusal.unwrap_or_else(|_| reason()) })
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    #[test]
    fn shows_what_the_server_said() {
        let cases = [
            (r#"{"message":"the pairing token is not valid","more":1}"#, "(401): the pairing token is not valid"),
            ("<html>", "(401): Unauthorized"),
            ("{}", "(401): Unauthorized"),
        ];
        for (body, expected) in cases {
            let answer = Answer { status: StatusCode::UNAUTHORIZED, body: body.into() };
            let error = read(&answer).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
        }
        let answer = Answer { status: StatusCode::OK, body: b"{}".to_vec() };
        assert!(matches!(read(&answer), Err(EnrolError::BadAnswer(_))));
    }
}
