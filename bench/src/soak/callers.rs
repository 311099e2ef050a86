//! Callers of every kind, and the service that they call.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// Bytes that a caller sends, and gets back.
const MESSAGE_BYTES: usize = 512;
const MUCH_BYTES: usize = 256 * 1024;
/// A caller does not wait longer for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a connection goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One message, then both end.
    Short,
    /// Some messages with pauses between.
    Long,
    /// Much in both directions.
    Much,
    /// The caller ends first, the service answers then.
    EndedByCaller,
    /// The service ends first, the caller sends on.
    EndedByService,
    /// The caller resets it.
    ResetByCaller,
    /// The service resets it.
    ResetByService,
    /// Neither side says anything any more.
    Abandoned,
}

impl Kind {
    /// In turns; what takes long is rarer.
    pub(super) const fn of(number: u64) -> Self {
        match number % 50 {
            0 => Self::Abandoned,
            1 => Self::Long,
            2..=4 => Self::Much,
            5..=11 => Self::EndedByCaller,
            12..=18 => Self::EndedByService,
            19..=25 => Self::ResetByCaller,
            26..=32 => Self::ResetByService,
            _ => Self::Short,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::EndedByCaller => b'C',
            Self::EndedByService => b'S',
            Self::ResetByService => b'R',
            Self::Abandoned => b'A',
            _ => b'E',
        }
    }
}

/// The service: its port.
pub(super) async fn service() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Ok(port)
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut kind = [0];
    stream.read_exact(&mut kind).await?;
    match kind[0] {
        b'R' => stream.set_zero_linger(),
        b'C' => {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await?;
            stream.write_all(&all).await
        }
        b'S' => {
            stream.write_all(&[7; MESSAGE_BYTES]).await?;
            stream.shutdown().await?;
            stream.read_to_end(&mut Vec::new()).await.map(drop)
        }
        // Held until Muster ends it.
        b'A' => stream.read_to_end(&mut Vec::new()).await.map(drop),
        _ => {
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.map(drop)
        }
    }
}

/// Makes one connection of that kind: whether it went as it should. While the link is away, it does not.
pub(super) async fn call(port: u16, kind: Kind) -> bool {
    timeout(PATIENCE, through(port, kind)).await.is_ok_and(|done| done.is_ok())
}

async fn through(port: u16, kind: Kind) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(&[kind.code()]).await?;
    match kind {
        Kind::Short => echoed(&mut stream, MESSAGE_BYTES).await?,
        Kind::Long => {
            for _ in 0..10 {
                echoed(&mut stream, MESSAGE_BYTES).await?;
                sleep(Duration::from_millis(100)).await;
            }
        }
        Kind::Much => echoed(&mut stream, MUCH_BYTES).await?,
        Kind::EndedByCaller => {
            stream.write_all(&[7; MESSAGE_BYTES]).await?;
            stream.shutdown().await?;
            return whole(&mut stream, MESSAGE_BYTES).await;
        }
        Kind::EndedByService => {
            whole(&mut stream, MESSAGE_BYTES).await?;
            stream.write_all(&[7; MESSAGE_BYTES]).await?;
        }
        Kind::ResetByCaller => {
            echoed(&mut stream, MESSAGE_BYTES).await?;
            return stream.set_zero_linger();
        }
        // However it ends: it must.
        Kind::ResetByService | Kind::Abandoned => {
            let _ = stream.read(&mut [0]).await;
            return Ok(());
        }
    }
    stream.shutdown().await?;
    whole(&mut stream, 0).await
}

/// Sends, while the same comes back.
async fn echoed(stream: &mut TcpStream, length: usize) -> std::io::Result<()> {
    let (mut read, mut write) = stream.split();
    let (sent, mut came) = (vec![7; length], vec![0; length]);
    tokio::try_join!(write.write_all(&sent), read.read_exact(&mut came))?;
    if came == sent { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}

/// Reads to the end, which must come after that many bytes.
async fn whole(stream: &mut TcpStream, length: usize) -> std::io::Result<()> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await?;
    if all.len() == length { Ok(()) } else { Err(std::io::ErrorKind::InvalidData.into()) }
}
