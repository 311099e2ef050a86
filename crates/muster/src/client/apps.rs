//! `muster apps`.

use clap::Subcommand;
use serde_json::json;

use super::failure::Failure;
use super::output::ListArgs;
use super::pages::Pages;
use super::prompt::Consent;
use super::session::Session;
use super::table::{Column, column};

/// What can be done with the account's apps. To say what a device has: muster devices app.
#[derive(Subcommand)]
pub(crate) enum AppsCommand {
    /// List the apps of the account
    List(ListArgs),
    /// Make an app
    Create {
        /// Its name
        name: String,
    },
    /// Give an app another name
    Rename {
        /// The app
        app: String,
        /// Its new name
        name: String,
    },
    /// Delete an app that no device has
    Delete {
        /// The app
        app: String,
        /// Take it off the devices that have it
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        consent: Consent,
    },
    /// List the versions of an app
    Versions {
        /// The app
        app: String,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Make a version of an app
    AddVersion {
        /// The app
        app: String,
        /// The version
        version: String,
    },
    /// Delete a version of an app that no device has
    DeleteVersion {
        /// The app
        app: String,
        /// The version
        version: String,
        /// Take the app off the devices that have this version
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        consent: Consent,
    },
}

const APPS: &[Column] = &[
    column("APP", "name"),
    column("VERSIONS", "version_count"),
    column("DEVICES", "device_count"),
    column("CREATED", "created_time"),
];
const VERSIONS: &[Column] =
    &[column("VERSION", "version"), column("DEVICES", "device_count"), column("CREATED", "created_time")];

pub(super) async fn run(command: AppsCommand, session: &Session) -> Result<(), Failure> {
    let (http, out) = (&session.http, &session.out);
    match command {
        AppsCommand::List(list) => {
            out.list(Pages::new(http.get(&["account", "apps"])?, "apps", list.limit()), APPS).await
        }
        AppsCommand::Create { name } => {
            let made = http.post(&["account", "apps"])?.json(&json!({ "name": name })).value().await?;
            out.done(&made, &format!("created the app {name}"))
        }
        AppsCommand::Rename { app, name } => {
            let call = http.patch(&["account", "apps", &app])?;
            let renamed = call.json(&json!({ "name": name })).value().await?;
            out.done(&renamed, &format!("renamed the app {app} to {name}"))
        }
        AppsCommand::Delete { app, force, consent } => {
            let call = http.delete(&["account", "apps", &app])?.maybe("force", force.then_some("true"));
            consent.ask(&format!("Delete the app {app}{}?", off_devices(force)))?;
            out.done(&call.value().await?, &format!("deleted the app {app}"))
        }
        AppsCommand::Versions { app, list } => {
            let call = http.get(&["account", "apps", &app, "versions"])?;
            out.list(Pages::new(call, "versions", list.limit()), VERSIONS).await
        }
        AppsCommand::AddVersion { app, version } => {
            let call = http.post(&["account", "apps", &app, "versions"])?;
            let made = call.json(&json!({ "version": version })).value().await?;
            out.done(&made, &format!("created version {version} of the app {app}"))
        }
        AppsCommand::DeleteVersion { app, version, force, consent } => {
            let call = http.delete(&["account", "apps", &app, "versions", &version])?;
            consent.ask(&format!("Delete version {version} of the app {app}{}?", off_devices(force)))?;
            let answer = call.maybe("force", force.then_some("true")).value().await?;
            out.done(&answer, &format!("deleted version {version} of the app {app}"))
        }
    }
}

const fn off_devices(is_forced: bool) -> &'static str {
    if is_forced { ", and take it off the devices that have it" } else { "" }
}
