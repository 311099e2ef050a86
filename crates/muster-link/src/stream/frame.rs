//! Frames of a WebSocket (RFC 6455), as far as carriers need them: read piece by piece
//! where they lie, so that neither side ever gathers a message.

use std::ops::Range;

/// Bytes of the longest head of a frame.
pub(super) const HEAD_BYTES_MAX: usize = 14;
/// Bytes of the longest text message over a carrier.
pub(super) const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Bytes that a control frame may carry.
const CONTROL_BYTES_MAX: usize = 125;

/// Which side of a WebSocket this is: the client's frames are masked, the server's are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Dialled.
    Client,
    /// Was dialled.
    Server,
}

/// What the other end sent that no carrier may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Reserved bits, an unknown kind of frame, or a fragment of nothing.
    #[error("a malformed frame")]
    Malformed,
    /// Masked by the server, or not by the client.
    #[error("a frame with the wrong masking")]
    WrongMasking,
    /// A text or control frame beyond its limit.
    #[error("a frame that is too long")]
    TooLong,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The head of a whole frame, and how many of the bytes it takes.
pub(super) fn head(kind: Kind, length: usize, mask: Option<[u8; 4]>) -> ([u8; HEAD_BYTES_MAX], usize) {
    let mut head = [0; HEAD_BYTES_MAX];
    head[0] = 0x80 | kind.code();
    let length_end = match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => {
            head[1] = short;
            2
        }
        (_, Ok(middle)) => {
            head[1] = 126;
            head[2..4].copy_from_slice(&middle.to_be_bytes());
            4
        }
        _ => {
            head[1] = 127;
            head[2..10].copy_from_slice(&(length as u64).to_be_bytes());
            10
        }
    };
    let Some(mask) = mask else { return (head, length_end) };
    head[1] |= 0x80;
    head[length_end..length_end + 4].copy_from_slice(&mask);
    (head, length_end + 4)
}

/// Masks or unmasks `bytes`, which begin at that place of their frame.
pub(super) fn apply_mask(bytes: &mut [u8], mask: [u8; 4], place: usize) {
    let turned: [u8; 4] = std::array::from_fn(|i| mask[(place + i) % 4]);
    let [a, b, c, d] = turned;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(turned.iter().cycle()) {
        *byte ^= key;
    }
}

/// The frame whose payload is being read.
#[derive(Clone, Copy, Debug)]
struct Open {
    kind: Kind,
    is_last: bool,
    left: u64,
    mask: Option<[u8; 4]>,
    place: usize,
}

/// Reads frames from bytes that come in pieces.
#[derive(Debug)]
pub(super) struct Parser {
    side: Side,
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    open: Option<Open>,
    /// The kind of the message whose fragments follow.
    unfinished: Option<Kind>,
    gathered: Vec<u8>,
}

/// The next thing in the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes of a binary message, unmasked, where they lay.
    Data(Range<usize>),
    /// A whole text message.
    Text(Vec<u8>),
    /// To be answered with the same.
    Ping(Vec<u8>),
    /// The other end says goodbye.
    Close,
    /// Nothing more in these bytes.
    Nothing,
}

impl Parser {
    /// For what the other end sends to `side`.
    pub(super) fn new(side: Side) -> Self {
        Self { side, head: [0; HEAD_BYTES_MAX], head_bytes: 0, open: None, unfinished: None, gathered: Vec::new() }
    }

