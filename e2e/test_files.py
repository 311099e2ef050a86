"""Files of a device behind its agent: copied whole, kept to the rules, cut with the right to them."""

import base64
import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
import time

import pytest

from muster.agent import Agent
from muster.client import Client
from muster.network import Network
from muster.waiting import eventually

MEBIBYTE = 1024 * 1024
BIG_BYTES = 200 * MEBIBYTE


# What these tests see does not depend on where the rows are.
@pytest.fixture(scope="module", params=["sqlite"])
def engine(request):
    return request.param


class Device:
    """A device behind a network that can be cut, of whose disk one folder may be written."""

    def __init__(self, folder, world):
        self.world, self.network = world, Network()
        self.agent = Agent(folder / "device").enroll_behind(self.network, world.server, world.account).start()
        self.disk = folder / "disk"
        for name in ("open", "closed"):
            (self.disk / name).mkdir(parents=True)
        rules = [
            {"path": f"{self.disk}/open/secret*", "access": "none"},
            {"path": f"{self.disk}/open/**", "access": "write"},
        ]
        answer = world.v2.call("PUT", "/file_rules", json={"file_rules": rules})
        assert answer.status_code == 200, answer.text
        self.client = Client(folder / "laptop", world.server, world.account)
        self.wait_online()

    def call(self, method, path, more="", **options):
        place = f"/devices/{self.agent.uuid}/file_system{more}"
        return self.world.v2.call(method, place, params={"path": str(path)}, **options)

    def wait_online(self):
        eventually(lambda: self.call("GET", self.disk / "open").status_code == 200, 120, what="the device online")

    def at(self, path):
        return f"{self.agent.uuid}:{path}"

    def parts(self):
        return [path.name for path in (self.disk / "open").rglob(".muster-*")]

    def close(self):
        self.agent.stop()
        self.network.close()


@pytest.fixture(scope="module")
def device(world, tmp_path_factory):
    device = Device(tmp_path_factory.mktemp("files"), world)
    yield device
    device.close()


@pytest.fixture
def folder(device, request):
    folder = device.disk / "open" / request.node.name
    folder.mkdir()
    return folder


