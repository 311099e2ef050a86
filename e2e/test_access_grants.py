"""Access grants: a tunnel opened under one ends with it, through real processes and the client."""

import dataclasses
import itertools
import time

import pytest

from muster.client import Client
from muster.tunnel import Target, connect, echo, is_cut, is_turned_away, listens
from muster.waiting import eventually

REFUSED = 3
# The keeper looks twice a second; the rest is for a busy machine.
CUT_SECONDS_MAX = 1.0
SHORTEST = "5s"


class OnCall:
    """A user whose role holds remote access back, the one who approves, and a device."""

    _numbers = itertools.count()

    def __init__(self, world, folder):
        self.world = world
        self.agent = world.online_device()
        self.admin = Client(folder / "admin", world.server, world.account)
        name = f"oncall-{next(self._numbers)}-{folder.name}"
        key = world.account.project_key
        self.admin.ok("roles", "create", name, "--needs-grant", "remote_access")
        self.admin.ok("users", "create", name, "--role", f"{key}={name}", "--password-stdin", stdin="correct horse battery\n")
        body = {"user": name, "password": "correct horse battery"}
        made = world.v2.call("POST", "/login", project_key="account", json=body, token="")
        assert made.status_code == 201, made.text
        account = dataclasses.replace(world.account, access_token=made.json()["token"])
        self.client = Client(folder / "user", world.server, account)

    def granted(self, span="1h"):
        """An access grant for the device that was asked for and approved."""
        asked = self.client.json("access", "request", "--device", self.agent.uuid, "--for", span, "--reason", "its disk is full")
        grant = asked["access_grant_id"]
        assert self.admin.json("access", "approve", grant, "--comment", "go on")["status"] == "approved"
        return grant

    def tunnel(self, target):
        made = self.client.json("tunnels", "create", self.agent.uuid, target.port)
        path = f"/port_tunnel/{made['port_tunnel_id']}"
        eventually(lambda: self.world.v2.get(path).json()["status"] == "opened", what="the device's answer")
        return made

    def seen(self, made):
        return self.world.v2.get(f"/port_tunnel/{made['port_tunnel_id']}", enrich_info="true").json()


@pytest.fixture(scope="module")
def on_call(world, tmp_path_factory):
    return OnCall(world, tmp_path_factory.mktemp("oncall"))


@pytest.fixture
def echoing():
    target = Target(echo)
    yield target
    target.close()


def through(made):
    """A connection through a tunnel, over which something has gone."""
    connection = connect(made["server_port"])
    connection.sendall(b"x")
    assert connection.recv(1) == b"x"
    return connection


def test_without_a_grant_there_is_no_tunnel_and_the_error_says_what_to_do(on_call, echoing):
    done = on_call.client.run("tunnels", "create", on_call.agent.uuid, echoing.port)
    assert done.returncode == REFUSED
    assert "muster access request" in done.stderr
    own = on_call.client.json("access", "request", "--device", on_call.agent.uuid, "--reason", "for myself")
    assert on_call.client.run("access", "approve", own["access_grant_id"]).returncode == REFUSED
    denied = on_call.admin.json("access", "deny", own["access_grant_id"], "--comment", "not today")
    assert (denied["status"], denied["comment"]) == ("denied", "not today")
    assert on_call.client.json("access", "list", "--mine", "--status", "denied") == [denied]
    assert denied not in on_call.admin.json("access", "list", "--mine")
    assert on_call.client.run("tunnels", "create", on_call.agent.uuid, echoing.port).returncode == REFUSED


def test_a_tunnel_is_cut_within_a_second_when_its_grant_is_revoked(on_call, echoing):
    grant = on_call.granted()
    made = on_call.tunnel(echoing)
    connection = through(made)
    on_call.admin.ok("access", "revoke", grant)
    began = time.monotonic()
    assert is_cut(connection)
    took = time.monotonic() - began
    assert took < CUT_SECONDS_MAX, f"cut after {took:.2f} s"
    assert not listens(made["server_port"]) or is_turned_away(made["server_port"])
    eventually(lambda: on_call.seen(made)["reason"] == "permission_ended", what="the reason")
    assert on_call.client.run("tunnels", "create", on_call.agent.uuid, echoing.port).returncode == REFUSED
    log = on_call.world.v2.call("GET", "/audit-log", project_key="account", params={"limit": 1000}).json()["events"]
    told = [event["action"] for event in log if grant in event["subject"]]
    assert told == ["RevokeAccess", "ApproveAccess", "RequestAccess"]
    assert any(made["port_tunnel_id"] in event["subject"] and event["actor"] == "server" for event in log)


def test_a_tunnel_is_cut_within_a_second_of_the_end_of_its_grant(on_call, echoing):
    """Waits for the shortest time that a grant may hold."""
    began = time.monotonic()
    on_call.granted(SHORTEST)
    approved = time.monotonic()
    made = on_call.tunnel(echoing)
    connection = through(made)
    assert is_cut(connection)
    ended = time.monotonic()
    assert ended - began >= 5 and ended - approved < 5 + CUT_SECONDS_MAX, f"{ended - began:.2f} s, {ended - approved:.2f} s"


def test_a_killed_server_remembers_its_grants(on_call, echoing):
    grant = on_call.granted()
    on_call.world.server.kill9()
    on_call.world.server.restart()
    assert on_call.client.json("access", "show", grant)["status"] == "approved"
    # Whether it is linked again, and not only was when the server was killed.
    again = ("tunnels", "create", on_call.agent.uuid, echoing.port)
    eventually(lambda: on_call.client.run(*again).returncode == 0, what="the device's return")
    connection = through(on_call.tunnel(echoing))
    assert on_call.client.json("access", "revoke", grant)["status"] == "revoked"
    assert is_cut(connection)
