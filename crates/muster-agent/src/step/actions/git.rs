//! `connect/git`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use muster_core::flow::actions::git::Git;
use muster_core::token::Secret;
use muster_link::Artifact;
use url::{Position, Url};

use super::place::beside;
use super::{Plan, Work, check_folder};
use crate::files::sync_parent;
use crate::server_url::ServerUrl;
use crate::step::StepEnd;
use crate::step::context::{Context, Failure};
use crate::step::saved::{metadata, remove};
use crate::trust::Trust;

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
    let mut clone = git(with, cx);
    clone.args(["clone", "--quiet", "--no-checkout", "--", with.repository.as_str()]).arg(beside);
    cx.run(clone)
}

/// `git` that asks nobody, with the way to the registry and its credential in its
/// environment: what stands in its arguments, every user of the device can read.
fn git(with: &Git, cx: &Context) -> Command {
    let mut command = Command::new("git");
    command.envs(&cx.spec.env).current_dir("/").env("GIT_TERMINAL_PROMPT", "0");
    let settings =
        cx.artifact().map(|artifact| settings(with.repository.as_str(), artifact, &cx.trust)).unwrap_or_default();
    for (n, (key, value)) in settings.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{n}"), key).env(format!("GIT_CONFIG_VALUE_{n}"), value);
    }
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    command
}

/// The credential goes to the address that the server told, and to no other. The clone
/// keeps the address that the flow has: the server's is of use in this run alone.
fn settings(repository: &str, artifact: &Artifact, trust: &Trust) -> Vec<(String, String)> {
    let url = &artifact.url;
    let header =
        |(name, value): (&String, &Secret)| (format!("http.{url}.extraHeader"), format!("{name}: {}", value.expose()));
    let mut settings: Vec<(String, String)> = artifact.headers.iter().map(header).collect();
    if url != repository {
        settings.push((format!("url.{url}.insteadOf"), repository.to_owned()));
    }
    let server = Url::parse(url).ok().and_then(|url| ServerUrl::parse(&url[..Position::BeforePath]).ok());
    if let Some(pin) = server.as_ref().and_then(|server| trust.pin_of(server)) {
        // The pin is all that counts, as for the agent itself.
        settings.push((format!("http.{url}.sslVerify"), "false".to_owned()));
        settings.push((format!("http.{url}.pinnedPubkey"), pin.to_string()));
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