def random_file(path, size):
    with path.open("wb") as file:
        for _ in range(size // MEBIBYTE):
            file.write(os.urandom(MEBIBYTE))
    return digest(path)


def digest(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def peak_kib(process):
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def test_big_files_both_ways_take_no_memory(device, folder, tmp_path):
    device.client.ok("ls", device.at(folder))
    before = peak_kib(device.agent.process), peak_kib(device.world.server.process)
    sent = random_file(tmp_path / "big", BIG_BYTES)
    device.client.ok("cp", str(tmp_path / "big"), device.at(folder / "big"))
    assert digest(folder / "big") == sent
    device.client.ok("cp", device.at(folder / "big"), str(tmp_path / "back"))
    assert digest(tmp_path / "back") == sent
    after = peak_kib(device.agent.process), peak_kib(device.world.server.process)
    grown = [end - begin for begin, end in zip(before, after)]
    print(f"KiB more at the peak: agent {grown[0]}, server {grown[1]}")
    assert grown[0] < 6 * 1024 and grown[1] < 32 * 1024
    assert not device.parts()


def test_a_range_is_read_and_goes_on_with_the_same_file_alone(device, folder):
    (folder / "a").write_bytes(b"0123456789")
    whole = device.call("GET", folder / "a", "/content")
    assert (whole.status_code, whole.content) == (200, b"0123456789")
    tag = whole.headers["etag"]
    headers = {"range": "bytes=4-6", "if-range": tag}
    part = device.call("GET", folder / "a", "/content", headers=headers)
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"456", "bytes 4-6/10")
    assert device.call("HEAD", folder / "a", "/content").headers["etag"] == tag
    (folder / "a").write_bytes(b"abcdefghij")
    changed = device.call("GET", folder / "a", "/content", headers=headers)
    assert (changed.status_code, changed.content) == (200, b"abcdefghij")
    assert device.call("GET", folder / "a", "/content", headers={"range": "bytes=10-"}).status_code == 416


def test_a_download_goes_on_where_its_link_was_cut(device, folder, tmp_path):
    sent = random_file(folder / "big", 64 * MEBIBYTE)
    device.network.slow_down(16 * MEBIBYTE)
    cut = threading.Timer(1.5, device.network.cut)
    mend = threading.Timer(2.0, device.network.mend)
    cut.start()
    mend.start()
    try:
        device.client.ok("cp", device.at(folder / "big"), str(tmp_path / "back"))
    finally:
        cut.join()
        mend.join()
        device.network.mend()
    assert digest(tmp_path / "back") == sent
    device.wait_online()


def slowly(pieces, seconds):
    for _ in range(pieces):
        yield bytes(MEBIBYTE)
        time.sleep(seconds)


def test_a_write_that_is_cut_leaves_the_old_file(device, folder):
    (folder / "a").write_text("old")
    ended = []
    writer = threading.Thread(
        target=lambda: ended.append(device.call("PUT", folder / "a", "/content", data=slowly(60, 0.1)).status_code)
    )
    writer.start()
    eventually(lambda: device.parts(), 20, what="the write under way")
    device.network.cut()
    writer.join(30)
    assert ended == [409]
    assert (folder / "a").read_text() == "old"
    eventually(lambda: not device.parts(), 20, what="no half of a file")
    device.network.mend()
    device.wait_online()


def test_a_killed_agent_leaves_no_half_of_a_file(device, folder):
    (folder / "a").write_text("old")
    ended = []
    writer = threading.Thread(
        target=lambda: ended.append(device.call("PUT", folder / "a", "/content", data=slowly(60, 0.1)).status_code)
    )
    writer.start()
    eventually(lambda: device.parts(), 20, what="the write under way")
    device.agent.kill9_all()
    writer.join(30)
    assert ended == [409]
    device.agent.start()
    device.wait_online()
    assert (folder / "a").read_text() == "old" and not device.parts()


def test_no_way_leads_out_of_the_rules(device, folder):
    (device.disk / "closed" / "a").write_text("closed")
    (device.disk / "open" / "secret").write_text("secret")
    key = next(device.agent.state.glob("*.key"))
    for name, target in [
        ("file", device.disk / "closed" / "a"),
        ("folder", device.disk / "closed"),
        ("key", key),
        ("magic", "/proc/self/root"),
        ("secret", device.disk / "open" / "secret"),
    ]:
        (folder / name).symlink_to(target)
    os.link(key, folder / "hard")
    places = ["file", "folder/a", "key", "magic/etc/hostname", "secret"]
    for place in [folder / name for name in places] + [key, device.disk / "open" / "secret", "/proc/self/environ"]:
        answer = device.call("GET", place, "/content")
        assert answer.status_code == 403, f"{place}: {answer.status_code} {answer.text}"
        answer = device.call("PUT", place, "/content", data=b"x")
        assert answer.status_code in (403, 409), f"{place}: {answer.status_code} {answer.text}"
    secret = key.read_bytes()
    assert device.call("GET", folder / "hard", "/content").status_code == 403, "the key by another name"
    # A write puts a file of its own into the name's place, and leaves the key alone.
    assert device.call("PUT", folder / "hard", "/content", data=b"x").status_code == 200
    assert (key.read_bytes(), (folder / "hard").read_bytes()) == (secret, b"x")
    assert device.call("GET", f"{folder}/../../closed/a", "/content").status_code == 400
    assert (device.disk / "closed" / "a").read_text() == "closed"


def test_an_archive_is_the_tree(device, folder, tmp_path):
    tree = folder / "tree"
    (tree / "deep" / ("n" * 120)).mkdir(parents=True)
    (tree / "a").write_bytes(os.urandom(100_000))
    (tree / "deep" / ("n" * 120) / "ü b").write_text("x")
    (tree / "link").symlink_to("deep")
    os.mkfifo(tree / "fifo")
    archive = device.call("GET", tree, "/archive").content
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = {member.name for member in tar}
        assert "fifo: is no file" in tar.extractfile("tree.omitted.txt").read().decode()
        assert tar.getmember("tree/link").linkname == "deep"
    expected = {str(path.relative_to(folder)) for path in tree.rglob("*")} - {"tree/fifo"}
    assert names == expected | {"tree", "tree.omitted.txt"}
    (tree / "fifo").unlink()
    device.client.ok("cp", "-r", device.at(tree), str(tmp_path / "back"))
    assert subprocess.run(["diff", "-r", tree, tmp_path / "back"], check=False).returncode == 0


def tree_of(path):
    """Content, mode and time of every file below."""
    files = [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    told = [(file.stat().st_mode & 0o777, int(file.stat().st_mtime), digest(file)) for file in files]
    return dict(zip((str(file.relative_to(path)) for file in files), told))


def a_tree(path, files=30):
    for n in range(files):
        file = path / f"f{n % 3}" / "deep" / f"ü {n}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(10_000 + n))
        file.chmod(0o600 + n % 2 * 0o40)
        os.utime(file, (1_700_000_000 + n, 1_700_000_000 + n))
    (path / "empty").mkdir()
    return tree_of(path)


def test_a_folder_is_sent_whole_and_merged(device, folder, tmp_path):
    tree = tmp_path / "tree"
    sent = a_tree(tree)
    (tree / "link").symlink_to("f0")
    os.mkfifo(tree / "fifo")
    (tree / os.fsdecode(b"no\xfftext")).write_text("x")
    told = device.client.json("cp", "-r", tree, device.at(folder / "new"))
    assert (told["written"], told["unchanged"], told["failed"], told["is_whole"]) == (30, 0, [], True)
    reasons = {entry["path"].rsplit("/", 1)[1]: entry["reason"] for entry in told["left_out"]}
    assert (reasons["link"], reasons["fifo"], len(reasons)) == ("is a link", "is no file", 3)
    assert tree_of(folder / "new") == sent and (folder / "new" / "empty").is_dir()
    # Into a folder that is there, under its own name; what else lies there stays.
    (folder / "tree").mkdir()
    (folder / "tree" / "other").write_text("stays")
    (folder / "tree" / "f0").mkdir()
    device.client.ok("cp", "-r", tree, device.at(folder))
    merged = tree_of(folder / "tree")
    assert (folder / "tree" / "other").read_text() == "stays" and merged.pop("other")
    assert merged == sent and not device.parts()
    # What lies there is not sent again; what has changed is.
    changed = tree / "f0" / "deep" / "ü 0"
    changed.write_text("changed")
    inode = (folder / "tree" / "f1" / "deep" / "ü 1").stat().st_ino
    told = device.client.json("cp", "-r", tree, device.at(folder))
    assert (told["written"], told["unchanged"]) == (1, 29)
    assert (folder / "tree" / "f0" / "deep" / "ü 0").read_text() == "changed"
    assert (folder / "tree" / "f1" / "deep" / "ü 1").stat().st_ino == inode


def test_a_folder_is_held_against_the_rules_of_each_path(device, folder, tmp_path):
    tree = tmp_path / "tree"
    (tree / "in").mkdir(parents=True)
    (tree / "in" / "through").write_text("a")
    (tree / "b").write_text("b")
    (folder / "tree").mkdir()
    (folder / "tree" / "in").symlink_to(device.disk / "closed")
    done = device.client.run("cp", "-r", tree, device.at(folder), "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 1 and (told["written"], told["is_whole"], told["failed_count"]) == (1, False, 1)
    assert told["failed"][0]["path"] == str(tree / "in") and "do not allow" in told["failed"][0]["reason"]
    assert not (device.disk / "closed" / "through").exists() and (folder / "tree" / "b").read_text() == "b"
    device.client.refused(3, "cp", "-r", tree, device.at("/etc/new"))
    device.client.refused(2, "cp", "-r", tree / "b", device.at(folder / "x"))


def test_a_folder_goes_on_where_its_link_was_cut(device, folder, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for n in range(8):
        random_file(tree / f"{n}", 4 * MEBIBYTE)
    sent = tree_of(tree)
    device.network.slow_down(8 * MEBIBYTE)
    ended = []
    words = ["cp", "-r", tree, device.at(folder / "new")]
    copying = threading.Thread(target=lambda: ended.append(device.client.json(*words)))
    copying.start()
    try:
        eventually(lambda: len(list((folder / "new").glob("[0-9]"))) >= 2, 60, what="some of it there")
        device.network.cut()
        # Whatever is there by its name is whole.
        there = {file.name: digest(file) for file in (folder / "new").glob("[0-9]")}
        assert there.items() <= {name: told[2] for name, told in sent.items()}.items()
        device.network.mend()
        copying.join(120)
    finally:
        device.network.mend()
    assert ended and ended[0]["is_whole"], ended
    assert tree_of(folder / "new") == sent
    device.wait_online()


def test_many_files_take_no_memory(device, folder, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    device.client.ok("ls", device.at(folder))
    before = peak_kib(device.agent.process)
    for n in range(300):
        (tree / f"{n}").write_bytes(os.urandom(64 * 1024))
    device.client.ok("cp", "-r", tree, device.at(folder))
    assert tree_of(folder / "tree") == tree_of(tree)
    grown = peak_kib(device.agent.process) - before
    print(f"KiB more at the agent's peak: {grown}")
    assert grown < 6 * 1024


def test_a_download_is_compared_by_its_sha256(device, folder, tmp_path):
    sent = random_file(folder / "a", 3 * MEBIBYTE)
    headers = {"want-repr-digest": "sha-256=1"}
    told = device.call("HEAD", folder / "a", "/content", headers=headers).headers
    assert told["repr-digest"] == f"sha-256=:{base64.b64encode(bytes.fromhex(sent)).decode()}:"
    assert "repr-digest" not in device.call("HEAD", folder / "a", "/content").headers
    copied = device.client.json("cp", device.at(folder / "a"), tmp_path / "back")
    assert (copied["sha256"], copied["bytes"]) == (sent, 3 * MEBIBYTE)


def test_the_rules_have_a_command(device, folder, tmp_path):
    shown = device.client.json("files", "rules", "show")
    (tmp_path / "rules.json").write_text(json.dumps(shown))
    try:
        device.client.ok("files", "rules", "set", "--rule", "none:/a/b*", "--rule", f"write:{device.disk}/open/**")
        assert [row[0] for row in device.client.table("files", "rules", "show")] == ["ACCESS", "none", "write"]
        told = device.client.json("files", "rules", "test", "/a/bc")
        assert (told["rule"], told["rule_path"], told["access"]) == (1, "/a/b*", "none")
        (folder / "link").symlink_to(device.disk / "open")
        told = device.client.json("files", "rules", "test", device.at(folder / "link"))
        assert (told["leads_to"], told["rule"], told["device"]) == (str(device.disk / "open"), 2, "serves it")
        told = device.client.json("files", "rules", "test", device.at("/etc/hosts"))
        assert (told["rule"], told["access"]) == (None, "none") and "do not allow" in told["device"]
        assert "is no absolute path" in device.client.refused(1, "files", "rules", "set", "--rule", "read:a")
    finally:
        device.client.ok("files", "rules", "set", "--from", tmp_path / "rules.json")
    assert device.client.json("files", "rules", "show") == shown


def test_of_many_writers_one_wins_whole(device, folder):
    contents = [bytes([65 + n]) * (3 * MEBIBYTE) for n in range(6)]
    statuses = []

    def write(content):
        statuses.append(device.call("PUT", folder / "a", "/content", data=content).status_code)

    writers = [threading.Thread(target=write, args=[content]) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert sorted(statuses) == [200] * 5 + [201]
    assert (folder / "a").read_bytes() in contents and not device.parts()


def test_a_full_disk_keeps_the_old_file(device, folder):
    small = folder / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "muster", small], capture_output=True)
    assert mounted.returncode == 0, mounted.stderr
    try:
        (small / "a").write_text("old")
        said = device.call("PUT", small / "a", "/content", data=bytes(8 * MEBIBYTE))
        unsaid = device.call("PUT", small / "a", "/content", data=slowly(8, 0))
        assert (said.status_code, unsaid.status_code) == (507, 507)
        assert [path.name for path in small.iterdir()] == ["a"] and (small / "a").read_text() == "old"
    finally:
        subprocess.run(["umount", small], check=True)


def test_the_clients_words(device, folder):
    (folder / "a").write_text("content\n")
    assert device.client.ok("cat", device.at(folder / "a")) == "content\n"
    assert device.client.ok("ls", device.at(folder)).split() == ["NAME", "a"]
    assert "0644" in device.client.ok("ls", "-l", device.at(folder))
    device.client.refused(4, "cat", device.at(folder / "none"))
    device.client.refused(3, "cat", device.at("/root/.profile"))
    device.client.refused(2, "cp", "a", "b")
