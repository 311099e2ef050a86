"""The command line as a client: each noun, in tables and in JSON, with its exit codes."""

import json
import re
import stat
import subprocess

import pytest

from muster.binaries import binary
from muster.client import Client
from muster.flows import GatedFlow, flow
from muster.waiting import eventually

REFUSED, NOT_FOUND, NOT_ALL_SUCCEEDED, USAGE = 3, 4, 5, 2


@pytest.fixture
def client(world, tmp_path):
    """Somebody who has the first account's token in their environment."""
    return Client(tmp_path / "home", world.server, world.account)


@pytest.fixture
def newcomer(world, tmp_path):
    """Somebody who has not logged in."""
    return Client(tmp_path / "home", world.server, world.account, is_logged_in=False)


_names = iter(range(1_000_000))


def fresh(word):
    return f"{word} {next(_names)}"


def test_devices_are_listed_in_a_table_and_in_json(world, client):
    group = fresh("Lab")
    client.ok("groups", "create", group)
    devices = [world.device(name=f"router-{n}", group=group) for n in range(3)]
    head, *lines = client.table("devices", "list", "--group", group)
    assert head == ["DEVICE", "NAME", "GROUP", "STATUS", "LAST", "KEEPALIVE"]
    assert [line[:2] for line in lines] == [[device.uuid, device.name] for device in devices]
    listed = client.json("devices", "list", "--group", group)
    assert listed == world.v2.get("/devices", group_name=group, enrich_info="true").json()["devices"]
    assert client.json("devices", "list", "--group", group, "--limit", 2) == listed[:2]
    wide = client.ok("devices", "list", "--group", group, "--wide")
    assert "AGENT" in wide and "\x1b" not in wide


def test_a_device_is_shown_changed_and_tagged(world, client):
    device = world.device(name="before")
    shown = client.json("devices", "get", device.uuid)
    assert shown == world.v2.get(f"/devices/{device.uuid}", enrich_info="true").json()
    client.ok(
        "devices", "set", device.uuid, "--name", "after", "--description", "in the cellar", "--address", "Main St 1",
        "--lat", "-33.5", "--lng", "151.25", "--update-trigger", "on",
    )  # fmt: skip
    changed = client.json("devices", "get", device.uuid)
    assert [changed[key] for key in ("device_name", "description", "address", "lat", "lng", "is_update_trigger_set")] == [
        "after", "in the cellar", "Main St 1", -33.5, 151.25, True,
    ]  # fmt: skip
    client.ok("devices", "set", device.uuid, "--no-position", "--update-trigger", "off")
    changed = client.json("devices", "get", device.uuid)
    assert (changed["lat"], changed["lng"], changed["is_update_trigger_set"]) == (None, None, False)

    app, tag = fresh("firmware"), fresh("site=London")
    client.ok("apps", "create", app)
    client.ok("devices", "tag", "add", device.uuid, tag, "second")
    client.ok("devices", "app", "set", device.uuid, f"{app}@1.2")
    changed = client.json("devices", "get", device.uuid)
    assert (changed["tags"], changed["apps"]) == ([tag, "second"], [{"app_name": app, "version": "1.2"}])
    table = client.ok("devices", "get", device.uuid)
    assert f"{app}=1.2" in table and re.search(r"^NAME +after$", table, re.MULTILINE)
    client.ok("devices", "tag", "remove", device.uuid, "second")
    changed = client.json("devices", "app", "remove", device.uuid, app)
    assert (changed["tags"], changed["apps"]) == ([tag], [])


def test_filters_choose_devices(world, client):
    online, offline = world.online_device(name="up"), world.device(name="down")
    tag = fresh("chosen")
    for device in (online, offline):
        client.ok("devices", "tag", "add", device.uuid, tag)

    def uuids(*filters):
        options = [word for text in filters for word in ("--filter", text)]
        return [device["device_uuid"] for device in client.json("devices", "list", *options)]

    assert uuids(f"tag is {tag}") == [online.uuid, offline.uuid]
    assert uuids(f"tag is {tag}", "device_state is online") == [online.uuid]
    assert uuids(f"tag is {tag}", f"specific_device is_not {online.uuid}") == [offline.uuid]
    assert [device["device_uuid"] for device in client.json("devices", "list", "--tag", tag)] == uuids(f"tag is {tag}")
    written = json.dumps({"filters": [{"type": "tag", "operand": "is", "value": tag}]})
    listed = client.json("devices", "list", "--filter-json", "-", stdin=written)
    assert [device["device_uuid"] for device in listed] == [online.uuid, offline.uuid]


