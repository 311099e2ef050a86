//! Credentials for just one artifact and a while: signed, and nothing of them is stored.
//!
//! The text is `mg1.` + the grant as JSON in base64 + `.` + its signature in base64. It is
//! borne as a bearer token, or as `token` in the address.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use muster_core::artifact::{Grant, GrantText};

use crate::app::App;
use crate::error::{OpError, Result};

/// What every grant begins with: the way in which it is signed.
const VERSION: &str = "mg1.";

/// Whether a token is a grant, and not a token of a user.
pub fn is_grant(token: &str) -> bool {
    token.starts_with(VERSION)
}

/// Signs a grant.
pub fn issue(app: &App, grant: &Grant) -> GrantText {
    let payload = BASE64_URL_SAFE_NO_PAD.encode(serde_json::json!(grant).to_string());
    let text = format!("{VERSION}{payload}");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(app.vault.sign(&text));
    GrantText(format!("{text}.{signature}"))
}

/// The grant that somebody bears, if it is this server's and has not ended.
pub fn open(app: &App, token: &str) -> Result<Grant> {
    let refused = || OpError::Unauthenticated("the signed address is not valid, or has ended".to_owned());
    let (text, signature) = token.rsplit_once('.').ok_or_else(refused)?;
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| refused())?;
    if !app.vault.is_signature(text, &signature) {
        return Err(refused());
    }
    let payload = text.strip_prefix(VERSION).and_then(|payload| BASE64_URL_SAFE_NO_PAD.decode(payload).ok());
    let grant: Option<Grant> = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
    grant.filter(|grant| app.clock().now() < grant.ends_at).ok_or_else(refused)
}
