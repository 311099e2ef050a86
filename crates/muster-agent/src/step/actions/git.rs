//! `connect/git`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use muster_core::flow::actions::git::Git;
use muster_core::token::Secret;
use muster_link::Artifact;

use super::place::beside;
use super::{Plan, Work, check_folder};
use crate::files::sync_parent;
use crate::step::context::{Context, Failure};
use crate::step::saved::{metadata, remove};

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

    /// Clones beside the target. A clone that was cut off is of no use.
    fn stage(&self, cx: &Context) -> Result<(), Failure> {
        let beside = beside(cx, &target(self)?);
        remove(&beside)?;
        let mut clone = git(self, cx);
        clone.args(["clone", "--quiet", "--no-checkout", "--", self.repository.as_str()]).arg(&beside);
        cx.run(clone)?;
        let mut checkout = git(self, cx);
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
        let mut head = git(self, cx);
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

/// `git` that asks nobody, with the way to the registry and its credential in its
/// environment: what stands in its arguments, every user of the device can read.
fn git(with: &Git, cx: &Context) -> Command {
    let mut command = Command::new("git");
    command.envs(&cx.spec.env).current_dir("/").env("GIT_TERMINAL_PROMPT", "0");
    let settings = cx.artifact().map(|artifact| settings(with.repository.as_str(), artifact)).unwrap_or_default();
    for (n, (key, value)) in settings.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{n}"), key).env(format!("GIT_CONFIG_VALUE_{n}"), value);
    }
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    command
}

/// The credential goes to the address that the server told, and to no other. The clone
/// keeps the address that the flow has: the server's is of use in this run alone.
fn settings(repository: &str, artifact: &Artifact) -> Vec<(String, String)> {
    let url = &artifact.url;
    let header =
        |(name, value): (&String, &Secret)| (format!("http.{url}.extraHeader"), format!("{name}: {}", value.expose()));
    let mut settings: Vec<(String, String)> = artifact.headers.iter().map(header).collect();
    if url != repository {
        settings.push((format!("url.{url}.insteadOf"), repository.to_owned()));
    }
    settings
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
