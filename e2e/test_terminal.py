"""Terminals: real server, real agent, real shells."""

import getpass
import grp
import json
import os
import pwd
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from muster.binaries import binary
from muster.client import Client
from muster.process import Process, clean_environment
from muster.terminal import Refused, Terminal
from muster.waiting import eventually

USER = getpass.getuser()


class Terminals:
    """A world with one device, and terminals on it."""

    def __init__(self, world, agent):
        self.world, self.agent, self.v2 = world, agent, world.v2
        self.url, self.account = world.server.url, world.account

    def path(self, rest):
        return f"/api/v2/{self.v2.project_key}{rest}"

    def open(self, query="", token=None, **options):
        path = self.path(f"/devices/{self.agent.uuid}/terminal?{query}")
        return Terminal(self.url, token or self.v2.access_token, path, **options)

    def opens(self):
        try:
            self.open().close()
        except Refused:
            return False
        return True

    def newest(self):
        return self.v2.get("/remote_sessions", kind="terminal", limit=1).json()["remote_sessions"][0]

    def seen(self, session):
        return self.v2.get(f"/remote_sessions/{session['session_id']}").json()

    def over(self, session, reason):
        eventually(lambda: self.seen(session)["status"] == "ended", what="the session's end")
        seen = self.seen(session)
        assert seen["reason"] == reason
        return seen

    def recording(self, session):
        answer = self.v2.get(f"/remote_sessions/{session['session_id']}/recording")
        assert answer.status_code == 200, answer.text
        header, *events = answer.content.decode().splitlines()
        return json.loads(header), [json.loads(event) for event in events]

    def watch(self, session, token=None):
        return Terminal(
            self.url, token or self.v2.access_token, self.path(f"/remote_sessions/{session['session_id']}/watch")
        )


@pytest.fixture(scope="module")
def terminals(world):
    agent = world.device().start("--terminal-user", USER).wait_connected(world.v1)
    return Terminals(world, agent)


def shown(events):
    return "".join(data for _, kind, data in events if kind == "o")


