//! `muster deploy`: from a flow to its last device. Shows what would happen, asks, makes
//! the deployment, follows it, and says what failed and how.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use rand::TryRng;
use rand::rngs::SysRng;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::deployments::{OrderDetails, WhichArgs};
use super::failure::Failure;
use super::flows;
use super::output::line;
use super::preview;
use super::prompt::{Consent, all_of_stdin};
use super::session::{Common, Session};
use super::watch::{self, Follow, FollowArgs};

/// Options of `muster deploy`.
#[derive(Args)]
pub(crate) struct DeployArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// The update flow: its uuid, its name, or a YAML file (*.yaml, *.yml, or - for standard input) that makes it
    #[arg(value_name = "FLOW|FILE")]
    flow: String,
    /// Which flow of the file, where it holds several
    #[arg(long, value_name = "NAME")]
    flow_name: Option<String>,
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    order: OrderDetails,
    #[command(flatten)]
    rollout: RolloutArgs,
    /// Only say what would happen
    #[arg(long, conflicts_with_all = ["no_wait", "yes"])]
    preview: bool,
    /// Do not wait for the devices
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    follow: FollowArgs,
    #[command(flatten)]
    consent: Consent,
}

const ROLLOUT: &str = "How it goes over its devices";

/// The parts of a rollout that are asked for most; `--rollout` has them all.
#[derive(Args)]
struct RolloutArgs {
    /// In waves, each of so many devices or a share of all: 1,10%; those that are left make one more
    #[arg(long, visible_alias = "wave", value_name = "N|N%", value_delimiter = ',', value_parser = share, conflicts_with = "rollout", help_heading = ROLLOUT)]
    waves: Vec<Value>,
    /// Watch each wave for so long before the next begins
    #[arg(long, value_name = "MINUTES", conflicts_with = "rollout", help_heading = ROLLOUT)]
    soak: Option<u64>,
    /// At most so many devices at once
    #[arg(long, value_name = "N", conflicts_with = "rollout", help_heading = ROLLOUT)]
    at_once: Option<u64>,
    /// So many devices may fail, or a share of all; one more pauses it
    #[arg(long, value_name = "N|N%", value_parser = share, conflicts_with = "rollout", help_heading = ROLLOUT)]
    failures_max: Option<Value>,
    /// Not before then, like 2025-06-09T14:10:44Z
    #[arg(long, value_name = "TIME", conflicts_with = "rollout", help_heading = ROLLOUT)]
    at: Option<String>,
}

/// `12` or `5%`, as the API has it.
fn share(text: &str) -> Result<Value, String> {
    let (digits, key) = match text.strip_suffix('%') {
        Some(percent) => (percent, "percent"),
        None => (text, "count"),
    };
    match digits.trim().parse::<u64>() {
        Ok(number) if key == "count" || number <= 100 => Ok(json!({ key: number })),
        _ => Err("not a number of devices, like 12, nor a share of them, like 5%".to_owned()),
    }
}

impl RolloutArgs {
    /// The `rollout` of the API; none where nothing was said.
    fn rollout(&self) -> Option<Value> {
        let mut rollout = json!({});
        // What is left makes the last wave by itself.
        let all = json!({ "percent": 100 });
        let waves = self.waves.strip_suffix(std::slice::from_ref(&all)).unwrap_or(&self.waves);
        if !waves.is_empty() {
            rollout["waves"] = Value::from(waves.to_vec());
        }
        let others = [
            ("soak_minutes", self.soak.map(Value::from)),
            ("in_progress_max", self.at_once.map(Value::from)),
            ("failures_max", self.failures_max.clone()),
            ("start_time", self.at.clone().map(Value::from)),
        ];
        for (key, value) in others.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            rollout[key] = value;
        }
        rollout.as_object().is_some_and(|parts| !parts.is_empty()).then_some(rollout)
    }
}

/// The flow of a deployment.
enum FlowOf {
    /// One that the server has.
    Stored(String),
    /// A document that may have to be made first.
    Document(String),
}

/// Deploys.
pub(super) async fn run(args: &DeployArgs) -> Result<(), Failure> {
    let session = &Session::open(&args.common)?;
    let mut body = json!({ "device_filter": args.which.chosen(session).await? });
    let mut configuration = args.order.configuration();
    if let Some(rollout) = args.rollout.rollout() {
        configuration["rollout"] = rollout;
    }
    body["deployment_configuration"] = configuration;
    let flow = flow_of(session, &args.flow).await?;
    let preview = previewed(session, &body, &flow, args.flow_name.as_deref()).await?;
    if args.preview {
        return tell_preview(session, &preview, true);
    }
    tell_preview(session, &preview, false)?;
    let devices = preview["matching"].as_u64().unwrap_or_default();
    if devices == 0 && body["deployment_configuration"]["rollout"]["follow_until"].is_null() {
        return Err(Failure::Other(anyhow::anyhow!("no device matches; nothing was deployed")));
    }
    args.consent.ask(&preview::question(&preview))?;
    body["deployment_configuration"]["flow_uuid"] = Value::from(made(session, flow, &preview).await?);
    // From before the deployment is there: what is interrupted then says how to go on.
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let deployment = create(session, &body).await?;
    if session.out.is_json() {
        line(&json!({ "event": "created", "deployment_uuid": deployment }).to_string())?;
    } else {
        session.out.text(&deployment)?;
    }
    if args.no_wait {
        return Ok(());
    }
    let how = Follow { is_events: session.out.is_json(), ..args.follow.how() };
    watch::until_interrupted(&mut interrupt, &deployment, watch::follow(session, &deployment, how)).await
}

