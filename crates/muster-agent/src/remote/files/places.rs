//! From a path to what lies there.
//!
//! What a path leads to is opened first, without looking into it, and then asked where it
//! is: the rules are held against that. So a link, or a folder that is exchanged meanwhile,
//! leads to nothing that its true path would not have given.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use muster_core::file_rules::{FileAccess, FileRules};
use muster_core::limits::DEVICE_PATH_BYTES_MAX;
use muster_link::files::{FileInfo, FileProblem};
use rustix::fs::{
    CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Stat, fstat, fstatfs, open, openat, openat2, readlink,
    readlinkat,
};
use rustix::io::Errno;

use super::Refusal;
use super::policy::FilePolicy;

/// What may be reached: by the fleet's rules and by the device.
pub(super) struct Places {
    policy: Arc<FilePolicy>,
    rules: FileRules,
    secrets: Vec<(u64, u64)>,
}

/// What lies at a path.
#[derive(Debug)]
pub(super) struct Place {
    /// To be opened again before anything is done with it.
    fd: OwnedFd,
    /// Where it truly is.
    pub(super) path: Vec<u8>,
    pub(super) stat: Stat,
}

/// A name in a folder, at which something may lie or not.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) folder: OwnedFd,
    pub(super) name: CString,
    pub(super) path: Vec<u8>,
}

impl Places {
    pub(super) fn new(policy: Arc<FilePolicy>, rules: FileRules) -> Self {
        let secrets = policy.secrets();
        Self { policy, rules, secrets }
    }

    pub(super) fn policy(&self) -> &FilePolicy {
        &self.policy
    }

    /// What lies at that path, if it may be read. A link at its end is followed.
    pub(super) fn readable(&self, path: &str) -> Result<Place, Refusal> {
        let place = self.find(path)?;
        self.check(&place.path, FileAccess::Read)?;
        Ok(place)
    }

    /// The name at which that path ends, if it may be written. A link there is followed
    /// where `follow` says so, and is what is meant itself otherwise.
    pub(super) fn writable(&self, path: &str, follow: bool) -> Result<Slot, Refusal> {
        check_path(path)?;
        let slot = self.slot(path)?;
        let slot = match readlinkat(&slot.folder, &slot.name, Vec::new()) {
            Ok(_) if follow => {
                let place = self.find(path)?;
                let path = String::from_utf8(place.path).map_err(|_| bad_path(path, "leads to no text"))?;
                self.slot(&path)?
            }
            _ => slot,
        };
        self.check(&slot.path, FileAccess::Write)?;
        Ok(slot)
    }

    /// Whether what truly is at that path may be read.
    pub(super) fn may_read(&self, path: &[u8]) -> bool {
        self.check(path, FileAccess::Read).is_ok()
    }

    fn slot(&self, path: &str) -> Result<Slot, Refusal> {
        let trimmed = path.trim_end_matches('/');
        let (parent, name) = trimmed.rsplit_once('/').ok_or_else(|| bad_path(path, "is no name in a folder"))?;
        if matches!(name, "" | ".") {
            return Err(bad_path(path, "is no name in a folder"));
        }
        let parent = self.find(if parent.is_empty() { "/" } else { parent })?;
        let folder = parent.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
        let path = [parent.path.as_slice(), if parent.path == b"/" { b"" } else { b"/" }, name.as_bytes()].concat();
        let name = CString::new(name).map_err(|_| bad_path(trimmed, "has a zero byte in it"))?;
        Ok(Slot { folder, name, path })
    }

