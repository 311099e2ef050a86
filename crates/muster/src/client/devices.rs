//! `muster devices`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::device_changes::{AppCommand, SetArgs, TagCommand};
use super::failure::Failure;
use super::filter::FilterArgs;
use super::output::ListArgs;
use super::pages::Pages;
use super::prompt::Consent;
use super::session::Session;
use super::table::{Column, column};

/// What can be done with devices. A device is named by its uuid.
#[derive(Subcommand)]
pub(crate) enum DevicesCommand {
    /// List devices, by default all of the fleet
    List {
        #[command(flatten)]
        which: FilterArgs,
        /// Only devices with this tag; repeat it for devices with any of several
        #[arg(long, value_name = "TAG")]
        tag: Vec<String>,
        /// With tags, versions and addresses
        #[arg(long)]
        wide: bool,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show one device with its tags, apps and last updates
    Get {
        /// The device
        device: String,
    },
    /// Change devices: all that is given, or nothing
    Set(SetArgs),
    /// Tags of a device
    #[command(subcommand)]
    Tag(TagCommand),
    /// Apps of a device
    #[command(subcommand)]
    App(AppCommand),
    /// Move a device to another fleet or group
    Move {
        /// The device
        device: String,
        /// Key of the other fleet; by default it stays in its own
        #[arg(long, value_name = "KEY")]
        to_fleet: Option<String>,
        /// Group there
        #[arg(long, value_name = "GROUP")]
        to_group: String,
    },
    /// Delete devices for good: one, or every one that a filter matches
    Delete {
        /// The device
        #[arg(conflicts_with_all = ["group", "filter", "filter_json", "saved", "all"])]
        device: Option<String>,
        #[command(flatten)]
        which: FilterArgs,
        /// Every device of the fleet
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        consent: Consent,
    },
    /// List the devices that were deleted
    Deleted(ListArgs),
    /// Let a deleted device come back
    Forget {
        /// The device
        device: String,
    },
}

pub(super) const DEVICES: &[Column] = &[
    column("DEVICE", "device_uuid"),
    column("NAME", "device_name"),
    column("GROUP", "group_name"),
    column("STATUS", "device_status"),
    column("LAST KEEPALIVE", "last_keepalive"),
];
const DEVICES_WIDE: &[Column] = &[
    column("DEVICE", "device_uuid"),
    column("NAME", "device_name"),
    column("GROUP", "group_name"),
    column("STATUS", "device_status"),
    column("LAST KEEPALIVE", "last_keepalive"),
    column("TAGS", "tags.names"),
    column("TRIGGER", "is_update_trigger_set"),
    column("AGENT", "agent_version"),
    column("ADDRESS", "device_ip"),
    column("DESCRIPTION", "description"),
];
pub(super) const DEVICE: &[Column] = &[
    column("DEVICE", "device_uuid"),
    column("NAME", "device_name"),
    column("DESCRIPTION", "description"),
    column("FLEET", "project"),
    column("GROUP", "group_name"),
    column("STATUS", "device_status"),
    column("LAST KEEPALIVE", "last_keepalive"),
    column("UPDATE TRIGGER", "is_update_trigger_set"),
    column("TAGS", "tags"),
    column("APPS", "apps"),
    column("ADDRESS", "address"),
    column("LATITUDE", "lat"),
    column("LONGITUDE", "lng"),
    column("IP ADDRESS", "device_ip"),
    column("MAC ADDRESSES", "mac_address"),
    column("AGENT", "agent_version"),
    column("REGISTERED", "registered_date"),
    column("CPU %", "cpu_usage"),
    column("RAM %", "ram_usage"),
    column("DISK USED MB", "current_disk_usage"),
    column("DISK MB", "disk_size"),
];
const UPDATES: &[Column] = &[
    column("FLOW", "flow_name"),
    column("STATUS", "update_status"),
    column("STARTED", "deployment_start_time"),
    column("FINISHED", "deployment_finish_time"),
    column("COMMENT", "comment"),
];
const DELETED: &[Column] =
    &[column("DEVICE", "device_uuid"), column("NAME", "device_name"), column("DELETED", "deleted_at")];

pub(super) async fn run(command: DevicesCommand, session: &Session) -> Result<(), Failure> {
    match command {
        DevicesCommand::List { which, tag, wide, list } => self::list(session, &which, &tag, wide, &list).await,
        DevicesCommand::Get { device } => get(session, &device).await,
        DevicesCommand::Set(args) => args.run(session).await,
        DevicesCommand::Tag(command) => command.run(session).await,
        DevicesCommand::App(command) => command.run(session).await,
        DevicesCommand::Move { device, to_fleet, to_group } => {
            relocate(session, &device, to_fleet.as_deref(), &to_group).await
        }
        DevicesCommand::Delete { device: Some(device), consent, .. } => delete(session, &device, &consent).await,
        DevicesCommand::Delete { device: None, which, all, consent } => {
            delete_many(session, &which.chosen(session, all).await?, &consent).await
        }
        DevicesCommand::Deleted(list) => {
            let call = session.http.get(&[session.fleet()?, "deleted-devices"])?;
            session.out.list(Pages::new(call, "deleted_devices", list.limit()), DELETED).await
        }
        DevicesCommand::Forget { device } => {
            let call = session.http.post(&[session.fleet()?, "deleted-devices", &device, "forget"])?;
            session.out.done(&call.value().await?, &format!("{device} may come back"))
        }
    }
}

async fn list(
    session: &Session,
    which: &FilterArgs,
    tags: &[String],
    is_wide: bool,
    list: &ListArgs,
) -> Result<(), Failure> {
    let mut call = session.http.get(&[session.fleet()?, "devices"])?.query("enrich_info", "true");
    if let Some(group) = which.only_group() {
        call = call.query("group_name", group);
    } else if !which.is_empty() {
        call = call.query("device_filter", &which.device_filter(session).await?.to_string());
    }
    for tag in tags {
        call = call.query("tags", tag);
    }
    let columns = if is_wide { DEVICES_WIDE } else { DEVICES };
    session.out.list(Pages::new(call, "devices", list.limit()), columns).await
}

async fn get(session: &Session, device: &str) -> Result<(), Failure> {
    let call = session.http.get(&[session.fleet()?, "devices", device])?.query("enrich_info", "true");
    let device = call.value().await?;
    session.out.object(&device, DEVICE)?;
    session.out.more("Last updates", device["updates"].as_array().map_or(&[], Vec::as_slice), UPDATES)
}

async fn relocate(session: &Session, device: &str, key: Option<&str>, group: &str) -> Result<(), Failure> {
    let key = key.map_or_else(|| session.fleet(), Ok)?;
    let body = json!({ "destination_project_key": key, "destination_group_name": group });
    let answer = session.http.post(&[session.fleet()?, "devices", device, "move"])?.json(&body).value().await?;
    session.out.done(&answer, &format!("moved {device}"))
}

async fn delete(session: &Session, device: &str, consent: &Consent) -> Result<(), Failure> {
    let path = [session.fleet()?, "devices", device];
    let found = session.http.get(&path)?.value().await?;
    let name = found["device_name"].as_str().unwrap_or_default();
    consent.ask(&format!("Delete the device {device} ({name}) for good?"))?;
    session.out.done(&session.http.delete(&path)?.value().await?, &format!("deleted {device}"))
}

/// Only if as many devices match as were shown: another number means that something
/// has changed since the person agreed.
async fn delete_many(session: &Session, filter: &Value, consent: &Consent) -> Result<(), Failure> {
    let fleet = session.fleet()?;
    let body = json!({ "device_filter": filter });
    let count = session.http.post(&[fleet, "filters", "dry-run"])?.json(&body).value().await?["matching"].clone();
    consent.ask(&format!("Delete {count} devices of the fleet {fleet} for good?"))?;
    let body = json!({ "device_filter": filter, "expected_count": count });
    let answer = session.http.post(&[fleet, "devices", "delete"])?.json(&body).value().await?;
    session.out.done(&answer, &format!("deleted {} devices", answer["deleted"]))
}
