//! Seals secrets that must be read again, under a key that lies outside the
//! database: whoever has the database alone has no secret.
//!
//! XChaCha20-Poly1305, with a random nonce for each seal. What a secret belongs to is
//! bound to it as additional data, so that a sealed secret opens in its own row only.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use hmac::{Hmac, Mac};
use muster_store::Store;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use sha2::Sha256;

use crate::error::{OpError, Result};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const SIGNATURE_BYTES: usize = 32;
/// What every sealed text begins with: the way in which it is sealed.
const VERSION: &str = "x1:";
/// What the check value says, and what it belongs to.
const CHECK: (&str, &str) = ("muster", "the check value of the key");

/// Seals and opens secrets, and signs what others bring back.
pub struct Vault {
    cipher: XChaCha20Poly1305,
    /// Another key, made of the same: what signs opens nothing.
    signer: Hmac<Sha256>,
}

impl Vault {
    /// The vault of that key.
    pub fn new(key: [u8; KEY_BYTES]) -> Self {
        let mut derived = keyed(&key);
        derived.update(b"muster: signatures, version 1");
        let signer = keyed(&derived.finalize().into_bytes());
        Self { cipher: XChaCha20Poly1305::new(&key.into()), signer }
    }

    /// Reads the key, or makes it where the database has never known one, and checks
    /// that it is the one that sealed what is in the database.
    pub async fn open(path: &Path, store: &Store, rng: &mut StdRng) -> anyhow::Result<Self> {
        let check = store.read().sealing_check().await?;
        if check.is_none() {
            make_key(path, rng)?;
        }
        let vault = Self::new(read_key(path)?);
        let check = match check {
            Some(check) => check,
            None => {
                let sealed = vault.seal(CHECK.0, CHECK.1, rng)?;
                let sealed = sealed.as_str();
                store.write(|tx| async move { tx.ensure_sealing_check(sealed).await }).await?
            }
        };
        match vault.open_sealed(&check, CHECK.1) {
            Ok(text) if text == CHECK.0 => Ok(vault),
            _ => bail!(
                "the key in {} is not the one that sealed the secrets of this database; \
                 every server of one database needs the same file, named by --secret-key-file",
                path.display()
            ),
        }
    }

    /// Seals `secret`, which belongs to `owner`.
    pub fn seal(&self, secret: &str, owner: &str, rng: &mut impl Rng) -> Result<String> {
        let nonce: [u8; NONCE_BYTES] = rng.random();
        let payload = Payload { msg: secret.as_bytes(), aad: owner.as_bytes() };
        let sealed = self.cipher.encrypt(&nonce.into(), payload);
        let sealed = sealed.map_err(|error| OpError::Internal(format!("sealing: {error}")))?;
        Ok(format!("{VERSION}{}", BASE64_STANDARD.encode([&nonce[..], &sealed].concat())))
    }

    /// The signature of a text.
    pub fn sign(&self, text: &str) -> [u8; SIGNATURE_BYTES] {
        let mut signer = self.signer.clone();
        signer.update(text.as_bytes());
        signer.finalize().into_bytes().into()
    }

    /// Whether that is the signature of the text. Takes as long for a wrong one.
    pub fn is_signature(&self, text: &str, signature: &[u8]) -> bool {
        let mut signer = self.signer.clone();
        signer.update(text.as_bytes());
        signer.verify_slice(signature).is_ok()
    }

    /// Opens what was sealed for the same `owner`.
    pub fn open_sealed(&self, sealed: &str, owner: &str) -> Result<String> {
        let wrong = || OpError::Internal("a sealed secret cannot be opened".to_owned());
        let bytes = sealed.strip_prefix(VERSION).and_then(|text| BASE64_STANDARD.decode(text).ok());
        let bytes = bytes.ok_or_else(wrong)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(wrong)?;
        let payload = Payload { msg: sealed, aad: owner.as_bytes() };
        let opened = self.cipher.decrypt(&(*nonce).into(), payload).map_err(|_| wrong())?;
        String::from_utf8(opened).map_err(|_| wrong())
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("a key of any length is good"))
}

/// Makes the file unless it is there. It appears whole: two servers that start at once
/// and share it read the same key.
fn make_key(path: &Path, rng: &mut StdRng) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let key: [u8; KEY_BYTES] = rng.random();
    let made = path.with_extension(format!("new-{:016x}", rng.random::<u64>()));
    let written = write_private(&made, &BASE64_STANDARD.encode(key)).and_then(|()| std::fs::hard_link(&made, path));
    let removed = std::fs::remove_file(&made);
    match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        other => other.with_context(|| format!("cannot write the key file {}", path.display()))?,
    }
    removed.with_context(|| format!("cannot remove {}", made.display()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).context("cannot store the key file")
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

fn read_key(path: &Path) -> anyhow::Result<[u8; KEY_BYTES]> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read {shown}, the key that sealed the secrets of this database; --secret-key-file names it")
    })?;
    let mode = std::fs::metadata(path).map(|metadata| metadata.permissions().mode()).unwrap_or_default();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %shown, mode = format!("{:o}", mode & 0o777), "others than its owner may read the key");
    }
    let key = BASE64_STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
    key.with_context(|| format!("{shown} is not a key file: 32 bytes in base64 were expected"))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn opens_only_what_was_sealed_for_the_same_owner_under_the_same_key() {
        let (mut rng, vault) = (StdRng::seed_from_u64(1), Vault::new([7; 32]));
        let sealed = vault.seal("hunter2", "one", &mut rng).unwrap();
        assert_eq!(vault.open_sealed(&sealed, "one").unwrap(), "hunter2");
        assert!(vault.open_sealed(&sealed, "two").is_err() && Vault::new([8; 32]).open_sealed(&sealed, "one").is_err());
        for wrong in ["", "hunter2", "x1:", "x1:AAAA", &sealed[..sealed.len() - 4], &sealed.replace("x1:", "x2:")] {
            assert!(vault.open_sealed(wrong, "one").is_err(), "{wrong}");
        }
        assert_ne!(vault.seal("hunter2", "one", &mut rng).unwrap(), sealed, "a nonce of its own");
    }

    #[test]
    fn a_signature_is_of_one_text_under_one_key() {
        let vault = Vault::new([7; 32]);
        let signature = vault.sign("text");
        assert!(vault.is_signature("text", &signature));
        assert!(!vault.is_signature("texts", &signature) && !Vault::new([8; 32]).is_signature("text", &signature));
        assert!(!vault.is_signature("text", &signature[..31]) && !vault.is_signature("text", b""));
    }

    #[test]
    fn a_key_file_is_made_once_and_is_private() {
        let (mut rng, folder) = (StdRng::seed_from_u64(1), tempfile::tempdir().unwrap());
        let path = folder.path().join("secret.key");
        make_key(&path, &mut rng).unwrap();
        let key = read_key(&path).unwrap();
        make_key(&path, &mut rng).unwrap();
        assert_eq!(read_key(&path).unwrap(), key);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::write(&path, "no key").unwrap();
        assert!(read_key(&path).unwrap_err().to_string().contains("is not a key file"));
    }
}
