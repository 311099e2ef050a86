//! Following runs of commands: what each device puts out, and how it ends.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::failure::Failure;
use super::output::line;
use super::pages::Pages;
use super::session::Session;
use super::table::printable;

/// Shortest time between two looks.
const LOOK_PERIOD_MIN: Duration = Duration::from_millis(500);
/// The time between two looks is this many times what a look took.
const LOOK_PERIOD_FACTOR: u32 = 5;
/// How often in a row a look may fail before the watch does.
const FAILED_LOOKS_MAX: u32 = 20;
/// The statuses of devices that have not ended.
const OPEN: [&str; 2] = ["pending", "running"];

/// How a run is followed.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// Output is printed while it comes.
    pub(super) is_followed: bool,
    /// For programs: an event on each line.
    pub(super) is_json: bool,
}

/// What was told of the devices so far.
#[derive(Default)]
struct Told {
    /// What was printed of a device's output, by run and device.
    printed: BTreeMap<(String, String), String>,
    /// Devices whose end was told.
    ended: BTreeMap<(String, String), bool>,
    /// How many devices there are, over all runs.
    devices: u64,
}

/// Follows runs until every device has ended; an error unless all succeeded.
pub(super) async fn watch(session: &Session, runs: &[String], how: How) -> Result<(), Failure> {
    let (mut told, mut failed_looks) = (Told::default(), 0);
    let mut open: BTreeMap<&String, Value> = runs.iter().map(|run| (run, Value::Null)).collect();
    let mut over: Vec<Value> = Vec::new();
    while !open.is_empty() {
        let begin = Instant::now();
        match look(session, &mut open, &mut over, how, &mut told).await {
            Ok(()) => failed_looks = 0,
            Err(failure) if failure.is_passing() && failed_looks < FAILED_LOOKS_MAX => failed_looks += 1,
            Err(failure) => return Err(failure),
        }
        if !open.is_empty() {
            sleep(LOOK_PERIOD_MIN.max(begin.elapsed() * LOOK_PERIOD_FACTOR)).await;
        }
    }
    conclude(&over, how)
}

/// One look at each run that is not over.
async fn look(
    session: &Session,
    open: &mut BTreeMap<&String, Value>,
    over: &mut Vec<Value>,
    how: How,
    told: &mut Told,
) -> Result<(), Failure> {
    let fleet = session.fleet()?;
    let runs: Vec<&String> = open.keys().copied().collect();
    told.devices = told.devices.max(runs.len() as u64);
    for run in runs {
        let seen = session.http.get(&[fleet, "command_runs", run])?.value().await?;
        told.devices = told.devices.max(seen["device_count"].as_u64().unwrap_or_default());
        if how.is_followed {
            running(session, run, how, told).await?;
        }
        if open.get(run) != Some(&seen["devices"]) {
            ended(session, run, how, told).await?;
            open.insert(run, seen["devices"].clone());
        }
        if seen["is_over"] == true {
            open.remove(run);
            over.push(seen);
        }
    }
    Ok(())
}

/// Prints what has come of devices that still run.
async fn running(session: &Session, run: &str, how: How, told: &mut Told) -> Result<(), Failure> {
    let call = session.http.get(&[session.fleet()?, "command_runs", run, "devices"])?.query("status", "running");
    for device in Pages::new(call, "devices", None).all().await? {
        if device["output_bytes"].as_u64().unwrap_or_default() > 0 {
            let text = output(session, run, &device).await?;
            print(run, &device, &text, false, how, told)?;
        }
    }
    Ok(())
}

