//! `muster run`: a command on one or many devices, and what it puts out there.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::commands;
use super::failure::Failure;
use super::filter::FilterArgs;
use super::output::line;
use super::run_watch::{self, How};
use super::session::{Common, Session};
use super::span;

/// Options of `muster run`.
#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(super) common: Common,
    /// Only these devices; each gets a run of its own
    #[arg(value_name = "DEVICE", conflicts_with_all = ["group", "filter", "filter_json", "saved", "all"])]
    devices: Vec<String>,
    #[command(flatten)]
    which: FilterArgs,
    /// Every device of the fleet
    #[arg(long)]
    all: bool,
    /// A saved command, in place of words behind --
    #[arg(long, value_name = "NAME", conflicts_with_all = ["script", "words"])]
    command: Option<String>,
    /// A script in a file, for sh; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "words")]
    script: Option<PathBuf>,
    /// What is run: one word is a script for sh; several are a program and what it is started with
    #[arg(last = true, value_name = "COMMAND")]
    words: Vec<String>,
    /// The user of the device who runs it
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// How long it may run on each device, like 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = span::seconds)]
    timeout: Option<u64>,
    /// How long a device that is offline may take to begin, like 10m or 7d; by default 1h
    #[arg(long, value_name = "TIME", value_parser = span::seconds)]
    expires: Option<u64>,
    /// Print what devices put out while the command still runs
    #[arg(long, conflicts_with = "no_wait")]
    follow: bool,
    /// Do not wait for the devices; print the run's id
    #[arg(long)]
    no_wait: bool,
}

impl RunArgs {
    /// What the API is asked, but for the devices.
    fn order(&self) -> Result<Value, Failure> {
        let mut body = match (&self.command, self.words.as_slice()) {
            (Some(name), _) => json!({ "command": name }),
            (None, [script]) => json!({ "script": script }),
            (None, [_, ..]) => json!({ "script": quoted(&self.words) }),
            (None, []) => match commands::script(None, self.script.as_ref())? {
                Some(script) => json!({ "script": script }),
                None => return Err(Failure::Usage("run what? -- COMMAND, --command NAME or --script FILE".to_owned())),
            },
        };
        let more = [
            ("user", self.user.clone().map(Value::from)),
            ("timeout_seconds", self.timeout.map(Value::from)),
            ("expires_in_seconds", self.expires.map(Value::from)),
        ];
        for (key, value) in more.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            body[key] = value;
        }
        Ok(body)
    }

    /// The devices of each run.
    async fn filters(&self, session: &Session) -> Result<Vec<Value>, Failure> {
        if self.devices.is_empty() {
            return Ok(vec![self.which.chosen(session, self.all).await?]);
        }
        let only = |uuid: &String| json!({ "type": "specific_device", "operand": "is", "value": uuid });
        Ok(self.devices.iter().map(|uuid| json!({ "groups": [], "filters": [only(uuid)] })).collect())
    }
}

/// Words as `sh` reads them back.
fn quoted(words: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quote = |word: &String| match !word.is_empty() && word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// Runs a command.
pub(super) async fn run(args: &RunArgs) -> Result<(), Failure> {
    let session = &Session::open(&args.common)?;
    let order = args.order()?;
    // From before the run is there: what is interrupted then says how to end it.
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let mut runs = Vec::new();
    for filter in args.filters(session).await? {
        let mut body = order.clone();
        body["device_filter"] = filter;
        let made = session.http.post(&[session.fleet()?, "command_runs"])?.json(&body).value().await?;
        let id = made["run_id"].as_str().unwrap_or_default().to_owned();
        match (session.out.is_json(), args.no_wait) {
            (true, _) => {
                let event = json!({ "event": "created", "run_id": id, "device_count": made["device_count"] });
                line(&event.to_string())?;
            }
            (false, true) => session.out.text(&id)?,
            (false, false) => {}
        }
        if made["device_count"] == 0 {
            return Err(Failure::Other(anyhow::anyhow!("no device matches; {id} has nothing to run")));
        }
        runs.push(id);
    }
    if args.no_wait {
        return Ok(());
    }
    let how = How { is_followed: args.follow, is_json: session.out.is_json() };
    tokio::select! {
        ended = run_watch::watch(session, &runs, how) => ended,
        _ = interrupt.recv() => {
            let run = runs.join(" ");
            Err(Failure::Interrupted(format!("{run} goes on; end it with: muster commands abort {run}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_as_they_were() {
        let words = ["ls", "-l", "/a b", "it's", "", "$HOME"].map(str::to_owned);
        assert_eq!(quoted(&words), r"ls -l '/a b' 'it'\''s' '' '$HOME'");
    }
}
