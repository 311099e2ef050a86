//! The dry run of a device filter: what it matches, and what a deployment would do.

use axum::Json;
use axum::extract::State;
use muster_core::access::Operation;
use muster_core::filter::{DeviceFilter, WireDeviceFilter};
use muster_core::invalid::Invalid;
use muster_core::target::Reason;
use muster_core::wire::optional_object;
use muster_store::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Bearer;
use super::saved_filters::parse;
use super::wire::Error;
use crate::access::Permitted;
use crate::app::App;
use crate::deploy::dry_run::{DryRun, dry_run};
use crate::error::OpError;
use crate::fleet::saved_filters;
use crate::http::order::{Configuration, FlowFields};
use crate::http::{ApiBody, ApiError, ApiPath};

/// What is tried: a device filter, or the name of a saved one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DryRunBody {
    /// In the words of a deployment.
    #[schema(value_type = Option<WireDeviceFilter>)]
    device_filter: Option<Value>,
    /// A saved filter of the fleet.
    filter_name: Option<String>,
    /// The deployment that it is for: it is checked as if it were made.
    #[serde(default, deserialize_with = "optional_object")]
    r#for: Option<Configuration>,
}

/// How the dry run names the flow.
const FLOW_FIELDS: FlowFields = FlowFields { configuration: "for", inner: "for.flow_uuid", outer: "for.flow_uuid" };

/// Devices that share a reason.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReasonCount {
    /// A stable word for programs.
    #[schema(example = "device_offline")]
    code: String,
    /// The same for people, of one device.
    message: String,
    /// How many devices.
    count: u64,
}

/// One of the matching devices.
#[derive(Debug, Serialize, ToSchema)]
pub struct SampleDevice {
    device_uuid: String,
    device_name: String,
}

/// What a deployment would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct DryRunResult {
    /// Devices that match.
    matching: u64,
    /// Devices that would begin at once.
    would_start: u64,
    /// Devices that would wait first.
    would_wait: Vec<ReasonCount>,
    /// Devices that cannot run update flows at all.
    refused: Vec<ReasonCount>,
    /// Some of the matching devices, at most 20.
    sample: Vec<SampleDevice>,
}

impl From<DryRun> for DryRunResult {
    fn from(run: DryRun) -> Self {
        let counted = |(reason, count): (Reason, u64)| ReasonCount { code: reason.code, message: reason.text, count };
        let sample = run.sample.into_iter();
        Self {
            matching: run.matching,
            would_start: run.would_start,
            would_wait: run.would_wait.into_iter().map(counted).collect(),
            refused: run.refused.into_iter().map(counted).collect(),
            sample: sample.map(|device| SampleDevice { device_uuid: device.uuid, device_name: device.name }).collect(),
        }
    }
}

/// Try a device filter.
///
/// What it matches, and what a deployment to it would do now. Nothing is written.
#[utoipa::path(
    post, path = "/api/v2/{project_key}/filters/dry-run", operation_id = "DryRunFilter", tag = "Fleets",
    params(("project_key" = String, Path, description = "The fleet's key")),
    request_body = DryRunBody,
    responses(
        (status = 200, description = "What a deployment would do", body = DryRunResult),
        (status = 400, description = "A field is wrong, or names what does not exist", body = Error),
        (status = 404, description = "No such fleet", body = Error),
    ),
    extensions(("x-muster" = json!(true))),
)]
pub async fn run(
    State(app): State<App>,
    bearer: Bearer,
    ApiPath(key): ApiPath<String>,
    ApiBody(body): ApiBody<DryRunBody>,
) -> Result<Json<DryRunResult>, ApiError> {
    let permitted = bearer.fleet(Operation::DryRunFilter, &key).await?;
    let (filter, field) = filter(&app, &permitted, body.device_filter, body.filter_name.as_deref()).await?;
    let order = body.r#for.map(|what| what.order(None, FLOW_FIELDS, filter.clone())).transpose()?;
    let within = |error: StoreError| error.within(field);
    Ok(Json(dry_run(&app, &permitted, &filter, order.as_ref(), within).await?.into()))
}

/// The filter that is tried, and the field that gave it.
async fn filter(
    app: &App,
    permitted: &Permitted,
    words: Option<Value>,
    name: Option<&str>,
) -> Result<(DeviceFilter, &'static str), ApiError> {
    match (words, name) {
        (Some(words), None) => Ok((parse(&words)?, "device_filter")),
        (None, Some(name)) => {
            let saved = saved_filters::find(app.store.read(), permitted, name).await.map_err(|error| match error {
                OpError::NotFound { .. } => Invalid::unknown("filter_name", "saved filter of the fleet", name).into(),
                other => other,
            })?;
            Ok((parse(&saved.device_filter)?, "filter_name"))
        }
        (None, None) => Err(Invalid::missing("device_filter").into()),
        (Some(_), Some(_)) => Err(Invalid::new("filter_name", "does not go with device_filter").into()),
    }
}
