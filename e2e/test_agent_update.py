"""The agent's own update: a new one that works stays, and every other gives way to the old."""

import json
import os
import platform
import shlex
import signal
from pathlib import Path

import pytest
import requests

from muster.agent import Agent
from muster.binaries import binary
from muster.process import run
from muster.waiting import eventually

# A minute is the shortest window; the longest tests wait for one to pass.
PATIENCE_SECONDS = 150
ARCH = platform.machine()

# What a device does here is the same for either database.
pytestmark = pytest.mark.parametrize("engine", ["sqlite"], scope="module")


class Keys:
    """A pair that `muster admin agent-release keygen` made."""

    def __init__(self, folder):
        folder.mkdir(exist_ok=True)
        self.secret, self.public = folder / "release.key", folder / "release.pub"
        done = run(binary("muster"), "admin", "agent-release", "keygen",
                   "--secret-key", self.secret, "--public-key", self.public)  # fmt: skip
        assert done.returncode == 0, done.stderr

    def sign(self, program, out, version, arch=ARCH):
        done = run(binary("muster"), "admin", "agent-release", "sign", "--secret-key", self.secret,
                   "--version", version, "--arch", arch, "--out", out, program)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return Path(out).read_bytes()


class Fleet:
    """One device that trusts a key, and a repository of releases."""

    def __init__(self, world, folder):
        self.world, self.folder = world, folder
        self.keys = Keys(folder / "keys")
        self.token = {"Authorization": f"Bearer {world.account.access_token}"}
        answer = requests.post(f"{world.server.url}/api/v2/account/repositories",
                               headers=self.token, json={"name": "agents"}, timeout=30)  # fmt: skip
        assert answer.status_code == 201, answer.text
        self.agent = world.device()
        (self.agent.state / "release-keys").write_text(self.keys.public.read_text())
        self.agent.start().wait_connected(world.v1)
        self.installed = self.version()

    def upload(self, content, name):
        answer = requests.put(f"{self.world.server.url}/artifactory/agents/{name}",
                              headers=self.token, data=content, timeout=60)  # fmt: skip
        assert answer.status_code == 201, answer.text

    def release(self, version, script=None, keys=None, arch=ARCH):
        """Signs and uploads a release: the agent itself, or a script in its place."""
        program = self.folder / f"program-{version}"
        program.write_bytes(Path(binary("muster-agent")).read_bytes() if script is None else script.encode())
        self.upload((keys or self.keys).sign(program, self.folder / f"release-{version}", version, arch), version)
        return version

    def order(self, version, path=None, timeout_minutes=10):
        steps = [
            {"name": "before", "run": "true"},
            {"name": "agent", "uses": "muster/agent-update", "timeout-minutes": timeout_minutes, "with": {
                "version": version, "registry": "agents", "artifactory-path": f"agents/{path or version}",
                "health-minutes": 1}},
            {"name": "after", "run": "true"},
        ]  # fmt: skip
        flow = self.world.v2.create_flow(json.dumps({"flows": {f"agent {version}": {"steps": steps}}}))
        return self.world.v2.deploy(flow, self.agent.uuid)

    def ends(self, deployment, status):
        """What the step said, once the deployment ended so."""

        def target():
            return self.world.v2.target(deployment, self.agent.uuid)

        final = {"Succeeded", "Failed", "Aborted"}
        eventually(lambda: target()["status"] in final, PATIENCE_SECONDS, what=f"the end of {deployment}")
        assert target()["status"] == status, (target(), self.agent.process.output())
        return next(step for step in target()["steps"] if step["name"] == "agent")

    def update(self, version, status, path=None):
        step = self.ends(self.order(version, path), status)
        return step["stderr"] if status == "Failed" else step["stdout"]

    def version(self):
        return self.world.v2.get(f"/devices/{self.agent.uuid}").json()["agent_version"]

    def slots(self):
        path = self.agent.state / "agent" / "slots.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def is_tried(self):
        return (self.slots().get("trial") or {}).get("starts", 0) > 0

    def assert_back(self, version=None):
        """The old agent runs and is connected, and takes further work."""
        self.agent.wait_connected(self.world.v1)
        eventually(lambda: self.version() == (version or self.installed), what="the old version")
        assert self.slots()["trial"] is None


@pytest.fixture
def fleet(own_world, tmp_path):
    return Fleet(own_world, tmp_path)


