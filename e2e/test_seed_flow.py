"""The flow that the Connect API prints, as printed: with a real engine, images and an artifact."""

from pathlib import Path

import pytest

from muster.docker import PASSWORD, USER, Engine, Platform, Registry
from muster.waiting import eventually

PRINTED = """flows:
  Flow-1-name:
    reboot-after-restart: false
    steps:
      - name: docker_step
        uses: connect/docker
        with:
          registry: account1
          image-path: platform-url/${{inputs.input-1-name }}/${{inputs.input-2-name }}
          image-tag: ${{ inputs.input-3-name }}
          run-options:
            restart: always
            attach: true
          command: echo hello
          delete-previous-image: false
          on-failure:
            revert-all-files: true
            trigger-revert: any-step-failure
      - name: command_step
        run: echo hello
      - name: artifact_step
        uses: connect/download-artifact
        with:
          registry: account1
          artifactory-path: local-repo/file.txt
          device-path: /tmp
          on-failure:
            trigger-revert: this-step-failure
            revert-all-files: false
on:
  workflow-dispatch:
    inputs:
      input-1-name: {}
      input-2-name: {}
      input-3-name: {}
"""
# The second of the two that are printed.
QUOTED = PRINTED.replace("attach: true", "attach: 'true'").replace("\non:", "\n'on':")
INPUTS = {"input-1-name": "docker-local", "input-2-name": "till", "input-3-name": "1.0"}


# Both write the same file.
pytestmark = pytest.mark.xdist_group("seed-flow")


@pytest.fixture(scope="module")
def engine():
    """The database, which makes no difference here."""
    return "sqlite"


@pytest.fixture
def file():
    """`/tmp/file.txt`, which the flow writes; what it held is put back."""
    path = Path("/tmp/file.txt")
    before = path.read_bytes() if path.exists() else None
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)
    if before is not None:
        path.write_bytes(before)


@pytest.fixture
def docker():
    engine = Engine().start()
    yield engine
    engine.close()


@pytest.fixture
def files(docker, own_world, tmp_path):
    """What stands on the platform that the account calls `account1`, beside its image."""
    registry = Registry(tmp_path / "registry")
    image = f"{registry.address}/platform-url/docker-local/till:1.0"
    docker.make_image(image, "LABEL made=now")
    docker.push(image)
    files = {}
    platform = Platform(registry, files)
    own_world.v2.create_registry(
        name="account1", kind="artifactory", url=f"http://{platform.address}/artifactory",
        username=USER, secret=PASSWORD,
    )  # fmt: skip
    yield files
    platform.close()
    registry.close()


@pytest.mark.parametrize("document", [PRINTED, QUOTED], ids=["bare", "quoted"])
def test_the_printed_flow_updates_and_reverts(own_world, docker, files, file, document):
    v2, agent = own_world.v2, own_world.device().start("--docker-socket", docker.socket)
    agent.wait_connected(own_world.v1)
    flow = v2.create_flow(document)

    def deploy(status):
        deployment = v2.deploy(flow, agent.uuid, parameters_mapping=INPUTS)
        v2.wait_for_status(deployment, agent.uuid, status)
        return v2.target(deployment, agent.uuid)["steps"]

    def outputs(steps):
        return [(step["name"], step["exit_code"]) for step in steps]

    # There is no such artifact yet: the first container is removed again.
    failed = [("docker_step", 0), ("command_step", 0), ("artifact_step", 1), ("docker_step (revert)", 0)]
    steps = deploy("Failed")
    assert outputs(steps) == failed, steps
    assert docker.names() == {} and not file.exists()

    files["/artifactory/local-repo/file.txt"] = b"an artifact\n"
    steps = deploy("Succeeded")
    assert outputs(steps) == [("docker_step", 0), ("command_step", 0), ("artifact_step", 0)]
    assert "hello\n" in steps[0]["stdout"] and steps[1]["stdout"] == "hello\n"
    assert file.read_bytes() == b"an artifact\n"
    first = docker.inspect("till")
    assert first["HostConfig"]["RestartPolicy"]["Name"] == "always" and first["Config"]["Cmd"] == ["echo", "hello"]

    # And one that took the place of another gives it back.
    del files["/artifactory/local-repo/file.txt"]
    assert outputs(deploy("Failed")) == failed
    eventually(lambda: list(docker.names()) == ["till"], what="the container before alone")
    found = docker.inspect("till")
    assert (found["Id"], found["HostConfig"]["RestartPolicy"]["Name"]) == (first["Id"], "always")
    assert file.read_bytes() == b"an artifact\n"
