"""The tools of these tests, tested: they need no Muster executable."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from muster import samples
from muster.flows import GatedFlow, flow
from muster.postgres import SCRIPT
from muster.process import Process, run
from muster.shapes import NUMBER, SPACED_TIME, list_of, mismatches, optional
from muster.waiting import eventually

# Stands in for a test runner: starts the script, shows its address, waits to be killed.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline().strip(), flush=True)
child.wait()
"""


def processes_with(word):
    """The ids of all processes whose command line holds `word`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue  # It ended while we looked.
    return found


@pytest.fixture
def parent(tmp_path):
    """A parent with a private PostgreSQL in `tmp_path`: (process, id of the script, URL)."""
    tmp_path.chmod(0o755)
    env = {**os.environ, "TMPDIR": "/tmp"}
    process = subprocess.Popen([sys.executable, "-c", PARENT, str(SCRIPT)], stdout=subprocess.PIPE, text=True, env=env)
    pid, url = process.stdout.readline().split()
    yield process, int(pid), url
    process.kill()
    process.wait()
    process.stdout.close()


def data_folder_of(script_pid):
    """The script works inside the folder that it must remove."""
    return Path(os.readlink(f"/proc/{script_pid}/cwd"))


def assert_nothing_left(script_pid, folder):
    eventually(lambda: not Path(f"/proc/{script_pid}").exists(), what="the end of the script")
    assert not folder.exists()
    assert processes_with(str(folder)) == []


def test_a_killed_parent_leaves_no_postgres_behind(parent):
    process, script_pid, url = parent
    folder = data_folder_of(script_pid)
    assert url.startswith("postgres://muster@127.0.0.1:")
    assert processes_with(str(folder)), "the server should run in its folder"
    process.kill()
    process.wait()
    assert_nothing_left(script_pid, folder)


def test_a_terminated_script_leaves_no_postgres_behind(parent):
    _, script_pid, _ = parent
    folder = data_folder_of(script_pid)
    os.kill(script_pid, signal.SIGTERM)
    # The stand-in reaps the script, so its entry in /proc goes as well.
    assert_nothing_left(script_pid, folder)


def test_a_killed_script_takes_its_server_with_it(parent):
    _, script_pid, _ = parent
    folder = data_folder_of(script_pid)
    os.kill(script_pid, signal.SIGKILL)
    eventually(lambda: processes_with(str(folder)) == [], what="the end of the server")
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_databases_are_fresh_and_commits_synchronous(postgres):
    assert postgres.create_database() != postgres.create_database()
    settings = "select name || '=' || setting from pg_settings where name in ('fsync', 'max_connections', 'synchronous_commit') order by 1"
    assert postgres.sql("postgres", settings).split() == ["fsync=off", "max_connections=200", "synchronous_commit=on"]


def test_a_private_postgres_says_what_is_missing(tmp_path):
    # A machine without PostgreSQL: nothing in PATH, nothing where packages put it.
    code = SCRIPT.read_text().replace("/usr/lib/postgresql/*/bin", "/nowhere").replace("/usr/pgsql-*/bin", "")
    done = run(shutil.which("bash"), "-c", code, env={"PATH": str(tmp_path)})
    assert done.returncode == 3
    assert "apt-get install postgresql" in done.stderr


def test_eventually_takes_asserts_as_not_yet():
    calls = []

    def third_time():
        calls.append(1)
        assert len(calls) == 3
        return "seen"

    assert eventually(third_time, timeout=5) == "seen"
    with pytest.raises(AssertionError, match="never came did not come true in 0 s"):
        eventually(lambda: False, timeout=0, what="never came")


def test_a_process_shows_its_lines_and_its_early_end(tmp_path):
    talker = Process(["sh", "-c", "echo listening on 7; exec sleep 60"], tmp_path / "log")
    assert talker.wait_for_line(r"on (\d)").group(1) == "7"
    talker.kill9()
    assert not talker.is_running
    with pytest.raises(RuntimeError, match="ended with 4 before"):
        Process(["sh", "-c", "echo no; exit 4"], tmp_path / "log").wait_for_line("listening")


def test_shapes_name_every_difference():
    shape = {"at": SPACED_TIME, "n": optional(NUMBER), "tags": list_of(str), "inner": {"ok": bool}}
    right = {"at": "2024-05-02 07:12:57", "n": None, "tags": ["a"], "inner": {"ok": True}}
    assert mismatches(right, shape) == []
    wrong = {"at": "2024-05-02T07:12:57Z", "n": True, "tags": [1], "inner": {}, "extra": 1}
    assert len(mismatches(wrong, shape)) == 5


def test_a_gated_flow_holds_up_its_middle(tmp_path):
    gated = GatedFlow(tmp_path)
    scripts = [line.split("run: ", 1)[1] for line in gated.document().splitlines() if "run: " in line]
    shell = Process(["sh", "-c", "\n".join(json.loads(script) for script in scripts)], tmp_path / "log")
    eventually(gated.is_in_the_middle)
    assert gated.is_middle_alive() and gated.lines() == GatedFlow.BEGUN
    gated.open_gate()
    assert shell.child.wait(10) == 0
    assert gated.lines() == GatedFlow.ALL and not gated.is_middle_alive()


def test_flow_documents_declare_their_inputs():
    document = flow("f", [("a", 'echo "${{ inputs.who }}"')], inputs=["who"])
    assert document.splitlines()[-1] == '      "who": {}'
    assert r'run: "echo \"${{ inputs.who }}\""' in document


FLATTENED = """words before{}import json
import requests
body = {'a': 1,
'b': [2]}
call_request = requests.get("https://api.connect.jfrog.io/v1/things", json=body)
call_response = json.loads(call_request.text)
if call_request.status_code != 200:
if call_request.status_code == 429:
error = "slow down"
else:
error = call_response["error_message"]
print(error)
else:
for thing in call_response["message"]:
name = thing["name"]glued words
more words"""


def test_lost_indentation_is_put_back():
    (code,) = samples.flattened(FLATTENED)
    compile(code, "sample", "exec")
    assert code.splitlines()[6:] == [
        "if call_request.status_code != 200:",
        "    if call_request.status_code == 429:",
        '        error = "slow down"',
        "    else:",
        '        error = call_response["error_message"]',
        "    print(error)",
        "else:",
        '    for thing in call_response["message"]:',
        '        name = thing["name"]',
    ]


def test_a_sample_may_end_with_its_error():
    short = FLATTENED.split("\nelse:\nfor ")[0] + "\nwords behind"
    (code,) = samples.flattened(short)
    compile(code, "sample", "exec")
    assert code.endswith("    print(error)\n")


def test_each_printed_sample_compiles():
    found = samples.every_sample()
    if not found:
        pytest.skip(f"the vendor's pages are not in {samples.seeds_dir()}")
    for sample in found:
        if sample.language == "python":
            compile(sample.code, sample.id, "exec")