@pytest.mark.parametrize(
    "condition, problem",
    [
        ("tags is x", '"tags" is none of'),
        ("tag equals x", '"equals" is neither'),
        ("device_state is asleep", '"asleep" is neither'),
        ("deployment is failed", "is not STATUS:DEPLOYMENT"),
        ("specific_device is router", '"router"'),
    ],
)
def test_a_wrong_filter_is_named_before_anything_is_asked(newcomer, condition, problem):
    assert problem in newcomer.refused(USAGE, "devices", "list", "--filter", condition)


def test_a_filter_that_names_nothing_is_refused_by_the_server(client):
    said = client.refused(1, "devices", "list", "--filter", "tag is nowhere")
    assert "device_filter.filters[0].value" in said and "nowhere" in said


def test_a_device_is_moved(world, client):
    device, group = world.device(), fresh("Shop")
    client.ok("groups", "create", group)
    client.ok("devices", "move", device.uuid, "--to-group", group)
    assert client.json("devices", "get", device.uuid)["group_name"] == group


def test_deleting_one_device_asks(world, client):
    device = world.device(name="old")
    assert "--yes" in client.refused(USAGE, "devices", "delete", device.uuid)
    code, shown = client.on_terminal("devices", "delete", device.uuid, answers=[("[y/N]", "n")])
    assert code == USAGE and "(old) for good?" in shown and "nothing was done" in shown
    code, shown = client.on_terminal("devices", "delete", device.uuid, answers=[("[y/N]", "y")])
    assert code == 0 and f"deleted {device.uuid}" in shown
    assert device.uuid in client.refused(NOT_FOUND, "devices", "get", device.uuid)
    assert device.uuid in [gone["device_uuid"] for gone in client.json("devices", "deleted")]
    client.ok("devices", "forget", device.uuid)
    assert device.uuid not in [gone["device_uuid"] for gone in client.json("devices", "deleted")]


def test_deleting_by_filter_counts_first(world, client):
    group = fresh("Attic")
    client.ok("groups", "create", group)
    for _ in range(3):
        world.device(group=group)
    code, shown = client.on_terminal("devices", "delete", "--group", group, answers=[("[y/N]", "no")])
    assert code == USAGE and "Delete 3 devices of the fleet" in shown
    assert client.json("devices", "delete", "--group", group, "--yes") == {"deleted": 3}
    assert client.json("devices", "list", "--group", group) == []
    assert "--all" in client.refused(USAGE, "devices", "delete", "--yes")


def test_groups(client):
    name, other = fresh("Lab"), fresh("Laboratory")
    assert client.json("groups", "create", name)["name"] == name
    assert client.ok("groups", "rename", name, other) == f"renamed the group {name} to {other}\n"
    assert other in [group["name"] for group in client.json("groups", "list")]
    assert client.table("groups", "list")[0] == ["GROUP", "DEVICES", "CREATED"]
    assert client.ok("groups", "delete", other, "--yes") == f"deleted the group {other}\n"
    assert other in client.refused(NOT_FOUND, "groups", "delete", other, "--yes")


def test_tags(client):
    name, other = fresh("site=a/b?"), fresh("site=c")
    assert client.json("tags", "create", name)["key"] == "site"
    client.ok("tags", "rename", name, other)
    assert other in [tag["name"] for tag in client.json("tags", "list")]
    assert client.table("tags", "list")[0] == ["TAG", "KEY", "VALUE", "DEVICES", "OTHERS", "CREATED"]
    client.ok("tags", "create", name)
    seen = client.json("tags", "preview", name, other, "none")
    assert ([tag["name"] for tag in seen["tags"]], seen["missing"]) == ([other, name], ["none"])
    client.ok("tags", "merge", name, other, "--yes")
    client.ok("tags", "delete", other, "--yes")
    client.refused(NOT_FOUND, "tags", "delete", other, "--yes")


