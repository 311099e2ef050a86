"""Whatever is sent, the answer is a refusal that says what is wrong, and nothing has changed."""

import copy
import json

import pytest

from muster.api import V1, V2
from muster.flows import flow
from muster.mutations import BODY_BYTES_MAX, MISSING, RAW_BODIES, Call, Field, changed, shown, with_surprise

# --- The calls ---------------------------------------------------------------


def filter_body(scene):
    return {
        "project": {"name": scene.world.account.project_name},
        "groups": [{"name": "Production"}],
        "filters": [{"type": "tag", "operand": "is", "value": scene.tag}],
    }


def filter_fields(needs_project):
    required = needs_project
    fields = [
        Field("device_filter.groups", "list", required),
        Field("device_filter.groups.0.name", "known", True),
        Field("device_filter.filters", "list", required),
        Field("device_filter.filters.0.type", "word", True),
        Field("device_filter.filters.0.operand", "word", True),
        Field("device_filter.filters.0.value", "string", True),
    ]
    if needs_project:
        fields += [
            Field("device_filter", "object", True),
            Field("device_filter.project", "object", True),
            Field("device_filter.project.name", "known", True),
        ]
    return fields


FILTER_OBJECTS = ["device_filter", "device_filter.groups.0", "device_filter.filters.0"]
TOKEN = Field("user_token", "token", True)
DEVICE_TOKEN = Field("device_token", "token", True)


def v1_body(make):
    """A body with the account's token, as every call of API v1 has it."""
    return lambda scene: {"user_token": scene.world.account.user_token, **make(scene)}


V1_CALLS = [
    Call(
        "delete tag", "DELETE", "/v1/device_tags",
        v1_body(lambda scene: {"tag_name": scene.tag, "device_filter": filter_body(scene)}),
        [TOKEN, Field("tag_name", "known", True), *filter_fields(True)],
        [*FILTER_OBJECTS, "device_filter.project"],
    ),
    Call(
        "delete app", "DELETE", "/v1/device_apps",
        v1_body(lambda scene: {"app_name": scene.app, "device_filter": filter_body(scene)}),
        [TOKEN, Field("app_name", "known", True), *filter_fields(True)],
        [*FILTER_OBJECTS, "device_filter.project"],
    ),
    Call(
        "get details", "GET", "/v1/devices_details",
        v1_body(lambda scene: {
            "project_name": scene.world.account.project_name, "group_name": "Production",
            "limit": 5, "offset": 0, "device_name": "x",
        }),
        [
            TOKEN, Field("project_name", "known"), Field("group_name", "known"), Field("limit", "count"),
            Field("offset", "number"), Field("device_name", "string"),
        ],
    ),
    Call(
        "get details of one", "GET", "/v1/devices_details",
        v1_body(lambda scene: {"device_token": scene.device.token}),
        [TOKEN, Field("device_token", "token")],
    ),
    Call(
        "change details", "POST", "/v1/devices_details",
        v1_body(lambda scene: {
            "device_token": scene.device.token, "device_name": "changed", "group": "Test", "description": "changed",
            "address": "changed", "lat": "1.5", "lng": "2.5", "tag": "changed",
            "apps": [{"app_name": scene.app, "version": "2"}],
        }),
        [
            TOKEN, DEVICE_TOKEN, Field("device_name", "name"), Field("group", "known"), Field("description", "text"),
            Field("address", "text"), Field("lat", "degrees"), Field("lng", "degrees"), Field("tag", "name"),
            Field("apps", "list"), Field("apps.0.app_name", "known", True), Field("apps.0.version", "version", True),
        ],
    ),
    Call(
        "get state by token", "GET", "/v1/get_device_state",
        v1_body(lambda scene: {"device_token": scene.device.token}),
        [TOKEN, DEVICE_TOKEN],
    ),
    Call(
        "get state by id", "GET", "/v1/get_device_state",
        v1_body(lambda scene: {"device_id": scene.device.uuid}),
        [TOKEN, Field("device_id", "uuid", True)],
    ),
    Call(
        "get states", "GET", "/v1/get_devices_state",
        v1_body(lambda scene: {
            "project_name": scene.world.account.project_name, "group_name": "Production",
            "limit": 5, "offset": scene.device.uuid,
        }),
        [
            TOKEN, Field("project_name", "known"), Field("group_name", "known"), Field("limit", "count"),
            Field("offset", "uuid"),
        ],
    ),
    Call(
        "set trigger", "POST", "/v1/set_update_trigger",
        v1_body(lambda scene: {"device_token": scene.device.token, "trigger_set": True}),
        [TOKEN, DEVICE_TOKEN, Field("trigger_set", "bool", True)],
    ),
]  # fmt: skip


