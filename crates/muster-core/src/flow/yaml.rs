//! Reads a flow document. The wire shape is that of the Connect API, section 1.6
//! of its reference; the parser refuses what it does not know, so that a
//! misspelt key is never an update without its rollback.

use std::time::Duration;

use indexmap::IndexMap;
use serde::Deserialize;

use super::actions::{BuiltIn, USES, With, unknown};
use super::inputs::{Input, is_input_name};
use super::{Action, Flow, OnFailure, Step, Trigger, locate};
use crate::deadlines::WireDeadlines;
use crate::invalid::{Invalid, quoted};
use crate::limits::{
    BODY_BYTES_MAX, FLOW_INPUTS_MAX, FLOW_STEPS_MAX, FLOWS_MAX, STEP_TIMEOUT_DEFAULT, STEP_TIMEOUT_MAX,
};
use crate::names::{FlowName, StepName};

/// Every flow of a document, in the document's order.
///
/// Errors name the line and column, and the place in the flow where its meaning is
/// wrong.
pub fn parse(document: &str) -> Result<Vec<Flow>, Invalid> {
    if document.len() > BODY_BYTES_MAX {
        return Err(Invalid::new("", format!("the document is larger than {BODY_BYTES_MAX} bytes")));
    }
    let wire: WireDocument = serde_saphyr::from_str_with_options(document, options())
        .map_err(|error| Invalid::new("", first_line(&error.to_string())))?;
    wire.check().map_err(|refusal| locate::located(document, refusal))
}

pub(super) fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_nodes: 20_000, max_aliases: 100, max_events: 50_000 },
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("the YAML cannot be read").trim().to_owned()
}

/// A flow document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Document"))]
pub(super) struct WireDocument {
    flows: IndexMap<String, WireFlow>,
    #[serde(default)]
    on: Option<WireOn>,
}

/// One flow.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Flow"))]
pub(super) struct WireFlow {
    /// Reboot the device after the last step succeeded.
    #[serde(default)]
    reboot_after_restart: bool,
    /// What is done, in order.
    steps: Vec<WireStep>,
    /// Runs when the update fails, after what the steps themselves have for that.
    on_failure: Option<WireRollback>,
    #[serde(default)]
    on: Option<WireOn>,
    /// How long each device may take; goes before what its fleet says.
    #[serde(default)]
    deadlines: WireFlowDeadlines,
}

/// The flow's deadlines, in minutes.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Deadlines"))]
pub(super) struct WireFlowDeadlines {
    /// How long a device may stay pending.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 525_600)))]
    pending_minutes: Option<u64>,
    /// How long a device may take from its beginning to its end.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 525_600)))]
    run_minutes: Option<u64>,
    /// How long a device may take to confirm an abort.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 525_600)))]
    abort_minutes: Option<u64>,
}

impl WireFlowDeadlines {
    /// As they are everywhere else; a refusal names the flow's own key.
    fn checked(self) -> Result<WireDeadlines, Invalid> {
        let Self { pending_minutes, run_minutes, abort_minutes } = self;
        let deadlines = WireDeadlines { pending_minutes, run_minutes, abort_minutes };
        deadlines.checked().map_err(|refusal| Invalid { field: refusal.field.replace('_', "-"), ..refusal })
    }
}

/// The flow's rollback.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Rollback"))]
pub(super) struct WireRollback {
    run: String,
}

/// What a deployment may fill in.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "On"))]
pub(super) struct WireOn {
    #[serde(default)]
    workflow_dispatch: Option<WireDispatch>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Dispatch"))]
pub(super) struct WireDispatch {
    #[serde(default)]
    inputs: IndexMap<String, Option<WireInput>>,
}

/// One input.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Input"))]
pub(super) struct WireInput {
    default: Option<String>,
    /// For the reader of the document.
    #[serde(rename = "description")]
    #[cfg_attr(feature = "schema", schemars(rename = "description"))]
    _description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct WireStep {
    name: String,
    run: Option<String>,
    uses: Option<String>,
    with: Option<serde_json::Map<String, serde_json::Value>>,
    timeout_minutes: Option<f64>,
    on_failure: Option<WireOnFailure>,
}

/// What happens when a step fails.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "OnFailure"))]
pub(super) struct WireOnFailure {
    /// The flow goes on; the step is still shown as failed.
    #[serde(default)]
    ignore: bool,
    /// A command that runs on the device.
    run: Option<String>,
    /// Which failure sets off `run` and `revert-all-files`.
    #[serde(default)]
    trigger_revert: Trigger,
    /// Whatever the step changed is put back.
    #[serde(default)]
    revert_all_files: bool,
}

/// The older word for `on-failure` of `connect/docker`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "RollbackConfiguration"))]
pub(super) struct WireRollbackConfiguration {
    restart_previous_container: bool,
}

impl WireDocument {
    fn check(self) -> Result<Vec<Flow>, Invalid> {
        counted("flows", self.flows.len(), 1, FLOWS_MAX)?;
        let shared = self.on.unwrap_or_default();
        self.flows.into_iter().map(|(name, flow)| flow.check(name, &shared)).collect()
    }
}

impl WireFlow {
    fn check(self, name: String, shared: &WireOn) -> Result<Flow, Invalid> {
        let place = format!("flows.{name}");
        self.checked(name, shared).map_err(|refusal| refusal.within(&place))
    }

