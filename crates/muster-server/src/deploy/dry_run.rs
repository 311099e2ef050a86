//! What a deployment would do, without making it.

use muster_core::filter::DeviceFilter;
use muster_core::limits::DRY_RUN_SAMPLE;
use muster_core::target::{Reason, TargetStatus};
use muster_store::StoreError;
use muster_store::devices::Device;

use super::deployments::{Order, new_deployment};
use super::standing::{STARTING, why};
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
    if let Some(order) = order {
        new_deployment(app, db, permitted, order).await?;
    }
    let matching = db.resolve(permitted.fleet(), filter).await.map_err(within)?;
    let (sample, _) = db.devices_page(&matching, None, DRY_RUN_SAMPLE).await?;
    let mut run = DryRun { matching: 0, would_start: 0, would_wait: Vec::new(), sample };
    for (standing, devices) in db.prospects(&matching).await? {
        run.count(why(TargetStatus::Pending, standing), devices);
    }
    run.would_wait.sort_by(|(one, _), (other, _)| one.code.cmp(&other.code));
    Ok(run)
}

impl DryRun {
    fn count(&mut self, reason: Option<Reason>, devices: u64) {
        self.matching += devices;
        match reason {
            Some(reason) if reason.code != STARTING => {
                match self.would_wait.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, known)) => *known += devices,
                    None => self.would_wait.push((reason, devices)),
                }
            }
            _ => self.would_start += devices,
        }
    }
}