async fn flow_of(session: &Session, words: &str) -> Result<FlowOf, Failure> {
    if words == "-" {
        return Ok(FlowOf::Document(all_of_stdin()?));
    }
    let ending = Path::new(words).extension().and_then(|ending| ending.to_str());
    if matches!(ending, Some("yaml" | "yml")) {
        let read = std::fs::read_to_string(words);
        return Ok(FlowOf::Document(read.with_context(|| format!("cannot read {words}"))?));
    }
    Ok(FlowOf::Stored(flows::uuid(session, words).await?))
}

async fn previewed(session: &Session, body: &Value, flow: &FlowOf, name: Option<&str>) -> Result<Value, Failure> {
    let mut body = body.clone();
    match flow {
        FlowOf::Stored(_) if name.is_some() => {
            return Err(Failure::Usage("--flow-name goes with a file".to_owned()));
        }
        FlowOf::Stored(uuid) => body["flow_uuid"] = Value::from(uuid.as_str()),
        FlowOf::Document(document) => {
            body["flow_document"] = Value::from(document.as_str());
            if let Some(name) = name {
                body["flow_name"] = Value::from(name);
            }
        }
    }
    session.http.post(&[session.fleet()?, "deployments", "preview"])?.json(&body).value().await
}

fn tell_preview(session: &Session, preview: &Value, is_all: bool) -> Result<(), Failure> {
    if session.out.is_json() {
        return line(&json!({ "event": "preview", "preview": preview }).to_string());
    }
    let text = preview::in_words(preview);
    // Standard output is for the deployment, so that a script can read its name.
    if is_all { session.out.text(&text) } else { session.out.note(&text) }
}

/// The uuid of the flow, which is made if no flow of its name has this document.
async fn made(session: &Session, flow: FlowOf, preview: &Value) -> Result<String, Failure> {
    let document = match flow {
        FlowOf::Stored(uuid) => return Ok(uuid),
        FlowOf::Document(document) => document,
    };
    let name = preview["flow_name"].as_str().unwrap_or_default();
    for uuid in flows::uuids(session, name).await? {
        if session.http.get(&[session.fleet()?, "update-flows", &uuid])?.text().await? == document {
            return Ok(uuid);
        }
    }
    let made = session.http.post(&[session.fleet()?, "update-flows"])?.yaml(document).value().await?;
    let flows = made["update_flows"].as_array().into_iter().flatten();
    let uuid = flows.filter(|flow| flow["name"] == name).find_map(|flow| flow["uuid"].as_str());
    let uuid = uuid.with_context(|| format!("the server has not made the flow {name:?}"))?;
    session.out.note(&format!("made the update flow {name}, {uuid}"))?;
    Ok(uuid.to_owned())
}

/// How often a creation is sent whose answer did not come.
const SENDS_MAX: u32 = 5;
const SEND_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Makes the deployment. Sent again where no answer came: by its key the server makes one.
async fn create(session: &Session, body: &Value) -> Result<String, Failure> {
    let key = key()?;
    let mut sends = 0;
    loop {
        sends += 1;
        let call = session.http.post(&[session.fleet()?, "deployments"])?.json(body).header("Idempotency-Key", &key);
        match call.value().await {
            Ok(made) => return Ok(made["deployment_uuid"].as_str().unwrap_or_default().to_owned()),
            Err(failure) if failure.is_passing() && sends < SENDS_MAX => sleep(SEND_AGAIN_AFTER * sends).await,
            Err(failure) => return Err(failure),
        }
    }
}

fn key() -> Result<String, Failure> {
    let number = SysRng.try_next_u64().context("the system has no random numbers")?;
    let more = SysRng.try_next_u64().context("the system has no random numbers")?;
    Ok(format!("muster-{number:016x}{more:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_or_per_cent() {
        assert_eq!(share("12"), Ok(json!({ "count": 12 })));
        assert_eq!(share("5%"), Ok(json!({ "percent": 5 })));
        for text in ["", "%", "x", "-1", "101%", "1.5"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn waves_that_end_with_all_need_not_say_so() {
        let args = |waves: &[&str]| RolloutArgs {
            waves: waves.iter().map(|wave| share(wave).unwrap()).collect(),
            soak: None,
            at_once: None,
            failures_max: None,
            at: None,
        };
        assert_eq!(args(&[]).rollout(), None);
        let waves = json!({ "waves": [{ "count": 1 }, { "percent": 10 }] });
        assert_eq!(args(&["1", "10%", "100%"]).rollout(), Some(waves.clone()));
        assert_eq!(args(&["1", "10%"]).rollout(), Some(waves));
    }
}
