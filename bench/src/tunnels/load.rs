//! What is done through a tunnel, and the service at its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// The size of a request, and of its answer.
const MESSAGE_BYTES: usize = 256;
const CHUNK_BYTES: usize = 64 * 1024;
/// The first byte of a connection says what it is for.
const DRAIN: u8 = b'D';
const ECHO: u8 = b'E';

/// The service: swallows what it is sent, or answers each message with the same.
pub(super) struct Service {
    pub(super) port: u16,
    drained: Arc<AtomicU64>,
}

impl Service {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (port, drained) = (listener.local_addr()?.port(), Arc::new(AtomicU64::new(0)));
        let counter = Arc::clone(&drained);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&counter)));
            }
        });
        Ok(Self { port, drained })
    }
}

async fn serve(mut stream: TcpStream, drained: Arc<AtomicU64>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut purpose = [0];
    stream.read_exact(&mut purpose).await?;
    if purpose[0] == DRAIN {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match stream.read(&mut chunk).await? {
                0 => return Ok(()),
                length => drained.fetch_add(length as u64, Ordering::Relaxed),
            };
        }
    }
    let mut message = [0; MESSAGE_BYTES];
    while stream.read_exact(&mut message).await.is_ok() {
        stream.write_all(&message).await?;
    }
    Ok(())
}

/// Gigabits a second of that many connections, for that long.
pub(super) async fn throughput(service: &Service, port: u16, streams: usize, lasts: Duration) -> anyhow::Result<f64> {
    let before = service.drained.load(Ordering::Relaxed);
    let (begun, mut senders) = (Instant::now(), JoinSet::new());
    for _ in 0..streams {
        senders.spawn(async move {
            let mut stream = connect(port, DRAIN).await?;
            let chunk = vec![7; CHUNK_BYTES];
            while begun.elapsed() < lasts {
                stream.write_all(&chunk).await?;
            }
            // Counted is what has arrived, so it must have.
            stream.shutdown().await?;
            let _ = timeout(lasts, stream.read(&mut [0])).await;
            anyhow::Ok(())
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    let bytes = service.drained.load(Ordering::Relaxed) - before;
    Ok(bytes as f64 * 8.0 / begun.elapsed().as_secs_f64() / 1e9)
}

/// Requests over connections that stay.
pub(super) struct KeptAlive {
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

/// Requests and answers over that many connections, for that long.
pub(super) async fn keep_alive(port: u16, connections: usize, lasts: Duration) -> anyhow::Result<KeptAlive> {
    let (begun, mut callers) = (Instant::now(), JoinSet::new());
    for _ in 0..connections {
        callers.spawn(async move {
            let (mut stream, mut took) = (connect(port, ECHO).await?, Vec::new());
            while begun.elapsed() < lasts {
                let asked = Instant::now();
                ask(&mut stream).await?;
                took.push(asked.elapsed());
            }
            anyhow::Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(took) = callers.join_next().await {
        all.append(&mut took??);
    }
    all.sort_unstable();
    let at = |share: usize| all.get(all.len() * share / 100).map_or(0.0, |took| took.as_secs_f64() * 1e3);
    Ok(KeptAlive { per_second: all.len() as f64 / lasts.as_secs_f64(), p50_ms: at(50), p99_ms: at(99) })
}

/// Connections a second, each with one request, from that many callers, for that long.
pub(super) async fn connects(port: u16, callers: usize, lasts: Duration) -> anyhow::Result<f64> {
    let (begun, mut tasks) = (Instant::now(), JoinSet::new());
    for _ in 0..callers {
        tasks.spawn(async move {
            let mut made = 0_u64;
            while begun.elapsed() < lasts {
                let mut stream = connect(port, ECHO).await?;
                ask(&mut stream).await?;
                stream.shutdown().await?;
                let after_its_end = stream.read(&mut [0]).await?;
                anyhow::ensure!(after_its_end == 0, "more came than was asked for");
                made += 1;
            }
            anyhow::Ok(made)
        });
    }
    let mut made = 0;
    while let Some(task) = tasks.join_next().await {
        made += task??;
    }
    Ok(made as f64 / begun.elapsed().as_secs_f64())
}

/// That many connections, each of which has been used once and now idles.
pub(super) async fn idle(port: u16, connections: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut stream = connect(port, ECHO).await?;
        ask(&mut stream).await?;
        held.push(stream);
    }
    Ok(held)
}

async fn connect(port: u16, purpose: u8) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.context("a connection through the tunnel")?;
    stream.set_nodelay(true)?;
    stream.write_all(&[purpose]).await?;
    Ok(stream)
}

async fn ask(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut message = [7; MESSAGE_BYTES];
    stream.write_all(&message).await?;
    stream.read_exact(&mut message).await.context("an answer through the tunnel")?;
    Ok(())
}
