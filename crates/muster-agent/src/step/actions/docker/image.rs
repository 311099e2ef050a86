//! Brings an image onto the device: its tag becomes a digest, and that is pulled.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use hyper::Method;
use muster_link::Artifact;
use serde_json::{Value, json};

use crate::step::actions::{FREE_BYTES_MIN, check_free};
use crate::step::context::{Context, Failure};
use crate::step::engine::{Engine, encoded};

/// How often a registry is asked that does not answer well.
const ATTEMPTS_MAX: u32 = 10;
/// From one attempt to the next, at first and at most.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(30);

/// Why an attempt failed.
enum Problem {
    Again(String),
    Final(Failure),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

/// The image of the step, named by its digest: `HOST/PATH@sha256:…`.
pub(super) fn resolve(cx: &Context, engine: &Engine<'_>) -> Result<String, Failure> {
    let artifact = wanted(cx)?;
    if artifact.url.contains("@sha256:") {
        return Ok(artifact.url.clone());
    }
    let (auth, path) = (auth(artifact), format!("/distribution/{}/json", artifact.url));
    let digest = persistently(cx, engine, || {
        let answer = engine.call(&Method::GET, &path, None, auth.as_deref())?;
        if answer.status >= 500 {
            return Err(Problem::Again(answer.message()));
        }
        let refused = |failure: Failure| Failure::because(format!("the image {}: {}", artifact.url, failure.why));
        let found: Value = answer.json().map_err(refused)?;
        let digest = found["Descriptor"]["digest"].as_str().map(ToOwned::to_owned);
        Ok(digest.ok_or_else(|| Failure::because("the registry does not tell the image's digest"))?)
    })?;
    let name = artifact.url.rsplit_once(':').map_or(artifact.url.as_str(), |(name, _)| name);
    cx.say(&format!("{} is {digest}", artifact.url));
    Ok(format!("{name}@{digest}"))
}

/// Whether the engine has the image.
pub(super) fn is_here(engine: &Engine<'_>, image: &str) -> Result<bool, Failure> {
    match engine.get(&format!("/images/{image}/json"))? {
        answer if answer.status == 404 => Ok(false),
        answer => answer.done().map(|_| true),
    }
}

/// Pulls the image unless the engine has it. `root` is where the engine keeps images.
pub(super) fn pull(cx: &Context, engine: &Engine<'_>, image: &str, root: &Path) -> Result<(), Failure> {
    if is_here(engine, image)? {
        return Ok(());
    }
    let auth = auth(wanted(cx)?);
    let (name, digest) = image.split_once('@').unwrap_or((image, "latest"));
    let path = format!("/images/create?fromImage={}&tag={}", encoded(name), encoded(digest));
    persistently(cx, engine, || pull_once(engine, &path, auth.as_deref(), root))?;
    if !is_here(engine, image)? {
        return Err(Failure::because(format!("{image} was pulled, and the engine does not have it")));
    }
    cx.say(&format!("{image} was pulled"));
    Ok(())
}

fn pull_once(engine: &Engine<'_>, path: &str, auth: Option<&str>, root: &Path) -> Result<(), Problem> {
    let (mut progress, mut full) = (Progress::default(), None);
    let status = engine.stream(&Method::POST, path, None, auth, &mut |bytes| {
        if progress.push(bytes)
            && root.is_dir()
            && let Err(failure) = check_free(root, progress.needed_bytes() + FREE_BYTES_MIN)
        {
            full = Some(failure.clone());
            return Err(failure);
        }
        Ok(())
    });
    if let Some(failure) = full {
        return Err(failure.into());
    }
    match (status, progress.error) {
        (Ok(_), Some(error)) if error.contains("no space left on device") => Err(Failure::because(error).into()),
        (Ok(400..=499), error) => {
            Err(Failure::because(error.unwrap_or_else(|| "the pull was refused".to_owned())).into())
        }
        (Ok(_), Some(error)) => Err(Problem::Again(error)),
        (Ok(200..=299), None) => Ok(()),
        (Ok(status), None) => Err(Problem::Again(format!("the engine answered {status}"))),
        // The engine went away in the middle.
        (Err(failure), _) if failure.end == crate::step::StepEnd::Exited => Err(Problem::Again(failure.why)),
        (Err(failure), _) => Err(failure.into()),
    }
}

fn persistently<T>(cx: &Context, engine: &Engine<'_>, attempt: impl Fn() -> Result<T, Problem>) -> Result<T, Failure> {
    let mut pause = AGAIN_AFTER;
    for _ in 1..ATTEMPTS_MAX {
        match attempt() {
            Ok(found) => return Ok(found),
            Err(Problem::Final(failure)) => return Err(failure),
            Err(Problem::Again(why)) => cx.note(&format!("{why}; trying again")),
        }
        engine.pause(pause)?;
        pause = (pause * 2).min(AGAIN_AFTER_MAX);
    }
    attempt().map_err(|problem| match problem {
        Problem::Again(why) => Failure::because(why),
        Problem::Final(failure) => failure,
    })
}

fn wanted(cx: &Context) -> Result<&Artifact, Failure> {
    cx.artifact().ok_or_else(|| Failure::because("the server did not say where the image is"))
}

/// The credential as an engine wants it.
fn auth(artifact: &Artifact) -> Option<String> {
    let header = artifact.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("authorization"))?.1;
    let (kind, value) = header.expose().split_once(' ')?;
    let host = artifact.url.split('/').next().unwrap_or_default();
    let auth = match kind {
        "Basic" => {
            let pair = String::from_utf8(BASE64_STANDARD.decode(value).ok()?).ok()?;
            let (username, password) = pair.split_once(':')?;
            json!({"username": username, "password": password, "serveraddress": host})
        }
        _ => json!({"registrytoken": value, "serveraddress": host}),
    };
    Some(BASE64_URL_SAFE.encode(auth.to_string()))
}

