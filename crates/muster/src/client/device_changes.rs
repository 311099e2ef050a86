//! `muster devices set`, `tag` and `app`: each is one PATCH for each device.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::devices::{DEVICE, DEVICES};
use super::failure::Failure;
use super::session::Session;

/// Options of `muster devices set`.
#[derive(Args)]
#[command(group = ArgGroup::new("changes").required(true).multiple(true)
    .args(["name", "description", "address", "lat", "lng", "no_position", "group", "update_trigger"]))]
pub(crate) struct SetArgs {
    /// The devices
    #[arg(value_name = "DEVICE", required = true)]
    devices: Vec<String>,
    /// Another name
    #[arg(long)]
    name: Option<String>,
    /// Another description; may be empty
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Another postal address; may be empty
    #[arg(long, value_name = "TEXT")]
    address: Option<String>,
    /// Another latitude, in degrees
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true, requires = "lng")]
    lat: Option<f64>,
    /// Another longitude, in degrees
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true, requires = "lat")]
    lng: Option<f64>,
    /// Forget latitude and longitude
    #[arg(long, conflicts_with_all = ["lat", "lng"])]
    no_position: bool,
    /// Into another group of the fleet
    #[arg(long)]
    group: Option<String>,
    /// While it is on, the device gets no new updates
    #[arg(long, value_name = "ON|OFF")]
    update_trigger: Option<Switch>,
}

/// Whether something holds.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// What can be done with a device's tags.
#[derive(Subcommand)]
pub(crate) enum TagCommand {
    /// Put tags on a device; a new one is made
    Add(TagArgs),
    /// Take tags off a device
    Remove(TagArgs),
}

#[derive(Args)]
pub(crate) struct TagArgs {
    /// The device
    device: String,
    /// The tags
    #[arg(value_name = "TAG", required = true)]
    tags: Vec<String>,
}

/// What can be done with a device's apps.
#[derive(Subcommand)]
pub(crate) enum AppCommand {
    /// Say which versions of apps a device has
    Set {
        /// The device
        device: String,
        /// The apps, like firmware@1.2
        #[arg(value_name = "APP@VERSION", required = true, value_parser = app_version)]
        apps: Vec<(String, String)>,
    },
    /// Take apps off a device
    Remove {
        /// The device
        device: String,
        /// The apps
        #[arg(value_name = "APP", required = true)]
        apps: Vec<String>,
    },
}

/// `APP@VERSION`: the version follows the last `@`.
pub(super) fn app_version(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once('@') {
        Some((app, version)) if !app.is_empty() && !version.is_empty() => Ok((app.to_owned(), version.to_owned())),
        _ => Err("not APP@VERSION, like firmware@1.2".to_owned()),
    }
}

impl SetArgs {
    pub(super) async fn run(&self, session: &Session) -> Result<(), Failure> {
        let operations = self.operations();
        if let [device] = self.devices.as_slice() {
            return show(session, device, &operations).await;
        }
        let mut changed = Vec::new();
        for device in &self.devices {
            changed.push(patch(session, device, &operations).await?);
        }
        session.out.items(&changed, DEVICES)
    }

    fn operations(&self) -> Vec<Value> {
        let trigger = self.update_trigger.map(|switch| Value::from(switch == Switch::On));
        let replaced = [
            ("device_name", self.name.clone().map(Value::from)),
            ("description", self.description.clone().map(Value::from)),
            ("address", self.address.clone().map(Value::from)),
            ("lat", self.lat.map(Value::from)),
            ("lng", self.lng.map(Value::from)),
            ("group_name", self.group.clone().map(Value::from)),
            ("is_update_trigger_set", trigger),
        ];
        let replaced = replaced.into_iter().filter_map(|(path, value)| Some((path, value?)));
        let replaced = replaced.map(|(path, value)| operation("replace", path, &value));
        let removed = ["lat", "lng"].into_iter().filter(|_| self.no_position);
        replaced.chain(removed.map(|path| json!({ "op": "remove", "path": path }))).collect()
    }
}

impl TagCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<(), Failure> {
        let (op, args) = match self {
            Self::Add(args) => ("add", args),
            Self::Remove(args) => ("remove", args),
        };
        show(session, &args.device, &[operation(op, "tags", &json!(args.tags))]).await
    }
}

impl AppCommand {
    pub(super) async fn run(&self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Set { device, apps } => {
                let apps: Vec<Value> =
                    apps.iter().map(|(app, version)| json!({ "app_name": app, "version": version })).collect();
                show(session, device, &[operation("add", "apps", &json!(apps))]).await
            }
            Self::Remove { device, apps } => show(session, device, &[operation("remove", "apps", &json!(apps))]).await,
        }
    }
}

fn operation(op: &str, path: &str, value: &Value) -> Value {
    json!({ "op": op, "path": path, "value": value })
}

/// All of the operations or none; the device as it is then.
async fn patch(session: &Session, device: &str, operations: &[Value]) -> Result<Value, Failure> {
    let call = session.http.patch(&[session.fleet()?, "devices", device])?;
    call.json(&json!({ "operations": operations })).value().await
}

async fn show(session: &Session, device: &str, operations: &[Value]) -> Result<(), Failure> {
    session.out.object(&patch(session, device, operations).await?, DEVICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_its_version_behind_the_last_at() {
        assert_eq!(app_version("firmware@1.2"), Ok(("firmware".to_owned(), "1.2".to_owned())));
        assert_eq!(app_version("@scope/x@1"), Ok(("@scope/x".to_owned(), "1".to_owned())));
        for text in ["firmware", "firmware@", "@1.2", ""] {
            assert!(app_version(text).is_err(), "{text:?}");
        }
    }
}
