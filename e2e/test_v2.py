"""API v2, call by call and body by body."""

import itertools
import re

import pytest
import requests

from muster.api import V2
from muster.flows import flow
from muster.shapes import (
    FLOW_UUID,
    V2_DEPLOYMENT,
    V2_DEVICE,
    V2_ENRICHED_DEVICE,
    V2_FLOW,
    V2_LISTED_DEVICE,
    V2_PAGE,
    V2_TARGET,
    V2_TARGET_WITH_STEPS,
    assert_shape,
    assert_v2_error,
    mismatches,
)

numbers = itertools.count(1)


def fresh(word):
    """A name that no other test uses."""
    return f"{word} {next(numbers)}"


@pytest.fixture
def group(world):
    name = fresh("group")
    world.v2.create_group(name)
    return name


@pytest.fixture(scope="module")
def hello(world):
    """A flow that greets its input."""
    return world.v2.create_flow(flow("hello", [("greet", "echo hi ${{ inputs.who }}")], inputs=["who"]))


def walk(v2, path, key, **params):
    """All pages of a list, from cursor to cursor; `null` ends it."""
    pages, after = [], {}
    while True:
        answer = v2.get(path, **params, **after)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert_shape(body["pagination_info"], V2_PAGE)
        pages.append(body[key])
        if body["pagination_info"]["after"] is None:
            return pages, body["pagination_info"]["total"]
        after = {"after": body["pagination_info"]["after"]}


# --- Devices -----------------------------------------------------------------


def test_health_needs_no_token(world):
    assert requests.get(f"{world.server.url}/healthz", timeout=30).status_code == 200


def test_listed_devices_have_every_documented_key(world, group):
    device = world.online_device(name="listed", group=group)
    answer = world.v2.get("/devices", group_name=group)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("application/json")
    assert_shape(answer.json(), {"devices": list, "pagination_info": V2_PAGE})
    assert answer.json()["pagination_info"] == {"after": None, "total": 1}
    (listed,) = answer.json()["devices"]
    assert_shape(listed, V2_LISTED_DEVICE)
    expected = {
        "device_uuid": device.uuid,
        "device_name": "listed",
        "device_status": "online",
        "group_name": group,
        "project": world.account.project_name,
        "description": "",
        "address": "",
        "lat": None,
        "lng": None,
        "is_update_trigger_set": False,
    }
    assert {key: listed[key] for key in expected} == expected


def test_enriched_lists_bear_tags_as_names(world, group):
    device = world.device(group=group)
    world.v2.add_tags(device.uuid, "b", "a")
    (listed,) = world.v2.get("/devices", group_name=group, enrich_info="true").json()["devices"]
    tags = listed.pop("tags")
    assert mismatches(listed, V2_LISTED_DEVICE) == []
    assert sorted(tags["names"]) == ["a", "b"] and not tags.get("message")


def test_more_than_a_hundred_tags_are_cut_with_a_message(world, group):
    device = world.device(group=group)
    world.v2.add_tags(device.uuid, *[f"many {number:03}" for number in range(101)])
    (listed,) = world.v2.get("/devices", group_name=group, enrich_info="true").json()["devices"]
    assert len(listed["tags"]["names"]) == 100 and listed["tags"]["message"]
    assert len(world.v2.tags(device.uuid)) == 101, "a single device shows them all"


def test_one_device_is_plain_or_enriched(world):
    device = world.online_device()
    plain = world.v2.get(f"/devices/{device.uuid}")
    assert plain.status_code == 200
    assert_shape(plain.json(), V2_DEVICE)
    enriched = world.v2.get(f"/devices/{device.uuid}", enrich_info="true").json()
    assert_shape(enriched, V2_ENRICHED_DEVICE)
    added = {key: enriched[key] for key in ("apps", "tags", "updates")}
    assert added == {"apps": [], "tags": [], "updates": []}


