//! What a step was about to change, and how it is put back.
//!
//! `saved-N` in a run's directory holds how far step N came (`state.json`), what it
//! was told (`step.json`), and copies of what it would change: `manifest.json` with a
//! row for each file, folder and link, and the content of each file under a number.
//! The manifest is written last and at once, so it is whole or not there; nothing is
//! changed before it is. Putting back can be repeated: it ends where it would have
//! ended, whenever it is cut off.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::StepSpec;
use super::context::Failure;
use super::xattrs::{self, Xattrs};
use crate::files::{make_private_dir, private_file, read_json, sync_parent, write_json};

/// How far a step came.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Nothing of the device is changed yet.
    Staging,
    /// What it changes is saved, and may be changed.
    Changing,
    /// Changed and verified.
    Done,
    /// It failed so, and is putting back what it changed.
    Undoing(Failure),
}

/// The directory of what one step saved.
#[derive(Clone, Debug)]
pub(super) struct Saved(PathBuf);

/// A path, of which a device's file system asks no encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AnyPath(PathBuf);

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    path: AnyPath,
    what: What,
}

/// What stood at a path.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Nothing,
    File {
        copy: u64,
        size_bytes: u64,
        owned: Owned,
    },
    Folder(Owned),
    Link {
        target: AnyPath,
        owned: Owned,
    },
    /// A socket, a pipe or a device: never changed, and left alone.
    Special,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owned {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime_s: i64,
    mtime_ns: i64,
    #[serde(default)]
    xattrs: Xattrs,
}

/// A path that was saved and everything below it, what stands above first.
#[derive(Debug, Serialize, Deserialize)]
struct Tree {
    rows: Vec<Row>,
}

impl Saved {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory's path.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// How far the step came; `None` when it has not begun.
    pub(super) fn phase(&self) -> io::Result<Option<Phase>> {
        read_json(&self.0.join("state.json"))
    }

    /// Writes down how far the step came.
    pub(super) fn set_phase(&self, phase: &Phase) -> io::Result<()> {
        write_json(&self.0.join("state.json"), phase)
    }

    /// What the step was told; `None` when it has not begun.
    pub(super) fn spec(&self) -> io::Result<Option<StepSpec>> {
        read_json(&self.0.join("step.json"))
    }

    /// Whether the step may have changed anything that is not put back already.
    pub(super) fn is_changed(&self) -> io::Result<bool> {
        Ok(!matches!(self.phase()?, None | Some(Phase::Staging)))
    }

    /// Makes the directory. What an interrupted step has staged in it stays.
    pub(super) fn begin(&self, spec: &StepSpec) -> io::Result<()> {
        make_private_dir(&self.0)?;
        sync_parent(&self.0)?;
        write_json(&self.0.join("step.json"), spec)?;
        self.set_phase(&Phase::Staging)
    }

    /// Copies what stands at `paths`, to the disk.
    pub(super) fn save(&self, paths: &[PathBuf]) -> io::Result<()> {
        let mut copies = 0;
        let trees = paths.iter().map(|path| {
            let mut rows = Vec::new();
            self.save_tree(path, &mut rows, &mut copies).map_err(|error| at(path, &error))?;
            Ok(Tree { rows })
        });
        let trees = trees.collect::<io::Result<Vec<_>>>()?;
        File::open(&self.0)?.sync_all()?;
        write_json(&self.0.join("manifest.json"), &trees)
    }

    fn save_tree(&self, path: &Path, rows: &mut Vec<Row>, copies: &mut u64) -> io::Result<()> {
        let Some(found) = metadata(path)? else {
            rows.push(Row { path: AnyPath(path.to_owned()), what: What::Nothing });
            return Ok(());
        };
        let (kind, owned) = (found.file_type(), Owned::of(path, &found)?);
        let what = if kind.is_symlink() {
            What::Link { target: AnyPath(fs::read_link(path)?), owned }
        } else if kind.is_dir() {
            What::Folder(owned)
        } else if kind.is_file() {
            *copies += 1;
            What::File { copy: *copies, size_bytes: self.copy_in(path, *copies)?, owned }
        } else {
            What::Special
        };
        rows.push(Row { path: AnyPath(path.to_owned()), what });
        if kind.is_dir() {
            for entry in fs::read_dir(path)? {
                self.save_tree(&entry?.path(), rows, copies)?;
            }
        }
        Ok(())
    }

