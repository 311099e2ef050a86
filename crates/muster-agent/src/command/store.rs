//! The commands on the disk: `commands/ID/` with `order.json`, then `began`, then
//! `end.json`, then `stored`, each written before what follows it is done.

use std::fs;
use std::io;
use std::path::PathBuf;

use muster_core::command::CommandResult;
use muster_core::ids::CommandRunUuid;

use super::desk::{Known, Order, Stage};
use crate::files::{make_private_dir, read_json, remove_dir, sync_parent, write_atomically, write_json};
use crate::set_aside::{Degraded, is_damage, open_store, set_aside};
use crate::step::dir::StepDir;

/// Ends the name of a directory that is about to be removed.
const REMOVED: &str = ".removed";

/// The directory of all commands.
#[derive(Debug)]
pub struct CommandStore {
    root: PathBuf,
}

impl CommandStore {
    /// Opens the directory at `root` and reads every command in it. What is damaged is set
    /// aside, with the reason in `degraded`: the device must still connect.
    pub fn open(root: PathBuf, degraded: &Degraded) -> io::Result<(Self, Vec<Known>)> {
        open_store(&root, degraded)?;
        let store = Self { root };
        let mut known = Vec::new();
        for entry in fs::read_dir(&store.root)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(REMOVED) {
                remove_dir(&store.root.join(name.as_ref()))?;
            }
            let Ok(id) = name.parse::<CommandRunUuid>() else { continue };
            match store.load(&id) {
                Ok(found) => known.extend(found),
                Err(error) if is_damage(&error) => degraded.add(set_aside(&store.dir(&id), &error)),
                Err(error) => return Err(error),
            }
        }
        Ok((store, known))
    }

    fn load(&self, id: &CommandRunUuid) -> io::Result<Option<Known>> {
        let Some(order) = read_json::<Order>(&self.dir(id).join("order.json"))? else {
            // The power went before the order was down: the server will ask again.
            self.remove(id)?;
            return Ok(None);
        };
        let has = |name: &str| self.dir(id).join(name).exists();
        let stage = match (has("began"), has("end.json"), has("stored")) {
            (.., true) => Stage::Stored,
            (_, true, false) => Stage::Ended,
            (true, false, false) => Stage::Running,
            (false, false, false) => Stage::Waiting,
        };
        Ok(Some(Known { id: id.clone(), order, stage }))
    }

    /// Writes a command down.
    pub fn create(&self, id: &CommandRunUuid, order: &Order) -> io::Result<()> {
        let dir = self.dir(id);
        make_private_dir(&dir)?;
        write_json(&dir.join("order.json"), order)?;
        sync_parent(&dir)
    }

    /// Writes down that a command begins.
    pub fn begin(&self, id: &CommandRunUuid) -> io::Result<()> {
        write_atomically(&self.dir(id).join("began"), b"")
    }

    /// Writes down how a command ended, and removes what its runner left.
    pub fn end(&self, id: &CommandRunUuid, result: &CommandResult) -> io::Result<()> {
        write_json(&self.dir(id).join("end.json"), result)?;
        self.step(id).remove()
    }

    /// How a command ended.
    pub fn ended(&self, id: &CommandRunUuid) -> io::Result<CommandResult> {
        let result = read_json(&self.dir(id).join("end.json"))?;
        result.ok_or_else(|| io::Error::other(format!("the end of the command {id} is missing")))
    }

    /// Writes down that the server knows how a command ended.
    pub fn settle(&self, id: &CommandRunUuid) -> io::Result<()> {
        write_atomically(&self.dir(id).join("stored"), b"")
    }

    /// Where a command's runner works.
    pub fn step(&self, id: &CommandRunUuid) -> StepDir {
        StepDir::new(self.dir(id).join("step-0"))
    }

    /// Removes all that is known of a command. The directory loses its name first: one that
    /// lost `began` but kept its order would be carried out again.
    pub fn remove(&self, id: &CommandRunUuid) -> io::Result<()> {
        let (dir, removed) = (self.dir(id), self.root.join(format!("{id}{REMOVED}")));
        remove_dir(&removed)?;
        fs::rename(&dir, &removed)?;
        sync_parent(&removed)?;
        remove_dir(&removed)
    }

    fn dir(&self, id: &CommandRunUuid) -> PathBuf {
        self.root.join(id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use muster_core::clock::Timestamp;
    use muster_core::command::CommandEnd;
    use muster_core::target::Reason;

    use super::*;

    #[test]
    fn finds_each_command_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("commands");
        let (store, known) = CommandStore::open(root.clone(), &Degraded::default()).unwrap();
        assert_eq!(known, []);
        let id: CommandRunUuid = "cr-1a2b-3c4d".parse().unwrap();
        let begin_before = Timestamp::from_millis(5);
        let order = Order { arrival: 1, script: "x".to_owned(), user: String::new(), timeout_ms: 7, begin_before };
        let stage = || CommandStore::open(root.clone(), &Degraded::default()).unwrap().1[0].stage;
        store.create(&id, &order).unwrap();
        assert_eq!(stage(), Stage::Waiting);
        store.begin(&id).unwrap();
        assert_eq!(stage(), Stage::Running);
        let result = CommandResult::unbegun(CommandEnd::Interrupted, Reason::default());
        store.end(&id, &result).unwrap();
        assert_eq!((stage(), store.ended(&id).unwrap()), (Stage::Ended, result));
        store.settle(&id).unwrap();
        assert_eq!(stage(), Stage::Stored);
        store.remove(&id).unwrap();
        assert_eq!(CommandStore::open(root, &Degraded::default()).unwrap().1, []);
    }
}
