//! `agent/` in the state directory: `slots.json`, and `versions/VERSION/muster-agent`.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::slots::{Copy, Slots};
use crate::files::{make_private_dir, private_file, read_json, remove_dir, sync_parent, write_json};
use crate::set_aside;

/// Mode of a copy's program.
const PROGRAM_MODE: u32 = 0o700;

/// The folder of the agent's copies.
#[derive(Clone, Debug)]
pub struct Home {
    dir: PathBuf,
}

impl Home {
    /// That of a state directory.
    pub fn new(state: &Path) -> Self {
        Self { dir: state.join("agent") }
    }

    /// The program of a version.
    pub fn program(&self, version: &str) -> PathBuf {
        self.versions().join(version).join("muster-agent")
    }

    fn versions(&self) -> PathBuf {
        self.dir.join("versions")
    }

    fn file(&self) -> PathBuf {
        self.dir.join("slots.json")
    }

    /// Whether any update was ever begun here.
    pub fn is_used(&self) -> bool {
        self.dir.exists()
    }

    /// What the file says.
    pub fn read(&self) -> io::Result<Slots> {
        Ok(read_json(&self.file())?.unwrap_or_default())
    }

    /// What the file says, for the launcher: a damaged one is set aside, and the reason added to `degraded`.
    pub fn read_or_set_aside(&self, degraded: &mut Vec<String>) -> Slots {
        self.read().unwrap_or_else(|error| {
            degraded.push(set_aside::set_aside(&self.file(), &error));
            Slots::default()
        })
    }

    /// Changes the file, one process at a time.
    pub fn change<T>(&self, change: impl FnOnce(&mut Slots) -> T) -> io::Result<T> {
        make_private_dir(&self.dir)?;
        let lock = private_file().truncate(false).open(self.dir.join("slots.lock"))?;
        lock.lock()?;
        let before = self.read()?;
        let mut slots = before.clone();
        let told = change(&mut slots);
        if slots != before {
            write_json(&self.file(), &slots)?;
        }
        Ok(told)
    }

    /// Makes the file `staged`, whose content is on the disk, the program of `version`.
    pub fn keep(&self, staged: &Path, version: &str) -> io::Result<()> {
        let program = self.program(version);
        let folder = self.versions().join(version);
        make_private_dir(&folder)?;
        fs::set_permissions(staged, Permissions::from_mode(PROGRAM_MODE))?;
        File::open(staged)?.sync_all()?;
        fs::rename(staged, &program)?;
        sync_parent(&program)?;
        sync_parent(&folder)?;
        sync_parent(&self.versions())?;
        sync_parent(&self.dir)
    }

    /// Removes the copies that nothing names any more.
    pub fn prune(&self, slots: &Slots) -> io::Result<()> {
        let Ok(entries) = fs::read_dir(self.versions()) else { return Ok(()) };
        for entry in entries {
            let entry = entry?;
            if !slots.names(&entry.file_name().to_string_lossy()) {
                remove_dir(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Whether a copy is on the disk as it was signed.
    pub fn is_good(&self, copy: &Copy) -> bool {
        sha256_of(&self.program(copy.version.as_str())).is_ok_and(|sha256| sha256 == copy.sha256)
    }
}

/// SHA-256 of a file, in hexadecimal.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    let (mut file, mut sha256, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => sha256.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_core::release::ReleaseVersion;

    use super::*;

    #[test]
    fn keeps_what_is_named_and_knows_what_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        assert!(!home.is_used());
        home.change(|_| ()).unwrap();
        for version in ["1.0", "2.0"] {
            let staged = dir.path().join("staged");
            fs::write(&staged, version).unwrap();
            home.keep(&staged, version).unwrap();
        }
        let sha256 = sha256_of(&home.program("2.0")).unwrap();
        let copy = Copy { version: ReleaseVersion::parse("2.0").unwrap(), sha256 };
        home.change(|slots| slots.current = Some(copy.clone())).unwrap();
        home.prune(&home.read().unwrap()).unwrap();
        assert!(!home.program("1.0").exists() && home.is_good(&copy));
        fs::write(home.program("2.0"), "2.1").unwrap();
        assert!(!home.is_good(&copy));
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        home.change(|slots| slots.ended = None).unwrap();
        fs::write(home.file(), "{").unwrap();
        let mut degraded = Vec::new();
        assert_eq!(home.read_or_set_aside(&mut degraded), Slots::default());
        assert_eq!((degraded.len(), home.file().exists()), (1, false));
        assert!(dir.path().join("agent/slots.json.damaged").exists());
    }
}
