"""API v1, call by call and body by body, through the library that its users use."""

import itertools

import pytest

from muster.api import V1
from muster.flows import flow
from muster.shapes import V1_DEVICE, V1_STATE_ITEM, assert_shape, assert_v1_error, mismatches

SUCCESS = {"message": "Success"}
numbers = itertools.count(1)


def a_filter(world, groups=(), filters=()):
    return {
        "project": {"name": world.account.project_name},
        "groups": [{"name": name} for name in groups],
        "filters": [{"type": kind, "operand": operand, "value": value} for kind, operand, value in filters],
    }


def assert_success(answer):
    assert (answer.status_code, answer.json()) == (200, SUCCESS), answer.text
    assert answer.headers["content-type"].startswith("application/json")


def fresh(word):
    """A name that no other test uses."""
    return f"{word} {next(numbers)}"


@pytest.fixture
def group(world):
    name = fresh("group")
    world.v2.create_group(name)
    return name


def test_details_of_a_running_device_have_every_documented_key(own_world):
    device = own_world.online_device(name="front desk", group="Test")
    answer = own_world.v1.details(device_token=device.token)
    assert answer.status_code == 200
    assert_shape(answer.json(), {"more": bool, "message": list})
    (details,) = answer.json()["message"]
    assert_shape(details, V1_DEVICE)
    expected = {
        "device_uuid": device.uuid,
        "device_name": "front desk",
        "project": own_world.account.project_name,
        "group": "Test",
        "address": "",
        "lat": None,
        "lng": None,
        "is_update_trigger_set": False,
        "description": "",
        "tags": [],
        "updates_v2": [],
        "apps": [],
    }
    assert {key: details[key] for key in expected} == expected
    assert answer.json()["more"] is False


def test_a_device_token_makes_every_other_parameter_ignored(world):
    device = world.device()
    answer = world.v1.details(device_token=device.token, project_name="no such", limit=1, device_name="other")
    assert [found["device_uuid"] for found in answer.json()["message"]] == [device.uuid]


def test_details_by_exact_name_group_and_project(world, group):
    name = fresh("Exact Name")
    device = world.device(name=name, group=group)
    project = world.account.project_name
    found = world.v1.details(project_name=project, group_name=group).json()["message"]
    assert [item["device_uuid"] for item in found] == [device.uuid]
    found = world.v1.details(device_name=name).json()["message"]
    assert [item["device_uuid"] for item in found] == [device.uuid]
    for other in (name.lower(), name[:-1], f"{name} "):
        assert world.v1.details(device_name=other).json() == {"more": False, "message": []}


def walk_details(world, group, limit):
    """The pages of `devices_details`: each asks from the last integer id of the one before."""
    more, offset = True, {}
    while more:
        body = world.v1.details(project_name=world.account.project_name, group_name=group, limit=limit, **offset).json()
        yield [item["device_uuid"] for item in body["message"]]
        more = body["more"]
        offset = {"offset": body["message"][-1]["device_id"]}


def test_details_are_walked_by_the_last_device_id(world, group):
    devices = [world.device(group=group) for _ in range(5)]
    pages = list(walk_details(world, group, limit=2))
    assert [len(page) for page in pages] == [2, 2, 1]
    assert sorted(sum(pages, [])) == sorted(device.uuid for device in devices)
    pages = list(walk_details(world, group, limit=5))
    assert [len(page) for page in pages] == [5], "a page that is just full has no more behind it"


def test_a_page_has_twenty_devices_by_default(world, group):
    for _ in range(21):
        world.device(group=group)
    body = world.v1.details(project_name=world.account.project_name, group_name=group).json()
    assert (len(body["message"]), body["more"]) == (20, True)
    body = world.v1.devices_state(project_name=world.account.project_name, group_name=group).json()
    assert len(body["message"]) == 20


