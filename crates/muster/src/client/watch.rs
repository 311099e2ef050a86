//! Waiting for the end of a deployment. Every deployment ends: each of its states
//! has a deadline on the server.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::failure::Failure;
use super::pages::Pages;
use super::progress::{Counts, Progress};
use super::session::Session;
use super::table::{Column, column};

/// Shortest time between two looks.
const LOOK_PERIOD_MIN: Duration = Duration::from_secs(1);
/// The time between two looks is this many times what a look took: watching a large
/// deployment must not be a load of its own.
const LOOK_PERIOD_FACTOR: u32 = 5;
/// How often in a row a look may fail before the watch does.
const FAILED_LOOKS_MAX: u32 = 10;
/// How many of the devices that did not succeed are shown with their reason.
const SHOWN_MAX: usize = 10;

const NOT_SUCCEEDED: &[Column] =
    &[column("DEVICE", "device_uuid"), column("STATUS", "status"), column("REASON", "reason")];

/// Waits until every device of a deployment has ended; an error unless all succeeded.
/// For programs, how each device ended can be printed.
pub(super) async fn to_the_end(session: &Session, deployment: &str, is_printed: bool) -> Result<(), Failure> {
    let mut progress = Progress::of(deployment);
    let targets = watched(session, deployment, &mut progress).await;
    progress.end();
    let targets = targets?;
    if is_printed {
        session.out.items(&targets, &[])?;
    }
    let counts = counted(&targets);
    if counts.succeeded() == counts.total() {
        return session.out.text(&format!("{deployment}: {}", counts.in_words()));
    }
    let bad = targets.iter().filter(|target| target["status"] != "Succeeded").take(SHOWN_MAX);
    session.out.more("Not succeeded", &with_reasons(session, deployment, bad).await?, NOT_SUCCEEDED)?;
    Err(Failure::NotAllSucceeded(format!("{deployment}: {}", counts.in_words())))
}

async fn watched(session: &Session, deployment: &str, progress: &mut Progress) -> Result<Vec<Value>, Failure> {
    let mut failed_looks = 0;
    loop {
        let begin = Instant::now();
        match look(session, deployment).await {
            Ok(targets) => {
                failed_looks = 0;
                let counts = counted(&targets);
                progress.show(counts)?;
                if counts.ended() == counts.total() {
                    return Ok(targets);
                }
            }
            Err(failure) if is_passing(&failure) && failed_looks < FAILED_LOOKS_MAX => failed_looks += 1,
            Err(failure) => return Err(failure),
        }
        sleep(LOOK_PERIOD_MIN.max(begin.elapsed() * LOOK_PERIOD_FACTOR)).await;
    }
}

async fn look(session: &Session, deployment: &str) -> Result<Vec<Value>, Failure> {
    let call = session.http.get(&[session.fleet()?, "deployments", deployment, "devices"])?;
    Pages::new(call, "deployment_by_device_uuid", None).all().await
}

/// A server that restarts in the middle of a watch is waited for.
const fn is_passing(failure: &Failure) -> bool {
    matches!(failure, Failure::Other(_) | Failure::Api { status: 429 | 500..=599, .. })
}

fn counted(targets: &[Value]) -> Counts {
    let mut counts = Counts::default();
    targets.iter().for_each(|target| counts.add(&target["status"]));
    counts
}

async fn with_reasons(
    session: &Session,
    deployment: &str,
    targets: impl Iterator<Item = &Value>,
) -> Result<Vec<Value>, Failure> {
    let mut told = Vec::new();
    for target in targets {
        let device = target["device_uuid"].as_str().unwrap_or_default();
        let call = session.http.get(&[session.fleet()?, "deployments", deployment, "devices", device])?;
        let why = call.query("enrich_info", "true").value().await?;
        told.push(json!({ "device_uuid": device, "status": why["status"], "reason": why["reason"] }));
    }
    Ok(told)
}
