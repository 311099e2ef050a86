//! What is kept of an output stream: its head and its tail.

use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use muster_core::limits::{COMMAND_CHUNK_BYTES_MAX, COMMAND_OUTPUT_PERIOD, STEP_OUTPUT_BYTES_MAX};

/// Left free for the line that says how much was left out, and for the runner's own.
const NOTE_BYTES: usize = 256;
/// How often the latest output is written for those who follow it.
const WRITE_EVERY: Duration = COMMAND_OUTPUT_PERIOD;
const HEAD_BYTES_MAX: usize = STEP_OUTPUT_BYTES_MAX / 2 - NOTE_BYTES;
const TAIL_BYTES_MAX: usize = STEP_OUTPUT_BYTES_MAX / 2 - NOTE_BYTES;

/// The first and the last bytes of a stream of any length.
#[derive(Clone, Debug, Default)]
pub struct HeadTail {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out_bytes: u64,
}

impl HeadTail {
    /// Takes in the stream's next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES_MAX - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES_MAX);
        self.tail.drain(..surplus);
        self.left_out_bytes += surplus as u64;
    }

    /// Takes in what is kept of another stream, whose bytes come next.
    pub fn append(&mut self, next: &Self) {
        self.push(&next.head);
        if next.left_out_bytes > 0 {
            // Something is missing here, so nothing before it can be a part of the tail.
            self.left_out_bytes += next.left_out_bytes + self.tail.len() as u64;
            self.tail.clear();
        }
        let (older, newer) = next.tail.as_slices();
        self.push(older);
        self.push(newer);
    }

    /// How many bytes are missing between head and tail.
    pub fn left_out_bytes(&self) -> u64 {
        self.left_out_bytes
    }

    /// Whether what comes next begins a line.
    pub fn ends_line(&self) -> bool {
        self.tail.back().or(self.head.last()).is_none_or(|byte| *byte == b'\n')
    }

    /// How many bytes have come, and the last of these.
    fn latest(&self) -> (u64, Vec<u8>) {
        let bytes = self.left_out_bytes + (self.head.len() + self.tail.len()) as u64;
        let from_tail = self.tail.len().min(COMMAND_CHUNK_BYTES_MAX);
        let from_head = match self.left_out_bytes {
            0 => self.head.len().min(COMMAND_CHUNK_BYTES_MAX - from_tail),
            _ => 0,
        };
        let head = &self.head[self.head.len() - from_head..];
        let tail = self.tail.iter().skip(self.tail.len() - from_tail);
        (bytes, head.iter().chain(tail).copied().collect())
    }

    /// The stream as text of at most [`STEP_OUTPUT_BYTES_MAX`] bytes; what is no
    /// UTF-8 is replaced, and a line stands for what was left out.
    pub fn to_text(&self) -> String {
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if self.left_out_bytes == 0 {
            let whole = readable(&[self.head.as_slice(), &tail].concat());
            if whole.len() <= HEAD_BYTES_MAX + TAIL_BYTES_MAX {
                return whole;
            }
        }
        // Replacing may have made either part longer than its bytes were.
        let (mut head, tail) = (readable(&self.head), readable(&tail));
        head.truncate(head.floor_char_boundary(HEAD_BYTES_MAX));
        let tail = &tail[tail.ceil_char_boundary(tail.len().saturating_sub(TAIL_BYTES_MAX))..];
        format!("{head}\n[… {} bytes were left out here …]\n{tail}", self.left_out_bytes)
    }
}

fn readable(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.retain(|c| c != '\0');
    text
}

/// A stream that is being read by a thread of its own.
pub struct Capture {
    kept: Arc<Mutex<HeadTail>>,
    ended: Receiver<()>,
}

impl Capture {
    /// Begins to read `stream`.
    pub fn start(stream: impl Read + Send + 'static) -> Self {
        Self::start_followed(stream, None)
    }

