//! Extended attributes: capabilities of programs, access lists, labels.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr};
use rustix::io::Errno;

/// The kernel lets no list of names, and no value, be longer.
const BYTES_MAX: usize = 64 * 1024;

/// Each attribute's value, in base64.
pub(super) type Xattrs = BTreeMap<String, String>;

/// The attributes of what stands at `path` itself. None where a file system has none.
pub(super) fn read(path: &Path) -> io::Result<Xattrs> {
    let mut names = vec![0; BYTES_MAX];
    let len_bytes = match llistxattr(path, &mut names[..]) {
        Err(Errno::NOTSUP) => 0,
        other => other?,
    };
    let names = names[..len_bytes].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut found = Xattrs::new();
    for name in names {
        let name = String::from_utf8_lossy(name).into_owned();
        let mut value = vec![0; BYTES_MAX];
        match lgetxattr(path, &*name, &mut value[..]) {
            Ok(len_bytes) => drop(found.insert(name, BASE64_STANDARD.encode(&value[..len_bytes]))),
            // Gone meanwhile, or not for this user to read.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// Makes the attributes of what stands at `path` those of `wanted`.
pub(super) fn write(path: &Path, wanted: &Xattrs) -> io::Result<()> {
    let found = read(path)?;
    for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
        lremovexattr(path, &**name)?;
    }
    for (name, value) in wanted.iter().filter(|(name, value)| found.get(*name) != Some(value)) {
        let value = BASE64_STANDARD.decode(value).map_err(io::Error::other)?;
        lsetxattr(path, &**name, &value, XattrFlags::empty())?;
    }
    Ok(())
}