def test_apps(world, client):
    name, other, device = fresh("firmware"), fresh("software"), world.device()
    client.ok("apps", "create", name)
    assert name in client.refused(1, "apps", "create", name)
    client.ok("apps", "rename", name, other)
    client.ok("apps", "add-version", other, "1.0")
    client.ok("devices", "app", "set", device.uuid, f"{other}@2.0")
    versions = {found["version"]: found["device_count"] for found in client.json("apps", "versions", other)}
    assert versions == {"1.0": 0, "2.0": 1}
    assert client.table("apps", "versions", other)[0] == ["VERSION", "DEVICES", "CREATED"]
    client.ok("apps", "delete-version", other, "1.0", "--yes")
    client.refused(1, "apps", "delete", other, "--yes")
    client.ok("apps", "delete", other, "--force", "--yes")
    assert other not in [app["name"] for app in client.json("apps", "list")]


def test_flows(client, tmp_path):
    name = fresh("Update")
    document = flow(name, [("one", "true")], inputs=["version"])
    file = tmp_path / "flow.yaml"
    file.write_text(document)
    (made,) = client.json("flows", "create", file)["update_flows"]
    assert made["name"] == name
    assert client.ok("flows", "show", made["uuid"]) == document == client.ok("flows", "show", name)
    assert client.table("flows", "list")[0] == ["FLOW", "NAME", "INPUTS", "CREATED"]
    assert made["uuid"] in [listed["uuid"] for listed in client.json("flows", "list")]
    assert "no update flow" in client.refused(NOT_FOUND, "flows", "show", "nonsense")
    client.ok("flows", "create", "-", stdin=document)
    assert "several flows" in client.refused(USAGE, "flows", "show", name)


def test_a_deployment_that_succeeds(world, client):
    device = world.online_device()
    app, name = fresh("firmware"), fresh("Update")
    client.ok("apps", "create", app)
    client.ok("flows", "create", "-", stdin=flow(name, [("greet", 'echo "hello $INPUT_WHO"')], inputs=["WHO"]))
    done = client.run(
        "deployments", "create", "--flow", name, "--device", device.uuid, "--input", "WHO=you",
        "--app", f"{app}@3", "--comment", "first", "--wait",
    )  # fmt: skip
    assert done.returncode == 0, done
    deployment, summary = done.stdout.splitlines()
    assert summary == f"{deployment}: 1 succeeded"
    # Not on a terminal: a line for each change, and nothing that moves a cursor.
    assert done.stderr.splitlines()[-1] == f"{deployment}: 1 of 1 ended: 1 succeeded"
    assert "\x1b" not in done.stderr and "\r" not in done.stderr
    assert client.json("devices", "get", device.uuid)["apps"] == [{"app_name": app, "version": "3"}]

    assert client.json("deployments", "show", deployment)["comment"] == "first"
    assert deployment in [listed["deployment_uuid"] for listed in client.json("deployments", "list")]
    (target,) = client.json("deployments", "devices", deployment)
    assert (target["device_uuid"], target["status"]) == (device.uuid, "Succeeded")
    assert client.table("deployments", "devices", deployment)[1][:2] == [device.uuid, "Succeeded"]
    assert client.json("deployments", "device", deployment, device.uuid)["steps"][0]["exit_code"] == 0
    assert "    hello you" in client.ok("deployments", "device", deployment, device.uuid).splitlines()
    watched = client.run("deployments", "watch", deployment, "--json")
    assert (watched.returncode, json.loads(watched.stdout)) == (0, [target])


def test_a_deployment_that_fails_ends_with_five_and_the_reason(world, client):
    device, name = world.online_device(), fresh("Broken")
    client.ok("flows", "create", "-", stdin=flow(name, [("break", "exit 7")]))
    done = client.run("deployments", "create", "--flow", name, "--device", device.uuid, "--wait")
    assert done.returncode == NOT_ALL_SUCCEEDED
    assert done.stderr.splitlines()[-1].endswith(": 1 failed")
    assert "step break, exit code 7" in done.stdout and device.uuid in done.stdout


def test_a_bar_is_shown_on_a_terminal_and_a_watch_ends_with_the_abort(world, client, tmp_path):
    device, gated = world.online_device(), GatedFlow(tmp_path / "gated")
    uuid = client.json("flows", "create", "-", stdin=gated.document())["update_flows"][0]["uuid"]
    deployment = client.ok("deployments", "create", "--flow", uuid, "--device", device.uuid).strip()
    eventually(gated.is_in_the_middle, what="the middle step")
    assert client.ok("deployments", "abort", deployment, "--device", device.uuid).strip()
    # Opened before the agent knows, the flow could end in success.
    journals = device.state / "runs"

    def knows():
        return any("abort_requested" in journal.read_text() for journal in journals.glob("*/journal.jsonl"))

    eventually(knows, what="the agent knows of the abort")
    gated.open_gate()
    code, shown = client.on_terminal("deployments", "watch", deployment)
    assert code == NOT_ALL_SUCCEEDED
    assert deployment in shown and "[" in shown and "1/1" in shown and "1 aborted" in shown


