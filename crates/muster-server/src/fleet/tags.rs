//! Tags of many devices at once.

use muster_core::filter::DeviceFilter;
use muster_core::invalid::Invalid;
use muster_core::names::TagName;
use serde_json::json;

use crate::access::Permitted;
use crate::app::App;
use crate::error::{Result, WorkError};

/// Takes a tag off every device that matches, in one transaction, and says off
/// how many. The tag stays in the catalogue.
pub async fn untag(app: &App, permitted: &Permitted, tag: &TagName, filter: &DeviceFilter) -> Result<u64> {
    let work = app.store.write(|tx| async move {
        let fleet = permitted.fleet();
        let tag_id = tx.find_tag(fleet.account_id, tag).await?;
        let tag_id = tag_id.ok_or_else(|| Invalid::unknown("tag_name", "tag", tag.as_str()))?;
        let matching = tx.resolve(fleet, filter).await.map_err(in_filter)?;
        let untagged = tx.untag_matching(tag_id, &matching).await?;
        tx.audit(&permitted.event(format!("tag:{tag}"), json!({ "devices": untagged }))).await?;
        Ok::<_, WorkError>(untagged)
    });
    Ok(work.await?)
}

/// A refusal of a device filter, with the name that the filter has in requests.
pub(crate) fn in_filter(error: muster_store::StoreError) -> muster_store::StoreError {
    match error {
        muster_store::StoreError::Invalid(invalid) => invalid.within("device_filter").into(),
        other => other,
    }
}
