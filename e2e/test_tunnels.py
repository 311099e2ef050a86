"""Port tunnels: real server, real agent, real connections."""

import os
import socket
import threading
import time

import pytest

from muster.process import run
from muster.tunnel import Target, connect, descriptors, echo, exchange, is_cut, is_turned_away, listens, read_all, reset, settle
from muster.waiting import eventually

MEBIBYTE = 1024 * 1024
# Carriers that stay ready, and connections that the programs themselves keep.
SLACK = 70


class Tunnels:
    """A world with one device, and what its fleet's tunnels are asked for."""

    def __init__(self, world, agent):
        self.world, self.agent, self.v2 = world, agent, world.v2

    def try_open(self, target, **more):
        port = target if isinstance(target, int) else target.port
        return self.v2.post("/port_tunnel", {"device_uuid": self.agent.uuid, "port": port, **more})

    def open(self, target, **more):
        answer = self.try_open(target, **more)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        eventually(lambda: self.seen(made)["status"] == "opened", what="the device's answer")
        return made

    def seen(self, made):
        return self.v2.get(f"/port_tunnel/{made['port_tunnel_id']}", enrich_info="true").json()

    def close(self, made):
        assert self.v2.call("DELETE", f"/port_tunnel/{made['port_tunnel_id']}").status_code == 204

    def audit(self, made):
        """What the audit log says of a tunnel, newest first."""
        log = self.v2.call("GET", "/audit-log", project_key="account", params={"limit": 1000}).json()["events"]
        return [event for event in log if made["port_tunnel_id"] in event["subject"]]


@pytest.fixture(scope="module")
def tunnels(world):
    agent = world.online_device()
    return Tunnels(world, agent)


@pytest.fixture
def echoing():
    target = Target(echo)
    yield target
    target.close()


def port(made):
    return made["server_port"]


def test_what_goes_through_is_unharmed(tunnels, echoing):
    made, data = tunnels.open(echoing), os.urandom(MEBIBYTE)
    for _ in range(3):
        with connect(port(made)) as connection:
            assert exchange(connection, data) == data

    def is_counted():
        seen = tunnels.seen(made)
        return (seen["connections"], seen["bytes_to_device"], seen["bytes_from_device"]) == (3, 3 * MEBIBYTE, 3 * MEBIBYTE)

    eventually(is_counted, what="the counters")
    tunnels.close(made)