/// What a pull says of itself, line by line.
#[derive(Default)]
struct Progress {
    line: Vec<u8>,
    /// Of each layer: how many bytes are still to be fetched, and to be unpacked.
    layers: HashMap<String, (u64, u64)>,
    error: Option<String>,
}

impl Progress {
    /// Takes in what comes; whether the size of another layer became known.
    fn push(&mut self, bytes: &[u8]) -> bool {
        let mut is_larger = false;
        for byte in bytes {
            match byte {
                b'\n' => is_larger |= self.read_line(),
                // A line is an engine's own words, and short.
                _ if self.line.len() < 64 * 1024 => self.line.push(*byte),
                _ => {}
            }
        }
        is_larger
    }

    fn read_line(&mut self) -> bool {
        let line = std::mem::take(&mut self.line);
        let Ok(said) = serde_json::from_slice::<Value>(&line) else { return false };
        // The second is how a refusal before the first line looks.
        if let Some(error) = said["error"].as_str().or_else(|| said["message"].as_str()) {
            self.error = Some(error.to_owned());
        }
        let (Some(layer), Some(status)) = (said["id"].as_str(), said["status"].as_str()) else { return false };
        let (current, total) = (said["progressDetail"]["current"].as_u64(), said["progressDetail"]["total"].as_u64());
        let left = match (status, current, total) {
            ("Downloading", Some(current), Some(total)) => (total.saturating_sub(current), total),
            ("Pull complete" | "Already exists", ..) => (0, 0),
            _ => return false,
        };
        self.layers.insert(layer.to_owned(), left).is_none()
    }

    /// The least that the disk must still take: what is fetched is unpacked beside itself,
    /// and then no smaller.
    fn needed_bytes(&self) -> u64 {
        self.layers.values().map(|(fetch, unpack)| fetch + unpack).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_understood_however_it_is_cut() {
        let said = concat!(
            r#"{"status":"Pulling from a/b","id":"a@sha256:1"}"#,
            "\r\n",
            r#"{"status":"Downloading","progressDetail":{"current":40,"total":100},"id":"x"}"#,
            "\r\n",
            r#"{"status":"Downloading","progressDetail":{"current":60,"total":100},"id":"x"}"#,
            "\r\n",
            r#"{"status":"Downloading","progressDetail":{"current":1,"total":10},"id":"y"}"#,
            "\r\n",
            r#"{"status":"Pull complete","progressDetail":{},"id":"x"}"#,
            "\r\n",
            r#"{"errorDetail":{"message":"no"},"error":"no"}"#,
            "\r\n",
        );
        for size in [1, 7, 1_000] {
            let mut progress = Progress::default();
            let larger = said.as_bytes().chunks(size).filter(|chunk| progress.push(chunk)).count();
            assert_eq!(
                (larger, progress.needed_bytes(), progress.error.as_deref()),
                (larger.clamp(1, 2), 19, Some("no"))
            );
        }
    }

    #[test]
    fn a_credential_becomes_what_an_engine_wants() {
        let shown = |header: &str| {
            let headers = [("Authorization".to_owned(), muster_core::token::Secret::received(header))].into();
            let artifact = Artifact { url: "r:1/a:2".to_owned(), headers, sha256: None, size_bytes: None };
            let shown = BASE64_URL_SAFE.decode(auth(&artifact).unwrap()).unwrap();
            serde_json::from_slice::<Value>(&shown).unwrap()
        };
        let basic = format!("Basic {}", BASE64_STANDARD.encode("robot:a:b"));
        assert_eq!(shown(&basic), json!({"username": "robot", "password": "a:b", "serveraddress": "r:1"}));
        assert_eq!(shown("Bearer t"), json!({"registrytoken": "t", "serveraddress": "r:1"}));
    }
}
