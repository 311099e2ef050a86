//! What server and device say to each other about the device's files. Since version 5.
//!
//! It goes over a stream that [`OpenFiles`](crate::stream::StreamMessage::OpenFiles) began.
//! The server sends a [`FileOrder`], the device a [`FileAnswer`]: each is JSON behind its length in four bytes.
//! What was read follows the answer, to the stream's end. To be written, content follows
//! the order once the device has answered [`FileAnswer::Ready`]; a second answer says what
//! became of it, and may come before all of the content did. So nothing that was not asked
//! for is ever moved, and either side can go at any moment.

use muster_core::file_rules::FileRules;
use muster_core::limits::FILE_MESSAGE_BYTES_MAX;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What to do, and what the fleet allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOrder {
    /// What to do.
    pub operation: FileOperation,
    /// The fleet's rules. The device's own come on top of them.
    pub rules: FileRules,
}

/// What can be done with files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
pub enum FileOperation {
    /// What lies there, and some of what lies in it.
    List {
        /// An absolute path.
        path: String,
        /// Names that come after this one, which is in hex.
        after: String,
        /// At most so many.
        limit: usize,
    },
    /// What lies there.
    Stat {
        /// An absolute path.
        path: String,
    },
    /// The bytes of a file.
    Read {
        /// An absolute path.
        path: String,
        /// From there on; from the end where it is negative.
        from: i64,
        /// At most so many.
        length: u64,
        /// A range is for the file of this tag; another is read whole.
        if_tag: Option<String>,
    },
    /// The SHA-256 of a whole file.
    Digest {
        /// An absolute path.
        path: String,
    },
    /// A folder as a tar.
    Archive {
        /// An absolute path.
        path: String,
    },
    /// Replace a file, or make one.
    Write {
        /// An absolute path.
        path: String,
        /// Bytes that follow, where that is known.
        size: Option<u64>,
        /// SHA-256 of them in lower-case hex, where that is known.
        sha256: Option<String>,
        /// Its mode; that of the file before it, or 0644, otherwise.
        mode: Option<u32>,
        /// When it was changed last, in milliseconds since 1970; now, otherwise.
        modified_at: Option<i64>,
        /// Only where nothing lies there.
        if_absent: bool,
        /// Only where the file there has this tag.
        if_tag: Option<String>,
    },
    /// Make a folder, in one that is there.
    MakeFolder {
        /// An absolute path.
        path: String,
        /// Its mode; 0755 otherwise.
        mode: Option<u32>,
    },
    /// Delete a file, a link, or an empty folder.
    Delete {
        /// An absolute path.
        path: String,
    },
    /// Of a later version.
    #[serde(other)]
    Unknown,
}

/// What the device says to that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum FileAnswer {
    /// It is done, or what was read follows.
    Done {
        /// What lies there now; the folder of an archive.
        file: Option<FileInfo>,
        /// Where what follows begins in the file.
        from: u64,
        /// Bytes that follow, where that is known before.
        length: Option<u64>,
        /// Of a file that was written, or whose digest was asked for, in lower-case hex. Of
        /// the latter there is none where it changes meanwhile, or takes too long.
        sha256: Option<String>,
        /// Whether nothing lay there before.
        is_new: bool,
    },
    /// Some of what lies in a folder.
    Listed {
        /// The folder, or what else lies there.
        file: FileInfo,
        /// By name.
        entries: Vec<FileInfo>,
        /// The last one's name in hex, where there are more behind it.
        next: Option<String>,
        /// How many there are in all.
        total: u64,
    },
    /// The content may come.
    Ready,
    /// It cannot, or may not, be done.
    Refused {
        /// For programs.
        problem: FileProblem,
        /// For people.
        reason: String,
    },
}

/// Why a device does not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileProblem {
    /// Nothing lies there.
    NotFound,
    /// Rules, of the fleet or the device, do not allow it.
    NotAllowed,
    /// Something else lies there than what it can be done to.
    WrongKind,
    /// What lies there is not what the order supposes.
    Changed,
    /// What came is not what the order said.
    NotAsSaid,
    /// Not enough room on the disk.
    NoRoom,
    /// No path at all.
    BadPath,
    /// The range begins behind the file's end.
    OutOfRange,
    /// The system said no.
    #[serde(other)]
    Failed,
}

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Its name; its whole path where it is what was asked for. What is no UTF-8 is replaced.
    pub name: String,
    /// `file`, `folder`, `link` or `other`.
    pub kind: String,
    /// Bytes of a file.
    pub size: u64,
    /// Permissions, as four octal digits.
    pub mode: String,
    /// Its user's number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// When it was changed last, in milliseconds since 1970.
    pub modified_at: i64,
    /// Where a link points.
    pub link_target: Option<String>,
    /// Another one when it has changed.
    pub tag: String,
}

/// Reads one message, and not a byte behind it.
pub async fn read_message<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
    if length > FILE_MESSAGE_BYTES_MAX {
        return Err(io::Error::other("a message that is too long"));
    }
    let mut line = Vec::new();
    from.take(length as u64).read_to_end(&mut line).await?;
    if line.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&line)?)
}

/// Writes one message.
pub async fn write_message<T: Serialize + Sync>(into: &mut (impl AsyncWrite + Unpin), value: &T) -> io::Result<()> {
    let line = serde_json::to_vec(value)?;
    let length = u32::try_from(line.len()).map_err(io::Error::other)?;
    into.write_all(&[&length.to_be_bytes()[..], &line].concat()).await?;
    into.flush().await
}