    /// The same, and writes the latest of it to `file` for [`latest`], again and again.
    pub fn start_followed(mut stream: impl Read + Send + 'static, file: Option<PathBuf>) -> Self {
        let kept = Arc::new(Mutex::new(HeadTail::default()));
        if let Some(file) = file {
            let kept = Arc::downgrade(&kept);
            thread::spawn(move || write_latest(&file, &kept));
        }
        let (done, ended) = mpsc::channel();
        let into = Arc::clone(&kept);
        thread::spawn(move || {
            let mut buffer = [0; 8 * 1024];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                into.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..n]);
            }
            let _ = done.send(());
        });
        Self { kept, ended }
    }

    /// What was read until the stream's end, or until `wait` has passed: a process
    /// that the command left behind may hold the stream open for ever.
    pub fn finish(&self, wait: Duration) -> HeadTail {
        let _ = self.ended.recv_timeout(wait);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Writes the latest output to `file` whenever there is more, until nobody keeps it.
fn write_latest(file: &Path, kept: &Weak<Mutex<HeadTail>>) {
    let mut written = 0;
    while let Some(kept) = kept.upgrade() {
        let (bytes, latest) = kept.lock().unwrap_or_else(PoisonError::into_inner).latest();
        drop(kept);
        if bytes > written {
            let beside = file.with_extension("tmp");
            let content = [&bytes.to_be_bytes()[..], &latest].concat();
            // Of interest for as long as the command runs, and not after a power cut.
            let _ = std::fs::write(&beside, content).and_then(|()| std::fs::rename(&beside, file));
            written = bytes;
        }
        thread::sleep(WRITE_EVERY);
    }
}

/// How many bytes a running command had put out, and the last of these, when that was last
/// written to `file`.
pub fn latest(file: &Path) -> Option<(u64, Vec<u8>)> {
    let content = std::fs::read(file).ok()?;
    let (bytes, latest) = content.split_first_chunk()?;
    Some((u64::from_be_bytes(*bytes), latest.to_vec()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(chunks: &[&[u8]]) -> String {
        let mut stream = HeadTail::default();
        chunks.iter().for_each(|chunk| stream.push(chunk));
        stream.to_text()
    }

    #[test]
    fn keeps_a_short_stream_whole() {
        assert_eq!(kept(&[b"one\n", b"tw\xC3", b"\xB6\0\n"]), "one\ntwö\n");
    }

    #[test]
    fn says_how_much_of_a_long_one_was_left_out() {
        let long = vec![b'x'; 1_000_000];
        let text = kept(&[b"first\n", &long, b"\nlast"]);
        let left_out = 1_000_011 - HEAD_BYTES_MAX - TAIL_BYTES_MAX;
        assert!(text.starts_with("first\n") && text.ends_with("\nlast"));
        assert!(text.contains(&format!("\n[… {left_out} bytes were left out here …]\n")));
    }

    #[test]
    fn streams_of_several_commands_are_cut_once() {
        let mut step = HeadTail::default();
        let long = vec![b'x'; 1_000_000];
        let mut bytes = 0;
        for pieces in [[&b"begin\n"[..], b"short\n"], [&b"long\n"[..], &long], [b"more\n", &long], [b"and", b"\nend"]] {
            let mut command = HeadTail::default();
            pieces.iter().for_each(|piece| command.push(piece));
            bytes += pieces.concat().len();
            step.append(&command);
        }
        let text = step.to_text();
        let left_out = step.left_out_bytes();
        assert!(text.starts_with("begin\nshort\nlong\nxxx") && text.ends_with("xxxand\nend"));
        assert!(text.contains(&format!("\n[… {left_out} bytes were left out here …]\n")));
        assert_eq!(text.matches("left out").count(), 1);
        assert_eq!(
            left_out + (step.head.len() + step.tail.len()) as u64,
            bytes as u64,
            "each byte is kept, or counted"
        );
    }

    #[test]
    fn a_stream_that_is_no_text_stays_bounded() {
        assert!(kept(&[&vec![0xFF; 1_000_000]]).len() <= STEP_OUTPUT_BYTES_MAX);
        assert!(kept(&[&vec![0xFF; STEP_OUTPUT_BYTES_MAX / 2]]).len() <= STEP_OUTPUT_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn never_exceeds_its_bound(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30_000), 0..6)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            prop_assert!(kept(&chunks).len() <= STEP_OUTPUT_BYTES_MAX);
        }
    }
}
