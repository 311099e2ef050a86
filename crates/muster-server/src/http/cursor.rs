//! Cursors of API v2: opaque to callers, and a key, never an offset, so that no
//! row is skipped or repeated while others come and go.

use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use muster_core::ids::RowId;
use muster_core::invalid::{Invalid, quoted};
use muster_core::limits::{V2_PAGE_DEFAULT, V2_PAGE_MAX};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Where a page ended. Its form is the Connect API's: base64 of `{"cursor": …, "limit": …}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorOf<K> {
    /// The key of the last row of the page.
    pub cursor: K,
    /// How many rows the page had.
    pub limit: u64,
    /// What the first page counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
}

/// How many rows a list has in all, counted once for all pages of a walk: counting a
/// million rows takes many times as long as reading a page of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How many there were when the first page was read.
    pub total: u64,
    /// Tells one question from another: a walk whose question changes counts again.
    pub of: u64,
}

/// A cursor over rows by their ids.
pub type Cursor = CursorOf<RowId>;

impl<K: Serialize + DeserializeOwned> CursorOf<K> {
    /// The text of `after`.
    pub fn encode(self) -> String {
        BASE64_STANDARD.encode(serde_json::json!(self).to_string())
    }

    /// The cursor that a caller gave back.
    pub fn decode(text: &str) -> Result<Self, Invalid> {
        let parsed = BASE64_STANDARD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        parsed.ok_or_else(|| Invalid::new("after", format!("{} is not the \"after\" of an earlier page", quoted(text))))
    }
}

/// The page that a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageOf<K> {
    /// Behind this row; `None` for the first page.
    pub after: Option<K>,
    /// At most so many rows.
    pub limit: u64,
    /// What an earlier page counted.
    pub counted: Option<Counted>,
}

/// A page of rows by their ids.
pub type PageRequest = PageOf<RowId>;

impl<K: Serialize + DeserializeOwned> PageOf<K> {
    /// Reads `after` and `limit` as they stand in the address.
    pub fn parse(after: Option<&str>, limit: Option<&str>) -> Result<Self, Invalid> {
        let after = after.filter(|after| !after.is_empty()).map(CursorOf::decode).transpose()?;
        let limit = limit.map_or(Ok(V2_PAGE_DEFAULT), parse_limit)?;
        let counted = after.as_ref().and_then(|cursor| cursor.counted);
        Ok(Self { after: after.map(|cursor| cursor.cursor), limit, counted })
    }

    /// `after` for the next page; `None` when this was the last.
    pub fn next(&self, last: Option<K>, is_more: bool) -> Option<String> {
        self.next_counted(last, is_more, None)
    }

    /// [`Self::next`] of a list that is counted once.
    pub fn next_counted(&self, last: Option<K>, is_more: bool, counted: impl Into<Option<Counted>>) -> Option<String> {
        let counted = counted.into();
        last.filter(|_| is_more).map(|cursor| CursorOf { cursor, limit: self.limit, counted }.encode())
    }

    /// The total of the answer to `question`: that of the walk's first page, or else counts it.
    pub async fn total<E>(
        &self,
        question: impl Hash,
        count: impl Future<Output = Result<u64, E>>,
    ) -> Result<Counted, E> {
        let mut hasher = DefaultHasher::new();
        question.hash(&mut hasher);
        let of = hasher.finish();
        match self.counted.filter(|counted| counted.of == of) {
            Some(counted) => Ok(counted),
            None => Ok(Counted { total: count.await?, of }),
        }
    }
}

fn parse_limit(text: &str) -> Result<u64, Invalid> {
    let limit = text.parse().ok().filter(|limit| (1..=V2_PAGE_MAX).contains(limit));
    limit.ok_or_else(|| Invalid::new("limit", format!("{} is not a number from 1 to {V2_PAGE_MAX}", quoted(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_documented_cursor() {
        let cursor = Cursor::decode("eyJjdXJzb3IiOiA0OTEsICJsaW1pdCI6IDN9").unwrap();
        assert_eq!(cursor, Cursor { cursor: 491, limit: 3, counted: None });
        assert_eq!(Cursor::decode(&cursor.encode()).unwrap(), cursor);
    }

    #[tokio::test]
    async fn counts_once_for_a_walk_and_again_for_another_question() {
        let count = async |total: u64| Ok::<_, ()>(total);
        let first = PageRequest::parse(None, None).unwrap();
        let counted = first.total(("a", 1), count(7)).await.unwrap();
        let after = first.next_counted(Some(5), true, counted).unwrap();
        let second = PageRequest::parse(Some(&after), None).unwrap();
        assert_eq!(second.total(("a", 1), count(8)).await.unwrap().total, 7);
        assert_eq!(second.total(("b", 1), count(8)).await.unwrap().total, 8);
    }

    #[test]
    fn refuses_what_is_no_page() {
        for (after, limit, field) in [
            (Some("x"), None, "after"),
            (Some("e30="), None, "after"),
            (None, Some("0"), "limit"),
            (None, Some("1001"), "limit"),
            (None, Some("-1"), "limit"),
            (None, Some("ten"), "limit"),
        ] {
            assert_eq!(PageRequest::parse(after, limit).unwrap_err().field, field);
        }
        assert_eq!(PageRequest::parse(Some(""), None).unwrap(), PageRequest { after: None, limit: 100, counted: None });
    }
}
