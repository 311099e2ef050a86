//! The story's device: this executable as an agent, in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use muster_core::token::Secret;
use muster_link::ServerPin;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long an agent may take to end once its standard input is closed.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// An enrolled device whose agent runs.
pub(super) struct Device {
    /// As every API names it.
    pub(super) uuid: String,
    /// Names it in API v1.
    pub(super) token: String,
    /// A file of its own, for the update to write and read.
    pub(super) greeting: String,
    agent: Child,
}

impl Device {
    /// Enrols the device of that state folder, unless it is enrolled, and runs its agent.
    pub(super) async fn start(
        state: &Path,
        url: &str,
        pin: Option<ServerPin>,
        pairing_token: &Secret,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let state = &std::path::absolute(state)?;
        let agent = Program { program, state: state.clone(), pin };
        if !state.join("agent.json").exists() {
            let enroll = agent.command(&["enroll", "--server", url, "--name", "quickstart-device"]);
            agent.output({ enroll }.env("MUSTER_AGENT_PAIRING_TOKEN", pairing_token.expose())).await?;
        }
        let status: Value = serde_json::from_str(&agent.output(&mut agent.command(&["status", "--json"])).await?)?;
        let uuid = status["device_uuid"].as_str().context("the agent does not say which device it is")?.to_owned();
        let token = agent.output(&mut agent.command(&["--print-token"])).await?.trim().to_owned();
        // Its end of the pipe tells the agent when this process is gone, however it went.
        let run = agent.command(&["run", "--until-stdin-closes", "--log", "warn", "--server", url]);
        let agent = { run }.stdin(Stdio::piped()).kill_on_drop(true).spawn().context("cannot start the agent")?;
        let greeting = state.join("greeting").display().to_string();
        Ok(Self { uuid, token, greeting, agent })
    }

    /// The process of the agent.
    pub(super) fn process_id(&self) -> u32 {
        self.agent.id().unwrap_or_default()
    }

    /// Ends the agent.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.agent.stdin.take());
        if timeout(END_TIMEOUT, self.agent.wait()).await.is_err() {
            self.agent.kill().await.context("cannot end the agent")?;
        }
        Ok(())
    }
}

struct Program {
    program: PathBuf,
    state: PathBuf,
    pin: Option<ServerPin>,
}

impl Program {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("agent").args(args).arg("--state").arg(&self.state);
        command.envs(self.pin.map(|pin| ("MUSTER_AGENT_SERVER_PIN", pin.to_string())));
        command
    }

    async fn output(&self, command: &mut Command) -> anyhow::Result<String> {
        let output = command.stdin(Stdio::null()).output().await.context("cannot start the agent")?;
        if !output.status.success() {
            bail!("the agent: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}
