//! Bodies of the Tag Service, and what they must hold.

use muster_core::invalid::Invalid;
use muster_core::names::{Region, ResourceId, ResourceUuid, ServiceType, Tag};
use muster_core::resource::{Assignment, Resource};
use muster_core::tag_rules;
use muster_core::wire::Object;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::error::Refusal;
use crate::http::body::without_type_names;

/// Reads a body.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let Object(value) = serde_path_to_error::deserialize(&mut json).map_err(|error| refusal(&error))?;
    json.end().map_err(|_| Refusal::MalformedJson)?;
    Ok(value)
}

fn refusal(error: &serde_path_to_error::Error<serde_json::Error>) -> Refusal {
    if !error.inner().is_data() {
        return Refusal::MalformedJson;
    }
    let text = error.inner().to_string();
    let problem = text.split_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
    let path = Some(error.path().to_string()).filter(|path| path != ".").unwrap_or_default();
    inappropriate(&Invalid::new(path, without_type_names(problem)))
}

fn inappropriate(invalid: &Invalid) -> Refusal {
    Refusal::InappropriateJson(invalid.to_string())
}

/// A tag: a key, and a value that may be empty.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagPair {
    #[schema(required = true, value_type = String, example = "site")]
    tag_key: Option<String>,
    #[schema(example = "London")]
    tag_value: String,
}

impl From<TagPair> for Tag {
    fn from(pair: TagPair) -> Self {
        Self { key: pair.tag_key.unwrap_or_default(), value: pair.tag_value }
    }
}

/// Tags to create or to delete, or the resource to take every tag off.
#[derive(Debug, ToSchema)]
pub struct ChangeTagsBody {
    /// With the flags `create` and `delete`.
    #[expect(dead_code, reason = "describes what the flags' own bodies hold")]
    tags: Option<Vec<TagPair>>,
    /// With the flag `deleteTagAssociation`.
    #[expect(dead_code, reason = "describes what the flags' own bodies hold")]
    resource: Option<ResourceBody>,
}

/// Tags to create or to delete.
#[derive(Debug, Deserialize)]
pub(super) struct TagsBody {
    #[serde(default)]
    tags: Option<Vec<TagPair>>,
}

impl TagsBody {
    /// The tags, as they were named.
    pub(super) fn tags(self) -> Result<Vec<Tag>, Refusal> {
        let tags = self.tags.filter(|tags| !tags.is_empty()).ok_or(Refusal::TagEmpty)?;
        Ok(tags.into_iter().map(Tag::from).collect())
    }
}

/// A resource. A device of Muster is `DEVICE`, the key of its fleet, its uuid.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceBody {
    #[schema(example = "d-1a2b-3c4d")]
    resource_id: String,
    /// By default what stands beside the list of resources.
    #[serde(default)]
    #[schema(example = "DEVICE")]
    service_type: Option<String>,
    #[schema(example = "demo")]
    region: String,
}

impl ResourceBody {
    fn check(self, service_type: Option<&str>) -> Result<Resource, Invalid> {
        let kind = self.service_type.as_deref().filter(|kind| !kind.is_empty()).or(service_type);
        let kind = kind.ok_or_else(|| Invalid::missing("serviceType"))?;
        Ok(Resource {
            service_type: ServiceType::parse(kind).map_err(|refusal| refusal.within("serviceType"))?,
            region: Region::parse(self.region).map_err(|refusal| refusal.within("region"))?,
            id: ResourceId::parse(self.resource_id).map_err(|refusal| refusal.within("resourceId"))?,
        })
    }
}

/// The resource to take every tag off.
#[derive(Debug, Deserialize)]
pub(super) struct ClearBody {
    resource: ResourceBody,
}

impl ClearBody {
    pub(super) fn check(self) -> Result<Resource, Refusal> {
        self.resource.check(None).map_err(|refusal| inappropriate(&refusal.within("resource")))
    }
}

/// One tag, and the resources to put it on or to take it off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindBody {
    #[schema(required = true, value_type = String, example = "site")]
    tag_key: Option<String>,
    #[schema(example = "London")]
    tag_value: String,
    /// The kind of those resources that name none.
    #[serde(default)]
    #[schema(example = "DEVICE")]
    service_type: Option<String>,
    resources: Vec<ResourceBody>,
}

