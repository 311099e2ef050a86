"""The Tag Service, driven by the SDKs that programs use today, and beside Connect's API over the same tags."""

import uuid

import pytest
import requests

from muster.tag_service import STACKS, Refused, TagService, access_key, device_resource

QUOTA = 200


@pytest.fixture(scope="module")
def key(world):
    return access_key(world.server)


@pytest.fixture(params=STACKS, ids=lambda stack: stack.name)
def tags(request, world, key):
    """The nine operations; the catalogue is empty at the start of each test."""
    stack = request.param(world.server, key)
    service = TagService(stack)
    if left := service.tags():
        service.delete(*left)
    yield service
    stack.close()


@pytest.fixture(scope="module")
def device(world):
    return world.device()


def virtual_machine(name):
    return {"serviceType": "BCC", "region": "bj", "resourceId": name}


def refused(work, *words, **options):
    with pytest.raises(Refused) as told:
        work(*words, **options)
    assert uuid.UUID(told.value.request_id).version == 4
    return told.value.status, told.value.code, told.value.message


def test_all_nine_operations(tags):
    site, machine = ("site", "London"), virtual_machine("i-1")
    assert tags.create(site, ("部门", "")) is None
    assert tags.tags() == [site, ("部门", "")]
    assert tags.bind(site, machine, virtual_machine("i-2")) is None
    assert tags.resources(tagKey="site") == {site: [("BCC", "bj", "i-1"), ("BCC", "bj", "i-2")]}
    assert tags.unbind(site, virtual_machine("i-2")) is None
    assert tags.assign(machine, site, ("floor", "2")) is None
    assert {link["tagKey"] for link in tags.query({"resourceIds": ["i-1"]})} == {"site", "floor"}
    assert tags.clear(machine) is None
    assert tags.resources() == {}
    assert tags.delete(site, ("部门", ""), ("floor", "2")) is None
    assert tags.tags() == []


def test_what_exists_and_what_is_missing_is_skipped(tags):
    tags.create(("a", "1"))
    tags.create(("a", "1"), ("b", ""))
    assert tags.tags() == [("a", "1"), ("b", "")]
    tags.delete(("a", "1"), ("never", "was"))
    assert tags.tags() == [("b", "")]


def test_the_default_tag_is_not_deleted(world, tags):
    defaults = [("Default tag", ""), ("默认标签", "")]
    tags.create(*defaults)
    tags.delete(*defaults)
    assert tags.tags() == defaults
    for key, _ in defaults:
        # Connect's API knows no such tag.
        assert world.v2.call("DELETE", f"/tags/{key}", project_key="account").status_code == 204


def test_an_absent_value_is_any_and_an_empty_one_is_the_empty_one(tags):
    tags.create(("a", ""), ("a", "1"), ("b", ""))
    assert tags.tags(tagKey="a") == [("a", ""), ("a", "1")]
    assert tags.tags(tagKey="a", tagValue="") == [("a", "")]
    assert tags.tags(tagValue="") == [("a", ""), ("b", "")]
    tags.bind(("a", "1"), virtual_machine("i-1"))
    assert tags.resources(tagKey="a", tagValue="") == {}
    assert list(tags.resources(tagKey="a")) == [("a", "1")]


def test_create_and_assign_replaces_all(tags):
    machine = virtual_machine("i-1")
    tags.assign(machine, ("a", ""), ("b", ""), ("c", ""))
    tags.assign(machine, ("b", ""), ("c", ""), ("d", ""), ("e", ""))
    borne = tags.query({"resourceIds": ["i-1"]}, is_strong=True)
    assert sorted(link["tagKey"] for link in borne) == ["b", "c", "d", "e"]
    assert ("a", "") in tags.tags(), "a tag that nothing bears stays"
    tags.assign(machine)
    assert tags.query({"resourceIds": ["i-1"]}) == []


def test_the_quota_is_refused_whole(tags):
    message = (413, "TagExceptions.LimitExceeded", "Limit exceeded for current request.")
    many = [(f"k{i}", "") for i in range(QUOTA + 1)]
    assert refused(tags.create, *many) == message
    assert tags.tags() == []
    tags.create(*many[:QUOTA])
    assert refused(tags.create, many[QUOTA]) == message
    assert refused(tags.bind, many[QUOTA], virtual_machine("i-1")) == message
    assert refused(tags.assign, virtual_machine("i-1"), many[0], many[QUOTA]) == message
    assert tags.resources() == {}


def test_both_paths_of_the_full_query(tags):
    tags.create(("unborne", ""))
    tags.bind(("a", "1"), virtual_machine("i-1"))
    for has_path in (True, False):
        (link,) = tags.query({}, is_strong=True, has_path=has_path)
        assert isinstance(link.pop("tagId"), int) and link.pop("accountId")
        assert link == {
            "resourceId": "i-1", "resourceUuid": "", "region": "bj", "serviceType": "BCC",
            "tagKey": "a", "tagValue": "1", "associationType": 1,
        }  # fmt: skip
        weak = tags.query({"regions": [], "serviceTypes": []}, has_path=has_path)
        assert [(link["tagKey"], link["resourceId"]) for link in weak] == [("unborne", ""), ("a", "i-1")]
        assert tags.query({"regions": ["gz"]}, has_path=has_path) == []


