//! `connect/download-artifact`.

use std::path::{Path, PathBuf};

use muster_core::flow::actions::download_artifact::DownloadArtifact;
use muster_core::flow::actions::values::Count;

use super::place::{Rights, beside, put};
use super::{Plan, Work, check_file_place, folder_of};
use crate::step::context::{Context, Failure};
use crate::step::fetch::{fetch, size_of};
use crate::step::saved::remove;

impl Work for DownloadArtifact {
    fn check(&self, cx: &Context) -> Result<Plan, Failure> {
        let path = target(self)?;
        check_file_place(&path)?;
        Rights::of(&path, self.mode.as_ref(), self.owner.as_ref())?;
        Ok(Plan { update: Some((folder_of(&path)?, size_of(cx))), paths: vec![path] })
    }

    fn stage(&self, cx: &Context) -> Result<(), Failure> {
        let limit = self.max_kilobytes_per_second.as_ref().and_then(Count::get);
        fetch(cx, &beside(cx, &target(self)?), limit.map(|kilobytes| u64::from(kilobytes) * 1_000))
    }

    fn change(&self, cx: &Context) -> Result<(), Failure> {
        let path = target(self)?;
        let rights = Rights::of(&path, self.mode.as_ref(), self.owner.as_ref())?;
        put(&beside(cx, &path), &path, &rights)?;
        cx.say(&format!("{} is written", path.display()));
        Ok(())
    }

    fn verify(&self, _cx: &Context) -> Result<(), Failure> {
        let path = target(self)?;
        Rights::of(&path, self.mode.as_ref(), self.owner.as_ref())?.check(&path)
    }

    fn tidy(&self, cx: &Context) {
        if let Ok(path) = target(self) {
            let _ = remove(&beside(cx, &path));
        }
    }
}

/// The file that is written: in a folder it has the artifact's name.
fn target(with: &DownloadArtifact) -> Result<PathBuf, Failure> {
    let path = Path::new(with.device_path.as_str());
    if !path.is_dir() && !with.device_path.as_str().ends_with('/') {
        return Ok(path.to_owned());
    }
    let name = with.artifactory_path.as_str().rsplit('/').next().filter(|name| !matches!(*name, "" | "." | ".."));
    name.map(|name| path.join(name)).ok_or_else(|| Failure::because("\"artifactory-path\" names no file"))
}
