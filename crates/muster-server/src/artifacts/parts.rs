//! An object that goes to a bucket in parts.
//!
//! Parts of an upload that nobody ends lie in a bucket for ever, and cost. So what the
//! bucket calls the upload is noted in the database before the first part is sent, and
//! whoever finds it there later ends it.

use std::sync::Arc;

use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{Error, MultipartId, ObjectStoreExt, PutPayload};
use tokio::task::JoinHandle;

use super::objects::{Note, PartStore, broken};
use crate::error::{OpError, Result};

/// The least that S3 takes as a part which is not the last.
pub(super) const LEAST_PART_BYTES: usize = 5 * 1024 * 1024;
/// Most parts of one object on S3.
const PARTS_MAX: u64 = 10_000;

/// How large parts must be for an object of that size to have few enough.
pub(super) fn part_bytes(bytes_max: u64) -> usize {
    usize::try_from(bytes_max.div_ceil(PARTS_MAX)).unwrap_or(usize::MAX).max(LEAST_PART_BYTES)
}

/// The parts of one object: one is filled while one is on its way.
pub(super) struct Parts<'a> {
    store: Arc<dyn PartStore>,
    key: Path,
    part_bytes: usize,
    note: Note<'a>,
    buffer: Vec<u8>,
    multipart: Option<MultipartId>,
    sent: Vec<PartId>,
    sending: Option<JoinHandle<Result<PartId, Error>>>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(store: Arc<dyn PartStore>, key: Path, part_bytes: usize, note: Note<'a>) -> Self {
        let (buffer, sent) = (Vec::new(), Vec::new());
        Self { store, key, part_bytes, note, buffer, multipart: None, sent, sending: None }
    }

    /// Adds to the object.
    pub(super) async fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.buffer.len() == self.part_bytes {
                self.send().await?;
            }
            let n = bytes.len().min(self.part_bytes - self.buffer.len());
            self.buffer.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Sends what is in the buffer, once the part before has arrived.
    async fn send(&mut self) -> Result<()> {
        let multipart = match &self.multipart {
            Some(multipart) => multipart.clone(),
            None => {
                let multipart = self.store.create_multipart(&self.key).await.map_err(|error| broken(&error))?;
                self.multipart = Some(multipart.clone());
                (self.note)(multipart.clone()).await?;
                multipart
            }
        };
        self.arrived().await?;
        let (store, key, number) = (Arc::clone(&self.store), self.key.clone(), self.sent.len());
        let part = PutPayload::from(std::mem::take(&mut self.buffer));
        self.sending = Some(tokio::spawn(async move { store.put_part(&key, &multipart, number, part).await }));
        Ok(())
    }

    async fn arrived(&mut self) -> Result<()> {
        let Some(sending) = self.sending.take() else { return Ok(()) };
        let part = sending.await.map_err(|error| OpError::Internal(error.to_string()))?;
        self.sent.push(part.map_err(|error| broken(&error))?);
        Ok(())
    }

    /// Makes an object of the parts; of a small one without any.
    pub(super) async fn finish(mut self) -> Result<()> {
        if self.multipart.is_none() {
            let whole = PutPayload::from(std::mem::take(&mut self.buffer));
            return self.store.put(&self.key, whole).await.map(|_| ()).map_err(|error| broken(&error));
        }
        self.send().await?;
        self.arrived().await?;
        let (parts, multipart) = (std::mem::take(&mut self.sent), self.multipart.clone().unwrap_or_default());
        self.store.complete_multipart(&self.key, &multipart, parts).await.map_err(|error| broken(&error))?;
        self.multipart = None;
        Ok(())
    }

    /// Throws the parts away.
    pub(super) async fn abort(mut self) -> Result<()> {
        // Or the part on its way would arrive behind the end.
        let _ = self.arrived().await;
        let Some(multipart) = self.multipart.take() else { return Ok(()) };
        self.store.abort_multipart(&self.key, &multipart).await.map_err(|error| broken(&error))
    }
}

impl Drop for Parts<'_> {
    /// A client that went away has ended the whole request with this. What cannot be
    /// thrown away here is when its loose object is due.
    fn drop(&mut self) {
        let (Some(multipart), Ok(runtime)) = (self.multipart.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let (store, key, sending) = (Arc::clone(&self.store), self.key.clone(), self.sending.take());
        runtime.spawn(async move {
            if let Some(sending) = sending {
                let _ = sending.await;
            }
            if let Err(error) = store.abort_multipart(&key, &multipart).await {
                tracing::debug!(%error, "an upload was given up; its rest is removed later");
            }
        });
    }
}
