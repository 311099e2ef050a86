"""connect/docker-compose with a real engine, a real registry and the device's own compose."""

import json
import os
import shutil

import pytest

from muster.docker import PASSWORD, USER, Engine, Registry
from muster.waiting import eventually

SERVE = "sh -c 'trap \"exit 0\" TERM; echo $V serves; while :; do sleep 0.1; done'"


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
    """A registry whose image `shop/app:now` tests move from one content to another."""
    registry = Registry(tmp_path_factory.mktemp("registry") / "registry")
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def fleet(worlds, registry):
    world = worlds().open()
    login = {"kind": "docker", "url": f"http://{registry.address}", "username": USER}
    world.v2.create_registry(name="images", secret=PASSWORD, **login)
    return world


class Project:
    """A device with a folder for a project of compose."""

    def __init__(self, fleet, docker, registry, folder):
        self.fleet, self.docker, self.folder, self.name = fleet, docker, folder, folder.name
        folder.mkdir()
        self.image = f"{registry.address}/shop/{self.name}"
        self.agent = fleet.device(name=f"device of {self.name}").start("--docker-socket", docker.socket)
        self.agent.wait_connected(fleet.v1)

    def push(self, tag):
        made = self.docker.make_image(f"{self.image}:{tag}", f"LABEL made={os.urandom(4).hex()}")
        self.docker.push(f"{self.image}:{tag}")
        return made

    def service(self, tag="now", **changes):
        given = {"image": f"{self.image}:{tag}", "network_mode": "none", "restart": "always", "command": SERVE,
                 "environment": ["V=${V}"], "stop_grace_period": "1s"}  # fmt: skip
        return {**given, **changes}

    def step(self, version, services, **changes):
        # JSON is YAML.
        compose = json.dumps({"version": "3.5", "services": services})
        given = {"device-path": str(self.folder), "compose": compose.replace("${V}", "$V"), "registry": "images",
                 "env": {"V": version}, "steady-seconds": 1, **changes}  # fmt: skip
        return {"name": "app", "uses": "connect/docker-compose", "with": given}

    def deploy(self, *steps):
        flow = self.fleet.v2.create_flow(json.dumps({"flows": {"update": {"steps": list(steps)}}}))
        return self.fleet.v2.deploy(flow, self.agent.uuid)

    def wait(self, deployment, status):
        self.fleet.v2.wait_for_status(deployment, self.agent.uuid, status)
        return self.fleet.v2.target(deployment, self.agent.uuid)["steps"]

    def run(self, status, *steps):
        return self.wait(self.deploy(*steps), status)

    def picture(self):
        """Of each service: its image's content, its version, and whether it runs; and every file."""
        services = {}
        for listed in self.docker.containers():
            if listed["Labels"].get("com.docker.compose.project") != self.name:
                continue
            found = self.docker.inspect(listed["Id"])
            version = next(word for word in found["Config"]["Env"] if word.startswith("V="))
            service = listed["Labels"]["com.docker.compose.service"]
            services[service] = (found["Image"], version, found["State"]["Running"])
        files = {path.name: (path.stat().st_mode, path.read_bytes()) for path in self.folder.iterdir()}
        return services, files

    def assert_as(self, before):
        eventually(lambda: self.picture() == before, what="the project before")


@pytest.fixture
def project(request, fleet, docker, registry, tmp_path):
    # By the test's own name, since all share one engine.
    name = "".join(c for c in request.node.name if c.isalnum()).lower()[-40:]
    return Project(fleet, docker, registry, tmp_path / name)


def outputs(steps):
    return [(step["name"], step["exit_code"]) for step in steps]


def test_a_project_comes_up_and_is_replaced(project, docker):
    first = project.push("now")
    project.run("Succeeded", project.step("1", {"a": project.service(), "b": project.service()}))
    services, files = project.picture()
    assert services == {"a": (first, "V=1", True), "b": (first, "V=1", True)}
    assert sorted(files) == [".muster-env.json", "docker-compose.yml"]

    second = project.push("now")
    job = project.service(restart="no", command="sh -c 'exit 0'")
    step = project.step("2", {"a": project.service(), "job": job}, **{"delete-previous-images": True})
    project.run("Succeeded", step)
    assert project.picture()[0] == {"a": (second, "V=2", True), "job": (second, "V=2", False)}
    eventually(lambda: first not in docker.image_ids(), what="the image before is removed")


