//! What the headers of a request for a file ask for, and those of its answer.

use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use muster_core::artifact::Part;
use muster_core::clock::Timestamp;
use muster_store::artifacts::Artifact;

use crate::http::attachment;

const SHA256: HeaderName = HeaderName::from_static("x-checksum-sha256");
const SHA1: HeaderName = HeaderName::from_static("x-checksum-sha1");
const MD5: HeaderName = HeaderName::from_static("x-checksum-md5");

/// What a request for an artifact is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The client has it already.
    NotModified,
    /// All of it, a part of it, or that there is no such part.
    Part(Part),
}

/// The tag of a content.
fn etag(artifact: &Artifact) -> String {
    format!("\"{}\"", artifact.blob.checksums.sha256)
}

/// The moment of the last change, if it is known.
fn modified(artifact: &Artifact) -> Option<String> {
    (artifact.modified_at != Timestamp::NEVER).then(|| artifact.modified_at.to_http_date())
}

/// Decides, as RFC 9110 has it.
pub(super) fn answer(asked: &HeaderMap, artifact: &Artifact) -> Answer {
    let text = |name: HeaderName| asked.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let (tag, date) = (etag(artifact), modified(artifact));
    let is_held = match (text(IF_NONE_MATCH), text(IF_MODIFIED_SINCE)) {
        (Some(tags), _) => tags == "*" || tags.split(',').any(|held| held.trim().trim_start_matches("W/") == tag),
        // Clients send back the date that they were given, so to compare the text is enough.
        (None, Some(since)) => date.as_deref() == Some(since),
        (None, None) => false,
    };
    if is_held {
        return Answer::NotModified;
    }
    let is_same = text(IF_RANGE).is_none_or(|held| held == tag || date.as_deref() == Some(held));
    let size = u64::try_from(artifact.blob.size).unwrap_or_default();
    Answer::Part(if is_same { Part::of(text(RANGE), size) } else { Part::Whole })
}

/// The status and the headers of that answer.
pub(super) fn head(artifact: &Artifact, answer: Answer) -> (StatusCode, HeaderMap) {
    let size = u64::try_from(artifact.blob.size).unwrap_or_default();
    let checksums = &artifact.blob.checksums;
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: &str| {
        // What cannot stand in a header was refused when the artifact was stored.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(ACCEPT_RANGES, "bytes");
    set(ETAG, &etag(artifact));
    if let Some(date) = modified(artifact) {
        set(LAST_MODIFIED, &date);
    }
    set(SHA256, &checksums.sha256);
    set(SHA1, &checksums.sha1);
    set(MD5, &checksums.md5);
    let part = match answer {
        Answer::NotModified => return (StatusCode::NOT_MODIFIED, headers),
        Answer::Part(part) => part,
    };
    let name = artifact.path.rsplit_once('/').map_or(artifact.path.as_str(), |(_, name)| name);
    set(CONTENT_TYPE, &artifact.mime_type);
    set(CONTENT_DISPOSITION, &attachment(name));
    // Whoever stores a page must not have it run as one of this server's.
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(CONTENT_SECURITY_POLICY, "sandbox");
    let (first, end) = part.bounds(size);
    set(CONTENT_LENGTH, &(end - first).to_string());
    let status = match part {
        Part::Whole => StatusCode::OK,
        Part::Range { first, last } => {
            set(CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
            StatusCode::PARTIAL_CONTENT
        }
        Part::Unsatisfiable => {
            set(CONTENT_RANGE, &format!("bytes */{size}"));
            StatusCode::RANGE_NOT_SATISFIABLE
        }
    };
    (status, headers)
}
