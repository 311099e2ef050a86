//! The links that this server holds.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use muster_core::ids::RowId;
use muster_link::ToDevice;
use tokio::sync::mpsc;

/// Messages that wait for a slow device before its link is given up.
pub const WAITING_MESSAGES_MAX: usize = 64;

struct Link {
    epoch: i64,
    messages: mpsc::Sender<ToDevice>,
}

/// Every link of this server, by device.
#[derive(Default)]
pub struct Links(Mutex<HashMap<RowId, Link>>);

impl Links {
    /// Adds the link of a device, unless a newer one is here; an older one ends,
    /// since its end of the channel is dropped.
    pub fn insert(&self, device_id: RowId, epoch: i64) -> Option<mpsc::Receiver<ToDevice>> {
        let (messages, receiver) = mpsc::channel(WAITING_MESSAGES_MAX);
        self.with(|links| {
            if links.get(&device_id).is_some_and(|link| link.epoch > epoch) {
                return None;
            }
            links.insert(device_id, Link { epoch, messages });
            Some(receiver)
        })
    }

    /// Removes the link of that epoch; a newer one is left alone.
    pub fn remove(&self, device_id: RowId, epoch: i64) {
        self.with(|links| {
            if links.get(&device_id).is_some_and(|link| link.epoch == epoch) {
                links.remove(&device_id);
            }
        });
    }

    /// Sends a message over the link of that epoch, if it is still here. A device
    /// that takes no messages loses its link, and is told again over the next one.
    pub fn send(&self, device_id: RowId, epoch: i64, message: ToDevice) {
        self.with(|links| {
            let Some(link) = links.get(&device_id).filter(|link| link.epoch == epoch) else { return };
            if link.messages.try_send(message).is_err() {
                tracing::warn!(device_id, "a device takes no messages; closing its link");
                links.remove(&device_id);
            }
        });
    }

    /// Ends the link of a device, whatever its epoch; `message` is the last thing it hears.
    pub fn end(&self, device_id: RowId, message: ToDevice) {
        let Some(link) = self.with(|links| links.remove(&device_id)) else { return };
        if link.messages.try_send(message).is_err() {
            tracing::debug!(device_id, "a link ends before its device has heard why");
        }
    }

    /// Ends every link.
    pub fn close_all(&self) {
        self.with(HashMap::clear);
    }

    /// How many links there are.
    pub fn count(&self) -> usize {
        self.with(|links| links.len())
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut HashMap<RowId, Link>) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: ToDevice = ToDevice::Heartbeat { heartbeat_ms: 1 };

    #[tokio::test]
    async fn a_newer_link_takes_the_place_of_an_older() {
        let links = Links::default();
        let mut old = links.insert(1, 1).unwrap();
        let mut new = links.insert(1, 2).unwrap();
        assert!(links.insert(1, 1).is_none());
        links.send(1, 1, MESSAGE);
        links.send(1, 2, MESSAGE);
        assert_eq!(old.recv().await, None, "nothing was sent over it, and it has ended");
        assert_eq!(new.recv().await, Some(MESSAGE));
        links.remove(1, 1);
        assert_eq!(links.count(), 1);
        links.remove(1, 2);
        assert_eq!(new.recv().await, None);
    }

    #[tokio::test]
    async fn a_link_ends_with_a_last_word() {
        let links = Links::default();
        let mut messages = links.insert(1, 1).unwrap();
        links.end(1, MESSAGE);
        links.end(2, MESSAGE);
        assert_eq!((messages.recv().await, messages.recv().await), (Some(MESSAGE), None));
        assert_eq!(links.count(), 0);
    }

    #[tokio::test]
    async fn a_device_that_takes_nothing_loses_its_link() {
        let links = Links::default();
        let _receiver = links.insert(1, 1).unwrap();
        for _ in 0..=WAITING_MESSAGES_MAX {
            links.send(1, 1, MESSAGE);
        }
        assert_eq!(links.count(), 0);
    }
}
