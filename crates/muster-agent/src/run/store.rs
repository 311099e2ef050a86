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
use crate::set_aside::{Degraded, is_damage, open_store, set_aside};
use crate::step::dir::{self, StepDir};
use crate::step::settle;

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
    /// Opens the directory at `root` and reads every run in it. What is damaged is set
    /// aside, with the reason in `degraded`: the device must still connect.
    pub fn open(root: PathBuf, degraded: &Degraded) -> io::Result<(Self, Vec<KnownRun>)> {
        open_store(&root, degraded)?;
        let mut store = Self { root, journals: HashMap::new() };
        let mut known = Vec::new();
        for entry in fs::read_dir(&store.root)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(REMOVED) {
                remove_dir(&store.root.join(name.as_ref()))?;
            }
            let Ok(id) = name.parse::<RunId>() else { continue };
            known.extend(store.load_or_set_aside(id, degraded)?);
        }
        Ok((store, known))
    }

    fn load_or_set_aside(&mut self, id: RunId, degraded: &Degraded) -> io::Result<Option<KnownRun>> {
        let dir = self.dir(&id);
        match self.load(id) {
            Err(error) if is_damage(&error) => {
                degraded.add(set_aside(&dir, &error));
                Ok(None)
            }
            loaded => loaded,
        }
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
        if run.is_finished() {
            settle::begin(&self.dir(&id))?;
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
        self.journals.get_mut(id).ok_or_else(|| unknown(id))?.append(entry)?;
        if matches!(entry, Entry::Finished { .. }) {
            // Nothing will be put back any more.
            settle::begin(&self.dir(id))?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use muster_core::clock::Timestamp;

    use super::*;
    use crate::run::machine::Next;

    const AT: Timestamp = Timestamp::from_millis(1);

    fn id() -> RunId {
        "dp-1a2b-3c4d.1".parse().unwrap()
    }

    /// A store with one run, of which that is journalled.
    fn store_with(entries: &[Entry]) -> (tempfile::TempDir, RunStore) {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, known) = RunStore::open(dir.path().join("runs"), &Degraded::default()).unwrap();
        assert!(known.is_empty());
        store.create(&id(), 7, Origin::Aborted).unwrap();
        entries.iter().for_each(|entry| store.append(&id(), entry).unwrap());
        (dir, store)
    }

    fn reopened(store: &RunStore) -> Vec<KnownRun> {
        RunStore::open(store.root.clone(), &Degraded::default()).unwrap().1
    }

    #[test]
    fn finds_its_runs_again() {
        let (_dir, store) = store_with(&[Entry::Accepted { at: AT }]);
        let known = reopened(&store);
        assert_eq!((known.len(), &known[0].id, known[0].arrival, known[0].run.reports()), (1, &id(), 7, 1));
        assert_eq!(store.report(&id(), 1).unwrap(), RunEvent::Accepted);
    }

    #[test]
    fn a_run_whose_instruction_never_reached_the_disk_is_unknown() {
        let (_dir, store) = store_with(&[]);
        fs::remove_file(store.dir(&id()).join("instruction.json")).unwrap();
        assert!(reopened(&store).is_empty());
        assert!(!store.dir(&id()).exists());
    }

    #[test]
    fn a_removed_run_does_not_come_back() {
        let (_dir, mut store) = store_with(&[]);
        // As a power cut in the middle of removing leaves it.
        let removed = store.root.join(format!("{}{REMOVED}", id()));
        fs::rename(store.dir(&id()), &removed).unwrap();
        assert!(reopened(&store).is_empty() && !removed.exists());
        store.create(&id(), 8, Origin::Aborted).unwrap();
        store.remove(&id()).unwrap();
        assert_eq!(fs::read_dir(&store.root).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_run_ends_and_stays_ended() {
        let (_dir, store) = store_with(&[Entry::Accepted { at: AT }, Entry::StepStarted { index: 0, at: AT }]);
        let path = store.dir(&id()).join("journal.jsonl");
        let mut bytes = fs::read(&path).unwrap();
        bytes[2] = b'x';
        fs::write(&path, bytes).unwrap();
        for _ in 0..2 {
            let known = reopened(&store);
            assert_eq!((known[0].run.next(), known[0].run.reports()), (Next::Over, 1));
        }
    }

    #[test]
    fn what_is_left_of_steps_is_removed_unless_one_runs() {
        for (entry, is_kept) in [(Entry::Accepted { at: AT }, false), (Entry::StepStarted { index: 0, at: AT }, true)] {
            let (_dir, store) = store_with(&[entry]);
            fs::create_dir(store.step(&id(), 0).path()).unwrap();
            reopened(&store);
            assert_eq!(store.step(&id(), 0).path().exists(), is_kept);
        }
    }
}