def test_what_one_api_does_the_other_sees(world, tags, device):
    by_tag = {"project": {"name": world.account.project_name}, "groups": [],
              "filters": [{"type": "tag", "operand": "is", "value": "site=London"}]}  # fmt: skip

    def v1_count():
        answer = world.v1.details(device_filter=by_tag)
        assert answer.status_code == 200, answer.text
        return len(answer.json()["message"])

    def v2_tags():
        return world.v2.tags(device.uuid)

    resource = device_resource(world, device)
    tags.bind(("site", "London"), resource)
    assert v2_tags() == ["site=London"]
    assert v1_count() == 1
    counted = world.v2.call("GET", "/tags/site=London", project_key="account").json()
    assert counted["device_count"] == 1
    tags.delete(("site", "London"))
    assert v2_tags() == []
    assert world.v2.call("GET", "/tags/site=London", project_key="account").status_code == 404
    world.v1.change(device.token, tag="floor=2")
    assert tags.resources() == {("floor", "2"): [("DEVICE", world.account.project_key, device.uuid)]}
    assert world.v2.call("DELETE", "/tags/floor=2", project_key="account").status_code == 204
    assert tags.tags() == []


TAG_ERRORS = [
    ({}, "TagExceptions.TagEmpty", "Tag should not be empty."),
    ({"tags": []}, "TagExceptions.TagEmpty", "Tag should not be empty."),
    ({"tags": [{"tagKey": "", "tagValue": "v"}]}, "TagExceptions.TagKeyEmpty", "Tag key should not be empty."),
    (
        {"tags": [{"tagKey": "a@b", "tagValue": ""}]},
        "TagExceptions.TagKeyInvalid",
        "Tag key contains invalid characters or length exceeds limit.",
    ),
    (
        {"tags": [{"tagKey": "a", "tagValue": "v" * 66}]},
        "TagExceptions.TagValueInvalid",
        "Tag value contains invalid characters or length exceeds limit.",
    ),
]


def test_the_stacks_decode_every_documented_error(world, tags, key):
    for body, code, message in TAG_ERRORS:
        assert refused(tags.call, "PUT", "/v1/tag", {"create": ""}, body) == (400, code, message)
    status, code, _ = refused(tags.call, "PUT", "/v1/tag", {"create": ""}, {"tags": "a"})
    assert (status, code) == (400, "InappropriateJSON")
    uri = (400, "InvalidURI", "Could not parse the specified URI.")
    assert refused(tags.call, "PUT", "/v1/tag", {"destroy": ""}, {}) == uri
    assert refused(tags.call, "GET", "/v1/tag/nothing") == uri
    stack = type(tags.stack)

    def as_key(**changes):
        other = TagService(stack(world.server, type(key)(**{**vars(key), **changes})))
        try:
            return refused(other.tags)
        finally:
            other.stack.close()

    status, code, _ = as_key(secret_access_key="ms_wrong")
    assert (status, code) == (403, "SignatureDoesNotMatch")
    unknown = "The Access Key ID you provided does not exist in our records."
    assert as_key(access_key_id="ak-000000000000000000000000") == (403, "InvalidAccessKeyId", unknown)
    invalid = "The HTTP authorization header is invalid. Consult the service documentation for details."
    assert as_key(access_key_id="a/b") == (400, "InvalidHTTPAuthHeader", invalid)
    reader = access_key(world.server, "--policy", "TAGReadAccessPolicy")
    only = TagService(stack(world.server, reader))
    only.tags()
    assert refused(only.create, ("a", "")) == (403, "AccessDenied", "Access denied.")
    only.stack.close()


def test_json_that_is_none_and_a_missing_signature_are_told(world):
    answer = requests.put(f"{world.server.url}/v1/tag?create", data="{", timeout=30)
    told = answer.json()
    assert (answer.status_code, told["code"], told["message"]) == (403, "AccessDenied", "Access denied.")
    assert told["requestId"] == answer.headers["x-bce-request-id"]


def test_a_revoked_key_is_refused_at_once(world):
    key = access_key(world.server, "--description", "to be revoked")
    for stack in STACKS:
        service = TagService(stack(world.server, key))
        service.tags()
        service.stack.close()
    listed = world.server.admin("access-key", "list", "--json")
    assert key.access_key_id in listed.stdout and key.secret_access_key not in listed.stdout
    assert world.server.admin("access-key", "revoke", key.access_key_id).returncode == 0
    for stack in STACKS:
        service = TagService(stack(world.server, key))
        assert refused(service.tags)[:2] == (403, "InvalidAccessKeyId")
        service.stack.close()
