"""Remote commands: a real server, real agents, real scripts."""

import getpass
import json
import os
import signal
import subprocess

import pytest

from muster.binaries import binary
from muster.client import Client
from muster.process import clean_environment
from muster.waiting import eventually

OPEN = {"pending", "running"}
KEPT_BYTES = 64 * 1024


class Commands:
    """What a fleet's runs of commands are asked for."""

    def __init__(self, world):
        self.world, self.v2 = world, world.v2

    def run(self, script, *devices, tag=None, **more):
        """The id of a run on one device, or on those with a tag."""
        filters = [{"type": "specific_device", "operand": "is", "value": device.uuid} for device in devices]
        filters += [{"type": "tag", "operand": "is", "value": tag}] if tag else []
        answer = self.v2.post("/command_runs", {"script": script, "device_filter": {"filters": filters}, **more})
        assert answer.status_code == 201, answer.text
        return answer.json()["run_id"]

    def devices(self, run, **params):
        answer = self.v2.get(f"/command_runs/{run}/devices", **params)
        assert answer.status_code == 200, answer.text
        return answer.json()["devices"]

    def one(self, run):
        (device,) = self.devices(run)
        return device

    def ended(self, run):
        """The only device of a run, once it has ended."""
        return eventually(lambda: (seen := self.one(run))["status"] not in OPEN and seen, what=f"the end of {run}")

    def running(self, run):
        eventually(lambda: self.one(run)["status"] == "running", what=f"{run} running")

    def output(self, run, device):
        answer = self.v2.get(f"/command_runs/{run}/devices/{device.uuid}/output")
        assert answer.status_code == 200, answer.text
        return answer.content.decode()

    def abort(self, run):
        answer = self.v2.post(f"/command_runs/{run}/abort", {})
        assert answer.status_code == 200, answer.text


def told(device):
    """Status, reason and exit code."""
    return device["status"], device["reason_code"], device["exit_code"]


@pytest.fixture(scope="module")
def commands(world):
    return Commands(world)


@pytest.fixture(scope="module")
def device(world):
    return world.online_device()


@pytest.fixture
def own_commands(own_world):
    return Commands(own_world)


def test_a_command_succeeds_and_both_outputs_are_kept_as_they_came(commands, device):
    run = commands.run("echo one; echo two >&2; echo three", device)
    seen = commands.ended(run)
    assert told(seen) == ("succeeded", None, 0)
    assert (seen["output_head"], seen["output_tail"], seen["truncated"]) == ("one\ntwo\nthree\n", "", False)
    assert commands.output(run, device) == "one\ntwo\nthree\n"


def test_a_command_fails_by_its_exit_code_and_by_a_signal(commands, device):
    assert told(commands.ended(commands.run("exit 7", device))) == ("failed", "exit_code", 7)
    assert told(commands.ended(commands.run("kill -9 $$", device))) == ("failed", "signal", None)


def test_a_command_ends_by_its_time_limit_with_all_that_it_started(commands, device, tmp_path):
    marker = tmp_path / "late"
    run = commands.run(f"echo begun; (sleep 4; touch {marker}) & wait", device, timeout_seconds=1)
    seen = commands.ended(run)
    assert (told(seen), seen["output_head"]) == (("timed_out", "timed_out", None), "begun\n")
    # What it had started would have written by the time that another such wait is over.
    commands.ended(commands.run("sleep 5", device))
    assert not marker.exists()


def test_a_running_command_is_aborted(commands, device):
    run = commands.run("echo begun; sleep 600", device, timeout_seconds=900)
    eventually(lambda: commands.output(run, device) == "begun\n", what="the output of a running command")
    assert commands.one(run)["status"] == "running"
    commands.abort(run)
    assert told(commands.ended(run)) == ("aborted", "aborted", None)
    assert commands.output(run, device) == "begun\n"


def test_output_is_followed_and_what_is_too_much_is_left_out(commands, device):
    script = "echo first; i=0; while [ $i -lt 4000 ]; do echo $i 0123456789012345678901234567890123456789; i=$((i+1)); done; echo last"
    run = commands.run(script, device)
    seen = commands.ended(run)
    assert (seen["status"], seen["truncated"]) == ("succeeded", True)
    output = commands.output(run, device)
    assert output.startswith("first\n") and output.endswith("last\n") and "bytes were left out here" in output
    assert len(output.encode()) <= KEPT_BYTES < seen["output_bytes"]
    assert seen["output_head"].startswith("first\n") and seen["output_tail"].endswith("last\n")


