//! Keepalives that wait to be stored together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use muster_core::ids::RowId;
use muster_store::Store;
use muster_store::presence::{KEEPALIVES_MAX, Keepalive};

/// Keepalives that wait: the newest of each device.
#[derive(Default)]
pub struct KeepaliveBuffer(Mutex<HashMap<RowId, Keepalive>>);

impl KeepaliveBuffer {
    /// Takes a keepalive; an older one of the device is forgotten.
    pub fn push(&self, keepalive: Keepalive) {
        self.with(|waiting| {
            let newest = waiting.entry(keepalive.device_id).or_insert_with(|| keepalive.clone());
            if newest.at <= keepalive.at {
                *newest = keepalive;
            }
        });
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut HashMap<RowId, Keepalive>) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Stores everything that waits. What cannot be stored waits on. Answers with
    /// the rows of the devices that are gone.
    pub async fn flush(&self, store: &Store) -> Vec<RowId> {
        let mut gone = Vec::new();
        let waiting: Vec<Keepalive> = self.with(std::mem::take).into_values().collect();
        for batch in waiting.chunks(KEEPALIVES_MAX) {
            match store.write(|tx| async move { tx.store_keepalives(batch).await }).await {
                Ok(unknown) => gone.extend(unknown),
                Err(error) => {
                    tracing::warn!(%error, keepalives = batch.len(), "keepalives could not be stored; trying again soon");
                    batch.iter().cloned().for_each(|keepalive| self.push(keepalive));
                }
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use muster_core::clock::Timestamp;

    use super::*;

    fn keepalive(millis: i64) -> Keepalive {
        Keepalive {
            device_id: 1,
            at: Timestamp::from_millis(millis),
            heartbeat: Duration::from_secs(25),
            device_ip: String::new(),
            cpu_percent: None,
            ram_percent: None,
            disk_used_bytes: None,
            disk_size_bytes: None,
        }
    }

    #[test]
    fn keeps_the_newest_of_each_device() {
        let buffer = KeepaliveBuffer::default();
        [1, 3, 2].map(keepalive).into_iter().for_each(|keepalive| buffer.push(keepalive));
        assert_eq!(buffer.with(|waiting| waiting[&1].at), Timestamp::from_millis(3));
    }
}
