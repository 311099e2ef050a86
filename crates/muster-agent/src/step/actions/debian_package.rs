//! `connect/debian-package`.
//!
//! What dpkg does cannot be done at once or not at all, and its own files cannot be
//! put back behind its back. So the way back is another installation: of the version
//! before, from a `.deb` that is found before anything is changed, or a removal.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use muster_core::flow::actions::debian_package::DebianPackage;
use serde::{Deserialize, Serialize};

use super::{Plan, Work};
use crate::files::{read_json, write_json};
use crate::step::context::{Context, Failure};
use crate::step::fetch::{fetch, size_of};
use crate::step::saved::Saved;

/// Where apt keeps what it fetched.
const APT_CACHE: &str = "/var/cache/apt/archives";

/// The package as it was: `package.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    package: String,
    /// The version that was installed, if one was.
    version: Option<String>,
}

/// A package file's own words.
struct Deb {
    package: String,
    version: String,
}

impl Work for DebianPackage {
    fn check(&self, cx: &Context) -> Result<Plan, Failure> {
        let mut version = dpkg("dpkg");
        version.arg("--version");
        cx.ask(version).ok_or_else(|| Failure::because("the device has no dpkg"))?;
        // Left by a power cut, it would make every installation fail.
        let mut configure = dpkg("dpkg");
        configure.args(["--configure", "--pending"]);
        cx.run(configure)?;
        Ok(Plan { paths: Vec::new(), update: Some((cx.saved.path().to_owned(), size_of(cx))) })
    }

    /// Brings the `.deb` here, and one of the version before.
    fn stage(&self, cx: &Context) -> Result<(), Failure> {
        let wanted = cx.scratch("wanted.deb");
        match (&self.package, &self.device_path) {
            (Some(package), _) => {
                let version = self.version.as_ref().map(|version| format!("={version}")).unwrap_or_default();
                download(cx, &format!("{package}{version}"), &wanted)?;
            }
            (None, Some(path)) => drop(fs::copy(path.as_str(), &wanted)?),
            (None, None) => fetch(cx, &wanted, None)?,
        }
        let deb = describe(cx, &wanted)?;
        let before = Before { version: installed(cx, &deb.package), package: deb.package };
        if let Some(version) = &before.version {
            find_before(cx, &before.package, version)?;
        }
        Ok(write_json(&cx.scratch("package.json"), &before)?)
    }

    fn change(&self, cx: &Context) -> Result<(), Failure> {
        install(cx, &cx.scratch("wanted.deb"))
    }

    fn verify(&self, cx: &Context) -> Result<(), Failure> {
        let deb = describe(cx, &cx.scratch("wanted.deb"))?;
        if installed(cx, &deb.package).as_ref() != Some(&deb.version) {
            return Err(Failure::because(format!("{} {} is not installed", deb.package, deb.version)));
        }
        cx.say(&format!("{} {} is installed", deb.package, deb.version));
        // The way back of a later update.
        fs::create_dir_all(kept_folder(cx))?;
        let kept = kept(cx, &deb.package, &deb.version);
        if !kept.exists() {
            fs::copy(cx.scratch("wanted.deb"), kept)?;
        }
        keep_newest(cx, &deb.package, &deb.version)
    }

    fn undo(&self, cx: &Context, saved: &Saved) -> Result<(), Failure> {
        let Some(before) = read_json::<Before>(&saved.path().join("package.json"))? else { return Ok(()) };
        let is_back = installed(cx, &before.package) == before.version;
        match &before.version {
            _ if is_back && !is_half(cx, &before.package) => Ok(()),
            Some(_) => install(cx, &saved.path().join("before.deb")),
            None => {
                let mut purge = dpkg("dpkg");
                purge.args(["--purge", "--force-remove-reinstreq", &before.package]);
                cx.run(purge)
            }
        }
    }
}

/// A command of dpkg that asks nobody.
fn dpkg(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command
}

fn install(cx: &Context, deb: &Path) -> Result<(), Failure> {
    let mut install = dpkg("dpkg");
    // What a person changed in the package's configuration stays.
    install.args(["--force-confold", "--force-confdef", "--force-downgrade", "--install"]).arg(deb);
    cx.run(install)
}

fn describe(cx: &Context, deb: &Path) -> Result<Deb, Failure> {
    let mut show = dpkg("dpkg-deb");
    show.args(["--show", "--showformat", "${Package} ${Version}"]).arg(deb);
    let shown = cx.ask(show);
    let words = shown.as_deref().and_then(|shown| shown.trim().split_once(' '));
    let (package, version) = words.ok_or_else(|| Failure::because("what was brought is no package of Debian"))?;
    Ok(Deb { package: package.to_owned(), version: version.to_owned() })
}

fn status(cx: &Context, package: &str) -> Option<(String, String)> {
    let mut show = dpkg("dpkg-query");
    show.args(["--show", "--showformat", "${db:Status-Status} ${Version}", package]);
    let shown = cx.ask(show)?;
    let (status, version) = shown.trim().split_once(' ')?;
    Some((status.to_owned(), version.to_owned()))
}

/// The version of the package that is installed, and wholly.
fn installed(cx: &Context, package: &str) -> Option<String> {
    status(cx, package).filter(|(status, _)| status == "installed").map(|(_, version)| version)
}

/// Whether something other than nothing or a whole installation is there.
fn is_half(cx: &Context, package: &str) -> bool {
    status(cx, package).is_some_and(|(status, _)| !matches!(status.as_str(), "installed" | "not-installed"))
}

/// Brings a `.deb` of the version before, or fails: without it there is no way back.
fn find_before(cx: &Context, package: &str, version: &str) -> Result<(), Failure> {
    let into = cx.scratch("before.deb");
    if into.exists() {
        return Ok(());
    }
    let begin = format!("{package}_{}_", version.replace(':', "%3a"));
    let cached = fs::read_dir(APT_CACHE).into_iter().flatten().flatten();
    let cached = cached
        .map(|entry| entry.path())
        .find(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&begin)));
    let own = Some(kept(cx, package, version)).filter(|path| path.exists());
    if let Some(found) = own.or(cached) {
        fs::copy(found, &into)?;
        return Ok(());
    }
    download(cx, &format!("{package}={version}"), &into).map_err(|failure| {
        let why =
            format!("the installed version {version} of {package} is found nowhere, so there would be no way back");
        Failure { why, ..failure }
    })
}

/// Fetches a package from the device's own sources.
fn download(cx: &Context, package: &str, into: &Path) -> Result<(), Failure> {
    let folder = cx.scratch("apt");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let mut get = dpkg("apt-get");
    get.args(["download", "--quiet", package]).current_dir(&folder);
    cx.run(get)?;
    let brought = fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).next();
    let brought = brought.ok_or_else(|| Failure::because(format!("apt-get brought no {package}")))?;
    fs::rename(brought, into)?;
    Ok(())
}

/// The agent's own packages, beside its runs.
fn kept_folder(cx: &Context) -> PathBuf {
    let runs = cx.dir.path().ancestors().nth(2).unwrap_or(Path::new("/"));
    runs.with_file_name("packages")
}

fn kept(cx: &Context, package: &str, version: &str) -> PathBuf {
    kept_folder(cx).join(format!("{package}_{}.deb", version.replace(':', "%3a")))
}

/// Of each package only the installed version is kept.
fn keep_newest(cx: &Context, package: &str, version: &str) -> Result<(), Failure> {
    let (begin, newest) = (format!("{package}_"), kept(cx, package, version));
    for entry in fs::read_dir(kept_folder(cx))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&begin) && entry.path() != newest {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
