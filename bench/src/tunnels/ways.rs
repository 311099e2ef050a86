//! The ways to a service: direct, through Muster, through those who do only that.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use muster_core::clock::Clock;
use muster_store::testing::{Engine, TestDatabase};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::server::{self, Server};

/// How long a program may take until connections come through.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections at once that the benchmark makes, and some.
const CONNECTIONS: &str = "5000";
/// The rivals, as their registry has them.
const RATHOLE: &str = "rathole@0.5.0";
const BORE: &str = "bore-cli@0.6.0";

/// A way to the service, with the processes that make it.
pub(super) struct Way {
    pub(super) name: &'static str,
    /// Where callers connect to.
    pub(super) port: u16,
    /// What each process is, and its id.
    pub(super) processes: Vec<(&'static str, u32)>,
    _children: Vec<Child>,
    _home: Option<(TestDatabase, Server, PathBuf)>,
}

impl Way {
    /// None between.
    pub(super) fn direct(port: u16) -> Self {
        Self { name: "direct", port, processes: Vec::new(), _children: Vec::new(), _home: None }
    }

    /// A server, an agent, a tunnel.
    pub(super) async fn muster(muster: &Path, target: u16) -> anyhow::Result<Self> {
        let db = TestDatabase::start(Engine::Sqlite, Clock::system()).await;
        let made = server::bootstrap(muster, &db).await?;
        let options =
            ["--tunnel-ports", "0", "--tunnel-connections-max", CONNECTIONS, "--connections-max", CONNECTIONS];
        let server = Server::start_with(muster, &db, &options).await?;
        let agent = muster.with_file_name("muster-agent");
        let state = db.folder().join("bench-agent");
        let mut enroll = Command::new(&agent);
        enroll.args(["enroll", "--server", &server.url, "--pairing-token", word(&made, "pairing_token")?]);
        let enrolled = enroll.arg("--state").arg(&state).stdout(Stdio::null()).status().await?;
        ensure!(enrolled.success(), "muster-agent enroll ended with {enrolled}");
        let mut run = Command::new(&agent);
        let child = run.args(["run", "--log", "warn", "--state"]).arg(&state).kill_on_drop(true).spawn()?;
        let port = tunnel(&server.url, &made, target).await?;
        let processes = vec![("server", server.id()?), ("agent", child.id().context("the agent has ended")?)];
        Ok(Self { name: "Muster", port, processes, _children: vec![child], _home: Some((db, server, state)) })
    }

    /// rathole, with or without its encryption.
    pub(super) async fn rathole(tools: &Path, target: u16, is_encrypted: bool) -> anyhow::Result<Self> {
        install(tools, RATHOLE).await?;
        let (control, port) = (free_port().await?, free_port().await?);
        let transport = if is_encrypted { "[client.transport]\ntype = \"noise\"\n" } else { "" };
        let keys = is_encrypted.then_some(rathole_keys(tools).await?);
        let (private, public) = keys.unwrap_or_default();
        let side = |side: &str, key: &str| match is_encrypted {
            true => {
                let transport = transport.replace("client", side);
                format!("{transport}[{side}.transport.noise]\n{key}\n")
            }
            false => String::new(),
        };
        let server = format!(
            "[server]\nbind_addr = \"127.0.0.1:{control}\"\ndefault_token = \"t\"\n{}[server.services.s]\nbind_addr = \"127.0.0.1:{port}\"\n",
            side("server", &format!("local_private_key = \"{private}\""))
        );
        let client = format!(
            "[client]\nremote_addr = \"127.0.0.1:{control}\"\ndefault_token = \"t\"\n{}[client.services.s]\nlocal_addr = \"127.0.0.1:{target}\"\n",
            side("client", &format!("remote_public_key = \"{public}\""))
        );
        let mut children = Vec::new();
        for (name, text) in [("server", server), ("client", client)] {
            let file = tools.join(format!("rathole-{name}-{control}.toml"));
            std::fs::write(&file, text)?;
            let mut command = Command::new(tools.join("bin/rathole"));
            command.arg(format!("--{name}")).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
            children.push(command.kill_on_drop(true).spawn()?);
        }
        comes_through(port).await?;
        let name = if is_encrypted { "rathole (Noise)" } else { "rathole" };
        Ok(Self { name, port, processes: ids(&children), _children: children, _home: None })
    }