    fn checked(self, name: String, shared: &WireOn) -> Result<Flow, Invalid> {
        counted("steps", self.steps.len(), 1, FLOW_STEPS_MAX)?;
        let steps = self.steps.into_iter().enumerate();
        let flow = Flow {
            name: FlowName::parse(name)?,
            inputs: inputs(self.on.as_ref().unwrap_or(shared))?,
            is_reboot_wanted: self.reboot_after_restart,
            steps: steps.map(|(i, step)| step.check(i)).collect::<Result<_, _>>()?,
            rollback: self.on_failure.map(|rollback| command("on-failure.run", rollback.run)).transpose()?,
            deadlines: self.deadlines.checked().map_err(|refusal| refusal.within("deadlines"))?,
        };
        flow.check_references()?;
        Ok(flow)
    }
}

fn inputs(on: &WireOn) -> Result<Vec<Input>, Invalid> {
    const PLACE: &str = "on.workflow-dispatch.inputs";
    let declared = on.workflow_dispatch.clone().unwrap_or_default().inputs;
    counted(PLACE, declared.len(), 0, FLOW_INPUTS_MAX)?;
    let check = |(name, input): (String, Option<WireInput>)| {
        if !is_input_name(&name) {
            let problem = format!("{} is no name of an input: letters, digits, \"-\" and \"_\"", quoted(&name));
            return Err(Invalid::new(PLACE, problem));
        }
        Ok(Input { name, default: input.and_then(|input| input.default) })
    };
    declared.into_iter().map(check).collect()
}

impl WireStep {
    fn check(self, index: usize) -> Result<Step, Invalid> {
        self.checked().map_err(|refusal| refusal.within(&format!("steps[{index}]")))
    }