def test_devices_are_listed_by_any_of_their_tags(world, group):
    devices = [world.device(group=group) for _ in range(3)]
    first, second = fresh("tag"), fresh("tag")
    world.v2.add_tags(devices[0].uuid, first)
    world.v2.add_tags(devices[1].uuid, first, second)

    def listed(*tags):
        found = world.v2.get("/devices", tags=list(tags), group_name=group).json()
        assert found["pagination_info"]["total"] == len(found["devices"])
        return sorted(device["device_uuid"] for device in found["devices"])

    assert listed(first, second) == sorted([devices[0].uuid, devices[1].uuid])
    assert listed(second) == [devices[1].uuid]


def test_a_walk_skips_and_repeats_no_device_while_others_come(world, group):
    devices = [world.device(group=group) for _ in range(5)]
    first = world.v2.get("/devices", group_name=group, limit=2).json()
    world.device(group=group)
    seen, after = first["devices"], first["pagination_info"]["after"]
    while after is not None:
        body = world.v2.get("/devices", group_name=group, limit=2, after=after).json()
        seen, after = seen + body["devices"], body["pagination_info"]["after"]
    uuids = [device["device_uuid"] for device in seen]
    assert len(set(uuids)) == len(uuids)
    assert {device.uuid for device in devices} <= set(uuids)


def test_a_page_that_is_just_full_is_the_last(world, group):
    for _ in range(4):
        world.device(group=group)
    pages, total = walk(world.v2, "/devices", "devices", group_name=group, limit=2)
    assert ([len(page) for page in pages], total) == ([2, 2], 4)


def test_unknown_devices_are_not_found(world):
    for uuid in ("d-0000-0000", "d-", "x", "%00", "d-1A2B-3c4d"):
        assert_v2_error(world.v2.get(f"/devices/{uuid}"), 404)


# --- PATCH and move ----------------------------------------------------------


def operations_on_everything(group, app):
    return [
        {"op": "replace", "path": "device_name", "value": "patched"},
        {"op": "add", "path": "/description", "value": "two\nlines"},
        {"op": "replace", "path": "group_name", "value": group},
        {"op": "replace", "path": "address", "value": "Nürnberg"},
        {"op": "replace", "path": "lat", "value": 49.4521},
        {"op": "replace", "path": "lng", "value": "11.0767"},
        {"op": "replace", "path": "is_update_trigger_set", "value": True},
        {"op": "add", "path": "tags", "value": ["a tag, with a comma", "b"]},
        {"op": "add", "path": "/apps", "value": [{"app_name": app, "version": "1.0"}]},
    ]


def test_a_patch_answers_with_the_full_device(world, group):
    device, app = world.online_device(), fresh("app")
    world.v2.create_app(app)
    answer = world.v2.patch(device.uuid, *operations_on_everything(group, app))
    assert answer.status_code == 200, answer.text
    patched = answer.json()
    assert_shape(patched, V2_ENRICHED_DEVICE)
    expected = {
        "device_name": "patched",
        "description": "two\nlines",
        "group_name": group,
        "address": "Nürnberg",
        "lat": 49.4521,
        "lng": 11.0767,
        "is_update_trigger_set": True,
        "apps": [{"app_name": app, "version": "1.0"}],
    }
    assert {key: patched[key] for key in expected} == expected
    assert sorted(patched["tags"]) == ["a tag, with a comma", "b"]
    read = world.v2.get(f"/devices/{device.uuid}", enrich_info="true").json()
    assert {key: read[key] for key in expected} == expected


def test_removing_takes_the_listed_or_all(world):
    device = world.device()
    world.v2.add_tags(device.uuid, "a", "b", "c")
    world.v2.add_tags(world.device().uuid, "borne by another")
    answer = world.v2.patch(device.uuid, {"op": "remove", "path": "tags", "value": ["a", "borne by another"]})
    assert sorted(answer.json()["tags"]) == ["b", "c"]
    assert world.v2.patch(device.uuid, {"op": "remove", "path": "/tags"}).json()["tags"] == []
    world.v2.patch(device.uuid, {"op": "replace", "path": "lat", "value": 1.5})
    assert world.v2.patch(device.uuid, {"op": "remove", "path": "lat"}).json()["lat"] is None