def deployment_body(scene):
    groups_and_filters = {key: value for key, value in filter_body(scene).items() if key != "project"}
    return {
        "device_filter": groups_and_filters,
        "deployment_configuration": {
            "flow_uuid": scene.flow_uuid,
            "comment": "changed",
            "app": {"name": scene.app, "version": "2"},
            "parameters_mapping": {"who": "x"},
        },
    }


def patch_body(path, value):
    return lambda scene: {
        "operations": [
            {"op": "add", "path": "tags", "value": ["changed"]},
            {"op": "replace", "path": path, "value": value(scene) if callable(value) else value},
        ]
    }


def patch_call(path, value, kind):
    place = Field("operations.1.value", kind, True)
    return Call(f"patch {path}", "PATCH", "/devices/{device}", patch_body(path, value), [place])


V2_CALLS = [
    Call(
        "patch", "PATCH", "/devices/{device}", patch_body("description", "changed"),
        [
            Field("operations", "list", True), Field("operations.1.op", "word", True),
            Field("operations.1.path", "word", True),
        ],
        ["operations.1"],
    ),
    patch_call("device_name", "changed", "name"),
    patch_call("description", "changed", "text"),
    patch_call("address", "changed", "text"),
    patch_call("group_name", "Test", "known"),
    patch_call("lat", 1.5, "degrees"),
    patch_call("lng", 1.5, "degrees"),
    patch_call("is_update_trigger_set", True, "bool"),
    Call(
        "patch tags", "PATCH", "/devices/{device}", patch_body("tags", ["changed"]),
        [Field("operations.1.value.0", "name", False)],
    ),
    Call(
        "patch apps", "PATCH", "/devices/{device}",
        patch_body("apps", lambda scene: [{"app_name": scene.app, "version": "2"}]),
        [
            Field("operations.1.value.0.app_name", "known", True),
            Field("operations.1.value.0.version", "version", True),
        ],
        ["operations.1.value.0"],
    ),
    Call(
        "move", "POST", "/devices/{device}/move",
        lambda scene: {
            "destination_project_key": scene.world.account.project_key, "destination_group_name": "Test",
        },
        [Field("destination_project_key", "known", True), Field("destination_group_name", "known", True)],
    ),
    Call(
        "deploy", "POST", "/deployments", deployment_body,
        [
            *filter_fields(False),
            Field("deployment_configuration", "object", True),
            Field("deployment_configuration.flow_uuid", "uuid", True),
            Field("deployment_configuration.comment", "text"),
            Field("deployment_configuration.app", "object"),
            Field("deployment_configuration.app.name", "known", True),
            Field("deployment_configuration.app.version", "version", True),
            Field("deployment_configuration.parameters_mapping", "object"),
            Field("deployment_configuration.parameters_mapping.who", "string", True),
        ],
        [
            *FILTER_OBJECTS, "deployment_configuration", "deployment_configuration.app",
            "deployment_configuration.parameters_mapping",
        ],
    ),
    Call("create group", "POST", "/groups", lambda scene: {"name": "changed"}, [Field("name", "name", True)]),
    Call("create app", "POST", "/apps", lambda scene: {"name": "changed"}, [Field("name", "name", True)]),
]  # fmt: skip

# --- The scene ---------------------------------------------------------------


