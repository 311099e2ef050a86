//! A link that flaps: between the agent and the server, and cut at will.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Passes connections on until it is told to cut them.
pub(super) struct Proxy {
    pub(super) port: u16,
    open: Arc<Mutex<Vec<AbortHandle>>>,
    cuts: AtomicU64,
}

impl Proxy {
    pub(super) async fn start(to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (port, open) = (listener.local_addr()?.port(), Arc::<Mutex<Vec<AbortHandle>>>::default());
        let all = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let task = tokio::spawn(pass(near, to)).abort_handle();
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.retain(|task| !task.is_finished());
                all.push(task);
            }
        });
        Ok(Self { port, open, cuts: AtomicU64::new(0) })
    }

    /// Cuts every connection, the control link too; or every third of those that were made after it.
    pub(super) fn cut(&self, is_everything: bool) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let alive: Vec<&AbortHandle> = open.iter().filter(|task| !task.is_finished()).collect();
        let chosen = alive.iter().enumerate().filter(|(i, _)| is_everything || (i % 3 == 0 && *i > 0));
        self.cuts.fetch_add(chosen.map(|(_, task)| task.abort()).count() as u64, Ordering::Relaxed);
    }

    /// Connections that were cut so far.
    pub(super) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

/// One connection: an end when it is cut, and a reset where bytes lie unread.
async fn pass(mut near: TcpStream, to: SocketAddr) -> std::io::Result<()> {
    let mut far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}
