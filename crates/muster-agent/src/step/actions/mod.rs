//! The ready-made actions: one file for each. To add one, write its file and its
//! row in [`work`].

mod agent_update;
mod debian_package;
pub(super) mod docker;
pub(super) mod docker_compose;
mod download_artifact;
mod file;
mod git;
mod place;
mod script;

use std::path::{Path, PathBuf};

use muster_core::flow::actions::BuiltIn;
use nix::sys::statvfs::statvfs;

use super::context::{Context, Failure};
use super::saved::{Saved, metadata, size_bytes};

/// What an action does, in this order. It may be cut off anywhere, and is then begun
/// again from [`Work::check`], after [`Work::undo`] if [`Work::change`] had begun.
pub(super) trait Work {
    /// Looks whether the action can be carried out, and says what it will change.
    fn check(&self, cx: &Context) -> Result<Plan, Failure>;

    /// Brings what it needs beside its target, without changing anything.
    fn stage(&self, cx: &Context) -> Result<(), Failure>;

    /// Changes what it said.
    fn change(&self, cx: &Context) -> Result<(), Failure>;

    /// Looks whether the change took.
    fn verify(&self, cx: &Context) -> Result<(), Failure>;

    /// Puts back what is no file, by what `saved` says. Files follow. Repeatable.
    fn undo(&self, _cx: &Context, _saved: &Saved) -> Result<(), Failure> {
        Ok(())
    }

    /// Removes what it staged. Repeatable.
    fn tidy(&self, _cx: &Context) {}

    /// Whether what it changed is put back at once when it fails.
    fn is_all_or_nothing(&self) -> bool {
        true
    }
}

/// The actions that this version of the agent carries out, as the server is told.
pub const CARRIED_OUT: [&str; 8] = [
    "connect/debian-package",
    "connect/docker",
    "connect/docker-compose",
    "connect/download-artifact",
    "connect/file",
    "connect/git",
    "connect/script",
    "muster/agent-update",
];

/// The work of an action; `None` when this version of the agent cannot do it.
pub(super) fn work(action: &BuiltIn) -> Option<&dyn Work> {
    match action {
        BuiltIn::AgentUpdate(with) => Some(with),
        BuiltIn::DebianPackage(with) => Some(with),
        BuiltIn::DownloadArtifact(with) => Some(with),
        BuiltIn::File(with) => Some(with),
        BuiltIn::Git(with) => Some(with),
        BuiltIn::Script(with) => Some(with),
        BuiltIn::Docker(with) => Some(with),
        BuiltIn::DockerCompose(with) => Some(with),
    }
}

/// What an action is about to do to the disk.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What it changes: saved before, and put back by a restoration.
    pub(super) paths: Vec<PathBuf>,
    /// The folder that what is new goes into, and how many bytes that takes.
    pub(super) update: Option<(PathBuf, u64)>,
}

/// Left free on every file system that a step writes to.
const FREE_BYTES_MIN: u64 = 10_000_000;

impl Plan {
    /// Checks that there is room for what is new, for a copy of what is there, and for
    /// ten megabytes: where it goes, and where it is saved.
    pub(super) fn check_space(&self, saved: &Path) -> Result<(), Failure> {
        let present = self.paths.iter().try_fold(0, |sum, path| Ok::<_, std::io::Error>(sum + size_bytes(path)?))?;
        check_free(saved, present + FREE_BYTES_MIN)?;
        match &self.update {
            Some((folder, update)) => check_free(folder, present + update + FREE_BYTES_MIN),
            None => Ok(()),
        }
    }
}

fn check_free(folder: &Path, needed: u64) -> Result<(), Failure> {
    let found = statvfs(folder).map_err(|error| Failure::because(format!("{}: {error}", folder.display())))?;
    let free = found.blocks_available() * found.fragment_size();
    if free > needed {
        return Ok(());
    }
    let folder = folder.display();
    Err(Failure::because(format!("{folder} has {free} bytes free, and the step needs more than {needed}")))
}

/// Checks that a folder is there.
fn check_folder(folder: &Path) -> Result<(), Failure> {
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Failure::because(format!("{} is no folder", folder.display()))),
        Err(error) => Err(Failure::because(format!("the folder {}: {error}", folder.display()))),
    }
}

/// The folder that `path` stands in, checked to be there.
fn folder_of(path: &Path) -> Result<PathBuf, Failure> {
    let folder = path.parent().ok_or_else(|| Failure::because(format!("{} is no file", path.display())))?;
    check_folder(folder)?;
    Ok(folder.to_owned())
}

/// Checks that `path` is free or a file: an action that writes a file removes no folder.
fn check_file_place(path: &Path) -> Result<(), Failure> {
    match metadata(path)? {
        Some(found) if found.is_dir() => Err(Failure::because(format!("{} is a folder", path.display()))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use muster_core::flow::actions::USES;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_server_is_told_what_is_carried_out() {
        let smallest = [
            ("connect/debian-package", json!({ "package": "hello" })),
            ("connect/docker", json!({ "registry": "r", "image-path": "i", "image-tag": "1" })),
            ("connect/docker-compose", json!({ "device-path": "/srv", "compose": "services: {}" })),
            ("connect/download-artifact", json!({ "registry": "r", "artifactory-path": "a", "device-path": "/srv/a" })),
            ("connect/file", json!({ "device-path": "/srv/a", "content": "" })),
            ("connect/git", json!({ "repository": "https://example.com/a.git", "device-path": "/srv" })),
            ("connect/script", json!({ "script": "true" })),
            ("muster/agent-update", json!({ "version": "1.2.3", "registry": "r", "artifactory-path": "a" })),
        ];
        for uses in USES {
            let with = smallest.iter().find(|(name, _)| name == uses).map(|(_, with)| with);
            let Some(Value::Object(with)) = with else { panic!("{uses} has no example here") };
            let action = BuiltIn::read(uses, with.clone()).unwrap();
            assert_eq!(CARRIED_OUT.contains(uses), work(&action).is_some(), "{uses}");
        }
    }
}
