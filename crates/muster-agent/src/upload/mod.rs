//! Sends files that somebody asked for, one request after the other.
//!
//! Nothing of it is written down here: the server asks again over each new link until the
//! files are stored or the device has said why they cannot be.

pub(crate) mod pack;
mod put;
mod tar;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_core::limits::FILE_REQUESTS_MAX;
use muster_core::token::Secret;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::trust::Trust;

/// From one attempt to the next, at first and at most.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(60);

/// What is to be sent where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Names the request for ever.
    pub request: String,
    /// A file or a folder.
    pub path: String,
    /// Where to.
    pub url: String,
    /// Sent with it: the credential.
    pub headers: BTreeMap<String, Secret>,
}

/// A request that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The request.
    pub request: String,
    /// Why, for a person.
    pub reason: String,
}

/// Why an attempt came to nothing.
#[derive(Debug)]
enum Problem {
    /// Trying again may help.
    Again(String),
    /// It will not.
    Final(String),
}

type Requests = Arc<Mutex<HashSet<String>>>;

/// The requests that are being served. Dropping it gives them up.
pub struct Uploads {
    under_way: Requests,
    orders: UnboundedSender<Order>,
    refused: UnboundedReceiver<Refused>,
    refuse: UnboundedSender<Refused>,
    worker: JoinHandle<()>,
}

impl Uploads {
    /// Serves requests for everything but what lies in `state`, which holds the device's key.
    pub fn new(state: PathBuf, trust: Trust) -> Self {
        let (orders, inbox) = unbounded_channel();
        let (refuse, refused) = unbounded_channel();
        let under_way = Requests::default();
        let work = Work { state, trust, refuse: refuse.clone(), under_way: Arc::clone(&under_way) };
        Self { under_way, orders, refused, refuse, worker: tokio::spawn(work.run(inbox)) }
    }

    /// Serves a request, unless it is served already.
    pub fn begin(&mut self, order: Order) {
        let mut under_way = lock(&self.under_way);
        if under_way.contains(&order.request) {
            return;
        }
        if under_way.len() as u64 >= FILE_REQUESTS_MAX {
            let reason = format!("the device has {FILE_REQUESTS_MAX} requests for files to serve already");
            let _ = self.refuse.send(Refused { request: order.request, reason });
            return;
        }
        under_way.insert(order.request.clone());
        let _ = self.orders.send(order);
    }

    /// The next request that cannot be served.
    pub async fn refused(&mut self) -> Refused {
        match self.refused.recv().await {
            Some(refused) => refused,
            // It holds a sender itself.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

fn lock(requests: &Requests) -> std::sync::MutexGuard<'_, HashSet<String>> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Work {
    state: PathBuf,
    trust: Trust,
    refuse: UnboundedSender<Refused>,
    under_way: Requests,
}

impl Work {
    async fn run(self, mut orders: UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            tracing::info!(path = order.path, "sending files that were asked for");
            if let Err(reason) = self.send(&order).await {
                tracing::warn!(path = order.path, reason, "files that were asked for cannot be sent");
                let _ = self.refuse.send(Refused { request: order.request.clone(), reason });
            }
            lock(&self.under_way).remove(&order.request);
        }
    }

    /// Sends until the server has it or says no: its credential ends, so this does.
    async fn send(&self, order: &Order) -> Result<(), String> {
        let mut pause = AGAIN_AFTER;
        loop {
            match put::put(order, &self.state, &self.trust).await {
                Ok(()) => return Ok(()),
                Err(Problem::Final(reason)) => return Err(reason),
                Err(Problem::Again(reason)) => tracing::info!(reason, "files are sent again later"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(AGAIN_AFTER_MAX);
        }
    }
}
