//! `connect/file`.

use std::fs;
use std::io::Write;
use std::path::Path;

use muster_core::flow::actions::file::File;

use super::place::{Rights, beside, put};
use super::{Plan, Work, check_file_place, folder_of};
use crate::files::private_file;
use crate::step::context::{Context, Failure};
use crate::step::fetch::{fetch, size_of};
use crate::step::saved::remove;

impl Work for File {
    fn check(&self, cx: &Context) -> Result<Plan, Failure> {
        let path = Path::new(self.device_path.as_str());
        check_file_place(path)?;
        Rights::of(path, self.mode.as_ref(), self.owner.as_ref())?;
        let update = self.content.as_ref().map_or_else(|| size_of(cx), |content| content.len() as u64);
        Ok(Plan { paths: vec![path.to_owned()], update: Some((folder_of(path)?, update)) })
    }

    fn stage(&self, cx: &Context) -> Result<(), Failure> {
        let beside = beside(cx, Path::new(self.device_path.as_str()));
        match &self.content {
            Some(content) => Ok(private_file().truncate(true).open(&beside)?.write_all(content.as_bytes())?),
            None => fetch(cx, &beside, None),
        }
    }

    fn change(&self, cx: &Context) -> Result<(), Failure> {
        let path = Path::new(self.device_path.as_str());
        let rights = Rights::of(path, self.mode.as_ref(), self.owner.as_ref())?;
        put(&beside(cx, path), path, &rights)?;
        cx.say(&format!("{} is written", path.display()));
        Ok(())
    }

    fn verify(&self, _cx: &Context) -> Result<(), Failure> {
        let path = Path::new(self.device_path.as_str());
        if self.content.as_ref().is_some_and(|content| fs::read(path).ok().as_deref() != Some(content.as_bytes())) {
            return Err(Failure::because(format!("{} does not hold what was written", path.display())));
        }
        Rights::of(path, self.mode.as_ref(), self.owner.as_ref())?.check(path)
    }

    fn tidy(&self, cx: &Context) {
        let _ = remove(&beside(cx, Path::new(self.device_path.as_str())));
    }
}
