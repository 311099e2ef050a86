"""Artifacts, with curl, on a folder and on S3: the same for clients, and nothing left behind."""

import hashlib
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from muster.process import run
from muster.s3 import S3
from muster.waiting import eventually

LARGE_BYTES = 64 << 20
QUOTA_BYTES = 512 << 20


class Folder:
    """What lies in the folder of artifacts."""

    def __init__(self, world):
        self.folder = world.server.data / "artifacts"
        self.options, self.environment = [], {}

    def objects(self):
        return len([path for path in self.folder.rglob("*") if path.is_file() and "#" not in path.name])

    def halves(self):
        return len([path for path in self.folder.rglob("*") if path.is_file() and "#" in path.name])

    def stop(self):
        pass


class Bucket:
    """What lies in the bucket of artifacts."""

    def __init__(self, world):
        self.s3 = S3(world.folder / "s3")
        self.options = ["--artifact-store", f"s3://{self.s3.bucket}/muster/files"]
        self.environment = self.s3.environment

    def objects(self):
        keys = self.s3.keys()
        assert all(key.startswith("muster/files/") for key in keys), keys
        return len(keys)

    def halves(self):
        return len(self.s3.uploads())

    def stop(self):
        self.s3.stop()


class Artifacts:
    """A server with one repository."""

    def __init__(self, world, storage):
        self.world, self.storage = world, storage
        self.base = f"{world.server.url}/artifactory/files"
        self.token = world.account.access_token
        made = requests.post(f"{world.server.url}/api/v2/account/repositories", json={"name": "files"}, headers=self.headers, timeout=30)
        assert made.status_code == 201, made.text

    @property
    def headers(self):
        return {"Authorization": f"Bearer {self.token}"}

    def curl(self, *words, path):
        """The status, the headers in lower case, and the body of a call."""
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--include", "--max-time", "120", "-H", f"X-JFrog-Art-Api: {self.token}",
             *[str(word) for word in words], f"{self.base}/{path}"],
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        head, body = done.stdout.split(b"\r\n\r\n", 1)
        while body.startswith(b"HTTP/1.1 "):  # after "100 Continue"
            head, body = body.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        return int(lines[0].split()[1]), headers, body

    def put(self, path, file, *words):
        return self.curl("-T", file, *words, path=path)


@pytest.fixture(scope="module", params=[Folder, Bucket], ids=["folder", "s3"])
def artifacts(request, worlds):
    world = worlds()
    storage = request.param(world)
    options = [*storage.options, "--artifact-quota-bytes", QUOTA_BYTES]
    world.open(options=options, environment=storage.environment)
    yield Artifacts(world, storage)
    world.close()
    storage.stop()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "large.bin"
    path.write_bytes(os.urandom(LARGE_BYTES))
    return path


def hashes(content):
    return {f"x-checksum-{name}": hashlib.new(name, content).hexdigest() for name in ("sha256", "sha1", "md5")}


def test_stores_and_fetches(artifacts, large, tmp_path):
    content = large.read_bytes()
    sums = hashes(content)
    status, headers, body = artifacts.put("app/1/app.bin", large, "-H", f"X-Checksum-Sha256: {sums['x-checksum-sha256']}")
    assert status == 201, body
    assert headers["location"] == f"{artifacts.base}/app/1/app.bin"

    status, headers, body = artifacts.curl(path="app/1/app.bin")
    assert (status, body == content) == (200, True)
    assert sums.items() <= headers.items()
    assert (headers["content-length"], headers["accept-ranges"]) == (str(LARGE_BYTES), "bytes")
    for spec, expected in [("0-0", content[:1]), ("5242870-5242890", content[5242870:5242891]), ("-7", content[-7:])]:
        status, headers, body = artifacts.curl("-r", spec, path="app/1/app.bin")
        assert (status, body) == (206, expected)
        assert headers["content-range"].endswith(f"/{LARGE_BYTES}")
    assert artifacts.curl("-r", f"{LARGE_BYTES}-", path="app/1/app.bin")[0] == 416
    # A download that was cut goes on where it was.
    part = tmp_path / "part"
    part.write_bytes(content[:1_000_000])
    done = run("curl", "-s", "-C", "-", "-o", part, "-u", f":{artifacts.token}", f"{artifacts.base}/app/1/app.bin")
    assert (done.returncode, part.read_bytes() == content) == (0, True)
    status, headers, body = artifacts.curl("--head", path="app/1/app.bin")
    assert (status, headers["content-length"], body) == (200, str(LARGE_BYTES), b"")

    # The same content elsewhere, by its hash alone: nothing more lies in the storage.
    before = artifacts.storage.objects()
    by_hash = ["-X", "PUT", "-H", "X-Checksum-Deploy: true", "-H", f"X-Checksum-Sha256: {sums['x-checksum-sha256']}"]
    assert artifacts.curl(*by_hash, path="copy.bin")[0] == 201
    assert artifacts.put("again.bin", large)[0] == 201
    eventually(lambda: (artifacts.storage.objects(), artifacts.storage.halves()) == (before, 0), what="one content")
    info = requests.get(artifacts.base.replace("/files", "/api/storage/files/copy.bin"), headers=artifacts.headers, timeout=30).json()
    assert (info["size"], info["checksums"]["sha256"]) == (str(LARGE_BYTES), sums["x-checksum-sha256"])
    for path in ("copy.bin", "again.bin", "app"):
        assert artifacts.curl("-X", "DELETE", path=path)[0] == 204
    assert artifacts.curl(path="app/1/app.bin")[0] == 404


