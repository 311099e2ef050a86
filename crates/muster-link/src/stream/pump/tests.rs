//! Both ends of a carrier in memory, with a connection at each.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::stream::Side;

type End = JoinHandle<(Result<(), StreamError>, Carrier<DuplexStream>, Counts)>;

/// Smaller than a chunk, so that much must wait.
const PIPE_BYTES: usize = 1_000;
const LIMITS: Limits = Limits { idle: Duration::from_secs(100), half_closed: Duration::from_secs(10) };

fn run(mut carrier: Carrier<DuplexStream>, limits: Option<Limits>) -> (DuplexStream, End) {
    let (mut near, far) = duplex(PIPE_BYTES);
    let end = tokio::spawn(async move {
        let counts = Counts::default();
        let done = pump(&mut carrier, &mut near, &counts, limits).await;
        (done, carrier, counts)
    });
    (far, end)
}

fn carriers() -> (Carrier<DuplexStream>, Carrier<DuplexStream>) {
    let (server, client) = duplex(PIPE_BYTES);
    (Carrier::new(server, Side::Server, 0), Carrier::new(client, Side::Client, 7))
}

fn bytes(length: u32) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

#[tokio::test]
async fn carries_one_stream_after_the_other_unharmed() {
    let (mut server, mut client) = carriers();
    for length in [0, 1, 300_000] {
        let ((visitor, server_end), (target, client_end)) = (run(server, Some(LIMITS)), run(client, None));
        let (sent, back) = (bytes(length), bytes(length + 5));
        let exchange = async |end: DuplexStream, sent: Vec<u8>| {
            let (mut read, mut write) = tokio::io::split(end);
            let mut came = Vec::new();
            let writing = async {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            };
            tokio::join!(writing, async { read.read_to_end(&mut came).await.unwrap() });
            came
        };
        let (came_back, came) = tokio::join!(exchange(visitor, sent.clone()), exchange(target, back.clone()));
        assert!(came == sent && came_back == back, "{length}");
        let (done, carrier, counts) = server_end.await.unwrap();
        done.unwrap();
        assert_eq!(counts.sent.into_inner(), sent.len() as u64);
        assert_eq!(counts.received.into_inner(), back.len() as u64);
        server = carrier;
        let (done, carrier, _) = client_end.await.unwrap();
        done.unwrap();
        client = carrier;
    }
}

#[tokio::test]
async fn one_side_may_end_long_before_the_other() {
    let (server, client) = carriers();
    let ((mut visitor, server_end), (mut target, client_end)) = (run(server, Some(LIMITS)), run(client, None));
    visitor.shutdown().await.unwrap();
    assert_eq!(target.read(&mut [0; 9]).await.unwrap(), 0, "the end arrives");
    target.write_all(b"late").await.unwrap();
    let mut late = [0; 4];
    visitor.read_exact(&mut late).await.unwrap();
    assert_eq!(&late, b"late");
    drop(target);
    assert_eq!(visitor.read(&mut late).await.unwrap(), 0);
    server_end.await.unwrap().0.unwrap();
    client_end.await.unwrap().0.unwrap();
}

#[tokio::test]
async fn a_carrier_that_breaks_is_no_end_of_the_stream() {
    let (server, client) = carriers();
    let (_visitor, end) = run(server, Some(LIMITS));
    drop(client);
    assert!(matches!(end.await.unwrap().0, Err(StreamError::Carrier(CarrierError::Closed))));
    // Also when the other end had ended before.
    let (server, mut client) = carriers();
    let (_visitor, end) = run(server, Some(LIMITS));
    client.send(&StreamMessage::End).await.unwrap();
    drop(client);
    assert!(matches!(end.await.unwrap().0, Err(StreamError::Carrier(CarrierError::Closed))));
}

#[tokio::test]
async fn a_device_that_cannot_connect_ends_it() {
    let (server, mut client) = carriers();
    let (_visitor, end) = run(server, Some(LIMITS));
    client.send(&StreamMessage::Failed { reason: "nobody listens".to_owned() }).await.unwrap();
    assert!(matches!(end.await.unwrap().0, Err(StreamError::Refused(reason)) if reason == "nobody listens"));
}

#[tokio::test]
async fn who_does_not_read_holds_the_other_back() {
    let (server, client) = carriers();
    let ((mut visitor, _server_end), (_target, _client_end)) = (run(server, Some(LIMITS)), run(client, None));
    let much = bytes(1_000_000);
    let sent = tokio::time::timeout(Duration::from_millis(100), visitor.write_all(&much)).await;
    assert!(sent.is_err(), "a million bytes lie nowhere");
}

#[tokio::test]
async fn nothing_moves_for_too_long() {
    let limits = Limits { idle: Duration::from_millis(60), half_closed: Duration::from_millis(20) };
    let (server, _client) = carriers();
    let (_visitor, end) = run(server, Some(limits));
    let begun = Instant::now();
    assert!(matches!(end.await.unwrap().0, Err(StreamError::Idle)));
    assert!(begun.elapsed() >= limits.idle);
    let (server, _client) = carriers();
    let limits = Limits { idle: Duration::from_secs(600), ..limits };
    let (mut visitor, end) = run(server, Some(limits));
    visitor.shutdown().await.unwrap();
    assert!(matches!(end.await.unwrap().0, Err(StreamError::Idle)), "long before the ten minutes are over");
}