def test_deploying_to_all_must_be_said(client):
    assert "--all" in client.refused(USAGE, "deployments", "create", "--flow", "f-0000-0000")


def test_saved_filters(world, client):
    device, name, tag = world.online_device(), fresh("mine"), fresh("kept")
    client.ok("devices", "tag", "add", device.uuid, tag)
    client.ok("filters", "save", name, "--filter", f"tag is {tag}", "--description", "for the test")
    client.refused(1, "filters", "save", name, "--filter", f"tag is {tag}")
    client.ok("filters", "save", name, "--filter", f"tag is {tag}", "--filter", "device_state is online", "--replace")
    saved = client.json("filters", "show", name)
    assert [kept["type"] for kept in saved["device_filter"]["filters"]] == ["tag", "device_state"]
    assert '"device_state"' in client.ok("filters", "show", name)
    assert name in [listed["name"] for listed in client.json("filters", "list")]
    assert [found["device_uuid"] for found in client.json("devices", "list", "--saved", name)] == [device.uuid]
    checked = client.json("filters", "check", "--saved", name)
    assert (checked["matching"], checked["sample"][0]["device_uuid"]) == (1, device.uuid)
    assert device.uuid in client.ok("filters", "check", "--filter", f"tag is {tag}")
    client.ok("filters", "delete", name, "--yes")
    client.refused(NOT_FOUND, "devices", "list", "--saved", name)


def test_fleets(client):
    key = f"f{next(_names)}x"
    assert client.json("fleets", "create", key, "Shops", "--heartbeat", 30)["heartbeat_seconds"] == 30
    client.ok("fleets", "rename", key, "All shops")
    client.ok("fleets", "heartbeat", key, 60)
    assert client.json("fleets", "network", key, "on")["tunnels_to_network"] is True
    shown = client.json("fleets", "show", key)
    assert (shown["name"], shown["heartbeat_seconds"]) == ("All shops", 60)
    assert key in [fleet["project_key"] for fleet in client.json("fleets", "list")]
    assert client.json("devices", "list", "--fleet", key) == []
    client.ok("fleets", "delete", key, "--yes")
    assert client.refused(NOT_FOUND, "devices", "list", "--fleet", key)


def test_tokens(client, world):
    made = client.json(
        "tokens", "create", "pipeline", "--expires-in", "2h", "--only-fleet", world.account.project_key,
        "--only-permission", "deploy",
    )  # fmt: skip
    assert made["scope"] == {"fleets": [world.account.project_key], "permissions": ["deploy"]}
    assert made["expires_time"] and made["token"]
    mine = Client(client.folder / "other", world.server, world.account)
    mine.settings["MUSTER_TOKEN"] = made["token"]
    mine.ok("devices", "list")
    assert mine.refused(REFUSED, "groups", "create", "not allowed")
    listed = client.ok("tokens", "list")
    assert made["token_id"] in listed and made["token"] not in listed
    assert client.json("tokens", "show", made["token_id"])["description"] == "pipeline"
    client.ok("tokens", "revoke", made["token_id"], "--yes")
    said = mine.refused(REFUSED, "devices", "list")
    assert made["token"] not in said


def test_pairing_tokens_enrol_and_are_rotated(world, client, tmp_path):
    made = client.json("pairing-tokens", "create", "for the shop", "--uses", 5, "--expires-in", "1d")
    assert (made["uses_max"], made["description"]) == (5, "for the shop")
    new = client.json("pairing-tokens", "rotate", made["token_id"])
    shown = client.json("pairing-tokens", "show", made["token_id"])
    assert shown["rotation"]["new_token_id"] == new["token_id"]
    client.ok("pairing-tokens", "abort-rotation", made["token_id"])
    new = client.json("pairing-tokens", "rotate", made["token_id"])
    done = client.json("pairing-tokens", "complete-rotation", made["token_id"])
    assert done["revoked_time"]
    assert client.table("pairing-tokens", "list")[0][:2] == ["TOKEN", "DESCRIPTION"]
    client.ok("pairing-tokens", "revoke", new["token_id"], "--yes")
    revoked = {token["token_id"]: token["revoked_time"] for token in client.json("pairing-tokens", "list")}
    assert revoked[new["token_id"]]


