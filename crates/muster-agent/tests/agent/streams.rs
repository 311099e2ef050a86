//! Connections that the agent carries to its own ports.

use muster_core::token::Secret;
use muster_link::ToDevice;
use muster_link::stream::{Carrier, Side, StreamMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::device::Device;
use crate::server::{Duplex, PATIENCE, Server};

const SECRET: &str = "mc_for_one_carrier";

/// The carrier that the agent dials when it is asked to.
async fn carrier(server: &Server) -> Carrier<Box<dyn Duplex>> {
    let stream = server.accept_stream().await;
    #[expect(clippy::result_large_err, reason = "the library's own kind of answer")]
    let check = |request: &Request, response: Response| {
        assert_eq!(request.uri().path(), "/link/v1/stream");
        assert_eq!(request.headers()["authorization"], format!("Bearer {SECRET}"));
        Ok(response)
    };
    let socket = tokio_tungstenite::accept_hdr_async(stream, check).await.expect("a WebSocket");
    Carrier::new(socket.into_inner(), Side::Server, 0)
}

async fn heard(carrier: &mut Carrier<Box<dyn Duplex>>) -> StreamMessage {
    timeout(PATIENCE, carrier.receive()).await.expect("the agent speaks").expect("a message")
}

async fn opens(carrier: &mut Carrier<Box<dyn Duplex>>, host: &str, port: u16) -> StreamMessage {
    carrier.send(&StreamMessage::Open { host: host.to_owned(), port }).await.expect("it leaves");
    heard(carrier).await
}

#[tokio::test]
async fn carries_one_connection_after_the_other_until_the_link_ends() {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    device.start();
    let mut link = server.welcome().await;
    link.send(&ToDevice::DialStreams { secrets: vec![Secret::received(SECRET)] }).await;
    let mut carrier = carrier(&server).await;
    assert_eq!(heard(&mut carrier).await, StreamMessage::Ready);
    let target = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = target.local_addr().expect("an address").port();
    for _ in 0..2 {
        assert_eq!(opens(&mut carrier, "", port).await, StreamMessage::Opened);
        let (mut near, _) = target.accept().await.expect("a connection");
        carrier.send(&StreamMessage::End).await.expect("it leaves");
        assert_eq!(near.read(&mut [0]).await.expect("an end"), 0);
        drop(near);
        assert_eq!(heard(&mut carrier).await, StreamMessage::End);
    }
    assert_eq!(opens(&mut carrier, "", port).await, StreamMessage::Opened);
    let (mut near, _) = target.accept().await.expect("a connection");
    drop(link);
    let cut = timeout(PATIENCE, near.read(&mut [0])).await.expect("an end");
    assert_eq!(cut.expect_err("no proper end").kind(), std::io::ErrorKind::ConnectionReset);
    near.shutdown().await.unwrap_or_default();
}

#[tokio::test]
async fn says_why_it_cannot_or_does_not_want_to() {
    let mut server = Server::start().await;
    let mut device = Device::enrolled(&mut server).await;
    device.start();
    let mut link = server.welcome().await;
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port();
    for (host, expected) in [("", "refused"), ("10.0.0.9", "to itself only")] {
        link.send(&ToDevice::DialStreams { secrets: vec![Secret::received(SECRET)] }).await;
        let mut carrier = carrier(&server).await;
        assert_eq!(heard(&mut carrier).await, StreamMessage::Ready);
        match opens(&mut carrier, host, free).await {
            StreamMessage::Failed { reason } => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        }
        assert!(timeout(PATIENCE, carrier.receive()).await.expect("an end").is_err(), "it closes the carrier");
    }
}
