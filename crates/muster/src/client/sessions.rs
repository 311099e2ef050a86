//! `muster sessions`.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;
use muster_link::stream::{StreamMessage, Talk, Turn};
use serde_json::Value;
use tokio::time::sleep;

use super::device_stream;
use super::failure::Failure;
use super::output::ListArgs;
use super::pages::Pages;
use super::session::Session;
use super::table::{Column, column};

/// What can be done with remote sessions.
#[derive(Subcommand)]
pub(crate) enum SessionsCommand {
    /// List the remote sessions of the fleet, the newest first
    List {
        /// Of this device alone
        #[arg(long, value_name = "DEVICE")]
        device: Option<String>,
        /// Of this kind alone: stream, terminal or files
        #[arg(long, value_name = "KIND")]
        kind: Option<String>,
        /// Those that are not over
        #[arg(long)]
        open: bool,
        #[command(flatten)]
        list: ListArgs,
    },
    /// Show a session
    Show {
        /// The session
        session: String,
    },
    /// End a session, whoever opened it
    End {
        /// The session
        session: String,
    },
    /// Show the recording of a terminal at the speed at which it was made
    Replay {
        /// The session
        session: String,
        /// Show it so many times as fast
        #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
        speed: f64,
        /// Show no pause that is longer, in seconds
        #[arg(long, value_name = "SECONDS", value_parser = speed)]
        idle_limit: Option<f64>,
        /// Print the asciicast itself, at once
        #[arg(long)]
        raw: bool,
    },
    /// Show a terminal from its begin on, and while it runs
    Watch {
        /// The session
        session: String,
    },
}

fn speed(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| format!("{text:?} is not a number above 0"))
}

const SESSIONS: &[Column] = &[
    column("SESSION", "session_id"),
    column("DEVICE", "device_uuid"),
    column("KIND", "kind"),
    column("TARGET", "target"),
    column("WHO", "actor"),
    column("STATUS", "status"),
    column("REASON", "reason"),
    column("CREATED", "created_time"),
    column("ENDED", "ended_time"),
];

pub(super) async fn run(command: SessionsCommand, session: &Session) -> Result<(), Failure> {
    let (http, out, all) = (&session.http, &session.out, [session.fleet()?, "remote_sessions"]);
    match command {
        SessionsCommand::List { device, kind, open, list } => {
            let call = http.get(&all)?.maybe("device_uuid", device.as_deref()).maybe("kind", kind.as_deref());
            let call = call.maybe("open", open.then_some("true"));
            out.list(Pages::new(call, "remote_sessions", list.limit()), SESSIONS).await
        }
        SessionsCommand::Show { session: id } => {
            out.object(&http.get(&[all[0], all[1], &id])?.value().await?, SESSIONS)
        }
        SessionsCommand::End { session: id } => {
            let call = http.delete(&[all[0], all[1], &id])?;
            out.done(&call.value().await?, &format!("ended the session {id}"))
        }
        SessionsCommand::Replay { session: id, speed, idle_limit, raw } => {
            let cast = http.get(&[all[0], all[1], &id, "recording"])?.text().await?;
            match raw {
                true => super::output::bytes(cast.as_bytes()),
                false => replay(&cast, speed, idle_limit).await,
            }
        }
        SessionsCommand::Watch { session: id } => {
            let carrier = device_stream::socket(http.get(&[all[0], all[1], &id, "watch"])?).await?;
            watch(Talk::new(carrier)).await
        }
    }
}

/// Shows a recording event by event. A line that is not whole is the last of a server that
/// was killed.
async fn replay(cast: &str, speed: f64, idle_limit: Option<f64>) -> Result<(), Failure> {
    let mut before = 0.0;
    for (at, text) in cast.lines().filter_map(output) {
        let pause = (at - before).max(0.0).min(idle_limit.unwrap_or(f64::MAX)) / speed;
        before = at;
        sleep(Duration::try_from_secs_f64(pause).unwrap_or_default()).await;
        show(&text)?;
    }
    Ok(())
}

/// What an event shows, and when; nothing where it shows nothing.
fn output(line: &str) -> Option<(f64, String)> {
    match serde_json::from_str(line).ok()? {
        Value::Array(event) => match event.as_slice() {
            [at, Value::String(kind), Value::String(text)] if kind == "o" => Some((at.as_f64()?, text.clone())),
            _ => None,
        },
        _ => None,
    }
}

fn show(text: &str) -> Result<(), Failure> {
    let mut screen = std::io::stdout();
    screen.write_all(text.as_bytes())?;
    Ok(screen.flush()?)
}

async fn watch(mut talk: Talk<reqwest::Upgraded>) -> Result<(), Failure> {
    let mut unfinished = Vec::new();
    loop {
        match talk.turn(true).await.context("the connection broke")? {
            Turn::Data(bytes) => {
                unfinished.extend(bytes);
                while let Some(end) = unfinished.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = unfinished.drain(..=end).collect();
                    if let Some((_, text)) = output(&String::from_utf8_lossy(&line)) {
                        show(&text)?;
                    }
                }
            }
            Turn::Message(StreamMessage::End) => return Ok(()),
            Turn::Message(StreamMessage::Failed { reason }) => return Err(anyhow::anyhow!("{reason}").into()),
            Turn::Message(_) | Turn::Sent => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_told_from_the_rest() {
        assert_eq!(output(r#"[1.5, "o", "a\u001b[m"]"#), Some((1.5, "a\u{1b}[m".to_owned())));
        for line in [r#"{"version": 2}"#, r#"[1.5, "i", "secret"]"#, r#"[1.5, "r", "80x24"]"#, r#"[1.5, "o", "a"#, ""] {
            assert_eq!(output(line), None, "{line}");
        }
        assert!(speed("0").is_err() && speed("NaN").is_err() && speed("2").is_ok());
    }
}