def test_curl_reaches_a_web_server(tunnels, tmp_path):
    (tmp_path / "page").write_bytes(os.urandom(3 * MEBIBYTE))

    def serve(connection):
        while b"\r\n\r\n" not in connection.recv(65536):
            pass
        body = (tmp_path / "page").read_bytes()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)

    made = tunnels.open(Target(serve))
    url = f"http://{made['server_address']}:{port(made)}/page"
    done = run("curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "-o", tmp_path / "copy", url)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "page").read_bytes()
    tunnels.close(made)


def test_either_side_may_end_first(tunnels):
    heard = []

    def answers_at_the_end(connection):
        heard.append(read_all(connection))
        connection.sendall(b"all of it")

    made = tunnels.open(Target(answers_at_the_end))
    with connect(port(made)) as connection:
        assert exchange(connection, b"a question") == b"all of it"
    assert heard == [b"a question"]

    def ends_at_once(connection):
        connection.sendall(b"enough")
        connection.shutdown(socket.SHUT_WR)
        heard.append(read_all(connection))

    target = Target(ends_at_once)
    made = tunnels.open(target)
    with connect(port(made)) as connection:
        assert read_all(connection) == b"enough"
        connection.sendall(b"and still")
    eventually(lambda: heard[1:] == [b"and still"], what="what came after the end")
    assert target.ends == ["end"]


def test_a_reset_is_a_reset_on_the_other_side(tunnels, echoing):
    made = tunnels.open(echoing)
    connection = connect(port(made))
    connection.sendall(b"x")
    assert connection.recv(1) == b"x"
    reset(connection)
    eventually(lambda: echoing.ends == ["ConnectionResetError"], what="the reset")

    def resets(connection):
        connection.recv(1)
        reset(connection.dup())
        reset(connection)

    made = tunnels.open(Target(resets))
    with connect(port(made)) as connection, pytest.raises(ConnectionResetError):
        connection.sendall(b"x")
        connection.recv(1)


def test_a_port_where_nobody_listens(tunnels):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    made = tunnels.open(free)
    for _ in range(3):
        assert is_turned_away(port(made))


def test_two_hundred_at_once(tunnels, echoing):
    made = tunnels.open(echoing)
    server, agent = tunnels.world.server.process, tunnels.agent.process
    before = descriptors(server), descriptors(agent)
    connections = [connect(port(made)) for _ in range(200)]
    for number, connection in enumerate(connections):
        connection.sendall(b"%4d" % number)
    for number, connection in enumerate(connections):
        assert connection.recv(4) == b"%4d" % number
    data, wrong = os.urandom(100_000), []

    def all_of_it(connection):
        if exchange(connection, data) != data:
            wrong.append(connection)

    threads = [threading.Thread(target=all_of_it, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for connection in connections:
        connection.close()
    settle(server, before[0], SLACK)
    settle(agent, before[1], SLACK)
    tunnels.close(made)
    settle(server, before[0], 5)
    settle(agent, before[1], 5)


def test_only_the_allowed_address_gets_through(tunnels, echoing):
    made = tunnels.open(echoing, allowed_ip="127.0.0.2")
    assert is_turned_away(port(made))
    with connect(port(made), source="127.0.0.2") as connection:
        assert exchange(connection, b"hello") == b"hello"
    made_network = tunnels.open(echoing, allowed_ip="127.0.1.0/24")
    with connect(port(made_network), source="127.0.1.9") as connection:
        assert exchange(connection, b"hello") == b"hello"
    refused = eventually(lambda: [it for it in tunnels.audit(made) if it["action"] == "OpenStream"], what="the audit entry")
    assert refused[0]["source_ip"] == "127.0.0.1"
    # Who tries again and again does not fill the log.
    for _ in range(100):
        assert is_turned_away(port(made))
    assert len([it for it in tunnels.audit(made) if it["action"] == "OpenStream"]) <= 31
    tunnels.close(made)
    tunnels.close(made_network)


def test_an_end_cuts_within_a_second(tunnels, echoing):
    v2 = tunnels.v2

    def cut_by(end, made=None):
        made = made or tunnels.open(echoing)
        with connect(port(made)) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
            begun = time.monotonic()
            end(made)
            assert is_cut(connection)
            took = time.monotonic() - begun
        eventually(lambda: not listens(port(made)), timeout=1, what="the port is free")
        return took

    assert cut_by(tunnels.close) < 1.5
    made = v2.call("POST", "/tokens", project_key="account", json={"description": "for one tunnel"})
    assert made.status_code == 201, made.text
    token = made.json()
    answer = v2.call("POST", "/port_tunnel", token=token["token"],
                     json={"device_uuid": tunnels.agent.uuid, "port": echoing.port})  # fmt: skip
    assert answer.status_code == 201, answer.text

    def revoke(_):
        assert v2.call("DELETE", f"/tokens/{token['token_id']}", project_key="account").status_code == 204

    assert cut_by(revoke, answer.json()) < 1.5
    seen = eventually(lambda: (it := tunnels.seen(answer.json()))["status"] == "closed" and it, what="its end")
    assert seen["reason"] == "credential_ended"
    assert tunnels.audit(answer.json())[0]["detail"]["reason"] == "credential_ended"


def test_other_hosts_need_the_fleet_and_the_device(tunnels, echoing):
    v2 = tunnels.v2
    assert tunnels.try_open(echoing, host="127.0.0.9").status_code == 403
    fleet = f"/fleets/{v2.project_key}"

    def allow(is_allowed):
        changed = v2.call("PATCH", fleet, project_key="account", json={"tunnels_to_network": is_allowed})
        assert changed.status_code == 200 and changed.json().get("tunnels_to_network", False) is is_allowed, changed.text

    allow(True)
    refused = tunnels.try_open(echoing, host="127.0.0.9")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_supported_by_device")
    other = tunnels.world.device()
    other.start("--tunnels", "network").wait_connected(tunnels.world.v1)
    beyond = Tunnels(tunnels.world, other)
    with socket.create_server(("127.0.0.9", 0)) as listener:
        made = beyond.open(listener.getsockname()[1], host="127.0.0.9")
        with connect(port(made)) as connection:
            near, _ = listener.accept()
            near.sendall(b"from afar")
            assert connection.recv(9) == b"from afar"
            allow(False)
            assert is_cut(connection)
            near.close()
    assert eventually(lambda: beyond.seen(made)["status"] == "closed", what="its end")
    assert beyond.seen(made)["reason"] == "target_not_allowed"


def test_a_device_that_dies_and_comes_back(tunnels, echoing):
    agent = tunnels.world.online_device()
    mine = Tunnels(tunnels.world, agent)
    made = mine.open(echoing)
    with connect(port(made)) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        agent.kill9()
        assert is_cut(connection)
    assert is_turned_away(port(made))
    agent.start()

    def is_back():
        try:
            with connect(port(made)) as connection:
                return exchange(connection, b"hello") == b"hello"
        except ConnectionError:
            return False

    eventually(is_back, what="the tunnel works again")
    mine.close(made)


def test_a_device_may_allow_nothing(tunnels, echoing):
    agent = tunnels.world.device()
    agent.start("--tunnels", "off").wait_connected(tunnels.world.v1)
    refused = Tunnels(tunnels.world, agent).try_open(echoing)
    assert (refused.status_code, refused.json()["code"]) == (409, "not_supported_by_device")


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_a_tunnel_outlives_the_server(own_world, echoing, end):
    mine = Tunnels(own_world, own_world.online_device())
    made = mine.open(echoing)
    with connect(port(made)) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        getattr(own_world.server, end)()
        assert is_cut(connection)
    own_world.server._launch()
    assert mine.seen(made)["status"] == "opened"

    def is_back():
        try:
            with connect(port(made)) as connection:
                return exchange(connection, b"hello") == b"hello"
        except ConnectionError:
            return False

    eventually(is_back, what="the tunnel works again")


def test_a_deleted_device_cuts(own_world, echoing):
    mine = Tunnels(own_world, own_world.online_device())
    made = mine.open(echoing)
    with connect(port(made)) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        begun = time.monotonic()
        assert own_world.v2.call("DELETE", f"/devices/{mine.agent.uuid}").status_code == 204
        assert is_cut(connection)
        assert time.monotonic() - begun < 2
    eventually(lambda: not listens(port(made)), what="the port is free")


def test_idle_connections_end(own_world, echoing):
    own_world.server.stop()
    own_world.server.options += ["--tunnel-idle-seconds", "1"]
    own_world.server._launch()
    mine = Tunnels(own_world, own_world.online_device())
    with connect(port(mine.open(echoing))) as connection:
        assert is_cut(connection)
