//! The state directory: who the device is, and everything that must outlive
//! the agent.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use muster_core::ids::DeviceUuid;
use muster_core::names::{DeviceName, GroupName};
use muster_core::token::Secret;
use muster_link::handshake::SECRET_KEY_BYTES;
use muster_link::{Identity, ServerPin};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::files::{make_private_dir, private_file, read_json, write_atomically, write_json};
use crate::server_url::ServerUrl;

/// Why the state directory is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk said no.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Nothing was enrolled here.
    #[error("{0} holds no enrolled device; enrol it with `enroll --server URL --pairing-token TOKEN`")]
    NotEnrolled(PathBuf),
    /// Another agent has the directory.
    #[error("another agent is using {0}")]
    InUse(PathBuf),
    /// The key on the disk is not one.
    #[error(
        "{0} does not hold an identity key: put it back from a copy of this device's own state, \
         or enrol the device anew in an empty directory"
    )]
    BadKey(PathBuf),
    /// What the device was enrolled as cannot be read.
    #[error(
        "{path} is damaged ({source}): put it back from a copy of this device's own state, \
         or enrol the device anew in an empty directory"
    )]
    BadEnrolment {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
}

/// What the device was enrolled as: `agent.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The server.
    pub server: ServerUrl,
    /// The key that the server must have, where it is not recognised by an authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_pin: Option<ServerPin>,
    /// The device, as every API names it.
    pub device_uuid: DeviceUuid,
    /// The name that it was given.
    pub name: DeviceName,
    /// The group that it was put into.
    pub group: GroupName,
}

/// The state directory of one device.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

