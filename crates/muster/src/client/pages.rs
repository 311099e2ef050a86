//! A list of the API, page by page.

use muster_core::limits::V2_PAGE_MAX;
use serde_json::Value;

use super::failure::Failure;
use super::http::Call;

/// What is left of a list.
pub(super) struct Pages<'a> {
    call: Call<'a>,
    noun: &'static str,
    after: Option<String>,
    /// How many items are still wanted.
    left: u64,
}

impl<'a> Pages<'a> {
    /// The list that `call` asks for, whose items stand under `noun` in its answers.
    pub(super) fn new(call: Call<'a>, noun: &'static str, limit: Option<u64>) -> Self {
        Self { call, noun, after: None, left: limit.unwrap_or(u64::MAX) }
    }

    /// The items of the next page; none when there are no more pages.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Value>>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut page = self.call.page(self.left.min(V2_PAGE_MAX), self.after.as_deref()).value().await?;
        let mut items = items(page[self.noun].take());
        items.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        let after = page["pagination_info"]["after"].as_str();
        // A cursor that stays where it is would be followed for ever.
        self.left = match after {
            Some(after) if self.after.as_deref() != Some(after) => self.left - items.len() as u64,
            _ => 0,
        };
        self.after = after.map(str::to_owned);
        Ok(Some(items))
    }

    /// All the rest of it.
    pub(super) async fn all(mut self) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        while let Some(items) = self.next().await? {
            all.extend(items);
        }
        Ok(all)
    }
}

/// The items of a page. The devices of a deployment come as an object by uuid; here
/// each gets its uuid as a field.
fn items(found: Value) -> Vec<Value> {
    match found {
        Value::Array(items) => items,
        Value::Object(by_uuid) => by_uuid.into_iter().map(|(uuid, item)| with_uuid(&uuid, item)).collect(),
        _ => Vec::new(),
    }
}

fn with_uuid(uuid: &str, mut item: Value) -> Value {
    if let Some(fields) = item.as_object_mut() {
        fields.insert("device_uuid".to_owned(), Value::from(uuid));
    }
    item
}
