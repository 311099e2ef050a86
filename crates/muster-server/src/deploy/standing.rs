//! Why a target that is not final stands as it does: made up when someone asks,
//! from what the engine itself looks at.

use muster_core::ids::RowId;
use muster_core::rollout::plan::{held_back, waits_for_others};
use muster_core::target::{Reason, TargetStatus};
use muster_store::dispatch::Standing;
use muster_store::targets::TargetView;
use muster_store::{ConnectionTrait, Db, Result};

/// The code of a target that waits for nothing but its device's word.
pub const STARTING: &str = "starting";

/// Why a target stands as it does, now.
pub async fn reason<C: ConnectionTrait>(db: &Db<C>, deployment_id: RowId, target: &TargetView) -> Result<Reason> {
    let standing = match target.status.is_final() {
        true => None,
        false => db.standing(deployment_id, target.device_id).await?,
    };
    let Some(standing) = standing else { return Ok(target.reason.clone()) };
    let rollout = if standing.is_held { db.find_rollout(deployment_id).await? } else { None };
    let held = rollout.as_ref().filter(|_| !standing.is_abort_requested);
    if let Some(reason) = held.and_then(|held| held_back(&held.policy, &held.progress, standing.wave, db.now())) {
        return Ok(reason);
    }
    if standing.is_put_off && !standing.is_abort_requested && standing.is_linked {
        return Ok(target.reason.clone());
    }
    let reason = why(target.status, standing).unwrap_or_else(|| target.reason.clone());
    Ok(match held {
        Some(held) if reason.code == STARTING => waits_for_others(&held.policy, &held.progress, db.now()),
        _ => reason,
    })
}

/// Why the target stands so, apart from its rollout; `None` for a final one, whose reason is stored.
pub fn why(status: TargetStatus, standing: Standing) -> Option<Reason> {
    match status {
        TargetStatus::Pending => Some(why_pending(standing)),
        TargetStatus::InProgress => Some(why_in_progress(standing)),
        TargetStatus::Succeeded | TargetStatus::Failed | TargetStatus::Aborted => None,
    }
}

fn why_pending(standing: Standing) -> Reason {
    if standing.is_abort_requested {
        return abort_requested();
    }
    if !standing.is_linked {
        let text = "The device has no link to the server; it begins once it connects.";
        return Reason::new("device_offline", text);
    }
    // What has been sent once is no longer held back.
    if standing.is_update_trigger_set && !standing.is_sent {
        let text = "The device's update trigger is set; it begins once the trigger is cleared.";
        return Reason::new("update_trigger_set", text);
    }
    if standing.is_outside_window && !standing.is_sent {
        let text = "No update window of the fleet is open where the device is.";
        return Reason::new("outside_update_window", text);
    }
    if standing.is_behind_another && !standing.is_sent {
        let text = "An earlier deployment is still open on the device; it begins once that has ended.";
        return Reason::new("waiting_for_earlier_deployment", text);
    }
    Reason::new(STARTING, "The device is being told to begin; it has not confirmed yet.")
}

fn why_in_progress(standing: Standing) -> Reason {
    if standing.is_abort_requested {
        return abort_requested();
    }
    Reason::new("running", "The device has begun and has not reported the end.")
}

fn abort_requested() -> Reason {
    Reason::new("abort_requested", "The abort was asked for; the device has not confirmed it yet.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: Standing = Standing {
        is_linked: true,
        is_sent: false,
        is_update_trigger_set: false,
        is_behind_another: false,
        is_abort_requested: false,
        is_held: false,
        is_put_off: false,
        is_outside_window: false,
        wave: 0,
    };

    fn code(status: TargetStatus, standing: Standing) -> Option<String> {
        why(status, standing).map(|reason| reason.code)
    }

    #[test]
    fn names_what_a_pending_target_waits_for() {
        let held_back = Standing { is_update_trigger_set: true, is_behind_another: true, ..READY };
        let cases = [
            (READY, "starting"),
            (Standing { is_linked: false, ..held_back }, "device_offline"),
            (held_back, "update_trigger_set"),
            (Standing { is_behind_another: true, ..READY }, "waiting_for_earlier_deployment"),
            (Standing { is_sent: true, ..held_back }, "starting"),
            (Standing { is_sent: true, is_linked: false, ..READY }, "device_offline"),
            (Standing { is_sent: true, is_linked: false, is_abort_requested: true, ..READY }, "abort_requested"),
        ];
        for (standing, expected) in cases {
            assert_eq!(code(TargetStatus::Pending, standing).as_deref(), Some(expected), "{standing:?}");
        }
    }

    #[test]
    fn names_what_a_running_target_does() {
        let aborting = Standing { is_abort_requested: true, ..READY };
        assert_eq!(code(TargetStatus::InProgress, READY).as_deref(), Some("running"));
        assert_eq!(code(TargetStatus::InProgress, aborting).as_deref(), Some("abort_requested"));
        assert_eq!(code(TargetStatus::Failed, aborting), None);
    }
}