def test_a_failure_brings_back_the_file_the_environment_and_the_images(project):
    project.push("now")
    project.run("Succeeded", project.step("1", {"a": project.service(), "b": project.service()}))
    before = project.picture()
    # The tag goes on, and the way back must not go with it.
    project.push("now")
    broken = project.service(command="sh -c 'echo oh no >&2; exit 3'", restart="no")
    (step,) = project.run("Failed", project.step("2", {"a": project.service(), "c": broken}))
    assert "service c: the container ended with exit code 3" in step["stderr"] and "oh no" in step["stderr"], step
    project.assert_as(before)

    reverted = {"on-failure": {"revert-all-files": True, "trigger-revert": "any-step-failure"}}
    steps = [project.step("2", {"a": project.service()}, **reverted), {"name": "last", "run": "exit 4"}]
    assert outputs(project.run("Failed", *steps)) == [("app", 0), ("last", 4), ("app (revert)", 0)]
    project.assert_as(before)


def test_a_first_project_that_fails_leaves_nothing(project):
    project.push("now")
    steps = project.run("Failed", project.step("1", {"a": project.service(), "b": project.service(command="false")}))
    assert outputs(steps) == [("app", 1)]
    project.assert_as(({}, {}))


def test_what_cannot_be_read_or_pulled_changes_nothing(project):
    project.push("now")
    project.run("Succeeded", project.step("1", {"a": project.service()}))
    before = project.picture()
    project.run("Failed", project.step("2", {"a": project.service("none")}))
    assert project.picture() == before
    project.run("Failed", project.step("2", {"a": {"imgae": "x"}}))
    assert project.picture() == before


def test_cut_off_anywhere_it_ends_as_if_it_had_not_been(project):
    project.push("now")
    project.run("Succeeded", project.step("1", {"a": project.service(), "b": project.service()}))
    before = project.picture()
    project.push("now")
    broken = project.service(command="sh -c 'sleep 2; exit 3'", restart="no")
    deployment = project.deploy(project.step("2", {"a": project.service(), "c": broken}, **{"steady-seconds": 9}))
    for phase in ["staging", "changing", "undoing"]:
        eventually(lambda phase=phase: project.agent.phase() == phase, what=phase)
        project.agent.kill9_all()
        project.agent.start()
    project.wait(deployment, "Failed")
    project.assert_as(before)


def test_an_engine_that_is_killed_is_waited_for(fleet, registry, tmp_path):
    engine = Engine().start()
    try:
        project = Project(fleet, engine, registry, tmp_path / "killed")
        project.push("now")
        project.run("Succeeded", project.step("1", {"a": project.service()}))
        before = project.picture()
        project.push("now")
        broken = project.service(command="sh -c 'sleep 3; exit 3'", restart="no")
        deployment = project.deploy(project.step("2", {"a": project.service(), "c": broken}, **{"steady-seconds": 9}))
        eventually(lambda: "c" in project.picture()[0], what="the new set")
        engine.kill9()
        engine.start()
        project.wait(deployment, "Failed")
        project.assert_as(before)
    finally:
        engine.close()


def test_without_compose_the_step_says_so(fleet, docker, tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sh").symlink_to(shutil.which("sh"))
    monkeypatch.setenv("PATH", str(programs))
    agent = fleet.device(name="no compose").start("--docker-socket", docker.socket).wait_connected(fleet.v1)
    given = {"device-path": str(tmp_path), "compose": "services: {}"}
    steps = [{"name": "app", "uses": "connect/docker-compose", "with": given}]
    flow = fleet.v2.create_flow(json.dumps({"flows": {"update": {"steps": steps}}}))
    deployment = fleet.v2.deploy(flow, agent.uuid)
    fleet.v2.wait_for_status(deployment, agent.uuid, "Failed")
    (step,) = fleet.v2.target(deployment, agent.uuid)["steps"]
    assert 'neither "docker compose" nor "docker-compose"' in step["stderr"], step
