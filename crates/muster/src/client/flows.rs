//! `muster flows`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use serde_json::Value;

use super::failure::Failure;
use super::output::{ListArgs, bytes};
use super::pages::Pages;
use super::prompt::all_of_stdin;
use super::session::Session;
use super::table::{Column, column};

/// What can be done with update flows.
#[derive(Subcommand)]
pub(crate) enum FlowsCommand {
    /// List the update flows of the fleet
    List(ListArgs),
    /// Make the flows of a document
    Create {
        /// The document, in YAML; - for standard input
        file: PathBuf,
    },
    /// Print the document that a flow came in
    Show {
        /// The flow: its uuid, or its name
        flow: String,
    },
}

const FLOWS: &[Column] = &[
    column("FLOW", "uuid"),
    column("NAME", "name"),
    column("INPUTS", "update_parameters"),
    column("CREATED", "created_time"),
];
const CREATED: &[Column] = &[column("FLOW", "uuid"), column("NAME", "name")];

pub(super) async fn run(command: FlowsCommand, session: &Session) -> Result<(), Failure> {
    let (http, out, fleet) = (&session.http, &session.out, session.fleet()?);
    match command {
        FlowsCommand::List(list) => {
            let call = http.get(&[fleet, "update-flows"])?;
            out.list(Pages::new(call, "update_flows", list.limit()), FLOWS).await
        }
        FlowsCommand::Create { file } => {
            let made = http.post(&[fleet, "update-flows"])?.yaml(read(&file)?).value().await?;
            if out.is_json() {
                return out.done(&made, "");
            }
            out.items(made["update_flows"].as_array().map_or(&[], Vec::as_slice), CREATED)
        }
        FlowsCommand::Show { flow } => {
            let uuid = uuid(session, &flow).await?;
            // The document itself is what the API answers; it is YAML for programs too.
            bytes(http.get(&[fleet, "update-flows", &uuid])?.text().await?.as_bytes())
        }
    }
}

fn read(file: &PathBuf) -> Result<String, Failure> {
    if file.as_os_str() == "-" {
        return all_of_stdin();
    }
    Ok(std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?)
}

/// The uuids of the flows of that name, the newest first.
pub(super) async fn uuids(session: &Session, name: &str) -> Result<Vec<String>, Failure> {
    let call = session.http.get(&[session.fleet()?, "update-flows"])?;
    let flows = Pages::new(call, "update_flows", None).all().await?;
    Ok(uuids_named(&flows, name).into_iter().map(str::to_owned).collect())
}

/// The uuid of a flow that was given by uuid or by name.
pub(super) async fn uuid(session: &Session, flow: &str) -> Result<String, Failure> {
    if flow.parse::<muster_core::ids::FlowUuid>().is_ok() {
        return Ok(flow.to_owned());
    }
    let mut named = uuids(session, flow).await?;
    match named.as_mut_slice() {
        [uuid] => Ok(std::mem::take(uuid)),
        [] => {
            Err(Failure::Api { status: 404, code: String::new(), message: format!("there is no update flow {flow:?}") })
        }
        several => Err(Failure::Usage(format!("there are several flows {flow:?}: {}", several.join(", ")))),
    }
}

fn uuids_named<'a>(flows: &'a [Value], name: &str) -> Vec<&'a str> {
    flows.iter().filter(|flow| flow["name"] == name).filter_map(|flow| flow["uuid"].as_str()).collect()
}
