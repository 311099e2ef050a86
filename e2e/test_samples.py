"""The vendor's samples run as printed; only the words of `REPLACED` differ.

Wherever the pages are absent (a clone without the folder beside it) these tests
skip and say so; `test_v1.py` asks the same things in our own words and never skips.
"""

import json
import sys

import pytest

from muster.flows import flow
from muster.process import run
from muster.samples import VENDOR_URL, every_sample, seeds_dir
from muster.shapes import V1_DEVICE, V1_STATE_ITEM, mismatches

# Names that the samples print and that are made before they run.
GROUPS = ["TestGroup1", "TestGroup2"]
THING = "some-name"  # the tag, and the app, that they delete

# Needs a deployment that has failed, so it has a test of its own.
DEPLOYS = "python-POST_v2_deploy_update-page003"
RUN = [sample for sample in every_sample() if sample.id != DEPLOYS]

# Everything that the pages print and this suite runs: a page that is read badly shows here.
EXPECTED = {
    "python-DELETE_v1_device_tags-page000",
    "python-DELETE_v1_device_apps-page001",
    "python-DELETE_v1_device_tags-page003",
    "python-DELETE_v1_device_apps-page003",
    "python-GET_v1_devices_details-page003",
    "python-POST_v1_devices_details-page003",
    "python-GET_v1_get_device_state-page003",
    "python-GET_v1_get_devices_state-page003",
    "python-POST_v1_set_update_trigger-page003",
    "curl-GET_v1_get_device_state-page003",
    "curl-GET_v1_get_devices_state-page003",
}


def replaced(world, device):
    """Every word of a sample that is not run as printed: address, tokens, and ids that a server chooses.

    Names are case sensitive and the bootstrapped fleet is called otherwise, hence its two names.
    """
    return {
        VENDOR_URL: world.server.url,
        "<user token>": world.account.user_token,
        "<user_token>": world.account.user_token,
        "YYYYYYYYYYYYYYY": world.account.user_token,
        "<device token>": device.token,
        "<device_token>": device.token,
        "d-4ec7-1be9": device.uuid,
        "d-1234-abcd": device.uuid,
        "'Demo'": f"'{world.account.project_name}'",
        "'MYPROJECT'": f"'{world.account.project_name}'",
    }


def filled(code, words):
    for printed, ours in words.items():
        code = code.replace(printed, ours)
    return code


def run_python(code, folder):
    """Runs a sample as a script of its own; hands back status and body."""
    script = folder / "sample.py"
    script.write_text(code + "\nprint(json.dumps([call_request.status_code, call_response]))\n")
    done = run(sys.executable, script)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def run_curl(code, _folder):
    done = run("bash", "-c", code + r" --silent --show-error --write-out '\n%{http_code}'")
    assert done.returncode == 0, done.stderr
    body, status = done.stdout.rsplit("\n", 1)
    return int(status), json.loads(body)


@pytest.fixture(scope="module")
def sample_world(world):
    for group in GROUPS:
        world.v2.create_group(group)
    world.v2.create_app(THING)
    # The listing samples ask for this group, and an empty answer would prove nothing.
    world.device(group="Production")
    return world


@pytest.fixture
def bystander(sample_world):
    """A device that bears everything the samples delete and that none of them means."""
    return dressed(sample_world, sample_world.device(group=GROUPS[0]))


def dressed(world, device):
    operations = [
        {"op": "add", "path": "tags", "value": [THING, "kept"]},
        {"op": "add", "path": "apps", "value": [{"app_name": THING, "version": "1"}, {"app_name": "default_app", "version": "1"}]},
    ]  # fmt: skip
    answer = world.v2.patch(device.uuid, *operations)
    assert answer.status_code == 200, answer.text
    return device


def app_names(details):
    return sorted(app["app_name"] for app in details["apps"])


def check_delete_tags(world, device, bystander, body):
    assert body == {"message": "Success"}
    assert world.v1.device(device.token)["tags"] == ["kept"]
    assert sorted(world.v1.device(bystander.token)["tags"]) == ["kept", THING]


def check_delete_apps(world, device, bystander, body):
    assert body == {"message": "Success"}
    assert app_names(world.v1.device(device.token)) == ["default_app"]
    assert app_names(world.v1.device(bystander.token)) == ["default_app", THING]