    /// bore. Its control port cannot be chosen.
    pub(super) async fn bore(tools: &Path, target: u16) -> anyhow::Result<Self> {
        install(tools, BORE).await?;
        let port = free_port().await?;
        let bore = tools.join("bin/bore");
        let mut children = Vec::new();
        for words in [
            vec!["server".to_owned(), "--min-port".to_owned(), "1024".to_owned()],
            ["local", &target.to_string(), "--to", "127.0.0.1", "--port", &port.to_string()]
                .map(str::to_owned)
                .to_vec(),
        ] {
            let mut command = Command::new(&bore);
            command.args(words).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            children.push(command.spawn()?);
            comes_through(BORE_CONTROL_PORT).await?;
        }
        comes_through(port).await?;
        Ok(Self { name: "bore", port, processes: ids(&children), _children: children, _home: None })
    }
}

const BORE_CONTROL_PORT: u16 = 7_835;

fn ids(children: &[Child]) -> Vec<(&'static str, u32)> {
    ["server", "agent"].into_iter().zip(children.iter().filter_map(Child::id)).collect()
}

fn word<'a>(made: &'a Value, key: &str) -> anyhow::Result<&'a str> {
    made[key].as_str().with_context(|| format!("bootstrap: no {key}"))
}

/// A tunnel to the only device, as soon as it is there: the port on the server.
async fn tunnel(url: &str, made: &Value, target: u16) -> anyhow::Result<u16> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let (token, key) = (word(made, "access_token")?, word(made, "project_key")?);
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let devices = http.get(format!("{url}/api/v2/{key}/devices")).bearer_auth(token).send().await?;
        let devices: Value = devices.json().await?;
        let body = json!({ "device_uuid": devices["devices"][0]["device_uuid"], "port": target });
        let answer = http.post(format!("{url}/api/v2/{key}/port_tunnel")).bearer_auth(token).json(&body).send().await?;
        if answer.status().is_success() {
            let tunnel: Value = answer.json().await?;
            let port = tunnel["server_port"].as_u64().and_then(|port| port.try_into().ok());
            return port.context("the tunnel has no port");
        }
        sleep(Duration::from_millis(50)).await;
    }
    bail!("no tunnel came to be")
}

async fn install(tools: &Path, what: &str) -> anyhow::Result<()> {
    let (name, version) = what.split_once('@').context("a name and a version")?;
    eprintln!("installing {what}");
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "--locked", "--quiet", name, "--version", version, "--root"]).arg(tools);
    let installed = cargo.status().await.context("cargo")?;
    ensure!(installed.success(), "cargo install {what} ended with {installed}");
    Ok(())
}

/// A private and a public key.
async fn rathole_keys(tools: &Path) -> anyhow::Result<(String, String)> {
    let made = Command::new(tools.join("bin/rathole")).arg("--genkey").output().await?;
    let text = String::from_utf8(made.stdout)?;
    let mut keys = text.lines().filter(|line| line.ends_with('=')).map(|line| line.trim().to_owned());
    Ok((keys.next().context("no private key")?, keys.next().context("no public key")?))
}

async fn free_port() -> anyhow::Result<u16> {
    Ok(tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

async fn comes_through(port: u16) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
    bail!("nobody listens at port {port}")
}

/// Kilobytes that a process holds in memory.
pub(super) fn resident_kb(process: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).context("only Linux tells its memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    Ok(line.context("the status has no memory")?.parse()?)
}