    /// What lies there, unless it is the agent's own or none of the disk's.
    fn find(&self, path: &str) -> Result<Place, Refusal> {
        check_path(path)?;
        let fd = open_path(path)?;
        let stat = fstat(&fd)?;
        if fstatfs(&fd)?.f_type == PROC_SUPER_MAGIC {
            return Err(not_allowed("what the kernel tells of processes is not served"));
        }
        let known_as = readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())?.into_bytes();
        if !known_as.starts_with(b"/") || (stat.st_nlink == 0 && known_as.ends_with(b" (deleted)")) {
            return Err(Refusal::new(FileProblem::NotFound, "it was deleted meanwhile"));
        }
        let place = Place { fd, path: known_as, stat };
        self.check_is_not_ours(&place)?;
        Ok(place)
    }

    fn check(&self, path: &[u8], wanted: FileAccess) -> Result<(), Refusal> {
        let is_ours = Path::new(OsStr::from_bytes(path)).starts_with(self.policy.state());
        match () {
            () if is_ours => Err(ours()),
            () if self.rules.access(path) < wanted => Err(not_allowed("the fleet's rules do not allow that path")),
            () if self.policy.access(path) < wanted => Err(not_allowed("the device does not allow that path")),
            () => Ok(()),
        }
    }

    /// The same thing may have a second name, or be mounted a second time.
    fn check_is_not_ours(&self, place: &Place) -> Result<(), Refusal> {
        let is_secret = |stat: &Stat| self.secrets.contains(&(stat.st_dev, stat.st_ino));
        if is_secret(&place.stat) {
            return Err(ours());
        }
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut above = if place.is_folder() {
            openat(&place.fd, "..", folder, Mode::empty())?
        } else {
            let parent = Path::new(OsStr::from_bytes(&place.path)).parent().unwrap_or(Path::new("/"));
            open(parent, folder | OFlags::NOFOLLOW, Mode::empty())?
        };
        let mut stat = fstat(&above)?;
        loop {
            if is_secret(&stat) {
                return Err(ours());
            }
            above = openat(&above, "..", folder, Mode::empty())?;
            let next = fstat(&above)?;
            if (next.st_dev, next.st_ino) == (stat.st_dev, stat.st_ino) {
                return Ok(());
            }
            stat = next;
        }
    }

    /// The agent's own directory, as the packer of archives knows it.
    pub(super) fn secret_folder(&self) -> Option<(u64, u64)> {
        // The last one, see the policy.
        self.secrets.last().copied()
    }
}

impl Place {
    pub(super) fn is_folder(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }

    /// The same thing, opened to do something with it.
    pub(super) fn open(&self, flags: OFlags) -> Result<OwnedFd, Refusal> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = if self.is_folder() {
            openat(&self.fd, ".", flags, Mode::empty())
        } else {
            open(format!("/proc/self/fd/{}", self.fd.as_raw_fd()), flags, Mode::empty())
        };
        Ok(opened?)
    }

    /// As the API tells it, with its whole path.
    pub(super) fn info(&self) -> FileInfo {
        info(&self.path, &self.stat, None)
    }
}

/// As the API tells what has that name.
pub(super) fn info(name: &[u8], stat: &Stat, link_target: Option<Vec<u8>>) -> FileInfo {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "file",
        FileType::Directory => "folder",
        FileType::Symlink => "link",
        _ => "other",
    };
    let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    FileInfo {
        name: String::from_utf8_lossy(name).into_owned(),
        kind: kind.to_owned(),
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        mode: format!("{:04o}", stat.st_mode & 0o7777),
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified_at: stat.st_mtime.saturating_mul(1_000).saturating_add(nanos / 1_000_000),
        link_target: link_target.map(|target| String::from_utf8_lossy(&target).into_owned()),
        tag: tag(stat),
    }
}

/// Another one for each content, as far as the file system tells.
pub(super) fn tag(stat: &Stat) -> String {
    format!("{:x}-{:x}-{:x}-{:x}", stat.st_ino, stat.st_size, stat.st_ctime, stat.st_ctime_nsec)
}

fn check_path(path: &str) -> Result<(), Refusal> {
    match () {
        () if !path.starts_with('/') => Err(bad_path(path, "is no absolute path")),
        () if path.len() > DEVICE_PATH_BYTES_MAX => Err(bad_path(path, "is too long")),
        () if path.contains('\0') => Err(bad_path(path, "has a zero byte in it")),
        () if path.split('/').any(|part| part == "..") => Err(bad_path(path, "has the part ..")),
        () => Ok(()),
    }
}

/// Opens what lies there without looking into it, and through none of the kernel's links
/// that lead where no path does.
fn open_path(path: &str) -> Result<OwnedFd, Refusal> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        Err(Errno::NOSYS | Errno::PERM) => open_by_parts(path),
        Err(Errno::LOOP) => Err(not_allowed("a link on the way leads nowhere, or where none may lead")),
        opened => Ok(opened?),
    }
}

/// The same for kernels before 5.6: its true path, opened part by part without links.
pub(super) fn open_by_parts(path: &str) -> Result<OwnedFd, Refusal> {
    let path = Path::new(path).canonicalize()?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut fd = open("/", flags, Mode::empty())?;
    for part in path.components().skip(1) {
        fd = openat(&fd, part.as_os_str(), flags, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) == FileType::Symlink {
            return Err(Refusal::new(FileProblem::Changed, "a link was put in meanwhile"));
        }
    }
    Ok(fd)
}

fn bad_path(path: &str, why: &str) -> Refusal {
    Refusal::new(FileProblem::BadPath, format!("{} {why}", muster_core::invalid::quoted(path)))
}

fn not_allowed(reason: &str) -> Refusal {
    Refusal::new(FileProblem::NotAllowed, reason)
}

fn ours() -> Refusal {
    not_allowed("it belongs to the agent")
}
