//! A device: a state directory, and the agent's process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::server::{PATIENCE, Server};

pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_muster-agent");
const POLL: Duration = Duration::from_millis(20);

pub(crate) struct Device {
    dir: TempDir,
    agent: Option<Child>,
    /// What else its commands find in their environment.
    pub(crate) env: Vec<(&'static str, PathBuf)>,
}

impl Device {
    /// A device that has not enrolled.
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory"), agent: None, env: Vec::new() }
    }

    /// A device that has.
    pub(crate) async fn enrolled(server: &mut Server) -> Self {
        let device = Self::new();
        let output = device.enrol(server, "201 Created", &accepted()).await;
        assert!(output.status.success(), "{output:?}");
        device
    }

    /// Enrols while `server` answers with that.
    pub(crate) async fn enrol(&self, server: &mut Server, status: &str, answer: &serde_json::Value) -> Output {
        let mut command = self.command("enroll");
        command.args(["--server", &server.url(), "--pairing-token", "mp_secret", "--group", "Lab"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the agent starts");
        server.answer_enrolment(status, answer).await;
        tokio::task::spawn_blocking(|| child.wait_with_output()).await.expect("joins").expect("ends")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A file for steps to write to.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.file(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// A script that appends a line to a file.
    pub(crate) fn append(&self, name: &str, line: &str) -> String {
        format!("echo {line} >> {}", self.file(name).display())
    }

    /// A script that waits until [`Device::touch`] has made the file, or the device is gone.
    pub(crate) fn await_file(&self, name: &str) -> String {
        let (dir, file) = (self.dir.path().display(), self.file(name));
        format!("while [ -d {dir} -a ! -e {} ]; do sleep 0.02; done", file.display())
    }

    pub(crate) fn touch(&self, name: &str) {
        std::fs::write(self.file(name), "").expect("a file");
    }

    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(AGENT);
        command.arg(subcommand).arg("--state").arg(self.state()).env("MUSTER_AGENT_SECRET", "x");
        command.envs(self.env.iter().cloned());
        command
    }

    pub(crate) fn start(&mut self) {
        let reboot = self.append("reboots", "now");
        let mut command = self.command("run");
        command.args(["--reboot-command", &reboot, "--log", "debug"]);
        self.agent = Some(command.spawn().expect("the agent starts"));
    }

    /// Ends the agent as a power cut would.
    pub(crate) fn kill(&mut self) {
        let mut agent = self.agent.take().expect("a running agent");
        agent.kill().expect("a signal");
        agent.wait().expect("its end");
    }

    /// Ends the agent as a service manager would; it must end well.
    pub(crate) async fn terminate(&mut self) {
        let mut agent = self.agent.take().expect("a running agent");
        kill(pid(agent.id()), Signal::SIGTERM).expect("a signal");
        let status = tokio::task::spawn_blocking(move || agent.wait()).await.expect("joins").expect("its end");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

pub(crate) fn pid(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("a process id"))
}

/// How a server accepts an enrolment.
pub(crate) fn accepted() -> serde_json::Value {
    json!({"device_uuid": "d-1a2b-3c4d", "device_token": "md_secret", "name": "till-7", "group": "Lab"})
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut is_met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_met() {
        assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
        sleep(POLL).await;
    }
}

pub(crate) async fn until_exists(path: &Path) {
    until(&format!("{} exists", path.display()), || path.exists()).await;
}
