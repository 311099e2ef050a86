//! Which copy of the agent is started: a function of what one file says.

use muster_core::limits::AGENT_TRIAL_STARTS_MAX;
use muster_core::release::ReleaseVersion;
use serde::{Deserialize, Serialize};

/// A copy of the agent, as its release was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Names its folder.
    pub version: ReleaseVersion,
    /// SHA-256 of the program, in hexadecimal.
    pub sha256: String,
}

/// A copy that has not yet reached the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The copy.
    pub copy: Copy,
    /// The step that wants it.
    pub by: String,
    /// How long each start has to reach the server, in seconds.
    pub window_s: u64,
    /// How many times it was started; counted before it is.
    pub starts: u32,
    /// Why it ended the last time, as far as is known.
    #[serde(default)]
    pub last_end: Option<String>,
    /// Why it is to end, when it is.
    #[serde(default)]
    pub cancelled: Option<String>,
}

/// How the last trial ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The step that wanted it.
    pub by: String,
    /// What was tried.
    pub version: ReleaseVersion,
    /// Why it was given up; `None` when it reached the server.
    pub failure: Option<String>,
}

/// `slots.json`: everything that decides. It is replaced at once, so a power cut leaves
/// one state or the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slots {
    /// The copy that runs; `None` for the program that was installed.
    pub current: Option<Copy>,
    /// The one that ran before it.
    pub previous: Option<Copy>,
    /// The one that is tried.
    pub trial: Option<Trial>,
    /// How the last trial ended.
    pub ended: Option<Ended>,
}

/// What is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The program that was installed.
    Installed,
    /// A copy that has proved itself.
    Copy(Copy),
    /// A new copy, under the launcher's eyes.
    Trial(Trial),
    /// Nothing: first the trial is given up, for this reason.
    GiveUp(String),
}

impl Slots {
    /// What is due. `is_good` tells whether a copy is on the disk as it was signed.
    pub fn choose(&self, installed: &ReleaseVersion, is_good: impl Fn(&Copy) -> bool) -> Start {
        match &self.trial {
            Some(trial) => Self::try_or_give_up(trial, is_good),
            None => self.proved(installed, is_good),
        }
    }

    fn try_or_give_up(trial: &Trial, is_good: impl Fn(&Copy) -> bool) -> Start {
        let starts = trial.starts;
        if let Some(why) = &trial.cancelled {
            return Start::GiveUp(why.clone());
        }
        if starts >= AGENT_TRIAL_STARTS_MAX {
            let last = trial.last_end.as_deref().unwrap_or("it was cut off");
            return Start::GiveUp(format!(
                "it was started {starts} times without reaching the server; the last time {last}"
            ));
        }
        if !is_good(&trial.copy) {
            return Start::GiveUp("its program on the disk is damaged".to_owned());
        }
        Start::Trial(trial.clone())
    }

    /// A package that was installed later than the last update wins over its copy.
    fn proved(&self, installed: &ReleaseVersion, is_good: impl Fn(&Copy) -> bool) -> Start {
        let copies = self.current.iter().chain(&self.previous);
        let mut usable = copies.filter(|copy| !copy.version.is_older_than(installed) && is_good(copy));
        // What was updated back to the installed program has no current copy.
        match &self.current {
            Some(_) => usable.next().map_or(Start::Installed, |copy| Start::Copy(copy.clone())),
            None => Start::Installed,
        }
    }

    /// Counts a start of the trial.
    pub fn started(&mut self) {
        if let Some(trial) = &mut self.trial {
            trial.starts += 1;
        }
    }

    /// The copy that is tried has reached the server. Whether it was on trial.
    pub fn prove(&mut self, version: &str) -> bool {
        let is_it = |trial: &mut Trial| trial.copy.version.as_str() == version && trial.cancelled.is_none();
        let Some(trial) = self.trial.take_if(is_it) else { return false };
        self.ended = Some(Ended { by: trial.by, version: trial.copy.version.clone(), failure: None });
        if self.current.as_ref() != Some(&trial.copy) {
            self.previous = self.current.replace(trial.copy);
        }
        true
    }

    /// Gives the trial up.
    pub fn give_up(&mut self, why: String) {
        if let Some(trial) = self.trial.take() {
            self.ended = Some(Ended { by: trial.by, version: trial.copy.version, failure: Some(why) });
        }
    }

