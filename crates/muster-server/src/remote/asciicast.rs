//! What a terminal shows, as lines of an [asciicast](https://docs.asciinema.org/manual/asciicast/v2/)
//! of version 2: a header, then an event in each line, with the seconds since its begin.

use std::time::Duration;

use muster_core::clock::Timestamp;
use muster_link::stream::TerminalSize;
use serde_json::json;

/// Which way bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Shown.
    Output,
    /// Typed.
    Input,
}

/// Makes the lines. A letter whose bytes come in pieces waits for the last of them.
#[derive(Debug, Default)]
pub struct Asciicast {
    unfinished: [Vec<u8>; 2],
}

impl Asciicast {
    /// The first line.
    pub fn header(size: TerminalSize, begin: Timestamp, title: &str, term: &str) -> String {
        let header = json!({
            "version": 2, "width": size.columns, "height": size.rows,
            "timestamp": begin.as_millis() / 1000, "title": title, "env": { "TERM": term },
        });
        format!("{header}\n")
    }

    /// Bytes that were shown, or typed; nothing while they are no whole letter.
    pub fn bytes(&mut self, at: Duration, way: Way, bytes: &[u8]) -> Option<String> {
        let (code, unfinished) = match way {
            Way::Output => ("o", &mut self.unfinished[0]),
            Way::Input => ("i", &mut self.unfinished[1]),
        };
        unfinished.extend_from_slice(bytes);
        let text = take_letters(unfinished);
        (!text.is_empty()).then(|| event(at, code, &text))
    }

    /// The terminal has another size.
    pub fn resize(at: Duration, size: TerminalSize) -> String {
        event(at, "r", &format!("{}x{}", size.columns, size.rows))
    }

    /// A note.
    pub fn marker(at: Duration, text: &str) -> String {
        event(at, "m", text)
    }
}

fn event(at: Duration, code: &str, text: &str) -> String {
    // A float of JSON has at least one digit behind its point, so the time is written by hand.
    format!("[{}.{:06}, {}, {}]\n", at.as_secs(), at.subsec_micros(), json!(code), json!(text))
}

/// The text in `bytes`; a letter that is not whole stays there.
fn take_letters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut taken = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        taken += chunk.valid().len();
        let invalid = chunk.invalid();
        // At the very end it may be the first bytes of a letter.
        if taken + invalid.len() == bytes.len() && is_begin_of_letter(invalid) {
            break;
        }
        taken += invalid.len();
        if !invalid.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    bytes.drain(..taken);
    text
}

/// Whether more bytes could make that a letter.
fn is_begin_of_letter(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_in_pieces_is_one_letter() {
        let mut cast = Asciicast::default();
        let at = Duration::from_micros(1_500_000);
        assert_eq!(cast.bytes(at, Way::Output, b"a\xe2\x82").as_deref(), Some("[1.500000, \"o\", \"a\"]\n"));
        assert_eq!(cast.bytes(at, Way::Input, b"x").as_deref(), Some("[1.500000, \"i\", \"x\"]\n"));
        assert_eq!(cast.bytes(at, Way::Output, b"\xac\x1b[").as_deref(), Some("[1.500000, \"o\", \"€\\u001b[\"]\n"));
        assert_eq!(cast.bytes(at, Way::Output, b"\xf0"), None);
    }

    #[test]
    fn what_is_no_letter_is_shown_as_such() {
        let mut cast = Asciicast::default();
        let line = cast.bytes(Duration::ZERO, Way::Output, b"\xff\xe2x\xfe").unwrap();
        assert_eq!(line, "[0.000000, \"o\", \"\u{fffd}\u{fffd}x\u{fffd}\"]\n");
    }

    #[test]
    fn sizes_and_notes_are_events() {
        let at = Duration::from_secs(3);
        let size = TerminalSize { columns: 80, rows: 24 };
        assert_eq!(Asciicast::resize(at, size), "[3.000000, \"r\", \"80x24\"]\n");
        assert_eq!(Asciicast::marker(at, "over"), "[3.000000, \"m\", \"over\"]\n");
        let header = Asciicast::header(size, Timestamp::from_millis(5_900), "root@till", "xterm");
        let header: serde_json::Value = serde_json::from_str(&header).unwrap();
        let expected = json!({
            "version": 2, "width": 80, "height": 24, "timestamp": 5, "title": "root@till", "env": { "TERM": "xterm" },
        });
        assert_eq!(header, expected);
    }
}
