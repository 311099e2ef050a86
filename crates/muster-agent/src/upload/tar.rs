//! The headers of a tar: the POSIX form, with GNU's entries for long names, which every tar reads.

/// Bytes of a header, and what every content is filled up to.
pub(super) const BLOCK_BYTES: usize = 512;
/// Bytes of a name in a header.
const NAME_BYTES: usize = 100;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    LongName,
    LongLink,
}

impl Kind {
    fn flag(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::Link => b'2',
            Self::Folder => b'5',
            Self::LongName => b'L',
            Self::LongLink => b'K',
        }
    }
}

/// What a header says.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) kind: Kind,
    pub(super) name: &'a [u8],
    /// What a link points to.
    pub(super) link: &'a [u8],
    pub(super) size_bytes: u64,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) modified_secs: u64,
}

/// The header of an entry, with what must stand before it.
pub(super) fn header(entry: &Entry<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK_BYTES);
    for (kind, text) in [(Kind::LongLink, entry.link), (Kind::LongName, entry.name)] {
        if text.len() > NAME_BYTES {
            let size_bytes = text.len() as u64 + 1;
            let long =
                Entry { kind, name: b"././@LongLink", link: b"", size_bytes, mode: 0, owner: (0, 0), modified_secs: 0 };
            bytes.extend(block(&long));
            bytes.extend(text);
            bytes.extend(std::iter::repeat_n(0, 1 + filling(size_bytes)));
        }
    }
    bytes.extend(block(entry));
    bytes
}

/// How many zeros follow a content of that size.
pub(super) fn filling(size_bytes: u64) -> usize {
    let over = usize::try_from(size_bytes % BLOCK_BYTES as u64).unwrap_or_default();
    (BLOCK_BYTES - over) % BLOCK_BYTES
}

fn block(entry: &Entry<'_>) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    put(&mut block[..NAME_BYTES], entry.name);
    number(&mut block[100..108], u64::from(entry.mode & 0o7777));
    number(&mut block[108..116], u64::from(entry.owner.0));
    number(&mut block[116..124], u64::from(entry.owner.1));
    number(&mut block[124..136], entry.size_bytes);
    number(&mut block[136..148], entry.modified_secs);
    block[156] = entry.kind.flag();
    put(&mut block[157..257], entry.link);
    put(&mut block[257..265], b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    number(&mut block[148..155], sum);
    block
}

fn put(field: &mut [u8], text: &[u8]) {
    let n = text.len().min(field.len());
    field[..n].copy_from_slice(&text[..n]);
}

/// Octal digits and a zero byte; as many of the last ones as fit.
fn number(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    for (i, digit) in field[..digits].iter_mut().rev().enumerate() {
        *digit = b'0' + u8::try_from((value >> (3 * i).min(63)) & 7).unwrap_or_default();
    }
}
