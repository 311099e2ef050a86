"""Ready-made actions through the real server: done, put back, in the documented order."""

import json

import pytest
import requests


def document(steps, rollback):
    """A flow whose last step fails when the deployment says so. JSON is YAML."""
    last = {"name": "last", "run": "exit ${{ inputs.code }}"}
    flow = {"steps": [*steps, last], "on-failure": {"run": rollback}}
    inputs = {"workflow-dispatch": {"inputs": {"code": {"default": "0"}}}}
    return json.dumps({"flows": {"update": flow}, "on": inputs})


class Device:
    """A device with a folder of files that a flow changes."""

    def __init__(self, world, folder):
        self.world, self.folder = world, folder
        folder.mkdir()
        self.conf, self.data, self.log = folder / "app.conf", folder / "data", folder / "log"
        self.conf.write_text("old\n")
        self.conf.chmod(0o600)
        self.data.mkdir()
        (self.data / "a").write_text("1")
        (self.data / "link").symlink_to("a")
        self.agent = world.online_device()
        convert = f"echo 2 > {self.data}/a; echo 2 > {self.data}/b; rm {self.data}/link"
        self.flow = world.v2.create_flow(document([
            {"name": "conf", "uses": "connect/file",
             "with": {"device-path": str(self.conf), "content": "code=${{ inputs.code }}\n", "mode": "0640",
                      "on-failure": {"revert-all-files": True, "trigger-revert": "any-step-failure",
                                     "run": f"echo conf $(cat {self.conf}) >> {self.log}"}}},
            {"name": "convert", "uses": "connect/script",
             "with": {"script": convert, "changes": [str(self.data)],
                      "on-failure": {"revert-all-files": True, "trigger-revert": "any-step-failure"}}},
            {"name": "ignored", "run": "exit 5", "on-failure": {"ignore": True}},
        ], f"echo rollback >> {self.log}"))  # fmt: skip

    def picture(self):
        """Everything that a restoration must bring back."""
        paths = [self.conf, *sorted(self.data.rglob("*"))]
        return [(str(path), path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes()) for path in paths]

    def deploy(self, status, **parameters):
        deployment = self.world.v2.deploy(self.flow, self.agent.uuid, parameters_mapping=parameters)
        self.world.v2.wait_for_status(deployment, self.agent.uuid, status)
        steps = self.world.v2.target(deployment, self.agent.uuid)["steps"]
        return [(step["name"], step["exit_code"]) for step in steps]


@pytest.fixture
def device(own_world, tmp_path):
    return Device(own_world, tmp_path / "files")


def test_files_are_written_and_a_failure_puts_them_back(device):
    before = device.picture()
    assert device.deploy("Failed", code="3") == [
        ("conf", 0), ("convert", 0), ("ignored", 5), ("last", 3),
        ("conf (revert)", 0), ("conf (on failure)", 0), ("convert (revert)", 0), ("rollback", 0),
    ]  # fmt: skip
    assert device.picture() == before
    # The step's own command runs when its files are back, and the flow's rollback last.
    assert device.log.read_text().splitlines() == ["conf old", "rollback"]

    assert device.deploy("Succeeded") == [("conf", 0), ("convert", 0), ("ignored", 5), ("last", 0)]
    assert (device.conf.read_text(), device.conf.stat().st_mode & 0o777) == ("code=0\n", 0o640)
    assert sorted(path.name for path in device.data.iterdir()) == ["a", "b"]


def test_a_wrong_flow_is_refused_with_its_line(own_world):
    wrong = "flows:\n  f:\n    steps:\n      - name: a\n        uses: connect/file\n        with: {device-path: x, content: y}\n"
    answer = own_world.v2.create_flows(wrong)
    assert answer.status_code == 400
    assert "flows.f.steps[0].with.device-path" in answer.text and "line 6, column 16" in answer.text


def test_the_schema_needs_no_credential(own_world):
    answer = requests.get(f"{own_world.server.url}/api/flow.schema.json", timeout=30)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/schema+json")
    assert answer.json()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