def test_states_are_walked_by_the_last_device_uuid(world, group):
    devices = [world.device(group=group) for _ in range(5)]
    seen, offset = [], {}
    for size in (2, 2, 1):
        answer = world.v1.devices_state(project_name=world.account.project_name, group_name=group, limit=2, **offset)
        assert answer.status_code == 200
        assert_shape(answer.json(), {"message": list})
        page = answer.json()["message"]
        assert [mismatches(item, V1_STATE_ITEM) for item in page] == [[]] * size
        seen += [item["device_uuid"] for item in page]
        offset = {"offset": page[-1]["device_uuid"]}
    assert sorted(seen) == sorted(device.uuid for device in devices)
    names = {device.uuid: device.name for device in devices}
    assert {item["device_uuid"]: item["device_name"] for item in page} == {seen[-1]: names[seen[-1]]}


def test_state_is_asked_by_token_uuid_or_number(world):
    device = world.device()
    number = world.v1.device(device.token)["device_id"]
    expected = {"message": {"device_status": "offline", "device_id": device.uuid}}
    for body in (
        {"device_token": device.token},
        {"device_id": device.uuid},
        {"device_id": str(number)},
        {"device_id": number},
    ):
        answer = world.v1.device_state(**body)
        assert (answer.status_code, answer.json()) == (200, expected), body


def test_a_running_device_is_online(world):
    device = world.online_device()
    expected = {"message": {"device_status": "online", "device_id": device.uuid}}
    assert world.v1.device_state(device_token=device.token).json() == expected


def test_changing_details_changes_what_is_named_and_nothing_else(world, group):
    device, other = world.device(), world.device()
    app = fresh("app")
    world.v2.create_app(app)
    before, other_before = world.v1.device(device.token), world.v1.device(other.token)
    changed = {
        "device_name": fresh("renamed"),
        "group": group,
        "address": "Nürnberg",
        "description": "two\nlines",
    }
    assert_success(
        world.v1.change(
            device.token, **changed, lat="49.4521", lng="11.0767",
            apps=[{"app_name": app, "version": "v1.1"}], tag=fresh("Lab Device"),
        )
    )  # fmt: skip
    after = world.v1.device(device.token)
    assert {key: after[key] for key in changed} == changed
    assert (after["lat"], after["lng"]) == (49.4521, 11.0767)
    assert after["apps"] == [{"app_name": app, "version": "v1.1"}] and len(after["tags"]) == 1
    untouched = set(before) - set(changed) - {"lat", "lng", "apps", "tags"}
    assert {key: after[key] for key in untouched} == {key: before[key] for key in untouched}
    assert world.v1.device(other.token) == other_before


def test_a_tag_is_added_to_those_there_once(world):
    device = world.device()
    first, second = fresh("tag"), fresh("tag")
    for tag in (first, second, first):
        assert_success(world.v1.change(device.token, tag=tag))
    assert sorted(world.v1.device(device.token)["tags"]) == sorted([first, second])


def test_a_change_is_all_or_nothing(world):
    device = world.device()
    before = world.v1.device(device.token)
    answer = world.v1.change(device.token, description="new", tag=fresh("tag"), group="no such group")
    assert_v1_error(answer)
    assert "no such group" in answer.json()["error_message"]
    assert world.v1.device(device.token) == before


@pytest.mark.parametrize("kind", ["tag", "app"])
def test_deleting_takes_it_off_matching_devices_and_keeps_it_known(world, group, kind):
    thing = fresh(kind)
    if kind == "app":
        world.v2.create_app(thing)
    devices = [world.device(group=group), world.device(group=group), world.device(group="Test")]
    wanted = {"tag": thing} if kind == "tag" else {"apps": [{"app_name": thing, "version": "1"}]}
    for device in devices:
        assert_success(world.v1.change(device.token, **wanted))
    delete = world.v1.delete_tag if kind == "tag" else world.v1.delete_app
    assert_success(delete(thing, a_filter(world, [group])))
    assert [bears(world, device, kind) for device in devices] == [False, False, True]
    assert_success(delete(thing, a_filter(world, [group])))  # It is still in the catalogue, on nobody here.
    assert_success(delete(thing, a_filter(world)))
    assert [bears(world, device, kind) for device in devices] == [False, False, False]
    assert_success(delete(thing, a_filter(world)))


def bears(world, device, kind):
    details = world.v1.device(device.token)
    return bool(details["tags"] if kind == "tag" else details["apps"])


