//! Hard paths, and files that are written half.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use muster_core::file_rules::{FileAccess, FileRule, FileRules};
use muster_link::files::{FileAnswer, FileOperation, FileProblem};
use tempfile::TempDir;
use tokio::sync::mpsc::channel;

use super::change::{Piece, Writing, clean_up, delete, make_folder};
use super::look::bounds;
use super::places::{Places, open_by_parts};
use super::policy::{FileLevel, FilePolicy};

/// A device with a folder for everybody, one for nobody, and the agent's state.
struct Device {
    root: TempDir,
}

impl Device {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        for folder in ["open", "read", "closed", "state/runs"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for file in ["open/a", "read/a", "closed/a", "state/identity.key", "state/runs/a"] {
            fs::write(root.path().join(file), file).unwrap();
        }
        Self { root }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root.path().canonicalize().unwrap().display())
    }

    fn places(&self, level: FileLevel) -> Places {
        let policy = FilePolicy::new(level, Vec::new(), Path::new(&self.path("state"))).unwrap();
        let rule = |name: &str, access| FileRule { path: self.path(name), access };
        let rules = [
            rule("closed/**", FileAccess::None),
            rule("read/**", FileAccess::Read),
            // The agent's own is not served even so.
            rule("**", FileAccess::Write),
        ];
        Places::new(Arc::new(policy), FileRules::new(rules.to_vec()).unwrap())
    }

    fn read(&self, name: &str) -> Result<String, FileProblem> {
        let place = self.places(FileLevel::Write).readable(&self.path(name)).map_err(|refusal| refusal.problem)?;
        let mut text = String::new();
        fs::File::from(place.open(rustix::fs::OFlags::RDONLY).unwrap()).read_to_string(&mut text).unwrap();
        Ok(text)
    }

    fn order(&self, name: &str) -> FileOperation {
        let (path, size, sha256, mode, if_tag) = (self.path(name), None, None, None, None);
        FileOperation::Write { path, size, sha256, mode, modified_at: None, if_absent: false, if_tag }
    }

    fn begin(&self, order: FileOperation) -> Result<Writing, FileProblem> {
        Writing::begin(&self.places(FileLevel::Write), order).map_err(|refusal| refusal.problem)
    }

    fn write(&self, order: FileOperation, content: &str) -> Result<FileAnswer, FileProblem> {
        let writing = self.begin(order)?;
        let (pieces, to_disk) = channel(2);
        for (bytes, is_end) in [(content.as_bytes().to_vec(), false), (Vec::new(), true)] {
            pieces.try_send(Piece { bytes, is_end }).unwrap();
        }
        writing.take_all(to_disk).map_err(|refusal| refusal.problem)
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let names = fs::read_dir(self.path(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }
}

#[test]
fn links_lead_nowhere_that_their_true_path_would_not() {
    let device = Device::new();
    let links = [("open/out", "closed/a"), ("open/folder", "closed"), ("open/key", "state/identity.key")];
    for (link, target) in links {
        symlink(device.path(target), device.path(link)).unwrap();
    }
    symlink("/proc/self/root", device.path("open/magic")).unwrap();
    symlink(device.path("read/a"), device.path("open/fine")).unwrap();
    assert_eq!(device.read("open/a"), Ok("open/a".to_owned()));
    assert_eq!(device.read("open/fine"), Ok("read/a".to_owned()));
    for name in ["open/out", "open/folder/a", "open/key", "open/magic/etc/hostname", "closed/a", "state/runs/a"] {
        assert_eq!(device.read(name), Err(FileProblem::NotAllowed), "{name}");
    }
    // Written through a link into what may only be read, or not at all.
    for name in ["open/fine", "open/out", "open/folder/new", "read/a", "state/new"] {
        assert_eq!(device.write(device.order(name), "x").err(), Some(FileProblem::NotAllowed), "{name}");
    }
}

#[test]
fn the_agents_own_has_no_second_name() {
    let device = Device::new();
    fs::hard_link(device.path("state/identity.key"), device.path("open/hard")).unwrap();
    assert_eq!(device.read("open/hard"), Err(FileProblem::NotAllowed));
}

#[test]
fn paths_that_are_none_are_refused() {
    let device = Device::new();
    let places = device.places(FileLevel::Write);
    let long = format!("/{}", "a/".repeat(5_000));
    for path in ["", "etc", "/a\0b", "/a/../b", &long] {
        assert_eq!(places.readable(path).unwrap_err().problem, FileProblem::BadPath, "{path:?}");
    }
    for path in ["/proc/self/environ", "/proc/self/root/etc/hostname", "/proc/self/mem"] {
        assert_eq!(places.readable(path).unwrap_err().problem, FileProblem::NotAllowed, "{path}");
    }
    let name = "a".repeat(300);
    assert!(device.read(&format!("open/{name}")).is_err());
    assert_eq!(device.read("open/nothing"), Err(FileProblem::NotFound));
}

#[test]
fn the_way_of_old_kernels_follows_no_link_of_the_kernel() {
    let device = Device::new();
    symlink(device.path("closed"), device.path("open/folder")).unwrap();
    assert!(open_by_parts(&device.path("open/folder/a")).is_ok());
    assert!(open_by_parts(&device.path("open/none")).is_err());
}

#[test]
fn the_device_decides_last() {
    let device = Device::new();
    let path = device.path("open/a");
    assert!(device.places(FileLevel::Off).readable(&path).is_err());
    assert!(device.places(FileLevel::Read).readable(&path).is_ok());
    assert!(device.places(FileLevel::Read).writable(&path, true).is_err());
    let policy = FilePolicy::new(FileLevel::Write, vec![device.path("read/**")], Path::new("/none")).unwrap();
    let rules = FileRules::new(vec![FileRule { path: "/**".to_owned(), access: FileAccess::Write }]).unwrap();
    let places = Places::new(Arc::new(policy), rules);
    assert!(places.writable(&device.path("read/a"), true).is_ok());
    assert!(places.readable(&path).is_err());
}

#[test]
fn a_link_that_is_exchanged_all_the_time_never_leads_out() {
    let device = Device::new();
    let (link, other) = (device.path("open/link"), device.path("open/other"));
    symlink(device.path("open/a"), &link).unwrap();
    let targets = [device.path("closed/a"), device.path("open/a")];
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            for round in 0..2_000 {
                symlink(&targets[round % 2], &other).unwrap();
                fs::rename(&other, &link).unwrap();
            }
        });
        while !swapper.is_finished() {
            if let Ok(text) = device.read("open/link") {
                assert_eq!(text, "open/a");
            }
        }
    });
}

