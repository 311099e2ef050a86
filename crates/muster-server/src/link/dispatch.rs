//! Messages that the store remembers as sent: marked in one transaction, sent once it has committed.
//!
//! A server that is killed in between loses its links, and over the next ones everything
//! that is due is told again. A commit whose answer is lost is the same case, without the
//! kill: what it may have marked is not sent, so its links are ended here.

use std::sync::{Arc, Mutex, PoisonError};

use muster_core::ids::RowId;
use muster_store::{StoreError, Tx};

use crate::app::App;

/// The link of a device, by its epoch.
#[derive(Clone, Copy, Debug)]
pub struct Over {
    /// The device's row.
    pub device_id: RowId,
    /// Which of its links.
    pub epoch: i64,
}

/// Commits `mark`, which finds what is due and marks it as sent; `over` says over which links
/// that is to go. An error is the store's: then nothing must be sent.
pub async fn mark_sent<T, F, Fut>(app: &App, over: impl Fn(&T) -> Vec<Over>, mark: F) -> Result<T, StoreError>
where
    F: Fn(Arc<Tx>) -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let last = Mutex::new(Vec::new());
    let marked = app.store.write(|tx| async {
        let marked = mark(tx).await?;
        *last.lock().unwrap_or_else(PoisonError::into_inner) = over(&marked);
        Ok(marked)
    });
    let marked = marked.await;
    if let Err(StoreError::Unconfirmed(_)) = marked {
        for Over { device_id, epoch } in last.into_inner().unwrap_or_else(PoisonError::into_inner) {
            app.links.remove(device_id, epoch);
        }
    }
    marked
}
