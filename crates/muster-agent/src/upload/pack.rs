//! Reads what lies at a path: a file as it is, a folder as a tar.
//!
//! A link in a folder is sent as a link, and none is followed below the asked path: whoever
//! may write into a folder must not choose what of the device is sent. The state of the
//! agent is never sent, nor what lies on another file system.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use muster_core::limits::{UPLOAD_BYTES_MAX, UPLOAD_DEPTH_MAX, UPLOAD_ENTRIES_MAX};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat, statat};
use rustix::io::Errno;

use super::tar::{Entry, Kind, filling, header};

/// Bytes of the list of what was left out.
const OMITTED_BYTES_MAX: usize = 64 * 1024;
/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// What lies at an asked path.
#[derive(Debug)]
pub(super) enum Found {
    /// A file, and how many bytes of it are sent: those that it has now.
    File(File, u64),
    /// A folder.
    Folder(Folder),
}

/// A folder that is to be packed.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    name: OsString,
    /// The device and number of the folder that is not looked into.
    secret: Option<(u64, u64)>,
}

impl Folder {
    /// That folder under that name, but not the one of the device and number `secret` in it.
    pub(crate) fn new(fd: OwnedFd, name: OsString, secret: Option<(u64, u64)>) -> Self {
        Self { fd, name, secret }
    }
}

/// Finds what lies at `path`; the reason why it is not sent otherwise.
pub(super) fn find(path: &Path, state: &Path) -> Result<Found, String> {
    let because = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(because(&"is no absolute path"));
    }
    let (parent, name) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => (parent.canonicalize().map_err(|error| because(&error))?, name.to_owned()),
        _ => (Path::new("/").to_owned(), OsString::from(".")),
    };
    let state = state.canonicalize().ok();
    if state.as_ref().is_some_and(|state| parent.join(&name).starts_with(state)) {
        return Err(because(&"belongs to the agent, and is not sent"));
    }
    let folder = open_folder(&parent).map_err(|error| because(&error))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(&folder, &name, flags, Mode::empty()).map_err(|error| match error {
        Errno::LOOP => because(&"is a symbolic link; ask for what it points to"),
        error => because(&io::Error::from(error)),
    })?;
    let found = fstat(&fd).map_err(|error| because(&io::Error::from(error)))?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile if size_of(&found) > UPLOAD_BYTES_MAX => {
            Err(because(&format!("has {} bytes, and at most {UPLOAD_BYTES_MAX} are sent", size_of(&found))))
        }
        FileType::RegularFile => Ok(Found::File(File::from(fd), size_of(&found))),
        FileType::Directory => {
            let name = if name == "." { OsString::from("root") } else { name };
            let secret = state.and_then(|state| std::fs::metadata(state).ok());
            Ok(Found::Folder(Folder { fd, name, secret: secret.map(|secret| (secret.dev(), secret.ino())) }))
        }
        _ => Err(because(&"is neither a file nor a folder")),
    }
}

/// Opens a folder whose path holds no link, part by part: one may have been put in meanwhile.
fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut fd = open("/", flags, Mode::empty())?;
    for part in path.components().skip(1) {
        fd = openat(&fd, part.as_os_str(), flags, Mode::empty())?;
    }
    Ok(fd)
}

fn size_of(found: &Stat) -> u64 {
    u64::try_from(found.st_size).unwrap_or_default()
}

/// Copies a file's first `size` bytes. That there are fewer by now is an error, and the next
/// attempt sends what there is then.
pub(super) fn copy_file(file: File, size: u64, into: &mut impl Write) -> io::Result<()> {
    let copied = io::copy(&mut file.take(size), into)?;
    if copied < size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
    }
    into.flush()
}

/// Why a folder is not packed.
#[derive(Debug)]
pub(crate) enum PackError {
    /// It goes nowhere: whoever reads it has ended.
    Gone,
    /// It cannot be packed.
    Refused(String),
}

impl From<io::Error> for PackError {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Writes a folder as a tar: of what lies in it, that whose name, with the folder's before
/// it, `allows` lets through.
pub(crate) fn pack(folder: &Folder, allows: &dyn Fn(&[u8]) -> bool, into: &mut impl Write) -> Result<(), PackError> {
    let root = fstat(&folder.fd).map_err(|error| PackError::Refused(io::Error::from(error).to_string()))?;
    let mut packer = Packer {
        into,
        allows,
        device: root.st_dev,
        secret: folder.secret,
        bytes: 0,
        entries: 0,
        omitted: String::new(),
    };
    let mut name = folder.name.as_bytes().to_vec();
    packer.folder(&folder.fd, &root, &mut name, 0)?;
    packer.finish(&folder.name)?;
    Ok(into.flush()?)
}

struct Packer<'a, W> {
    into: &'a mut W,
    allows: &'a dyn Fn(&[u8]) -> bool,
    device: u64,
    secret: Option<(u64, u64)>,
    bytes: u64,
    entries: u64,
    /// What was left out and why, a line for each.
    omitted: String,
}