class Scene:
    """Two accounts with a device each, and a look at all that a bad request could have changed."""

    def __init__(self, world):
        self.world = world
        self.stranger_v1 = V1(world.server, world.stranger.user_token)
        self.stranger_v2 = V2(world.server, world.stranger)
        self.device = world.device()
        self.tag, self.app = "our tag", "our app"
        world.v2.create_app(self.app)
        self.dress(world.v2, self.device, self.tag, self.app)
        self.flow_uuid = world.v2.create_flow(flow("ours", [("a", "echo ${{ inputs.who }}")], inputs=["who"]))
        self.deployment = world.v2.deploy(self.flow_uuid, self.device.uuid, parameters_mapping={"who": "x"})
        self.make_theirs()

    def dress(self, v2, device, tag, app):
        apps = [{"app_name": app, "version": "1"}]
        answer = v2.patch(
            device.uuid, {"op": "add", "path": "tags", "value": [tag]}, {"op": "add", "path": "apps", "value": apps}
        )
        assert answer.status_code == 200, answer.text

    def make_theirs(self):
        self.their_device = self.world.device(account=self.world.stranger)
        self.their_tag, self.their_app, self.their_group = "their tag", "their app", "their group"
        self.stranger_v2.create_app(self.their_app)
        self.stranger_v2.create_group(self.their_group)
        self.dress(self.stranger_v2, self.their_device, self.their_tag, self.their_app)
        self.their_flow = self.stranger_v2.create_flow(flow("theirs", [("a", "true")]))

    def snapshot(self):
        """Everything that the APIs show of both accounts. No device runs, so nothing changes by itself."""
        lists = [
            v2.get(path, enrich_info="true").json()
            for v2 in (self.world.v2, self.stranger_v2)
            for path in ("/devices", "/deployments", "/update-flows")
        ]
        details = [v1.details(limit=50).json() for v1 in (self.world.v1, self.stranger_v1)]
        return json.dumps([lists, details, self.world.v2.targets(self.deployment)], sort_keys=True)

    def send(self, call, **options):
        path = call.path.format(device=self.device.uuid, deployment=self.deployment)
        api = self.world.v1 if path.startswith("/v1/") else self.world.v2
        return api.call(call.method, path, **options)

    def send_raw(self, call, raw):
        return self.send(call, data=raw, headers={"Content-Type": "application/json"})


@pytest.fixture(scope="module")
def scene(world):
    return Scene(world)


@pytest.fixture(autouse=True)
def nothing_changes(scene):
    before = scene.snapshot()
    yield
    assert scene.snapshot() == before


def problem_with(answer, word=None):
    """What is wrong with a refusal; `None` when nothing is."""
    if not 400 <= answer.status_code < 500:
        return f"status {answer.status_code}: {answer.text[:200]}"
    try:
        body = answer.json()
    except ValueError:
        return f"no JSON: {answer.text[:200]}"
    is_v1 = "/v1/" in answer.url
    expected = {"error_message"} if is_v1 else {"message", "error_message", "code", "request_id"}
    if set(body) != expected:
        return f"keys {sorted(body)}"
    if is_v1 and answer.status_code not in (400, 413):
        return f"status {answer.status_code}, where API v1 knows 400"
    text = body["error_message"]
    if not text or body.get("message", text) != text:
        return f"messages {body}"
    if len(text) > 2_000:
        return f"a message of {len(text)} characters"
    return None if word is None or word in text else f"{word!r} is not named by {text!r}"


def assert_refused(answers):
    """Every answer of pairs (what was sent, answer, word to be named) is a good refusal; all others are listed."""
    problems = [f"{sent}: {problem}" for sent, answer, word in answers if (problem := problem_with(answer, word))]
    assert not problems, "\n".join(problems)


def fields_of(calls):
    return [pytest.param(call, field, id=f"{call.name}-{field.place}") for call in calls for field in call.fields]


def ids(call):
    return call.name


# --- The tests ---------------------------------------------------------------


@pytest.mark.parametrize(("call", "field"), fields_of([*V1_CALLS, *V2_CALLS]))
def test_a_bad_value_is_refused_and_named(scene, call, field):
    good = call.body(scene)
    # The text of a refused token is no help to anybody, and its field may be told otherwise.
    word = None if field.kind == "token" else field.word
    assert_refused(
        [(shown(value), scene.send(call, json=changed(good, field.keys, value)), word) for value in field.bad_values()]
    )


