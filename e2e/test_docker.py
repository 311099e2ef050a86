"""connect/docker with a real engine and a real registry: done, put back, and cut off anywhere."""

import json
import os
import signal

import pytest

from muster.docker import PASSWORD, USER, Engine, Registry, SmallDisk
from muster.waiting import eventually

# Ends at once when it is told to, unlike a first process that knows no signal.
SERVE = ["sh", "-c", "trap 'exit 0' TERM; echo $0 serves; while :; do sleep 0.1; done"]
# The check says yes as soon as the folder that the device lends has the file `ok`.
CHECK = "HEALTHCHECK --interval=1s --retries=3 CMD test -e /lent/ok"


@pytest.fixture(scope="module")
def engine():
    """The database, which makes no difference here."""
    return "sqlite"


@pytest.fixture(scope="module")
def docker():
    engine = Engine().start()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def registry(docker, tmp_path_factory):
    """A registry with the image `shop/till`: `1` and `2` serve, `checked` is asked, `big` is large."""
    registry = Registry(tmp_path_factory.mktemp("registry") / "registry")
    image, serve = f"{registry.address}/shop/till", f"CMD {json.dumps([*SERVE, 'till'])}"
    docker.make_image(f"{image}:1", serve, "ENV V=1")
    docker.make_image(f"{image}:2", serve, "ENV V=2")
    docker.make_image(f"{image}:checked", serve, CHECK, "ENV V=checked")
    docker.make_image(f"{image}:big", serve, files=[("filling", os.urandom(40_000_000))])
    for tag in ["1", "2", "checked", "big"]:
        docker.push(f"{image}:{tag}")
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def fleet(worlds, registry):
    world = worlds().open()
    secret = {"kind": "docker", "url": f"http://{registry.address}", "username": USER}
    world.v2.create_registry(name="images", secret=PASSWORD, **secret)
    world.v2.create_registry(name="wrong", secret="wrong", **secret)
    return world


class Till:
    """A device with a container of its own name on an engine."""

    def __init__(self, fleet, docker, name, old_image=None):
        self.fleet, self.docker, self.name = fleet, docker, name
        self.agent = fleet.device(name=f"device of {name}").start("--docker-socket", docker.socket)
        self.agent.wait_connected(fleet.v1)
        if old_image:
            policy = {"Name": "unless-stopped", "MaximumRetryCount": 0}
            docker.run(name, old_image, [*SERVE, "old"], RestartPolicy=policy)
        self.before = docker.picture(name)

    def step(self, tag="2", **changes):
        options = {"name": self.name, "network": "none", "restart": "always", **changes.pop("options", {})}
        given = {"registry": "images", "image-path": "shop/till", "image-tag": tag, "run-options": options,
                 "steady-seconds": 1, **changes}  # fmt: skip
        return {"name": "till", "uses": "connect/docker", "with": given}

    def deploy(self, *steps):
        flow = self.fleet.v2.create_flow(json.dumps({"flows": {"update": {"steps": list(steps)}}}))
        return self.fleet.v2.deploy(flow, self.agent.uuid)

    def wait(self, deployment, status):
        self.fleet.v2.wait_for_status(deployment, self.agent.uuid, status)
        return self.fleet.v2.target(deployment, self.agent.uuid)["steps"]

    def run(self, status, *steps):
        return self.wait(self.deploy(*steps), status)

    def names(self):
        return {name: runs for name, runs in self.docker.names().items() if name.startswith(self.name)}

    def assert_as_before(self):
        eventually(lambda: self.docker.picture(self.name) == self.before, what="the container before")
        assert self.names() == ({self.name: True} if self.before else {})

    def assert_replaced(self, tag):
        """What stood aside is removed when the run is over, by the agent beside its work."""
        eventually(lambda: self.names() == {self.name: True}, what=f"only {self.name}")
        found = self.docker.inspect(self.name)
        assert found["Id"] != (self.before or [None])[0]
        assert found["HostConfig"]["RestartPolicy"]["Name"] == "always"
        assert "/shop/till@sha256:" in found["Config"]["Image"]
        assert f"V={tag}" in found["Config"]["Env"]


