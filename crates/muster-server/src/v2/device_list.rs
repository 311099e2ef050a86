//! The list of a fleet's devices.

use std::hash::Hash;

use axum::Json;
use axum::extract::{RawQuery, State};
use muster_core::access::Operation;
use muster_core::clock::Timestamp;
use muster_core::filter::{DeviceFilter, WireDeviceFilter};
use muster_core::ids::RowId;
use muster_core::invalid::Invalid;
use muster_core::limits::{FILTER_ITEMS_MAX, LISTED_TAGS_MAX};
use muster_core::names::{GroupName, TagName};
use muster_store::devices::Device;
use serde::Serialize;
use utoipa::ToSchema;

use super::Bearer;
use super::device_wire::DeviceV2;
use super::wire::{Error, PageQuery, PaginationInfo, flag};
use crate::app::App;
use crate::error::OpError;
use crate::fleet::devices;
use crate::http::body::parse_json;
use crate::http::cursor::PageRequest;
use crate::http::{ApiError, ApiPath};

/// A device as v2's list prints it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListedDevice {
    #[serde(flatten)]
    device: DeviceV2,
    /// Only with `enrich_info`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    tags: Option<ListedTags>,
}

/// The tags of a listed device.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListedTags {
    /// Says so when there are more tags than are listed.
    message: String,
    /// The first tags, at most 100.
    names: Vec<String>,
}

/// A page of devices.
#[derive(Debug, Serialize, ToSchema)]
pub struct DevicePage {
    devices: Vec<ListedDevice>,
    pagination_info: PaginationInfo,
}

/// What the address of the list asks for.
#[derive(Debug, Default)]
struct ListQuery {
    group_name: Option<String>,
    tags: Vec<String>,
    device_filter: Option<String>,
    after: Option<String>,
    limit: Option<String>,
    enrich_info: Option<String>,
}

impl ListQuery {
    /// `tags` may be repeated, which no derived reader of addresses understands.
    fn parse(query: &str) -> Result<Self, Invalid> {
        let mut parsed = Self::default();
        for (key, value) in url_pairs(query) {
            match key.as_str() {
                "group_name" => parsed.group_name = Some(value),
                "tags" => parsed.tags.push(value),
                "device_filter" => parsed.device_filter = Some(value),
                "after" => parsed.after = Some(value),
                "limit" => parsed.limit = Some(value),
                "enrich_info" => parsed.enrich_info = Some(value),
                _ => {}
            }
        }
        if parsed.tags.len() > FILTER_ITEMS_MAX {
            let problem = format!("has {} items, at most {FILTER_ITEMS_MAX} are allowed", parsed.tags.len());
            return Err(Invalid::new("tags", problem));
        }
        Ok(parsed)
    }

    fn filter(&self) -> Result<DeviceFilter, Invalid> {
        if let Some(text) = &self.device_filter {
            return match &self.group_name {
                Some(_) => Err(Invalid::new("device_filter", "has groups of its own, and does not go with group_name")),
                None => written_filter(text).map_err(|refusal| refusal.within("device_filter")),
            };
        }
        let group = self.group_name.as_ref().map(|name| GroupName::parse(name.as_str()));
        let group = group.transpose().map_err(|refusal| refusal.within("group_name"))?;
        Ok(DeviceFilter { groups: group.into_iter().collect(), filters: Vec::new() })
    }

    /// What decides how many devices there are in all.
    fn question(&self, fleet_id: RowId) -> impl Hash {
        (fleet_id, &self.group_name, &self.tags, &self.device_filter)
    }

    /// Says which parameter names what does not exist.
    fn placed(&self, error: muster_store::StoreError) -> OpError {
        match error {
            muster_store::StoreError::Invalid(invalid) if self.device_filter.is_some() => {
                invalid.within("device_filter").into()
            }
            muster_store::StoreError::Invalid(invalid) => Invalid::new("group_name", invalid.problem).into(),
            other => other.into(),
        }
    }

