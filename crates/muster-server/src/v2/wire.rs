//! Shapes that several calls of API v2 share.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::access::Permission;
use muster_core::clock::Timestamp;
use muster_core::invalid::{Invalid, quoted};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::cursor::{PageOf, PageRequest};

/// The answer to every mistake.
#[derive(Debug, Serialize, ToSchema)]
pub struct Error {
    /// What is wrong: the field, and the value.
    message: String,
    /// The same text, where clients of API v1 look for it.
    error_message: String,
    /// A stable word for programs.
    #[schema(example = "invalid")]
    code: String,
    /// Names the request in the server's log.
    request_id: String,
}

/// What a call says that only does something.
#[derive(Debug, Serialize, ToSchema)]
pub struct Message {
    /// One sentence.
    pub message: &'static str,
}

/// Where a page ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct PaginationInfo {
    /// For the `after` of the next call; null on the last page.
    #[schema(required = true)]
    pub after: Option<String>,
    /// How many there are in all; of devices and of the audit log, how many there were
    /// when the first page was read.
    pub total: u64,
}

/// The page that the address asks for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// `pagination_info.after` of the page before
    #[param(value_type = String, required = false)]
    after: Option<String>,
    /// 1 to 1000, by default 100
    #[param(value_type = u64, required = false)]
    limit: Option<String>,
}

impl PageQuery {
    /// Of a list with parameters of its own beside these.
    pub fn new(after: Option<String>, limit: Option<String>) -> Self {
        Self { after, limit }
    }

    /// Checks it.
    pub fn page(&self) -> Result<PageRequest, Invalid> {
        self.page_by()
    }

    /// The same for rows that have another key than their id.
    pub fn page_by<K: Serialize + DeserializeOwned>(&self) -> Result<PageOf<K>, Invalid> {
        PageOf::parse(self.after.as_deref(), self.limit.as_deref())
    }
}

/// Reads `true` or `false` as they stand in the address, in any case.
pub fn flag(name: &str, value: Option<&str>) -> Result<bool, Invalid> {
    match value.map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(_) => Err(Invalid::new(name, format!("{} is neither true nor false", quoted(value.unwrap_or_default())))),
    }
}

/// Reads `devices` as it stands in the address of a deletion: whether it goes for the
/// devices as well.
pub fn with_devices(value: Option<&str>) -> Result<bool, Invalid> {
    match value {
        None => Ok(false),
        Some("delete") => Ok(true),
        Some(other) => Err(Invalid::new("devices", format!("{} is not \"delete\"", quoted(other)))),
    }
}

/// A moment as most of API v2 prints it; null when it has not come.
pub fn spaced(at: Option<Timestamp>) -> Option<String> {
    at.map(Timestamp::to_spaced)
}

/// The name of something that is made.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its name.
    pub name: String,
}

impl Named {
    /// Checks the name.
    pub fn checked<T>(self, parse: impl FnOnce(String) -> Result<T, Invalid>) -> Result<T, Invalid> {
        parse(self.name).map_err(|refusal| refusal.within("name"))
    }
}

/// What a moment is called that may never come; null when it does not.
pub fn time(at: Timestamp) -> Option<String> {
    (at != Timestamp::NEVER && at != Timestamp::FOREVER).then(|| at.to_rfc3339())
}

/// How long something is to last, from `expires_in_seconds`.
pub fn life(seconds: Option<u64>, max: Duration) -> Result<Option<Duration>, Invalid> {
    let Some(seconds) = seconds else { return Ok(None) };
    if !(1..=max.as_secs()).contains(&seconds) {
        let problem = format!("{seconds} is not a number of seconds from 1 to {}", max.as_secs());
        return Err(Invalid::new("expires_in_seconds", problem));
    }
    Ok(Some(Duration::from_secs(seconds)))
}

/// Reads names of permissions; one that stands twice counts once.
pub fn permissions(names: &[String], field: &str) -> Result<BTreeSet<Permission>, Invalid> {
    let known = || Permission::ALL.map(Permission::as_str).join(", ");
    let read = |(i, name): (usize, &String)| {
        let unknown = || format!("{} is no permission; those are {}", quoted(name), known());
        Permission::from_name(name).ok_or_else(|| Invalid::new(format!("{field}[{i}]"), unknown()))
    };
    names.iter().enumerate().map(read).collect()
}

/// The names of permissions.
pub fn permission_names(held: &[Permission]) -> Vec<&'static str> {
    held.iter().map(|held| held.as_str()).collect()
}

/// For a field that may be left out, given, or null to take away what is there.
pub fn given<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
