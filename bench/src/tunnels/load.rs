//! Requests through a tunnel, and the service at its end: as much of HTTP as that needs.

use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: device.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 160\r\n\r\n\
0123456789012345678901234567890123456789012345678901234567890123456789012345678\n\
0123456789012345678901234567890123456789012345678901234567890123456789012345678\n";

/// Answers each request with the same; its port.
pub(crate) async fn service() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    Ok(port)
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; REQUEST.len()];
    while stream.read_exact(&mut request).await.is_ok() {
        stream.write_all(ANSWER).await?;
    }
    Ok(())
}

/// Requests over connections that stay.
#[derive(Clone, Copy)]
pub(crate) struct KeptAlive {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Requests and answers over that many connections, for that long.
pub(crate) async fn keep_alive(port: u16, connections: usize, lasts: Duration) -> anyhow::Result<KeptAlive> {
    let mut streams = idle(port, connections).await?;
    let (begun, mut callers) = (Instant::now(), JoinSet::new());
    for mut stream in streams.drain(..) {
        callers.spawn(async move {
            let mut took = Vec::new();
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
pub(crate) async fn connects(port: u16, callers: usize, lasts: Duration) -> anyhow::Result<f64> {
    let (begun, mut tasks) = (Instant::now(), JoinSet::new());
    for _ in 0..callers {
        tasks.spawn(async move {
            let mut made = 0_u64;
            while begun.elapsed() < lasts {
                let mut stream = connect(port).await?;
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
pub(crate) async fn idle(port: u16, connections: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut stream = connect(port).await?;
        ask(&mut stream).await?;
        held.push(stream);
    }
    Ok(held)
}

async fn connect(port: u16) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.context("a connection through the tunnel")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn ask(stream: &mut TcpStream) -> anyhow::Result<()> {
    stream.write_all(REQUEST).await?;
    let mut answer = [0; ANSWER.len()];
    stream.read_exact(&mut answer).await.context("an answer through the tunnel")?;
    anyhow::ensure!(answer == *ANSWER, "another answer than was sent");
    Ok(())
}
