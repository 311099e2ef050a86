//! A server and an agent, real processes, with tunnels between them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use muster_core::clock::Clock;
use muster_store::testing::{Engine, TestDatabase};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::server::{self, Server};

/// How long a program may take until it does what it is there for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Connections at once that a benchmark makes, and some.
const CONNECTIONS: &str = "5000";

/// A server and, once it is enrolled, its agent.
pub(crate) struct Pair {
    pub(crate) server: Server,
    agent: Option<Child>,
    made: Value,
    http: reqwest::Client,
    muster: PathBuf,
    // Last: its folder goes when both have ended.
    db: TestDatabase,
}

/// An open tunnel.
pub(crate) struct Tunnel {
    /// As the API names it.
    pub(crate) uuid: String,
    /// Where callers connect to.
    pub(crate) port: u16,
}

impl Pair {
    /// A server alone, with or without TLS.
    pub(crate) async fn serve(muster: &Path, is_tls: bool, options: &[&str]) -> anyhow::Result<Self> {
        let db = TestDatabase::start(Engine::Sqlite, Clock::system()).await;
        let made = server::bootstrap(muster, &db).await?;
        let mut all =
            vec!["--tunnel-ports", "0", "--tunnel-connections-max", CONNECTIONS, "--connections-max", CONNECTIONS];
        all.extend_from_slice(options);
        all.extend(is_tls.then_some("--tls-self-signed"));
        let server = Server::start_with(muster, &db, &all).await?;
        // Its calls are not what is measured, and never leave the machine.
        let http = reqwest::Client::builder().no_proxy().http1_only().tls_danger_accept_invalid_certs(true).build()?;
        Ok(Self { server, agent: None, made, http, muster: muster.to_owned(), db })
    }

    /// Enrols a device that reaches the server at `url`, and starts its agent with those options.
    pub(crate) async fn start_agent(&mut self, agent: &Path, url: &str, options: &[&str]) -> anyhow::Result<()> {
        let state = self.state();
        let mut enroll = Command::new(agent);
        enroll.args(["enroll", "--server", url, "--pairing-token", self.word("pairing_token")?]);
        if let Some(pin) = &self.server.pin {
            enroll.args(["--server-pin", pin]);
        }
        let enrolled = enroll.arg("--state").arg(&state).stdout(Stdio::null()).status().await?;
        ensure!(enrolled.success(), "muster-agent enroll ended with {enrolled}");
        let mut run = Command::new(agent);
        run.args(["run", "--log", "error"]).args(options).arg("--state").arg(&state);
        self.agent = Some(run.kill_on_drop(true).spawn()?);
        Ok(())
    }

    /// Both, over loopback.
    pub(crate) async fn start(muster: &Path, is_tls: bool) -> anyhow::Result<Self> {
        let mut pair = Self::serve(muster, is_tls, &[]).await?;
        let url = pair.server.url.clone();
        pair.start_agent(&muster.with_file_name("muster-agent"), &url, &[]).await?;
        Ok(pair)
    }

    /// Opens a tunnel to that port of the device, as soon as it is there.
    pub(crate) async fn open(&self, target: u16) -> anyhow::Result<Tunnel> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let device = self.get("devices").await?["devices"][0]["device_uuid"].clone();
            let body = json!({ "device_uuid": device, "port": target });
            let answer = self.call(Method::POST, "port_tunnel")?.json(&body).send().await?;
            if answer.status().is_success() {
                let tunnel: Value = answer.json().await?;
                let uuid = tunnel["port_tunnel_id"].as_str();
                let port = tunnel["server_port"].as_u64().and_then(|port| port.try_into().ok());
                let (uuid, port) = uuid.zip(port).with_context(|| format!("no uuid or no port: {tunnel}"))?;
                return Ok(Tunnel { uuid: uuid.to_owned(), port });
            }
            sleep(Duration::from_millis(50)).await;
        }
        bail!("no tunnel came to be")
    }

    /// Deletes a tunnel.
    pub(crate) async fn close(&self, tunnel: &Tunnel) -> anyhow::Result<()> {
        let call = self.call(Method::DELETE, &format!("port_tunnel/{}", tunnel.uuid))?;
        call.send().await?.error_for_status()?;
        Ok(())
    }

    /// What API v2 says of something in the fleet.
    pub(crate) async fn get(&self, what: &str) -> anyhow::Result<Value> {
        Ok(self.call(Method::GET, what)?.send().await?.error_for_status()?.json().await?)
    }

    /// A call of API v2 on something in the fleet.
    pub(crate) fn call(&self, method: Method, what: &str) -> anyhow::Result<RequestBuilder> {
        let url = format!("{}/api/v2/{}/{what}", self.server.url, self.word("project_key")?);
        Ok(self.http.request(method, url).bearer_auth(self.word("access_token")?))
    }

    /// What the command line as a client prints; its end with another code than 0 is an error.
    pub(crate) async fn client(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.muster);
        // No login of whoever runs this.
        command.env("XDG_CONFIG_HOME", self.db.folder()).env("MUSTER_URL", &self.server.url);
        command.env("MUSTER_TOKEN", self.word("access_token")?).env("MUSTER_FLEET", self.word("project_key")?);
        if let Some(pin) = &self.server.pin {
            command.env("MUSTER_SERVER_PIN", pin);
        }
        let ended = command.args(words).stdin(Stdio::null()).kill_on_drop(true).output().await?;
        let told = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "muster {} ended with {}: {told}", words.join(" "), ended.status);
        Ok(String::from_utf8(ended.stdout)?)
    }

    /// The device, as the API names it.
    pub(crate) async fn device(&self) -> anyhow::Result<String> {
        let devices = self.get("devices").await?;
        Ok(devices["devices"][0]["device_uuid"].as_str().context("no device")?.to_owned())
    }

    /// A folder that goes with this value.
    pub(crate) fn folder(&self) -> &Path {
        self.db.folder()
    }

    /// The processes, by what they are.
    pub(crate) fn processes(&self) -> anyhow::Result<Vec<(&'static str, u32)>> {
        let agent = self.agent.as_ref().and_then(Child::id).context("the agent has ended")?;
        Ok(vec![("server", self.server.id()?), ("agent", agent)])
    }

    fn state(&self) -> PathBuf {
        self.db.folder().join("bench-agent")
    }

    fn word(&self, key: &str) -> anyhow::Result<&str> {
        self.made[key].as_str().with_context(|| format!("bootstrap: no {key}"))
    }
}
