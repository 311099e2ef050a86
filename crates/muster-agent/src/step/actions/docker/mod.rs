//! `connect/docker`.
//!
//! The container before is not removed: it is stopped and stands aside, under another
//! name, until the run is over and nothing can be put back any more. So the way back
//! needs no registry, and ends in the very same container.

mod body;
pub(super) mod gate;
mod image;
mod record;

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use muster_core::flow::actions::docker::Docker;
use muster_core::limits::STEP_TIMEOUT_DEFAULT;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::gate::{Gate, Verdict};
use self::record::{Previous, RUN_LABEL, Record};
use super::{Plan, Work};
use crate::step::context::{Context, Failure};
use crate::step::engine::{Engine, Leave, encoded};
use crate::step::saved::Saved;

/// How long the engine may be away before anything is changed. Afterwards the step's own
/// time is what bounds the waiting.
pub(super) const AWAY_MAX: Duration = Duration::from_secs(30);
/// How long it may be away when something is put back.
pub(super) const AWAY_UNDOING_MAX: Duration = Duration::from_secs(10 * 60);
/// How often it is looked how a container stands.
pub(super) const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// How often the engine is asked to set a container's restart policy.
const UPDATE_TRIES: u32 = 10;
/// Lines of a failed container's output that are kept.
const LOG_LINES: u32 = 200;

impl Work for Docker {
    fn check(&self, cx: &Context) -> Result<Plan, Failure> {
        let leave = || cx.check_time();
        let engine = Engine::reach(cx.docker_socket()?, AWAY_MAX, &leave)?;
        if let Some(found) = find(&engine, self.container())? {
            check_replaceable(self.container(), &found)?;
        }
        Ok(Plan { paths: Vec::new(), update: Some(root(&engine)?).filter(|root| root.is_dir()).map(|root| (root, 0)) })
    }

    fn stage(&self, cx: &Context) -> Result<(), Failure> {
        let leave = || cx.check_time();
        let engine = Engine::reach(cx.docker_socket()?, AWAY_MAX, &leave)?.patient(cx.spec.timeout());
        let image = image::resolve(cx, &engine)?;
        let earlier = Record::read(cx.saved.path())?.filter(|earlier| earlier.image == image);
        let was_image_here = match earlier {
            // A killed runner may have pulled it.
            Some(earlier) => earlier.was_image_here,
            None => image::is_here(&engine, &image)?,
        };
        let previous = find(&engine, self.container())?.as_ref().map(Previous::of);
        let record = Record {
            socket: cx.docker_socket()?,
            run: cx.run_name(),
            step: cx.spec.index,
            name: self.container().to_owned(),
            image: image.clone(),
            was_image_here,
            previous,
            is_image_dropped: self.delete_previous_image.is_set(),
            is_changing: false,
            is_undoing: false,
        };
        record.write(cx.saved.path())?;
        image::pull(cx, &engine, &image, &root(&engine)?)
    }

    fn change(&self, cx: &Context) -> Result<(), Failure> {
        let leave = || cx.check_time();
        let engine = Engine::reach(cx.docker_socket()?, cx.spec.timeout(), &leave)?;
        let mut record = read(cx.saved.path())?;
        record.is_changing = true;
        record.write(cx.saved.path())?;
        if let Some(previous) = &record.previous {
            set_aside(&engine, previous, &record.aside())?;
        }
        let new = create(self, cx, &engine, &record)?;
        post(&engine, &new, "start", None)
    }

    fn verify(&self, cx: &Context) -> Result<(), Failure> {
        let leave = || cx.check_time();
        let engine = Engine::reach(cx.docker_socket()?, cx.spec.timeout(), &leave)?;
        let record = read(cx.saved.path())?;
        if self.run_options.attach.is_set() {
            return wait_for_end(self, cx, &engine, &record);
        }
        let gate = Gate::new(self.healthy_within_seconds.as_ref(), self.steady_seconds.as_ref());
        let began = Instant::now();
        loop {
            let found = find(&engine, &record.name)?.ok_or_else(|| gone(&record.name))?;
            match gate.judge(&found, began.elapsed(), false) {
                Verdict::Up => break,
                Verdict::NotYet => engine.pause(LOOK_AGAIN_AFTER)?,
                Verdict::Down(why) => {
                    keep_output(cx, &engine, &record.name);
                    return Err(Failure::because(why));
                }
            }
        }
        cx.say(&format!("the container {} runs {}", record.name, record.image));
        Ok(())
    }