impl<W: Write> Packer<'_, W> {
    fn folder(&mut self, fd: &OwnedFd, found: &Stat, name: &mut Vec<u8>, depth: usize) -> Result<(), PackError> {
        name.push(b'/');
        self.header(Kind::Folder, found, name, b"", 0)?;
        let children = match Dir::read_from(fd) {
            Ok(children) => children,
            Err(error) => {
                self.omit(name, &io::Error::from(error));
                return Ok(());
            }
        };
        for child in children.flatten() {
            let child = child.file_name().to_bytes();
            if matches!(child, b"." | b"..") {
                continue;
            }
            let len = name.len();
            name.extend_from_slice(child);
            self.child(fd, OsStr::from_bytes(child), name, depth)?;
            name.truncate(len);
        }
        Ok(())
    }

    fn child(&mut self, folder: &OwnedFd, child: &OsStr, name: &mut Vec<u8>, depth: usize) -> Result<(), PackError> {
        if !(self.allows)(name) {
            self.omit(name, &"is not allowed by the rules");
            return Ok(());
        }
        let found = match statat(folder, child, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(error) => {
                self.omit(name, &io::Error::from(error));
                return Ok(());
            }
        };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Symlink => match readlinkat(folder, child, Vec::new()) {
                Ok(link) => return self.header(Kind::Link, &found, name, link.to_bytes(), 0),
                Err(error) => self.omit(name, &io::Error::from(error)),
            },
            FileType::RegularFile => return self.file(folder, child, name),
            FileType::Directory if self.secret == Some((found.st_dev, found.st_ino)) => {
                self.omit(name, &"belongs to the agent");
            }
            FileType::Directory if found.st_dev != self.device => self.omit(name, &"lies on another file system"),
            FileType::Directory if depth >= UPLOAD_DEPTH_MAX => {
                self.omit(name, &format!("lies deeper than {UPLOAD_DEPTH_MAX} folders"));
            }
            FileType::Directory => match open_child(folder, child, OFlags::DIRECTORY) {
                Ok((fd, found)) => return self.folder(&fd, &found, name, depth + 1),
                Err(error) => self.omit(name, &error),
            },
            _ => self.omit(name, &"is no file"),
        }
        Ok(())
    }

    fn file(&mut self, folder: &OwnedFd, child: &OsStr, name: &[u8]) -> Result<(), PackError> {
        let opened = open_child(folder, child, OFlags::NONBLOCK);
        let (fd, found) = match opened {
            Ok((fd, found)) if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile => (fd, found),
            Ok(_) => {
                self.omit(name, &"is no file any more");
                return Ok(());
            }
            Err(error) => {
                self.omit(name, &error);
                return Ok(());
            }
        };
        let size = size_of(&found);
        self.header(Kind::File, &found, name, b"", size)?;
        let (mut file, mut left, mut buffer) = (File::from(fd).take(size), size, vec![0; READ_BYTES]);
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    self.into.write_all(&buffer[..n])?;
                    left -= n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.omit(name, &format!("could not be read to its end: {error}"));
                    break;
                }
            }
        }
        // Its header has promised so many bytes.
        io::copy(&mut io::repeat(0).take(left + filling(size) as u64), self.into)?;
        Ok(())
    }

    fn header(&mut self, kind: Kind, found: &Stat, name: &[u8], link: &[u8], size: u64) -> Result<(), PackError> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(size);
        if self.entries > UPLOAD_ENTRIES_MAX {
            return Err(PackError::Refused(format!(
                "the folder holds more than {UPLOAD_ENTRIES_MAX} files and folders"
            )));
        }
        if self.bytes > UPLOAD_BYTES_MAX {
            return Err(PackError::Refused(format!("the folder holds more than {UPLOAD_BYTES_MAX} bytes")));
        }
        let modified_secs = u64::try_from(found.st_mtime).unwrap_or_default();
        let owner = (found.st_uid, found.st_gid);
        let entry = Entry { kind, name, link, size_bytes: size, mode: found.st_mode, owner, modified_secs };
        Ok(self.into.write_all(&header(&entry))?)
    }

    fn omit(&mut self, name: &[u8], why: &dyn std::fmt::Display) {
        if self.omitted.len() < OMITTED_BYTES_MAX {
            self.omitted += &format!("{}: {why}\n", String::from_utf8_lossy(name));
        }
    }

    /// Says what was left out, in a file beside the folder, and ends the tar.
    fn finish(&mut self, folder: &OsStr) -> Result<(), PackError> {
        if !self.omitted.is_empty() {
            let name = [folder.as_bytes(), b".omitted.txt"].concat();
            let size_bytes = self.omitted.len() as u64;
            let entry = Entry {
                kind: Kind::File,
                name: &name,
                link: b"",
                size_bytes,
                mode: 0o644,
                owner: (0, 0),
                modified_secs: 0,
            };
            self.into.write_all(&header(&entry))?;
            self.into.write_all(self.omitted.as_bytes())?;
            io::copy(&mut io::repeat(0).take(filling(size_bytes) as u64), self.into)?;
        }
        Ok(self.into.write_all(&[0; 2 * super::tar::BLOCK_BYTES])?)
    }
}

