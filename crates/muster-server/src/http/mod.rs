//! What every HTTP face shares: reading bodies, pages and addresses, and turning
//! an [`OpError`] into the face's own answer.

pub mod body;
pub mod cursor;
pub mod download;
pub mod error;
pub mod extract;
pub mod keyed;
pub mod order;
pub mod source;
pub mod websocket;

pub use body::{ApiBody, read_body};
pub use cursor::Cursor;
pub use download::attachment;
pub use error::{ApiError, ErrorStyle, RequestId};
pub use extract::{ApiPath, ApiQuery};
pub use websocket::Handshake;
