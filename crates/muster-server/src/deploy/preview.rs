//! What a deployment would do, before it is made: which devices would begin, wait or
//! refuse, the waves and budgets, and what a failure would put back. Nothing is written.

use muster_core::flow::Flow;
use muster_core::flow::restores::{Restore, restores, rollback};
use muster_core::ids::RowId;
use muster_core::invalid::Invalid;
use muster_core::limits::PREVIEW_SAMPLE;
use muster_core::rollout::policy::Policy;
use muster_core::target::{Deadlines, Reason};
use muster_store::filter::Matching;
use muster_store::prospects::{Prospect, ProspectDevice};
use muster_store::{ConnectionTrait, Db};

use super::deployments::{Order, Settled, Terms, settle, stored_flow};
use super::prospects::{Needs, Verdict, verdict};
use crate::access::Permitted;
use crate::app::App;
use crate::error::{Result, WorkError};
use crate::fleet::tags::in_filter;

/// What is looked at.
#[derive(Clone, Debug)]
pub enum Plan {
    /// A flow of the fleet.
    Stored(Order),
    /// A flow that has not been made, and everything else.
    Given(Box<Flow>, Terms),
}

/// Devices that share what would become of them.
#[derive(Clone, Debug)]
pub struct Share {
    /// Why they wait or refuse.
    pub reason: Reason,
    /// How many they are.
    pub count: u64,
    /// Those of them that enrolled first.
    pub devices: Vec<ProspectDevice>,
}

/// What a deployment would do.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The flow's uuid, where it has been made.
    pub flow_uuid: Option<String>,
    /// The flow's name.
    pub flow_name: String,
    /// How many devices match.
    pub matching: u64,
    /// How many would begin as soon as the rollout lets them.
    pub would_start: u64,
    /// Those that would wait first, by reason.
    pub would_wait: Vec<Share>,
    /// Those that would fail before their first step, by reason.
    pub would_refuse: Vec<Share>,
    /// How it goes over its devices, where it has a rollout, and how many each wave has.
    pub rollout: Option<(Policy, Vec<u64>)>,
    /// When its devices end by themselves.
    pub deadlines: Deadlines,
    /// What a failure puts back of each step.
    pub restores: Vec<Restore>,
    /// The command that runs after that.
    pub rollback: Option<String>,
}

/// Some of the devices with what would become of them.
#[derive(Clone, Debug)]
pub struct DevicePage {
    /// They, and that; no reason for those that would begin.
    pub devices: Vec<(ProspectDevice, Option<Reason>)>,
    /// Whether there are more.
    pub is_more: bool,
    /// How many there are in all.
    pub total: u64,
}

/// A plan with everything in it looked up.
struct Looked {
    flow: Flow,
    uuid: Option<String>,
    field: &'static str,
    settled: Settled,
    matching: Matching,
    needs: Needs,
}

/// What a deployment would do.
pub async fn preview(app: &App, permitted: &Permitted, plan: &Plan) -> Result<Preview> {
    let db = app.store.read();
    let looked = look_up(app, db, permitted, plan).await?;
    let prospects = db.prospects(&looked.matching).await?;
    let matching = prospects.iter().map(|(_, devices)| devices).sum();
    let (mut would_start, mut waiting, mut refusing) = (0, Vec::new(), Vec::new());
    for (prospect, devices) in prospects {
        match verdict(&prospect, &looked.needs) {
            Verdict::Starts => would_start += devices,
            Verdict::Waits(reason) => add(&mut waiting, reason, prospect, devices),
            Verdict::Refuses(reason) => add(&mut refusing, reason, prospect, devices),
        }
    }
    let values = &looked.settled.inputs;
    let wrong = |refusal: Invalid| refusal.within(looked.field);
    Ok(Preview {
        matching,
        would_start,
        would_wait: with_devices(db, &looked.matching, waiting).await?,
        would_refuse: with_devices(db, &looked.matching, refusing).await?,
        rollout: match looked.settled.rollout {
            Some(new) => {
                let waves = db.cut_into_waves(&looked.matching, &new.waves, matching).await?;
                Some((new.policy, waves))
            }
            None => None,
        },
        deadlines: looked.settled.deadlines,
        restores: restores(&looked.flow, values).map_err(wrong)?,
        rollback: rollback(&looked.flow, values).map_err(wrong)?,
        flow_uuid: looked.uuid,
        flow_name: looked.flow.name.to_string(),
    })
}

/// The next `limit` devices behind the row `after`, of those that a reason of that code
/// would keep from beginning, or of all.
pub async fn devices(
    app: &App,
    permitted: &Permitted,
    plan: &Plan,
    code: Option<&str>,
    after: Option<RowId>,
    limit: u64,
) -> Result<DevicePage> {
    let db = app.store.read();
    let looked = look_up(app, db, permitted, plan).await?;
    let reason = |prospect: &Prospect| match verdict(prospect, &looked.needs) {
        Verdict::Starts => None,
        Verdict::Waits(reason) | Verdict::Refuses(reason) => Some(reason),
    };
    let mut wanted = db.prospects(&looked.matching).await?;
    if let Some(code) = code {
        wanted.retain(|(prospect, _)| reason(prospect).is_some_and(|reason| reason.code == code));
    }
    let total = wanted.iter().map(|(_, devices)| devices).sum();
    let kinds: Vec<Prospect> = wanted.into_iter().map(|(prospect, _)| prospect).collect();
    let (devices, is_more) = db.prospect_devices(&looked.matching, &kinds, after, limit).await?;
    let told = devices.into_iter().map(|device| {
        let reason = reason(&device.prospect);
        (device, reason)
    });
    Ok(DevicePage { devices: told.collect(), is_more, total })
}

async fn look_up<C: ConnectionTrait>(
    app: &App,
    db: &Db<C>,
    permitted: &Permitted,
    plan: &Plan,
) -> Result<Looked, WorkError> {
    let (flow, uuid, terms, field) = match plan {
        Plan::Stored(order) => {
            let stored = stored_flow(db, permitted, order).await?;
            (stored.flow, Some(stored.uuid), &order.terms, order.flow_field)
        }
        Plan::Given(flow, terms) => ((**flow).clone(), None, terms, "flow_document"),
    };
    let settled = settle(app, db, permitted, &flow, terms).await?;
    let matching = db.resolve(permitted.fleet(), &terms.filter).await.map_err(in_filter)?;
    Ok(Looked { needs: Needs::of(&flow), flow, uuid, field, settled, matching })
}

/// A reason, the ways to stand that come to it, and the number of devices.
type Kinds = Vec<(Reason, Vec<Prospect>, u64)>;

fn add(kinds: &mut Kinds, reason: Reason, prospect: Prospect, devices: u64) {
    match kinds.iter_mut().find(|(known, ..)| *known == reason) {
        Some((_, prospects, count)) => {
            prospects.push(prospect);
            *count += devices;
        }
        None => kinds.push((reason, vec![prospect], devices)),
    }
}

/// The most first; a statement for each reason.
async fn with_devices<C: ConnectionTrait>(db: &Db<C>, matching: &Matching, mut kinds: Kinds) -> Result<Vec<Share>> {
    kinds.sort_by(|(one, _, of_one), (other, _, of_other)| (of_other, &one.code).cmp(&(of_one, &other.code)));
    let mut shares = Vec::with_capacity(kinds.len());
    for (reason, prospects, count) in kinds {
        let (devices, _) = db.prospect_devices(matching, &prospects, None, PREVIEW_SAMPLE).await?;
        shares.push(Share { reason, count, devices });
    }
    Ok(shares)
}