    /// The next piece of `bytes` from `from` on, and where the rest begins.
    pub(super) fn next(&mut self, bytes: &mut [u8], from: usize) -> Result<(usize, Piece), FrameError> {
        let mut at = from;
        loop {
            let Some(open) = self.open else {
                let Some((taken, open)) = self.read_head(&bytes[at..])? else {
                    return Ok((bytes.len(), Piece::Nothing));
                };
                at += taken;
                self.open = Some(open);
                continue;
            };
            let here = bytes.len() - at;
            let length = usize::try_from(open.left).map_or(here, |left| left.min(here));
            let range = at..at + length;
            if let Some(mask) = open.mask {
                apply_mask(&mut bytes[range.clone()], mask, open.place);
            }
            at += length;
            let left = open.left - length as u64;
            self.open = (left > 0).then_some(Open { left, place: (open.place + length) % 4, ..open });
            if open.kind == Kind::Binary {
                if length > 0 {
                    return Ok((at, Piece::Data(range)));
                }
            } else {
                self.gathered.extend_from_slice(&bytes[range]);
                if left == 0 && open.is_last {
                    let whole = std::mem::take(&mut self.gathered);
                    match open.kind {
                        Kind::Text => return Ok((at, Piece::Text(whole))),
                        Kind::Ping => return Ok((at, Piece::Ping(whole))),
                        Kind::Close => return Ok((at, Piece::Close)),
                        Kind::Pong | Kind::Binary => {}
                    }
                }
            }
            if at == bytes.len() {
                return Ok((at, Piece::Nothing));
            }
        }
    }

    /// The head at the begin of `bytes`, with what came of it before, and how many bytes it takes there.
    fn read_head(&mut self, bytes: &[u8]) -> Result<Option<(usize, Open)>, FrameError> {
        let mut taken = 0;
        loop {
            let wanted = self.head_length();
            if self.head_bytes == wanted {
                break;
            }
            let more = (wanted - self.head_bytes).min(bytes.len() - taken);
            if more == 0 {
                return Ok(None);
            }
            self.head[self.head_bytes..self.head_bytes + more].copy_from_slice(&bytes[taken..taken + more]);
            self.head_bytes += more;
            taken += more;
        }
        self.head_bytes = 0;
        Ok(Some((taken, self.opened()?)))
    }

