//! What `status` shows.

use serde::Serialize;

use crate::files::read_json;
use crate::link::status::LinkStatus;
use crate::state::{Enrolment, StateDir, StateError};

/// The whole of it, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    enrolment: Enrolment,
    /// Whether an agent runs at this moment.
    is_running: bool,
    /// Whether its link is up.
    is_connected: bool,
    /// When the link was last known to be up, in milliseconds since 1970.
    last_connected_at: Option<i64>,
    last_error: Option<String>,
}

/// The device, its agent and its link, as text or as JSON.
pub(crate) fn show(state: &StateDir, is_json: bool) -> Result<String, StateError> {
    let enrolment = state.enrolment()?;
    let is_running = matches!(state.lock(), Err(StateError::InUse(_)));
    let found =
        read_json(&state.status_file()).map_err(|source| StateError::Io { path: state.status_file(), source })?;
    let link: LinkStatus = found.unwrap_or_default();
    let shown = Shown {
        enrolment,
        is_running,
        // An agent that was killed had no time to write that its link is gone.
        is_connected: is_running && link.is_connected,
        last_connected_at: Some(link.last_connected_at.as_millis()).filter(|millis| *millis > 0),
        last_error: link.last_error.clone(),
    };
    let json = |error: serde_json::Error| StateError::Io { path: state.status_file(), source: error.into() };
    if is_json {
        return serde_json::to_string_pretty(&shown).map(|text| text + "\n").map_err(json);
    }
    Ok(text(&shown, &link))
}

fn text(shown: &Shown, link: &LinkStatus) -> String {
    let Enrolment { server, device_uuid, name, group, .. } = &shown.enrolment;
    let agent = if shown.is_running { "running" } else { "not running" };
    let up = if shown.is_connected { "up" } else { "down" };
    let mut lines = vec![
        format!("Device  {name} ({device_uuid}), group {group}"),
        format!("Server  {server}"),
        format!("Agent   {agent}"),
        format!("Link    {up}"),
    ];
    if shown.last_connected_at.is_some() {
        lines.push(format!("Last up {}", link.last_connected_at.to_rfc3339()));
    }
    lines.extend(shown.last_error.iter().map(|error| format!("Error   {error}")));
    lines.join("\n") + "\n"
}
