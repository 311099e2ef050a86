//! `muster cp -r` to a device: a folder, file by file. Each file is whole on the device or not
//! there, so what broke off is gone on with by the same command: what lies there with the same
//! size, time and mode is not sent again.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use futures_util::{StreamExt, stream};
use indicatif::ProgressBar;
use muster_core::clock::Timestamp;
use muster_core::limits::V2_PAGE_MAX;
use reqwest::Method;
use serde_json::{Value, json};

use super::failure::Failure;
use super::files::{Remote, call, pieces, steadily, sum_of};
use super::session::Session;

/// Files on their way at once, so that a far device is not waited for between two of them.
const AT_ONCE: usize = 4;
/// What is named of what was not written; more is counted.
const NAMED_MAX: usize = 1_000;

/// What lies in a folder of a device.
type Known = HashMap<String, Value>;

/// What became of a folder so far.
#[derive(Default)]
struct Tally {
    written: u64,
    bytes: u64,
    unchanged: u64,
    folders: u64,
    left_out: Named,
    failed: Named,
}

#[derive(Default)]
struct Named {
    count: u64,
    first: Vec<Value>,
}

impl Named {
    fn add(&mut self, path: &Path, reason: &str) {
        self.count += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(json!({ "path": path.display().to_string(), "reason": reason }));
        }
    }
}

/// A file that the device does not have as it is here.
struct Job {
    from: PathBuf,
    to: Remote,
    mode: String,
    modified_time: String,
}

/// What is in a folder here.
#[derive(Default)]
struct Contents {
    jobs: Vec<Job>,
    folders: Vec<(PathBuf, Remote)>,
}

struct Sending<'a> {
    session: &'a Session,
    tally: Tally,
    is_verbose: bool,
}

/// A folder to a device: into a folder that is there, or as a new one of that name.
pub(super) async fn send_folder(session: &Session, from: &Path, to: Remote, verbose: bool) -> Result<(), Failure> {
    if !from.is_dir() {
        return Err(Failure::Usage(format!("{} is no folder", from.display())));
    }
    let to = landing(session, from, to).await?;
    let mut sending = Sending { session, tally: Tally::default(), is_verbose: verbose };
    // Without the folder itself there is nothing to tell of.
    let known = sending.arrive(from, &to).await?;
    let ended = sending.send_tree(from, &to, known).await;
    sending.tell(&to, ended)
}

async fn landing(session: &Session, from: &Path, to: Remote) -> Result<Remote, Failure> {
    let path = if to.path == "/" { "/" } else { to.path.trim_end_matches('/') };
    let plain = Remote { device: to.device.clone(), path: path.to_owned() };
    let is_inside = to.path.ends_with('/') || known(session, &plain).await?.is_some();
    if !is_inside {
        return Ok(plain);
    }
    // `.` has a name, too.
    let from = from.canonicalize().with_context(|| format!("cannot read {}", from.display()))?;
    let name = from.file_name().and_then(|name| name.to_str());
    Ok(below(&plain, name.ok_or_else(|| Failure::Usage("the folder's name is no text".to_owned()))?))
}

fn below(folder: &Remote, name: &str) -> Remote {
    Remote { device: folder.device.clone(), path: format!("{}/{name}", folder.path.trim_end_matches('/')) }
}

/// What lies in a folder of a device; nothing where there is none.
async fn known(session: &Session, at: &Remote) -> Result<Option<Known>, Failure> {
    let listing = call(session, Method::GET, at, &[])?;
    let (mut known, mut after) = (Known::new(), None::<String>);
    loop {
        let page = steadily(async || listing.page(V2_PAGE_MAX, after.as_deref()).value().await).await;
        let mut page = match page {
            Err(Failure::Api { status: 404, .. }) => return Ok(None),
            page => page?,
        };
        if page["file"]["kind"] != "folder" {
            let (status, code) = (409, "wrong_kind".to_owned());
            return Err(Failure::Api { status, code, message: format!("{} is no folder", at.path) });
        }
        if let Value::Array(entries) = page["entries"].take() {
            let named = entries.into_iter().filter_map(|entry| Some((entry["name"].as_str()?.to_owned(), entry)));
            known.extend(named);
        }
        match page["pagination_info"]["after"].as_str() {
            Some(next) if after.as_deref() != Some(next) => after = Some(next.to_owned()),
            _ => return Ok(Some(known)),
        }
    }
}

fn mode_of(metadata: &Metadata, always: u32) -> String {
    format!("{:04o}", metadata.permissions().mode() & 0o777 | always)
}

