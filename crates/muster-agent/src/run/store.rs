//! The runs on the disk: `runs/RUN/` with `instruction.json`, `journal.jsonl` and
//! a directory for the step that is running.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use muster_core::target::{Reason, RunEvent, RunOutcome};
use muster_link::RunId;
use serde::{Deserialize, Serialize};

use super::book::KnownRun;
use super::entry::Entry;
use super::journal::Journal;
use super::machine::{Origin, Run};
use crate::files::{make_private_dir, read_json, remove_dir, sync_parent, write_json};
use crate::step::dir::{self, StepDir};

/// Ends the name of a directory that is about to be removed.
const REMOVED: &str = ".removed";

/// `instruction.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    arrival: u64,
    origin: Origin,
}

/// The directory of all runs.
#[derive(Debug)]
pub struct RunStore {
    root: PathBuf,
    journals: HashMap<RunId, Journal>,
}

impl RunStore {
    /// Opens the directory at `root` and reads every run in it.
    pub fn open(root: PathBuf) -> io::Result<(Self, Vec<KnownRun>)> {
        make_private_dir(&root)?;
        sync_parent(&root)?;
        let mut store = Self { root, journals: HashMap::new() };
        let mut known = Vec::new();
        for entry in fs::read_dir(&store.root)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(REMOVED) {
                remove_dir(&store.root.join(name.as_ref()))?;
            }
            let Ok(id) = name.parse::<RunId>() else { continue };
            known.extend(store.load(id)?);
        }
        Ok((store, known))
    }

    fn load(&mut self, id: RunId) -> io::Result<Option<KnownRun>> {
        let saved: Option<Saved> = match read_json(&self.dir(&id).join("instruction.json")) {
            // Written whole or not at all; what cannot be read was damaged since.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!(run = %id, %error, "the run's instruction is damaged; the run is dropped");
                None
            }
            other => other?,
        };
        let Some(Saved { arrival, origin }) = saved else {
            // The power went before the instruction was down: the server will ask again.
            self.remove(&id)?;
            return Ok(None);
        };
        let opened = Journal::open(&self.dir(&id).join("journal.jsonl"))?;
        let mut run = Run::new(origin);
        opened.entries.iter().for_each(|entry| run.apply(entry));
        self.journals.insert(id.clone(), opened.journal);
        if opened.is_damaged {
            tracing::error!(run = %id, "the run's journal is damaged; the run ends here");
            let entry = damaged();
            self.append(&id, &entry)?;
            run.apply(&entry);
        }
        if run.running().is_none() {
            dir::remove_all(&self.dir(&id))?;
        }
        Ok(Some(KnownRun { id, arrival, run }))
    }

    /// Makes a run's directory.
    pub fn create(&mut self, id: &RunId, arrival: u64, origin: Origin) -> io::Result<()> {
        let dir = self.dir(id);
        make_private_dir(&dir)?;
        write_json(&dir.join("instruction.json"), &Saved { arrival, origin })?;
        sync_parent(&dir)?;
        let opened = Journal::open(&dir.join("journal.jsonl"))?;
        self.journals.insert(id.clone(), opened.journal);
        Ok(())
    }

    /// Writes an entry into a run's journal, to the disk.
    pub fn append(&mut self, id: &RunId, entry: &Entry) -> io::Result<()> {
        self.journals.get_mut(id).ok_or_else(|| unknown(id))?.append(entry)
    }

    /// A report of a run.
    pub fn report(&self, id: &RunId, seq: i64) -> io::Result<RunEvent> {
        self.journals.get(id).ok_or_else(|| unknown(id))?.report(seq)
    }

    /// The directory of a step.
    pub fn step(&self, id: &RunId, index: u32) -> StepDir {
        StepDir::new(self.dir(id).join(format!("step-{index}")))
    }

    /// Removes all that is known of a run.
    ///
    /// The directory loses its name first: one that lost its journal but kept its
    /// instruction would be carried out again.
    pub fn remove(&mut self, id: &RunId) -> io::Result<()> {
        self.journals.remove(id);
        let (dir, removed) = (self.dir(id), self.root.join(format!("{id}{REMOVED}")));
        remove_dir(&removed)?;
        fs::rename(&dir, &removed)?;
        sync_parent(&removed)?;
        remove_dir(&removed)
    }

    fn dir(&self, id: &RunId) -> PathBuf {
        self.root.join(id.to_string())
    }
}

/// How a run ends of which the disk has lost a part: what it did is not known, and
/// doing it twice could be worse than not doing it.
fn damaged() -> Entry {
    let text = "The run's journal on the device was damaged; what the run did is not known.";
    Entry::Finished { outcome: RunOutcome::Failed, reason: Reason::new("journal_damaged", text) }
}

fn unknown(id: &RunId) -> io::Error {
    io::Error::other(format!("the run {id} has no journal"))
}
