//! `muster deployments`.

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::device_changes::app_version;
use super::failure::Failure;
use super::filter::{FILTER_HEADING, FilterArgs};
use super::flows;
use super::output::ListArgs;
use super::pages::Pages;
use super::session::Session;
use super::table::{Column, column};
use super::watch::{self, FollowArgs};

/// What can be done with deployments.
#[derive(Subcommand)]
pub(crate) enum DeploymentsCommand {
    /// List the deployments of the fleet
    List(ListArgs),
    /// Send an update flow to devices
    Create(Box<CreateArgs>),
    /// Show one deployment
    Show {
        /// The deployment
        deployment: String,
    },
    /// List the devices of a deployment, and how each stands
    Devices {
        /// The deployment
        deployment: String,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show one device of a deployment, with the output of each step
    Device {
        /// The deployment
        deployment: String,
        /// The device
        device: String,
    },
    /// Abort a deployment, on every device or on one
    Abort {
        /// The deployment
        deployment: String,
        /// Only on this device
        #[arg(long, value_name = "DEVICE")]
        device: Option<String>,
    },
    /// Pause a deployment: no further device begins
    Pause {
        /// The deployment
        deployment: String,
    },
    /// Let a paused deployment go on
    Resume {
        /// The deployment
        deployment: String,
    },
    /// Try a deployment again where it failed
    Retry {
        /// The deployment
        deployment: String,
    },
    /// Wait until a deployment has ended on every device
    Watch {
        /// The deployment
        deployment: String,
        #[command(flatten)]
        follow: FollowArgs,
    },
}

/// Options of `muster deployments create`.
#[derive(Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    order: OrderArgs,
    #[command(flatten)]
    which: WhichArgs,
    /// Wait until it has ended on every device
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    follow: FollowArgs,
}

/// To which devices.
#[derive(Args)]
pub(crate) struct WhichArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only this device
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["group", "filter", "filter_json", "saved", "all"], help_heading = FILTER_HEADING)]
    device: Option<String>,
    /// Every device of the fleet
    #[arg(long, help_heading = FILTER_HEADING)]
    all: bool,
}

impl WhichArgs {
    /// The `device_filter` of the API; that every device is meant must be said.
    pub(super) async fn chosen(&self, session: &Session) -> Result<Value, Failure> {
        match &self.device {
            Some(uuid) => {
                let only = json!({ "type": "specific_device", "operand": "is", "value": uuid });
                Ok(json!({ "groups": [], "filters": [only] }))
            }
            None => self.filter.chosen(session, self.all).await,
        }
    }
}

/// What is deployed.
#[derive(Args)]
pub(crate) struct OrderArgs {
    /// The update flow: its uuid, or its name
    #[arg(long)]
    flow: String,
    #[command(flatten)]
    more: OrderDetails,
}

/// What else is said of a deployment.
#[derive(Args)]
pub(crate) struct OrderDetails {
    /// A value for an input of the flow; repeat it for several
    #[arg(long, value_name = "NAME=VALUE", value_parser = input)]
    input: Vec<(String, String)>,
    /// The app and version that a device has once it succeeded
    #[arg(long, value_name = "APP@VERSION", value_parser = app_version)]
    app: Option<(String, String)>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// How it goes over its devices, as the API has it: waves, budgets, a start
    #[arg(long, value_name = "JSON", value_parser = object)]
    rollout: Option<Value>,
    /// When its devices end by themselves, as the API has it
    #[arg(long, value_name = "JSON", value_parser = object)]
    deadlines: Option<Value>,
}

fn object(text: &str) -> Result<Value, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if value.is_object() { Ok(value) } else { Err("not a JSON object".to_owned()) }
}

fn input(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("not NAME=VALUE".to_owned()),
    }
}

impl OrderDetails {
    /// The `deployment_configuration` of the API, but for the flow.
    pub(super) fn configuration(&self) -> Value {
        let inputs = self.input.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        let mut order = json!({ "parameters_mapping": Value::Object(inputs.collect()) });
        if let Some((name, version)) = &self.app {
            order["app"] = json!({ "name": name, "version": version });
        }
        if let Some(comment) = &self.comment {
            order["comment"] = Value::from(comment.as_str());
        }
        for (name, words) in [("rollout", &self.rollout), ("deadlines", &self.deadlines)] {
            if let Some(words) = words {
                order[name] = words.clone();
            }
        }
        order
    }

    /// The same with the flow, which is given by uuid or by name.
    pub(super) async fn configuration_of(&self, session: &Session, flow: &str) -> Result<Value, Failure> {
        let mut order = self.configuration();
        order["flow_uuid"] = Value::from(flows::uuid(session, flow).await?);
        Ok(order)
    }
}

const DEPLOYMENTS: &[Column] = &[
    column("DEPLOYMENT", "deployment_uuid"),
    column("TYPE", "type"),
    column("CREATED", "created_time"),
    column("COMMENT", "comment"),
];
const TARGETS: &[Column] = &[
    column("DEVICE", "device_uuid"),
    column("STATUS", "status"),
    column("STARTED", "started_time"),
    column("FINISHED", "finished_time"),
];
const TARGET: &[Column] = &[
    column("STATUS", "status"),
    column("STARTED", "started_time"),
    column("FINISHED", "finished_time"),
    column("REASON", "reason"),
    column("REASON CODE", "reason_code"),
    column("DEADLINE", "deadline_time"),
];

