//! The ways to the services: direct, through Muster, through those who do only that.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::pair::{PATIENCE, Pair};

/// The rivals, as their registry has them.
const BORE: &str = "bore-cli@0.6.0";
/// The libraries that its lock file names do not build with today's compilers, newer ones do.
const RATHOLE: &str = "rathole@0.5.0";
/// bore's control port cannot be chosen.
const BORE_CONTROL_PORT: u16 = 7_835;

/// What is used: iperf3, and requests.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    pub(super) iperf: u16,
    pub(super) http: u16,
}

/// A way to both, with the processes that make it.
pub(super) struct Way {
    pub(super) name: &'static str,
    /// Where callers connect to.
    pub(super) ports: Ports,
    /// What each process is, and its id; where a side has several, the one of the requests.
    pub(super) processes: Vec<(&'static str, u32)>,
    children: Vec<Child>,
    _pair: Option<Pair>,
}

impl Way {
    /// None between.
    pub(super) fn direct(ports: Ports) -> Self {
        Self { name: "direct", ports, processes: Vec::new(), children: Vec::new(), _pair: None }
    }

    /// Ends its processes, and waits for that: the next may want the same port.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        for child in &mut self.children {
            child.kill().await?;
        }
        Ok(())
    }

    /// A server, an agent, two tunnels.
    pub(super) async fn muster(muster: &Path, to: Ports, is_tls: bool) -> anyhow::Result<Self> {
        let pair = Pair::start(muster, is_tls).await?;
        let ports = Ports { iperf: pair.open(to.iperf).await?.port, http: pair.open(to.http).await?.port };
        let name = if is_tls { "Muster (TLS)" } else { "Muster" };
        Ok(Self { name, ports, processes: pair.processes()?, children: Vec::new(), _pair: Some(pair) })
    }

    /// rathole, with or without its encryption.
    pub(super) async fn rathole(tools: &Path, to: Ports, is_encrypted: bool) -> anyhow::Result<Self> {
        install(tools, RATHOLE, &[]).await?;
        let control = free_port().await?;
        let ports = Ports { iperf: free_port().await?, http: free_port().await? };
        let (private, public) = if is_encrypted { rathole_keys(tools).await? } else { Default::default() };
        let texts = [
            rathole_side("server", ("bind_addr", control), ("bind_addr", ports), ("local_private_key", &private)),
            rathole_side("client", ("remote_addr", control), ("local_addr", to), ("remote_public_key", &public)),
        ];
        let mut children = Vec::new();
        for (side, text) in ["server", "client"].into_iter().zip(texts) {
            let file = tools.join(format!("rathole-{side}-{control}.toml"));
            std::fs::write(&file, text)?;
            let mut command = Command::new(tools.join("bin/rathole"));
            command.arg(format!("--{side}")).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
            children.push(command.kill_on_drop(true).spawn()?);
        }
        comes_through(ports.http).await?;
        let name = if is_encrypted { "rathole (Noise)" } else { "rathole" };
        Ok(Self { name, ports, processes: ids(&children), children, _pair: None })
    }

    /// bore: a client for each port.
    pub(super) async fn bore(tools: &Path, to: Ports) -> anyhow::Result<Self> {
        install(tools, BORE, &["--locked"]).await?;
        let ports = Ports { iperf: free_port().await?, http: free_port().await? };
        let mut children = Vec::new();
        let client = |to: u16, port: u16| format!("local {to} --to 127.0.0.1 --port {port}");
        let lines = ["server --min-port 1024".to_owned(), client(to.http, ports.http), client(to.iperf, ports.iperf)];
        for line in lines {
            let mut command = Command::new(tools.join("bin/bore"));
            command.args(line.split(' ')).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            children.push(command.spawn()?);
            comes_through(BORE_CONTROL_PORT).await?;
        }
        comes_through(ports.http).await?;
        comes_through(ports.iperf).await?;
        Ok(Self { name: "bore", ports, processes: ids(&children), children, _pair: None })
    }
}

fn ids(children: &[Child]) -> Vec<(&'static str, u32)> {
    ["server", "agent"].into_iter().zip(children.iter().filter_map(Child::id)).collect()
}

/// The settings of one side of rathole; in the clear when the key is empty.
fn rathole_side(side: &str, control: (&str, u16), ports: (&str, Ports), key: (&str, &str)) -> String {
    let mut text = format!("[{side}]\n{} = \"127.0.0.1:{}\"\ndefault_token = \"t\"\n", control.0, control.1);
    if !key.1.is_empty() {
        text += &format!("[{side}.transport]\ntype = \"noise\"\n");
        text += &format!("[{side}.transport.noise]\n{} = \"{}\"\n", key.0, key.1);
    }
    for (name, port) in [("iperf", ports.1.iperf), ("http", ports.1.http)] {
        text += &format!("[{side}.services.{name}]\n{} = \"127.0.0.1:{port}\"\n", ports.0);
    }
    text
}

async fn install(tools: &Path, what: &str, options: &[&str]) -> anyhow::Result<()> {
    let (name, version) = what.split_once('@').context("a name and a version")?;
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "--quiet", name, "--version", version]).args(options).arg("--root").arg(tools);
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

/// A port that nobody has at present.
pub(super) async fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

/// Waits until somebody listens there.
pub(super) async fn comes_through(port: u16) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
    bail!("nobody listens at port {port}")
}