    fn copy_in(&self, path: &Path, copy: u64) -> io::Result<u64> {
        let mut into = private_file().truncate(true).open(self.copy(copy))?;
        let size_bytes = io::copy(&mut File::open(path)?, &mut into)?;
        into.sync_all()?;
        Ok(size_bytes)
    }

    fn copy(&self, copy: u64) -> PathBuf {
        self.0.join(format!("{copy}.copy"))
    }

    /// Puts everything back, and says which paths were saved.
    pub(super) fn restore(&self) -> io::Result<Vec<PathBuf>> {
        let trees: Option<Vec<Tree>> = read_json(&self.0.join("manifest.json"))?;
        let mut restored = Vec::new();
        for tree in trees.unwrap_or_default() {
            let Some(root) = tree.rows.first().map(|row| row.path.0.clone()) else { continue };
            self.restore_tree(&tree).map_err(|error| at(&root, &error))?;
            restored.push(root);
        }
        Ok(restored)
    }

    fn restore_tree(&self, tree: &Tree) -> io::Result<()> {
        let known: BTreeSet<&Path> = tree.rows.iter().map(|row| row.path.0.as_path()).collect();
        for row in &tree.rows {
            self.restore_row(row, &known)?;
        }
        // What is put into a folder changes its times, so those come last, innermost first.
        for row in tree.rows.iter().rev() {
            if let What::Folder(owned) = &row.what
                && !owned.is_of(&row.path.0)?
            {
                owned.put_onto(&row.path.0)?;
                File::open(&row.path.0)?.sync_all()?;
            }
        }
        Ok(())
    }

    fn restore_row(&self, row: &Row, known: &BTreeSet<&Path>) -> io::Result<()> {
        let path = row.path.0.as_path();
        match &row.what {
            What::Special => Ok(()),
            What::Nothing => {
                remove(path)?;
                // The folder above may be gone as well.
                match sync_parent(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                }
            }
            What::Folder(_) => restore_folder(path, known),
            What::Link { target, owned } => restore_link(path, &target.0, owned),
            What::File { copy, size_bytes, owned } => self.restore_file(path, *copy, *size_bytes, owned),
        }
    }

    fn restore_file(&self, path: &Path, copy: u64, size_bytes: u64, owned: &Owned) -> io::Result<()> {
        let copy = self.copy(copy);
        let found = metadata(path)?.filter(|found| found.is_file() && found.len() == size_bytes);
        if found.is_some() && owned.is_of(path)? && is_same(&copy, path)? {
            return Ok(());
        }
        let beside = beside(path);
        remove(&beside)?;
        let mut options = OpenOptions::new();
        let mut into = options.write(true).create_new(true).mode(0o600).open(&beside)?;
        io::copy(&mut File::open(&copy)?, &mut into)?;
        owned.put_onto(&beside)?;
        into.sync_all()?;
        replace(&beside, path)
    }
}

fn restore_folder(path: &Path, known: &BTreeSet<&Path>) -> io::Result<()> {
    if metadata(path)?.is_none_or(|found| !found.is_dir()) {
        remove(path)?;
        fs::create_dir_all(path)?;
        return sync_parent(path);
    }
    let mut is_changed = false;
    for entry in fs::read_dir(path)? {
        let entry = entry?.path();
        if !known.contains(entry.as_path()) {
            is_changed = true;
            remove(&entry)?;
        }
    }
    if is_changed { File::open(path)?.sync_all() } else { Ok(()) }
}

fn restore_link(path: &Path, target: &Path, owned: &Owned) -> io::Result<()> {
    let found = metadata(path)?.filter(Metadata::is_symlink);
    if found.is_some() && owned.is_of(path)? && fs::read_link(path)? == target {
        return Ok(());
    }
    let beside = beside(path);
    remove(&beside)?;
    symlink(target, &beside)?;
    owned.put_onto(&beside)?;
    replace(&beside, path)
}

