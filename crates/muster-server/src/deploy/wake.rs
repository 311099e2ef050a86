//! What wakes the engine: that something happened to a device, or may have to any.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use muster_core::ids::RowId;
use tokio::sync::Notify;

/// From this many devices on it is cheaper to look at everything.
const SINGLE_DEVICES_MAX: usize = 500;

/// Wakes the engine.
#[derive(Clone, Default)]
pub struct Wake(Arc<WakeState>);

#[derive(Default)]
struct WakeState {
    notify: Notify,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Pending {
    is_everything: bool,
    device_ids: BTreeSet<RowId>,
}

impl Wake {
    /// Something happened to this device.
    pub fn device(&self, device_id: RowId) {
        self.with_pending(|pending| {
            pending.device_ids.insert(device_id);
        });
        self.0.notify.notify_one();
    }

    /// Something happened that may concern any device.
    pub fn everything(&self) {
        self.with_pending(|pending| pending.is_everything = true);
        self.0.notify.notify_one();
    }

    fn with_pending<T>(&self, use_it: impl FnOnce(&mut Pending) -> T) -> T {
        use_it(&mut self.0.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there is something to look at; the devices, or `None` for everything.
    pub(super) async fn next(&self) -> Option<Vec<RowId>> {
        self.0.notify.notified().await;
        let pending = self.with_pending(std::mem::take);
        let is_everything = pending.is_everything || pending.device_ids.len() > SINGLE_DEVICES_MAX;
        if is_everything { None } else { Some(pending.device_ids.into_iter().collect()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn wakes_for_what_happened() {
        let wake = Wake::default();
        wake.device(3);
        wake.device(1);
        wake.device(3);
        assert_eq!(wake.next().await, Some(vec![1, 3]));
        wake.device(1);
        wake.everything();
        assert_eq!(wake.next().await, None);
    }
}