    /// Whether a copy is of use to anyone.
    pub fn names(&self, version: &str) -> bool {
        let trial = self.trial.as_ref().map(|trial| &trial.copy);
        self.current.iter().chain(&self.previous).chain(trial).any(|copy| copy.version.as_str() == version)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> ReleaseVersion {
        ReleaseVersion::parse(text).unwrap()
    }

    fn copy(text: &str) -> Copy {
        Copy { version: version(text), sha256: text.to_owned() }
    }

    fn trial(text: &str, starts: u32) -> Trial {
        Trial { copy: copy(text), by: "run/0".to_owned(), window_s: 60, starts, last_end: None, cancelled: None }
    }

    fn slots(current: Option<&str>, previous: Option<&str>, trial: Option<Trial>) -> Slots {
        Slots { current: current.map(copy), previous: previous.map(copy), trial, ended: None }
    }

    #[test]
    fn what_is_started() {
        let cases = [
            (slots(None, None, None), vec![], Start::Installed),
            (slots(Some("2"), None, None), vec!["2"], Start::Copy(copy("2"))),
            (slots(Some("3"), Some("2"), None), vec!["2", "3"], Start::Copy(copy("3"))),
            (slots(Some("3"), Some("2"), None), vec!["2"], Start::Copy(copy("2"))),
            (slots(Some("3"), Some("2"), None), vec![], Start::Installed),
            // A newer package was installed.
            (slots(Some("0.9"), None, None), vec!["0.9"], Start::Installed),
            (slots(Some("2"), None, Some(trial("3", 2))), vec!["2", "3"], Start::Trial(trial("3", 2))),
            (
                slots(Some("2"), None, Some(trial("3", 0))),
                vec!["2"],
                Start::GiveUp("its program on the disk is damaged".to_owned()),
            ),
        ];
        for (slots, good, expected) in cases {
            let found = slots.choose(&version("1.0"), |copy| good.contains(&copy.version.as_str()));
            assert_eq!(found, expected, "{slots:?} {good:?}");
        }
        let spent = slots(None, None, Some(trial("3", AGENT_TRIAL_STARTS_MAX))).choose(&version("1"), |_| true);
        assert!(matches!(&spent, Start::GiveUp(why) if why.contains("3 times")), "{spent:?}");
    }

    #[test]
    fn a_trial_that_is_cancelled_cannot_prove_itself_any_more() {
        let mut slots = slots(Some("2"), None, Some(Trial { cancelled: Some("no".to_owned()), ..trial("3", 1) }));
        assert!(!slots.prove("3"));
        slots.give_up("no".to_owned());
        assert_eq!((slots.current, slots.trial), (Some(copy("2")), None));
    }

    /// What can happen to a device, each a single replacement of the file.
    #[derive(Clone, Debug)]
    enum Event {
        Begin(u32),
        Launch,
        Prove,
        Cancel,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (2_u32..6).prop_map(Event::Begin),
            Just(Event::Launch),
            Just(Event::Launch),
            Just(Event::Prove),
            Just(Event::Cancel)
        ]
    }

    proptest! {
        /// Whatever happened, and wherever the power went: what has proved itself is started
        /// after at most three starts of what has not.
        #[test]
        fn a_working_agent_is_always_found(events in prop::collection::vec(event(), 0..40)) {
            let (mut slots, mut proved) = (Slots::default(), vec!["1".to_owned()]);
            for event in events {
                match event {
                    Event::Begin(n) if slots.trial.is_none() => slots.trial = Some(trial(&n.to_string(), 0)),
                    Event::Launch => match slots.choose(&version("1"), |_| true) {
                        Start::Trial(_) => slots.started(),
                        Start::GiveUp(why) => slots.give_up(why),
                        _ => {}
                    },
                    Event::Prove => if let Some(version) = slots.trial.as_ref().map(|trial| trial.copy.version.clone())
                        && slots.prove(version.as_str()) {
                        proved.push(version.to_string());
                    },
                    Event::Cancel => if let Some(trial) = &mut slots.trial {
                        trial.cancelled = Some("stopped".to_owned());
                    },
                    Event::Begin(_) => {}
                }
                // The power goes here; every new agent is bad from now on.
                let mut after = slots.clone();
                let mut starts = 0;
                let found = loop {
                    match after.choose(&version("1"), |_| true) {
                        Start::Trial(_) => { after.started(); starts += 1 }
                        Start::GiveUp(why) => after.give_up(why),
                        Start::Installed => break "1".to_owned(),
                        Start::Copy(copy) => break copy.version.to_string(),
                    }
                };
                prop_assert!(starts <= AGENT_TRIAL_STARTS_MAX);
                prop_assert_eq!(Some(&found), proved.last());
            }
        }
    }
}
