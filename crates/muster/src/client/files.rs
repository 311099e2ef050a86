//! `muster cp`, `muster ls`, `muster cat`: files of devices.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::{Method, Response};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::failure::Failure;
use super::output::bytes as print_bytes;
use super::pages::Pages;
use super::send_folder::send_folder;
use super::session::{Common, Session};
use super::table::{Column, column};

/// How often something that broke off is tried again, while nothing comes of it.
const TRIES: u32 = 8;
/// How long it waits before the next try, at first.
const AGAIN_AFTER: Duration = Duration::from_millis(250);
/// Bytes of a file that are read at once.
const PIECE_BYTES: usize = 64 * 1024;

/// A path on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) device: String,
    pub(super) path: String,
}

impl std::str::FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').filter(|(device, path)| !device.is_empty() && path.starts_with('/'));
        let (device, path) = parts.ok_or_else(|| format!("{text:?} is not DEVICE:/PATH"))?;
        Ok(Self { device: device.to_owned(), path: path.to_owned() })
    }
}

/// One side of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Side {
    Here(PathBuf),
    There(Remote),
}

impl Side {
    /// A colon before any slash is a device's, as scp has it.
    fn of(text: &str) -> Result<Self, Failure> {
        match text.split_once(':') {
            Some((device, _)) if !device.contains('/') => text.parse().map(Self::There).map_err(Failure::Usage),
            _ => Ok(Self::Here(PathBuf::from(text))),
        }
    }
}

/// What to copy.
#[derive(Args)]
pub(crate) struct CopyArgs {
    #[command(flatten)]
    common: Common,
    /// A folder, with all that is in it
    #[arg(long, short)]
    recursive: bool,
    /// Name each file that is written of a folder, on standard error
    #[arg(long, short)]
    verbose: bool,
    /// Where from: a path, or DEVICE:/PATH
    from: String,
    /// Where to: a path, or DEVICE:/PATH; one side is a device
    to: String,
}

/// What to list.
#[derive(Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    common: Common,
    /// Modes, owners, sizes and times too
    #[arg(long, short)]
    long: bool,
    /// The folder
    #[arg(value_name = "DEVICE:/PATH")]
    folder: Remote,
}

/// What to print.
#[derive(Args)]
pub(crate) struct CatArgs {
    #[command(flatten)]
    common: Common,
    /// The file
    #[arg(value_name = "DEVICE:/PATH")]
    file: Remote,
}

const NAMES: &[Column] = &[column("NAME", "name")];
const LONG: &[Column] = &[
    column("MODE", "mode"),
    column("KIND", "kind"),
    column("UID", "uid"),
    column("GID", "gid"),
    column("SIZE", "size"),
    column("CHANGED", "modified_time"),
    column("NAME", "name"),
    column("LINK TO", "link_target"),
];

pub(super) async fn list(args: &ListArgs) -> Result<(), Failure> {
    let session = Session::open(&args.common)?;
    let call = call(&session, Method::GET, &args.folder, &[])?;
    session.out.list(Pages::new(call, "entries", None), if args.long { LONG } else { NAMES }).await
}

pub(super) async fn cat(args: &CatArgs) -> Result<(), Failure> {
    let session = Session::open(&args.common)?;
    let mut response = call(&session, Method::GET, &args.file, &["content"])?.send().await?;
    while let Some(piece) = next(&mut response).await? {
        print_bytes(&piece)?;
    }
    Ok(())
}

pub(super) async fn copy(args: &CopyArgs) -> Result<(), Failure> {
    let sides = (Side::of(&args.from)?, Side::of(&args.to)?);
    let session = Session::open(&args.common)?;
    match sides {
        (Side::There(from), Side::Here(to)) if args.recursive => fetch_folder(&session, &from, &to).await,
        (Side::There(from), Side::Here(to)) => fetch(&session, &from, &to).await,
        (Side::Here(from), Side::There(to)) if args.recursive => send_folder(&session, &from, to, args.verbose).await,
        (Side::Here(from), Side::There(to)) => send(&session, &from, to).await,
        _ => Err(Failure::Usage("one side is DEVICE:/PATH, and the other a path here".to_owned())),
    }
}

pub(super) fn call<'a>(
    session: &'a Session,
    method: Method,
    at: &Remote,
    more: &[&str],
) -> Result<super::http::Call<'a>, Failure> {
    let place = [&[session.fleet()?, "devices", &at.device, "file_system"], more].concat();
    Ok(session.http.call(method, &place)?.query("path", &at.path))
}

