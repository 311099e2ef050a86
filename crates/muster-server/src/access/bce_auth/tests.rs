//! The vectors were recorded from the Go and Java SDKs; the properties hold for our own signer.

use std::path::PathBuf;
use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_core::token::Secret;
use proptest::prelude::*;
use serde::Deserialize;

use super::*;

const SECRET: &str = "SKTEST0123456789abcdef0123456789";

/// A request that owns its parts, so that they can be changed.
#[derive(Clone, Debug)]
struct Sent {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Sent {
    fn with<T>(&self, ask: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let Self { method, path, query, body, .. } = self;
        ask(&Request { method, path, query, headers: &headers, body })
    }

    fn verify(&self, secret: &str, now: Timestamp) -> Result<(), Fault> {
        self.with(|request| verify(request, &Authorization::of(request)?, secret, now))
    }

    fn header_mut(&mut self, name: &str) -> &mut Vec<u8> {
        let found = self.headers.iter_mut().find(|(sent, _)| sent.eq_ignore_ascii_case(name));
        &mut found.unwrap_or_else(|| panic!("no {name}")).1
    }

    fn sign(&mut self, signed: &SignedHeaders, now: Timestamp) {
        let signer = Signer::new("AKTEST", Secret::received(SECRET)).good_for(60);
        let value = self.with(|request| signer.sign(request, signed, now));
        self.headers.push(("Authorization".to_owned(), value.into_bytes()));
    }
}

#[derive(Deserialize)]
struct Vector {
    request_line: String,
    headers: Vec<(String, String)>,
    body: String,
    verify: Verified,
}

#[derive(Deserialize)]
struct Verified {
    prefix: String,
    canonical_request: String,
    signed_headers: String,
    signature_calc: String,
}

impl Vector {
    fn sent(&self) -> Sent {
        let [method, target, _] = self.request_line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{}", self.request_line)
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes()));
        let body = self.body.clone().into_bytes();
        Sent { method: method.into(), path: path.into(), query: query.into(), headers: headers.collect(), body }
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_rfc3339(self.verify.prefix.split('/').nth(2).unwrap()).unwrap()
    }

    /// Whether the header of that name counts.
    fn is_signed(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        match self.verify.signed_headers.as_str() {
            "" => ["host", "content-length", "content-type"].contains(&name.as_str()) || name.starts_with("x-bce-"),
            named => named.split(';').any(|signed| signed == name),
        }
    }
}

fn vectors() -> Vec<(String, Vector)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/bce");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let read = |path: PathBuf| {
        let vector = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        (path.file_name().unwrap().to_string_lossy().into_owned(), vector)
    };
    files.map(read).collect()
}

#[test]
fn every_vector_verifies_at_its_own_time() {
    assert_eq!(vectors().len(), 19);
    for (name, vector) in vectors() {
        let (sent, at) = (vector.sent(), vector.at());
        let claim = sent.with(Authorization::of).unwrap();
        let canonical = sent.with(|request| canonical_request(request, &claim.signed_headers));
        assert_eq!(canonical, vector.verify.canonical_request, "{name}");
        assert_eq!(sent.verify(SECRET, at), Ok(()), "{name}");
        let signer = Signer::new(claim.access_key_id(), Secret::received(SECRET));
        let signed = sent.with(|request| signer.sign(request, &claim.signed_headers, at));
        assert!(signed.ends_with(&vector.verify.signature_calc), "{name}: {signed}");
        assert_eq!(signed.as_bytes(), sent.clone().header_mut("authorization"), "{name}");
    }
}

