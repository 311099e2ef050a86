//! What a device filter means for a deployment, without making it.

use muster_core::filter::DeviceFilter;
use muster_core::limits::DRY_RUN_SAMPLE;
use muster_core::target::Reason;
use muster_store::StoreError;
use muster_store::devices::Device;

use super::deployments::{Order, settle, stored_flow};
use super::prospects::{Needs, Verdict, verdict};
use crate::access::Permitted;
use crate::app::App;
use crate::error::Result;

/// What a deployment would do.
#[derive(Clone, Debug)]
pub struct DryRun {
    /// How many devices match.
    pub matching: u64,
    /// How many would be told to begin at once.
    pub would_start: u64,
    /// How many would wait, for each reason.
    pub would_wait: Vec<(Reason, u64)>,
    /// How many cannot run the update flow, for each reason.
    pub refused: Vec<(Reason, u64)>,
    /// Some of the matching devices, those that enrolled first.
    pub sample: Vec<Device>,
}

/// What a deployment to `filter` would do, by the same words and the same rules as if
/// it were made. `order` is looked up as well where there is one. `within` says what the
/// filter is called in the request.
pub async fn dry_run(
    app: &App,
    permitted: &Permitted,
    filter: &DeviceFilter,
    order: Option<&Order>,
    within: impl Fn(StoreError) -> StoreError,
) -> Result<DryRun> {
    let db = app.store.read();
    let needs = match order {
        Some(order) => {
            let flow = stored_flow(db, permitted, order).await?.flow;
            settle(app, db, permitted, &flow, &order.terms).await?;
            Needs::of(&flow)
        }
        None => Needs::default(),
    };
    let matching = db.resolve(permitted.fleet(), filter).await.map_err(within)?;
    let (sample, _) = db.devices_page(&matching, None, DRY_RUN_SAMPLE).await?;
    let mut run = DryRun { matching: 0, would_start: 0, would_wait: Vec::new(), refused: Vec::new(), sample };
    for (prospect, devices) in db.prospects(&matching).await? {
        run.matching += devices;
        match verdict(&prospect, &needs) {
            Verdict::Starts => run.would_start += devices,
            Verdict::Waits(reason) => add(&mut run.would_wait, reason, devices),
            Verdict::Refuses(reason) => add(&mut run.refused, reason, devices),
        }
    }
    for counts in [&mut run.would_wait, &mut run.refused] {
        counts.sort_by(|(one, _), (other, _)| one.code.cmp(&other.code));
    }
    Ok(run)
}

fn add(counts: &mut Vec<(Reason, u64)>, reason: Reason, devices: u64) {
    match counts.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, known)) => *known += devices,
        None => counts.push((reason, devices)),
    }
}