async fn next(response: &mut Response) -> Result<Option<Vec<u8>>, Failure> {
    let piece = response.chunk().await.map_err(reqwest::Error::without_url);
    Ok(piece.context("the file did not come to its end")?.map(|piece| piece.to_vec()))
}

/// Where something of that name comes to lie: in a folder under its name, else as it is said.
fn landing(to: &Path, name: &str) -> PathBuf {
    if to.is_dir() { to.join(name) } else { to.to_owned() }
}

fn name_of(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// Does it again where the device, or the server, is away for a moment.
pub(super) async fn steadily<T>(mut ask: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut tries = 0;
    loop {
        match ask().await {
            Err(failure) if failure.is_cut() && tries < TRIES => {
                tries += 1;
                sleep(AGAIN_AFTER * 2_u32.pow(tries.min(5))).await;
            }
            done => return done,
        }
    }
}

fn bar(session: &Session, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}");
    let target = if session.out.is_json() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    if let Ok(style) = style { bar.with_style(style) } else { bar }
}

/// A file from a device: under another name until it is whole. Where it breaks off it goes
/// on, if the file there is still the same.
async fn fetch(session: &Session, from: &Remote, to: &Path) -> Result<(), Failure> {
    let to = landing(to, name_of(&from.path));
    let part = PathBuf::from(format!("{}.part", to.display()));
    let mut file = File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
    let fetched = match fetch_into(session, from, &mut file).await {
        Ok((bytes, tag)) => verify(session, from, &part, tag.as_deref()).await.map(|checked| (bytes, checked)),
        Err(failure) => Err(failure),
    };
    let placed = fetched.and_then(|(bytes, checked)| {
        file.sync_all()
            .and_then(|()| fs::rename(&part, &to))
            .with_context(|| format!("cannot write {}", to.display()))?;
        Ok((bytes, checked))
    });
    match placed {
        Ok((bytes, checked)) => {
            if checked.is_none() {
                session.out.note("checked by its length only: the device told no SHA-256 of what was copied")?;
            }
            let done = serde_json::json!({ "path": to.display().to_string(), "bytes": bytes, "sha256": checked });
            session.out.done(&done, &format!("{}: {bytes} bytes", to.display()))
        }
        Err(failure) => {
            let _ = fs::remove_file(&part);
            Err(failure)
        }
    }
}

