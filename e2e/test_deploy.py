"""`muster deploy`, in a pipe and on a terminal, with real devices."""

import json
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from muster.binaries import binary
from muster.client import Client
from muster.flows import GatedFlow, flow
from muster.waiting import eventually

OTHER, USAGE, NOT_ALL_SUCCEEDED, PAUSED, INTERRUPTED = 1, 2, 5, 6, 130


@pytest.fixture
def client(world, tmp_path):
    return Client(tmp_path / "home", world.server, world.account)


_names = iter(range(1_000_000))


@pytest.fixture
def write_flow(tmp_path):
    """Writes a flow of `run` steps into a file; its path and its name."""

    def write(*steps, inputs=()):
        name = f"Update {next(_names)}"
        path = tmp_path / f"{name}.yaml"
        path.write_text(flow(name, steps, inputs))
        return path, name

    return write


def events(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_file_is_deployed_in_a_pipe(world, client, write_flow):
    device, (file, name) = world.online_device(), write_flow(("greet", "echo hello $INPUT_WHO"), inputs=["WHO"])
    done = client.run("deploy", file, "--device", device.uuid, "--input", "WHO=you", "--comment", "first", "--yes")
    assert done.returncode == 0, done
    deployment, summary = done.stdout.splitlines()
    assert summary == f"{deployment}: 1 succeeded"
    said = done.stderr.splitlines()
    assert said[:4] == [f'Update flow "{name}", to 1 device:', "  1 would begin", "All of them at once.", said[3]]
    assert "  greet: nothing is put back" in said
    assert any(line.startswith(f"made the update flow {name}, f-") for line in said)
    assert said[-1] == f"{deployment}: 1 of 1 ended: 1 succeeded"
    assert "\x1b" not in done.stderr and "\r" not in done.stderr
    assert client.json("deployments", "show", deployment)["comment"] == "first"
    assert client.json("deployments", "device", deployment, device.uuid)["steps"][0]["stdout"] == "hello you\n"

    # The same file again is the same flow; by name it is found as well.
    for words in (file, name):
        again = client.run("deploy", words, "--device", device.uuid, "--input", "WHO=you", "--yes")
        assert again.returncode == 0 and "made the update flow" not in again.stderr, again
    assert [listed["name"] for listed in client.json("flows", "list")].count(name) == 1


def test_what_failed_is_shown_with_its_output(world, client, write_flow):
    device = world.online_device()
    script = "for i in $(seq 1 30); do echo line $i >&2; done; exit 7"
    file, _ = write_flow(("fine", "true"), ("break it", script))
    done = client.run("deploy", file, "--device", device.uuid, "--yes")
    assert done.returncode == NOT_ALL_SUCCEEDED
    deployment, *said = done.stdout.splitlines()
    assert said[:2] == ["Not succeeded:", "  1 step_failed"]
    assert said[2].startswith(f"{device.uuid}  Failed: ")
    assert said[3:6] == ["    step break it, exit code 7", "      … 10 lines before", "      line 11"]
    assert said[-1] == "      line 30"
    assert done.stderr.splitlines()[-1] == f"muster: {deployment}: 1 failed"


def test_a_preview_changes_nothing(world, client, tmp_path):
    online, offline = world.online_device(), world.device()
    client.ok("devices", "tag", "add", online.uuid, "previewed")
    client.ok("devices", "tag", "add", offline.uuid, "previewed")
    which = ("--filter", "tag is previewed")
    file = tmp_path / "flow.yaml"
    conf = {"uses": "connect/file", "name": "conf", "with": {
        "device-path": "/etc/till.conf", "content": "x",
        "on-failure": {"revert-all-files": True, "trigger-revert": "any-step-failure"}}}  # fmt: skip
    file.write_text(json.dumps({"flows": {"Till": {"steps": [conf]}}}))
    before = (client.json("deployments", "list"), client.json("flows", "list"))
    said = client.ok("deploy", file, *which, "--waves", "1,100%", "--failures-max", "50%", "--preview")
    for line in (
        'Update flow "Till", to 2 devices:', "  1 would begin",
        "  1 would wait: The device has no link to the server; it begins once it connects. (device_offline)",
        f"      {offline.uuid}", "In 2 waves of 1, 1 devices.", "Pauses when more than 1 failed.",
        "  conf: /etc/till.conf put back when this or a later step fails",
    ):  # fmt: skip
        assert line in said.splitlines(), said
    # An agent without a container engine, or too old for it, is known beforehand.
    docker = {"uses": "connect/docker", "name": "run", "with": {"registry": "r", "image-path": "i", "image-tag": "1"}}
    file.write_text(json.dumps({"flows": {"Till": {"steps": [docker]}}}))
    (event,) = events(client.run("deploy", file, "--device", offline.uuid, "--preview", "--json"))
    assert (event["event"], event["preview"]["would_start"]) == ("preview", 0)
    (refusing,) = event["preview"]["would_refuse"]
    assert refusing["count"] == 1 and refusing["devices"][0]["device_uuid"] == offline.uuid
    assert (client.json("deployments", "list"), client.json("flows", "list")) == before


def test_nothing_is_deployed_without_a_yes(world, client, write_flow):
    device, (file, name) = world.online_device(), write_flow(("greet", "echo hello"))
    before = client.json("deployments", "list")
    done = client.run("deploy", file, "--device", device.uuid)
    assert (done.returncode, done.stdout) == (USAGE, "") and "say --yes" in done.stderr
    question = f'Deploy "{name}" to 1 device? [y/N] '
    code, shown = client.on_terminal("deploy", file, "--device", device.uuid, answers=[(question, "n")])
    assert code == USAGE and "nothing was done" in shown
    assert client.json("deployments", "list") == before
    assert name not in [listed["name"] for listed in client.json("flows", "list")]
    code, shown = client.on_terminal("deploy", file, "--device", device.uuid, answers=[(question, "y")])
    assert code == 0 and "1/1" in shown and "1 succeeded" in shown, shown


def test_what_is_wrong_is_refused_before_anything_is_made(world, client, write_flow, tmp_path):
    device = world.online_device()
    file, _ = write_flow(("greet", "echo hello"))
    assert "--all" in client.refused(USAGE, "deploy", file, "--yes")
    nobody = client.run("deploy", file, "--filter", "device_state is offline", "--filter", f"specific_device is {device.uuid}", "--yes")  # fmt: skip
    assert nobody.returncode == OTHER and "no device matches" in nobody.stderr
    bad = tmp_path / "bad.yaml"
    bad.write_text("flows:\n  Bad:\n    steps: 5\n")
    assert "flow_document" in client.refused(OTHER, "deploy", bad, "--device", device.uuid, "--yes")
    several = tmp_path / "several.yml"
    several.write_text(flow("One", [("a", "true")]) + '  "Two":\n    steps:\n      - name: b\n        run: "true"\n')
    assert "holds several flows" in client.refused(OTHER, "deploy", several, "--device", device.uuid, "--yes")
    done = client.run("deploy", several, "--flow-name", "Two", "--device", device.uuid, "--yes")
    assert done.returncode == 0, done
    assert "cannot read" in client.refused(OTHER, "deploy", tmp_path / "none.yaml", "--all", "--yes")
    assert "no update flow" in client.refused(4, "deploy", "nonsense", "--all", "--yes")
    client.refused(USAGE, "deploy", file, "--all", "--waves", "x")
    client.refused(USAGE, "deploy", file, "--all", "--waves", "1", "--rollout", "{}")


def test_a_program_reads_events(world, client, write_flow):
    device, (file, _) = world.online_device(), write_flow(("break", "echo oh no >&2; exit 3"))
    done = client.run("deploy", file, "--device", device.uuid, "--yes", "--json")
    assert done.returncode == NOT_ALL_SUCCEEDED
    told = events(done)
    kinds = [event["event"] for event in told]
    assert (kinds[:2], set(kinds[2:-1]), kinds[-1]) == (["preview", "created"], {"progress"}, "ended")
    created, ended = told[1], told[-1]
    assert ended["deployment_uuid"] == created["deployment_uuid"] and ended["result"] == "failed"
    assert (ended["devices"]["failed"], ended["devices"]["total"]) == (1, 1)
    (failed,) = ended["failed"]
    assert (failed["device_uuid"], failed["reason_code"]) == (device.uuid, "step_failed")
    (step,) = failed["failed_steps"]
    assert (step["name"], step["exit_code"], step["stderr"]) == ("break", 3, "oh no\n")


def test_it_need_not_wait(world, client, write_flow):
    device, (file, _) = world.online_device(), write_flow(("greet", "echo hello"))
    done = client.run("deploy", file, "--device", device.uuid, "--yes", "--no-wait")
    assert done.returncode == 0 and len(done.stdout.split()) == 1, done
    deployment = done.stdout.strip()
    assert client.run("deployments", "watch", deployment).stdout == f"{deployment}: 1 succeeded\n"


def test_ctrl_c_leaves_the_deployment_running(world, client, tmp_path):
    device, gated = world.online_device(), GatedFlow(tmp_path / "gated")
    file = tmp_path / "gated.yaml"
    file.write_text(gated.document())
    deploy = subprocess.Popen(
        [binary("muster"), "deploy", str(file), "--device", device.uuid, "--yes"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=client.environment(),
    )  # fmt: skip
    eventually(gated.is_in_the_middle, what="the middle step")
    deploy.send_signal(signal.SIGINT)
    said, complained = deploy.communicate(timeout=60)
    deployment = said.strip()
    assert deploy.returncode == INTERRUPTED
    assert f"{deployment} goes on; follow it with: muster deployments watch {deployment}" in complained
    gated.open_gate()
    assert client.run("deployments", "watch", deployment).returncode == 0
    assert gated.lines() == gated.ALL


def test_a_budget_pauses_and_says_how_to_go_on(world, client, tmp_path, write_flow):
    tag = "in waves"
    devices = [world.online_device() for _ in range(3)]
    for device in devices:
        client.ok("devices", "tag", "add", device.uuid, tag)
    mended = tmp_path / "mended"
    file, name = write_flow(("try", f"test -e {mended}"))
    which = ("--filter", f"tag is {tag}", "--waves", "1,100%", "--failures-max", "0")
    done = client.run("deploy", file, *which, "--yes")
    assert done.returncode == PAUSED, done
    deployment = done.stdout.splitlines()[0]
    assert "wave 1 of 2: 1 of 3 ended: 2 pending, 1 failed" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == (
        f"muster: {deployment} is paused: more devices failed than may (2 pending, 1 failed); "
        f"go on with: muster deployments resume {deployment}"
    )
    assert "step try, exit code 1" in done.stdout
    mended.touch()
    client.ok("deployments", "resume", deployment)
    assert client.ok("deployments", "retry", deployment).strip() == "trying again on 1 devices"
    followed = client.run("deployments", "watch", deployment)
    assert (followed.returncode, followed.stdout) == (0, f"{deployment}: 3 succeeded\n"), followed
    # What the first attempt said is kept.
    failed = [line.split()[0] for line in done.stdout.splitlines() if "Failed: " in line]
    target = world.v2.target(deployment, failed[0], attempt=1, enrich_info="true")
    assert (target["status"], target["steps"][0]["exit_code"], target["attempt"]) == ("Failed", 1, 1)
    assert world.v2.target(deployment, failed[0])["status"] == "Succeeded"


def test_on_a_terminal_a_pause_is_waited_out(world, client, write_flow):
    tag = "looked on"
    devices = [world.online_device() for _ in range(2)]
    for device in devices:
        client.ok("devices", "tag", "add", device.uuid, tag)
    file, _ = write_flow(("break", "exit 1"))
    words = ("deploy", file, "--filter", f"tag is {tag}", "--waves", "1", "--failures-max", "0", "--yes")
    code, shown = client.on_terminal(*words, "--no-input")
    assert code == PAUSED and "wave 1 of 2" in shown, shown

    def newest():
        return client.json("deployments", "list", "--limit", 1)[0]["deployment_uuid"]

    # The first deployment is still open on the other device.
    client.ok("deployments", "abort", newest())
    resume = ("; waiting", lambda: client.ok("deployments", "resume", newest()))
    code, shown = client.on_terminal(*words, answers=[resume])
    assert code == NOT_ALL_SUCCEEDED and "; waiting" in shown and "2 failed" in shown, shown


def test_a_server_that_restarts_is_waited_for(own_world, tmp_path):
    world, gated = own_world, GatedFlow(tmp_path / "gated")
    client, device = Client(tmp_path / "home", world.server, world.account), world.online_device()
    file = tmp_path / "gated.yaml"
    file.write_text(gated.document())
    with ThreadPoolExecutor() as other:
        following = other.submit(client.run, "deploy", file, "--device", device.uuid, "--yes")
        eventually(gated.is_in_the_middle, what="the middle step")
        world.server.kill9()
        gated.open_gate()
        world.server.start()
        done = following.result()
    assert done.returncode == 0 and done.stdout.endswith(": 1 succeeded\n"), done
