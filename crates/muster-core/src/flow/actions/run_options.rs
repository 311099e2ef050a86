//! How a container is run: what `docker run` takes, by the names of its options.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::values::{
    ByteSize, Capability, ContainerName, Count, Cpus, DeviceMapping, DevicePath, Flag, HostAddress, PortMapping,
    Restart, Text, VolumeMapping, Words,
};
use crate::invalid::{Invalid, quoted};

/// How a container is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(extend("dependentRequired" = { "log-opt": ["log-driver"] })))]
pub struct RunOptions {
    /// The container's name; the last word of the image's path unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<ContainerName>,
    /// When the container is started again; never unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// Whether the step waits for the container's end, and keeps its output.
    pub attach: Flag,
    /// Added to its environment.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = { "pattern": "^[^=]+$" })))]
    pub env: IndexMap<String, String>,
    /// Ports of the device that lead into it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMapping>,
    /// Folders of the device and volumes that it sees.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeMapping>,
    /// Folders in it that are kept in memory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<DevicePath>,
    /// Its network: `bridge`, `host`, `none`, or one of the engine's; `bridge` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Text>,
    /// What it calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Text>,
    /// Hosts that it knows beside those of the name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add_host: Vec<HostAddress>,
    /// `USER` or `USER:GROUP`; the image's own unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Text>,
    /// The folder in which its command runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<DevicePath>,
    /// Goes before its command, instead of the image's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Words>,
    /// Its labels. Those that begin with `muster.` are the agent's.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = { "pattern": "^(?!muster\\.)[\\s\\S]" })))]
    pub labels: IndexMap<String, String>,
    /// Devices that it may use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceMapping>,
    /// Capabilities that it has beside the usual ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<Capability>,
    /// Capabilities that are taken from it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<Capability>,
    /// Whether it may do all that the device may.
    pub privileged: Flag,
    /// Whether its own files cannot be changed.
    pub read_only: Flag,
    /// Whether a small first process looks after its dead ones.
    pub init: Flag,
    /// Its memory at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Its shared memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<ByteSize>,
    /// How many processors it may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
    /// How many processes it may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<Count>,
    /// Where its output goes; the engine's choice unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_driver: Option<Text>,
    /// What the log driver is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_opt: Option<IndexMap<String, String>>,
    /// How long it may take to stop, in seconds; 10 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<Count>,
    /// A command in it that tells whether it is healthy, instead of the image's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_cmd: Option<Text>,
    /// From one such question to the next, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_interval_seconds: Option<Count>,
    /// How long an answer may take, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_timeout_seconds: Option<Count>,
    /// How many bad answers make it unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_retries: Option<Count>,
    /// How long bad answers do not count, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_start_period_seconds: Option<Count>,
}

/// Begins the labels that are the agent's own.
pub const OWN_LABELS: &str = "muster.";

impl RunOptions {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if let Some(name) = self.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(Invalid::new("run-options.env", format!("{} is no name of a variable", quoted(name))));
        }
        if let Some(label) = self.labels.keys().find(|label| label.is_empty() || label.starts_with(OWN_LABELS)) {
            let problem = format!("{} is no name of a label, or one of the agent's own", quoted(label));
            return Err(Invalid::new("run-options.labels", problem));
        }
        if self.log_opt.is_some() && self.log_driver.is_none() {
            return Err(Invalid::new("run-options.log-opt", "needs its \"log-driver\""));
        }
        Ok(())
    }
}
