//! Whether a file is a release that this device trusts.
//!
//! The keys stand in `release-keys` in the state directory, where a person or an
//! installer puts them. No server can add one.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};
use muster_core::release::{Manifest, RELEASE_SIGNATURE_BYTES_MAX, RELEASE_SIGNATURE_LINES, ReleaseVersion};

use crate::files::{private_file, write_atomically};

/// Why a release is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The device trusts nobody.
    #[error("this device trusts no key: put the public key of your releases into {0}")]
    NoKeys(PathBuf),
    /// A line of the file of keys is none.
    #[error("{path}, line {line}, is no public key of minisign")]
    BadKey {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// The file does not begin with a signature.
    #[error("the file is no release: it does not begin with a signature of minisign, made over the program's hash")]
    NoSignature,
    /// Signed by somebody else.
    #[error("the release is signed with a key that this device does not trust")]
    UnknownKey,
    /// Not what was signed.
    #[error("the signature does not fit the release")]
    BadSignature,
    /// What was signed says something else.
    #[error("{0}")]
    BadManifest(String),
    /// Not what the flow wants.
    #[error("the release is version {found}, and the flow wants {wanted}")]
    OtherVersion {
        /// As signed.
        found: ReleaseVersion,
        /// As the flow says.
        wanted: ReleaseVersion,
    },
    /// For another processor.
    #[error("the release is for {found}, and this agent is for {own}")]
    OtherArch {
        /// As signed.
        found: String,
        /// Of this agent.
        own: &'static str,
    },
    /// Older than what runs.
    #[error("the release {found} is older than {present}, which runs; {marker} on the device would allow it")]
    Older {
        /// As signed.
        found: ReleaseVersion,
        /// What runs.
        present: ReleaseVersion,
        /// The file that allows it.
        marker: PathBuf,
    },
    /// The disk said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What the device itself says of releases.
#[derive(Clone, Debug)]
pub struct ReleaseTrust {
    state: PathBuf,
}

impl ReleaseTrust {
    /// That of a state directory.
    pub fn new(state: &Path) -> Self {
        Self { state: state.to_owned() }
    }

    /// Where its keys are.
    pub fn keys_file(&self) -> PathBuf {
        self.state.join("release-keys")
    }

    /// With this file on the device, an older release is taken.
    pub fn downgrade_file(&self) -> PathBuf {
        self.state.join("allow-downgrade")
    }

    /// The keys: a line of base64 each, as `minisign -G` writes them.
    pub fn keys(&self) -> Result<Vec<PublicKey>, Refusal> {
        let path = self.keys_file();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Refusal::NoKeys(path)),
            text => text?,
        };
        let is_key = |line: &str| !line.is_empty() && !line.starts_with('#') && !line.starts_with("untrusted comment:");
        let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| is_key(line));
        let keys: Vec<PublicKey> = lines
            .map(|(i, line)| {
                PublicKey::from_base64(line).map_err(|_| Refusal::BadKey { path: path.clone(), line: i + 1 })
            })
            .collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(Refusal::NoKeys(path)) } else { Ok(keys) }
    }

    /// Adds the key in a file, as `minisign -G` writes it, to those that are trusted.
    pub fn add_key(&self, file: &Path) -> Result<(), Refusal> {
        let added = fs::read_to_string(file)?;
        PublicKey::decode(&added).map_err(|_| Refusal::BadKey { path: file.to_owned(), line: 2 })?;
        let path = self.keys_file();
        let before = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let key = added.lines().nth(1).unwrap_or_default().trim();
        if before.lines().any(|line| line.trim() == key) {
            return Ok(());
        }
        Ok(write_atomically(&path, format!("{}{}\n", before_line(&before), added.trim()).as_bytes())?)
    }

    /// Checks that a release which is signed as `manifest` may take the place of `present`.
    /// `kept` is the copy that the device has of an earlier one.
    pub fn check(
        &self,
        manifest: &Manifest,
        wanted: &ReleaseVersion,
        present: &ReleaseVersion,
        kept: Option<&ReleaseVersion>,
    ) -> Result<(), Refusal> {
        let Manifest { version, arch, .. } = manifest;
        if version != wanted {
            return Err(Refusal::OtherVersion { found: version.clone(), wanted: wanted.clone() });
        }
        if arch != std::env::consts::ARCH {
            return Err(Refusal::OtherArch { found: arch.clone(), own: std::env::consts::ARCH });
        }
        let is_allowed = kept == Some(version) || self.downgrade_file().exists();
        if version.is_older_than(present) && !is_allowed {
            let (found, present) = (version.clone(), present.clone());
            return Err(Refusal::Older { found, present, marker: self.downgrade_file() });
        }
        Ok(())
    }
}

/// Checks the release at `path` against `keys` and writes its program to `into`.
///
/// What is not signed is never given execution rights, and what is said of the program
/// is believed only once its signature was checked.
pub fn unpack(path: &Path, into: &Path, keys: &[PublicKey]) -> Result<Manifest, Refusal> {
    let mut file = BufReader::new(File::open(path)?);
    let signature = Signature::decode(&head(&mut file)?).map_err(|_| Refusal::NoSignature)?;
    // The comment is checked together with the content, by the same verifier.
    let signed =
        |key: &PublicKey| !matches!(key.verify_stream(&signature), Err(minisign_verify::Error::UnexpectedKeyId));
    let key = keys.iter().find(|key| signed(key)).ok_or(Refusal::UnknownKey)?;
    let mut verifier = key.verify_stream(&signature).map_err(|error| match error {
        minisign_verify::Error::UnsupportedLegacyMode | minisign_verify::Error::UnsupportedAlgorithm => {
            Refusal::NoSignature
        }
        _ => Refusal::BadSignature,
    })?;
    let mut program = private_file().truncate(true).open(into)?;
    let (mut buffer, mut size_bytes) = (vec![0; 64 * 1024], 0_u64);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        size_bytes += n as u64;
        verifier.update(&buffer[..n]);
        program.write_all(&buffer[..n])?;
    }
    program.sync_all()?;
    verifier.finalize().map_err(|_| Refusal::BadSignature)?;
    let manifest = Manifest::parse(signature.trusted_comment());
    let manifest = manifest.map_err(|invalid| Refusal::BadManifest(invalid.to_string()))?;
    if manifest.size_bytes == size_bytes { Ok(manifest) } else { Err(Refusal::BadSignature) }
}

/// What stands before an added line.
fn before_line(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

/// The signature's lines.
fn head(file: &mut impl BufRead) -> Result<String, Refusal> {
    let mut head = Vec::new();
    let mut limited = file.take(RELEASE_SIGNATURE_BYTES_MAX as u64);
    for _ in 0..RELEASE_SIGNATURE_LINES {
        limited.read_until(b'\n', &mut head)?;
    }
    String::from_utf8(head).map_err(|_| Refusal::NoSignature)
}
