//! Passwords: hashed and compared away from the threads that serve requests, a few
//! at once, since each takes a processor and 19 MiB for a while.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use muster_core::invalid::Invalid;
use muster_core::limits::{PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, PASSWORDS_AT_ONCE_MAX};
use muster_core::token::Secret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{OpError, Result};

/// How long a request waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// Hashes passwords.
pub struct Passwords {
    turns: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(PASSWORDS_AT_ONCE_MAX)) }
    }
}

impl Passwords {
    /// The hash of a password, in PHC form.
    pub async fn hash(&self, password: &Secret) -> Result<String> {
        let password = password.clone();
        let hash = self.in_turn(move || {
            Argon2::default().hash_password(password.expose().as_bytes()).map(|hash| hash.to_string())
        });
        hash.await?.map_err(|error| OpError::Internal(error.to_string()))
    }

    /// Whether the password is the one of that hash. It takes as long for no hash at
    /// all, so that nobody can tell by the clock whether there is such a user.
    pub async fn is_right(&self, password: &Secret, hash: Option<String>) -> Result<bool> {
        let password = password.clone();
        self.in_turn(move || match hash.filter(|hash| !hash.is_empty()) {
            Some(hash) => verify(&password, &hash),
            None => waste(&password),
        })
        .await
    }

    /// The turn goes with the work: a caller that hangs up does not make room for another.
    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let turn = tokio::time::timeout(TURN_TIMEOUT, self.turns.clone().acquire_owned()).await;
        let turn: OwnedSemaphorePermit = turn
            .map_err(|_| OpError::RateLimited(TURN_TIMEOUT))?
            .map_err(|error| OpError::Internal(error.to_string()))?;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        done.await.map_err(|error| OpError::Internal(error.to_string()))
    }
}

fn verify(password: &Secret, hash: &str) -> bool {
    Argon2::default().verify_password(password.expose().as_bytes(), hash).is_ok()
}

fn waste(password: &Secret) -> bool {
    let mut nothing = [0; 32];
    let hashed = Argon2::default().hash_password_into(password.expose().as_bytes(), b"nobody's salt 16", &mut nothing);
    std::hint::black_box((hashed.is_ok(), nothing));
    false
}

/// Checks a password that a person chooses. The refusal does not show it.
pub fn check_new(password: &Secret, field: &str) -> Result<(), Invalid> {
    let chars = password.expose().chars().count();
    if chars < PASSWORD_CHARS_MIN {
        return Err(Invalid::new(field, format!("is too short: at least {PASSWORD_CHARS_MIN} characters are needed")));
    }
    check_length(password, field)
}

/// Checks that a password is not longer than what is hashed. The refusal does not show it.
pub fn check_length(password: &Secret, field: &str) -> Result<(), Invalid> {
    if password.expose().chars().count() > PASSWORD_CHARS_MAX {
        return Err(Invalid::new(field, format!("is too long: at most {PASSWORD_CHARS_MAX} characters are allowed")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let (passwords, secret) = (Passwords::default(), |text: &str| Secret::received(text));
        let hash = passwords.hash(&secret("correct horse")).await.unwrap();
        for (password, hash, expected) in [
            ("correct horse", Some(hash.clone()), true),
            ("correct horsf", Some(hash), false),
            ("", Some(String::new()), false),
            ("x", Some("$argon2id$".to_owned()), false),
            ("x", None, false),
        ] {
            assert_eq!(passwords.is_right(&secret(password), hash).await.unwrap(), expected, "{password}");
        }
    }
}
