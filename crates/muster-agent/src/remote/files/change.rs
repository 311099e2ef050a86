//! Writing, making, deleting.
//!
//! A file is written under another name beside its place, and takes the place when it is
//! whole, checked and on the disk. That other name is noted in the agent's state before, so
//! that an agent that was killed in the middle takes the half of it away when it starts.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use muster_core::limits::{DEVICE_FREE_BYTES_MIN, DEVICE_WRITE_BYTES_MAX};
use muster_link::files::{FileAnswer, FileOperation, FileProblem};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, fchmod, fchown,
    fstat, fstatvfs, futimens, mkdirat, openat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Receiver;

use super::Refusal;
use super::look::done;
use super::places::{Places, Slot, info, tag};

/// Where the names of unfinished files are noted, in the agent's state.
const NOTES: &str = "file-writes";
/// What their names begin and end with.
const BEGIN: &str = ".muster-";
const END: &str = ".part";
/// Mode of a file that is new.
const NEW_MODE: u32 = 0o644;
/// Mode of a folder that is new.
const NEW_FOLDER_MODE: u32 = 0o755;
/// Names that are tried when some are taken.
const TRIES: u32 = 100;

static NEXT: AtomicU64 = AtomicU64::new(0);
/// Held while what lies at a place is compared and exchanged.
static EXCHANGE: Mutex<()> = Mutex::new(());

/// What comes of a file.
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    /// All of it has come.
    pub(super) is_end: bool,
}

/// A file that is being written. Dropping it leaves no trace.
pub(super) struct Writing {
    slot: Slot,
    part: String,
    note: PathBuf,
    file: File,
    if_absent: bool,
    if_tag: Option<String>,
    size: Option<u64>,
    sha256: Option<String>,
    modified_at: Option<i64>,
    is_in_place: bool,
}

impl Writing {
    pub(super) fn begin(places: &Places, operation: FileOperation) -> Result<Self, Refusal> {
        let FileOperation::Write { path, size, sha256, mode, modified_at, if_absent, if_tag } = operation else {
            return Err(Refusal::new(FileProblem::Failed, "this is no file to be written"));
        };
        let slot = places.writable(&path, true)?;
        let before = before(&slot)?;
        check_before(before.as_ref(), if_absent, if_tag.as_deref())?;
        check_room(&slot, size.unwrap_or_default())?;
        let (part, note, file) = begin_part(places, &slot)?;
        let writing = Self { slot, part, note, file, if_absent, if_tag, size, sha256, modified_at, is_in_place: false };
        if let Some(before) = &before {
            let (user, group) = (Uid::from_raw(before.st_uid), Gid::from_raw(before.st_gid));
            fchown(&writing.file, Some(user), Some(group))?;
        }
        let mode = mode.unwrap_or_else(|| before.map_or(NEW_MODE, |before| before.st_mode & 0o777));
        fchmod(&writing.file, Mode::from_raw_mode(mode & 0o777))?;
        Ok(writing)
    }

    /// Writes what comes, and puts the file in its place when all of it has.
    pub(super) fn take_all(mut self, mut pieces: Receiver<Piece>) -> Result<FileAnswer, Refusal> {
        let (mut hash, mut written) = (Sha256::new(), 0_u64);
        loop {
            let piece = pieces.blocking_recv().ok_or_else(|| Refusal::new(FileProblem::Failed, "it broke off"))?;
            hash.update(&piece.bytes);
            written += piece.bytes.len() as u64;
            if written > self.size.unwrap_or(DEVICE_WRITE_BYTES_MAX) {
                return Err(Refusal::new(FileProblem::NotAsSaid, "more came than was said, or may be written"));
            }
            self.file.write_all(&piece.bytes)?;
            if piece.is_end {
                break;
            }
        }
        let sha256 = hex(&hash.finalize());
        if self.size.is_some_and(|size| size != written) {
            return Err(Refusal::new(
                FileProblem::NotAsSaid,
                format!("{written} bytes came, which is not what was said"),
            ));
        }
        if self.sha256.as_ref().is_some_and(|said| *said != sha256) {
            return Err(Refusal::new(FileProblem::NotAsSaid, format!("what came has the SHA-256 {sha256}")));
        }
        if let Some(modified_at) = self.modified_at {
            futimens(&self.file, &changed_at(modified_at))?;
        }
        self.file.sync_all()?;
        let is_new = self.put_in_place()?;
        let stat = fstat(&self.file)?;
        let file = Some(info(&self.slot.path, &stat, None));
        Ok(FileAnswer::Done { file, from: 0, length: None, sha256: Some(sha256), is_new })
    }

    fn put_in_place(&mut self) -> Result<bool, Refusal> {
        let _one_at_a_time = EXCHANGE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = before(&self.slot)?;
        check_before(before.as_ref(), self.if_absent, self.if_tag.as_deref())?;
        let (folder, name) = (&self.slot.folder, &self.slot.name);
        let moved = match renameat_with(folder, self.part.as_str(), folder, name, exchange_flags(self.if_absent)) {
            // A file system without that word for it.
            Err(Errno::INVAL | Errno::NOSYS) => renameat(folder, self.part.as_str(), folder, name),
            moved => moved,
        };
        moved?;
        self.is_in_place = true;
        File::from(folder.try_clone()?).sync_all()?;
        Ok(before.is_none())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.is_in_place {
            let _ = unlinkat(&self.slot.folder, self.part.as_str(), AtFlags::empty());
        }
        let _ = fs::remove_file(&self.note);
    }
}