    fn tags(&self) -> Result<Vec<TagName>, Invalid> {
        let tag = |name: &String| TagName::parse(name.as_str()).map_err(|refusal| refusal.within("tags"));
        self.tags.iter().map(tag).collect()
    }
}

fn written_filter(text: &str) -> Result<DeviceFilter, Invalid> {
    if let Err(problem) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        return Err(Invalid::new("", format!("is not JSON: {problem}")));
    }
    DeviceFilter::try_from(parse_json::<WireDeviceFilter>(text.as_bytes())?)
}

fn url_pairs(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes()).map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

/// A fleet's devices.
///
/// In the order of their enrolment, page by page. Several `tags` mean devices
/// that have any of them.
#[utoipa::path(
    get, path = "/api/v2/{project_key}/devices", operation_id = "ListDevices", tag = "Devices",
    params(
        ("project_key" = String, Path, description = "The fleet's key"),
        ("group_name" = Option<String>, Query, description = "Only devices of this group"),
        ("tags" = Option<Vec<String>>, Query, description = "Only devices with any of these tags; repeat the key"),
        ("device_filter" = Option<String>, Query,
            description = "Only devices that match this JSON, in the words of a deployment; in place of `group_name`. Muster's own"),
        PageQuery,
        ("enrich_info" = Option<bool>, Query, description = "Add each device's tags"),
    ),
    responses(
        (status = 200, description = "A page of devices", body = DevicePage),
        (status = 400, description = "A parameter is wrong", body = Error),
        (status = 404, description = "No such fleet", body = Error),
    ),
)]
pub async fn list(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<DevicePage>, ApiError> {
    let permitted = bearer.fleet(Operation::ListDevices, &key).await?;
    let query = ListQuery::parse(query.as_deref().unwrap_or_default())?;
    let page = PageRequest::parse(query.after.as_deref(), query.limit.as_deref())?;
    let enrich = flag("enrich_info", query.enrich_info.as_deref())?;
    let store = app.store.read();
    let matching = store.resolve(permitted.fleet(), &query.filter()?).await.map_err(|error| query.placed(error))?;
    let matching = store.with_any_tag(permitted.fleet(), matching, &query.tags()?).await?;
    // Side by side: the total of a large fleet takes longer than its page.
    let counted = page.total(query.question(permitted.fleet().id), store.devices_count(&matching));
    let rows = store.devices_page(&matching, page.after, page.limit);
    let (counted, (rows, is_more)) = tokio::try_join!(counted, rows)?;
    let after = page.next_counted(rows.last().map(|device| device.id), is_more, counted);
    let devices = listed(&app, rows, enrich).await?;
    Ok(Json(DevicePage { devices, pagination_info: PaginationInfo { after, total: counted.total } }))
}

async fn listed(app: &App, rows: Vec<Device>, enrich: bool) -> Result<Vec<ListedDevice>, OpError> {
    let now = app.clock().now();
    let tags = if enrich { devices::listed_tags(app.store.read(), &rows).await? } else { Vec::new() };
    let mut tags = tags.into_iter().peekable();
    let item = |device: Device| {
        let mut names = Vec::new();
        // Both lists are in the order of the devices.
        while let Some((_, name)) = tags.next_if(|(id, _)| *id == device.id) {
            names.push(name);
        }
        ListedDevice {
            device: DeviceV2::new(device, now, Timestamp::to_rfc3339),
            tags: enrich.then(|| listed_tags(names)),
        }
    };
    Ok(rows.into_iter().map(item).collect())
}

fn listed_tags(mut names: Vec<String>) -> ListedTags {
    let is_more = names.len() > LISTED_TAGS_MAX;
    names.truncate(LISTED_TAGS_MAX);
    let message = if is_more { format!("only the first {LISTED_TAGS_MAX} tags are listed") } else { String::new() };
    ListedTags { message, names }
}