@pytest.mark.parametrize("call", [*V1_CALLS, *V2_CALLS], ids=ids)
def test_a_body_that_is_none_is_refused(scene, call):
    raws = {**RAW_BODIES, "an empty object": b"{}"}
    assert_refused([(name, scene.send_raw(call, raw), None) for name, raw in raws.items()])


@pytest.mark.parametrize("call", [*V1_CALLS, *V2_CALLS], ids=ids)
def test_a_body_that_is_too_large_is_refused(scene, call):
    good = json.dumps(call.body(scene)).encode()
    answer = scene.send_raw(call, good + b" " * (BODY_BYTES_MAX + 1 - len(good)))
    assert_refused([("spaces", answer, None)])
    assert answer.status_code == 413 or "/v1/" in call.path


@pytest.mark.parametrize("call", [call for call in [*V1_CALLS, *V2_CALLS] if call.closed], ids=ids)
def test_an_unknown_key_is_refused_where_it_matters(scene, call):
    good = call.body(scene)
    assert_refused([(place, scene.send(call, json=with_surprise(good, place)), "surprise") for place in call.closed])


THEIRS = [
    ("delete tag", "tag_name", "their_tag"),
    ("delete tag", "device_filter.groups.0.name", "their_group"),
    ("delete app", "app_name", "their_app"),
    ("get details", "group_name", "their_group"),
    ("get details of one", "device_token", "their_device.token"),
    ("change details", "device_token", "their_device.token"),
    ("change details", "group", "their_group"),
    ("change details", "apps.0.app_name", "their_app"),
    ("get state by token", "device_token", "their_device.token"),
    ("get state by id", "device_id", "their_device.uuid"),
    ("set trigger", "device_token", "their_device.token"),
    ("patch group_name", "operations.1.value", "their_group"),
    ("patch apps", "operations.1.value.0.app_name", "their_app"),
    ("move", "destination_group_name", "their_group"),
    ("deploy", "device_filter.groups.0.name", "their_group"),
    ("deploy", "deployment_configuration.flow_uuid", "their_flow"),
    ("deploy", "deployment_configuration.app.name", "their_app"),
]


@pytest.mark.parametrize(("name", "place", "attribute"), THEIRS)
def test_what_is_another_account_s_does_not_exist(scene, name, place, attribute):
    (call,) = (call for call in [*V1_CALLS, *V2_CALLS] if call.name == name)
    value = scene
    for part in attribute.split("."):
        value = getattr(value, part)
    body = changed(call.body(scene), Field(place, "known").keys, value)
    assert_refused([(attribute, scene.send(call, json=body), None)])


FILTERS = [
    ("a tag without a name", {"type": "tag", "operand": "is", "value": ""}, "value"),
    ("is_not online", {"type": "device_state", "operand": "is_not", "value": "online"}, "operand"),
    ("a third state", {"type": "device_state", "operand": "is", "value": "asleep"}, "value"),
    ("no such status", {"type": "update_status", "operand": "is", "value": "Succeeded"}, "value"),
    ("no uuid", {"type": "specific_device", "operand": "is", "value": "d-1"}, "value"),
    ("a deployment without id", {"type": "deployment", "operand": "is", "value": "any"}, "deployment_id"),
    ("a deployment of no uuid", {"type": "deployment", "operand": "is", "value": "any", "deployment_id": "x"}, "deployment_id"),
    ("a version of a tag", {"type": "tag", "operand": "is", "value": "our tag", "app_version": "1"}, "app_version"),
    ("NUL in a tag", {"type": "tag", "operand": "is", "value": "a\u0000"}, "value"),
    ("NUL in a version", {"type": "app", "operand": "is", "value": "our app", "app_version": "\u0000"}, "app_version"),
]  # fmt: skip


@pytest.mark.parametrize("call", [call for call in [*V1_CALLS, *V2_CALLS] if "device_filter" in call.closed], ids=ids)
def test_a_filter_that_means_nothing_is_refused(scene, call):
    def with_filters(filters):
        return scene.send(call, json=changed(call.body(scene), ["device_filter", "filters"], filters))

    answers = [(name, with_filters([wrong]), word) for name, wrong, word in FILTERS]
    many = call.body(scene)["device_filter"]["filters"] * 101
    assert_refused([*answers, ("101 filters", with_filters(many), "filters")])


