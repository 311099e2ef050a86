//! The same lists as a person would type them.

use muster_core::ids::RowId;

use super::PAGE;
use super::cases::Case;

/// A page with one more row, which tells whether there is another page.
pub(super) fn page(case: &Case, after: Option<RowId>) -> String {
    format!(
        "SELECT d.id, d.uuid, d.account_id, d.fleet_id, d.name, d.description, d.address, d.lat, d.lng,
            d.is_update_trigger_set, d.agent_version, d.mac_addresses, d.registered_at, d.has_agent,
            d.capabilities, d.told_heartbeat_ms, p.last_keepalive_at,
            p.online_until_at, p.device_ip, p.cpu_percent, p.ram_percent, p.disk_used_bytes, p.disk_size_bytes,
            f.name AS fleet_name, g.name AS group_name
         FROM devices d
         JOIN device_presence p ON p.device_id = d.id
         JOIN fleets f ON f.id = d.fleet_id
         JOIN groups g ON g.id = d.group_id
         WHERE {} ORDER BY d.id LIMIT {}",
        behind(case, after),
        PAGE + 1
    )
}

/// The tags of a page's devices.
pub(super) fn tags(case: &Case, after: Option<RowId>) -> String {
    format!(
        "SELECT dt.device_id, t.name FROM device_tags dt JOIN tags t ON t.id = dt.tag_id
         WHERE dt.device_id IN (SELECT d.id FROM devices d WHERE {} ORDER BY d.id LIMIT {PAGE})
         ORDER BY dt.device_id, dt.tag_id",
        behind(case, after)
    )
}

pub(super) fn total(case: &Case) -> String {
    format!("SELECT count(*) FROM devices d WHERE {}", case.by_hand)
}

/// One row if it is that, otherwise none.
pub(super) fn total_is(case: &Case, total: u64) -> String {
    format!("SELECT 1 FROM ({}) AS counted WHERE count = {total}", self::total(case))
}

fn behind(case: &Case, after: Option<RowId>) -> String {
    let after = after.map(|after| format!(" AND d.id > {after}")).unwrap_or_default();
    format!("{}{after}", case.by_hand)
}
