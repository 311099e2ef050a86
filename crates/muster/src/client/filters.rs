//! `muster filters`: filters with a name, and what a filter would match.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::deployments::OrderDetails;
use super::failure::Failure;
use super::filter::FilterArgs;
use super::output::ListArgs;
use super::pages::Pages;
use super::prompt::Consent;
use super::session::Session;
use super::table::{Column, column};

/// What can be done with device filters.
#[derive(Subcommand)]
pub(crate) enum FiltersCommand {
    /// List the saved filters of the fleet
    List(ListArgs),
    /// Keep a filter under a name
    Save {
        /// The name
        name: String,
        #[command(flatten)]
        which: FilterArgs,
        /// Every device of the fleet
        #[arg(long)]
        all: bool,
        /// For people
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Put it in the place of the one that has this name
        #[arg(long)]
        replace: bool,
    },
    /// Show a saved filter; the filter itself is what --filter-json takes
    Show {
        /// The filter
        name: String,
    },
    /// Delete a saved filter
    Delete {
        /// The filter
        name: String,
        #[command(flatten)]
        consent: Consent,
    },
    /// Say what a filter matches, and what a deployment to it would do; nothing is changed
    Check {
        #[command(flatten)]
        which: FilterArgs,
        /// Every device of the fleet
        #[arg(long)]
        all: bool,
        /// Check as if this update flow were deployed
        #[arg(long)]
        flow: Option<String>,
        #[command(flatten)]
        more: OrderDetails,
    },
}

const FILTERS: &[Column] = &[
    column("FILTER", "name"),
    column("DESCRIPTION", "description"),
    column("CREATED", "created_time"),
    column("UPDATED", "updated_time"),
];
const CHECKED: &[Column] = &[column("MATCHING", "matching"), column("WOULD START", "would_start")];
const REASONS: &[Column] = &[column("DEVICES", "count"), column("CODE", "code"), column("REASON", "message")];
const SAMPLE: &[Column] = &[column("DEVICE", "device_uuid"), column("NAME", "device_name")];

pub(super) async fn run(command: FiltersCommand, session: &Session) -> Result<(), Failure> {
    use FiltersCommand as C;
    let (http, out, fleet) = (&session.http, &session.out, session.fleet()?);
    match command {
        C::List(list) => out.list(Pages::new(http.get(&[fleet, "filters"])?, "filters", list.limit()), FILTERS).await,
        C::Save { name, which, all, description, replace } => {
            let filter = which.chosen(session, all).await?;
            let body = json!({ "name": name, "description": description.unwrap_or_default(), "device_filter": filter });
            let call = if replace {
                http.call(Method::PUT, &[fleet, "filters", &name])?
            } else {
                http.post(&[fleet, "filters"])?
            };
            out.done(&call.json(&body).value().await?, &format!("saved the filter {name}"))
        }
        C::Show { name } => {
            let filter = http.get(&[fleet, "filters", &name])?.value().await?;
            out.object(&filter, FILTERS)?;
            out.text(&format!("\n{:#}", filter["device_filter"]))
        }
        C::Delete { name, consent } => {
            let call = http.delete(&[fleet, "filters", &name])?;
            consent.ask(&format!("Delete the filter {name}?"))?;
            out.done(&call.value().await?, &format!("deleted the filter {name}"))
        }
        C::Check { which, all, flow, more } => {
            let mut body = json!({ "device_filter": which.chosen(session, all).await? });
            if let Some(flow) = &flow {
                body["for"] = more.configuration_of(session, flow).await?;
            }
            show(session, &http.post(&[fleet, "filters", "dry-run"])?.json(&body).value().await?)
        }
    }
}

fn show(session: &Session, checked: &Value) -> Result<(), Failure> {
    let list = |key: &str| checked[key].as_array().map_or(&[] as &[Value], Vec::as_slice);
    session.out.object(checked, CHECKED)?;
    session.out.more("Would wait first", list("would_wait"), REASONS)?;
    session.out.more("Cannot take updates", list("refused"), REASONS)?;
    session.out.more("Some of them", list("sample"), SAMPLE)
}