/// When a file was changed, to the second, as the device's lists tell it.
fn modified_time(metadata: &Metadata) -> String {
    Timestamp::from_millis(metadata.mtime().saturating_mul(1_000)).to_rfc3339()
}

fn is_same(there: &Value, size: u64, job: &Job) -> bool {
    let (mode, time) = (job.mode.as_str(), job.modified_time.as_str());
    there["kind"] == "file" && there["size"] == size && there["mode"] == mode && there["modified_time"] == time
}

/// Whether nothing else can be written either: a device that stays away or has no room, or no
/// right to any of it.
fn ends_all(failure: &Failure) -> bool {
    failure.is_cut() || matches!(failure, Failure::NotLoggedIn(_) | Failure::Api { status: 401 | 507, .. })
}

impl Sending<'_> {
    async fn send_tree(&mut self, from: &Path, to: &Remote, known: Known) -> Result<(), Failure> {
        let mut to_do = self.send_contents(from, to, known).await?;
        while let Some((from, to)) = to_do.pop() {
            match self.send_folder(&from, &to).await {
                Ok(folders) => to_do.extend(folders),
                Err(failure) if ends_all(&failure) => return Err(failure),
                Err(failure) => self.tally.failed.add(&from, &failure.to_string()),
            }
        }
        Ok(())
    }

    async fn send_folder(&mut self, from: &Path, to: &Remote) -> Result<Vec<(PathBuf, Remote)>, Failure> {
        let known = self.arrive(from, to).await?;
        self.send_contents(from, to, known).await
    }

    /// What lies in a folder of the device, which is made where there is none.
    async fn arrive(&mut self, from: &Path, to: &Remote) -> Result<Known, Failure> {
        match known(self.session, to).await? {
            Some(known) => Ok(known),
            None => self.make_folder(from, to).await,
        }
    }

    /// The files of one folder; the folders in it, which come next.
    async fn send_contents(
        &mut self,
        from: &Path,
        to: &Remote,
        known: Known,
    ) -> Result<Vec<(PathBuf, Remote)>, Failure> {
        let entries = match fs::read_dir(from) {
            Ok(entries) => entries,
            Err(error) => {
                self.tally.failed.add(from, &error.to_string());
                return Ok(Vec::new());
            }
        };
        let mut contents = Contents::default();
        for entry in entries {
            match entry.and_then(|entry| Ok((entry.path(), fs::symlink_metadata(entry.path())?))) {
                Ok((path, metadata)) => self.sort(&mut contents, path, &metadata, to, &known),
                Err(error) => self.tally.failed.add(from, &error.to_string()),
            }
        }
        self.send_files(contents.jobs).await?;
        Ok(contents.folders)
    }

    fn sort(&mut self, contents: &mut Contents, from: PathBuf, metadata: &Metadata, to: &Remote, known: &Known) {
        let Some(name) = from.file_name().and_then(|name| name.to_str()) else {
            return self.tally.left_out.add(&from, "its name is no UTF-8");
        };
        let (kind, to) = (metadata.file_type(), below(to, name));
        if kind.is_dir() {
            contents.folders.push((from, to));
        } else if kind.is_symlink() {
            self.tally.left_out.add(&from, "is a link");
        } else if !kind.is_file() {
            self.tally.left_out.add(&from, "is no file");
        } else {
            let there = known.get(name);
            let job = Job { mode: mode_of(metadata, 0), modified_time: modified_time(metadata), to, from };
            match there {
                Some(there) if is_same(there, metadata.len(), &job) => self.tally.unchanged += 1,
                _ => contents.jobs.push(job),
            }
        }
    }

    async fn make_folder(&mut self, from: &Path, to: &Remote) -> Result<Known, Failure> {
        let metadata = fs::metadata(from).with_context(|| format!("cannot read {}", from.display()));
        // What shall be in it must be written, too.
        let mode = metadata.map_or_else(|_| "0755".to_owned(), |metadata| mode_of(&metadata, 0o700));
        let made =
            steadily(async || call(self.session, Method::POST, to, &["folder"])?.query("mode", &mode).value().await);
        match made.await {
            // An answer that was lost; the folder is there.
            Err(Failure::Api { status: 409, code, .. }) if code == "file_changed" => {}
            made => drop(made?),
        }
        self.tally.folders += 1;
        Ok(Known::new())
    }

    async fn send_files(&mut self, jobs: Vec<Job>) -> Result<(), Failure> {
        let session = self.session;
        let sent = stream::iter(jobs).map(async |job| (send_file(session, &job).await, job));
        let mut sent = std::pin::pin!(sent.buffer_unordered(AT_ONCE));
        while let Some((ended, job)) = sent.next().await {
            match ended {
                Ok(bytes) => {
                    self.tally.written += 1;
                    self.tally.bytes += bytes;
                    if self.is_verbose {
                        session.out.note(&job.to.path)?;
                    }
                }
                Err(failure) => {
                    self.tally.failed.add(&job.from, &failure.to_string());
                    if ends_all(&failure) {
                        return Err(failure);
                    }
                }
            }
        }
        Ok(())
    }

    fn tell(self, to: &Remote, ended: Result<(), Failure>) -> Result<(), Failure> {
        let (Tally { written, bytes, unchanged, folders, left_out, failed }, out) = (self.tally, &self.session.out);
        for (word, named) in [("left out", &left_out), ("failed", &failed)] {
            for one in &named.first {
                let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
                out.note(&format!("{word}: {}: {}", text("path"), text("reason")))?;
            }
        }
        let (device, path) = (&to.device, &to.path);
        let done = json!({
            "path": format!("{device}:{path}"), "is_whole": ended.is_ok() && failed.count == 0,
            "written": written, "bytes": bytes, "unchanged": unchanged, "folders_made": folders,
            "left_out_count": left_out.count, "left_out": left_out.first,
            "failed_count": failed.count, "failed": failed.first,
        });
        let (skipped, count) = (left_out.count, failed.count);
        let sentence = format!(
            "{device}:{path}: {written} files written ({bytes} bytes), {unchanged} unchanged, {skipped} left out, {count} failed"
        );
        out.done(&done, &sentence)?;
        ended?;
        if count > 0 {
            return Err(anyhow!("the folder is not whole; the same command goes on with it").into());
        }
        Ok(())
    }
}

