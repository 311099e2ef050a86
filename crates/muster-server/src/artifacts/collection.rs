//! Removes from the storage what no artifact has: in small steps, each of which may be
//! done twice, by several servers, or not at all.

use std::time::Duration;

use muster_core::limits::{BLOB_GRACE, DOWNLOAD_GRANT_LIFETIME};

use crate::app::App;
use crate::error::Result;
use crate::periodic::{every, or_later};

/// Time between two collections.
const PERIOD: Duration = Duration::from_secs(60 * 60);
/// Rows of one statement.
const BATCH: u64 = 500;

/// Collects at the start, and every [`PERIOD`], for ever.
pub async fn run(app: App) {
    let mut period = every(PERIOD);
    loop {
        period.tick().await;
        or_later(collect(&app).await, "unused contents of artifacts could not be removed");
    }
}

/// Notes which blobs no artifact has, drops those that none has had for [`BLOB_GRACE`],
/// and removes every object that is due.
pub async fn collect(app: &App) -> Result<()> {
    mark(app).await?;
    // So early that the clock is before the grace, nothing can have gone unused for so long.
    let now = app.clock().now().as_millis();
    let grace = i64::try_from(BLOB_GRACE.as_millis()).unwrap_or(i64::MAX);
    let before = muster_core::clock::Timestamp::from_millis(now.saturating_sub(grace));
    // A request is of interest for as long as its address works.
    let ended = now.saturating_sub(i64::try_from(DOWNLOAD_GRANT_LIFETIME.as_millis()).unwrap_or(i64::MAX));
    let ended = muster_core::clock::Timestamp::from_millis(ended);
    app.store.write(|tx| async move { tx.forget_file_requests(ended).await }).await?;
    while app.store.write(|tx| async move { tx.drop_unused_blobs(before, BATCH).await }).await? > 0 {}
    remove_due(app).await
}

async fn mark(app: &App) -> Result<()> {
    let mut after = i64::MIN;
    while let Some(last) = app.store.read().blobs_end(after, BATCH).await? {
        app.store.write(|tx| async move { tx.mark_unused_blobs(after, last).await }).await?;
        after = last;
    }
    Ok(())
}

async fn remove_due(app: &App) -> Result<()> {
    loop {
        let due = app.store.read().loose_objects_due(BATCH).await?;
        if due.is_empty() {
            return Ok(());
        }
        for object in &due {
            app.objects.remove(object).await?;
        }
        let ids = &due.iter().map(|object| object.id).collect::<Vec<_>>();
        app.store.write(|tx| async move { tx.forget_loose_objects(ids).await }).await?;
    }
}
