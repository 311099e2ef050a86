//! The carriers of streams that devices have dialled, or been asked to.
//!
//! Each belongs to one control link of its device, by the link's epoch, and ends with it.
//! A carrier that is not in use waits here; a caller's connection that finds none waits
//! here too, and its device is asked to dial. What devices are asked for is bounded, so
//! that a burst of connections does not fill the control link.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use muster_core::ids::RowId;
use muster_core::limits::{
    CARRIER_TIMEOUT, CARRIERS_AT_ONCE_MAX, READY_CARRIER_IDLE, READY_CARRIERS_MAX, READY_CARRIERS_MIN,
};
use muster_core::token::Secret;
use muster_link::ToDevice;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::http::websocket::ServerCarrier;

/// Carriers that a device has been asked for and that have not come.
const ASKED_MAX: usize = 4 * CARRIERS_AT_ONCE_MAX;
/// A message asks for at least this part of what has not come, so that a burst of connections
/// is a few messages: a link on which many wait is taken for dead, and closed.
const ASK_AT_LEAST_PART: usize = 4;
/// After this time a carrier that was asked for will not come: the secret in the message
/// needs its way to the device, and the handshake one back.
const ASKED_FOR_AT_MOST: Duration = CARRIER_TIMEOUT;

/// Names the control link that a carrier belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkId {
    /// The device.
    pub device_id: RowId,
    /// Which of its links.
    pub epoch: i64,
}

/// A carrier in use. Dropping it without [`Carriers::give_back`] closes it.
pub struct Taken {
    /// The carrier.
    pub carrier: ServerCarrier,
    /// Its link.
    pub link: LinkId,
    /// Ends with that link.
    pub link_ends: CancellationToken,
}

/// Every carrier that is not in use, and who waits for one.
#[derive(Default)]
pub struct Carriers(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    pools: HashMap<RowId, Pool>,
    /// By the hash of the secret that the device was given.
    asked: HashMap<String, (LinkId, Instant)>,
}

/// What one link has.
struct Pool {
    link: LinkId,
    ends: CancellationToken,
    ready: Vec<(ServerCarrier, Instant)>,
    waiting: VecDeque<oneshot::Sender<ServerCarrier>>,
    asked: usize,
}

impl Pool {
    fn new(link: LinkId) -> Self {
        let ends = CancellationToken::new();
        Self { link, ends, ready: Vec::new(), waiting: VecDeque::new(), asked: 0 }
    }

    /// How many more the device is to be asked for, with one message. What is not asked for
    /// now is when the next carrier comes, or the keeper looks.
    fn wanted(&self) -> usize {
        let wanted = (self.waiting.len() + READY_CARRIERS_MIN).saturating_sub(self.ready.len() + self.asked);
        let wanted = wanted.min(CARRIERS_AT_ONCE_MAX).min(ASKED_MAX.saturating_sub(self.asked));
        if wanted * ASK_AT_LEAST_PART < self.asked { 0 } else { wanted }
    }

    fn take_ready(&mut self) -> Option<ServerCarrier> {
        // The last one in is the least likely to have died meanwhile.
        while let Some((mut carrier, _)) = self.ready.pop() {
            if carrier.is_alive() {
                return Some(carrier);
            }
        }
        None
    }

    /// Hands a carrier to whoever waits the longest, or keeps it.
    fn put(&mut self, mut carrier: ServerCarrier, now: Instant) {
        while let Some(waiting) = self.waiting.pop_front() {
            match waiting.send(carrier) {
                Ok(()) => return,
                Err(back) => carrier = back,
            }
        }
        if self.ready.len() < READY_CARRIERS_MAX {
            self.ready.push((carrier, now));
        }
    }
}

impl Inner {
    fn pool(&mut self, link: LinkId) -> Option<&mut Pool> {
        self.pools.get_mut(&link.device_id).filter(|pool| pool.link == link)
    }

    /// What a device must be told, if there is something to ask it for.
    fn ask(&mut self, app: &App, device_id: RowId) -> Option<(LinkId, ToDevice)> {
        let pool = self.pools.get_mut(&device_id)?;
        let (link, wanted, until) = (pool.link, pool.wanted(), Instant::now() + ASKED_FOR_AT_MOST);
        if wanted == 0 {
            return None;
        }
        pool.asked += wanted;
        let secrets: Vec<Secret> = app.random(|rng| (0..wanted).map(|_| Secret::for_carrier(rng)).collect());
        for secret in &secrets {
            self.asked.insert(secret.hash().as_str().to_owned(), (link, until));
        }
        Some((link, ToDevice::DialStreams { secrets }))
    }
}

impl Carriers {
    /// A link of a device is open. What belonged to its last one is over.
    pub fn link_up(&self, device_id: RowId, epoch: i64) {
        self.with(|inner| {
            if inner.pools.get(&device_id).is_some_and(|pool| pool.link.epoch > epoch) {
                return;
            }
            let pool = Pool::new(LinkId { device_id, epoch });
            if let Some(older) = inner.pools.insert(device_id, pool) {
                older.ends.cancel();
            }
        });
    }