pub(super) async fn run(command: DeploymentsCommand, session: &Session) -> Result<(), Failure> {
    let (http, out, fleet) = (&session.http, &session.out, session.fleet()?);
    match command {
        DeploymentsCommand::List(list) => {
            let call = http.get(&[fleet, "deployments"])?;
            out.list(Pages::new(call, "deployments", list.limit()), DEPLOYMENTS).await
        }
        DeploymentsCommand::Create(args) => create(session, &args).await,
        DeploymentsCommand::Show { deployment } => {
            show(session, &http.get(&[fleet, "deployments", &deployment])?.value().await?)
        }
        DeploymentsCommand::Devices { deployment, list } => list_targets(session, &deployment, list.limit()).await,
        DeploymentsCommand::Device { deployment, device } => show_target(session, &deployment, &device).await,
        DeploymentsCommand::Abort { deployment, device } => abort(session, &deployment, device.as_deref()).await,
        DeploymentsCommand::Pause { deployment } => change(session, &deployment, "pause").await,
        DeploymentsCommand::Resume { deployment } => change(session, &deployment, "resume").await,
        DeploymentsCommand::Retry { deployment } => {
            let retried = http.post(&[fleet, "deployments", &deployment, "retry_failed"])?.value().await?;
            out.done(&retried, &format!("trying again on {} devices", retried["retried"]))
        }
        DeploymentsCommand::Watch { deployment, follow } => {
            let followed = watch(session, &deployment, &follow).await;
            if out.is_json() && !matches!(followed, Err(ref failure) if !failure.is_outcome()) {
                list_targets(session, &deployment, None).await?;
            }
            followed
        }
    }
}

/// A deployment; below it, where it has them, its waves.
fn show(session: &Session, deployment: &Value) -> Result<(), Failure> {
    session.out.object(deployment, DEPLOYMENTS)?;
    let rollout = &deployment["rollout"];
    if session.out.is_json() || rollout.is_null() {
        return Ok(());
    }
    let word = |key: &str| rollout[key].as_str().unwrap_or_default();
    session.out.text(&format!("\nRollout: {}, at wave {}", word("status"), rollout["wave"]))?;
    if !rollout["next_wave_time"].is_null() {
        session.out.text(&format!("  the next wave begins at {}", word("next_wave_time")))?;
    }
    for (number, wave) in (1..).zip(rollout["waves"].as_array().into_iter().flatten()) {
        let counts = ["waiting", "in_progress", "succeeded", "failed", "ended_otherwise"];
        let counts = counts.map(|key| format!("{} {}", wave[key], key.replace('_', " ")));
        session.out.text(&format!("  wave {number}: {}", counts.join(", ")))?;
    }
    Ok(())
}

async fn change(session: &Session, deployment: &str, what: &str) -> Result<(), Failure> {
    let call = session.http.post(&[session.fleet()?, "deployments", deployment, what])?;
    show(session, &call.value().await?)
}

async fn create(session: &Session, args: &CreateArgs) -> Result<(), Failure> {
    let filter = args.which.chosen(session).await?;
    let order = args.order.more.configuration_of(session, &args.order.flow).await?;
    let body = json!({ "device_filter": filter, "deployment_configuration": order });
    let made = session.http.post(&[session.fleet()?, "deployments"])?.json(&body).value().await?;
    let deployment = made["deployment_uuid"].as_str().unwrap_or_default();
    // The bare uuid: `muster deployments watch "$(muster deployments create …)"`.
    session.out.done(&made, deployment)?;
    if args.wait { watch(session, deployment, &args.follow).await } else { Ok(()) }
}

async fn list_targets(session: &Session, deployment: &str, limit: Option<u64>) -> Result<(), Failure> {
    let call = session.http.get(&[session.fleet()?, "deployments", deployment, "devices"])?;
    session.out.list(Pages::new(call, "deployment_by_device_uuid", limit), TARGETS).await
}

async fn watch(session: &Session, deployment: &str, args: &FollowArgs) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let follow = watch::follow(session, deployment, args.how());
    watch::until_interrupted(&mut interrupt, deployment, follow).await
}

async fn show_target(session: &Session, deployment: &str, device: &str) -> Result<(), Failure> {
    let call = session.http.get(&[session.fleet()?, "deployments", deployment, "devices", device])?;
    let target = call.query("enrich_info", "true").value().await?;
    session.out.object(&target, TARGET)?;
    if session.out.is_json() {
        return Ok(());
    }
    for step in target["steps"].as_array().into_iter().flatten() {
        show_step(session, step)?;
    }
    Ok(())
}

fn show_step(session: &Session, step: &Value) -> Result<(), Failure> {
    let exit = step["exit_code"].as_i64().map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
    session.out.text(&format!("\nStep {}: {exit}", step["name"].as_str().unwrap_or_default()))?;
    for stream in ["stdout", "stderr"] {
        let text = step[stream].as_str().unwrap_or_default();
        if !text.is_empty() {
            let indented: Vec<String> = text.lines().map(|line| format!("    {line}")).collect();
            session.out.text(&format!("  {stream}:\n{}", indented.join("\n")))?;
        }
    }
    Ok(())
}

async fn abort(session: &Session, deployment: &str, device: Option<&str>) -> Result<(), Failure> {
    let fleet = session.fleet()?;
    let call = match device {
        Some(device) => session.http.post(&[fleet, "deployments", deployment, "devices", device, "abort"])?,
        None => session.http.post(&[fleet, "deployments", deployment, "abort"])?,
    };
    let answer = call.value().await?;
    session.out.done(&answer, answer["message"].as_str().unwrap_or("the abort is on its way"))
}