    fn undo(&self, cx: &Context, saved: &Saved) -> Result<(), Failure> {
        let Some(mut record) = Record::read(saved.path())? else { return Ok(()) };
        if !record.is_changing {
            return Ok(());
        }
        record.is_undoing = true;
        // On a full disk it is put back without a note of it.
        let _ = record.write(saved.path());
        let began = Instant::now();
        let leave = || check_undoing(began);
        let engine = Engine::reach(record.socket.clone(), AWAY_UNDOING_MAX, &leave)?;
        remove_made(&engine, &record)?;
        if let Some(previous) = &record.previous {
            put_back(&engine, &record, previous)?;
        }
        if !record.was_image_here {
            // Another container may have come to use it.
            let _ = engine.delete(&format!("/images/{}", record.image));
        }
        match record.previous {
            Some(_) => cx.say(&format!("the container {} is back", record.name)),
            None => cx.say(&format!("the container {} is removed", record.name)),
        }
        Ok(())
    }
}

/// Makes the container, and returns its id. One that is attached is started again by
/// nobody until its end was seen.
fn create(with: &Docker, cx: &Context, engine: &Engine<'_>, record: &Record) -> Result<String, Failure> {
    let restart = with.run_options.restart.as_ref().filter(|_| !with.run_options.attach.is_set());
    let body = body::create(with, &record.image, &body::restart_policy(restart), &record.labels())?;
    let path = format!("/containers/create?name={}", encoded(&record.name));
    let mut answer = engine.post(&path, Some(&body))?;
    if answer.status == 404 {
        // Somebody removed the image since it was pulled.
        image::pull(cx, engine, &record.image, &root(engine)?)?;
        answer = engine.post(&path, Some(&body))?;
    }
    if answer.status == 409
        && let Some(found) = find(engine, &record.name)?
        && record.is_own_or_later(&found["Config"]["Labels"])
    {
        // The engine made it, and went away before it could say so.
        return Ok(id(&found));
    }
    let made: Value = answer.json()?;
    Ok(id(&made))
}

/// Waits until the container has ended, and takes over its output and its exit code.
fn wait_for_end(with: &Docker, cx: &Context, engine: &Engine<'_>, record: &Record) -> Result<(), Failure> {
    let state = loop {
        let found = find(engine, &record.name)?.ok_or_else(|| gone(&record.name))?;
        if found["State"]["Running"] != true {
            break found["State"].clone();
        }
        engine.pause(LOOK_AGAIN_AFTER)?;
    };
    keep_output(cx, engine, &record.name);
    let code = state["ExitCode"].as_i64().and_then(|code| i32::try_from(code).ok());
    if code != Some(0) {
        let why = format!("the container ended with exit code {}", code.unwrap_or(-1));
        return Err(Failure { exit_code: code.or(Some(1)), ..Failure::because(why) });
    }
    let restart = with.run_options.restart.as_ref();
    set_restart_policy(engine, &record.name, &body::restart_policy(restart))?;
    if body::is_kept_running(restart) {
        post(engine, &record.name, "start", None)?;
    }
    Ok(())
}

/// Nothing stops the putting back but an engine that takes what it is asked and says nothing.
pub(super) fn check_undoing(began: Instant) -> Result<(), Failure> {
    if began.elapsed() < STEP_TIMEOUT_DEFAULT {
        return Ok(());
    }
    Err(Failure::because(format!("the container engine is silent for {} minutes", STEP_TIMEOUT_DEFAULT.as_secs() / 60)))
}

/// The run is over: what stands aside is removed, unless it was, or should be, put back.
pub(in crate::step) fn settle(saved: &Path, is_done: bool, leave: Leave<'_>) -> Result<(), Failure> {
    let Some(record) = Record::read(saved)? else { return Ok(()) };
    let Some(previous) = record.previous.as_ref().filter(|_| is_done && record.is_changing && !record.is_undoing)
    else {
        return Ok(());
    };
    let engine = Engine::reach(record.socket.clone(), Duration::ZERO, leave)?;
    let found = find(&engine, &previous.id)?;
    if found.is_some_and(|found| found["Name"] == format!("/{}", record.aside())) {
        remove(&engine, &previous.id, false)?;
    }
    let new = engine.get(&format!("/images/{}/json", record.image))?.json::<Value>();
    if record.is_image_dropped && new.is_ok_and(|new| new["Id"] != *previous.image_id) {
        // A container that still uses it keeps it.
        let _ = engine.delete(&format!("/images/{}", previous.image_id));
    }
    Ok(())
}

/// Whether `settle` has something to do with what is saved here.
pub(in crate::step) fn is_to_settle(saved: &Path) -> bool {
    matches!(Record::read(saved), Ok(Some(record)) if record.previous.is_some() && !record.is_undoing)
}