    /// The link of that epoch has ended, and with it everything that belongs to it.
    pub fn link_down(&self, device_id: RowId, epoch: i64) {
        self.with(|inner| {
            let link = LinkId { device_id, epoch };
            if inner.pool(link).is_some()
                && let Some(pool) = inner.pools.remove(&device_id)
            {
                pool.ends.cancel();
            }
            inner.asked.retain(|_, (asked, _)| *asked != link);
        });
    }

    /// Has a device dial a few carriers before anybody needs them.
    pub fn warm(&self, app: &App, device_id: RowId) {
        let asked = self.with(|inner| inner.ask(app, device_id));
        if let Some((link, message)) = asked {
            app.links.send(link.device_id, link.epoch, message);
        }
    }

    /// A carrier of that device: one that waits, or the next that it dials. `None` when
    /// its link ends before; bounded by the caller's time-out.
    pub async fn take(&self, app: &App, device_id: RowId) -> Option<Taken> {
        let (waits, link, link_ends) = self.with(|inner| {
            let pool = inner.pools.get_mut(&device_id)?;
            let (link, ends) = (pool.link, pool.ends.clone());
            if let Some(carrier) = pool.take_ready() {
                return Some((Ok(carrier), link, ends));
            }
            let (sender, receiver) = oneshot::channel();
            // Whoever has gone meanwhile is not waited for.
            pool.waiting.retain(|waiting| !waiting.is_closed());
            pool.waiting.push_back(sender);
            Some((Err(receiver), link, ends))
        })?;
        let carrier = match waits {
            Ok(carrier) => carrier,
            Err(receiver) => {
                self.warm(app, device_id);
                receiver.await.ok()?
            }
        };
        Some(Taken { carrier, link, link_ends })
    }

    /// A stream has ended properly: its carrier may serve another.
    pub fn give_back(&self, link: LinkId, carrier: ServerCarrier) {
        self.with(|inner| {
            if let Some(pool) = inner.pool(link) {
                pool.put(carrier, Instant::now());
            }
        });
    }

    /// Whether that secret was given to a device, and not used.
    pub fn is_asked(&self, secret: &Secret) -> bool {
        self.with(|inner| inner.asked.get(secret.hash().as_str()).is_some_and(|(_, until)| *until > Instant::now()))
    }

    /// Uses that secret up: the link that its carrier belongs to.
    pub fn claim(&self, secret: &Secret) -> Option<LinkId> {
        self.with(|inner| {
            let (link, until) = inner.asked.remove(secret.hash().as_str())?;
            if until <= Instant::now() {
                // Counted still: nobody comes for it.
                inner.forget_asked(link, 1);
                return None;
            }
            Some(link)
        })
    }

    /// A carrier has come that was claimed; `None` when its handshake failed.
    pub fn arrived(&self, app: &App, link: LinkId, carrier: Option<ServerCarrier>) {
        self.with(|inner| {
            inner.forget_asked(link, 1);
            if let (Some(pool), Some(carrier)) = (inner.pool(link), carrier) {
                pool.put(carrier, Instant::now());
            }
        });
        let is_waited_for = self.with(|inner| inner.pool(link).is_some_and(|pool| !pool.waiting.is_empty()));
        if is_waited_for {
            self.warm(app, link.device_id);
        }
    }

    /// Closes what has waited for too long, and gives up what was asked for in vain.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.with(|inner| {
            let late: Vec<LinkId> =
                inner.asked.extract_if(|_, (_, until)| *until <= now).map(|(_, (link, _))| link).collect();
            for link in late {
                inner.forget_asked(link, 1);
            }
            for pool in inner.pools.values_mut() {
                pool.ready.retain(|(_, since)| now.duration_since(*since) < READY_CARRIER_IDLE);
            }
        });
    }

    /// Closes every carrier of a device that nobody uses.
    pub fn cool(&self, device_id: RowId) {
        self.with(|inner| {
            if let Some(pool) = inner.pools.get_mut(&device_id) {
                pool.ready = Vec::new();
            }
        });
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Inner) -> T) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn forget_asked(&mut self, link: LinkId, number: usize) {
        if let Some(pool) = self.pool(link) {
            pool.asked = pool.asked.saturating_sub(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::registry::WAITING_MESSAGES_MAX;

    #[test]
    fn a_burst_of_connections_is_few_messages() {
        let (mut pool, mut messages) = (Pool::new(LinkId { device_id: 1, epoch: 1 }), 0);
        for _ in 0..1_000 {
            pool.waiting.push_back(oneshot::channel().0);
            let wanted = pool.wanted();
            messages += usize::from(wanted > 0);
            pool.asked += wanted;
        }
        assert!(pool.asked >= CARRIERS_AT_ONCE_MAX && messages < WAITING_MESSAGES_MAX / 2, "{messages}");
    }
}