def test_replacing_tags_leaves_exactly_those(world):
    device = world.device()
    world.v2.add_tags(device.uuid, "a", "b")
    answer = world.v2.patch(device.uuid, {"op": "replace", "path": "tags", "value": ["b", "c"]})
    assert sorted(answer.json()["tags"]) == ["b", "c"]


@pytest.mark.parametrize("content_type", ["application/json", "application/json-patch+json"])
@pytest.mark.parametrize("wrapped", [True, False], ids=["operations", "bare array"])
def test_a_patch_may_be_sent_in_every_documented_form(world, content_type, wrapped):
    device = world.device()
    operations = [{"op": "add", "path": "tags", "value": ["t"]}]
    body = {"operations": operations} if wrapped else operations
    answer = world.v2.call("PATCH", f"/devices/{device.uuid}", json=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["tags"]) == (200, ["t"])


def test_a_patch_is_all_or_nothing(world):
    device = world.device()
    before = world.v2.get(f"/devices/{device.uuid}", enrich_info="true").json()
    answer = world.v2.patch(
        device.uuid,
        {"op": "add", "path": "tags", "value": ["t"]},
        {"op": "replace", "path": "group_name", "value": "no such group"},
    )
    assert_v2_error(answer, 400)
    assert "no such group" in answer.json()["message"]
    assert world.v2.get(f"/devices/{device.uuid}", enrich_info="true").json() == before


def test_moving_within_the_fleet_changes_the_group(world, group):
    device = world.device()
    body = {"destination_project_key": world.account.project_key, "destination_group_name": group}
    answer = world.v2.post(f"/devices/{device.uuid}/move", body)
    assert (answer.status_code, answer.json()) == (200, {"message": "Device moved successfully"})
    assert world.v2.get(f"/devices/{device.uuid}").json()["group_name"] == group


# --- Groups and apps ---------------------------------------------------------


@pytest.mark.parametrize(
    "path, more", [("/groups", {"device_count": 0}), ("/apps", {"device_count": 0, "version_count": 0})]
)
def test_names_are_created_once(world, path, more):
    name = fresh("Named")
    answer = world.v2.post(path, {"name": name})
    body = answer.json()
    assert (answer.status_code, body) == (201, {"name": name, "created_time": body["created_time"], **more})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["created_time"])
    again = world.v2.post(path, {"name": name})
    assert 400 <= again.status_code < 500 and name in again.json()["message"]
    assert world.v2.post(path, {"name": name.lower()}).status_code == 201, "names are case sensitive"


# --- Update flows ------------------------------------------------------------

TWO_FLOWS = """# kept byte for byte
flows:
  Second first:
    steps: [{name: a, run: "echo ${{inputs.b }} ${{ inputs.a }}"}]
  another: {steps: [{name: a, run: 'true'}]}
'on': {workflow-dispatch: {inputs: {b: {}, a: {}}}}
"""


def test_flows_are_created_listed_and_read_back(own_world):
    v2 = own_world.v2
    answer = v2.create_flows(TWO_FLOWS)
    assert answer.status_code == 201
    body = answer.json()
    flows = body.pop("update_flows")
    assert body == {"status": "success", "message": "Update flows created successfully."}
    assert [found["name"] for found in flows] == ["Second first", "another"]
    assert all(mismatches(found, {"name": str, "uuid": FLOW_UUID}) == [] for found in flows)
    listed = v2.get("/update-flows").json()
    assert listed["status"] == "success" and set(listed) == {"status", "update_flows", "pagination_info"}
    assert [mismatches(found, V2_FLOW) for found in listed["update_flows"]] == [[], []]
    parameters = {found["uuid"]: found["update_parameters"] for found in listed["update_flows"]}
    assert parameters[flows[0]["uuid"]] == ["b", "a"]
    for found in flows:
        read = v2.get(f"/update-flows/{found['uuid']}")
        assert (read.status_code, read.content.decode()) == (200, TWO_FLOWS)
        assert "yaml" in read.headers["content-type"]