def check_change(world, device, bystander, body):
    assert body == {"message": "Success"}
    details = world.v1.device(device.token)
    assert (details["device_name"], details["group"]) == ("new_device_name", "Production")
    assert details["description"] == "Some kind of description for that device"
    assert sorted(details["tags"]) == ["kept", THING, "test_tag"]
    assert {"app_name": "default_app", "version": "v1.1"} in details["apps"]
    assert world.v1.device(bystander.token)["device_name"] != "new_device_name"


def check_trigger(world, device, bystander, body):
    assert body == {"message": "Success"}
    assert world.v1.device(device.token)["is_update_trigger_set"] is True
    assert world.v1.device(bystander.token)["is_update_trigger_set"] is False


def check_state(world, device, bystander, body):
    assert body == {"message": {"device_status": "offline", "device_id": device.uuid}}


def check_states(world, device, bystander, body):
    assert set(body) == {"message"}
    assert all(mismatches(item, V1_STATE_ITEM) == [] for item in body["message"])
    assert body["message"] != []


def check_details(world, device, bystander, body):
    assert set(body) == {"more", "message"} and isinstance(body["more"], bool)
    assert all(set(item) == set(V1_DEVICE) for item in body["message"])
    assert all(item["group"] == "Production" for item in body["message"]) and body["message"] != []


CHECKS = {
    ("DELETE", "/v1/device_tags"): check_delete_tags,
    ("DELETE", "/v1/device_apps"): check_delete_apps,
    ("POST", "/v1/devices_details"): check_change,
    ("POST", "/v1/set_update_trigger"): check_trigger,
    ("GET", "/v1/get_device_state"): check_state,
    ("GET", "/v1/get_devices_state"): check_states,
    ("GET", "/v1/devices_details"): check_details,
}
RUNNERS = {"python": run_python, "curl": run_curl}
needs_seeds = pytest.mark.skipif(not seeds_dir().is_dir(), reason="the vendor's pages are not beside this clone")


@needs_seeds
def test_every_printed_sample_was_found():
    assert {sample.id for sample in every_sample()} == EXPECTED | {DEPLOYS}


@needs_seeds
@pytest.mark.parametrize("sample", RUN, ids=lambda sample: sample.id)
def test_runs_as_printed(sample_world, bystander, tmp_path, sample):
    device = dressed(sample_world, sample_world.device(group=GROUPS[0]))
    code = filled(sample.code, replaced(sample_world, device))
    status, body = RUNNERS[sample.language](code, tmp_path)
    assert status == 200, body
    CHECKS[sample.method, sample.path](sample_world, device, bystander, body)


@needs_seeds
def test_the_sample_that_deploys_reaches_the_device_that_failed(sample_world, tmp_path):
    v2, project_name = sample_world.v2, sample_world.account.project_name
    device = sample_world.online_device(group=GROUPS[0])
    failed = v2.deploy(v2.create_flow(flow("fails", [("no", "exit 1")])), device.uuid)
    v2.wait_for_status(failed, device.uuid, "Failed")
    wanted = v2.create_flow(flow("wanted", [("say", "echo ${{ inputs.username }}")], ["username", "conf_path"]))
    sample = next(sample for sample in every_sample() if sample.id == DEPLOYS)
    words = {
        "https://api.connect.onprem": sample_world.server.url,
        "<user token>": sample_world.account.user_token,
        '"Demo"': f'"{project_name}"',
        "d-4ec7-1be9": device.uuid,
        "dp-9yl3-9ch7": failed,
        "f-dd0c-73b9": wanted,
    }
    assert run_python(filled(sample.code, words), tmp_path) == [200, {"message": "Created"}]
    newest = v2.get("/deployments", limit=1).json()["deployments"][0]
    assert (newest["comment"], newest["type"]) == ("test webhook 1", "api-deployment")
    target = v2.wait_for_status(newest["deployment_uuid"], device.uuid, "Succeeded")
    assert [step["stdout"] for step in target["steps"]] == ["ubuntu\n"]
    assert {"app_name": "default_app", "version": "v1.1"} in sample_world.v1.device(device.token)["apps"]


@needs_seeds
def test_a_wrong_token_takes_the_printed_error_branch(sample_world, bystander, tmp_path):
    sample = next(sample for sample in RUN if sample.id == "python-DELETE_v1_device_tags-page000")
    words = {**replaced(sample_world, bystander), "<user token>": "mu_wrong"}
    status, body = run_python(filled(sample.code, words), tmp_path)
    assert status == 400 and set(body) == {"error_message"}
    assert VENDOR_URL not in body["error_message"]