def test_users_and_roles(world, client, newcomer):
    user, role, key = f"user{next(_names)}", f"role{next(_names)}", world.account.project_key
    password = "correct horse battery"
    assert client.json("roles", "create", role, "--permission", "deploy")["permissions"] == ["deploy"]
    client.ok("roles", "set", role, "--permission", "deploy", "--permission", "manage_groups")
    assert sorted(client.json("roles", "show", role)["permissions"]) == ["deploy", "manage_groups"]
    assert role in [found["name"] for found in client.json("roles", "list")]
    made = client.json("users", "create", user, "--role", f"{key}={role}", "--password-stdin", stdin=password + "\n")
    assert made["roles"] == [{"project_key": key, "role": role}] and made["has_password"]

    said = newcomer.ok("login", world.server.url, "--user", user, "--password-stdin", stdin=password + "\n")
    assert said == f"logged in to {world.server.url} as {user}, fleet {key}\n"
    assert newcomer.json("whoami")["user"] == user
    assert newcomer.refused(REFUSED, "users", "list")
    both = f"{password}\nanother {password}\n"
    newcomer.ok("users", "password", "--password-stdin", stdin=both)
    assert newcomer.refused(REFUSED, "login", world.server.url, "--user", user, "--password-stdin", stdin=password)

    client.refused(1, "roles", "delete", role, "--yes")
    assert client.json("users", "set", user, "--no-roles")["roles"] == []
    assert client.json("users", "show", user)["name"] == user
    assert user in client.ok("users", "list")
    client.ok("users", "delete", user, "--yes")
    client.ok("roles", "delete", role, "--yes")
    client.refused(NOT_FOUND, "users", "show", user)


def test_a_password_is_typed_without_echo(world, newcomer):
    account = world.account
    answers = [(f"Password of {account.admin_user}: ", account.admin_password)]
    code, shown = newcomer.on_terminal("login", world.server.url, "--user", account.admin_user, answers=answers)
    assert code == 0, shown
    assert "logged in to" in shown and account.admin_password not in shown


def test_tunnels(world, client):
    assert client.json("tunnels", "list") == []
    assert client.table("tunnels", "list")[0][:3] == ["TUNNEL", "DEVICE", "STATUS"]
    online, offline = world.online_device(), world.device()
    said = client.refused(1, "tunnels", "create", offline.uuid, 22)
    assert offline.uuid in said and "does not support port_tunnel" in said
    made = client.json("tunnels", "create", online.uuid, 22, "--allow", "::1")
    client.run("tunnels", "close", made["port_tunnel_id"])
    assert [it["status"] for it in client.json("tunnels", "list")] == ["closed"]
    assert "other hosts" in client.refused(REFUSED, "tunnels", "create", online.uuid, 22, "--host", "10.0.0.9")
    assert "allowed_ip" in client.refused(1, "tunnels", "create", online.uuid, 22, "--allow", "everyone")
    client.refused(USAGE, "tunnels", "create", online.uuid, 0)
    assert "d-0000-0000" in client.refused(1, "tunnels", "create", "d-0000-0000", 22)
    assert "nothing" in client.refused(NOT_FOUND, "tunnels", "close", "nothing")
    assert len(client.json("tunnels", "list", "--limit", 5)) == 1


def test_registries(client):
    name = f"registry{next(_names)}"
    made = client.json(
        "registries", "create", name, "--kind", "docker", "--address", "https://registry.example.com",
        "--username", "robot", "--secret-stdin", stdin="hidden\n",
    )  # fmt: skip
    assert (made["username"], made["has_secret"]) == ("robot", True)
    assert client.json("registries", "set", name, "--no-secret")["has_secret"] is False
    assert client.json("registries", "show", name)["kind"] == "docker"
    listed = client.ok("registries", "list")
    assert name in listed and "hidden" not in listed
    client.ok("registries", "delete", name, "--yes")
    client.refused(NOT_FOUND, "registries", "show", name)