/// Where the engine keeps its images.
pub(super) fn root(engine: &Engine<'_>) -> Result<PathBuf, Failure> {
    let info: Value = engine.get("/info")?.json()?;
    Ok(info["DockerRootDir"].as_str().unwrap_or_default().into())
}

/// A container, by its name or its id.
pub(super) fn find(engine: &Engine<'_>, name: &str) -> Result<Option<Value>, Failure> {
    match engine.get(&format!("/containers/{name}/json"))? {
        answer if answer.status == 404 => Ok(None),
        // The engine takes the beginning of an id as well.
        answer => answer.json().map(|found: Value| {
            Some(found).filter(|found| found["Id"] == *name || found["Name"] == format!("/{name}"))
        }),
    }
}

/// A container that removes itself could not be put back.
fn check_replaceable(name: &str, found: &Value) -> Result<(), Failure> {
    if found["HostConfig"]["AutoRemove"] != true {
        return Ok(());
    }
    let why = format!("the container {name} removes itself when it is stopped, so there would be no way back");
    Err(Failure::because(why))
}

/// Stops a container, sees to it that nothing starts it, and frees its name.
fn set_aside(engine: &Engine<'_>, previous: &Previous, aside: &str) -> Result<(), Failure> {
    set_restart_policy(engine, &previous.id, &body::restart_policy(None))?;
    post(engine, &previous.id, "stop", None)?;
    rename(engine, &previous.id, aside)
}

/// Brings the container before back under its name, as it was.
fn put_back(engine: &Engine<'_>, record: &Record, previous: &Previous) -> Result<(), Failure> {
    let Some(found) = find(engine, &previous.id)? else {
        // Where an earlier step of the run made it, that one's way back has removed it.
        return if previous.run.as_ref() == Some(&record.run) { Ok(()) } else { Err(gone(&record.aside())) };
    };
    if found["Name"] != format!("/{}", record.name) {
        rename(engine, &previous.id, &record.name)?;
    }
    set_restart_policy(engine, &previous.id, &previous.restart)?;
    if previous.is_running && found["State"]["Running"] != true {
        post(engine, &previous.id, "start", None)?;
    }
    if previous.is_paused && found["State"]["Paused"] != true {
        post(engine, &previous.id, "pause", None)?;
    }
    Ok(())
}

/// Removes what the step made, and what later steps made under the same name.
fn remove_made(engine: &Engine<'_>, record: &Record) -> Result<(), Failure> {
    let filters = json!({"label": [format!("{RUN_LABEL}={}", record.run)]}).to_string();
    let listed: Vec<Value> = engine.get(&format!("/containers/json?all=true&filters={}", encoded(&filters)))?.json()?;
    listed
        .iter()
        .filter(|found| record.is_own_or_later(&found["Labels"]))
        .try_for_each(|found| remove(engine, &id(found), true))
}

/// Removes a container; `with_volumes` those as well that are its alone.
fn remove(engine: &Engine<'_>, id: &str, with_volumes: bool) -> Result<(), Failure> {
    loop {
        let answer = engine.delete(&format!("/containers/{id}?force=true&v={with_volumes}"))?;
        match answer.status {
            404 => return Ok(()),
            // It is being removed already.
            409 if answer.message().contains("already in progress") => engine.pause(LOOK_AGAIN_AFTER)?,
            _ => return answer.done().map(drop),
        }
    }
}

fn rename(engine: &Engine<'_>, id: &str, name: &str) -> Result<(), Failure> {
    let answer = engine.post(&format!("/containers/{id}/rename?name={}", encoded(name)), None)?;
    match find(engine, id)? {
        // Perhaps in an attempt whose answer was lost.
        Some(found) if found["Name"] == format!("/{name}") => Ok(()),
        _ => answer.done().map(drop),
    }
}

/// Sets who starts a container again. The engine refuses that in the moment in which the
/// container ends, and one that ends again and again has many such moments.
fn set_restart_policy(engine: &Engine<'_>, container: &str, policy: &Value) -> Result<(), Failure> {
    let body = json!({ "RestartPolicy": policy });
    for _ in 1..UPDATE_TRIES {
        let answer = engine.post(&format!("/containers/{container}/update"), Some(&body))?;
        if answer.status != 500 {
            return answer.done().map(drop);
        }
        engine.pause(LOOK_AGAIN_AFTER)?;
    }
    post(engine, container, "update", Some(&body))
}

fn post(engine: &Engine<'_>, container: &str, deed: &str, body: Option<&Value>) -> Result<(), Failure> {
    engine.post(&format!("/containers/{container}/{deed}"), body)?.done().map(drop)
}

