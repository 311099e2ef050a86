"""`muster quickstart`: the whole product in one command, as a newcomer meets it."""

import platform
import re
import socket

import pytest

from muster.agent import UUID
from muster.binaries import binary
from muster.process import run


def quickstart(data, timeout=120):
    return run(binary("muster"), "quickstart", "--exit", "--data", data, "--listen", "127.0.0.1:0", timeout=timeout)


def assert_narrated(done):
    """The newcomer sees a device, a tag come and go, and a deployment that did real work on this machine."""
    told = done.stdout
    assert done.returncode == 0, done.stderr + told
    assert UUID.search(told), told
    lines = [line.lower() for line in told.splitlines()]
    tagged = [i for i, line in enumerate(lines) if re.search(r"\btags?\b", line)]
    assert len(tagged) >= 2, f"the tag should be put on and taken off: {told}"
    assert "Succeeded" in told
    about_this_machine = [platform.release(), platform.node(), socket.gethostname(), platform.system()]
    assert any(word in told for word in about_this_machine if word), f"a step should show its output: {told}"


def test_tells_the_whole_story_twice(tmp_path):
    first = quickstart(tmp_path / "data")
    assert_narrated(first)
    assert (tmp_path / "data").is_dir()
    again = quickstart(tmp_path / "data")
    assert_narrated(again)


def test_leaves_nothing_running(tmp_path):
    done = quickstart(tmp_path / "data")
    assert done.returncode == 0, done.stderr
    (port,) = set(re.findall(r"http://127\.0\.0\.1:(\d+)", done.stdout)) or {None}
    assert port, f"the address should be told: {done.stdout}"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)), timeout=5)


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path):
    # A file in the way stops root as well, which permissions would not.
    (tmp_path / "file").write_text("")
    data = tmp_path / "file" / "data"
    done = quickstart(data)
    assert done.returncode != 0
    assert str(data) in done.stderr
    assert "panicked" not in done.stderr


@pytest.mark.parametrize("engine", ["sqlite"], scope="module")
def test_a_data_folder_in_use_is_refused(server, engine):
    server.bootstrap()
    server.start()
    done = quickstart(server.data)
    assert done.returncode != 0
    assert str(server.data) in done.stderr and "use" in done.stderr.lower()
    assert "panicked" not in done.stderr
    assert server.process.is_running
