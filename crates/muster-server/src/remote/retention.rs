//! What is over is kept for a while, and then forgotten: recordings, sessions, port tunnels and
//! runs of commands. What the audit log says of them stays.

use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_store::StoreError;

use super::recordings;
use crate::app::App;
use crate::periodic::{every, or_later};

/// Time between two sweeps.
const SWEEP_PERIOD: Duration = Duration::from_secs(60 * 60);
/// Rows that one transaction forgets, of sessions or of tunnels.
const BATCH: u64 = 500;
/// Devices of an old run of a command that one transaction forgets.
const RUN_DEVICES_BATCH: u64 = 5_000;

/// Sweeps at the start, and every [`SWEEP_PERIOD`], for ever.
pub async fn run(app: App) {
    let mut period = every(SWEEP_PERIOD);
    loop {
        period.tick().await;
        // Recordings first: a session stays for as long as its recording does.
        or_later(recordings::sweep(&app).await, "the recordings could not be swept");
        or_later(forget(&app).await, "what is long over could not be forgotten");
    }
}

/// Forgets what is over for longer than the configuration allows, in small steps.
pub async fn forget(app: &App) -> Result<(), StoreError> {
    let before = ago(app, app.config.sessions_kept);
    while app.store.write(|tx| async move { tx.forget_remote_sessions(before, BATCH).await }).await? == BATCH {}
    while app.store.write(|tx| async move { tx.forget_port_tunnels(before, BATCH).await }).await? == BATCH {}
    let before = ago(app, app.config.command_runs_kept);
    while app.store.write(|tx| async move { tx.forget_command_run(before, RUN_DEVICES_BATCH).await }).await? {}
    Ok(())
}

fn ago(app: &App, time: Duration) -> Timestamp {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(app.clock().now().as_millis().saturating_sub(millis))
}
