//! A shelf of one artifact, over HTTP: serves ranges, and falls silent or cuts the
//! link where a test wants it.

use std::sync::{Arc, Mutex};

use muster_core::token::Secret;
use muster_link::Artifact;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the shelf does when it has sent so many bytes of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Goes on to the end.
    Nothing,
    /// Cuts the link.
    Cut(usize),
    /// Says nothing more, and holds the link.
    Silence(usize),
}

pub(crate) struct Shelf {
    url: String,
    content: Vec<u8>,
    after: Arc<Mutex<After>>,
    /// The head of each request.
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
}

impl Shelf {
    pub(crate) async fn with(content: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/repo/app.bin?x=1", listener.local_addr().expect("an address"));
        let (after, requests) = (Arc::new(Mutex::new(After::Nothing)), Arc::new(Mutex::new(Vec::new())));
        let (content, told, heads) = (content.to_vec(), Arc::clone(&after), Arc::clone(&requests));
        let served = content.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, served.clone(), Arc::clone(&told), Arc::clone(&heads)));
            }
        });
        Self { url, content, after, requests }
    }

    pub(crate) fn now(&self, after: After) {
        *self.after.lock().unwrap() = after;
    }

    pub(crate) fn artifact(&self) -> Artifact {
        Artifact {
            url: self.url.clone(),
            headers: [("Authorization".to_owned(), Secret::received("Bearer short-lived"))].into(),
            sha256: Some(sha256(&self.content)),
            size_bytes: Some(self.content.len() as u64),
        }
    }
}

pub(crate) fn sha256(content: &[u8]) -> String {
    // The hash of a secret is the SHA-256 of its text.
    let text = String::from_utf8(content.to_vec()).expect("a text");
    Secret::received(text).hash().as_str().to_owned()
}

async fn serve(mut stream: TcpStream, content: Vec<u8>, after: Arc<Mutex<After>>, heads: Arc<Mutex<Vec<String>>>) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(bytes).expect("a head");
    let offset = head.lines().find_map(|line| line.strip_prefix("range: bytes=")?.trim_end_matches('-').parse().ok());
    heads.lock().unwrap().push(head);
    let (from, status, range) = match offset {
        Some(from) => {
            let range = format!("content-range: bytes {from}-{}/{}\r\n", content.len() - 1, content.len());
            (from, "206 Partial Content", range)
        }
        None => (0, "200 OK", String::new()),
    };
    let body: &[u8] = &content[from..];
    let answer = format!("HTTP/1.1 {status}\r\n{range}content-length: {}\r\n\r\n", body.len());
    let after = *after.lock().unwrap();
    let end = match after {
        After::Nothing => body.len(),
        After::Cut(n) | After::Silence(n) => n.min(body.len()),
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.write_all(&body[..end]).await;
    if matches!(after, After::Silence(_)) {
        let _ = stream.read_u8().await;
    }
}