#[test]
fn no_vector_verifies_with_one_bit_changed() {
    for (name, vector) in vectors() {
        let (sent, at) = (vector.sent(), vector.at());
        let fails = |changed: Sent| assert!(changed.verify(SECRET, at).is_err(), "{name}: {changed:?}");
        for (place, (header, value)) in sent.headers.iter().enumerate() {
            let is_claim = header.eq_ignore_ascii_case("authorization");
            if !is_claim && !vector.is_signed(header) {
                continue;
            }
            for flipped in flips(value) {
                let mut changed = sent.clone();
                changed.headers[place].1 = flipped;
                fails(changed);
            }
            for flipped in flips(header.as_bytes()).filter_map(|bytes| String::from_utf8(bytes).ok()) {
                // The names of headers have no case.
                if !flipped.eq_ignore_ascii_case(header) {
                    let mut changed = sent.clone();
                    changed.headers[place].0 = flipped;
                    fails(changed);
                }
            }
        }
        for flipped in texts(&sent.method) {
            fails(Sent { method: flipped, ..sent.clone() });
        }
        for flipped in texts(&sent.path) {
            fails(Sent { path: flipped, ..sent.clone() });
        }
        // The digits of an escaped byte have no case either.
        for flipped in texts(&sent.query).filter(|flipped| !is_same_query(flipped, &sent.query)) {
            fails(Sent { query: flipped, ..sent.clone() });
        }
        // Java sends no digest of the body: its signature covers no more than the length.
        if sent.headers.iter().any(|(header, _)| header == "Content-Md5") {
            for flipped in flips(&sent.body) {
                fails(Sent { body: flipped, ..sent.clone() });
            }
        }
        fails(Sent { body: [&sent.body[..], b" "].concat(), ..sent.clone() });
    }
}

/// Every way to change one bit.
fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

fn texts(text: &str) -> impl Iterator<Item = String> {
    flips(text.as_bytes()).filter_map(|bytes| String::from_utf8(bytes).ok())
}

/// By another reader of queries than the one that is tested; no vector holds a plus sign.
fn is_same_query(one: &str, other: &str) -> bool {
    let read = |query: &str| form_urlencoded::parse(query.as_bytes()).into_owned().collect::<Vec<_>>();
    !one.contains('+') && read(one) == read(other)
}

#[test]
fn no_vector_verifies_elsewhere_or_later() {
    for (name, vector) in vectors() {
        let (sent, at) = (vector.sent(), vector.at());
        let expired =
            |now| matches!(sent.verify(SECRET, now), Err(Fault::Expired { timestamp }) if timestamp == at.to_rfc3339());
        assert_eq!(sent.verify(SECRET, at.after(Duration::from_secs(1_800))), Ok(()), "{name}");
        assert!(expired(at.after(Duration::from_secs(1_860))), "{name}");
        assert!(expired(Timestamp::from_millis(at.as_millis() - 1_801_000)), "{name}");
        let wrong = |changed: Sent| assert_eq!(changed.verify(SECRET, at), Err(Fault::WrongSignature), "{name}");
        wrong(Sent { method: "DELETE".into(), ..sent.clone() });
        wrong(Sent { path: "/v1/other".into(), ..sent.clone() });
        wrong(Sent { query: "other".into(), ..sent.clone() });
        wrong(Sent { query: format!("{}&x=", sent.query), ..sent.clone() });
        let mut elsewhere = sent.clone();
        *elsewhere.header_mut("host") = b"127.0.0.1:18080".to_vec();
        wrong(elsewhere);
        assert_eq!(sent.verify("SKTEST", at), Err(Fault::WrongSignature), "{name}");
        let mut more = sent.clone();
        more.headers.push(("x-bce-more".into(), b"1".to_vec()));
        assert_eq!(more.verify(SECRET, at).is_err(), vector.verify.signed_headers.is_empty(), "{name}");
    }
}

