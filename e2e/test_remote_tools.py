"""The tools that people have, as they are, to a device behind its agent: ssh, scp, sftp, rsync, curl."""

import filecmp
import hashlib
import json
import os
import subprocess
import time

import pytest

from muster.agent import Agent
from muster.binaries import binary
from muster.client import Client
from muster.daemons import Nginx, Sshd
from muster.network import Network
from muster.process import Process, clean_environment, run
from muster.waiting import eventually

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
BIG_SECONDS = 600


# What these tools see does not depend on where the rows are.
@pytest.fixture(scope="module", params=["sqlite"])
def engine(request):
    return request.param


class Laptop:
    """A person's machine: logged in, with a key for the device's sshd and a configuration of ssh."""

    def __init__(self, folder, world, agent, sshd):
        self.client = Client(folder, world.server, world.account)
        self.folder, self.agent, self.sshd = folder, agent, sshd
        self.config = folder / "ssh_config"
        self.config.write_text(
            "Host d-*-*\n"
            f"  ProxyCommand {binary('muster')} tunnel --stdio %h %p\n"
            f"  Port {sshd.port}\n  User {sshd.user}\n  IdentityFile {sshd.key}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {folder}/known_hosts\n  StrictHostKeyChecking accept-new\n"
        )

    def run(self, *words, **options):
        return run(*words, env=self.client.environment(), **options)

    def ok(self, *words, **options):
        done = self.run(*words, **options)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def listen(self, port, *options):
        """`muster tunnel` in the background: its process, and where it listens."""
        words = [binary("muster"), "tunnel", self.agent.uuid, port, "--json", *options]
        process = Process(words, self.folder / f"tunnel-{time.monotonic_ns()}.log", self.client.environment())
        return process, json.loads(process.wait_for_line(r"^\{.*\}$").group())["port"]


class Beside:
    """A device behind a network that can be cut, with sshd and nginx beside its agent."""

    def __init__(self, folder, world):
        self.world, self.folder = world, folder
        self.network = Network()
        self.agent = Agent(folder / "device").enroll_behind(self.network, world.server, world.account).start()
        self.sshd, self.nginx = Sshd(folder / "sshd"), Nginx(folder / "nginx")
        self.laptop = Laptop(folder / "laptop", world, self.agent, self.sshd)
        self.wait_online()

    def wait_online(self):
        """Until the agent is asked again, and says that nobody listens at port 1."""
        words = [binary("muster"), "tunnel", "--stdio", self.agent.uuid, "1"]
        refused = "Connection refused"
        eventually(lambda: refused in self.laptop.run(*words).stderr, 120, what="the device online")

    def close(self):
        self.sshd.stop()
        self.nginx.stop()
        self.agent.stop()
        self.network.close()


@pytest.fixture(scope="module")
def beside(world, tmp_path_factory):
    beside = Beside(tmp_path_factory.mktemp("beside"), world)
    yield beside
    beside.close()


@pytest.fixture
def laptop(beside):
    return beside.laptop


def remote_sessions(world, **which):
    page = world.v2.get("/remote_sessions", limit=1000, **which).json()
    return page["remote_sessions"]