def test_a_new_agent_that_works_stays(fleet):
    said = fleet.update(fleet.release("98.0.0"), "Succeeded")
    assert "98.0.0 runs and has reached the server" in said
    eventually(lambda: fleet.version() == "98.0.0", what="the new version")

    # It is the one that starts from now on, however its process ended.
    fleet.agent.kill9()
    fleet.agent.start().wait_connected(fleet.world.v1)
    eventually(lambda: fleet.version() == "98.0.0", what="the new version")
    program = Path(f"/proc/{fleet.agent.process.pid}/exe")
    eventually(lambda: "98.0.0" in str(program.readlink()), what="the copy as the process")

    # The second update comes from a copy; an older release is refused, but the one that is kept.
    assert "99.0.0 runs" in fleet.update(fleet.release("99.0.0"), "Succeeded")
    assert "older than 99.0.0" in fleet.update(fleet.release("97.0.0"), "Failed")
    assert "98.0.0 runs" in fleet.update("98.0.0", "Succeeded")
    (fleet.agent.state / "allow-downgrade").touch()
    assert "97.0.0 runs" in fleet.update("97.0.0", "Succeeded")

    # A damaged copy is not started: the one before it is.
    fleet.agent.stop()
    copy = fleet.agent.state / "agent" / "versions" / "97.0.0" / "muster-agent"
    copy.write_bytes(copy.read_bytes()[:-1])
    fleet.agent.start().wait_connected(fleet.world.v1)
    eventually(lambda: fleet.version() == "98.0.0", what="the copy before")
    details = fleet.world.v2.get(f"/devices/{fleet.agent.uuid}", enrich_info="true").json()
    assert details["degraded"] == ["the agent 97.0.0 on the disk is damaged; another one runs"]


def test_what_is_not_signed_as_it_should_be_is_refused(fleet):
    release = fleet.keys.sign(binary("muster-agent"), fleet.folder / "good", "98.0.0")
    fleet.upload(release[:-1] + bytes([release[-1] ^ 1]), "changed")
    fleet.upload(release.replace(b"version=98.0.0", b"version=98.0.1", 1), "renamed")
    fleet.upload(Path(binary("muster-agent")).read_bytes(), "unsigned")
    fleet.release("98.0.2", keys=Keys(fleet.folder / "other"))
    fleet.release("98.0.3", arch="pdp11")
    for version, path, why in [
        ("98.0.0", "changed", "the signature does not fit"),
        ("98.0.1", "renamed", "the signature does not fit"),
        ("98.0.0", "unsigned", "does not begin with a signature"),
        ("98.0.2", "98.0.2", "a key that this device does not trust"),
        ("98.0.3", "98.0.3", "the release is for pdp11"),
        ("98.0.4", "98.0.3", "the flow wants 98.0.4"),
    ]:
        assert why in fleet.update(version, "Failed", path), path
    (fleet.agent.state / "release-keys").unlink()
    assert "this device trusts no key" in fleet.update("98.0.0", "Failed", "changed")
    assert not fleet.slots() and fleet.version() == fleet.installed


@pytest.mark.parametrize(
    "name, script, why",
    [
        ("crashes", "#!/bin/sh\nexit 3\n", "started 3 times without reaching the server"),
        ("is no program", "\x7fELF but nothing more", "started 3 times without reaching the server"),
        ("cannot be run", "#!/nowhere/sh\n", "the system cannot run its program"),
        ("hangs", "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n", "did not reach the server within 60 s"),
        # A network of its own, without a way out: it runs and never connects.
        ("never connects", "#!/bin/sh\nexec unshare $([ $(id -u) = 0 ] || echo -r) -n {agent} \"$@\"\n", "did not reach the server within 60 s"),
    ],
)  # fmt: skip
def test_a_new_agent_that_does_not_work_gives_way(fleet, name, script, why):
    script = script.replace("{agent}", shlex.quote(binary("muster-agent")))
    said = fleet.update(fleet.release("98.0.0", script), "Failed")
    assert why in said and "the one before it runs again" in said, said
    fleet.assert_back()
    # And the way is free for the next one.
    assert "98.0.1 runs" in fleet.update(fleet.release("98.0.1"), "Succeeded")


