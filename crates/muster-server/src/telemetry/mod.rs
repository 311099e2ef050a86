//! What devices say of themselves: keepalives, gathered and stored many at a time,
//! values, and files.

pub mod buffer;
pub mod device_files;
pub mod file_store;
pub mod monitor;
pub mod status;

use std::time::Duration;

use crate::periodic::every;

/// How long a keepalive waits at most before it is stored.
pub const FLUSH_PERIOD: Duration = Duration::from_secs(2);

/// Stores what waits now, and ends the links of devices that are gone: so a server
/// notices within a heartbeat what another one has deleted.
pub async fn flush(app: &crate::app::App) {
    for device_id in app.keepalives.flush(&app.store).await {
        app.links.end(device_id, crate::link::session::deleted());
    }
}

/// Stores what waits, every [`FLUSH_PERIOD`], for ever.
pub async fn run(app: crate::app::App) {
    let mut period = every(FLUSH_PERIOD);
    loop {
        period.tick().await;
        flush(&app).await;
        app.address_calls.forget_idle();
        app.token_calls.forget_idle();
        app.access_key_calls.forget_idle();
        app.device_calls.forget_idle();
        app.agent_calls.forget_idle();
        app.log_file_calls.forget_idle();
        app.account_calls.forget_idle();
        app.login_sources.forget_idle();
        app.login_names.forget_idle();
        app.audited_refusals.forget_idle();
    }
}