def is_running(mark):
    """Whether any process has `mark` in its command line."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in entry.read_bytes():
                return True
        except OSError:
            continue
    return False


def leave_behind(terminal, mark):
    """Starts what detaches itself from a terminal in every way there is."""
    script = f"trap '' HUP TERM; while :; do sleep 0.5; done # {mark}"
    terminal.run(f'nohup setsid sh -c "{script}" > /dev/null 2>&1 & sleep 0.1; echo le""ft', "left")
    eventually(lambda: is_running(mark), what="what was left behind")


def test_a_shell_of_the_user_with_its_size_and_its_end(terminals):
    terminal = terminals.open("columns=101&rows=33&term=vt100")
    terminal.run("stty size", "33 101")
    terminal.run("echo $USER:$TERM:$HOME", f"{USER}:vt100:{pwd.getpwuid(os.getuid()).pw_dir}")
    terminal.run("id -un; tty", "/dev/pts/")
    terminal.say(type="resize", columns=120, rows=40)
    terminal.run("stty size", "40 120")
    session = terminals.newest()
    terminal.type("exit 7\n")
    assert terminal.end() == {"type": "exited", "code": 7}
    seen = terminals.over(session, "finished")
    assert seen["terminal"] == {"exit_code": 7, "exit_signal": None, "recording": "kept"}
    header, events = terminals.recording(session)
    assert (header["version"], header["width"], header["height"]) == (2, 101, 33)
    times = [at for at, _, _ in events]
    assert times == sorted(times)
    assert shown(events).encode() == terminal.shown
    assert {kind for _, kind, _ in events} == {"o", "r"}, "what is typed is not recorded"
    assert [data for _, kind, data in events if kind == "r"] == ["120x40"]


def test_a_signal_that_ends_the_shell_is_told(terminals):
    terminal = terminals.open()
    terminal.run("echo read''y", "ready")
    terminal.type("kill -9 $$\n")
    assert terminal.end() == {"type": "exited", "signal": 9}


def test_a_browser_bears_its_token_as_a_subprotocol(terminals):
    terminal = terminals.open(as_browser=True)
    assert "sec-websocket-protocol: muster.terminal.v1\r\n" in terminal.head.lower()
    assert terminals.v2.access_token not in terminal.head
    terminal.run("echo read''y", "ready")
    terminal.close()
    assert terminals.v2.access_token not in terminals.world.server.process.output()


def test_much_output_reaches_a_slow_reader_whole(terminals):
    terminal = terminals.open(reads=False)
    terminal.type("stty -onlcr; for i in $(seq 200000); do echo line $i; done; exit\n")
    time.sleep(2)
    terminal.read()
    assert terminal.end(timeout=120) == {"type": "exited", "code": 0}
    numbers = [int(number) for number in re.findall(rb"line (\d+)\n", terminal.shown)]
    assert numbers == list(range(1, 200_001))


@pytest.mark.parametrize("cut", ["caller", "person", "stop", "agent"])
def test_nothing_survives_a_cut(terminals, cut):
    mark = f"left-by-{cut}-{os.getpid()}-{time.monotonic_ns()}"
    terminal = terminals.open()
    leave_behind(terminal, mark)
    session = terminals.newest()
    began = time.monotonic()
    if cut == "caller":
        terminal.close()
    elif cut == "person":
        assert terminals.v2.call("DELETE", f"/remote_sessions/{session['session_id']}").status_code == 204
    elif cut == "stop":
        terminals.agent.stop()
    else:
        terminals.agent.kill9()
    eventually(lambda: not is_running(mark), what="the end of what was left behind")
    # A second is the promise; the rest is this machine's.
    assert time.monotonic() - began < 3
    if cut in ("stop", "agent"):
        terminals.agent.start()
        # For a moment the device is still said to be online by its old link.
        eventually(terminals.opens, what="a terminal of the new agent")
    reasons = {"caller": "caller_gone", "person": "ended_by_user", "stop": "device_gone", "agent": "device_gone"}
    terminals.over(session, reasons[cut])


def test_a_watcher_sees_all_of_it(terminals):
    terminal = terminals.open()
    terminal.run("echo bef''ore", "before")
    session = terminals.newest()
    watcher = terminals.watch(session)
    terminal.run("echo aft''er", "after")
    eventually(lambda: b"after" in watcher.shown, what="what is shown while somebody watches")
    terminal.type("exit\n")
    assert watcher.end() == {"type": "end"}
    terminals.over(session, "finished")
    replayed = terminals.v2.get(f"/remote_sessions/{session['session_id']}/recording").content
    assert watcher.shown == replayed
    log = terminals.v2.call("GET", "/audit-log", project_key="account", params={"limit": 100}).json()["events"]
    actions = {event["action"] for event in log if session["session_id"] in event["subject"]}
    assert {"OpenTerminal", "EndRemoteSession", "WatchSession", "GetSessionRecording"} <= actions


def test_the_device_decides_whose_terminals_there_are(terminals):
    with pytest.raises(Refused) as refused:
        terminals.open("user=daemon")
    assert refused.value.status == 409
    assert terminals.newest()["reason"] == "device_refused"
    with pytest.raises(Refused) as refused:
        terminals.open("user=../x")
    assert refused.value.status == 400
    with pytest.raises(Refused) as refused:
        terminals.open(token="nobody")
    assert refused.value.status == 401


@pytest.fixture
def other_user():
    """A user of this test's own, in a group more."""
    if os.geteuid() != 0:
        pytest.fail("only root can become another user; these tests run as root")
    name = f"muster-t{os.getpid()}"
    home = f"/tmp/{name}"
    for command in (
        ["groupadd", f"{name}-g"],
        ["useradd", "--create-home", "--home-dir", home, "--shell", "/bin/sh", "--user-group", "-G", f"{name}-g", name],
    ):
        subprocess.run(command, check=True, capture_output=True)
    yield pwd.getpwnam(name)
    subprocess.run(["userdel", "--remove", name], check=True, capture_output=True)
    subprocess.run(["groupdel", f"{name}-g"], check=True, capture_output=True)