def test_the_audit_log(client, tmp_path):
    name = fresh("Audited")
    client.ok("groups", "create", name)
    events = client.json("audit", "--action", "CreateGroup", "--since", "1h", "--limit", 5)
    assert events and {event["action"] for event in events} == {"CreateGroup"}
    assert client.table("audit", "--limit", 1)[0] == ["TIME", "ACTOR", "ACTION", "SUBJECT", "FLEET", "FROM"]
    assert client.json("audit", "--until", "2000-01-01T00:00:00Z") == []
    lines = client.ok("audit", "--action", "CreateGroup", "--export", "jsonl").splitlines()
    assert {json.loads(line)["action"] for line in lines} == {"CreateGroup"}
    file = tmp_path / "audit.csv"
    client.ok("audit", "--export", "csv", "--output", file)
    assert "CreateGroup" in file.read_text()


def test_a_login_is_kept_in_a_private_file(world, newcomer):
    assert "muster login" in newcomer.refused(REFUSED, "devices", "list")
    said = newcomer.ok("login", world.server.url, "--token-stdin", stdin=world.account.access_token + "\n")
    assert said.startswith(f"logged in to {world.server.url} as {world.account.admin_user}")
    assert stat.S_IMODE(newcomer.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(newcomer.file.parent.stat().st_mode) == 0o700
    newcomer.ok("devices", "list", "--fleet", world.account.project_key)
    # Its token goes to no other server.
    assert "not logged in to" in newcomer.refused(REFUSED, "devices", "list", "--url", "http://127.0.0.1:1")


def test_profiles_stand_side_by_side_and_logout_ends_one(world, newcomer):
    def token():
        return Client(newcomer.folder, world.server, world.account).json("tokens", "create", "to be ended")["token"]

    for profile in ("one", "two"):
        newcomer.ok("login", world.server.url, "--token-stdin", "--profile", profile, stdin=token())
    newcomer.ok("whoami", "--profile", "two")
    newcomer.ok("logout", "--profile", "one")
    assert '"one"' in newcomer.refused(REFUSED, "whoami", "--profile", "one")
    newcomer.ok("whoami", "--profile", "two")
    newcomer.ok("logout", "--profile", "two", "--forget")
    assert "[profiles." not in newcomer.file.read_text()


def test_a_wrong_token_is_refused_and_not_repeated(world, newcomer):
    wrong = "wrong0token0wrong0token"
    said = newcomer.refused(REFUSED, "login", world.server.url, "--token-stdin", stdin=wrong)
    assert wrong not in said and not newcomer.file.exists()


def test_options_come_before_the_environment(world, client, tmp_path):
    file = tmp_path / "token"
    file.write_text(world.stranger.access_token)
    devices = client.refused(NOT_FOUND, "devices", "list", "--token-file", file, "--fleet", "nowhere")
    assert "nowhere" in devices
    assert "nowhere" in client.refused(NOT_FOUND, "devices", "--fleet", "nowhere", "list")
    assert client.refused(1, "devices", "list", "--url", "http://127.0.0.1:1").startswith("muster: cannot reach")
    assert client.refused(1, "devices", "list", "--url", "https://127.0.0.1:1").startswith("muster: cannot reach")
    assert "https" in client.refused(USAGE, "devices", "list", "--url", "ssh://127.0.0.1:1")
    assert client.refused(USAGE, "devices", "lsit")


def test_a_table_fits_its_terminal(world, client):
    device = world.device(name="a very long name of a device " * 4)
    for extra, is_coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        code, shown = client.on_terminal("devices", "get", device.uuid, columns=60, **extra)
        assert code == 0 and ("\x1b[" in shown) == is_coloured
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        assert max(len(line.rstrip("\r")) for line in plain.split("\n")) <= 60


def test_a_reader_that_goes_away_is_no_error(world, client):
    for n in range(3):
        world.device(name=f"many {n}")
    script = '("$0" devices list --json; echo "code $?" >&2) | head -1'
    environment = client.environment()
    done = subprocess.run(
        ["bash", "-c", script, binary("muster")], capture_output=True, text=True, check=False, env=environment, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[\n", "code 0\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "elvish", "powershell"])
def test_completions_are_generated(newcomer, shell):
    script = newcomer.ok("completions", shell)
    assert "pairing-tokens" in script and "quickstart" in script
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_manual_pages_are_generated(newcomer, tmp_path):
    newcomer.ok("man", tmp_path / "man")
    pages = {page.name for page in (tmp_path / "man").iterdir()}
    assert {"muster.1", "muster-devices.1", "muster-devices-list.1", "muster-login.1"} <= pages
    assert "muster-agent.1" not in pages
    assert "device_state is online" in (tmp_path / "man" / "muster-devices-list.1").read_text()