impl BindBody {
    pub(super) fn check(self) -> Result<(Tag, Vec<Resource>), Refusal> {
        let tag = Tag { key: self.tag_key.unwrap_or_default(), value: self.tag_value };
        if self.resources.is_empty() {
            return Err(inappropriate(&Invalid::new("resources", "is empty")));
        }
        let kind = self.service_type.as_deref().filter(|kind| !kind.is_empty());
        let resource = |(i, resource): (usize, ResourceBody)| {
            resource.check(kind).map_err(|refusal| inappropriate(&refusal.within(&format!("resources[{i}]"))))
        };
        Ok((tag, self.resources.into_iter().enumerate().map(resource).collect::<Result<_, _>>()?))
    }
}

/// Resources, each with all the tags that it is to bear.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AssignBody {
    resources: Vec<AssignmentBody>,
}

/// A resource with all the tags that it is to bear.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentBody {
    #[schema(example = "d-1a2b-3c4d")]
    resource_id: String,
    #[serde(default)]
    resource_uuid: Option<String>,
    #[schema(example = "DEVICE")]
    service_type: String,
    #[schema(example = "demo")]
    region: String,
    /// `floating`, or nothing.
    #[serde(default, rename = "associationType")]
    #[schema(example = "floating")]
    _association_type: Option<String>,
    /// Every tag; none to take all of them off.
    tags: Vec<TagPair>,
}

impl AssignBody {
    pub(super) fn check(self) -> Result<Vec<Assignment>, Refusal> {
        if self.resources.is_empty() {
            return Err(inappropriate(&Invalid::new("resources", "is empty")));
        }
        let assignment = |(i, body): (usize, AssignmentBody)| {
            body.check().map_err(|refusal| inappropriate(&refusal.within(&format!("resources[{i}]"))))
        };
        self.resources.into_iter().enumerate().map(assignment).collect()
    }
}

impl AssignmentBody {
    fn check(self) -> Result<Assignment, Invalid> {
        let Self { resource_id, service_type, region, .. } = self;
        let uuid = ResourceUuid::parse(self.resource_uuid.unwrap_or_default());
        Ok(Assignment {
            resource: ResourceBody { resource_id, service_type: None, region }.check(Some(&service_type))?,
            uuid: uuid.map_err(|refusal| refusal.within("resourceUuid"))?,
            tags: self.tags.into_iter().map(Tag::from).collect(),
        })
    }
}

/// What to look for. What is left out, or empty, does not narrow; only `tagValue` may ask
/// for the empty value.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub struct QueryBody {
    #[schema(example = "site")]
    pub(super) tag_key: Option<String>,
    #[schema(example = "London")]
    pub(super) tag_value: Option<String>,
    #[schema(example = json!(["demo"]))]
    pub(super) regions: Option<Vec<String>>,
    #[schema(example = json!(["DEVICE"]))]
    pub(super) service_types: Option<Vec<String>>,
    pub(super) resource_ids: Option<Vec<String>>,
}

/// Refuses tags that no account can have.
pub(super) fn check_known(tags: &[Tag]) -> Result<(), Refusal> {
    Ok(tags.iter().try_for_each(tag_rules::check_known)?)
}

/// Refuses tags that no account can be given.
pub(super) fn check_namable(tags: &[Tag]) -> Result<(), Refusal> {
    Ok(tags.iter().try_for_each(tag_rules::check_namable)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_is_no_json_from_what_is_another() {
        let read = |body: &str| read::<TagsBody>(body.as_bytes()).and_then(TagsBody::tags);
        for body in ["", "{", "nonsense", "{} x", "{\"tags\": [}"] {
            assert_eq!(read(body).unwrap_err(), Refusal::MalformedJson, "{body}");
        }
        for (body, problem) in [
            ("[]", "invalid type: sequence, expected an object"),
            (r#"{"tags": 5}"#, "tags: invalid type: integer `5`, expected a sequence"),
            (r#"{"tags": [{"tagKey": 1, "tagValue": ""}]}"#, "tags[0].tagKey: invalid type: integer `1`"),
            (r#"{"tags": [{"tagKey": "a"}]}"#, "tags[0]: missing field `tagValue`"),
        ] {
            let told = read(body).unwrap_err().to_string();
            assert!(told.contains(problem), "{body} gave {told}");
        }
        for body in ["{}", r#"{"tags": null}"#, r#"{"tags": []}"#] {
            assert_eq!(read(body).unwrap_err(), Refusal::TagEmpty, "{body}");
        }
        let tags =
            read(r#"{"tags": [{"tagKey": "a", "tagValue": "", "more": 1}, {"tagValue": "b"}], "more": 1}"#).unwrap();
        assert_eq!(check_known(&tags[..1]), Ok(()));
        assert_eq!(check_known(&tags), Err(Refusal::TagKeyEmpty));
    }
}
