//! `connect/git`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use muster_core::flow::actions::git::Git;

use super::place::beside;
use super::{Plan, Work, check_folder};
use crate::files::sync_parent;
use crate::step::StepEnd;
use crate::step::context::{Context, Failure};
use crate::step::saved::{metadata, remove};

/// How often a clone is tried, and the first pause between; each is twice as long as the last.
const CLONES_MAX: u32 = 5;
const CLONE_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Work for Git {
    fn check(&self, cx: &Context) -> Result<Plan, Failure> {
        let folder = Path::new(self.device_path.as_str());
        check_folder(folder)?;
        let target = target(self)?;
        if metadata(&target)?.is_some_and(|found| !found.is_dir()) {
            return Err(Failure::because(format!("{} is no folder", target.display())));
        }
        let mut version = Command::new("git");
        version.arg("--version");
        cx.ask(version).ok_or_else(|| Failure::because("the device has no git"))?;
        // How much a clone takes is not known before it is there.
        Ok(Plan { paths: vec![target], update: Some((folder.to_owned(), 0)) })
    }

    fn stage(&self, cx: &Context) -> Result<(), Failure> {
        let beside = beside(cx, &target(self)?);
        clone(self, cx, &beside)?;
        let mut checkout = git(cx);
        checkout.arg("-C").arg(&beside).args(["-c", "advice.detachedHead=false", "checkout", "--quiet"]);
        match &self.git_ref {
            Some(wanted) => checkout.arg(wanted.as_str()).arg("--"),
            None => checkout.arg("HEAD").arg("--"),
        };
        cx.run(checkout)
    }

    fn change(&self, cx: &Context) -> Result<(), Failure> {
        let target = target(self)?;
        remove(&target)?;
        fs::rename(beside(cx, &target), &target)?;
        sync_parent(&target)?;
        // The clone's files must outlive the power as well.
        nix::unistd::sync();
        Ok(())
    }

    fn verify(&self, cx: &Context) -> Result<(), Failure> {
        let target = target(self)?;
        let mut head = git(cx);
        head.arg("-C").arg(&target).args(["rev-parse", "HEAD"]);
        let head = cx.ask(head).ok_or_else(|| Failure::because("the clone has no HEAD"))?;
        cx.say(&format!("{} is at {}", target.display(), head.trim()));
        Ok(())
    }

    fn tidy(&self, cx: &Context) {
        if let Ok(target) = target(self) {
            let _ = remove(&beside(cx, &target));
        }
    }
}

/// Clones into `beside`. A clone that was cut off is of no use, so it begins anew; git
/// does not tell a cut link from a wrong address, so that ends after a few times.
fn clone(with: &Git, cx: &Context, beside: &Path) -> Result<(), Failure> {
    let mut pause = CLONE_AGAIN_AFTER;
    for _ in 1..CLONES_MAX {
        match clone_once(with, cx, beside) {
            Err(failure) if failure.end == StepEnd::Exited => cx.note("the clone failed; trying again"),
            ended => return ended,
        }
        cx.wait(pause)?;
        pause *= 2;
    }
    clone_once(with, cx, beside)
}

fn clone_once(with: &Git, cx: &Context, beside: &Path) -> Result<(), Failure> {
    remove(beside)?;
    let mut clone = git(cx);
    clone.args(["clone", "--quiet", "--no-checkout", "--", with.repository.as_str()]).arg(beside);
    cx.run(clone)
}

/// `git` that asks nobody, with the credentials of the registry in its environment:
/// what stands in its arguments, every user of the device can read.
fn git(cx: &Context) -> Command {
    let mut command = Command::new("git");
    command.envs(&cx.spec.env).current_dir("/").env("GIT_TERMINAL_PROMPT", "0");
    let headers = cx.artifact().map(|artifact| &artifact.headers).into_iter().flatten();
    let mut count = 0;
    for (name, value) in headers {
        command.env(format!("GIT_CONFIG_KEY_{count}"), "http.extraHeader");
        command.env(format!("GIT_CONFIG_VALUE_{count}"), format!("{name}: {}", value.expose()));
        count += 1;
    }
    command.env("GIT_CONFIG_COUNT", count.to_string());
    command
}

/// The folder that `git clone` makes of the repository's address.
fn target(with: &Git) -> Result<PathBuf, Failure> {
    let address = with.repository.as_str().trim_end_matches('/');
    let last = address.rsplit(['/', ':']).next().unwrap_or_default();
    let name = last.strip_suffix(".git").unwrap_or(last);
    if matches!(name, "" | "." | "..") {
        return Err(Failure::because("\"repository\" names no repository"));
    }
    Ok(Path::new(with.device_path.as_str()).join(name))
}
