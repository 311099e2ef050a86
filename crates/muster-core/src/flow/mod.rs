//! What an update does: the flow document of `POST /update-flows`.
//!
//! A document is YAML and holds one or more flows; each flow has steps that run
//! on the device in order, and inputs that a deployment fills in. [`yaml`] reads
//! it, [`actions`] are what stands behind `uses:`, [`inputs`] finds and fills
//! `${{ inputs.NAME }}`.
//!
//! The server keeps the document byte for byte and sends each device the parsed
//! [`Flow`] as JSON, so that the agent carries no YAML parser.

pub mod actions;
pub mod inputs;
mod locate;
pub mod restores;
#[cfg(feature = "schema")]
pub mod schema;
pub mod yaml;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::deadlines::WireDeadlines;
use crate::limits::{RUN_DEADLINE_SLACK, STEP_TIMEOUT_DEFAULT};
use crate::names::{FlowName, StepName};
use inputs::Input;

/// One update flow, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Its name in the document.
    pub name: FlowName,
    /// What a deployment may fill in, in the document's order.
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// Reboot the device after the last step succeeded.
    #[serde(default)]
    pub is_reboot_wanted: bool,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// The flow's rollback: a command that runs when the update fails, after the
    /// steps' own commands.
    #[serde(default)]
    pub rollback: Option<String>,
    /// When its runs end by themselves, where the flow says so.
    #[serde(default, skip_serializing_if = "WireDeadlines::is_empty")]
    pub deadlines: WireDeadlines,
}

/// One step of a flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Shown in reports.
    pub name: StepName,
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
    /// How long it may run, in milliseconds.
    pub timeout_ms: u64,
    /// What happens when it fails.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A command for `sh -c`, before its inputs are filled in.
    Run(String),
    /// One of the ready-made actions, `connect/docker` and the like.
    Uses {
        /// The action's name.
        name: String,
        /// Its `with`, apart from `on-failure` and before its inputs are filled in:
        /// [`actions::BuiltIn`] reads it.
        with: actions::With,
    },
}

/// What happens when a step fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OnFailure {
    /// The flow goes on; the step is still shown as failed.
    pub is_ignored: bool,
    /// A command that runs on the device.
    pub run: Option<String>,
    /// When the command runs and the files are put back.
    pub trigger: Trigger,
    /// Every file and container that the step changed is put back.
    pub is_revert_all_files: bool,
}

/// Which failure sets off a step's `on-failure`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Trigger {
    /// This step's only.
    #[default]
    ThisStepFailure,
    /// This step's, or that of any later step.
    AnyStepFailure,
}

impl Flow {
    /// How long a run may take from the device's acceptance to its last report:
    /// every step and every command of a rollback at its limit, and some slack.
    pub fn run_deadline(&self) -> Duration {
        let step = |step: &Step| {
            let own = Duration::from_millis(step.timeout_ms);
            let extra = u32::from(step.on_failure.run.is_some()) + u32::from(step.is_revertible());
            own.saturating_add(STEP_TIMEOUT_DEFAULT * extra)
        };
        let steps = self.steps.iter().map(step).fold(RUN_DEADLINE_SLACK, Duration::saturating_add);
        let rollback = if self.rollback.is_some() { STEP_TIMEOUT_DEFAULT } else { Duration::ZERO };
        steps.saturating_add(rollback)
    }

    /// Every ready-made action that its steps need, each once.
    pub fn uses(&self) -> std::collections::BTreeSet<&str> {
        let actions = self.steps.iter().map(|step| &step.action);
        let uses = actions.filter_map(|action| match action {
            Action::Run(_) => None,
            Action::Uses { name, .. } => Some(name.as_str()),
        });
        uses.collect()
    }

    /// Every text of the flow that may refer to an input, with its place.
    fn templates(&self) -> Vec<(String, &str)> {
        let mut found = Vec::new();
        for (i, step) in self.steps.iter().enumerate() {
            match &step.action {
                Action::Run(script) => found.push((format!("steps[{i}].run"), script.as_str())),
                Action::Uses { with, .. } => {
                    with.iter().for_each(|(key, value)| strings(&format!("steps[{i}].with.{key}"), value, &mut found));
                }
            }
            if let Some(command) = &step.on_failure.run {
                found.push((format!("steps[{i}].on-failure.run"), command));
            }
        }
        if let Some(command) = &self.rollback {
            found.push(("on-failure.run".to_owned(), command));
        }
        found
    }
}

impl Step {
    /// Whether what it changed can be put back, and its document wants that.
    pub fn is_revertible(&self) -> bool {
        matches!(self.action, Action::Uses { .. }) && self.on_failure.is_revert_all_files
    }
}

fn strings<'a>(place: &str, value: &'a serde_json::Value, found: &mut Vec<(String, &'a str)>) {
    match value {
        serde_json::Value::String(text) => found.push((place.to_owned(), text)),
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| strings(&format!("{place}[{i}]"), item, found));
        }
        serde_json::Value::Object(map) => {
            map.iter().for_each(|(key, item)| strings(&format!("{place}.{key}"), item, found));
        }
        _ => {}
    }
}