/// One file; its bytes. What is wrong here, and not on the way, is no reason to try again.
async fn send_file(session: &Session, job: &Job) -> Result<u64, Failure> {
    let (bytes, sha256) = sum_of(&job.from).map_err(|failure| here(&failure))?;
    steadily(async || {
        let file = File::open(&job.from).with_context(|| format!("cannot read {}", job.from.display()));
        let body =
            reqwest::Body::wrap_stream(pieces(file.map_err(|error| here(&error.into()))?, ProgressBar::hidden()));
        let ask = call(session, Method::PUT, &job.to, &["content"])?.query("mode", &job.mode);
        let ask = ask.query("modified_time", &job.modified_time).header("x-checksum-sha256", &sha256);
        ask.stream(body, bytes).value().await
    })
    .await?;
    Ok(bytes)
}

fn here(failure: &Failure) -> Failure {
    Failure::Usage(failure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_there_as_it_is_here_is_not_sent_again() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("a");
        fs::write(&from, "abc").unwrap();
        fs::set_permissions(&from, PermissionsExt::from_mode(0o640)).unwrap();
        let metadata = fs::metadata(&from).unwrap();
        let to = below(&Remote { device: "d-1".to_owned(), path: "/".to_owned() }, "a");
        assert_eq!(to.path, "/a");
        let job = Job { mode: mode_of(&metadata, 0), modified_time: modified_time(&metadata), to, from };
        assert_eq!((job.mode.as_str(), mode_of(&metadata, 0o700).as_str()), ("0640", "0740"));
        let same = json!({ "kind": "file", "size": 3, "mode": "0640", "modified_time": job.modified_time });
        assert!(is_same(&same, 3, &job));
        for (key, other) in
            [("kind", json!("link")), ("size", json!(4)), ("mode", json!("0644")), ("modified_time", json!("x"))]
        {
            let mut there = same.clone();
            there[key] = other;
            assert!(!is_same(&there, 3, &job), "{key}");
        }
    }

    #[test]
    fn a_device_that_is_full_or_away_ends_all_and_a_rule_does_not() {
        let api = |status, code: &str| Failure::Api { status, code: code.to_owned(), message: String::new() };
        for failure in [api(507, "no_room"), api(409, "device_offline"), api(401, "unauthenticated"), api(503, "")] {
            assert!(ends_all(&failure), "{failure:?}");
        }
        for failure in
            [api(403, "forbidden"), api(409, "wrong_kind"), api(400, "invalid"), Failure::Usage(String::new())]
        {
            assert!(!ends_all(&failure), "{failure:?}");
        }
    }
}