/// Tells of each device that has ended since the last look.
async fn ended(session: &Session, run: &str, how: How, told: &mut Told) -> Result<(), Failure> {
    let call = session.http.get(&[session.fleet()?, "command_runs", run, "devices"])?;
    for device in Pages::new(call, "devices", None).all().await? {
        let key = key(run, &device);
        if OPEN.iter().any(|status| device["status"] == *status) || told.ended.contains_key(&key) {
            continue;
        }
        let text = output(session, run, &device).await?;
        print(run, &device, &text, true, how, told)?;
        told.printed.remove(&key);
        told.ended.insert(key, device["status"] == "succeeded");
        match (how.is_json, device["status"] == "succeeded") {
            (true, _) => {
                let mut event = json!({ "event": "device", "run_id": run, "output": text });
                if let (Some(event), Some(device)) = (event.as_object_mut(), device.as_object()) {
                    event.extend(device.clone());
                }
                line(&event.to_string())?;
            }
            (false, true) => {}
            (false, false) => {
                let [name, uuid, status, reason] =
                    ["device_name", "device_uuid", "status", "reason"].map(|key| word(&device[key]));
                writeln!(std::io::stderr(), "{}", printable(&format!("{name} ({uuid}) {status}: {reason}")))?;
            }
        }
    }
    Ok(())
}

/// All that is kept of a device's output: most is in the list already.
async fn output(session: &Session, run: &str, device: &Value) -> Result<String, Failure> {
    if word(&device["output_tail"]).is_empty() {
        return Ok(word(&device["output_head"]).to_owned());
    }
    let uuid = word(&device["device_uuid"]);
    session.http.get(&[session.fleet()?, "command_runs", run, "devices", uuid, "output"])?.text().await
}

/// Prints what is new in a device's output: whole lines, and at its end the rest.
fn print(run: &str, device: &Value, text: &str, is_end: bool, how: How, told: &mut Told) -> Result<(), Failure> {
    let printed = told.printed.entry(key(run, device)).or_default();
    let common = printed.char_indices().zip(text.chars()).find(|((_, a), b)| a != b).map(|((at, _), _)| at);
    let from = common.unwrap_or(printed.len().min(text.len()));
    let to = if is_end { text.len() } else { text.rfind('\n').map_or(from, |end| end + 1).max(from) };
    let new = &text[from..to];
    *printed = text[..to].to_owned();
    if new.is_empty() {
        return Ok(());
    }
    let name = word(&device["device_name"]);
    if how.is_json {
        if how.is_followed {
            let event = json!({ "event": "output", "run_id": run, "device_uuid": device["device_uuid"], "text": new });
            line(&event.to_string())?;
        }
        return Ok(());
    }
    let prefix = if told.devices > 1 { format!("{}: ", printable(name)) } else { String::new() };
    let mut out = std::io::stdout().lock();
    for said in new.lines() {
        writeln!(out, "{prefix}{}", printable(&said.replace('\t', "    ")))?;
    }
    Ok(out.flush()?)
}

fn key(run: &str, device: &Value) -> (String, String) {
    (run.to_owned(), word(&device["device_uuid"]).to_owned())
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The sum over all runs, as result and exit code.
fn conclude(over: &[Value], how: How) -> Result<(), Failure> {
    let words = ["succeeded", "failed", "timed_out", "aborted", "expired"];
    let sums = words.map(|word| over.iter().map(|run| run["devices"][word].as_u64().unwrap_or_default()).sum::<u64>());
    let is_success = sums[1..].iter().all(|count| *count == 0);
    if how.is_json {
        let devices: serde_json::Map<_, _> =
            words.iter().zip(sums).map(|(word, count)| ((*word).to_owned(), json!(count))).collect();
        let result = if is_success { "succeeded" } else { "failed" };
        line(&json!({ "event": "ended", "result": result, "devices": devices }).to_string())?;
    }
    if is_success {
        return Ok(());
    }
    let said = words.iter().zip(sums).filter(|(_, count)| *count > 0);
    let said: Vec<String> = said.map(|(word, count)| format!("{count} {}", word.replace('_', " "))).collect();
    let runs: Vec<&str> = over.iter().map(|run| word(&run["run_id"])).collect();
    Err(Failure::NotAllSucceeded(format!("{}: {}", runs.join(" "), said.join(", "))))
}