def random_file(path, size):
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // MEBIBYTE):
            piece = os.urandom(MEBIBYTE)
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def digest_of(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_ssh_as_it_is_with_a_proxy_command(laptop, beside, world):
    out = laptop.ok("ssh", "-F", laptop.config, beside.agent.uuid, "echo $SSH_CONNECTION; exit 0")
    assert out.split()[0] == "127.0.0.1", "it comes from the agent"
    done = laptop.run("ssh", "-F", laptop.config, beside.agent.uuid, "exit 7")
    assert done.returncode == 7
    session = remote_sessions(world)[0]
    assert (session["kind"], session["target"]) == ("stream", str(beside.sshd.port))

    def is_recorded():
        ended = remote_sessions(world)[0]
        return ended["reason"] in ("finished", "caller_gone") and ended["bytes_from_device"] > 1000

    eventually(is_recorded, what="what the session moved")


def test_muster_ssh_needs_no_configuration(laptop, beside):
    sshd = beside.sshd
    options = ["-i", sshd.key, "-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={laptop.folder}/known"]
    words = [binary("muster"), "ssh", "--port", sshd.port, f"{sshd.user}@{beside.agent.uuid}", *options]
    assert laptop.ok(*words, "echo", "here").strip() == "here"
    assert laptop.run(*words, "exit 3").returncode == 3
    assert "found" in laptop.ok("ssh-keygen", "-F", beside.agent.uuid, "-f", laptop.folder / "known"), "by its own name"


def test_scp_both_ways(laptop, beside, tmp_path):
    random_file(tmp_path / "file", 16 * MEBIBYTE)
    there = f"{beside.agent.uuid}:{tmp_path}/there"
    laptop.ok("scp", "-q", "-F", laptop.config, tmp_path / "file", there)
    laptop.ok("scp", "-q", "-F", laptop.config, there, tmp_path / "back")
    assert filecmp.cmp(tmp_path / "file", tmp_path / "back", shallow=False)


def test_sftp_lists_and_fetches(laptop, beside, tmp_path):
    random_file(tmp_path / "file", MEBIBYTE)
    (tmp_path / "batch").write_text(f"ls -l {tmp_path}\nget {tmp_path}/file {tmp_path}/got\nput {tmp_path}/got {tmp_path}/put\n")
    out = laptop.ok("sftp", "-q", "-F", laptop.config, "-b", tmp_path / "batch", beside.agent.uuid)
    assert "file" in out
    assert filecmp.cmp(tmp_path / "file", tmp_path / "put", shallow=False)


def test_rsync_sends_what_differs(laptop, beside, tmp_path):
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    for number in range(50):
        (source / "inner" / f"{number}").write_bytes(os.urandom(10_000))
    ssh = f"ssh -F {laptop.config}"
    words = ["rsync", "-a", "--stats", "-e", ssh, f"{source}/", f"{beside.agent.uuid}:{tmp_path}/copy/"]
    laptop.ok(*words)
    (source / "inner" / "7").write_bytes(b"changed")
    assert "Number of regular files transferred: 1\n" in laptop.ok(*words)
    same = filecmp.dircmp(source / "inner", tmp_path / "copy" / "inner")
    assert not (same.left_only or same.right_only or same.diff_files)


def test_curl_through_a_listening_tunnel(laptop, beside, tmp_path):
    digest = random_file(beside.nginx.root / "page", 8 * MEBIBYTE)
    process, port = laptop.listen(beside.nginx.port)
    url = f"http://127.0.0.1:{port}/page"
    words = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--parallel"]
    for number in range(8):
        words += ["-o", tmp_path / f"copy{number}", url]
    laptop.ok(*words)
    assert {digest_of(tmp_path / f"copy{number}") for number in range(8)} == {digest}
    process.kill9()


def test_a_gibibyte_arrives_over_a_link_that_is_cut_twice(laptop, beside, tmp_path):
    digest = random_file(beside.nginx.root / "big", GIBIBYTE)
    process, port = laptop.listen(beside.nginx.port)
    copy = tmp_path / "copy"
    words = ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "-C", "-", "-o", copy]
    words.append(f"http://127.0.0.1:{port}/big")
    for mark in (GIBIBYTE // 4, GIBIBYTE // 2):
        child = subprocess.Popen(words, env=clean_environment(), stderr=subprocess.PIPE)
        try:
            eventually(lambda mark=mark: copy.exists() and copy.stat().st_size > mark, BIG_SECONDS, what=f"{mark} bytes")
            beside.network.cut()
            assert child.wait(60) != 0, "what was cut is no success"
        finally:
            child.kill()
            child.stderr.close()
        assert mark < copy.stat().st_size < GIBIBYTE
        beside.network.mend()
        beside.wait_online()
    done = run(*words, timeout=BIG_SECONDS)
    assert done.returncode == 0, done.stderr
    assert digest_of(copy) == digest
    process.kill9()
    copy.unlink()
    (beside.nginx.root / "big").unlink()


def test_what_nobody_listens_for_is_said_before_anything_begins(laptop, beside):
    done = laptop.run(binary("muster"), "tunnel", "--stdio", beside.agent.uuid, "1")
    assert done.returncode == 1
    assert done.stderr == "muster: device_uuid: the device answered: 127.0.0.1:1: Connection refused (os error 111)\n"


def test_another_fleets_token_sees_no_such_device(world, beside, tmp_path):
    stranger = Client(tmp_path / "stranger", world.server, world.stranger)
    assert "was found" in stranger.refused(4, "tunnel", "--stdio", beside.agent.uuid, "22")


def test_a_revoked_token_ends_an_open_ssh_within_a_second(world, laptop, beside):
    made = world.v2.call("POST", "/tokens", project_key="account", json={"description": "to be revoked"}).json()
    environment = laptop.client.environment(MUSTER_TOKEN=made["token"])
    words = ["ssh", "-F", laptop.config, beside.agent.uuid, "echo there; sleep 600"]
    child = subprocess.Popen(
        [str(word) for word in words], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert child.stdout.readline() == b"there\n"
        session = remote_sessions(world, open="true")[0]
        world.v2.call("DELETE", f"/tokens/{made['token_id']}", project_key="account")
        revoked = time.monotonic()
        assert child.wait(30) == 255
        took = time.monotonic() - revoked
    finally:
        child.kill()
        said = child.stderr.read().decode()
        child.stdout.close()
        child.stderr.close()
    assert "was revoked or has expired" in said
    assert took < 1.5, "half a second between two looks, and what the machine takes"
    ended = world.v2.get(f"/remote_sessions/{session['session_id']}").json()
    assert (ended["status"], ended["reason"]) == ("ended", "credential_ended")
    log = world.v2.call("GET", "/audit-log", project_key="account", params={"limit": 1000}).json()["events"]
    entry = next(event for event in log if session["session_id"] in event["subject"])
    assert (entry["action"], entry["after"]["reason"]) == ("EndRemoteSession", "credential_ended")