def test_filters_choose_devices(world, group):
    devices = [world.device(group=group) for _ in range(3)]
    mark, app = fresh("mark"), fresh("app")
    world.v2.create_app(app)
    assert_success(world.v1.change(devices[0].token, tag=mark))
    assert_success(world.v1.change(devices[1].token, apps=[{"app_name": app, "version": "1"}]))
    first, second, third = (device.uuid for device in devices)
    cases = [
        ([], {first, second, third}),
        ([("specific_device", "is", second)], {second}),
        ([("specific_device", "is_not", second)], {first, third}),
        ([("tag", "is", mark)], {first}),
        ([("tag", "is_not", mark)], {second, third}),
        ([("app", "is", app)], {second}),
        ([("app", "is_not", app)], {first, third}),
        ([("device_state", "is", "offline")], {first, second, third}),
        ([("device_state", "is", "online")], set()),
        ([("update_status", "is", "success")], set()),
        ([("update_status", "is_not", "success")], {first, second, third}),
        ([("tag", "is_not", mark), ("app", "is_not", app)], {third}),
        ([("tag", "is", mark), ("app", "is", app)], set()),
    ]
    for filters, expected in cases:
        assert chosen(world, group, devices, filters) == expected, filters


def chosen(world, group, devices, filters):
    """The devices that lose a fresh tag when it is deleted with those filters."""
    probe = fresh("probe")
    for device in devices:
        assert_success(world.v1.change(device.token, tag=probe))
    assert_success(world.v1.delete_tag(probe, a_filter(world, [group], filters)))
    return {device.uuid for device in devices if probe not in world.v1.device(device.token)["tags"]}


def test_several_groups_are_a_union(world):
    groups = [fresh("group") for _ in range(3)]
    for name in groups:
        world.v2.create_group(name)
    devices = [world.device(group=name) for name in groups]
    tag = fresh("tag")
    for device in devices:
        assert_success(world.v1.change(device.token, tag=tag))
    assert_success(world.v1.delete_tag(tag, a_filter(world, groups[:2])))
    assert [bears(world, device, "tag") for device in devices] == [False, False, True]


def test_both_spellings_of_the_filter_are_read(world):
    device = world.device()
    tag = fresh("tag")
    assert_success(world.v1.change(device.token, tag=tag))
    body = {"tag_name": tag, "devices_filter": a_filter(world, [], [("specific_device", "is", device.uuid)])}
    assert_success(world.v1.call("DELETE", "/v1/device_tags", body))
    assert world.v1.device(device.token)["tags"] == []


def test_the_trigger_is_set_and_cleared(world):
    device = world.device()
    for is_set in (True, True, False, False):
        assert_success(world.v1.set_trigger(device.token, is_set))
        assert world.v1.device(device.token)["is_update_trigger_set"] is is_set


def test_the_last_five_updates_are_shown_newest_first(world):
    device = world.online_device()
    app = fresh("app")
    world.v2.create_app(app)
    uuid = world.v2.create_flow(flow("shown", [("a", "true")]))
    for number in range(6):
        deployment = world.v2.deploy(
            uuid, device.uuid, comment=f"c{number}", app={"name": app, "version": f"v{number}"}
        )
        world.v2.wait_for_status(deployment, device.uuid, "Succeeded")
    details = world.v1.device(device.token)
    assert_shape(details, V1_DEVICE)
    updates = details["updates_v2"]
    assert [update["comment"] for update in updates] == ["c5", "c4", "c3", "c2", "c1"]
    assert {update["update_status"] for update in updates} == {"success"}
    assert updates[0]["apps_updated"] == [{"app_name": app, "app_new_version": "v5"}]
    assert updates[0]["deployment_type"] == "api-deployment" and updates[0]["flow_name"] == "shown"
    assert details["apps"] == [{"app_name": app, "version": "v5"}]


def test_invalid_tokens_are_refused(world):
    device = world.device()
    wrong = ["", "mu_wrong", world.account.access_token, world.account.pairing_token, device.token]
    for token in wrong:
        assert_v1_error(world.v1.details(user_token=token, project_name=world.account.project_name))
    for token in ["", "md_wrong", world.account.user_token]:
        assert_v1_error(world.v1.details(device_token=token))
    assert_v1_error(world.v1.call("GET", "/v1/devices_details", json={"limit": 1}))


