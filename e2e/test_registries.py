"""A registry of the account: the server asks it for the device, which never has its secret."""

import json
import os

import pytest
import requests

from muster.process import clean_environment, run
from muster.registry import Registry


@pytest.fixture
def registry(own_world, tmp_path):
    registry = Registry(tmp_path / "registry")
    registry.folder.mkdir()
    for name in ("ship", "wrong"):
        secret = registry.SECRET if name == "ship" else "another"
        made = {"name": name, "kind": "generic", "url": registry.url, "username": registry.USER, "secret": secret}
        headers = {"Authorization": f"Bearer {own_world.account.access_token}"}
        answer = requests.post(f"{own_world.server.url}/api/v2/account/registries", json=made, headers=headers, timeout=30)
        assert answer.status_code == 201, answer.text
    yield registry
    registry.stop()


def deploy(world, device, status, *steps):
    flow = world.v2.create_flow(json.dumps({"flows": {"update": {"steps": list(steps)}}}))
    deployment = world.v2.deploy(flow, device.uuid)
    world.v2.wait_for_status(deployment, device.uuid, status)
    return world.v2.target(deployment, device.uuid)["steps"]


def git(folder, *words):
    who = {f"GIT_{role}_{what}": "a@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = run("git", "-C", folder, *words, env=clean_environment(**who))
    assert done.returncode == 0, done.stderr


def test_a_download_and_a_clone(own_world, registry, tmp_path):
    device = own_world.online_device()
    content = os.urandom(3_000_000)
    (registry.folder / "app.bin").write_bytes(content)
    source, bare = tmp_path / "source", registry.folder / "team" / "tool.git"
    source.mkdir()
    git(source, "init", "--quiet", "--initial-branch=main")
    (source / "README").write_text("of the repository\n")
    git(source, "add", ".")
    git(source, "commit", "--quiet", "-m", "first")
    bare.parent.mkdir()
    git(source, "clone", "--quiet", "--bare", ".", bare)
    place = tmp_path / "srv"
    place.mkdir()
    address = f"{registry.url}/team/tool.git"
    deploy(
        own_world, device, "Succeeded",
        {"name": "fetch", "uses": "connect/download-artifact",
         "with": {"registry": "ship", "artifactory-path": "app.bin", "device-path": str(place / "app.bin")}},
        {"name": "clone", "uses": "connect/git",
         "with": {"registry": "ship", "repository": address, "device-path": str(place)}},
    )  # fmt: skip
    assert (place / "app.bin").read_bytes() == content
    assert (place / "tool" / "README").read_text() == "of the repository\n"
    assert registry.refused == 0
    # The clone knows where it came from, and nothing of how.
    config = (place / "tool" / ".git" / "config").read_text()
    assert address in config and "mg1." not in config
    for path in [*device.state.rglob("*"), *place.rglob("*"), device.folder / "agent.log"]:
        if path.is_file():
            assert registry.SECRET.encode() not in path.read_bytes(), path

    (missing, *_) = deploy(own_world, device, "Failed", {
        "name": "fetch", "uses": "connect/download-artifact",
        "with": {"registry": "wrong", "artifactory-path": "app.bin", "device-path": str(place / "other.bin")},
    })  # fmt: skip
    assert "424" in missing["stderr"], missing
    assert not (place / "other.bin").exists()