def test_flows_are_walked(own_world):
    uuids = [own_world.v2.create_flow(flow(f"f{number}", [("a", "true")])) for number in range(5)]
    pages, total = walk(own_world.v2, "/update-flows", "update_flows", limit=2)
    assert ([len(page) for page in pages], total) == ([2, 2, 1], 5)
    assert sorted(found["uuid"] for page in pages for found in page) == sorted(uuids)


def test_flows_need_their_content_type(world):
    document = flow("typed", [("a", "true")])
    for content_type in ("application/json", "text/plain", "multipart/form-data"):
        assert_v2_error(world.v2.create_flows(document, content_type), 415)
    assert world.v2.create_flows(document, "application/yaml; charset=utf-8").status_code == 201
    assert_v2_error(world.v2.get("/update-flows/f-0000-0000"), 404)


# --- Deployments -------------------------------------------------------------


def test_a_deployment_from_creation_to_success(world, hello):
    device, app = world.online_device(), fresh("app")
    world.v2.create_app(app)
    answer = world.v2.try_deploy(
        hello, device.uuid, comment="first", app={"name": app, "version": "v2"}, parameters_mapping={"who": "Ada"}
    )
    assert answer.status_code == 201 and set(answer.json()) == {"deployment_uuid"}
    deployment = answer.json()["deployment_uuid"]
    target = world.v2.wait_for_status(deployment, device.uuid, "Succeeded")
    assert_shape(target, V2_TARGET_WITH_STEPS)
    assert target["steps"] == [{"exit_code": 0, "name": "greet", "stderr": "", "stdout": "hi Ada\n"}]
    assert target["started_time"] <= target["finished_time"]
    (update,) = world.v2.get(f"/devices/{device.uuid}", enrich_info="true").json()["updates"]
    assert (update["deployment_status"], update["flow_name"], update["comment"]) == ("success", "hello", "first")
    assert update["apps_updated"] == [{"app_name": app, "app_new_version": "v2"}]
    assert world.v1.device(device.token)["apps"] == [{"app_name": app, "version": "v2"}]


def test_a_deployment_is_shown_as_documented(own_world):
    v2 = own_world.v2
    device, other = own_world.device(), own_world.device()
    flow_uuid = v2.create_flow(flow("shown", [("a", "true")]))
    deployment = v2.deploy(flow_uuid, comment="whole fleet")
    expected = {
        "comment": "whole fleet",
        "cve_severity": None,
        "Critical": 0,
        "High": 0,
        "Low": 0,
        "Medium": 0,
        "deployment_uuid": deployment,
        "type": "api-deployment",
    }
    one = v2.get(f"/deployments/{deployment}").json()
    assert_shape(one, V2_DEPLOYMENT)
    assert {key: one[key] for key in expected} == expected
    assert v2.get("/deployments").json() == {"deployments": [one], "pagination_info": {"after": None, "total": 1}}
    pending = {"finished_time": None, "started_time": None, "status": "Pending"}
    assert v2.get(f"/deployments/{deployment}/devices").json() == {
        "deployment_by_device_uuid": {device.uuid: pending, other.uuid: pending},
        "pagination_info": {"after": None, "total": 2},
    }
    assert v2.target(deployment, device.uuid) == {**pending, "steps": []}


def test_the_extra_keys_of_a_target_say_why_and_until_when(world, hello):
    device = world.device()
    deployment = world.v2.deploy(hello, device.uuid, parameters_mapping={"who": "x"})
    target = world.v2.target(deployment, device.uuid, enrich_info="true")
    assert set(target) == set(V2_TARGET_WITH_STEPS) | {"reason_code", "reason", "deadline_time", "attempt"}
    assert target["attempt"] == 1
    assert target["reason_code"] and target["reason"] and target["deadline_time"]