def test_binary_output_becomes_text_and_breaks_nothing(commands, device):
    run = commands.run(r"printf 'a\377\000b\n'; head -c 1000 /dev/urandom", device)
    assert commands.ended(run)["status"] == "succeeded"
    assert commands.output(run, device).startswith("a\N{REPLACEMENT CHARACTER}b\n")


def test_a_device_that_is_offline_runs_it_when_it_is_back(commands, world):
    device = world.device()
    run = commands.run("echo here", device)
    assert commands.one(run)["status"] == "pending"
    device.start()
    assert told(commands.ended(run)) == ("succeeded", None, 0)


def test_a_device_that_does_not_come_expires_and_never_runs_it(commands, world, tmp_path):
    device, marker = world.device(), tmp_path / "ran"
    run = commands.run(f"touch {marker}", device, expires_in_seconds=1)
    assert told(commands.ended(run)) == ("expired", "expired", None)
    device.start().wait_connected(world.v1)
    assert told(commands.ended(commands.run("true", device))) == ("succeeded", None, 0)
    assert not marker.exists()


def test_an_aborted_run_is_never_begun(commands, world, tmp_path):
    device, marker = world.device(), tmp_path / "ran"
    run = commands.run(f"touch {marker}", device)
    commands.abort(run)
    assert told(commands.one(run)) == ("aborted", "aborted", None)
    device.start().wait_connected(world.v1)
    commands.ended(commands.run("true", device))
    assert not marker.exists()


def test_a_killed_agent_finds_its_command_again(commands, world, tmp_path):
    device, lines, gate = world.online_device(), tmp_path / "lines", tmp_path / "gate"
    script = f"echo begun >> {lines}; while [ ! -e {gate} ]; do sleep 0.1; done; echo done"
    run = commands.run(script, device)
    commands.running(run)
    device.kill9()
    device.start().wait_connected(world.v1)
    gate.touch()
    assert told(commands.ended(run)) == ("succeeded", None, 0)
    assert (commands.output(run, device), lines.read_text()) == ("done\n", "begun\n")


def test_a_command_that_ended_while_its_agent_was_dead_is_reported(commands, world, tmp_path):
    device, gate = world.online_device(), tmp_path / "gate"
    run = commands.run(f"while [ ! -e {gate} ]; do sleep 0.1; done; echo done; exit 3", device)
    commands.running(run)
    device.kill9()
    gate.touch()
    eventually(lambda: not list(device.step_runners()), what="the end of the step runner")
    device.start()
    assert told(commands.ended(run)) == ("failed", "exit_code", 3)


def test_a_command_whose_runner_was_killed_is_interrupted_and_not_run_again(commands, world, tmp_path):
    device, lines = world.online_device(), tmp_path / "lines"
    run = commands.run(f"echo begun >> {lines}; sleep 20", device)
    eventually(lines.exists, what="the beginning")
    commands.running(run)
    device.kill9_all()
    device.start()
    assert told(commands.ended(run)) == ("failed", "interrupted", None)
    commands.ended(commands.run("true", device))
    assert lines.read_text() == "begun\n"


def test_a_killed_server_hears_the_end(own_commands, own_world, tmp_path):
    device, gate, lines = own_world.online_device(), tmp_path / "gate", tmp_path / "lines"
    script = f"echo begun >> {lines}; while [ ! -e {gate} ]; do sleep 0.1; done; echo done"
    run = own_commands.run(script, device)
    own_commands.running(run)
    own_world.server.kill9()
    gate.touch()
    own_world.server.restart()
    assert told(own_commands.ended(run)) == ("succeeded", None, 0)
    assert (own_commands.output(run, device), lines.read_text()) == ("done\n", "begun\n")


def test_a_command_waits_for_no_deployment_and_only_a_few_run_at_once(commands, device, tmp_path):
    gate = tmp_path / "gate"
    runs = [commands.run(f"while [ ! -e {gate} ]; do sleep 0.1; done", device) for _ in range(6)]
    eventually(lambda: [commands.one(run)["status"] for run in runs].count("running") == 4, what="four at once")
    assert [commands.one(run)["status"] for run in runs].count("pending") == 2
    gate.touch()
    assert {commands.ended(run)["status"] for run in runs} == {"succeeded"}