def test_coordinates_come_together(scene):
    (call,) = (call for call in V1_CALLS if call.name == "change details")
    good = call.body(scene)
    for lone, other in (("lat", "lng"), ("lng", "lat")):
        assert_refused([(lone, scene.send(call, json=changed(good, [other], MISSING)), other)])


def test_a_group_needs_its_project(scene):
    for path in ("/v1/devices_details", "/v1/get_devices_state"):
        answer = scene.world.v1.call("GET", path, {"group_name": "Production"})
        assert_refused([(path, answer, "project_name")])


BAD_OPERATIONS = [
    {"op": "test", "path": "tags", "value": []},
    {"op": "move", "path": "tags", "from": "apps"},
    {"op": "copy", "path": "tags", "from": "apps"},
    {"op": "replace", "path": "device_uuid", "value": "d-0000-0000"},
    {"op": "replace", "path": "//tags", "value": []},
    {"op": "replace", "path": "tags/0", "value": "x"},
    {"op": "remove", "path": "device_name"},
    {"op": "remove", "path": "group_name"},
    {"op": "add", "path": "apps", "value": [{"app_name": "our app"}]},
    {"op": "add", "path": "tags", "value": [f"t{number}" for number in range(1_001)]},
]


@pytest.mark.parametrize("wrapped", [True, False], ids=["operations", "bare array"])
def test_a_bad_operation_spoils_the_good_ones(scene, wrapped):
    good = {"op": "add", "path": "tags", "value": ["changed"]}
    path = f"/devices/{scene.device.uuid}"
    bodies = [[good, bad] for bad in BAD_OPERATIONS] + [[]]
    assert_refused(
        [
            (shown(body[-1:]), scene.world.v2.call("PATCH", path, json={"operations": body} if wrapped else body), None)
            for body in bodies
        ]
    )


BAD_QUERIES = [
    ("/devices", {"limit": "0"}, "limit"),
    ("/devices", {"limit": "-1"}, "limit"),
    ("/devices", {"limit": "1001"}, "limit"),
    ("/devices", {"limit": "ten"}, "limit"),
    ("/devices", {"limit": ""}, "limit"),
    ("/devices", {"limit": "9" * 30}, "limit"),
    ("/devices", {"after": "no cursor"}, "after"),
    ("/devices", {"after": "bm8gY3Vyc29y"}, "after"),
    ("/devices", {"after": "a\u0000"}, "after"),
    ("/devices", {"after": "A" * 5_000}, "after"),
    ("/devices", {"enrich_info": "maybe"}, "enrich_info"),
    ("/devices", {"group_name": "no such group"}, "group_name"),
    ("/devices", {"group_name": "a\u0000"}, "group_name"),
    ("/devices", {"tags": "a\u0000"}, "tags"),
    ("/devices/{device}", {"enrich_info": "maybe"}, "enrich_info"),
    ("/deployments", {"limit": "0"}, "limit"),
    ("/deployments", {"after": "no cursor"}, "after"),
    ("/deployments/{deployment}/devices", {"limit": "0"}, "limit"),
    ("/deployments/{deployment}/devices", {"after": "no cursor"}, "after"),
    ("/update-flows", {"limit": "0"}, "limit"),
    ("/update-flows", {"after": "no cursor"}, "after"),
]


def test_bad_queries_are_refused(scene):
    words = {"device": scene.device.uuid, "deployment": scene.deployment}
    assert_refused(
        [
            (f"{path} {shown(params)}", scene.world.v2.get(path.format(**words), **params), word)
            for path, params, word in BAD_QUERIES
        ]
    )