#[test]
fn a_file_takes_its_place_when_it_is_whole() {
    let device = Device::new();
    let FileAnswer::Done { is_new, sha256, .. } = device.write(device.order("open/a"), "new").unwrap() else {
        panic!()
    };
    assert!(!is_new && sha256.unwrap().starts_with("11507a0e2f5e69d5"));
    assert_eq!(device.read("open/a"), Ok("new".to_owned()));
    let refused = |size: Option<u64>, sha256: Option<String>, if_absent, if_tag: Option<String>| {
        let order = FileOperation::Write {
            path: device.path("open/a"),
            size,
            sha256,
            mode: None,
            modified_at: None,
            if_absent,
            if_tag,
        };
        device.write(order, "other").err()
    };
    for size in [4, 6, 1 << 45] {
        assert_eq!(refused(Some(size), None, false, None), Some(FileProblem::NotAsSaid), "{size}");
    }
    assert_eq!(refused(None, Some("0".repeat(64)), false, None), Some(FileProblem::NotAsSaid));
    assert_eq!(refused(None, None, true, None), Some(FileProblem::Changed));
    assert_eq!(refused(None, None, false, Some("old".to_owned())), Some(FileProblem::Changed));
    assert_eq!(device.read("open/a"), Ok("new".to_owned()));
    assert_eq!(device.names("open"), ["a"]);
    assert!(device.names("state/file-writes").is_empty());
    assert_eq!(device.write(device.order("open"), "x").err(), Some(FileProblem::WrongKind));
}

#[test]
fn what_a_killed_agent_left_is_taken_away() {
    let device = Device::new();
    let writing = device.begin(device.order("open/a")).unwrap();
    assert_eq!(device.names("open").len(), 2);
    std::mem::forget(writing);
    // A note that is damaged costs no file.
    fs::write(device.path("state/file-writes/x"), device.path("read/a")).unwrap();
    clean_up(Path::new(&device.path("state")));
    assert_eq!((device.names("open"), device.names("read")), (vec!["a".to_owned()], vec!["a".to_owned()]));
    assert!(device.names("state/file-writes").is_empty());
}

#[test]
fn folders_are_made_and_files_deleted_where_one_may() {
    let device = Device::new();
    let places = device.places(FileLevel::Write);
    let deleted = |name: &str| delete(&places, &device.path(name)).map(|_| ()).map_err(|refusal| refusal.problem);
    make_folder(&places, &device.path("open/new"), None).unwrap();
    assert_eq!(make_folder(&places, &device.path("open/new"), None).unwrap_err().problem, FileProblem::Changed);
    symlink(device.path("closed/a"), device.path("open/link")).unwrap();
    assert_eq!(deleted("open"), Err(FileProblem::WrongKind));
    assert_eq!((deleted("open/new"), deleted("open/link"), deleted("open/a")), (Ok(()), Ok(()), Ok(())));
    assert_eq!(deleted("open/a"), Err(FileProblem::NotFound));
    assert_eq!(deleted("read/a"), Err(FileProblem::NotAllowed));
    assert_eq!(deleted("state/identity.key"), Err(FileProblem::NotAllowed));
    assert!(Path::new(&device.path("closed/a")).exists(), "a link is deleted, and not what it points to");
}

#[test]
fn parts_of_a_file_lie_in_it() {
    let of = |part, size| bounds(part, size).map_err(|refusal| refusal.problem);
    assert_eq!(of((0, u64::MAX), 0), Ok((0, 0)));
    assert_eq!(of((3, 4), 10), Ok((3, 4)));
    assert_eq!(of((8, u64::MAX), 10), Ok((8, 2)));
    assert_eq!(of((-3, u64::MAX), 10), Ok((7, 3)));
    assert_eq!(of((-30, u64::MAX), 10), Ok((0, 10)));
    assert_eq!(of((10, 1), 10), Err(FileProblem::OutOfRange));
}
