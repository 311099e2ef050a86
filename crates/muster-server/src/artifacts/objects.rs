//! The storage of what artifacts hold: objects under ids that are never used again, in a
//! folder or in a bucket of S3. An object appears whole, and survives a power cut before
//! anybody is told of it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::body::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use md5::{Digest, Md5};
use muster_core::artifact::Checksums;
use muster_core::ids::RowId;
use muster_core::limits::ARTIFACT_UPLOADS_MAX;
use muster_store::blobs::LooseObject;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, MultipartId, ObjectStore, ObjectStoreExt};
use sha1::Sha1;
use sha2::Sha256;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::parts::Parts;
use crate::config::Bucket;
use crate::error::{OpError, Result};

/// What is held in memory of an upload to a folder before it is written; also the size of its parts.
const FOLDER_PART_BYTES: usize = 1024 * 1024;
/// Parts of one upload to a folder that are written at once.
const PARTS_AT_ONCE_MAX: usize = 2;
/// How often the free space is looked at while an object arrives.
const ROOM_EVERY_BYTES: u64 = 16 * 1024 * 1024;

/// A store that takes an object in parts under a name which outlives whoever began it.
pub(super) trait PartStore: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> PartStore for T {}

enum Place {
    Folder { store: Arc<dyn ObjectStore>, root: PathBuf, free_bytes_min: u64 },
    Bucket { store: Arc<dyn PartStore>, prefix: String, part_bytes: usize },
}

/// The storage.
pub struct Objects {
    place: Place,
    uploads: Semaphore,
}

/// Notes what the storage calls an upload in parts, before the first of them is sent.
pub type Note<'a> = Box<dyn Fn(MultipartId) -> BoxFuture<'a, Result<()>> + Send + Sync + 'a>;

impl Objects {
    /// In a folder, which is made where it is missing. Uploads leave `free_bytes_min` free
    /// of the file system that it lies on.
    pub fn in_folder(root: &FilePath, free_bytes_min: u64) -> anyhow::Result<Self> {
        // Artifacts may hold what is nobody else's on this machine.
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let root = root.canonicalize()?;
        let store = Arc::new(LocalFileSystem::new_with_prefix(&root)?.with_fsync(true));
        Ok(Self::at(Place::Folder { store, root, free_bytes_min }))
    }

    /// In a bucket of S3, by the environment that every program for S3 reads:
    /// `AWS_ACCESS_KEY_ID` and the rest. `bytes_max` is the largest object.
    pub async fn in_bucket(bucket: &Bucket, bytes_max: u64) -> anyhow::Result<Self> {
        let builder = AmazonS3Builder::from_env().with_bucket_name(&bucket.name);
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
        // Whoever writes http:// means it.
        let store = builder.with_allow_http(endpoint.starts_with("http://")).build()?;
        let (prefix, part_bytes) = (bucket.prefix.clone(), super::parts::part_bytes(bytes_max));
        let objects = Self::at(Place::Bucket { store: Arc::new(store), prefix, part_bytes });
        objects.try_out().await;
        Ok(objects)
    }

    fn at(place: Place) -> Self {
        Self { place, uploads: Semaphore::new(ARTIFACT_UPLOADS_MAX) }
    }

    /// Says early what is wrong with the settings. Not an error: the storage may be back later.
    async fn try_out(&self) {
        match self.store().head(&self.key(0)).await {
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => tracing::error!(%error, "the storage of artifacts cannot be used"),
        }
    }

    fn store(&self) -> &dyn ObjectStore {
        match &self.place {
            Place::Folder { store, .. } => store.as_ref(),
            Place::Bucket { store, .. } => store.as_ref(),
        }
    }

    /// Spread over folders, by the last bits of their ids.
    fn key(&self, id: RowId) -> Path {
        let key = format!("{:02x}/{id}", id.to_le_bytes()[0]);
        match &self.place {
            Place::Bucket { prefix, .. } if !prefix.is_empty() => Path::from(format!("{prefix}/{key}")),
            _ => Path::from(key),
        }
    }

    /// Begins an object. It is there once [`Upload::finish`] has answered, and never in part.
    pub async fn begin<'a>(&'a self, id: RowId, note: Note<'a>) -> Result<Upload<'a>> {
        let turn = self.uploads.acquire().await.map_err(|error| OpError::Internal(error.to_string()))?;
        let key = self.key(id);
        let writer = match &self.place {
            Place::Folder { store, .. } => {
                let writer = BufWriter::with_capacity(Arc::clone(store), key, FOLDER_PART_BYTES);
                Writer::Folder(Box::new(writer.with_max_concurrency(PARTS_AT_ONCE_MAX)))
            }
            Place::Bucket { store, part_bytes, .. } => {
                Writer::Bucket(Box::new(Parts::new(Arc::clone(store), key, *part_bytes, note)))
            }
        };
        Ok(Upload { objects: self, writer, hashes: Hashes::default(), size: 0, looked_at: 0, _turn: turn })
    }

