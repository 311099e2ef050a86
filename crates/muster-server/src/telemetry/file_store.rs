//! The folder of the files that devices have sent. What a row of the database is for
//! lies there under the row's id, whole and on the disk before the row is.
//!
//! A file without a row is of no use: what a crash, a lost transaction or the deletion
//! of a device leaves is swept. So removing a file may fail without harm.

use std::collections::HashSet;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use muster_core::ids::RowId;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// Below the data folder.
const FOLDER: &str = "device-files";
/// Below that: files that have not arrived whole.
const INCOMING: &str = "incoming";
/// Folders that the files are spread over, by the last bits of their ids.
const SHARDS: u8 = u8::MAX;

/// The folder. There is one for each data folder, whose lock the server holds.
#[derive(Debug)]
pub struct FileStore {
    root: PathBuf,
    /// Files that may lie there before their row does: no sweep takes them.
    claimed: Mutex<HashSet<RowId>>,
}

impl FileStore {
    /// Makes the folder where it is missing, and removes what had not arrived whole when
    /// the server last ended.
    pub fn open(data: &Path) -> io::Result<Self> {
        let root = data.join(FOLDER);
        match std::fs::remove_dir_all(root.join(INCOMING)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Logs may hold secrets of the devices: they are nobody else's on this machine.
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(root.join(INCOMING))?;
        for shard in 0..=SHARDS {
            private.create(root.join(shard_name(shard)))?;
        }
        std::fs::File::open(&root)?.sync_all()?;
        Ok(Self { root, claimed: Mutex::default() })
    }

    /// Begins a file that is to be known by `id`.
    pub async fn begin(&self, id: RowId) -> io::Result<Incoming<'_>> {
        self.claims(|claimed| claimed.insert(id));
        let mut incoming = Incoming { store: self, id, file: None, size: 0 };
        incoming.file = Some(File::create_new(incoming.temporary()).await?);
        Ok(incoming)
    }

    /// The file of that id, for reading.
    pub async fn read(&self, id: RowId) -> io::Result<File> {
        File::open(self.path(id)).await
    }

    /// Removes files whose rows are gone. What cannot be removed now is swept later.
    pub async fn remove(&self, ids: &[RowId]) {
        for id in ids {
            match tokio::fs::remove_file(self.path(*id)).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, id, "a device file could not be removed");
                }
                _ => {}
            }
        }
    }

    /// The ids of the files in one of the folders, `shard`.
    pub async fn listed(&self, shard: u8) -> io::Result<Vec<RowId>> {
        let mut entries = tokio::fs::read_dir(self.root.join(shard_name(shard))).await?;
        let mut found = Vec::new();
        while let Some(entry) = entries.next_entry().await? {
            // What bears another name is not this program's.
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            found.extend(id.filter(|id| shard_of(*id) == shard));
        }
        Ok(found)
    }

    /// Those of `ids` that a row may still be written for.
    pub fn claimed(&self, ids: &[RowId]) -> HashSet<RowId> {
        self.claims(|claimed| ids.iter().copied().filter(|id| claimed.contains(id)).collect())
    }

    /// Every folder that [`FileStore::listed`] knows.
    pub fn shards() -> impl Iterator<Item = u8> {
        0..=SHARDS
    }

    fn claims<T>(&self, change: impl FnOnce(&mut HashSet<RowId>) -> T) -> T {
        change(&mut self.claimed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn folder(&self, id: RowId) -> PathBuf {
        self.root.join(shard_name(shard_of(id)))
    }

    fn path(&self, id: RowId) -> PathBuf {
        self.folder(id).join(id.to_string())
    }
}

fn shard_of(id: RowId) -> u8 {
    id.to_le_bytes()[0]
}

fn shard_name(shard: u8) -> String {
    format!("{shard:02x}")
}

/// A file that arrives. Dropping it ends the claim to its id, and removes what has not
/// been published.
#[derive(Debug)]
pub struct Incoming<'a> {
    store: &'a FileStore,
    id: RowId,
    /// None once it is published.
    file: Option<File>,
    size: usize,
}

impl Incoming<'_> {
    /// The id that it is to be known by.
    pub fn id(&self) -> RowId {
        self.id
    }

    /// Bytes so far.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Adds to it.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.size += bytes.len();
        match &mut self.file {
            Some(file) => file.write_all(bytes).await,
            None => Err(io::Error::other("the file is published already")),
        }
    }

    /// Puts it in its place, whole: from here on it survives a power cut.
    pub async fn publish(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.flush().await?;
            file.sync_all().await?;
            tokio::fs::rename(self.temporary(), self.store.path(self.id)).await?;
            self.file = None;
            File::open(self.store.folder(self.id)).await?.sync_all().await?;
        }
        Ok(())
    }

    fn temporary(&self) -> PathBuf {
        self.store.root.join(INCOMING).join(self.id.to_string())
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // It may not exist; and what stays is removed at the next start.
            let _removed = std::fs::remove_file(self.temporary());
        }
        self.store.claims(|claimed| claimed.remove(&self.id));
    }
}