def test_what_is_wrong_leaves_nothing(artifacts, large, tmp_path):
    before = (artifacts.storage.objects(), artifacts.storage.halves())
    wrong = ["-H", f"X-Checksum-Sha256: {'0' * 64}"]
    small = tmp_path / "small"
    small.write_text("small")
    for file in (small, large):
        assert artifacts.put("wrong.bin", file, *wrong)[0] == 409
    # Cut in the middle, by a client that goes away.
    with socket.create_connection(("127.0.0.1", artifacts.world.server.port)) as cut:
        head = f"PUT /artifactory/files/cut.bin HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {artifacts.token}\r\nContent-Length: {LARGE_BYTES}\r\n\r\n"
        cut.sendall(head.encode() + large.read_bytes()[: LARGE_BYTES // 2])
        eventually(lambda: artifacts.storage.halves() > before[1], what="half of it in the storage")
    eventually(lambda: (artifacts.storage.objects(), artifacts.storage.halves()) == before, what="nothing left")
    for path in ("wrong.bin", "cut.bin"):
        assert artifacts.curl(path=path)[0] == 404


def test_many_at_once_in_one_place(artifacts, tmp_path):
    contents = [bytes([number]) * 6_000_000 for number in range(6)]
    files = [tmp_path / str(number) for number in range(6)]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda file: artifacts.put("place.bin", file)[0], files))
    assert answers == [201] * 6
    status, headers, body = artifacts.curl(path="place.bin")
    assert (status, body in contents) == (200, True)
    assert hashes(body).items() <= headers.items()


def test_the_quota(artifacts, tmp_path):
    too_much = tmp_path / "too much"
    with too_much.open("wb") as file:
        file.truncate(QUOTA_BYTES)
    small = tmp_path / "small"
    small.write_text("small")
    assert artifacts.put("small.bin", small)[0] == 201
    status, _, body = artifacts.put("quota.bin", too_much)
    assert (status, f"may have {QUOTA_BYTES} bytes" in body.decode()) == (507, True), body
    assert artifacts.curl(path="quota.bin")[0] == 404


def test_a_kill_in_the_middle_of_an_upload(artifacts, large):
    server, storage = artifacts.world.server, artifacts.storage
    assert artifacts.put("kept.bin", large)[0] == 201
    before = storage.objects()
    with socket.create_connection(("127.0.0.1", server.port)) as cut:
        head = f"PUT /artifactory/files/kept.bin HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {artifacts.token}\r\nContent-Length: {LARGE_BYTES}\r\n\r\n"
        cut.sendall(head.encode() + os.urandom(LARGE_BYTES // 2))
        eventually(lambda: storage.halves() > 0, what="half of it in the storage")
        server.kill9()
    server.restart()
    status, _, body = artifacts.curl(path="kept.bin")
    assert (status, body == large.read_bytes()) == (200, True), "what was there before is whole"
    # What the kill left waits for its time: seven hours. The unit tests of the storage look at its end.
    assert (storage.objects(), storage.halves()) == (before, 1)
