//! `connect/script`.

use std::path::{Path, PathBuf};
use std::process::Command;

use muster_core::flow::actions::script::Script;
use muster_core::flow::actions::values::{DevicePath, Text};

use super::{Plan, Work, check_folder};
use crate::files::write_atomically;
use crate::step::context::{Context, Failure};
use crate::step::fetch::fetch;

impl Work for Script {
    fn check(&self, _cx: &Context) -> Result<Plan, Failure> {
        check_folder(Path::new(folder(self)))?;
        Ok(Plan { paths: self.changes.iter().map(|path| PathBuf::from(path.as_str())).collect(), update: None })
    }

    fn stage(&self, cx: &Context) -> Result<(), Failure> {
        let file = cx.scratch("script");
        match &self.script {
            Some(script) => Ok(write_atomically(&file, script.as_str().as_bytes())?),
            None => fetch(cx, &file, None),
        }
    }

    fn change(&self, cx: &Context) -> Result<(), Failure> {
        let mut command = Command::new(self.interpreter.as_ref().map_or("sh", Text::as_str));
        command.arg(cx.scratch("script")).args(&self.args);
        command.envs(&cx.spec.env).envs(&self.env).current_dir(folder(self));
        cx.run(command)
    }

    fn verify(&self, _cx: &Context) -> Result<(), Failure> {
        Ok(())
    }

    /// What a person's script leaves behind when it fails is for its `on-failure` to say.
    fn is_all_or_nothing(&self) -> bool {
        false
    }
}

fn folder(with: &Script) -> &str {
    with.working_directory.as_ref().map_or("/", DevicePath::as_str)
}
