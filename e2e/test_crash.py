"""Every deployment ends, and every step runs once: through killed servers and killed agents."""

import pytest

from muster.api import FINAL_STATUSES
from muster.flows import GatedFlow, flow
from muster.waiting import eventually

VICTIMS = {"server": ["server"], "agent": ["agent"], "both": ["server", "agent"]}


class Scene:
    """One device with a gated flow of its own."""

    def __init__(self, world, folder):
        self.world, self.v2 = world, world.v2
        self.gated = GatedFlow(folder)
        self.device = world.device()

    def online(self):
        self.device.start().wait_connected(self.world.v1)
        return self

    def deploy(self):
        self.deployment = self.v2.deploy(self.v2.create_flow(self.gated.document()), self.device.uuid)
        return self

    def deploy_to_the_middle(self):
        self.deploy()
        eventually(self.gated.is_in_the_middle, what="the middle step")
        return self

    def target(self):
        return self.v2.target(self.deployment, self.device.uuid)

    def wait_for(self, status):
        self.v2.wait_for_status(self.deployment, self.device.uuid, status)

    def kill(self, victims):
        for victim in victims:
            (self.world.server if victim == "server" else self.device).kill9()

    def revive(self, victims):
        for victim in victims:
            (self.world.server.restart if victim == "server" else self.device.start)()

    def pass_a_barrier(self):
        """A later deployment has run: whatever the device had to do before it, it has done."""
        barrier = self.v2.deploy(self.v2.create_flow(flow("barrier", [("a", "true")])), self.device.uuid)
        self.v2.wait_for_status(barrier, self.device.uuid, "Succeeded")

    def assert_ran_once(self):
        self.wait_for("Succeeded")
        target = self.target()
        assert [(step["name"], step["exit_code"]) for step in target["steps"]] == [("one", 0), ("two", 0), ("three", 0)]
        self.pass_a_barrier()
        assert self.gated.lines() == GatedFlow.ALL
        assert self.target() == target

    def assert_nothing_in_progress(self):
        statuses = {target["status"] for target in self.v2.targets(self.deployment).values()}
        assert statuses <= FINAL_STATUSES


@pytest.fixture
def scene(own_world, tmp_path):
    scene = Scene(own_world, tmp_path / "gated")
    yield scene
    # A shell that still waits in the middle ends by itself.
    scene.gated.open_gate()


@pytest.mark.parametrize("opened", ["while down", "after"])
@pytest.mark.parametrize("victims", VICTIMS)
def test_a_kill_in_the_middle(scene, victims, opened):
    scene.online().deploy_to_the_middle()
    scene.kill(VICTIMS[victims])
    if opened == "while down":
        scene.gated.open_gate()
        eventually(lambda: not scene.gated.is_middle_alive(), what="the end of the middle step's shell")
    scene.revive(VICTIMS[victims])
    if opened == "after":
        scene.device.wait_connected(scene.world.v1)
        scene.gated.open_gate()
    scene.assert_ran_once()
    scene.assert_nothing_in_progress()


def test_what_was_acknowledged_survives_a_kill_at_once(scene):
    scene.online()
    scene.gated.open_gate()
    scene.deploy()
    scene.kill(["server"])
    scene.revive(["server"])
    scene.assert_ran_once()


@pytest.mark.parametrize("first_lines", [0, 1])
def test_an_agent_killed_at_a_bad_moment_repeats_nothing(scene, first_lines):
    scene.online()
    scene.gated.open_gate()
    scene.deploy()
    eventually(lambda: len(scene.gated.lines()) >= first_lines, what="the first step")
    scene.kill(["agent"])
    scene.revive(["agent"])
    eventually(lambda: scene.target()["status"] in FINAL_STATUSES, what="a final state")
    scene.pass_a_barrier()
    # A kill between noting a step and starting it leaves unknown whether it ran:
    # then it fails, with the reason, and is not run again.
    lines = scene.gated.lines()
    assert lines == GatedFlow.ALL[: len(lines)]
    assert (scene.target()["status"] == "Succeeded") == (lines == GatedFlow.ALL)


def test_killing_again_and_again_changes_nothing(scene):
    scene.online().deploy_to_the_middle()
    for victims in (["agent"], ["server"], ["server", "agent"], ["agent"]):
        scene.kill(victims)
        scene.revive(victims)
    scene.gated.open_gate()
    scene.assert_ran_once()


def test_an_abort_in_the_middle_ends_the_step(scene):
    scene.online().deploy_to_the_middle()
    path = f"/deployments/{scene.deployment}/devices/{scene.device.uuid}/abort"
    assert scene.v2.post(path).status_code == 201
    scene.wait_for("Aborted")
    eventually(lambda: not scene.gated.is_middle_alive(), what="the end of the aborted step's shell")
    scene.gated.open_gate()
    scene.pass_a_barrier()
    assert scene.gated.lines() == GatedFlow.BEGUN, "nothing may run after the abort"
    assert scene.target()["status"] == "Aborted"


@pytest.mark.parametrize("victims", ["agent", "both"])
def test_an_abort_survives_a_kill(scene, victims):
    scene.online().deploy_to_the_middle()
    scene.kill(["agent"])
    assert scene.v2.post(f"/deployments/{scene.deployment}/abort").status_code == 201
    if victims == "both":
        scene.kill(["server"])
        scene.revive(["server"])
    scene.revive(["agent"])
    scene.wait_for("Aborted")
    scene.assert_nothing_in_progress()
    eventually(lambda: not scene.gated.is_middle_alive(), what="the end of the aborted step's shell")
    scene.gated.open_gate()
    scene.pass_a_barrier()
    assert scene.gated.lines() == GatedFlow.BEGUN


def test_a_device_that_was_offline_runs_when_it_comes(scene):
    scene.deploy()
    assert scene.target() == {"finished_time": None, "started_time": None, "status": "Pending", "steps": []}
    reason = scene.v2.target(scene.deployment, scene.device.uuid, enrich_info="true")["reason"]
    assert reason, "a pending device says why"
    scene.gated.open_gate()
    scene.online()
    scene.assert_ran_once()


def test_a_deployment_waits_for_an_offline_device_through_a_kill(scene):
    scene.deploy()
    scene.kill(["server"])
    scene.revive(["server"])
    assert scene.target()["status"] == "Pending"
    scene.gated.open_gate()
    scene.online()
    scene.assert_ran_once()


def test_the_trigger_holds_a_deployment_back_until_it_is_cleared(scene):
    scene.online()
    scene.gated.open_gate()
    assert scene.world.v1.set_trigger(scene.device.token, True).status_code == 200
    scene.deploy()
    # Another device that runs a later deployment shows that the engine has had its turn.
    other = scene.world.online_device()
    later = scene.v2.deploy(scene.v2.create_flow(flow("later", [("a", "true")])), other.uuid)
    scene.v2.wait_for_status(later, other.uuid, "Succeeded")
    assert scene.target()["status"] == "Pending" and scene.gated.lines() == []
    reason = scene.v2.target(scene.deployment, scene.device.uuid, enrich_info="true")["reason"]
    assert "trigger" in reason.lower()
    scene.kill(["server"])
    scene.revive(["server"])
    assert scene.target()["status"] == "Pending", "the trigger outlives the server"
    assert scene.world.v1.set_trigger(scene.device.token, False).status_code == 200
    scene.assert_ran_once()