    /// Bytes of the head, as far as what came of it tells.
    fn head_length(&self) -> usize {
        if self.head_bytes < 2 {
            return 2;
        }
        let length = match self.head[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        if self.head[1] & 0x80 == 0 { length } else { length + 4 }
    }

    /// What the whole head says.
    fn opened(&mut self) -> Result<Open, FrameError> {
        let head = &self.head;
        let (is_last, is_masked) = (head[0] & 0x80 != 0, head[1] & 0x80 != 0);
        if head[0] & 0x70 != 0 {
            return Err(FrameError::Malformed);
        }
        let (left, length_end) = match head[1] & 0x7f {
            126 => (u64::from(u16::from_be_bytes([head[2], head[3]])), 4),
            127 => (u64::from_be_bytes(std::array::from_fn(|i| head[2 + i])), 10),
            short => (u64::from(short), 2),
        };
        let mask = is_masked.then(|| std::array::from_fn(|i| head[length_end + i]));
        if is_masked != (self.side == Side::Server) {
            return Err(FrameError::WrongMasking);
        }
        let kind = self.kind(head[0] & 0x0f, is_last)?;
        let most = match kind {
            Kind::Binary => u64::MAX,
            Kind::Text => (TEXT_BYTES_MAX - self.gathered.len()) as u64,
            Kind::Close | Kind::Ping | Kind::Pong => CONTROL_BYTES_MAX as u64,
        };
        if left > most {
            return Err(FrameError::TooLong);
        }
        Ok(Open { kind, is_last, left, mask, place: 0 })
    }

    /// The kind of a frame; a fragment is of its message's kind.
    fn kind(&mut self, code: u8, is_last: bool) -> Result<Kind, FrameError> {
        let kinds = [Kind::Text, Kind::Binary, Kind::Close, Kind::Ping, Kind::Pong];
        let named = kinds.into_iter().find(|kind| kind.code() == code);
        // A control frame between the fragments of a text would be taken for a part of it.
        let is_in_the_way = !self.gathered.is_empty() && named.is_some();
        match (named, self.unfinished) {
            _ if is_in_the_way => Err(FrameError::Malformed),
            (Some(kind), _) if kind.is_control() && is_last => Ok(kind),
            (Some(kind), None) if !kind.is_control() => {
                self.unfinished = (!is_last).then_some(kind);
                Ok(kind)
            }
            (None, Some(kind)) if code == 0 => {
                self.unfinished = (!is_last).then_some(kind);
                Ok(kind)
            }
            _ => Err(FrameError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: Kind, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let (head, length) = head(kind, payload.len(), mask);
        let mut payload = payload.to_vec();
        if let Some(mask) = mask {
            apply_mask(&mut payload, mask, 0);
        }
        [&head[..length], &payload].concat()
    }

    /// All data, and all texts, in bytes that come in pieces of those lengths.
    fn read(side: Side, bytes: &[u8], lengths: &[usize]) -> Result<(Vec<u8>, Vec<Vec<u8>>), FrameError> {
        let (mut parser, mut data, mut texts, mut rest) = (Parser::new(side), Vec::new(), Vec::new(), bytes);
        let mut lengths = lengths.iter().copied().chain(std::iter::repeat(usize::MAX));
        while !rest.is_empty() {
            let (now, later) = rest.split_at(lengths.next().unwrap_or(1).clamp(1, rest.len()));
            rest = later;
            let (mut now, mut at) = (now.to_vec(), 0);
            while at < now.len() {
                let (next, piece) = parser.next(&mut now, at)?;
                match piece {
                    Piece::Data(range) => data.extend_from_slice(&now[range]),
                    Piece::Text(text) | Piece::Ping(text) => texts.push(text),
                    Piece::Close | Piece::Nothing => {}
                }
                at = next;
            }
        }
        Ok((data, texts))
    }

    proptest! {
        #[test]
        fn comes_out_as_it_went_in(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            lengths in prop::collection::vec(1_usize..40, 0..60),
            mask in any::<[u8; 4]>(),
        ) {
            for (side, mask) in [(Side::Server, Some(mask)), (Side::Client, None)] {
                let bytes: Vec<u8> = messages
                    .iter()
                    .flat_map(|m| [frame(Kind::Binary, m, mask), frame(Kind::Text, m, mask)].concat())
                    .collect();
                prop_assert_eq!(read(side, &bytes, &lengths).unwrap(), (messages.concat(), messages.clone()));
            }
        }

        #[test]
        fn nothing_that_is_sent_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for side in [Side::Server, Side::Client] {
                let _ = read(side, &bytes, &[3, 5]);
            }
        }
    }

    #[test]
    fn long_frames_have_long_heads() {
        for length in [125, 126, 65_535, 65_536, 200_000] {
            let payload = vec![7; length];
            let bytes = frame(Kind::Binary, &payload, Some([1, 2, 3, 4]));
            assert_eq!(read(Side::Server, &bytes, &[]).unwrap().0, payload, "{length}");
        }
    }

    #[test]
    fn fragments_are_one_message() {
        let mut bytes = frame(Kind::Binary, b"ab", None);
        bytes[0] &= 0x7f;
        let mut rest = frame(Kind::Binary, b"cd", None);
        rest[0] = 0x80;
        assert_eq!(read(Side::Client, &[bytes, rest.clone()].concat(), &[]).unwrap().0, b"abcd");
        assert_eq!(read(Side::Client, &rest, &[]), Err(FrameError::Malformed), "a fragment of nothing");
    }

    #[test]
    fn refuses_what_is_no_frame_of_a_carrier() {
        let long = vec![b'x'; TEXT_BYTES_MAX + 1];
        for (bytes, error) in [
            (frame(Kind::Binary, b"x", None), FrameError::WrongMasking),
            (frame(Kind::Text, &long, Some([0; 4])), FrameError::TooLong),
            (frame(Kind::Ping, &long[..126], Some([0; 4])), FrameError::TooLong),
            (vec![0xC2, 0x80, 0, 0, 0, 0], FrameError::Malformed),
            (vec![0x83, 0x80, 0, 0, 0, 0], FrameError::Malformed),
        ] {
            assert_eq!(read(Side::Server, &bytes, &[]), Err(error));
        }
    }
}
