//! Streams: bytes in both directions between a caller of the server and a port that the
//! device reaches.
//!
//! A stream runs over a **carrier**: a WebSocket of its own beside the control link, which
//! the device dials at [`STREAM_PATH`](crate::STREAM_PATH) when the server asks for it with
//! [`ToDevice::DialStreams`](crate::ToDevice::DialStreams); the secret of that message goes
//! into the header `Authorization: Bearer`. So each stream has the flow control of its own
//! TCP connection, and none can hold up another or the control link. A carrier serves one
//! stream after the other: what begins and ends a stream are messages, and after a proper
//! end the carrier is ready for the next, which then costs no handshake.
//!
//! Over a carrier, binary messages are the stream's bytes, and text messages are a
//! [`StreamMessage`] in JSON. Order: the device says [`Ready`](StreamMessage::Ready); the
//! server says [`Open`](StreamMessage::Open) and may send bytes at once; the device says
//! [`Opened`](StreamMessage::Opened), or [`Failed`](StreamMessage::Failed) and closes the
//! carrier. Each side says [`End`](StreamMessage::End) after its last byte. When both have,
//! the stream is over and the server may say `Open` again. A carrier that breaks in the
//! middle resets the connections at both of its ends.
//!
//! A terminal is a stream with messages between its bytes: it begins with
//! [`OpenTerminal`](StreamMessage::OpenTerminal), [`Resize`](StreamMessage::Resize) may come at
//! any time, and behind its last byte the device says [`Exited`](StreamMessage::Exited) and
//! closes the carrier. [`Talk`] is one end of it.
//!
//! Callers of the API speak the same over a WebSocket of theirs, from `Opened` to the two
//! `End`s, and one stream over each: [`ByteStream`] is such a WebSocket as a connection.
//!
//! [`frame`] reads and writes the frames of the WebSocket, [`Carrier`] is one end of a
//! carrier, [`pump`] moves the bytes. Neither holds a buffer while nothing moves.

mod ahead;
mod bytes;
mod carrier;
mod frame;
mod local;
mod pump;
mod talk;

pub use ahead::ReadAhead;
pub use bytes::ByteStream;
pub use carrier::{Carrier, CarrierError};
pub use frame::{FrameError, Side};
pub use local::Local;
pub use pump::{Counts, Limits, StreamError, pump};
pub use talk::{Talk, Turn};

use serde::{Deserialize, Serialize};

/// What is said over a carrier beside the bytes. Since version 4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StreamMessage {
    /// From the device, once: the carrier can be used.
    Ready,
    /// From the server: connect to that port.
    Open {
        /// A host in the device's network; empty for the device itself.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        host: String,
        /// Its port.
        port: u16,
    },
    /// From the server, in the place of `Open`: begin a terminal. Since version 5.
    OpenTerminal {
        /// Whose; empty for whom the device has it by default.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        user: String,
        /// Its size, in characters.
        #[serde(flatten)]
        size: TerminalSize,
        /// What understands its output, for the variable `TERM`.
        term: String,
    },
    /// From the server: the terminal has another size. Since version 5.
    Resize(TerminalSize),
    /// From the device, behind the last byte of a terminal: its shell has ended. Since version 5.
    Exited(Exit),
    /// From the server: do something with files; an order of [`files`](crate::files)
    /// follows as bytes. Only to devices that announced
    /// [`capability::FILES`](crate::capability::FILES). Since version 5.
    OpenFiles,
    /// From the device: it is connected.
    Opened,
    /// From the device, which then closes the carrier: it cannot connect, or does not want to.
    Failed {
        /// Why, for a person.
        #[serde(default)]
        reason: String,
    },
    /// From either side: no more bytes of this stream follow.
    End,
    /// A message of a later version.
    #[serde(other)]
    Unknown,
}

/// The size of a terminal, in characters. Since version 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Its width.
    pub columns: u16,
    /// Its height.
    pub rows: u16,
}

/// How the shell of a terminal ended: by itself with a code, or by a signal. Since version 5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// With this code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// By the signal of this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}
