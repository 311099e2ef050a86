//! A file that is written beside its place, and then takes it at once.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use muster_core::flow::actions::values::{Mode, Owner};
use nix::unistd::{Group, User};

use crate::files::sync_parent;
use crate::step::context::{Context, Failure};
use crate::step::saved::metadata;

/// Mode of a new file.
const MODE_DEFAULT: u32 = 0o644;

/// Whom a file is to belong to, and who may do what with it.
pub(super) struct Rights {
    mode: u32,
    owner: Option<(u32, u32)>,
}

impl Rights {
    /// What is given, and otherwise what the file at `path` has.
    pub(super) fn of(path: &Path, mode: Option<&Mode>, owner: Option<&Owner>) -> Result<Self, Failure> {
        let before = metadata(path)?.filter(fs::Metadata::is_file);
        let given = mode.map(Mode::bits).transpose().map_err(Failure::because)?;
        let mode = given.or_else(|| Some(before.as_ref()?.mode() & 0o7777)).unwrap_or(MODE_DEFAULT);
        let kept = before.map(|found| (found.uid(), found.gid()));
        let owner = match owner {
            Some(owner) => Some(ids(owner.as_str(), kept)?),
            None => kept,
        };
        Ok(Self { mode, owner })
    }

    /// Whether the file at `path` has them.
    pub(super) fn check(&self, path: &Path) -> Result<(), Failure> {
        let found = fs::metadata(path)?;
        let is_owned = self.owner.is_none_or(|owner| owner == (found.uid(), found.gid()));
        if found.mode() & 0o7777 == self.mode && is_owned {
            return Ok(());
        }
        Err(Failure::because(format!("{} did not take its mode or its owner", path.display())))
    }

    fn put_onto(&self, path: &Path) -> io::Result<()> {
        if let Some((user, group)) = self.owner {
            let found = fs::metadata(path)?;
            if (found.uid(), found.gid()) != (user, group) {
                lchown(path, Some(user), Some(group))?;
            }
        }
        fs::set_permissions(path, Permissions::from_mode(self.mode))
    }
}

/// `USER`, `USER:GROUP`, by name or by number. Without a group: that of the file
/// before, or the user's own.
fn ids(owner: &str, before: Option<(u32, u32)>) -> Result<(u32, u32), Failure> {
    let (user, group) = owner.split_once(':').map_or((owner, None), |(user, group)| (user, Some(group)));
    let none = |what: &str, name: &str| Failure::because(format!("the device has no {what} \"{name}\""));
    let known = User::from_name(user).map_err(io::Error::from)?;
    let uid = match &known {
        Some(known) => known.uid.as_raw(),
        None => user.parse().map_err(|_| none("user", user))?,
    };
    let gid = match group {
        Some(name) => match Group::from_name(name).map_err(io::Error::from)? {
            Some(known) => known.gid.as_raw(),
            None => name.parse().map_err(|_| none("group", name))?,
        },
        None => before.map(|(_, gid)| gid).or(known.map(|known| known.gid.as_raw())).unwrap_or(uid),
    };
    Ok((uid, gid))
}

/// Where the content for `path` is written first: on the same file system, under a
/// name that is this step's alone.
pub(super) fn beside(cx: &Context, path: &Path) -> PathBuf {
    let run = cx.run_name();
    let mut name = b".".to_vec();
    name.extend_from_slice(path.file_name().unwrap_or_default().as_encoded_bytes());
    // A name may be 255 bytes long.
    name.truncate(180);
    name.extend(format!(".muster-{run}-{}", cx.spec.index).bytes());
    path.with_file_name(OsString::from_vec(name))
}

/// Lets the file at `beside` take the place of `path`.
pub(super) fn put(beside: &Path, path: &Path, rights: &Rights) -> Result<(), Failure> {
    rights.put_onto(beside)?;
    File::open(beside)?.sync_all()?;
    fs::rename(beside, path)?;
    Ok(sync_parent(path)?)
}