/// Compares what came, however often it was gone on with, with the SHA-256 that the device has
/// of the file. That of what came; none where the file changed meanwhile, as a log does, or
/// the device could not tell.
async fn verify(session: &Session, from: &Remote, part: &Path, tag: Option<&str>) -> Result<Option<String>, Failure> {
    let asked = steadily(async || {
        call(session, Method::HEAD, from, &["content"])?.header("want-repr-digest", "sha-256=1").send().await
    });
    let Ok(answer) = asked.await else { return Ok(None) };
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let digest = header("repr-digest").and_then(|text| text.strip_prefix("sha-256=:")?.strip_suffix(':'));
    let (Some(digest), true) = (digest, header("etag") == tag) else { return Ok(None) };
    let opened = File::open(part).and_then(summed);
    let (_, sha256) = opened.with_context(|| format!("cannot read {}", part.display()))?;
    let there = STANDARD.decode(digest).map(|bytes| hex(&bytes)).unwrap_or_default();
    if there == sha256 {
        return Ok(Some(sha256));
    }
    Err(anyhow::anyhow!("what came is not the file: its SHA-256 is {sha256}, and on the device {there}").into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn fetch_into(session: &Session, from: &Remote, file: &mut File) -> Result<(u64, Option<String>), Failure> {
    let (mut have, mut tag, mut tries) = (0_u64, None::<String>, 0);
    loop {
        let mut ask = call(session, Method::GET, from, &["content"])?;
        if let (Some(tag), 1..) = (&tag, have) {
            ask = ask.header("range", &format!("bytes={have}-")).header("if-range", tag);
        }
        let mut response = match ask.send().await {
            // The link of the device, or the server, may be back in a moment.
            Err(failure) if failure.is_cut() && tag.is_some() && tries < TRIES => {
                tries += 1;
                sleep(AGAIN_AFTER * 2_u32.pow(tries.min(5))).await;
                continue;
            }
            response => response?,
        };
        if response.status().as_u16() != 206 {
            have = 0;
        }
        let whole = have + response.content_length().unwrap_or_default();
        tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        file.seek(SeekFrom::Start(have)).and_then(|_| file.set_len(have)).context("cannot write")?;
        let bar = bar(session, whole);
        let before = have;
        while let Ok(Some(piece)) = next(&mut response).await {
            file.write_all(&piece).context("cannot write")?;
            have += piece.len() as u64;
            bar.set_position(have);
        }
        bar.finish_and_clear();
        if have == whole {
            return Ok((have, tag));
        }
        tries = if have > before { 1 } else { tries + 1 };
        if tries > TRIES || tag.is_none() {
            return Err(anyhow::anyhow!("the file did not come to its end: {have} of {whole} bytes").into());
        }
        sleep(AGAIN_AFTER * 2_u32.pow(tries.min(5))).await;
    }
}

/// A folder from a device, by `tar`.
async fn fetch_folder(session: &Session, from: &Remote, to: &Path) -> Result<(), Failure> {
    let mut response = call(session, Method::GET, from, &["archive"])?.send().await?;
    // As cp has it: into a folder that is there, or as a new one of that name.
    let into_it = to.is_dir();
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let mut tar = std::process::Command::new("tar");
    tar.args(["--extract", "--file=-", "--no-same-owner", "-C"]).arg(to);
    if !into_it {
        tar.arg("--strip-components=1");
    }
    let mut tar = tar.stdin(std::process::Stdio::piped()).spawn().context("cannot start tar")?;
    let mut input = tar.stdin.take().context("cannot speak to tar")?;
    let (mut bytes, mut broke) = (0_u64, None);
    loop {
        match next(&mut response).await {
            Ok(Some(piece)) => {
                bytes += piece.len() as u64;
                input.write_all(&piece).context("tar has ended")?;
            }
            Ok(None) => break,
            Err(failure) => {
                broke = Some(failure);
                break;
            }
        }
    }
    drop(input);
    let ended = tar.wait().context("cannot wait for tar")?;
    match broke {
        Some(failure) => Err(failure),
        None if !ended.success() => Err(anyhow::anyhow!("tar could not unpack the archive").into()),
        None => {
            let done = serde_json::json!({ "path": to.display().to_string(), "bytes": bytes });
            session.out.done(&done, &format!("{}: an archive of {bytes} bytes", to.display()))
        }
    }
}

/// A file to a device. The device compares its checksum before it takes its place.
async fn send(session: &Session, from: &Path, mut to: Remote) -> Result<(), Failure> {
    if to.path.ends_with('/') {
        let name = from.file_name().and_then(|name| name.to_str());
        to.path += name.ok_or_else(|| Failure::Usage("the file's name is no text".to_owned()))?;
    }
    let (bytes, sha256) = sum_of(from)?;
    let bar = bar(session, bytes);
    let file = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    let body = reqwest::Body::wrap_stream(pieces(file, bar.clone()));
    let ask = call(session, Method::PUT, &to, &["content"])?.header("x-checksum-sha256", &sha256);
    let written = ask.stream(body, bytes).value().await;
    bar.finish_and_clear();
    let written: Value = written?;
    session.out.done(&written, &format!("{}:{}: {bytes} bytes", to.device, to.path))
}

/// Length and SHA-256 of a file here.
pub(super) fn sum_of(path: &Path) -> Result<(u64, String), Failure> {
    let summed = File::open(path).and_then(summed);
    Ok(summed.with_context(|| format!("cannot read {}", path.display()))?)
}

fn summed(mut file: File) -> io::Result<(u64, String)> {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => {
                hash.update(&buffer[..length]);
                bytes += length as u64;
            }
        }
    }
    Ok((bytes, hex(&hash.finalize())))
}

pub(super) fn pieces(file: File, bar: ProgressBar) -> impl futures_util::Stream<Item = io::Result<Vec<u8>>> {
    futures_util::stream::try_unfold((file, bar), |(mut file, bar)| async move {
        let mut piece = vec![0; PIECE_BYTES];
        let length = file.read(&mut piece)?;
        piece.truncate(length);
        bar.inc(length as u64);
        Ok((length > 0).then_some((piece, (file, bar))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_before_any_slash_is_a_devices() {
        let there = |path: &str| Side::There(Remote { device: "d-1".to_owned(), path: path.to_owned() });
        assert_eq!(Side::of("d-1:/etc/hosts").unwrap(), there("/etc/hosts"));
        assert_eq!(Side::of("./a:b").unwrap(), Side::Here(PathBuf::from("./a:b")));
        assert_eq!(Side::of("a").unwrap(), Side::Here(PathBuf::from("a")));
        for wrong in ["d-1:", "d-1:etc", ":/etc"] {
            assert_eq!(Side::of(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