fn open_child(folder: impl AsFd, child: &OsStr, how: OFlags) -> io::Result<(OwnedFd, Stat)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | how;
    let fd = openat(folder, child, flags, Mode::empty())?;
    let found = fstat(&fd)?;
    Ok((fd, found))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    fn refusal(path: &Path, state: &Path) -> String {
        find(path, state).unwrap_err()
    }

    #[test]
    fn a_folder_is_packed_for_every_tar() {
        let dir = tempfile::tempdir().unwrap();
        let (root, state) = (dir.path().join("logs"), dir.path().join("logs/state"));
        let long = "n".repeat(150);
        fs::create_dir_all(root.join(&long)).unwrap();
        fs::create_dir(&state).unwrap();
        fs::write(state.join("identity.key"), "secret").unwrap();
        fs::write(root.join("a.log"), "one\n").unwrap();
        fs::write(root.join(&long).join("full"), vec![7; 3 * BLOCK]).unwrap();
        fs::write(root.join("empty"), "").unwrap();
        symlink("/etc/shadow", root.join("link")).unwrap();
        nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let Found::Folder(folder) = find(&root, &state).unwrap() else { panic!("no folder") };
        let mut packed = Vec::new();
        pack(&folder, &|_| true, &mut packed).unwrap();
        let (tar, out) = (dir.path().join("x.tar"), dir.path().join("out"));
        fs::write(&tar, packed).unwrap();
        fs::create_dir(&out).unwrap();
        assert!(Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&out).status().unwrap().success());
        let got = out.join("logs");
        assert_eq!(fs::read_to_string(got.join("a.log")).unwrap(), "one\n");
        assert_eq!(fs::read(got.join(&long).join("full")).unwrap(), vec![7; 3 * BLOCK]);
        assert_eq!(fs::read_link(got.join("link")).unwrap(), Path::new("/etc/shadow"));
        assert_eq!(fs::read(got.join("empty")).unwrap(), b"");
        assert!(!got.join("state").exists());
        let mut omitted: Vec<String> =
            fs::read_to_string(out.join("logs.omitted.txt")).unwrap().lines().map(ToOwned::to_owned).collect();
        omitted.sort();
        assert_eq!(omitted, ["logs/pipe: is no file", "logs/state: belongs to the agent"]);
    }

    const BLOCK: usize = super::super::tar::BLOCK_BYTES;

    #[test]
    fn what_is_not_sent_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (root, state) = (dir.path().canonicalize().unwrap(), dir.path().join("state"));
        fs::create_dir(&state).unwrap();
        fs::write(root.join("a"), "x").unwrap();
        symlink("a", root.join("b")).unwrap();
        symlink("state", root.join("inside")).unwrap();
        for (name, problem) in [
            ("b", "is a symbolic link; ask for what it points to"),
            ("none", "No such file or directory (os error 2)"),
            ("state", "belongs to the agent, and is not sent"),
            ("inside/key", "belongs to the agent, and is not sent"),
            ("../x", "is no absolute path"),
        ] {
            let path = root.join(name);
            assert_eq!(refusal(&path, &state), format!("{}: {problem}", path.display()));
        }
        assert!(matches!(find(&root.join("a"), &state), Ok(Found::File(_, 1))));
    }
}