def kill_runner(state):
    """Kills the runner of the step that is running, by its own id."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"step-runner" in words and any(word.startswith(str(state).encode()) for word in words):
            os.kill(int(process.name), signal.SIGKILL)


def test_a_kill_anywhere_ends_with_one_working_agent(fleet):
    gates = [fleet.folder / name for name in ("first", "second")]
    agent = binary("muster-agent")
    first, second = (f"#!/bin/sh\nwhile [ ! -e '{gate}' ]; do sleep 0.1; done\nexec '{agent}' \"$@\"\n" for gate in gates)
    deployment = fleet.order(fleet.release("98.0.0", first))
    # The launcher dies while the new agent is tried, and the new agent with it.
    eventually(fleet.is_tried, what="the trial")
    fleet.agent.kill9()
    fleet.agent.start()
    eventually(lambda: fleet.slots()["trial"]["starts"] == 2, what="the second start")
    # So does the step's runner: it is started again, and waits for the same trial.
    kill_runner(fleet.agent.state)
    gates[0].touch()
    assert "98.0.0 runs" in fleet.ends(deployment, "Succeeded")["stdout"]
    fleet.agent.kill9()
    fleet.agent.start().wait_connected(fleet.world.v1)
    eventually(lambda: fleet.version() == "98.0.0", what="the new version")

    # Killed at every start, it is given up, and the copy before it comes back.
    deployment = fleet.order(fleet.release("98.0.1", second))
    for starts in (1, 2, 3):
        eventually(lambda n=starts: (fleet.slots().get("trial") or {}).get("starts") == n, what=f"start {starts}")
        fleet.agent.kill9()
        fleet.agent.start()
    assert "started 3 times" in fleet.ends(deployment, "Failed")["stderr"]
    fleet.assert_back("98.0.0")


def test_a_step_whose_time_is_over_brings_the_old_agent_back(fleet):
    hangs = "#!/bin/sh\nwhile :; do sleep 1; done\n"
    deployment = fleet.order(fleet.release("98.0.0", hangs), timeout_minutes=0.2)
    assert "time limit of 12 s" in fleet.ends(deployment, "Failed")["stderr"]
    fleet.assert_back()
    assert "time limit of 12 s" in fleet.slots()["ended"]["failure"]


def test_minisign_makes_and_checks_the_same_signatures(fleet):
    program = fleet.folder / "agent"
    program.write_bytes(Path(binary("muster-agent")).read_bytes())
    release = fleet.keys.sign(program, fleet.folder / "out", "98.0.0")
    signature = b"".join(release.splitlines(keepends=True)[:4])
    (fleet.folder / "agent.minisig").write_bytes(signature)
    done = run("minisign", "-V", "-p", fleet.keys.public, "-m", program)
    assert done.returncode == 0 and "muster-agent version=98.0.0" in done.stdout, done.stdout + done.stderr

    assert run("minisign", "-S", "-s", fleet.keys.secret, "-m", program).returncode == 0
    assert run("minisign", "-V", "-p", fleet.keys.public, "-m", program).returncode == 0

    # The other way round: keys and signature of minisign, and the release put together by hand.
    secret, public = fleet.folder / "theirs.key", fleet.folder / "theirs.pub"
    assert run("minisign", "-G", "-W", "-s", secret, "-p", public).returncode == 0
    comment = f"muster-agent version=98.0.1 arch={ARCH} size={program.stat().st_size}"
    done = run("minisign", "-S", "-s", secret, "-m", program, "-t", comment)
    assert done.returncode == 0, done.stderr
    fleet.upload((fleet.folder / "agent.minisig").read_bytes() + program.read_bytes(), "98.0.1")
    # Its secret key signs with Muster's own command too.
    signed = run(binary("muster"), "admin", "agent-release", "sign", "--secret-key", secret,
                 "--version", "98.0.2", "--arch", ARCH, "--out", fleet.folder / "two", program)  # fmt: skip
    assert signed.returncode == 0, signed.stderr
    fleet.upload((fleet.folder / "two").read_bytes(), "98.0.2")
    with (fleet.agent.state / "release-keys").open("a") as keys:
        keys.write(public.read_text())
    assert "98.0.1 runs" in fleet.update("98.0.1", "Succeeded")
    assert "98.0.2 runs" in fleet.update("98.0.2", "Succeeded")


def degraded(world, agent):
    details = world.v2.get(f"/devices/{agent.uuid}", enrich_info="true").json()
    return details.get("degraded", [])


def test_a_damaged_state_keeps_no_device_from_connecting(own_world, tmp_path):
    agent = own_world.device()
    agent.start().wait_connected(own_world.v1)
    assert degraded(own_world, agent) == []
    agent.stop()
    (agent.state / "runs").rename(tmp_path / "runs")
    (agent.state / "runs").write_text("no folder")
    (agent.state / "status.json").write_text("{")
    (agent.state / "agent").mkdir()
    (agent.state / "agent" / "slots.json").write_text("\0")
    for name, word in [("MUSTER_AGENT_LOG", "loud"), ("MUSTER_AGENT_SERVER", "nowhere")]:
        agent.environment[name] = word
    agent.start().wait_connected(own_world.v1)
    eventually(lambda: len(degraded(own_world, agent)) == 5, what="five reasons")
    reasons = " ".join(degraded(own_world, agent))
    for part in ("runs is damaged", "status.json is damaged", "slots.json is damaged", "loud", "nowhere"):
        assert part in reasons, (part, reasons)
    shown = json.loads(agent.command("status", "--json").stdout)
    assert len(shown["degraded"]) == 5
    # It still does its work, and is whole again at the next start.
    flow = own_world.v2.create_flow(json.dumps({"flows": {"f": {"steps": [{"name": "a", "run": "true"}]}}}))
    own_world.v2.wait_for_status(own_world.v2.deploy(flow, agent.uuid), agent.uuid, "Succeeded")
    agent.stop()
    agent.environment = {}
    agent.start().wait_connected(own_world.v1)
    eventually(lambda: degraded(own_world, agent) == [], what="no reason")


@pytest.mark.parametrize("name", ["agent.json", "identity.key"])
def test_a_damaged_identity_says_what_to_do(own_world, name):
    agent: Agent = own_world.device()
    (agent.state / name).write_text("{")
    done = agent.command("run")
    assert done.returncode != 0
    assert "enrol the device anew in an empty directory" in done.stderr, done.stderr