BAD_SEGMENTS = [
    "x",
    "%00",
    "%FF",
    "%27%20OR%201%3D1--",
    "d-0000-0000",
    "f-0000-0000",
    "dp-0000-0000",
    "x" * 4_000,
    "..%2Fx",
]
PATHS = [
    ("GET", "/devices/{}"), ("GET", "/update-flows/{}"), ("GET", "/deployments/{}"),
    ("GET", "/deployments/{}/devices"), ("POST", "/deployments/{}/abort"),
    ("GET", "/deployments/{deployment}/devices/{}"), ("POST", "/deployments/{deployment}/devices/{}/abort"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_bad_paths_are_not_found(scene, method, path):
    sent = [path.replace("{deployment}", scene.deployment).replace("{}", segment) for segment in BAD_SEGMENTS]
    assert_refused([(shown(path), scene.world.v2.call(method, path), None) for path in sent])


@pytest.mark.parametrize("project_key", ["nosuch", "Demo", "%00", "demo%20", "%27--", "x" * 4_000])
def test_a_bad_project_key_is_not_found(scene, project_key):
    answer = scene.world.v2.call("GET", "/devices", project_key=project_key)
    assert_refused([(shown(project_key), answer, None)])
    assert answer.status_code == 404


STEP = "flows: {{f: {{steps: [{}]}}}}"
BAD_YAML = {
    "nothing": b"",
    "no mapping": b"just words",
    "broken": b"flows: [",
    "no UTF-8": b"flows: {\xff: 1}",
    "NUL": b"flows: {f: {steps: [{name: a, run: 'a\x00b'}]}}",
    "no flows": b"flows: {}",
    "no steps": b"flows: {f: {steps: []}}",
    "unknown key": b"flows: {f: {stepz: []}}",
    "neither run nor uses": STEP.format("{name: a}").encode(),
    "both": STEP.format("{name: a, run: x, uses: connect/docker}").encode(),
    "unknown action": STEP.format("{name: a, uses: connect/dokcer}").encode(),
    "empty script": STEP.format("{name: a, run: ''}").encode(),
    "wrong type": STEP.format("{name: a, run: [x]}").encode(),
    "undeclared input": STEP.format("{name: a, run: '${{ inputs.x }}'}").encode(),
    "aliases": b"a: &a [x]\n" + b"".join(b"a%d: &a%d [*a,*a,*a]\n" % (i, i) for i in range(500)),
    "deep nesting": b"flows: " + b"[" * 50_000,
    "a name twice": b"flows: {f: {steps: [{name: a, run: x}]}, f: {steps: [{name: a, run: x}]}}",
    "a name too long": ("flows: {%s: {steps: [{name: a, run: x}]}}" % ("x" * 300)).encode(),
}


def test_bad_flow_documents_are_refused(scene):
    def send(raw):
        return scene.world.v2.call("POST", "/update-flows", data=raw, headers={"Content-Type": "application/yaml"})

    assert_refused([(name, send(raw), None) for name, raw in BAD_YAML.items()])
    answer = send(b"#" * (BODY_BYTES_MAX + 1))
    assert_refused([("a document too large", answer, None)])
    assert answer.status_code == 413


def test_inputs_are_held_against_the_flow(scene):
    (call,) = (call for call in V2_CALLS if call.name == "deploy")
    place = ["deployment_configuration", "parameters_mapping"]
    wrong = {
        "unknown": {"who": "x", "surprise": "x"},
        "missing": {},
        "NUL": {"who": "a\u0000"},
        "huge": {"who": "x" * 40_000},
    }
    assert_refused(
        [
            (name, scene.send(call, json=changed(call.body(scene), place, given)), "parameters_mapping")
            for name, given in wrong.items()
        ]
    )


def test_unknown_paths_and_methods_are_refused(scene):
    world = scene.world
    for method, path in [("GET", "/v1/no_such"), ("PUT", "/v1/device_tags"), ("PATCH", "/v1/devices_details")]:
        assert 400 <= world.v1.call(method, path, {}).status_code < 500, path
    for method, path in [("GET", "/no-such"), ("DELETE", "/devices"), ("PUT", f"/devices/{scene.device.uuid}")]:
        assert 400 <= world.v2.call(method, path).status_code < 500, path


def test_the_good_bodies_are_good(own_world):
    """Without this, every refusal above could come from a mistake in the test itself."""
    scene = Scene(own_world)
    for call in [*V1_CALLS, *V2_CALLS]:
        # The calls before may have taken off what this one acts on.
        scene.dress(own_world.v2, scene.device, scene.tag, scene.app)
        answer = scene.send(call, json=copy.deepcopy(call.body(scene)))
        assert answer.status_code in (200, 201), f"{call.name}: {answer.text}"