def outputs(steps):
    return [(step["name"], step["exit_code"]) for step in steps]


@pytest.fixture
def old_image(docker):
    return docker.make_image("local/old:1", f"LABEL made={os.urandom(4).hex()}")


@pytest.fixture
def till(request, fleet, docker, old_image):
    # By the test's own name, since all share one engine.
    return Till(fleet, docker, request.node.name.replace("_", "-").split("[")[0], old_image)


def test_a_container_takes_the_place_of_another(till, docker, old_image):
    steps = till.run("Succeeded", till.step("1", **{"delete-previous-image": True}))
    assert outputs(steps) == [("till", 0)]
    till.assert_replaced("1")
    eventually(lambda: old_image not in docker.image_ids(), what="the old image is removed")
    till.before = docker.picture(till.name)
    till.run("Succeeded", till.step("2"))
    till.assert_replaced("2")


def test_a_container_comes_where_none_was(fleet, docker):
    till = Till(fleet, docker, "new")
    steps = till.run("Failed", till.step("1"), {"name": "last", "run": "exit 3"})
    assert outputs(steps) == [("till", 0), ("last", 3)]
    till.assert_replaced("1")


def test_an_unhealthy_one_gives_way_to_the_one_before(till, tmp_path):
    options = {"volumes": [f"{tmp_path}:/lent"]}
    steps = till.run("Failed", till.step("checked", options=options))
    assert "unhealthy" in steps[0]["stderr"] and "till serves" in steps[0]["stdout"], steps
    till.assert_as_before()
    (tmp_path / "ok").touch()
    till.run("Succeeded", till.step("checked", options=options))
    till.assert_replaced("checked")


def test_one_that_ends_gives_way_to_the_one_before(till):
    steps = till.run("Failed", till.step(command="sh -c 'echo oh no >&2; exit 7'", options={"restart": "no"}))
    assert "exit code 7" in steps[0]["stderr"] and "oh no" in steps[0]["stderr"], steps
    till.assert_as_before()


def test_a_later_failure_puts_back_two_updates_of_one_container(till, docker):
    def reverted(step, name):
        step["name"] = name
        step["with"]["on-failure"] = {"revert-all-files": True, "trigger-revert": "any-step-failure"}
        return step

    steps = till.run(
        "Failed",
        reverted(till.step("1"), "a"),
        reverted(till.step("2"), "b"),
        {"name": "last", "run": "exit 3"},
    )
    assert outputs(steps) == [("a", 0), ("b", 0), ("last", 3), ("a (revert)", 0), ("b (revert)", 0)]
    till.assert_as_before()


def test_the_older_word_puts_back_when_the_step_fails(till):
    step = till.step(command="false", **{"rollback-configuration": {"restart-previous-container": True}})
    assert outputs(till.run("Failed", step)) == [("till", 1), ("till (revert)", 0)]
    till.assert_as_before()


def test_an_attached_container_is_waited_for(till):
    options = {"attach": True, "restart": "no"}
    steps = till.run("Failed", till.step(command="sh -c 'echo out; echo err >&2; exit 4'", options=options))
    assert steps[0]["exit_code"] == 4, steps
    assert "out\n" in steps[0]["stdout"] and "err\n" in steps[0]["stderr"], steps
    till.assert_as_before()
    steps = till.run("Succeeded", till.step(command="echo all is well", options=options))
    assert "all is well\n" in steps[0]["stdout"]
    eventually(lambda: till.names() == {till.name: False}, what="only the ended container")


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"image-tag": "nope"}, "manifest unknown"),
        ({"registry": "wrong"}, "unauthorized"),
        ({"image-path": "shop/none"}, "manifest unknown"),
    ],
)
def test_an_image_that_cannot_be_had_changes_nothing(fleet, docker, old_image, changes, why):
    till = Till(fleet, docker, f"unknown-{'-'.join(changes)}", old_image)
    step = till.step()
    step["with"].update(changes)
    steps = till.run("Failed", step)
    assert why in steps[0]["stderr"], steps
    till.assert_as_before()


