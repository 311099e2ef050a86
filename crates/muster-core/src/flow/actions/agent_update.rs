//! `muster/agent-update`: the agent itself, in another version.

use serde::{Deserialize, Serialize};

use super::WholeCheck;
use super::source::ArtifactPath;
use super::values::{Count, Text};
use crate::invalid::Invalid;
use crate::limits::AGENT_HEALTH_MINUTES_MAX;
use crate::release::ReleaseVersion;

/// Its `with`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AgentUpdate {
    /// The version that the release is signed as.
    pub version: Text,
    /// The registry that holds the release.
    pub registry: Text,
    /// Where the release stands in the registry.
    pub artifactory_path: ArtifactPath,
    /// How long the new agent has to reach the server, in minutes; 5 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_minutes: Option<Count>,
}

impl WholeCheck for AgentUpdate {
    fn check(&self) -> Result<(), Invalid> {
        let version = self.version.as_str();
        if !version.contains("${{") {
            ReleaseVersion::parse(version).map_err(|invalid| invalid.within("version"))?;
        }
        match self.health_minutes.as_ref().and_then(Count::get) {
            Some(minutes) if !(1..=AGENT_HEALTH_MINUTES_MAX).contains(&minutes) => {
                Err(Invalid::new("health-minutes", format!("must be 1 to {AGENT_HEALTH_MINUTES_MAX}")))
            }
            _ => Ok(()),
        }
    }
}
