//! Whether a request is what its sender signed, and in time.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::Mac;
use md5::Md5;
use muster_core::clock::Timestamp;
use sha2::{Digest, Sha256};

use super::authorization::moment_of;
use super::canonical::{canonical_request, parameters};
use super::digest::{mac_of, to_hex};
use super::{Authorization, Fault, Request};

/// How far the sender's clock may be ahead, and `x-bce-date` off either way.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(30 * 60);

const ABOUT_THE_BODY: [&str; 3] = ["content-length", "content-md5", "x-bce-content-sha256"];
const SECURITY_TOKEN: &str = "x-bce-security-token";

/// Checks a request that makes this claim against the secret of the access key, at `now`.
/// Signatures are compared in constant time.
pub fn verify(request: &Request<'_>, claim: &Authorization, secret: &str, now: Timestamp) -> Result<(), Fault> {
    if !claim.signed_headers.has("host") || request.header("host").is_none() {
        return Err(Fault::Malformed("the header host is not signed"));
    }
    check_time(request, claim, now)?;
    let mac = mac_of(secret, &claim.prefix, &canonical_request(request, &claim.signed_headers));
    mac.verify_slice(&claim.signature).map_err(|_| Fault::WrongSignature)?;
    check_body(request, claim)
}

/// The token of a temporary access key: a header, or a parameter of the query.
pub fn security_token(request: &Request<'_>) -> Option<Vec<u8>> {
    let in_query = || parameters(request.query).find(|(name, _)| name.eq_ignore_ascii_case(SECURITY_TOKEN.as_bytes()));
    let token = request.header(SECURITY_TOKEN).map(<[u8]>::to_vec);
    token.or_else(|| in_query().map(|(_, value)| value)).filter(|token| !token.is_empty())
}

fn check_time(request: &Request<'_>, claim: &Authorization, now: Timestamp) -> Result<(), Fault> {
    let ends_at = claim.signed_at.after(Duration::from_secs(claim.life_seconds.into()));
    if now > ends_at || claim.signed_at > now.after(CLOCK_SKEW_MAX) {
        return Err(Fault::Expired { timestamp: claim.signed_at.to_rfc3339() });
    }
    let Some(sent) = request.header("x-bce-date") else { return Ok(()) };
    let text = std::str::from_utf8(sent).unwrap_or_default();
    let date = moment_of(text).ok_or(Fault::Malformed("x-bce-date is not like 2025-06-09T14:10:44Z"))?;
    // One of the two is zero.
    if now.since(date).max(date.since(now)) > CLOCK_SKEW_MAX {
        return Err(Fault::Expired { timestamp: text.to_owned() });
    }
    Ok(())
}

/// What the headers say of the body must be so. Of a body that is there, at least one of
/// them must be signed: anybody could have added it otherwise.
fn check_body(request: &Request<'_>, claim: &Authorization) -> Result<(), Fault> {
    let is_signed = |name: &str| claim.signed_headers.has(name) && request.header(name).is_some();
    if !request.body.is_empty() && !ABOUT_THE_BODY.into_iter().any(is_signed) {
        return Err(Fault::OtherBody);
    }
    let agrees = |name: &str, own: &dyn Fn() -> String| match request.header(name) {
        Some(sent) => sent == own().as_bytes(),
        None => true,
    };
    let [length, md5, sha256] = ABOUT_THE_BODY;
    let is_same = agrees(length, &|| request.body.len().to_string())
        && agrees(md5, &|| BASE64_STANDARD.encode(Md5::digest(request.body)))
        && agrees(sha256, &|| to_hex(&Sha256::digest(request.body)));
    if is_same { Ok(()) } else { Err(Fault::OtherBody) }
}
