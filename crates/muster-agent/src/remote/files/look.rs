//! Listing, reading, packing.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use muster_core::limits::FILE_DIGEST_TIME_MAX;
use muster_link::files::{FileAnswer, FileInfo, FileOperation, FileProblem};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, fstat, readlinkat, statat};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::places::{Place, Places, info, tag};
use super::{PIECE_BYTES, Refusal, ToCaller, change};
use crate::upload::pack::{Folder, PackError, pack};

/// Does what is asked; the answer goes to `to` before anything else does.
pub(super) fn look(places: &Places, operation: FileOperation, to: &mut ToCaller) -> Result<(), Refusal> {
    match operation {
        FileOperation::List { path, after, limit } => {
            to.answer(list(&places.readable(&path)?, &after, limit)?);
            Ok(())
        }
        FileOperation::Stat { path } => {
            to.answer(done(Some(places.readable(&path)?.info())));
            Ok(())
        }
        FileOperation::Read { path, from, length, if_tag } => {
            read(&places.readable(&path)?, (from, length), if_tag.as_deref(), to)
        }
        FileOperation::Digest { path } => {
            to.answer(digest(&places.readable(&path)?)?);
            Ok(())
        }
        FileOperation::Archive { path } => archive(places, &places.readable(&path)?, to),
        FileOperation::MakeFolder { path, mode } => {
            to.answer(change::make_folder(places, &path, mode)?);
            Ok(())
        }
        FileOperation::Delete { path } => {
            to.answer(change::delete(places, &path)?);
            Ok(())
        }
        FileOperation::Write { .. } | FileOperation::Unknown => {
            Err(Refusal::new(FileProblem::Failed, "the agent does not know how to do that"))
        }
    }
}

/// It is done.
pub(super) fn done(file: Option<FileInfo>) -> FileAnswer {
    FileAnswer::Done { file, from: 0, length: None, sha256: None, is_new: false }
}

/// The first `limit` names behind `after`. However many there are, no more are kept.
fn list(place: &Place, after: &str, limit: usize) -> Result<FileAnswer, Refusal> {
    let file = place.info();
    let after = from_hex(after).ok_or_else(|| Refusal::new(FileProblem::BadPath, "no name to go on after"))?;
    if !place.is_folder() {
        return Ok(FileAnswer::Listed { file, entries: Vec::new(), next: None, total: 0 });
    }
    let folder = place.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
    let (mut first, mut total, mut is_more) = (BTreeMap::new(), 0, false);
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        total += 1;
        if name <= after.as_slice() {
            continue;
        }
        first.insert(name.to_vec(), ());
        if first.len() > limit {
            first.pop_last();
            is_more = true;
        }
    }
    let next = first.last_key_value().filter(|_| is_more).map(|(name, ())| change::hex(name));
    let entries = first.into_keys().filter_map(|name| entry(&folder, &name)).collect();
    Ok(FileAnswer::Listed { file, entries, next, total })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2));
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

/// What has that name in a folder, unless it has gone meanwhile.
fn entry(folder: &OwnedFd, name: &[u8]) -> Option<FileInfo> {
    let as_name = OsStr::from_bytes(name);
    let stat = statat(folder, as_name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    let target = is_link.then(|| readlinkat(folder, as_name, Vec::new()).ok()).flatten();
    Some(info(name, &stat, target.map(std::ffi::CString::into_bytes)))
}

fn read(place: &Place, part: (i64, u64), if_tag: Option<&str>, to: &mut ToCaller) -> Result<(), Refusal> {
    if FileType::from_raw_mode(place.stat.st_mode) != FileType::RegularFile {
        return Err(Refusal::new(FileProblem::WrongKind, "it is no file"));
    }
    let mut file = File::from(place.open(OFlags::RDONLY)?);
    let size = place.info().size;
    let is_same = if_tag.is_none_or(|wanted| wanted == tag(&place.stat));
    let (from, length) = if is_same { bounds(part, size)? } else { (0, size) };
    file.seek(SeekFrom::Start(from))?;
    to.answer(FileAnswer::Done { file: Some(place.info()), from, length: Some(length), sha256: None, is_new: false });
    let (mut left, mut buffer) = (length, vec![0; PIECE_BYTES]);
    while left > 0 {
        let most = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        let got = file.read(&mut buffer[..most])?;
        if got == 0 {
            return Err(Refusal::new(FileProblem::Changed, "the file became shorter while it was read"));
        }
        to.write_all(&buffer[..got])?;
        left -= got as u64;
    }
    Ok(())
}

/// The SHA-256 of a whole file; none of one that changes meanwhile, or takes too long.
fn digest(place: &Place) -> Result<FileAnswer, Refusal> {
    if FileType::from_raw_mode(place.stat.st_mode) != FileType::RegularFile {
        return Err(Refusal::new(FileProblem::WrongKind, "it is no file"));
    }
    let mut file = File::from(place.open(OFlags::RDONLY)?);
    let (mut hash, mut buffer, began) = (Sha256::new(), vec![0; PIECE_BYTES], Instant::now());
    let sha256 = loop {
        match file.read(&mut buffer)? {
            0 => break Some(change::hex(&hash.finalize())),
            // Whoever waits would take the device for gone.
            _ if began.elapsed() > FILE_DIGEST_TIME_MAX => break None,
            length => hash.update(&buffer[..length]),
        }
    };
    let is_same = tag(&fstat(&file)?) == tag(&place.stat);
    let sha256 = sha256.filter(|_| is_same);
    Ok(FileAnswer::Done { file: Some(place.info()), from: 0, length: None, sha256, is_new: false })
}

/// Where what was asked for begins in a file of that size, and how long it is.
pub(super) fn bounds((from, length): (i64, u64), size: u64) -> Result<(u64, u64), Refusal> {
    let from = match u64::try_from(from) {
        Ok(from) => from,
        Err(_) => size.saturating_sub(from.unsigned_abs()),
    };
    if from > 0 && from >= size {
        return Err(Refusal::new(FileProblem::OutOfRange, format!("the file has {size} bytes")));
    }
    Ok((from, length.min(size - from)))
}

fn archive(places: &Places, place: &Place, to: &mut ToCaller) -> Result<(), Refusal> {
    if !place.is_folder() {
        return Err(Refusal::new(FileProblem::WrongKind, "it is no folder"));
    }
    let fd = place.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
    let path = Path::new(OsStr::from_bytes(&place.path));
    let name = path.file_name().map_or_else(|| OsString::from("root"), OsStr::to_owned);
    let parent = path.parent().unwrap_or(Path::new("/")).as_os_str().as_bytes().to_vec();
    let folder = Folder::new(fd, name, places.secret_folder());
    to.answer(done(Some(place.info())));
    let allows = |name: &[u8]| {
        let gap: &[u8] = if parent == b"/" { b"" } else { b"/" };
        // The root has no name, but its entry in the archive does.
        let name = if place.path == b"/" { name.strip_prefix(b"root/").unwrap_or(name) } else { name };
        places.may_read(&[parent.as_slice(), gap, name].concat())
    };
    let mut into = BufWriter::with_capacity(PIECE_BYTES, to);
    match pack(&folder, &allows, &mut into) {
        Ok(()) => Ok(()),
        Err(PackError::Gone) => Err(Refusal::new(FileProblem::Failed, "the caller has gone")),
        Err(PackError::Refused(reason)) => Err(Refusal::new(FileProblem::Failed, reason)),
    }
}