/// Held for as long as an agent uses a state directory.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateDir {
    /// The directory at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Makes the directory, for its owner alone.
    pub fn create(&self) -> Result<(), StateError> {
        make_private_dir(&self.0).map_err(at(&self.0))
    }

    /// The directory's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where the runs and their journals are.
    pub fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }

    /// Where remote commands are.
    pub fn commands(&self) -> PathBuf {
        self.0.join("commands")
    }

    /// The hook that may say "not now" to a run, where the device has one.
    pub fn veto_hook(&self) -> PathBuf {
        self.0.join("veto")
    }

    /// Where the state of the link is written for `status`.
    pub fn status_file(&self) -> PathBuf {
        self.0.join("status.json")
    }

    fn enrolment_file(&self) -> PathBuf {
        self.0.join("agent.json")
    }

    fn token_file(&self) -> PathBuf {
        self.0.join("device_token")
    }

    /// Takes the directory for this process; fails at once when another has it.
    pub fn lock(&self) -> Result<StateLock, StateError> {
        let path = self.0.join("lock");
        let file = private_file().truncate(false).open(&path).map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(StateLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(self.0.clone())),
            Err(TryLockError::Error(source)) => Err(StateError::Io { path, source }),
        }
    }

    /// What the device was enrolled as, if it was.
    pub fn find_enrolment(&self) -> Result<Option<Enrolment>, StateError> {
        let path = self.enrolment_file();
        read_json(&path).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => StateError::BadEnrolment { path, source },
            _ => StateError::Io { path, source },
        })
    }

    /// What the device was enrolled as.
    pub fn enrolment(&self) -> Result<Enrolment, StateError> {
        self.find_enrolment()?.ok_or_else(|| StateError::NotEnrolled(self.0.clone()))
    }

    /// Writes down the enrolment. The token goes first: `agent.json` is what
    /// makes a directory an enrolled one, so it must be the last.
    pub fn save_enrolment(&self, enrolment: &Enrolment, token: &Secret) -> Result<(), StateError> {
        let path = self.token_file();
        write_atomically(&path, token.expose().as_bytes()).map_err(at(&path))?;
        let path = self.enrolment_file();
        write_json(&path, enrolment).map_err(at(&path))
    }

    /// Writes down that the server has another address, and perhaps another key: without
    /// one, that which it had counts.
    pub fn move_server(&self, server: ServerUrl, pin: Option<ServerPin>) -> Result<(), StateError> {
        let enrolment = self.enrolment()?;
        let moved = Enrolment { server, server_pin: pin.or(enrolment.server_pin), ..enrolment.clone() };
        if moved == enrolment {
            return Ok(());
        }
        let path = self.enrolment_file();
        write_json(&path, &moved).map_err(at(&path))
    }

    /// The device token of API v1.
    pub fn device_token(&self) -> Result<Secret, StateError> {
        let path = self.token_file();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Secret::received(text.trim())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StateError::NotEnrolled(self.0.clone())),
            Err(source) => Err(StateError::Io { path, source }),
        }
    }

    /// The device's key.
    pub fn identity(&self) -> Result<Identity, StateError> {
        self.find_identity()?.ok_or_else(|| StateError::NotEnrolled(self.0.clone()))
    }

    /// The device's key, made and written down when there is none: before it is
    /// shown to a server, so that an enrolment can be tried again with the same key.
    pub fn identity_or_new(&self, rng: &mut impl CryptoRng) -> Result<Identity, StateError> {
        if let Some(identity) = self.find_identity()? {
            return Ok(identity);
        }
        let identity = Identity::random(rng);
        let path = self.key_file();
        let text = BASE64_STANDARD.encode(identity.to_secret_bytes());
        write_atomically(&path, text.as_bytes()).map_err(at(&path))?;
        Ok(identity)
    }

    fn key_file(&self) -> PathBuf {
        self.0.join("identity.key")
    }

    fn find_identity(&self) -> Result<Option<Identity>, StateError> {
        let path = self.key_file();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Io { path, source }),
        };
        let bytes = BASE64_STANDARD.decode(text.trim()).ok();
        let bytes: Option<[u8; SECRET_KEY_BYTES]> = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(|bytes| Some(Identity::from_secret_bytes(&bytes))).ok_or(StateError::BadKey(path))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    |source| StateError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn fresh() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("state"));
        state.create().unwrap();
        (dir, state)
    }

    #[test]
    fn makes_one_key_and_keeps_it() {
        let (_dir, state) = fresh();
        let mut rng = StdRng::seed_from_u64(1);
        assert!(matches!(state.identity(), Err(StateError::NotEnrolled(_))));
        let first = state.identity_or_new(&mut rng).unwrap();
        assert_eq!(state.identity_or_new(&mut rng).unwrap().public_key(), first.public_key());
        fs::write(state.key_file(), "AAAA").unwrap();
        assert!(matches!(state.identity(), Err(StateError::BadKey(_))));
    }

    #[test]
    fn remembers_the_enrolment() {
        let (_dir, state) = fresh();
        assert!(matches!(state.enrolment(), Err(StateError::NotEnrolled(_))));
        let enrolment = Enrolment {
            server: ServerUrl::parse("https://a.example").unwrap(),
            server_pin: None,
            device_uuid: "d-1a2b-3c4d".parse().unwrap(),
            name: DeviceName::parse("n").unwrap(),
            group: GroupName::parse("g").unwrap(),
        };
        state.save_enrolment(&enrolment, &Secret::received("md_x")).unwrap();
        assert_eq!(state.enrolment().unwrap(), enrolment);
        assert_eq!(state.device_token().unwrap().expose(), "md_x");
        let server: ServerUrl = "https://elsewhere.example".parse().unwrap();
        let pin = Some(ServerPin::of(b"key"));
        state.move_server(server.clone(), pin).unwrap();
        state.move_server(server.clone(), None).unwrap();
        assert_eq!(state.enrolment().unwrap(), Enrolment { server, server_pin: pin, ..enrolment });
    }

    #[test]
    fn one_process_at_a_time() {
        let (_dir, state) = fresh();
        let held = state.lock().unwrap();
        assert!(matches!(state.lock(), Err(StateError::InUse(_))));
        drop(held);
        state.lock().unwrap();
    }
}