def test_a_failing_step_ends_the_run_and_shows_its_output(world):
    device = world.online_device()
    steps = [("good", "echo fine"), ("bad", "echo out; echo err >&2; exit 7"), ("never", "echo never")]
    deployment = world.v2.deploy(world.v2.create_flow(flow("failing", steps)), device.uuid)
    target = world.v2.wait_for_status(deployment, device.uuid, "Failed")
    assert target["steps"][:2] == [
        {"exit_code": 0, "name": "good", "stderr": "", "stdout": "fine\n"},
        {"exit_code": 7, "name": "bad", "stderr": "err\n", "stdout": "out\n"},
    ]
    assert "never" not in [step["name"] for step in target["steps"]]
    assert world.v2.target(deployment, device.uuid, enrich_info="true")["reason_code"] == "step_failed"


def test_targets_are_chosen_by_groups_filters_and_earlier_deployments(world, group, hello):
    devices = [world.device(group=group) for _ in range(3)]
    mark = fresh("mark")
    world.v2.add_tags(devices[0].uuid, mark)

    def targets(filters, groups=(group,)):
        body = {
            "device_filter": {"groups": [{"name": name} for name in groups], "filters": filters},
            "deployment_configuration": {"flow_uuid": hello, "comment": None, "parameters_mapping": {"who": "x"}},
        }
        answer = world.v2.post("/deployments", body)
        assert answer.status_code == 201, answer.text
        return answer.json()["deployment_uuid"], set(world.v2.targets(answer.json()["deployment_uuid"]))

    uuids = [device.uuid for device in devices]
    earlier, found = targets([{"type": "tag", "operand": "is", "value": mark}])
    assert found == {uuids[0]}
    by_deployment = {"type": "deployment", "operand": "is", "deployment_id": earlier}
    assert targets([{**by_deployment, "value": "any"}])[1] == {uuids[0]}
    assert targets([{**by_deployment, "value": "pending"}])[1] == {uuids[0]}
    assert targets([{"type": "tag", "operand": "is_not", "value": mark}])[1] == set(uuids[1:])
    assert targets([{"type": "device_state", "operand": "is", "value": "offline"}])[1] == set(uuids)


def test_deployments_and_their_devices_are_walked(own_world):
    v2 = own_world.v2
    devices = [own_world.device() for _ in range(3)]
    flow_uuid = v2.create_flow(flow("walked", [("a", "true")]))
    deployments = [v2.deploy(flow_uuid) for _ in range(5)]
    pages, total = walk(v2, "/deployments", "deployments", limit=2)
    assert ([len(page) for page in pages], total) == ([2, 2, 1], 5)
    assert sorted(found["deployment_uuid"] for page in pages for found in page) == sorted(deployments)
    pages, total = walk(v2, f"/deployments/{deployments[0]}/devices", "deployment_by_device_uuid", limit=2)
    assert ([len(page) for page in pages], total) == ([2, 1], 3)
    assert {uuid for page in pages for uuid in page} == {device.uuid for device in devices}
    assert all(mismatches(target, V2_TARGET) == [] for page in pages for target in page.values())


def test_aborting_is_idempotent_and_spares_what_has_ended(world, hello):
    online, offline, other = world.online_device(), world.device(), world.device()
    uuids = [online.uuid, offline.uuid, other.uuid]
    mark = fresh("mark")
    for uuid in uuids:
        world.v2.add_tags(uuid, mark)
    body = {
        "device_filter": {"groups": [], "filters": [{"type": "tag", "operand": "is", "value": mark}]},
        "deployment_configuration": {"flow_uuid": hello, "parameters_mapping": {"who": "x"}},
    }
    deployment = world.v2.post("/deployments", body).json()["deployment_uuid"]
    world.v2.wait_for_status(deployment, online.uuid, "Succeeded")
    for _ in range(2):
        answer = world.v2.post(f"/deployments/{deployment}/devices/{offline.uuid}/abort")
        assert (answer.status_code, answer.json()) == (201, {"message": "Deployment for device aborted successfully"})
    assert [world.v2.target(deployment, uuid)["status"] for uuid in uuids] == ["Succeeded", "Aborted", "Pending"]
    for _ in range(2):
        answer = world.v2.post(f"/deployments/{deployment}/abort")
        assert (answer.status_code, answer.json()) == (201, {"message": "Deployment aborted successfully"})
    assert [world.v2.target(deployment, uuid)["status"] for uuid in uuids] == ["Succeeded", "Aborted", "Aborted"]