/// The times of a file that was changed at that moment, in milliseconds since 1970.
fn changed_at(moment: i64) -> Timestamps {
    let tv_nsec = moment.rem_euclid(1_000) * 1_000_000;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: moment.div_euclid(1_000), tv_nsec },
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn exchange_flags(if_absent: bool) -> RenameFlags {
    if if_absent { RenameFlags::NOREPLACE } else { RenameFlags::empty() }
}

/// What lies at the place by now: a file, or nothing.
fn before(slot: &Slot) -> Result<Option<Stat>, Refusal> {
    match statat(&slot.folder, &slot.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(Some(stat)),
        Ok(_) => Err(Refusal::new(FileProblem::WrongKind, "what lies there is no file")),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn check_before(before: Option<&Stat>, if_absent: bool, if_tag: Option<&str>) -> Result<(), Refusal> {
    let changed = |reason: &str| Err(Refusal::new(FileProblem::Changed, reason));
    match (before, if_tag) {
        (Some(_), _) if if_absent => changed("a file lies there already"),
        (None, Some(_)) => changed("no file lies there"),
        (Some(stat), Some(wanted)) if tag(stat) != wanted => changed("the file there has changed"),
        _ => Ok(()),
    }
}

fn check_room(slot: &Slot, size: u64) -> Result<(), Refusal> {
    if size > DEVICE_WRITE_BYTES_MAX {
        let reason = format!("at most {DEVICE_WRITE_BYTES_MAX} bytes are written at once");
        return Err(Refusal::new(FileProblem::NotAsSaid, reason));
    }
    let disk = fstatvfs(&slot.folder)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < size.saturating_add(DEVICE_FREE_BYTES_MIN) {
        let reason = format!("the device's disk has {free} bytes free, of which {DEVICE_FREE_BYTES_MIN} stay so");
        return Err(Refusal::new(FileProblem::NoRoom, reason));
    }
    Ok(())
}

/// Notes a name, then makes an empty file of it.
fn begin_part(places: &Places, slot: &Slot) -> Result<(String, PathBuf, File), Refusal> {
    let notes = places.policy().state().join(NOTES);
    fs::create_dir_all(&notes)?;
    let folder = Path::new(std::ffi::OsStr::from_bytes(&slot.path)).parent().unwrap_or(Path::new("/")).to_owned();
    for _ in 0..TRIES {
        let part = format!("{BEGIN}{}-{}{END}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let note = notes.join(&part);
        fs::write(&note, folder.join(&part).into_os_string().into_vec())?;
        match openat(&slot.folder, part.as_str(), flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => return Ok((part, note, File::from(fd))),
            Err(error) => {
                let _ = fs::remove_file(&note);
                if error != Errno::EXIST {
                    return Err(error.into());
                }
            }
        }
    }
    Err(Refusal::new(FileProblem::Failed, "no name is free for the new file"))
}

/// Takes away what an agent left unfinished that was killed.
pub fn clean_up(state: &Path) {
    let notes = fs::read_dir(state.join(NOTES)).into_iter().flatten().flatten();
    for note in notes.map(|note| note.path()) {
        let Ok(part) = fs::read(&note) else { continue };
        let part = PathBuf::from(std::ffi::OsString::from_vec(part));
        let name = part.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // Nothing else is ever noted; what is damaged must not cost a file.
        if name.starts_with(BEGIN) && name.ends_with(END) {
            match fs::remove_file(&part) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, path = %part.display(), "an unfinished file stays");
                    continue;
                }
                _ => {}
            }
        }
        let _ = fs::remove_file(&note);
    }
}

pub(super) fn make_folder(places: &Places, path: &str, mode: Option<u32>) -> Result<FileAnswer, Refusal> {
    let slot = places.writable(path, false)?;
    mkdirat(&slot.folder, &slot.name, Mode::from_raw_mode(mode.unwrap_or(NEW_FOLDER_MODE) & 0o777))?;
    let stat = statat(&slot.folder, &slot.name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(done(Some(info(&slot.path, &stat, None))))
}

pub(super) fn delete(places: &Places, path: &str) -> Result<FileAnswer, Refusal> {
    let slot = places.writable(path, false)?;
    let stat = statat(&slot.folder, &slot.name, AtFlags::SYMLINK_NOFOLLOW)?;
    let flags = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => AtFlags::REMOVEDIR,
        FileType::RegularFile | FileType::Symlink => AtFlags::empty(),
        _ => return Err(Refusal::new(FileProblem::WrongKind, "it is neither a file nor a folder")),
    };
    unlinkat(&slot.folder, &slot.name, flags)?;
    Ok(done(Some(info(&slot.path, &stat, None))))
}
