//! The order of a deployment, as API v1 and v2 send it: what is deployed, beside
//! the device filter.

use std::collections::BTreeMap;

use muster_core::deadlines::WireDeadlines;
use muster_core::filter::DeviceFilter;
use muster_core::invalid::Invalid;
use muster_core::names::{AppName, Text, Version};
use muster_core::rollout::policy::WireRollout;
use muster_core::wire::optional_object;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::deploy::deployments::{Order, RolloutOrder, Terms};

/// What is deployed, and how.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The update flow, required; `flow_id` is understood too.
    #[serde(alias = "flow_id")]
    flow_uuid: Option<String>,
    /// For people.
    comment: Option<String>,
    /// The app and version that a device has once it succeeded.
    #[serde(default, deserialize_with = "optional_object")]
    app: Option<ConfiguredApp>,
    /// What the flow's inputs stand for.
    parameters_mapping: Option<BTreeMap<String, String>>,
    /// Muster's own: when its devices end by themselves.
    #[serde(default, deserialize_with = "optional_object")]
    deadlines: Option<WireDeadlines>,
    /// Muster's own: how it goes over its devices; all of them at once by default.
    #[serde(default, deserialize_with = "optional_object")]
    rollout: Option<WireRollout>,
}

/// An app and the version that a deployment brings.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfiguredApp {
    /// The app; it must exist.
    name: String,
    /// The version.
    version: String,
}

/// How a call names the configuration, and the flow: within the configuration, as its documents have it,
/// and beside it, where other clients put it.
#[derive(Clone, Copy, Debug)]
pub struct FlowFields {
    /// The configuration.
    pub configuration: &'static str,
    /// Within the configuration.
    pub inner: &'static str,
    /// Beside the configuration.
    pub outer: &'static str,
}

impl Configuration {
    /// The order, for the devices that `filter` matches. `outer_flow` is the flow
    /// that stood beside the configuration.
    pub fn order(self, outer_flow: Option<&str>, fields: FlowFields, filter: DeviceFilter) -> Result<Order, Invalid> {
        let (flow, flow_field) = match (self.flow_uuid.as_deref(), outer_flow) {
            (Some(inner), Some(outer)) if inner != outer => {
                return Err(Invalid::new(fields.outer, format!("names another flow than {}", fields.inner)));
            }
            (Some(flow), _) => (flow, fields.inner),
            (None, Some(flow)) => (flow, fields.outer),
            (None, None) => return Err(Invalid::missing(fields.inner)),
        };
        let flow = flow.parse().map_err(|refusal: Invalid| refusal.within(flow_field))?;
        Ok(Order { flow, flow_field, terms: self.terms(fields, filter)? })
    }

    /// What is asked beside the flow, for the devices that `filter` matches.
    pub fn terms(self, fields: FlowFields, filter: DeviceFilter) -> Result<Terms, Invalid> {
        let comment = self.comment().map_err(|refusal| refusal.within(fields.configuration));
        let app = self.app.map(ConfiguredApp::check).transpose();
        let app = app.map_err(|refusal| refusal.within("app").within(fields.configuration))?;
        let deadlines = self.deadlines.unwrap_or_default().checked();
        let deadlines = deadlines.map_err(|refusal| refusal.within("deadlines").within(fields.configuration));
        let rollout = self.rollout.map(RolloutOrder::try_from).transpose();
        let rollout = rollout.map_err(|refusal| refusal.within("rollout").within(fields.configuration));
        Ok(Terms {
            filter,
            configuration_field: fields.configuration,
            comment: comment?,
            app,
            inputs: self.parameters_mapping.unwrap_or_default(),
            deadlines: deadlines?,
            rollout: rollout?,
        })
    }

    /// Whether a flow is named.
    pub fn names_flow(&self) -> bool {
        self.flow_uuid.is_some()
    }

    fn comment(&self) -> Result<Text, Invalid> {
        let comment = Text::parse(self.comment.clone().unwrap_or_default());
        comment.map_err(|refusal| refusal.within("comment"))
    }
}

impl ConfiguredApp {
    fn check(self) -> Result<(AppName, Version), Invalid> {
        let name = AppName::parse(self.name).map_err(|refusal| refusal.within("name"))?;
        Ok((name, Version::parse(self.version).map_err(|refusal| refusal.within("version"))?))
    }
}