def test_a_registry_that_the_account_does_not_have_ends_the_run_before_it_begins(till):
    step = till.step()
    step["with"]["registry"] = "nobody"
    deployment = till.deploy({"name": "first", "run": "true"}, step)
    assert till.wait(deployment, "Failed") == []
    till.assert_as_before()


def test_without_an_engine_the_step_says_so(fleet, tmp_path):
    """Takes the half minute for which an engine that is being restarted is waited for."""
    socket = tmp_path / "none.sock"
    agent = fleet.device(name="no engine").start("--docker-socket", socket).wait_connected(fleet.v1)
    given = {"registry": "images", "image-path": "shop/till", "image-tag": "1"}
    document = {"flows": {"update": {"steps": [{"name": "till", "uses": "connect/docker", "with": given}]}}}
    deployment = fleet.v2.deploy(fleet.v2.create_flow(json.dumps(document)), agent.uuid)
    fleet.v2.wait_for_status(deployment, agent.uuid, "Failed")
    (step,) = fleet.v2.target(deployment, agent.uuid)["steps"]
    assert f"no container engine at {socket}" in step["stderr"], step


def test_a_full_disk_is_seen_before_anything_changes(fleet, registry, tmp_path):
    disk = SmallDisk(tmp_path / "disk", "60m")
    engine = Engine()
    engine.data = disk.folder / "data"
    try:
        engine.start()
        till = Till(fleet, engine, "full", engine.make_image("local/old:1"))
        steps = till.run("Failed", till.step("big"))
        assert "bytes free, and the step needs more than" in steps[0]["stderr"], steps
        till.assert_as_before()
    finally:
        engine.close()
        disk.close()


@pytest.mark.parametrize("is_healthy", [True, False])
def test_cut_off_while_it_changes_it_ends_as_if_it_had_not_been(fleet, docker, old_image, tmp_path, is_healthy):
    till = Till(fleet, docker, f"cut-{is_healthy}", old_image)
    deployment = till.deploy(till.step("checked", options={"volumes": [f"{tmp_path}:/lent"], "health-retries": 30}))
    eventually(lambda: len(till.names()) == 2 and till.names()[till.name], what="the new container")
    assert till.agent.phase() == "changing"
    till.agent.kill9_all()
    if is_healthy:
        (tmp_path / "ok").touch()
    till.agent.start()
    if is_healthy:
        till.wait(deployment, "Succeeded")
        till.assert_replaced("checked")
    else:
        # Again, in the middle of the second attempt.
        eventually(lambda: till.agent.phase() == "changing" and len(till.names()) == 2, what="the second attempt")
        till.agent.kill9_all()
        till.agent.start()
        till.wait(deployment, "Failed")
        till.assert_as_before()


def test_cut_off_while_it_puts_back_it_puts_back(till, docker):
    deployment = till.deploy(till.step(command="sh -c 'exit 7'", options={"restart": "no"}))
    eventually(lambda: till.agent.phase() == "undoing", what="the undoing")
    # What the engine was asked for stays half done for a while.
    os.kill(docker.process.pid, signal.SIGSTOP)
    till.agent.kill9_all()
    os.kill(docker.process.pid, signal.SIGCONT)
    till.agent.start()
    steps = till.wait(deployment, "Failed")
    assert "exit code 7" in steps[0]["stderr"], steps
    till.assert_as_before()


@pytest.fixture
def own_docker(registry):
    """An engine that the test may kill."""
    engine = Engine().start()
    yield engine
    engine.close()


@pytest.mark.parametrize("is_healthy", [True, False])
def test_an_engine_that_is_killed_is_waited_for(fleet, own_docker, tmp_path, is_healthy):
    till = Till(fleet, own_docker, "killed", own_docker.make_image("local/old:1"))
    deployment = till.deploy(till.step("checked", options={"volumes": [f"{tmp_path}:/lent"], "health-retries": 30}))
    eventually(lambda: len(till.names()) == 2 and till.names()[till.name], what="the new container")
    own_docker.kill9()
    if is_healthy:
        (tmp_path / "ok").touch()
    own_docker.start()
    till.wait(deployment, "Succeeded" if is_healthy else "Failed")
    if is_healthy:
        till.assert_replaced("checked")
    else:
        till.assert_as_before()