fn plain() -> Sent {
    Sent {
        method: "PUT".into(),
        path: "/v1/tag".into(),
        query: "create".into(),
        headers: vec![("Host".into(), b"muster.example".to_vec())],
        body: Vec::new(),
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_749_478_244_000);

#[test]
fn the_host_must_be_signed() {
    let mut sent = plain();
    sent.headers.push(("x-bce-date".into(), NOW.to_rfc3339().into_bytes()));
    sent.sign(&SignedHeaders::named(["x-bce-date"]), NOW);
    assert_eq!(sent.verify(SECRET, NOW), Err(Fault::Malformed("the header host is not signed")));
    let mut nowhere = Sent { headers: Vec::new(), ..plain() };
    nowhere.sign(&SignedHeaders::Default, NOW);
    assert_eq!(nowhere.verify(SECRET, NOW), Err(Fault::Malformed("the header host is not signed")));
}

#[test]
fn a_date_of_its_own_must_be_near() {
    for (seconds, is_near) in [(-1_801, false), (-1_800, true), (1_800, true), (1_801, false)] {
        let date = Timestamp::from_millis(NOW.as_millis() + seconds * 1_000).to_rfc3339();
        let mut sent = plain();
        sent.headers.push(("X-Bce-Date".into(), date.clone().into_bytes()));
        sent.sign(&SignedHeaders::Default, NOW);
        let expected = if is_near { Ok(()) } else { Err(Fault::Expired { timestamp: date }) };
        assert_eq!(sent.verify(SECRET, NOW), expected, "{seconds}");
    }
    let mut sent = plain();
    sent.headers.push(("x-bce-date".into(), b"today".to_vec()));
    sent.sign(&SignedHeaders::Default, NOW);
    assert!(matches!(sent.verify(SECRET, NOW), Err(Fault::Malformed(_))));
}

#[test]
fn a_digest_that_is_sent_must_be_the_bodys() {
    let good = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    for (header, value, expected) in [
        ("x-bce-content-sha256", good, Ok(())),
        ("x-bce-content-sha256", &good.replace('4', "5"), Err(Fault::OtherBody)),
        ("Content-MD5", "mZFLkyvTelC5g8XnyQrpOw==", Ok(())),
        ("Content-MD5", "mZFLkyvTelC5g8XnyQrpOg==", Err(Fault::OtherBody)),
        ("Content-Length", "2", Ok(())),
        ("Content-Length", "3", Err(Fault::OtherBody)),
    ] {
        let mut sent = Sent { body: b"{}".to_vec(), ..plain() };
        sent.headers.push((header.into(), value.as_bytes().to_vec()));
        sent.sign(&SignedHeaders::Default, NOW);
        assert_eq!(sent.verify(SECRET, NOW), expected, "{header}: {value}");
    }
}

#[test]
fn a_body_of_which_nothing_is_signed_is_anybodys() {
    let mut sent = Sent { body: b"{}".to_vec(), ..plain() };
    sent.headers.push(("Content-Length".into(), b"2".to_vec()));
    sent.sign(&SignedHeaders::named(["host"]), NOW);
    assert_eq!(sent.verify(SECRET, NOW), Err(Fault::OtherBody));
}

#[test]
fn an_empty_length_of_a_get_is_signed_as_sent() {
    let mut sent = Sent { method: "GET".into(), query: "tagValue=".into(), ..plain() };
    sent.headers.push(("Content-Length".into(), b"0".to_vec()));
    sent.sign(&SignedHeaders::Default, NOW);
    assert_eq!(sent.verify(SECRET, NOW), Ok(()));
    sent.headers.retain(|(name, _)| name != "Content-Length");
    assert_eq!(sent.verify(SECRET, NOW), Err(Fault::WrongSignature));
}

#[test]
fn a_security_token_is_a_header_or_a_parameter() {
    assert_eq!(plain().with(security_token), None);
    let in_query = Sent { query: "create&x-bce-security-token=a%2Fb".into(), ..plain() };
    assert_eq!(in_query.with(security_token), Some(b"a/b".to_vec()));
    let mut in_header = plain();
    in_header.headers.push(("X-Bce-Security-Token".into(), b"abc".to_vec()));
    assert_eq!(in_header.with(security_token), Some(b"abc".to_vec()));
    in_header.sign(&SignedHeaders::Default, NOW);
    *in_header.header_mut("x-bce-security-token") = b"abd".to_vec();
    assert_eq!(in_header.verify(SECRET, NOW), Err(Fault::WrongSignature));
}

#[test]
fn refuses_a_header_of_another_form() {
    let signature = "0".repeat(64);
    let good = format!("bce-auth-v1/AK/2025-06-09T14:10:44Z/1800/host/{signature}");
    assert!(Authorization::parse(&good).is_ok());
    for bad in [
        String::new(),
        good.replace("v1", "v2"),
        good.replace("/AK/", "//"),
        good.replace("AK", &"A".repeat(129)),
        good.replace("44Z", "44.5Z"),
        good.replace("44Z", "44+00:00"),
        good.replace("1800", ""),
        good.replace("1800", "+1800"),
        good.replace("1800", "-1"),
        good.replace("1800", "99999999999"),
        good.replace("host", "Host"),
        good.replace("host", "host;"),
        good.replace("host", "host;host"),
        good.replace(&signature, &"A".repeat(64)),
        good.replace(&signature, &"0".repeat(63)),
        format!("{good}/"),
        format!("Bearer {good}"),
    ] {
        assert!(matches!(Authorization::parse(&bad), Err(Fault::Malformed(_))), "{bad}");
    }
    assert_eq!(plain().verify(SECRET, NOW), Err(Fault::Missing));
}

/// Any request: whatever bytes in its parameters, headers and body.
fn requests() -> impl Strategy<Value = Sent> {
    let name = "x-bce-[a-z]{1,8}";
    let header = (name, "[!-~]([ -~]{0,10}[!-~])?").prop_map(|(name, value)| (name, value.into_bytes()));
    // Names of parameters are text on the wire, and one of them is never signed.
    let query = proptest::collection::vec(("[a-z%=+ é]{1,5}", "[ -~é]{0,6}"), 0..4).prop_map(|parameters| {
        let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let parts = parameters.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
        parts.collect::<Vec<_>>().join("&")
    });
    let headers = proptest::collection::vec(header, 0..4);
    ("(GET|PUT|POST)", "(/[a-z0-9]{1,6}){1,3}", query, headers, proptest::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(method, path, query, mut headers, body)| {
            headers.retain(|(name, _)| !["x-bce-date", "x-bce-content-sha256"].contains(&name.as_str()));
            let sha = digest::to_hex(&<sha2::Sha256 as sha2::Digest>::digest(&body));
            headers.push(("host".into(), b"muster.example:8080".to_vec()));
            headers.push(("x-bce-content-sha256".into(), sha.into_bytes()));
            Sent { method, path, query, headers, body }
        },
    )
}

fn signed_headers() -> impl Strategy<Value = SignedHeaders> {
    prop_oneof![
        Just(SignedHeaders::Default),
        Just(SignedHeaders::named(["host", "x-bce-content-sha256", "x-bce-absent"])),
    ]
}

/// The bytes of a request, one part behind the other, so that any of them can be changed.
fn change(sent: &mut Sent, signed: &SignedHeaders, place: usize, by: u8) -> bool {
    let flip = |bytes: &mut Vec<u8>, place: usize| {
        let place = place % bytes.len();
        let before = bytes.clone();
        bytes[place] ^= by;
        // White space at the ends of a header means nothing, escapes are read in any case.
        String::from_utf8(bytes.clone()).is_ok() && bytes.trim_ascii() != before.trim_ascii()
    };
    let in_text = |text: &mut String, place: usize| {
        let mut bytes = text.clone().into_bytes();
        let is_changed = flip(&mut bytes, place);
        if is_changed {
            *text = String::from_utf8(bytes).unwrap_or_default();
        }
        is_changed
    };
    let parts = sent.headers.len() + 4;
    match place % parts {
        0 => in_text(&mut sent.method, place / parts),
        1 => in_text(&mut sent.path, place / parts),
        2 if !sent.query.is_empty() => {
            let before = sent.query.clone();
            in_text(&mut sent.query, place / parts) && !is_same_query(&sent.query, &before)
        }
        3 if !sent.body.is_empty() => {
            let length = sent.body.len();
            sent.body[place / parts % length] ^= by;
            true
        }
        part if part >= 4 => {
            let (name, value) = &mut sent.headers[part - 4];
            let is_signed = name == "Authorization" || signed.has(name);
            flip(value, place / parts) && is_signed
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn what_our_signer_signs_verifies_and_any_changed_byte_does_not(
        sent in requests(),
        signed in signed_headers(),
        place in any::<usize>(),
        by in 1_u8..,
    ) {
        let mut sent = sent;
        sent.sign(&signed, NOW);
        prop_assert_eq!(sent.verify(SECRET, NOW), Ok(()));
        prop_assert!(sent.verify(SECRET, NOW.after(Duration::from_secs(61))).is_err());
        let mut changed = sent.clone();
        if change(&mut changed, &signed, place, by) {
            prop_assert!(changed.verify(SECRET, NOW).is_err(), "{:?}", changed);
        }
    }

    #[test]
    fn no_header_makes_it_panic(header in "(bce-auth-v1)?[/a-z0-9;:TZ%é-]{0,80}", query in "[%&=a-f0-9é+]{0,20}") {
        let mut sent = Sent { query, ..plain() };
        sent.headers.push(("authorization".into(), header.into_bytes()));
        prop_assert!(sent.verify(SECRET, NOW).is_err());
    }
}
