//! What is signed: a request in one spelling, whatever the spelling on the wire.

use super::{Request, SignedHeaders};

/// The request as it is signed: method, path, query and headers, a line each, and a line
/// for each header.
pub fn canonical_request(request: &Request<'_>, signed: &SignedHeaders) -> String {
    let headers = headers(request, signed).join("\n");
    [request.method, &path(request.path), &query(request.query), &headers].join("\n")
}

fn path(path: &str) -> String {
    match encoded(&decoded(path), true) {
        empty if empty.is_empty() => "/".to_owned(),
        path => path,
    }
}

/// Each parameter with its `=`, in order. The one that would hold the signature itself is not signed.
fn query(query: &str) -> String {
    let mut lines: Vec<String> = parameters(query)
        .filter(|(name, _)| !name.eq_ignore_ascii_case(b"authorization"))
        .map(|(name, value)| format!("{}={}", encoded(&name, false), encoded(&value, false)))
        .collect();
    lines.sort_unstable();
    lines.join("&")
}

/// The parameters of a query, decoded. A plus sign is a plus sign.
pub fn parameters(query: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
    query.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(name), decoded(value))
    })
}

/// A line for each signed header that has a value.
fn headers(request: &Request<'_>, signed: &SignedHeaders) -> Vec<String> {
    let line = |(name, value): &(&str, &[u8])| {
        let (name, value) = (name.to_ascii_lowercase(), value.trim_ascii());
        let is_signed = name != "authorization" && !value.is_empty() && signed.has(&name);
        is_signed.then(|| format!("{}:{}", encoded(name.as_bytes(), false), encoded(value, false)))
    };
    let mut lines: Vec<String> = request.headers.iter().filter_map(line).collect();
    lines.sort_unstable();
    lines
}

/// Every byte but letters, digits and `-._~` as `%XX`.
fn encoded(bytes: &[u8], keeps_slash: bool) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes.iter().copied() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (keeps_slash && byte == b'/') {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 0xf)]));
        }
    }
    text
}

/// The bytes that a text stands for. A `%` that begins no byte stands for itself.
fn decoded(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((first, behind)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| behind.split_first_chunk::<2>()).flatten();
        match escaped.and_then(|([high, low], behind)| Some((digit(*high)? << 4 | digit(*low)?, behind))) {
            Some((byte, behind)) => {
                bytes.push(byte);
                rest = behind;
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