    fn checked(mut self) -> Result<Step, Invalid> {
        let name = StepName::parse(self.name).map_err(|refusal| refusal.within("name"))?;
        let timeout = timeout(self.timeout_minutes)?;
        let mut taken = |key| self.with.as_mut().and_then(|with| with.remove(key));
        let (inner, older) = (taken("on-failure"), taken("rollback-configuration"));
        if older.is_some() && self.uses.as_deref() != Some("connect/docker") {
            return Err(Invalid::new("with.rollback-configuration", "is known to \"connect/docker\" alone"));
        }
        let on_failure = on_failure(self.on_failure, inner, older)?;
        let action = match (self.run, self.uses, self.with) {
            (Some(script), None, None) => Action::Run(command("run", script)?),
            (None, Some(uses), with) => uses_action(uses, with.unwrap_or_default())?,
            (Some(_), None, Some(_)) => return Err(Invalid::new("with", "goes with \"uses\", not with \"run\"")),
            (Some(_), Some(_), _) => {
                return Err(Invalid::new("uses", "a step has either \"run\" or \"uses\", not both"));
            }
            (None, None, _) => return Err(Invalid::new("", "a step needs either \"run\" or \"uses\"")),
        };
        Ok(Step { name, action, timeout_ms: millis(timeout), on_failure })
    }
}

fn uses_action(name: String, with: With) -> Result<Action, Invalid> {
    if !USES.contains(&name.as_str()) {
        return Err(unknown(&name).within("uses"));
    }
    BuiltIn::read(&name, with.clone()).map_err(|refusal| refusal.within("with"))?;
    Ok(Action::Uses { name, with })
}

fn command(field: &str, script: String) -> Result<String, Invalid> {
    if script.trim().is_empty() {
        return Err(Invalid::new(field, "is empty"));
    }
    if script.contains('\0') {
        return Err(Invalid::new(field, "holds the control character U+0000"));
    }
    Ok(script)
}

fn timeout(minutes: Option<f64>) -> Result<Duration, Invalid> {
    let Some(minutes) = minutes else { return Ok(STEP_TIMEOUT_DEFAULT) };
    let timeout = Duration::try_from_secs_f64(minutes * 60.0).ok();
    timeout.filter(|timeout| !timeout.is_zero() && *timeout <= STEP_TIMEOUT_MAX).ok_or_else(|| {
        let minutes_max = STEP_TIMEOUT_MAX.as_secs() / 60;
        Invalid::new("timeout-minutes", format!("{minutes} is not above 0 and at most {minutes_max}"))
    })
}

fn millis(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// `on-failure` stands in `with` as the documents print it, or beside `run`. Older
/// documents have `rollback-configuration` in its place.
fn on_failure(
    outer: Option<WireOnFailure>,
    inner: Option<serde_json::Value>,
    older: Option<serde_json::Value>,
) -> Result<OnFailure, Invalid> {
    if let Some(older) = older {
        const PLACE: &str = "with.rollback-configuration";
        if outer.is_some() || inner.is_some() {
            return Err(Invalid::new(PLACE, "is the older word for \"on-failure\", which is there too"));
        }
        let older: WireRollbackConfiguration =
            serde_json::from_value(older).map_err(|error| Invalid::new(PLACE, error.to_string()))?;
        return Ok(OnFailure { is_revert_all_files: older.restart_previous_container, ..OnFailure::default() });
    }
    let wire = match (outer, inner) {
        (Some(_), Some(_)) => return Err(Invalid::new("on-failure", "stands both in the step and in its \"with\"")),
        (Some(outer), None) => outer,
        (None, Some(inner)) => {
            serde_json::from_value(inner).map_err(|error| Invalid::new("with.on-failure", error.to_string()))?
        }
        (None, None) => return Ok(OnFailure::default()),
    };
    if wire.ignore && (wire.run.is_some() || wire.revert_all_files) {
        return Err(Invalid::new("on-failure", "\"ignore\" goes with neither \"run\" nor \"revert-all-files\""));
    }
    Ok(OnFailure {
        is_ignored: wire.ignore,
        run: wire.run.map(|run| command("on-failure.run", run)).transpose()?,
        trigger: wire.trigger_revert,
        is_revert_all_files: wire.revert_all_files,
    })
}

fn counted(field: &str, count: usize, min: usize, max: usize) -> Result<(), Invalid> {
    if (min..=max).contains(&count) {
        return Ok(());
    }
    Err(Invalid::new(field, format!("has {count} entries; {min} to {max} are allowed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTED: &str = r"flows:
  Flow-1-name:
    reboot-after-restart: false
    steps:
      - name: docker_step
        uses: connect/docker
        with:
          registry: account1
          image-path: platform-url/${{inputs.input-1-name }}/${{inputs.input-2-name }}
          image-tag: ${{ inputs.input-3-name }}
          run-options:
            restart: always
            attach: 'true'
          command: echo hello
          delete-previous-image: false
          on-failure:
            revert-all-files: true
            trigger-revert: any-step-failure
      - name: command_step
        run: echo hello
      - name: artifact_step
        uses: connect/download-artifact
        with:
          registry: account1
          artifactory-path: local-repo/file.txt
          device-path: /tmp
          on-failure:
            trigger-revert: this-step-failure
            revert-all-files: false
";
    const ON: &str =
        "workflow-dispatch:\n  inputs:\n    input-1-name: {}\n    input-2-name: {}\n    input-3-name: {}\n";

    fn indented(text: &str, by: usize) -> String {
        text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
    }

    #[test]
    fn reads_the_documented_flow_in_every_printed_form() {
        let tops = ["on:\n", "'on':\n", "\"on\":\n"];
        let top = tops.map(|on| format!("{DOCUMENTED}{on}{}", indented(ON, 2)));
        let inside = tops.map(|on| format!("{DOCUMENTED}    {on}{}", indented(ON, 6)));
        for document in top.iter().chain(&inside) {
            let flows = parse(document).unwrap();
            let [flow] = &flows[..] else { panic!("one flow") };
            assert_eq!(flow.name.as_str(), "Flow-1-name");
            let names: Vec<_> = flow.inputs.iter().map(|input| input.name.as_str()).collect();
            assert_eq!(names, ["input-1-name", "input-2-name", "input-3-name"]);
            assert_eq!(flow.steps[0].on_failure.trigger, Trigger::AnyStepFailure);
            assert!(flow.steps[0].on_failure.is_revert_all_files);
            assert_eq!(flow.steps[1].action, Action::Run("echo hello".into()));
            assert_eq!(flow.steps[1].timeout_ms, 3_600_000);
        }
    }

    #[test]
    fn reads_several_flows_in_order() {
        let flows =
            parse("flows:\n  b: {steps: [{name: x, run: 'true'}]}\n  a: {steps: [{name: y, run: 'true'}]}\n").unwrap();
        assert_eq!(flows.iter().map(|flow| flow.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    }

    #[test]
    fn reads_failure_handling() {
        let flow = &parse(
            "flows:\n  f:\n    on-failure: {run: restore}\n    steps:\n      - {name: a, run: x, on-failure: {ignore: true}}\n      - {name: b, run: y, timeout-minutes: 0.5, on-failure: {run: z, trigger-revert: any-step-failure}}\n",
        )
        .unwrap()[0];
        assert!(flow.steps[0].on_failure.is_ignored);
        assert_eq!(flow.steps[1].on_failure.run.as_deref(), Some("z"));
        assert_eq!(flow.steps[1].timeout_ms, 30_000);
        assert_eq!(flow.rollback.as_deref(), Some("restore"));
    }

    #[test]
    fn round_trips_through_the_form_sent_to_devices() {
        let document = format!("{DOCUMENTED}on:\n{}", indented(ON, 2));
        let flow = parse(&document).unwrap().remove(0);
        let json = serde_json::to_string(&flow).unwrap();
        assert_eq!(serde_json::from_str::<Flow>(&json).unwrap(), flow);
    }

    #[test]
    fn refuses_with_the_place() {
        let step = |step: &str| format!("flows:\n  f:\n    steps:\n      - {step}\n");
        let cases = [
            (String::new(), ""),
            ("a: [".into(), ""),
            ("flows: {}".into(), "flows: has 0 entries"),
            ("flows: {f: {steps: []}}".into(), "flows.f.steps: has 0 entries"),
            ("flows: {f: {step: []}}".into(), "step"),
            ("flows: {f: {steps: [{name: a, run: x}]}, f: {steps: [{name: a, run: x}]}}".into(), "uplicate"),
            (step("{name: a}"), "steps[0]: a step needs either"),
            (step("{name: a, run: x, uses: connect/docker}"), "steps[0].uses"),
            (step("{name: a, uses: connect/dokcer}"), "\"connect/dokcer\" is none of"),
            (step("{name: '', run: x}"), "steps[0].name: \"\" is empty"),
            (step("{name: a, run: ' '}"), "steps[0].run: is empty"),
            (step("{name: a, run: x, timeout-minutes: 0}"), "timeout-minutes: 0 is not above 0"),
            (step("{name: a, run: x, timeout-minutes: .nan}"), "timeout-minutes"),
            (step("{name: a, run: x, timeout-minutes: 1e300}"), "timeout-minutes"),
            (step("{name: a, run: '${{ inputs.x }}'}"), "steps[0].run: refers to the input \"x\""),
            (step("{name: a, run: '${{ secrets.x }}'}"), "\"secrets.x\" is not of the form"),
            (step("{name: a, run: x, on-failure: {ignore: true, run: y}}"), "on-failure: \"ignore\""),
            (step("{name: a, uses: connect/file, with: {on-failure: {trigger-revert: never}}}"), "with.on-failure"),
        ];
        for (document, expected) in cases {
            let refusal = parse(&document).unwrap_err().to_string();
            assert!(!refusal.is_empty() && refusal.contains(expected), "{document:?} gave {refusal:?}");
        }
    }

    #[test]
    fn names_line_and_column() {
        let refusal = parse("flows:\n  f:\n    steps:\n      - name: a\n        ruin: x\n").unwrap_err().to_string();
        assert!(refusal.contains("line 5"), "{refusal}");
    }

    #[test]
    fn survives_an_alias_bomb() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for i in 1..9 {
            bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(","));
        }
        assert!(parse(&bomb).is_err());
    }
}
