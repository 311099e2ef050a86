"""A real agent with a state folder of its own."""

import json
import os
import re
import signal
from pathlib import Path

from .binaries import binary
from .process import Process, clean_environment, run
from .waiting import eventually

UUID = re.compile(r"\bd-[0-9a-z]{4}-[0-9a-z]{4}\b")


class Agent:
    """One device: enrolled once, its process started and killed at will."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = self.folder / "state"
        self.process = None
        self.environment = {}
        self.uuid = None
        self.token = None
        self.name = None
        self.options = []

    def try_enroll(self, server_url, pairing_token, name=None, group=None):
        options = ["--name", name] if name else []
        options += ["--group", group] if group else []
        return run(
            binary("muster-agent"), "enroll", "--server", server_url,
            "--pairing-token", pairing_token, "--state", self.state, *options,
        )  # fmt: skip

    def enroll(self, server, account, name=None, group=None):
        done = self.try_enroll(server.url, account.pairing_token, name, group)
        assert done.returncode == 0, f"enroll: {done.stderr}{done.stdout}"
        self.name = name
        self.token = self.print_token()
        self.uuid = self.status_uuid()
        return self

    def enroll_behind(self, network, server, account):
        """The same, over a network that can be cut."""
        done = self.try_enroll(f"http://127.0.0.1:{network.to(lambda: server.port)}", account.pairing_token)
        assert done.returncode == 0, f"enroll: {done.stderr}{done.stdout}"
        self.uuid = self.status_uuid()
        return self

    def command(self, *words):
        return run(binary("muster-agent"), *words, "--state", self.state)

    def print_token(self):
        done = self.command("--print-token")
        assert done.returncode == 0, f"--print-token: {done.stderr}"
        return done.stdout.strip()

    def status_uuid(self):
        done = self.command("status", "--json")
        found = UUID.search(done.stdout)
        assert found, f"status --json names no device: {done.stdout}{done.stderr}"
        return found.group()

    def run_command(self):
        return [binary("muster-agent"), "run", "--state", self.state, *self.options]

    def start(self, *options):
        """`options` of `run` hold for later starts as well."""
        self.options += options
        self.process = Process(self.run_command(), self.folder / "agent.log", clean_environment(**self.environment))
        return self

    def step_runners(self):
        """The processes that carry out a step, which outlive the agent."""
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"step-runner" in words and any(word.startswith(bytes(self.state)) for word in words):
                yield int(entry.parent.name)

    def kill9_all(self):
        """As when the power goes: the agent, and the runner of its step."""
        self.process.kill9()
        for pid in self.step_runners():
            os.kill(pid, signal.SIGKILL)

    def phase(self, step=0):
        """How far the step of the newest run came."""
        runs = sorted((self.state / "runs").glob("dp-*"), key=lambda run: run.stat().st_ctime)
        file = runs[-1] / f"saved-{step}/state.json" if runs else None
        if not file or not file.exists():
            return None
        phase = json.loads(file.read_text())
        return phase if isinstance(phase, str) else next(iter(phase))

    def kill9(self):
        self.process.kill9()

    def stop(self):
        if self.process is not None:
            self.process.stop()

    def wait_connected(self, v1):
        """Until API v1 says that the device is online."""
        eventually(lambda: v1.state(self.uuid) == "online", what=f"{self.uuid} online")
        return self