def test_an_account_sees_nothing_of_another(world):
    device = world.device()
    stranger = V1(world.server, world.stranger.user_token)
    for call in (stranger.details, stranger.device_state):
        assert_v1_error(call(device_token=device.token))
    assert_v1_error(stranger.device_state(device_id=device.uuid))
    nothing = {"more": False, "message": []}
    assert stranger.details().json() == nothing
    # Both accounts may have a fleet of that name; the stranger then sees its own, empty one.
    answer = stranger.details(project_name=world.account.project_name)
    assert answer.status_code == 400 or answer.json() == nothing


def test_the_fourth_call_of_a_device_in_a_minute_is_refused(worlds):
    world = worlds().open(v1_device_calls=3)
    limited, other = world.device(), world.device()
    answers = [world.v1.details(device_token=limited.token) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].json() == {}
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert world.v1.set_trigger(limited.token, True).status_code == 429, "every call counts, not only this one"
    assert world.v1.details(device_token=other.token).status_code == 200
    assert world.v1.device_state(device_id=limited.uuid).status_code == 200, "calls of the account are its own"


def test_an_account_has_a_limit_of_its_own(worlds):
    world = worlds().open(v1_account_calls=5)
    statuses = [world.v1.details().status_code for _ in range(6)]
    assert statuses == [200] * 5 + [429]


def in_the_newer_way(flow_uuid, **configuration):
    return "/v2/deploy_update", "device_filter", {"deployment_configuration": {"flow_id": flow_uuid, **configuration}}


def in_the_older_way(flow_uuid, **metadata):
    return "/v1/deploy_update", "devices_filter", {"flow_id": flow_uuid, "metadata": metadata}


@pytest.mark.parametrize("way", [in_the_newer_way, in_the_older_way])
def test_deploying_reaches_what_the_filter_means(world, group, way):
    meant, other = world.device(group=group), world.device()
    flow_uuid = world.v2.create_flow(flow(fresh("flow"), [("say", "echo hello")]))
    path, filter_key, body = way(flow_uuid, comment=fresh("comment"))
    answer = world.v1.call("POST", path, {filter_key: a_filter(world, groups=[group]), **body})
    assert (answer.status_code, answer.json()) == (200, {"message": "Created"}), answer.text
    newest = world.v2.get("/deployments", limit=1).json()["deployments"][0]["deployment_uuid"]
    assert set(world.v2.targets(newest)) == {meant.uuid}
    assert world.v1.device(meant.token)["updates_v2"][0]["update_status"] == "pending"
    assert world.v1.device(other.token)["updates_v2"] == []


@pytest.mark.parametrize("way", [in_the_newer_way, in_the_older_way])
@pytest.mark.parametrize(
    ("changed", "named"),
    [({"flow_id": "f-0000-0000"}, "flow_id"), ({"flow_id": "' OR 1"}, "flow_id"), ({"comment": 5}, "comment"),
     ({"app": {"name": "no such", "version": "1"}}, "app.name"), ({"surprise": 1}, "surprise"),
     ({"parameters_mapping": {"nobody": "x"}}, "nobody")],
)  # fmt: skip
def test_a_bad_deployment_is_refused_and_named(world, group, way, changed, named):
    world.device(group=group)
    flow_uuid = world.v2.create_flow(flow(fresh("flow"), [("say", "echo hello")]))
    before = world.v2.get("/deployments").json()["pagination_info"]["total"]
    wanted = {"flow_uuid": flow_uuid, **changed}
    wanted["flow_uuid"] = wanted.pop("flow_id", flow_uuid)
    path, filter_key, body = way(**wanted)
    answer = world.v1.call("POST", path, {filter_key: a_filter(world, groups=[group]), **body})
    assert_v1_error(answer)
    assert named in answer.json()["error_message"], answer.text
    assert world.v2.get("/deployments").json()["pagination_info"]["total"] == before
