//! `muster/agent-update`: brings a new copy of the agent, and waits how its trial ends.
//!
//! The step's runner outlives both agents. It writes down the trial; the agent sees it
//! and gives way to the launcher; the copy that works in the end finds this step running
//! and reports what became of it.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use muster_core::flow::actions::agent_update::AgentUpdate;
use muster_core::flow::actions::values::Count;
use muster_core::limits::AGENT_HEALTH_MINUTES_DEFAULT;
use muster_core::release::ReleaseVersion;

use super::{Plan, Work};
use crate::step::context::{Context, Failure};
use crate::step::fetch::{fetch, size_of};
use crate::step::saved::remove;
use crate::update::home::{Home, sha256_of};
use crate::update::own_version;
use crate::update::release::{Refusal, ReleaseTrust, unpack};
use crate::update::slots::{Copy, Ended, Slots, Trial};

/// How often the step looks how the trial stands.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a cancelled trial may take to end.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(20);
const SECONDS_PER_MINUTE: u64 = 60;

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::because(refusal.to_string())
    }
}

/// Where the step stands, by what is on the disk.
enum Standing {
    /// To be brought.
    New,
    /// Being tried.
    Tried,
    /// Over, well or with a reason.
    Over(Option<String>),
}

impl Work for AgentUpdate {
    fn check(&self, cx: &Context) -> Result<Plan, Failure> {
        if !cx.about.is_updatable {
            return Err(Failure::because("this agent is a part of another program, and is updated with it"));
        }
        wanted(self)?;
        ReleaseTrust::new(&state(cx)).keys()?;
        // What is fetched, and the program out of it.
        Ok(Plan { paths: Vec::new(), update: Some((state(cx), 2 * size_of(cx))) })
    }

    fn stage(&self, cx: &Context) -> Result<(), Failure> {
        if !matches!(standing(self, cx)?, Standing::New) {
            return Ok(());
        }
        let (trust, slots) = (ReleaseTrust::new(&state(cx)), home(cx).read()?);
        fetch(cx, &cx.scratch(RELEASE), None)?;
        let manifest = unpack(&cx.scratch(RELEASE), &cx.scratch(PROGRAM), &trust.keys()?)?;
        let kept = slots.previous.map(|copy| copy.version);
        Ok(trust.check(&manifest, &wanted(self)?, &present()?, kept.as_ref())?)
    }

    fn change(&self, cx: &Context) -> Result<(), Failure> {
        if matches!(standing(self, cx)?, Standing::New) {
            begin(self, cx)?;
        }
        wait(self, cx)?;
        cx.say(&format!("the agent {} runs and has reached the server", self.version));
        Ok(())
    }

    fn verify(&self, _cx: &Context) -> Result<(), Failure> {
        Ok(())
    }

    fn tidy(&self, cx: &Context) {
        let _ = remove(&cx.scratch(RELEASE));
        let _ = remove(&cx.scratch(PROGRAM));
    }
}

const RELEASE: &str = "release";
const PROGRAM: &str = "program";

/// The state directory: the runs are in it, and the step in its run.
fn state(cx: &Context) -> PathBuf {
    cx.dir.path().ancestors().nth(3).unwrap_or(Path::new("/")).to_owned()
}

fn home(cx: &Context) -> Home {
    Home::new(&state(cx))
}

/// Names the step for ever: its run and its place.
fn own_name(cx: &Context) -> String {
    let run = cx.dir.path().parent().and_then(Path::file_name).unwrap_or_default();
    format!("{}/{}", run.to_string_lossy(), cx.spec.index)
}

fn wanted(with: &AgentUpdate) -> Result<ReleaseVersion, Failure> {
    ReleaseVersion::parse(with.version.as_str()).map_err(|invalid| Failure::because(invalid.to_string()))
}

fn present() -> Result<ReleaseVersion, Failure> {
    ReleaseVersion::parse(own_version()).map_err(|invalid| Failure::because(invalid.to_string()))
}

fn standing(with: &AgentUpdate, cx: &Context) -> Result<Standing, Failure> {
    let (slots, by) = (home(cx).read()?, own_name(cx));
    if let Some(Ended { failure, .. }) = slots.ended.filter(|ended| ended.by == by) {
        return Ok(Standing::Over(failure));
    }
    match slots.trial {
        Some(trial) if trial.by == by => Ok(Standing::Tried),
        Some(_) => Err(Failure::because("another update of the agent is under way")),
        None if present()? == wanted(with)? => Ok(Standing::Over(None)),
        None => Ok(Standing::New),
    }
}

fn begin(with: &AgentUpdate, cx: &Context) -> Result<(), Failure> {
    let (home, program) = (home(cx), cx.scratch(PROGRAM));
    let minutes = with.health_minutes.as_ref().and_then(Count::get).unwrap_or(AGENT_HEALTH_MINUTES_DEFAULT);
    let copy = Copy { version: wanted(with)?, sha256: sha256_of(&program)? };
    let by = own_name(cx);
    let trial = Trial {
        copy: copy.clone(),
        by,
        window_s: u64::from(minutes) * SECONDS_PER_MINUTE,
        starts: 0,
        last_end: None,
        cancelled: None,
    };
    home.prune(&home.read()?)?;
    home.keep(&program, copy.version.as_str())?;
    home.change(|slots| slots.trial = Some(trial))?;
    cx.say(&format!("the agent {} is on the device, and is tried now", copy.version));
    Ok(())
}

fn wait(with: &AgentUpdate, cx: &Context) -> Result<(), Failure> {
    loop {
        match standing(with, cx)? {
            Standing::Over(None) => return Ok(()),
            Standing::Over(Some(why)) => {
                let text = format!("the agent {} was given up, and the one before it runs again: {why}", with.version);
                return Err(Failure::because(text));
            }
            Standing::New => return Err(Failure::because("the agent has lost what it knew of its update")),
            Standing::Tried => {}
        }
        if let Err(failure) = cx.check_time() {
            return cancel(cx, failure);
        }
        sleep(LOOK_EVERY);
    }
}

/// Ends the trial and waits until the old agent is to be started. A new agent that has
/// proved itself in the last moment stays.
fn cancel(cx: &Context, failure: Failure) -> Result<(), Failure> {
    let by = own_name(cx);
    let is_own = |slots: &Slots| slots.trial.as_ref().is_some_and(|trial| trial.by == by);
    let why = failure.why.clone();
    home(cx).change(|slots| {
        if let Some(trial) = slots.trial.as_mut().filter(|trial| trial.by == by) {
            trial.cancelled = Some(why);
        }
    })?;
    let looks = CANCEL_TIMEOUT.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        let slots = home(cx).read()?;
        if !is_own(&slots) {
            let is_proved = slots.ended.is_some_and(|ended| ended.by == by && ended.failure.is_none());
            return if is_proved { Ok(()) } else { Err(failure) };
        }
        sleep(LOOK_EVERY);
    }
    Err(failure)
}
