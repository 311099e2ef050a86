"""Files that a device is asked for: through the real server and agent, and fetched with curl."""

import os
import subprocess
import tarfile

import pytest

from muster.process import run
from muster.waiting import eventually


def ask(world, device, path, status=200):
    answer = world.v2.post(f"/devices/{device.uuid}/logs", {"files_path": str(path)})
    assert answer.status_code == status, answer.text
    return answer.json()["download_url"]


def curl(address, into):
    """The status that curl was answered; the body is in the file."""
    done = run("curl", "--silent", "--show-error", "--location", "--output", into, "--write-out", "%{http_code}", address)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def fetched(address, into):
    eventually(lambda: curl(address, into) == 200, what=f"a file at {address.split('?')[0]}")
    return into


def refusal(address, into, text):
    """The address answers 404 with that text, at once or soon."""

    def told():
        assert curl(address, into) == 404
        return text in into.read_text()

    eventually(told, what=text)


@pytest.fixture
def logs(tmp_path):
    folder = tmp_path / "app logs"
    (folder / "old").mkdir(parents=True)
    (folder / "app.log").write_text("today\n")
    (folder / "old" / ("n" * 140)).write_bytes(os.urandom(3_000_000))
    (folder / "secret").symlink_to("/etc/shadow")
    os.mkfifo(folder / "pipe")
    return folder


def test_a_file_and_a_folder(world, logs, tmp_path):
    device = world.online_device()
    file = ask(world, device, logs / "app.log")
    assert fetched(file, tmp_path / "got").read_text() == "today\n"

    folder = fetched(ask(world, device, logs), tmp_path / "got.tar")
    with tarfile.open(folder) as tar:
        names = sorted(tar.getnames())
        assert names == [
            "app logs", "app logs.omitted.txt", "app logs/app.log", "app logs/old",
            "app logs/old/" + "n" * 140, "app logs/secret",
        ]  # fmt: skip
        assert tar.extractfile("app logs/old/" + "n" * 140).read() == (logs / "old" / ("n" * 140)).read_bytes()
        assert (tar.getmember("app logs/secret").issym(), tar.getmember("app logs/secret").linkname) == (True, "/etc/shadow")
        assert tar.extractfile("app logs.omitted.txt").read() == b"app logs/pipe: is no file\n"

    # A range, as any client may ask for it; and the token of a user in the place of the one in the address.
    part = run("curl", "-s", "-r", "2-4", file)
    assert part.stdout == "day"
    bearer = f"Authorization: Bearer {world.account.access_token}"
    assert run("curl", "-s", "-H", bearer, file.split("?")[0]).stdout == "today\n"
    assert run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", file.split("?")[0]).stdout == "401"


def test_what_is_not_sent_says_why(world, logs, tmp_path):
    device = world.online_device()
    into = tmp_path / "got"
    state = device.state
    for path, text in [
        (logs / "none", "No such file or directory"),
        (logs / "secret", "is a symbolic link; ask for what it points to"),
        (logs / "pipe", "is neither a file nor a folder"),
        (state, "belongs to the agent, and is not sent"),
        (state / "identity.key", "belongs to the agent, and is not sent"),
    ]:
        refusal(ask(world, device, path), into, f"the device cannot send it: {path}: {text}")
    # The folder around the state is sent without it.
    around = fetched(ask(world, device, state.parent), tmp_path / "around.tar")
    with tarfile.open(around) as tar:
        assert not [name for name in tar.getnames() if "identity.key" in name or "device_token" in name]


def test_an_offline_device_is_asked_when_it_is_back(own_world, logs, tmp_path):
    device = own_world.online_device()
    device.stop()
    address = ask(own_world, device, logs / "app.log")
    refusal(address, tmp_path / "got", "the device has not sent it yet")
    own_world.server.restart()
    device.start()
    assert fetched(address, tmp_path / "got").read_text() == "today\n"


@pytest.mark.parametrize("victim", ["agent", "server"])
def test_a_kill_while_it_is_sent(own_world, tmp_path, victim):
    large = tmp_path / "large"
    subprocess.run(["head", "-c", str(192 << 20), "/dev/urandom"], stdout=large.open("wb"), check=True)
    device = own_world.online_device()
    address = ask(own_world, device, large)
    storage = own_world.server.data / "artifacts"

    def begun():
        return any(path.stat().st_size > 0 for path in storage.rglob("*") if path.is_file())

    eventually(begun, what="the first bytes at the server")
    if victim == "agent":
        device.kill9()
        device.start()
    else:
        own_world.server.kill9()
        own_world.server.restart()
    got = fetched(address, tmp_path / "got")
    assert run("cmp", got, large).returncode == 0
