//! `bce-auth-v1`: how a request of the Tag Service proves who sends it. An HMAC over the
//! method, path, query and some headers, under the secret of an access key.
//!
//! Plain values in, a verdict out: no HTTP framework, no clock, no store. Reading order:
//! [`Request`], [`Authorization`] (what the header claims), `canonical` (what is signed),
//! [`verify`], [`Signer`].

mod authorization;
mod canonical;
mod digest;
mod signer;
#[cfg(test)]
mod tests;
mod verify;

pub use authorization::{Authorization, SignedHeaders};
pub use canonical::{canonical_request, parameters};
pub use signer::Signer;
pub use verify::{CLOCK_SKEW_MAX, security_token, verify};

/// A request as it came over the wire: nothing in it is decoded, joined or left out, since
/// whoever signed it has signed just this.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `PUT`.
    pub method: &'a str,
    /// What stands before the question mark.
    pub path: &'a str,
    /// What stands behind it; empty for nothing.
    pub query: &'a str,
    /// Names, in any case, and values.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The whole body.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// The first header of that name, without the white space around it; `None` also for
    /// an empty one, which is never signed.
    fn header(&self, name: &str) -> Option<&'a [u8]> {
        let (_, value) = self.headers.iter().find(|(sent, _)| sent.eq_ignore_ascii_case(name))?;
        Some(value.trim_ascii()).filter(|value| !value.is_empty())
    }
}

/// Why a request does not prove who sends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It claims nothing.
    #[error("the request is not signed")]
    Missing,
    /// What it claims cannot be read, or leaves out what must be signed.
    #[error("{0}")]
    Malformed(&'static str),
    /// It is too old, or from the future.
    #[error("the request of {timestamp} has expired")]
    Expired {
        /// The moment that it bears, as it was sent.
        timestamp: String,
    },
    /// It was signed with another secret, or changed on its way.
    #[error("the signature does not match")]
    WrongSignature,
    /// The body is not the one whose digest or length was sent.
    #[error("the body is not the one that was signed")]
    OtherBody,
}
