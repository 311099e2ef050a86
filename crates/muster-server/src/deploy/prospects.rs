//! What would become of a device in a deployment that is made now: whether its agent would
//! refuse, what it would wait for, or that it would begin. One rule for the dry run of a
//! filter and for the preview of a deployment.

use std::collections::BTreeSet;

use muster_core::flow::Flow;
use muster_core::target::{Reason, TargetStatus, without_agent};
use muster_link::capability::{DOCKER_ENGINE, carries_out};
use muster_store::prospects::Prospect;

use super::standing::{STARTING, why};

/// Actions that need a container engine on the device.
const ENGINE_ACTIONS: [&str; 2] = ["connect/docker", "connect/docker-compose"];

/// What a deployment needs of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs(BTreeSet<String>);

impl Needs {
    /// Of a deployment of that flow.
    pub fn of(flow: &Flow) -> Self {
        Self(flow.uses().into_iter().map(str::to_owned).collect())
    }
}

/// What would become of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would begin, as soon as the rollout lets it.
    Starts,
    /// It would wait first.
    Waits(Reason),
    /// It would fail before its first step.
    Refuses(Reason),
}

/// What would become of a device that stands so.
pub fn verdict(prospect: &Prospect, needs: &Needs) -> Verdict {
    let Some(standing) = prospect.standing else { return Verdict::Refuses(without_agent().1) };
    if let Some(lack) = lack(&prospect.capabilities, needs) {
        return Verdict::Refuses(lack);
    }
    match why(TargetStatus::Pending, standing) {
        Some(reason) if reason.code != STARTING => Verdict::Waits(reason),
        _ => Verdict::Starts,
    }
}

/// The first thing that an agent lacks, by what it announced over its newest link.
fn lack(capabilities: &[String], needs: &Needs) -> Option<Reason> {
    if let Some(action) = needs.0.iter().find(|action| !carries_out(capabilities, action)) {
        let text = format!("The device's agent does not carry out {action}; a newer one may.");
        return Some(Reason::new("unsupported_step", text));
    }
    let has_engine = capabilities.iter().any(|word| word == DOCKER_ENGINE);
    let engine_action = needs.0.iter().find(|action| ENGINE_ACTIONS.contains(&action.as_str()));
    let action = engine_action.filter(|_| !has_engine)?;
    let text = format!("No container engine answered on the device when it connected; {action} needs one.");
    Some(Reason::new("no_container_engine", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(capabilities: &[&str], actions: &[&str]) -> Option<String> {
        let capabilities: Vec<String> = capabilities.iter().map(|word| (*word).to_owned()).collect();
        let needs = Needs(actions.iter().map(|action| (*action).to_owned()).collect());
        lack(&capabilities, &needs).map(|reason| reason.code)
    }

    #[test]
    fn an_agent_lacks_what_it_does_not_announce() {
        let docker = ["action:connect/docker", "action:connect/file"];
        assert_eq!(code(&[], &["connect/file"]), None, "older agents announce none, and know some");
        assert_eq!(code(&[], &["connect/docker"]).as_deref(), Some("unsupported_step"));
        assert_eq!(code(&docker[1..], &["connect/git"]).as_deref(), Some("unsupported_step"));
        assert_eq!(code(&docker, &["connect/docker", "connect/file"]).as_deref(), Some("no_container_engine"));
        assert_eq!(code(&[&docker[..], &["docker_engine"]].concat(), &["connect/docker"]), None);
        assert_eq!(code(&[], &[]), None);
    }
}