def test_twenty_devices_by_their_tag(own_commands, own_world):
    devices = [own_world.device().start() for _ in range(20)]
    for device in devices:
        own_world.v2.add_tags(device.uuid, "shop")
    run = own_commands.run("echo hello from $$", tag="shop")
    eventually(lambda: own_world.v2.get(f"/command_runs/{run}").json()["is_over"], what="the end of all")
    counts = own_world.v2.get(f"/command_runs/{run}").json()["devices"]
    assert (counts["succeeded"], sum(counts.values())) == (20, 20)
    assert all(seen["output_head"].startswith("hello from") for seen in own_commands.devices(run, limit=1000))


def test_a_device_may_refuse_all_commands(commands, world):
    device = world.device().start("--commands", "off").wait_connected(world.v1)
    seen = commands.ended(commands.run("true", device))
    assert told(seen) == ("failed", "not_supported_by_device", None)


def test_a_device_says_as_whom_commands_run(commands, world):
    me = getpass.getuser()
    device = world.device().start("--commands", f"{me},nobody").wait_connected(world.v1)
    seen = commands.ended(commands.run("id -un", device))
    assert (told(seen), seen["output_head"]) == (("succeeded", None, 0), f"{me}\n")
    assert told(commands.ended(commands.run("true", device, user="daemon"))) == ("failed", "user_not_allowed", None)
    nobody = commands.ended(commands.run("id -un; echo $HOME $USER", device, user="nobody"))
    if os.geteuid() == 0:
        home = subprocess.run(["sh", "-c", "echo ~nobody"], capture_output=True, text=True, check=True).stdout.strip()
        assert (told(nobody), nobody["output_head"]) == (("succeeded", None, 0), f"nobody\n{home} nobody\n")
    else:
        assert told(nobody) == ("failed", "user_not_allowed", None)


def test_a_user_whom_the_device_does_not_know_is_refused(commands, device):
    seen = commands.ended(commands.run("true", device, user="no-such-user-here"))
    assert told(seen) == ("failed", "no_such_user", None)


@pytest.fixture(scope="module")
def muster(world, tmp_path_factory):
    return Client(tmp_path_factory.mktemp("client"), world.server, world.account)


def test_the_client_runs_a_command_and_prints_what_it_says(muster, device):
    assert muster.ok("run", device.uuid, "--", "echo", "it's", "a b") == "it's a b\n"
    assert muster.ok("run", device.uuid, "--follow", "--", "echo one; sleep 2; echo two") == "one\ntwo\n"
    failed = muster.run("run", device.uuid, "--", "echo no; exit 3")
    assert (failed.returncode, failed.stdout) == (5, "no\n")
    assert "exit code 3" in failed.stderr and "1 failed" in failed.stderr


def test_the_client_runs_saved_commands_on_several(muster, device, world):
    other = world.online_device(name="the other")
    muster.ok("commands", "create", "greet", "--script", "echo hello", "--description", "Says hello")
    assert muster.json("commands", "show", "greet")["script"] == "echo hello"
    said = muster.ok("run", device.uuid, other.uuid, "--command", "greet").splitlines()
    assert sorted(said) == sorted([f"{device.name}: hello", "the other: hello"])
    events = [json.loads(line) for line in muster.ok("run", device.uuid, "--command", "greet", "--json").splitlines()]
    assert [event["event"] for event in events] == ["created", "device", "ended"]
    assert (events[1]["output"], events[2]["result"]) == ("hello\n", "succeeded")
    muster.ok("commands", "set", "greet", "--script", "echo hi", "--timeout", "5s")
    assert muster.ok("run", device.uuid, "--command", "greet") == "hi\n"
    run = muster.ok("run", device.uuid, "--command", "greet", "--no-wait").strip()
    eventually(lambda: muster.ok("commands", "output", run, device.uuid) == "hi\n", what="the output")
    assert muster.json("commands", "devices", run)[0]["status"] == "succeeded"
    assert "Says hello" in muster.ok("commands", "list")
    muster.ok("commands", "delete", "greet", "--yes")
    assert "greet" in muster.ok("commands", "runs")


def test_the_client_is_interrupted_and_the_run_goes_on(muster, device):
    command = [binary("muster"), "run", device.uuid, "--follow", "--timeout", "10m", "--", "echo begun; sleep 300"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(**muster.settings)
    ) as child:
        assert child.stdout.readline() == "begun\n"
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130 and "goes on; end it with: muster commands abort cr-" in said
    run = muster.json("commands", "runs", "--limit", "1")[0]["run_id"]
    assert muster.json("commands", "devices", run)[0]["status"] == "running"
    muster.ok("commands", "abort", run)
    eventually(lambda: muster.json("commands", "devices", run)[0]["status"] == "aborted", what="the abort")