def test_unknown_deployments_are_not_found(world):
    device = world.device()
    for path in ("", "/devices", f"/devices/{device.uuid}"):
        assert_v2_error(world.v2.get(f"/deployments/dp-0000-0000{path}"), 404)
    for path in ("/abort", f"/devices/{device.uuid}/abort"):
        assert_v2_error(world.v2.post(f"/deployments/dp-0000-0000{path}"), 404)


# --- Who may -----------------------------------------------------------------


def test_every_call_needs_a_good_token(world):
    device = world.device()
    for method, path in [
        ("GET", "/devices"), ("GET", f"/devices/{device.uuid}"), ("PATCH", f"/devices/{device.uuid}"),
        ("POST", f"/devices/{device.uuid}/move"), ("GET", "/update-flows"), ("POST", "/update-flows"),
        ("GET", "/update-flows/f-0000-0000"), ("GET", "/deployments"), ("POST", "/deployments"),
        ("GET", "/deployments/dp-0000-0000"), ("GET", "/deployments/dp-0000-0000/devices"),
        ("GET", f"/deployments/dp-0000-0000/devices/{device.uuid}"), ("POST", "/deployments/dp-0000-0000/abort"),
        ("POST", f"/deployments/dp-0000-0000/devices/{device.uuid}/abort"), ("POST", "/groups"), ("POST", "/apps"),
    ]:  # fmt: skip
        url = f"{world.server.url}/api/v2/{world.account.project_key}{path}"
        assert_v2_error(requests.request(method, url, timeout=30), 401)
        for token in ("ma_wrong", world.account.user_token, world.account.pairing_token, device.token):
            assert_v2_error(world.v2.call(method, path, token=token), 401)
        wrong_scheme = {"Authorization": f"Basic {world.account.access_token}"}
        assert_v2_error(requests.request(method, url, headers=wrong_scheme, timeout=30), 401)


def test_what_is_another_account_s_is_not_found(world, hello):
    device = world.device()
    deployment = world.v2.deploy(hello, device.uuid, parameters_mapping={"who": "x"})
    stranger = V2(world.server, world.stranger)
    for method, path, options in [
        ("GET", f"/devices/{device.uuid}", {}),
        ("PATCH", f"/devices/{device.uuid}", {"json": [{"op": "remove", "path": "tags"}]}),
        ("POST", f"/devices/{device.uuid}/move", {"json": {"destination_project_key": world.stranger.project_key, "destination_group_name": "Test"}}),
        ("GET", f"/update-flows/{hello}", {}),
        ("GET", f"/deployments/{deployment}", {}),
        ("GET", f"/deployments/{deployment}/devices", {}),
        ("GET", f"/deployments/{deployment}/devices/{device.uuid}", {}),
        ("POST", f"/deployments/{deployment}/abort", {}),
        ("POST", f"/deployments/{deployment}/devices/{device.uuid}/abort", {}),
    ]:  # fmt: skip
        assert_v2_error(stranger.call(method, path, **options), 404)
    for path in ("/devices", "/deployments", "/update-flows"):
        assert_v2_error(stranger.call("GET", path, project_key="nosuch"), 404)
    assert world.v2.target(deployment, device.uuid)["status"] == "Pending"
    assert stranger.get("/devices").json()["devices"] == []
