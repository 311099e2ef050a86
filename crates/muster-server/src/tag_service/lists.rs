//! Lists of any length, written while they are read.

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use muster_core::ids::RowId;
use muster_store::tags::TagRow;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::error::OpError;
use crate::fleet::tag_links::{Bearer, Listed, TagPart};

/// The tags of an account.
#[derive(Debug, Serialize, ToSchema)]
pub struct TagList {
    tags: Vec<ListedTag>,
}

/// A tag.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TagServiceTag)]
pub struct ListedTag {
    #[schema(example = "site")]
    tag_key: String,
    #[schema(example = "London")]
    tag_value: String,
}

/// Tags with their resources.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagResourceList {
    tag_resources: Vec<TagResources>,
}

/// A tag with its resources.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagResources {
    tag_key: String,
    tag_value: String,
    resources: Vec<TaggedResource>,
}

/// A resource under a tag.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaggedResource {
    resource_type: String,
    resource_id: String,
    region: String,
}

/// Links of tags and resources.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssociationList {
    tag_association_fulls: Vec<Association>,
}

/// A tag on a resource. The fields of the resource are empty for a tag that nothing bears.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Association {
    account_id: String,
    resource_id: String,
    resource_uuid: String,
    region: String,
    service_type: String,
    tag_id: i64,
    tag_key: String,
    tag_value: String,
    /// Always 1.
    association_type: i32,
}

/// What the Tag Service says of every link; no other kind is known here.
const FLOATING: i32 = 1;

/// Writes a list, item by item.
pub(super) trait Writer: Send + 'static {
    /// What is read at once.
    type Part: Send + 'static;
    /// What stands before the first item.
    const HEAD: &'static str;
    /// Adds a part.
    fn add(&mut self, part: Self::Part, text: &mut String);
    /// What stands behind the last.
    fn tail(&self) -> &'static str;
}

/// Commas between items.
#[derive(Default)]
struct Commas(bool);

impl Commas {
    fn before_next(&mut self, text: &mut String) {
        if std::mem::replace(&mut self.0, true) {
            text.push(',');
        }
    }
}

fn push(item: &impl Serialize, text: &mut String) {
    // These shapes are always JSON.
    text.push_str(&json!(item).to_string());
}

/// `{"tags": […]}`
#[derive(Default)]
pub(super) struct Tags(Commas);

impl Writer for Tags {
    type Part = Vec<TagRow>;
    const HEAD: &'static str = r#"{"tags":["#;

    fn add(&mut self, rows: Vec<TagRow>, text: &mut String) {
        for row in rows {
            self.0.before_next(text);
            push(&ListedTag { tag_key: row.tag.key, tag_value: row.tag.value }, text);
        }
    }

    fn tail(&self) -> &'static str {
        "]}"
    }
}

/// `{"tagResources": […]}`, in which the parts of one tag are one item.
#[derive(Default)]
pub(super) struct ByTag {
    open: Option<RowId>,
    resources: Commas,
}

impl Writer for ByTag {
    type Part = TagPart;
    const HEAD: &'static str = r#"{"tagResources":["#;

    fn add(&mut self, TagPart { tag, bearers }: TagPart, text: &mut String) {
        if bearers.is_empty() {
            return;
        }
        if self.open != Some(tag.id) {
            if self.open.replace(tag.id).is_some() {
                text.push_str("]},");
            }
            self.resources = Commas::default();
            let (key, value) = (json!(tag.tag.key), json!(tag.tag.value));
            text.push_str(&format!(r#"{{"tagKey":{key},"tagValue":{value},"resources":["#));
        }
        for Bearer { service_type, region, resource_id, .. } in bearers {
            self.resources.before_next(text);
            push(&TaggedResource { resource_type: service_type, resource_id, region }, text);
        }
    }

    fn tail(&self) -> &'static str {
        if self.open.is_some() { "]}]}" } else { "]}" }
    }
}

/// `{"tagAssociationFulls": […]}`
pub(super) struct Links {
    account_id: String,
    items: Commas,
}

impl Links {
    pub(super) fn of(account_id: RowId) -> Self {
        Self { account_id: account_id.to_string(), items: Commas::default() }
    }
}

impl Writer for Links {
    type Part = TagPart;
    const HEAD: &'static str = r#"{"tagAssociationFulls":["#;

    fn add(&mut self, TagPart { tag, mut bearers }: TagPart, text: &mut String) {
        if bearers.is_empty() {
            let none = String::new;
            bearers.push(Bearer { service_type: none(), region: none(), resource_id: none(), resource_uuid: none() });
        }
        for Bearer { service_type, region, resource_id, resource_uuid } in bearers {
            self.items.before_next(text);
            let item = Association {
                account_id: self.account_id.clone(),
                resource_id,
                resource_uuid,
                region,
                service_type,
                tag_id: tag.id,
                tag_key: tag.tag.key.clone(),
                tag_value: tag.tag.value.clone(),
                association_type: FLOATING,
            };
            push(&item, text);
        }
    }

    fn tail(&self) -> &'static str {
        "]}"
    }
}

/// The list as an answer. A connection that breaks before the end means that it is not whole.
pub(super) fn answer<W: Writer>(list: Listed<W::Part>, writer: W) -> Response {
    let state = Some((list, writer, W::HEAD.to_owned()));
    let body = stream::unfold(state, |state| async move {
        let (mut list, mut writer, mut text) = state?;
        match list.next().await {
            Some(Ok(part)) => {
                writer.add(part, &mut text);
                Some((Ok(Bytes::from(text)), Some((list, writer, String::new()))))
            }
            Some(Err(error)) => Some((Err(broken(error)), None)),
            None => {
                text.push_str(writer.tail());
                Some((Ok::<_, OpError>(Bytes::from(text)), None))
            }
        }
    });
    ([(CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response()
}

fn broken(error: OpError) -> OpError {
    if let OpError::Internal(detail) = &error {
        tracing::error!(detail, "a list of the Tag Service broke off");
    }
    error
}
