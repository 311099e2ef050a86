//! Following a deployment to its end. Every deployment ends: each of its states has a
//! deadline on the server. A look is one call, however many devices there are.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::Signal;
use tokio::time::{Instant, sleep};

use super::failure::Failure;
use super::outcome;
use super::output::line;
use super::progress::{Progress, Seen};
use super::session::Session;

/// Shortest time between two looks.
const LOOK_PERIOD_MIN: Duration = Duration::from_secs(1);
/// The time between two looks is this many times what a look took: watching a large
/// deployment must not be a load of its own.
const LOOK_PERIOD_FACTOR: u32 = 5;
/// How often in a row a look may fail before the watch does.
const FAILED_LOOKS_MAX: u32 = 10;

/// Options of every command that follows a deployment.
#[derive(Args)]
pub(crate) struct FollowArgs {
    /// Do not wait for a person: end when the deployment is paused
    #[arg(long)]
    no_input: bool,
}

impl FollowArgs {
    /// How it is followed. A paused deployment is waited for only where a person looks on.
    pub(super) fn how(&self) -> Follow {
        let is_watched = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        Follow { waits_while_paused: is_watched && !self.no_input, is_events: false }
    }
}

/// How a deployment is followed.
#[derive(Clone, Copy)]
pub(super) struct Follow {
    /// Whether somebody may resume it meanwhile.
    pub(super) waits_while_paused: bool,
    /// Whether each change is printed as JSON.
    pub(super) is_events: bool,
}

/// Follows a deployment unless Ctrl-C comes first, which leaves it as it is.
pub(super) async fn until_interrupted(
    interrupt: &mut Signal,
    deployment: &str,
    follow: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    tokio::select! {
        ended = follow => ended,
        _ = interrupt.recv() => {
            let text = format!("{deployment} goes on; follow it with: muster deployments watch {deployment}");
            Err(Failure::Interrupted(text))
        }
    }
}

/// Follows a deployment until every device has ended, and says what failed; an error unless
/// all succeeded.
pub(super) async fn follow(session: &Session, deployment: &str, how: Follow) -> Result<(), Failure> {
    let mut progress = if how.is_events { Progress::silent() } else { Progress::of(deployment) };
    let seen = watched(session, deployment, how, &mut progress).await;
    progress.end();
    let seen = seen?;
    if how.is_events {
        let failed = outcome::failed(session, deployment, &seen).await?;
        line(&outcome::event(deployment, &seen, &failed).to_string())?;
        return verdict(deployment, &seen);
    }
    let counts = seen.counts;
    if counts.succeeded() == counts.total() {
        return session.out.text(&format!("{deployment}: {}", counts.in_words()));
    }
    let failed = outcome::failed(session, deployment, &seen).await?;
    session.out.text(&outcome::in_words(&seen, &failed))?;
    verdict(deployment, &seen)
}

fn verdict(deployment: &str, seen: &Seen) -> Result<(), Failure> {
    let counts = seen.counts;
    if !seen.is_over() {
        return Err(Failure::Paused(paused(deployment, seen)));
    }
    match counts.succeeded() == counts.total() {
        true => Ok(()),
        false => Err(Failure::NotAllSucceeded(format!("{deployment}: {}", counts.in_words()))),
    }
}

fn paused(deployment: &str, seen: &Seen) -> String {
    let why = match seen.status() {
        "failure_budget_spent" => "paused: more devices failed than may",
        _ => "paused",
    };
    let words = seen.counts.in_words();
    format!("{deployment} is {why} ({words}); go on with: muster deployments resume {deployment}")
}

/// Until it has ended, or is paused with nobody there who might resume it.
async fn watched(session: &Session, deployment: &str, how: Follow, progress: &mut Progress) -> Result<Seen, Failure> {
    let (mut failed_looks, mut is_pause_told, mut told) = (0, false, None);
    loop {
        let begin = Instant::now();
        match look(session, deployment).await {
            Ok(seen) => {
                failed_looks = 0;
                progress.show(&seen)?;
                if how.is_events && told.as_ref() != Some(&seen) {
                    line(&seen.event(deployment).to_string())?;
                }
                if seen.is_over() || (seen.is_at_rest() && !how.waits_while_paused) {
                    return Ok(seen);
                }
                if seen.is_paused() && !is_pause_told && how.waits_while_paused {
                    progress.say(&format!("{}; waiting", paused(deployment, &seen)))?;
                }
                is_pause_told = seen.is_paused();
                told = Some(seen);
            }
            Err(failure) if failure.is_passing() && failed_looks < FAILED_LOOKS_MAX => failed_looks += 1,
            Err(failure) => return Err(failure),
        }
        sleep(LOOK_PERIOD_MIN.max(begin.elapsed() * LOOK_PERIOD_FACTOR)).await;
    }
}

async fn look(session: &Session, deployment: &str) -> Result<Seen, Failure> {
    let call = session.http.get(&[session.fleet()?, "deployments", deployment])?;
    Ok(Seen::of(&call.query("enrich_info", "true").value().await?))
}

impl Seen {
    /// How it stands, for programs.
    fn event(&self, deployment: &str) -> Value {
        json!({
            "event": "progress", "deployment_uuid": deployment, "devices": self.devices, "rollout": self.rollout,
        })
    }
}