    /// Refuses when `bytes` more would leave less free than the operator wants.
    pub fn check_room(&self, bytes: u64) -> Result<()> {
        let Place::Folder { root, free_bytes_min, .. } = &self.place else { return Ok(()) };
        let found = rustix::fs::statvfs(root).map_err(|error| OpError::Internal(error.to_string()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free.saturating_sub(bytes) >= *free_bytes_min {
            return Ok(());
        }
        Err(OpError::NoRoom(format!(
            "the server has {free} bytes free for artifacts, and keeps {free_bytes_min} free; nothing was stored"
        )))
    }

    /// The bytes of an object from the first to before the last.
    pub async fn read(&self, id: RowId, (first, end): (u64, u64)) -> Result<BoxStream<'static, Result<Bytes, Error>>> {
        if first >= end {
            return Ok(Box::pin(futures_util::stream::empty()));
        }
        let options = GetOptions::new().with_range(Some(GetRange::Bounded(first..end)));
        let found = self.store().get_opts(&self.key(id), options).await.map_err(|error| broken(&error))?;
        Ok(found.into_stream())
    }

    /// Removes an object, and what a crash may have left of its upload. Not an error when
    /// there is none.
    pub async fn remove(&self, object: &LooseObject) -> Result<()> {
        let key = self.key(object.id);
        gone(self.store().delete(&key).await)?;
        match &self.place {
            Place::Bucket { store, .. } if !object.multipart_id.is_empty() => {
                gone(store.abort_multipart(&key, &object.multipart_id).await)
            }
            Place::Bucket { .. } => Ok(()),
            Place::Folder { root, .. } => {
                // What the folder's writer calls the file of an upload under way.
                match tokio::fs::remove_file(root.join(format!("{key}#1"))).await {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        Err(OpError::Internal(error.to_string()))
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

/// That there is nothing to remove is no error.
fn gone(removed: Result<(), Error>) -> Result<()> {
    match removed {
        Err(error) if !matches!(error, Error::NotFound { .. }) => Err(broken(&error)),
        _ => Ok(()),
    }
}

pub(super) fn broken(error: &Error) -> OpError {
    OpError::Internal(format!("the storage of artifacts: {error}"))
}

enum Writer<'a> {
    Folder(Box<BufWriter>),
    Bucket(Box<Parts<'a>>),
}

/// An object that arrives. Dropping it leaves at most what [`Objects::remove`] removes.
pub struct Upload<'a> {
    objects: &'a Objects,
    writer: Writer<'a>,
    hashes: Hashes,
    size: u64,
    looked_at: u64,
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
        if self.size - self.looked_at >= ROOM_EVERY_BYTES {
            self.looked_at = self.size;
            self.objects.check_room(0)?;
        }
        self.hashes.update(&bytes);
        match &mut self.writer {
            Writer::Folder(writer) => writer.put(bytes).await.map_err(|error| broken(&error)),
            Writer::Bucket(parts) => parts.put(&bytes).await,
        }
    }

    /// Puts it in its place, whole: from here on it survives a power cut.
    pub async fn finish(self) -> Result<(Checksums, u64)> {
        match self.writer {
            Writer::Folder(mut writer) => writer
                .shutdown()
                .await
                .map_err(|error| OpError::Internal(format!("the storage of artifacts: {error}")))?,
            Writer::Bucket(parts) => parts.finish().await?,
        }
        Ok((self.hashes.finish(), self.size))
    }

    /// Throws it away.
    pub async fn abort(self) {
        let aborted = match self.writer {
            Writer::Folder(mut writer) => writer.abort().await.map_err(|error| broken(&error)),
            Writer::Bucket(parts) => parts.abort().await,
        };
        if let Err(error) = aborted {
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
    use object_store::memory::InMemory;

    use super::super::parts::LEAST_PART_BYTES;
    use super::*;

    async fn bytes(objects: &Objects, id: RowId, bounds: (u64, u64)) -> Vec<u8> {
        objects.read(id, bounds).await.unwrap().try_collect::<Vec<_>>().await.unwrap().concat()
    }

    fn files(folder: &FilePath) -> usize {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
    }

    fn not_noted<'a>() -> Note<'a> {
        Box::new(|_| Box::pin(async { Ok(()) }))
    }

    fn object(id: RowId) -> LooseObject {
        LooseObject { id, multipart_id: String::new() }
    }

    fn in_memory() -> (Arc<InMemory>, Objects) {
        let store = Arc::new(InMemory::new());
        let place = Place::Bucket { store: store.clone(), prefix: "a/b".to_owned(), part_bytes: LEAST_PART_BYTES };
        (store, Objects::at(place))
    }

    async fn appears_whole(objects: &Objects) {
        for (id, size) in [(1, 0), (2, 3), (3, LEAST_PART_BYTES), (4, 2 * LEAST_PART_BYTES + 7)] {
            let content: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let mut upload = objects.begin(id, not_noted()).await.unwrap();
            for piece in content.chunks(700_000) {
                upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            assert!(objects.read(id, (0, 1)).await.is_err(), "not before its end");
            let (checksums, stored) = upload.finish().await.unwrap();
            assert_eq!((checksums.sha256, stored), (hex(&Sha256::digest(&content)), size as u64));
            assert_eq!(bytes(objects, id, (0, stored)).await, content);
        }
        assert_eq!(bytes(objects, 4, (250, 253)).await, [250, 0, 1]);
    }

    #[tokio::test]
    async fn an_object_appears_whole() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::in_folder(folder.path(), 0).unwrap();
        appears_whole(&objects).await;
        assert_eq!(files(folder.path()), 4);
        for id in [1, 2, 3, 4, 5] {
            objects.remove(&object(id)).await.unwrap();
        }
        assert_eq!(files(folder.path()), 0);
    }

    #[tokio::test]
    async fn an_object_appears_whole_in_a_bucket() {
        let (store, objects) = in_memory();
        appears_whole(&objects).await;
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert!(listed.len() == 4 && listed.iter().all(|found| found.location.as_ref().starts_with("a/b/0")));
        for id in [1, 2, 3, 4, 5] {
            objects.remove(&object(id)).await.unwrap();
        }
        assert!(store.list(None).try_collect::<Vec<_>>().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_a_crash_leaves_of_an_upload_is_removed_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::in_folder(folder.path(), 0).unwrap();
        let mut upload = objects.begin(7, not_noted()).await.unwrap();
        upload.write(Bytes::from(vec![1; 2 * FOLDER_PART_BYTES])).await.unwrap();
        upload.write(Bytes::from(vec![1; 2 * FOLDER_PART_BYTES])).await.unwrap();
        // As after a kill: nothing is told that it ends.
        std::mem::forget(upload);
        assert_eq!(files(folder.path()), 1);
        objects.remove(&object(7)).await.unwrap();
        assert_eq!(files(folder.path()), 0);
    }

    #[tokio::test]
    async fn parts_in_a_bucket_are_noted_before_they_are_sent() {
        let (store, objects) = in_memory();
        let noted = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (told, note) = (Arc::clone(&noted), |told: Arc<std::sync::Mutex<Vec<String>>>, id| async move {
            told.lock().unwrap().push(id);
            Ok(())
        });
        let mut upload = objects.begin(7, Box::new(move |id| Box::pin(note(Arc::clone(&told), id)))).await.unwrap();
        upload.write(Bytes::from(vec![1; LEAST_PART_BYTES])).await.unwrap();
        assert!(noted.lock().unwrap().is_empty(), "it may be all of it");
        upload.write(Bytes::from(vec![1; LEAST_PART_BYTES])).await.unwrap();
        std::mem::forget(upload);
        let multipart_id = noted.lock().unwrap().pop().unwrap();
        objects.remove(&LooseObject { id: 7, multipart_id: multipart_id.clone() }).await.unwrap();
        let part = store.put_part(&objects.key(7), &multipart_id, 0, Bytes::new().into()).await;
        assert!(part.is_err(), "the upload has ended");
    }

    #[tokio::test]
    async fn a_folder_keeps_some_room() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::in_folder(folder.path(), u64::MAX).unwrap();
        let refusal = objects.check_room(1).unwrap_err();
        assert!(matches!(&refusal, OpError::NoRoom(text) if text.contains("bytes free")), "{refusal}");
        let objects = Objects::in_folder(folder.path(), 1).unwrap();
        assert!(objects.check_room(u64::MAX / 2).is_err() && objects.check_room(1).is_ok());
    }
}