/// Puts `beside` in the place of `path`, at once when no folder stands there.
fn replace(beside: &Path, path: &Path) -> io::Result<()> {
    if metadata(path)?.is_some_and(|found| found.is_dir()) {
        remove(path)?;
    }
    fs::rename(beside, path)?;
    sync_parent(path)
}

/// Where a file is written before it takes the place of `path`.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    // A name may be 255 bytes long.
    let mut name = name.into_vec();
    name.truncate(200);
    name.extend(b".muster-restored");
    path.with_file_name(OsString::from_vec(name))
}

impl Owned {
    fn of(path: &Path, found: &Metadata) -> io::Result<Self> {
        Ok(Self {
            mode: found.mode() & 0o7777,
            uid: found.uid(),
            gid: found.gid(),
            mtime_s: found.mtime(),
            mtime_ns: found.mtime_nsec(),
            xattrs: xattrs::read(path)?,
        })
    }

    /// Whether what stands at `path` is owned so.
    fn is_of(&self, path: &Path) -> io::Result<bool> {
        metadata(path)?.map_or(Ok(false), |found| Ok(Self::of(path, &found)? == *self))
    }

    /// The owner first: changing it takes set-user-id bits away.
    fn put_onto(&self, path: &Path) -> io::Result<()> {
        let found = fs::symlink_metadata(path)?;
        if (found.uid(), found.gid()) != (self.uid, self.gid) {
            lchown(path, Some(self.uid), Some(self.gid))?;
        }
        if !found.is_symlink() {
            fs::set_permissions(path, Permissions::from_mode(self.mode))?;
        }
        // Changing the owner takes capabilities away as well.
        xattrs::write(path, &self.xattrs)?;
        let mtime = TimeSpec::new(self.mtime_s, self.mtime_ns);
        utimensat(nix::fcntl::AT_FDCWD, path, &TimeSpec::UTIME_OMIT, &mtime, UtimensatFlags::NoFollowSymlink)?;
        Ok(())
    }
}

/// What stands at `path` itself, which may be a link.
pub(super) fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes whatever stands at `path`.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match metadata(path)? {
        Some(found) if found.is_dir() => fs::remove_dir_all(path),
        Some(_) => fs::remove_file(path),
        None => Ok(()),
    }
}

/// Bytes of every file at `path` and below.
pub(super) fn size_bytes(path: &Path) -> io::Result<u64> {
    let Some(found) = metadata(path)? else { return Ok(0) };
    if !found.is_dir() {
        return Ok(found.len());
    }
    fs::read_dir(path)?.try_fold(0, |sum, entry| Ok(sum + size_bytes(&entry?.path())?))
}

fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (io::BufReader::new(File::open(one)?), io::BufReader::new(File::open(other)?));
    let (mut left, mut right) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        let n = one.read(&mut left)?;
        if n == 0 {
            return Ok(other.read(&mut right)? == 0);
        }
        match other.read_exact(&mut right[..n]) {
            Ok(()) if left[..n] == right[..n] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Serialize for AnyPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => [BASE64_STANDARD.encode(self.0.as_os_str().as_bytes())].serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for AnyPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Bytes([String; 1]),
        }
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Text(text) => text.into(),
            Written::Bytes([bytes]) => {
                let bytes = BASE64_STANDARD.decode(bytes).map_err(serde::de::Error::custom)?;
                OsString::from_vec(bytes).into()
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything at `path` and below, as a restoration must bring it back.
    fn picture(path: &Path) -> Vec<(PathBuf, String)> {
        let Some(found) = metadata(path).unwrap() else { return Vec::new() };
        let content = if found.is_symlink() {
            format!("to {:?}", fs::read_link(path).unwrap())
        } else if found.is_dir() {
            "folder".to_owned()
        } else {
            format!("{:?}", fs::read(path).unwrap())
        };
        let mut all = vec![(path.to_owned(), format!("{content} {:?}", Owned::of(path, &found).unwrap()))];
        if found.is_dir() {
            let mut below: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
            below.sort();
            all.extend(below.iter().flat_map(|path| picture(path)));
        }
        all
    }

    /// What a person, a step or a restoration that was cut off may do to one path.
    #[derive(Clone, Debug)]
    enum Deed {
        Write(Vec<u8>),
        Remove,
        Folder,
        Link,
        Mode(u32),
        Owner(u32),
        Xattr(u8),
        HalfRestored,
    }

    fn any_deed() -> impl Strategy<Value = (usize, Deed)> {
        let deed = prop_oneof![
            3 => proptest::collection::vec(any::<u8>(), 0..5).prop_map(Deed::Write),
            2 => Just(Deed::Remove),
            1 => Just(Deed::Folder),
            1 => Just(Deed::Link),
            1 => prop_oneof![Just(0o4755), Just(0o600), Just(0o777)].prop_map(Deed::Mode),
            1 => (1..5_u32).prop_map(Deed::Owner),
            1 => (0..2_u8).prop_map(Deed::Xattr),
            1 => Just(Deed::HalfRestored),
        ];
        (0..PATHS.len(), deed)
    }

    const PATHS: [&str; 9] = ["f", "l", "d", "d/f", "d/e", "d/e/f", "d/e/g", "d/new", "none"];

    fn do_to(root: &Path, (path, deed): &(usize, Deed)) {
        let path = root.join(PATHS[*path]);
        let _ = match deed {
            Deed::Write(content) => fs::write(&path, content),
            Deed::Remove => remove(&path),
            Deed::Folder => fs::create_dir(&path),
            Deed::Link => symlink("nowhere", &path),
            Deed::Mode(mode) => fs::set_permissions(&path, Permissions::from_mode(*mode)),
            // May be refused to a user who is not root.
            Deed::Owner(id) => lchown(&path, Some(*id), Some(*id)),
            // May be refused by the file system.
            Deed::Xattr(name) => {
                let wanted = [(format!("user.{name}"), BASE64_STANDARD.encode(b"x\0y"))].into();
                xattrs::write(&path, &wanted)
            }
            Deed::HalfRestored => fs::write(beside(&path), "half"),
        };
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Whatever state a restoration finds, also one that an earlier restoration
        /// was killed in, it ends in the state that was saved, byte for byte.
        #[test]
        fn a_restoration_ends_in_what_was_saved(
            before in proptest::collection::vec(any_deed(), 0..12),
            after in proptest::collection::vec(any_deed(), 0..12),
        ) {
            // In memory where that can be: each case waits for the disk many times.
            let memory = Path::new("/dev/shm");
            let temp = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
            let root = temp.path().join("root");
            fs::create_dir_all(root.join("d/e")).unwrap();
            // Before anything was saved, no restoration can have been cut off.
            before.iter().filter(|(_, deed)| !matches!(deed, Deed::HalfRestored)).for_each(|deed| do_to(&root, deed));
            let saved = Saved::new(temp.path().join("saved-0"));
            make_private_dir(saved.path()).unwrap();
            let paths = ["f", "l", "d", "none"].map(|path| root.join(path));
            let pictures = || paths.iter().map(|path| picture(path)).collect::<Vec<_>>();
            let expected = pictures();
            saved.save(&paths).unwrap();
            prop_assert_eq!(pictures(), expected.clone(), "saving changes nothing");
            after.iter().for_each(|deed| do_to(&root, deed));
            saved.restore().unwrap();
            prop_assert_eq!(pictures(), expected.clone());
            saved.restore().unwrap();
            prop_assert_eq!(pictures(), expected);
        }
    }

    #[test]
    fn keeps_names_that_are_no_text() {
        let temp = tempfile::tempdir().unwrap();
        let odd = temp.path().join("d").join(OsString::from_vec(vec![b'a', 0xFF]));
        fs::create_dir(odd.parent().unwrap()).unwrap();
        fs::write(&odd, "x").unwrap();
        let saved = Saved::new(temp.path().join("saved-0"));
        make_private_dir(saved.path()).unwrap();
        saved.save(&[temp.path().join("d")]).unwrap();
        fs::remove_file(&odd).unwrap();
        saved.restore().unwrap();
        assert_eq!(fs::read(&odd).unwrap(), b"x");
    }
}