/// Adds the container's last lines to the step's output.
pub(super) fn keep_output(cx: &Context, engine: &Engine<'_>, name: &str) {
    let path = format!("/containers/{name}/logs?stdout=true&stderr=true&tail={LOG_LINES}");
    let mut frames = Frames::default();
    let told = engine.stream(&Method::GET, &path, None, None, &mut |bytes| {
        frames.push(bytes, &mut |is_error, content| cx.keep(is_error, content));
        Ok(())
    });
    if !matches!(told, Ok(200)) {
        cx.note("the container's output cannot be read");
    }
}

/// The engine's way of sending two streams over one: 8 bytes of head, and content.
#[derive(Default)]
struct Frames {
    head: Vec<u8>,
    left_bytes: usize,
    is_error: bool,
}

impl Frames {
    fn push(&mut self, mut bytes: &[u8], take: &mut dyn FnMut(bool, &[u8])) {
        while !bytes.is_empty() {
            if self.left_bytes > 0 {
                let (content, rest) = bytes.split_at(self.left_bytes.min(bytes.len()));
                take(self.is_error, content);
                self.left_bytes -= content.len();
                bytes = rest;
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if let [stream, _, _, _, a, b, c, d] = *self.head.as_slice() {
                self.is_error = stream == 2;
                self.left_bytes = u32::from_be_bytes([a, b, c, d]) as usize;
                self.head.clear();
            }
        }
    }
}

fn read(saved: &Path) -> Result<Record, Failure> {
    Record::read(saved)?.ok_or_else(|| Failure::because("what the step wrote down is gone"))
}

fn gone(name: &str) -> Failure {
    Failure::because(format!("the container {name} is gone"))
}

fn id(found: &Value) -> String {
    found["Id"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// What the engine answers in the moment in which a container ends.
    const ENDING: &str = r#"{"message":"Cannot update container x: cannot update a stopped container: unknown"}"#;

    /// An engine that answers each call with the next of these; it tells what was asked.
    fn scripted(answers: &[(u16, &str)], work: impl FnOnce(&Engine<'_>)) -> Vec<String> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::scope(|scope| {
            let asked = scope.spawn(move || {
                let version = (200, r#"{"ApiVersion":"1.41","MinAPIVersion":"1.24"}"#);
                let answers = [version].into_iter().chain(answers.iter().copied());
                answers.map(|answer| answer_one(&listener, answer)).collect()
            });
            work(&Engine::reach(path, Duration::ZERO, &|| Ok(())).unwrap());
            asked.join().unwrap()
        })
    }

    fn answer_one(listener: &UnixListener, (status, body): (u16, &str)) -> String {
        let stream = listener.accept().unwrap().0;
        let mut request = BufReader::new(&stream);
        let mut asked = String::new();
        request.read_line(&mut asked).unwrap();
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        (&stream).write_all(answer.as_bytes()).unwrap();
        // What is not read when a connection is closed takes the answer along.
        io::copy(&mut request, &mut io::sink()).unwrap();
        asked.split(' ').nth(1).unwrap().to_owned()
    }

    #[test]
    fn a_container_that_is_just_ending_is_asked_again() {
        let set = |engine: &Engine<'_>| set_restart_policy(engine, "x", &body::restart_policy(None));
        let asked = scripted(&[(500, ENDING), (200, "{}")], |engine| set(engine).unwrap());
        assert_eq!(asked[1..], ["/v1.41/containers/x/update"; 2]);
        scripted(&[(409, r#"{"message":"it is dead"}"#)], |engine| {
            assert_eq!(set(engine).unwrap_err().why, "it is dead");
        });
        scripted(&[(500, ENDING); UPDATE_TRIES as usize], |engine| {
            assert!(set(engine).unwrap_err().why.contains("cannot update a stopped container"));
        });
    }

    #[test]
    fn two_streams_come_out_of_one() {
        let sent =
            [&[1, 0, 0, 0, 0, 0, 0, 3][..], b"one", &[2, 0, 0, 0, 0, 0, 0, 2], b"no", &[1, 0, 0, 0, 0, 0, 0, 1], b"\n"];
        for size in [1, 5, 100] {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut frames = Frames::default();
            sent.concat().chunks(size).for_each(|chunk| {
                frames.push(chunk, &mut |is_error, content| {
                    if is_error { &mut err } else { &mut out }.extend_from_slice(content);
                });
            });
            assert_eq!((out.as_slice(), err.as_slice()), (&b"one\n"[..], &b"no"[..]), "{size}");
        }
    }
}
