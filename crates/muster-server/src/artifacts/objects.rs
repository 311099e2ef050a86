//! The storage of what artifacts hold: objects under ids that are never used again, in a
//! folder. An object appears whole, and is on the disk before anybody is told of it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::body::Bytes;
use futures_util::stream::BoxStream;
use md5::{Digest, Md5};
use muster_core::artifact::Checksums;
use muster_core::ids::RowId;
use muster_core::limits::ARTIFACT_UPLOADS_MAX;
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use sha1::Sha1;
use sha2::Sha256;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{OpError, Result};

/// What is held in memory of an upload before it is written; also the size of its parts.
const PART_BYTES: usize = 1024 * 1024;
/// Parts of one upload that are written at once.
const PARTS_AT_ONCE_MAX: usize = 2;

/// The storage.
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    root: PathBuf,
    uploads: Semaphore,
}

impl Objects {
    /// Makes the folder where it is missing.
    pub fn in_folder(root: &FilePath) -> anyhow::Result<Self> {
        // Artifacts may hold what is nobody else's on this machine.
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let root = root.canonicalize()?;
        let store = LocalFileSystem::new_with_prefix(&root)?.with_fsync(true);
        Ok(Self { store: Arc::new(store), root, uploads: Semaphore::new(ARTIFACT_UPLOADS_MAX) })
    }

    /// Begins an object. It is there once [`Upload::finish`] has answered, and never in part.
    pub async fn begin(&self, id: RowId) -> Result<Upload<'_>> {
        let turn = self.uploads.acquire().await.map_err(|error| OpError::Internal(error.to_string()))?;
        let writer = BufWriter::with_capacity(self.store.clone(), place(id), PART_BYTES);
        Ok(Upload {
            writer: writer.with_max_concurrency(PARTS_AT_ONCE_MAX),
            hashes: Hashes::default(),
            size: 0,
            _turn: turn,
        })
    }

    /// The bytes of an object from the first to before the last.
    pub async fn read(&self, id: RowId, (first, end): (u64, u64)) -> Result<BoxStream<'static, Result<Bytes, Error>>> {
        if first >= end {
            return Ok(Box::pin(futures_util::stream::empty()));
        }
        let options = GetOptions::new().with_range(Some(GetRange::Bounded(first..end)));
        let found = self.store.get_opts(&place(id), options).await.map_err(|error| broken(&error))?;
        Ok(found.into_stream())
    }

    /// Removes an object, and what a crash may have left of its upload. Not an error when
    /// there is none.
    pub async fn remove(&self, id: RowId) -> Result<()> {
        match self.store.delete(&place(id)).await {
            Err(error) if !matches!(error, Error::NotFound { .. }) => return Err(broken(&error)),
            _ => {}
        }
        // What the folder's writer calls the file of an upload under way.
        let staged = self.root.join(format!("{}#1", place(id)));
        match tokio::fs::remove_file(staged).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(OpError::Internal(error.to_string())),
            _ => Ok(()),
        }
    }
}

/// Spread over folders, by the last bits of their ids.
fn place(id: RowId) -> Path {
    Path::from(format!("{:02x}/{id}", id.to_le_bytes()[0]))
}

fn broken(error: &Error) -> OpError {
    OpError::Internal(format!("the storage of artifacts: {error}"))
}

/// An object that arrives. Dropping it leaves at most what [`Objects::remove`] removes.
pub struct Upload<'a> {
    writer: BufWriter,
    hashes: Hashes,
    size: u64,
    _turn: SemaphorePermit<'a>,
}

impl Upload<'_> {
    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds to it.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.size += bytes.len() as u64;
        self.hashes.update(&bytes);
        self.writer.put(bytes).await.map_err(|error| broken(&error))
    }

    /// Puts it in its place, whole: from here on it survives a power cut.
    pub async fn finish(mut self) -> Result<(Checksums, u64)> {
        self.writer
            .shutdown()
            .await
            .map_err(|error| OpError::Internal(format!("the storage of artifacts: {error}")))?;
        Ok((self.hashes.finish(), self.size))
    }

    /// Throws it away.
    pub async fn abort(mut self) {
        if let Err(error) = self.writer.abort().await {
            tracing::debug!(%error, "an upload was given up; its rest is removed later");
        }
    }
}

#[derive(Default)]
struct Hashes {
    sha256: Sha256,
    sha1: Sha1,
    md5: Md5,
}

impl Hashes {
    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.sha1.update(bytes);
        self.md5.update(bytes);
    }

    fn finish(self) -> Checksums {
        Checksums {
            sha256: hex(&self.sha256.finalize()),
            sha1: hex(&self.sha1.finalize()),
            md5: hex(&self.md5.finalize()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;

    async fn bytes(objects: &Objects, id: RowId, bounds: (u64, u64)) -> Vec<u8> {
        objects.read(id, bounds).await.unwrap().try_collect::<Vec<_>>().await.unwrap().concat()
    }

    fn files(folder: &FilePath) -> usize {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
    }

    #[tokio::test]
    async fn an_object_appears_whole() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::in_folder(folder.path()).unwrap();
        for (id, size) in [(1, 0), (2, 3), (3, PART_BYTES), (4, 3 * PART_BYTES + 7)] {
            let content: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let mut upload = objects.begin(id).await.unwrap();
            for piece in content.chunks(70_000) {
                upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            assert!(objects.read(id, (0, 1)).await.is_err(), "not before its end");
            let (checksums, stored) = upload.finish().await.unwrap();
            assert_eq!((checksums.sha256, stored), (hex(&Sha256::digest(&content)), size as u64));
            assert_eq!(bytes(&objects, id, (0, stored)).await, content);
        }
        assert_eq!(bytes(&objects, 4, (250, 253)).await, [250, 0, 1]);
        assert_eq!(files(folder.path()), 4);
        for id in [1, 2, 3, 4, 5] {
            objects.remove(id).await.unwrap();
        }
        assert_eq!(files(folder.path()), 0);
    }

    #[tokio::test]
    async fn what_a_crash_leaves_of_an_upload_is_removed_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::in_folder(folder.path()).unwrap();
        let mut upload = objects.begin(7).await.unwrap();
        upload.write(Bytes::from(vec![1; 2 * PART_BYTES])).await.unwrap();
        upload.write(Bytes::from(vec![1; 2 * PART_BYTES])).await.unwrap();
        // As after a kill: nothing is told that it ends.
        std::mem::forget(upload);
        assert_eq!(files(folder.path()), 1);
        objects.remove(7).await.unwrap();
        assert_eq!(files(folder.path()), 0);
    }
}