def test_a_terminal_becomes_another_user(world, other_user):
    name = other_user.pw_name
    agent = world.device().start("--terminal-user", name).wait_connected(world.v1)
    terminals = Terminals(world, agent)
    terminal = terminals.open()
    uid, gid, home = other_user.pw_uid, other_user.pw_gid, other_user.pw_dir
    groups = f"{other_user.pw_gid} {grp.getgrnam(name + '-g').gr_gid}"
    for command, expected in [
        ("echo $(id -u):$(id -ru):$(id -g):$(id -rg).", f"{uid}:{uid}:{gid}:{gid}."),
        ("echo [$(id -G)]", f"[{groups}]"),
        ("echo $USER:$LOGNAME:$HOME:$SHELL:$(pwd).", f"{name}:{name}:{home}:/bin/sh:{home}."),
        ("echo [$(stat -c %U:%a $(tty))]", f"[{name}:620]"),
        ("echo re''opened > $(tty)", "reopened"),
        ("echo do''ne > /dev/tty", "done"),
        # Every set that gives something by itself is empty: inheritable, permitted, effective, ambient.
        ("echo [$(grep -cE '^Cap(Inh|Prm|Eff|Amb):.0+$' /proc/self/status)]", "[4]"),
        ("head -c1 /etc/shadow; echo sh''adow $?", "Permission denied"),
        ("ls -l /proc/self/fd | grep -c socket; echo so''ckets", "0\r\nsockets"),
    ]:
        terminal.run(command, expected)
    with pytest.raises(Refused) as refused:
        terminals.open("user=root")
    assert refused.value.status == 409
    session = terminals.newest()
    assert session["reason"] == "device_refused"
    terminal.type("exit\n")
    assert terminal.end() == {"type": "exited", "code": 0}
    agent.stop()


def test_an_agent_that_is_not_root_says_why_it_becomes_nobody_else(world, other_user):
    agent = world.device()
    # Its state is the other user's from now on, and lies where they can come to it.
    state = Path(other_user.pw_dir) / "state"
    shutil.move(agent.state, state)
    for place in [state, *state.rglob("*")]:
        os.chown(place, other_user.pw_uid, other_user.pw_gid)
    agent.state = state
    program = Path(other_user.pw_dir) / "muster-agent"
    shutil.copy(binary("muster-agent"), program)
    as_user = ["setpriv", f"--reuid={other_user.pw_uid}", f"--regid={other_user.pw_gid}", "--clear-groups"]
    command = [*as_user, program, "run", "--state", state]
    options = ["--terminal-user", other_user.pw_name, "--terminal-user", "daemon"]
    agent.process = Process([*command, *options], agent.folder / "agent.log", clean_environment())
    try:
        terminals = Terminals(world, agent.wait_connected(world.v1))
        terminal = terminals.open()
        terminal.run("echo [$(id -un)]", f"[{other_user.pw_name}]")
        client = Client(agent.folder / "laptop", world.server, world.account)
        code, said = client.on_terminal("terminal", agent.uuid, "--user", "daemon")
        assert code == 1 and "does not run as root, and cannot open terminals of daemon" in said
        terminal.type("exit\n")
        assert terminal.end() == {"type": "exited", "code": 0}
    finally:
        agent.stop()


def test_the_client_is_a_terminal(terminals, tmp_path):
    client = Client(tmp_path, terminals.world.server, terminals.account)
    prompt = "# " if USER == "root" else "$ "
    answers = [(prompt, "stty size; echo do''ne"), ("done", "exit 5")]
    code, shown = client.on_terminal("terminal", terminals.agent.uuid, answers=answers, columns=97)
    assert (code, "40 97" in shown) == (5, True), shown
    session = terminals.newest()
    terminals.over(session, "finished")
    replayed = client.ok("sessions", "replay", session["session_id"], "--speed", 100)
    assert "40 97" in replayed
    raw = client.ok("sessions", "replay", session["session_id"], "--raw")
    assert json.loads(raw.splitlines()[0])["width"] == 97
    assert "40 97" in client.ok("sessions", "watch", session["session_id"])
    assert session["session_id"] in client.ok("sessions", "list", "--kind", "terminal")


def test_a_recording_survives_a_killed_server(worlds):
    world = worlds().open()
    terminals = Terminals(world, world.device().start("--terminal-user", USER).wait_connected(world.v1))
    terminal = terminals.open()
    terminal.run("echo last''ing", "lasting")
    session = terminals.newest()
    world.server.kill9()
    world.server.restart()
    terminals.over(session, "server_stopped")
    _, events = terminals.recording(session)
    assert "lasting" in shown(events)
