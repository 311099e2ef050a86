"""A real Docker Engine and a real registry, each with a folder and an address of its own."""

import base64
import http.client
import io
import json
import os
import shutil
import signal
import socket
import tarfile
import tempfile
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests

from .process import Process, run
from .waiting import eventually

BUSYBOX = "/usr/bin/busybox"
APPLETS = ["cat", "echo", "false", "ls", "sh", "sleep", "test", "touch", "true"]
USER, PASSWORD = "robot", "s3cret"
# bcrypt of PASSWORD, the only kind that the registry reads.
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("engine", timeout=120)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Engine:
    """dockerd, without a network of its own."""

    def __init__(self, folder=None):
        # A socket's path may be 107 bytes long, so not in a folder of the test.
        self.folder = Path(folder or tempfile.mkdtemp(prefix="engine"))
        self.socket, self.data = self.folder / "docker.sock", self.folder / "data"
        self.process = None

    def start(self):
        # Left by an engine that was killed: its containerd dies with it, and where nobody
        # reaps that, the next engine would wait for it.
        (self.folder / "pid").unlink(missing_ok=True)
        self._end_containerd()
        (self.folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)
        self.process = Process(
            ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "-H", f"unix://{self.socket}",
             "--data-root", self.data, "--exec-root", self.folder / "exec", "--pidfile", self.folder / "pid"],
            self.folder / "engine.log",
        )  # fmt: skip
        self.process.wait_for_line("API listen on")
        return self

    def kill9(self):
        self.process.kill9()

    def close(self):
        """Ends the engine, its containers, and what a killed one left behind."""
        if not self.process.is_running:
            self.start()
        for container in self.containers():
            self.call("DELETE", f"/containers/{container['Id']}?force=true&v=true")
        self.process.stop()
        self._end_containerd()
        # An engine that was killed has left the mount of its data.
        while os.path.ismount(self.data) and run("umount", self.data).returncode == 0:
            pass
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end_containerd(self):
        try:
            pid = int((self.folder / "exec/containerd/containerd.pid").read_text())
            if str(self.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            pass

    def request(self, method, path, body=None, headers=None):
        """Status and body."""
        connection = UnixConnection(self.socket)
        if isinstance(body, (dict, list)):
            body, headers = json.dumps(body), {"Content-Type": "application/json", **(headers or {})}
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        status, content = answer.status, answer.read()
        connection.close()
        return status, content

    def call(self, method, path, body=None, headers=None):
        status, content = self.request(method, path, body, headers)
        assert status < 400, f"{method} {path}: {status} {content.decode()}"
        return json.loads(content) if content[:1] in (b"{", b"[") and b"\r\n{" not in content else content

    def containers(self):
        return self.call("GET", "/containers/json?all=true")

    def names(self):
        """Every container: its name, and whether it runs."""
        return {container["Names"][0][1:]: container["State"] == "running" for container in self.containers()}

    def inspect(self, name):
        """The container of that name, or nothing."""
        status, content = self.request("GET", f"/containers/{name}/json")
        return json.loads(content) if status == 200 else None

    def picture(self, name):
        """What a restoration must bring back."""
        found = self.inspect(name)
        return found and (found["Id"], found["State"]["Running"], found["HostConfig"]["RestartPolicy"]["Name"])

    def run(self, name, image, command, **host):
        """A container that somebody made by hand."""
        body = {"Image": image, "Cmd": command, "HostConfig": {"NetworkMode": "none", **host}}
        made = self.call("POST", f"/containers/create?name={name}", body)["Id"]
        self.call("POST", f"/containers/{made}/start")
        return made

    def image_ids(self):
        return {image["Id"] for image in self.call("GET", "/images/json")}

    def make_image(self, reference, *changes, files=()):
        """An image of busybox; `changes` are lines of a Dockerfile."""
        repository, tag = reference.rsplit(":", 1)
        query = urllib.parse.urlencode(
            [("fromSrc", "-"), ("repo", repository), ("tag", tag), *(("changes", change) for change in changes)]
        )
        self.call("POST", f"/images/create?{query}", _busybox_tar(files), {"Content-Type": "application/x-tar"})
        return self.call("GET", f"/images/{reference}/json")["Id"]

    def push(self, reference):
        """To its registry; the image is then removed here."""
        repository, tag = reference.rsplit(":", 1)
        auth = base64.urlsafe_b64encode(json.dumps({"username": USER, "password": PASSWORD}).encode()).decode()
        said = self.call("POST", f"/images/{repository}/push?tag={tag}", None, {"X-Registry-Auth": auth})
        assert b'"error"' not in said, said
        self.call("DELETE", f"/images/{reference}")


def _busybox_tar(files):
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return into.getvalue()


class Registry:
    """docker-registry, which lets nobody in but USER."""

    def __init__(self, folder):
        folder.mkdir()
        (folder / "users").write_text(HTPASSWD)
        config = {
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": "127.0.0.1:0"},
            "auth": {"htpasswd": {"realm": "test", "path": str(folder / "users")}},
        }
        # JSON is YAML.
        (folder / "config.yml").write_text(json.dumps(config))
        self.process = Process(["docker-registry", "serve", folder / "config.yml"], folder / "registry.log")
        self.address = self.process.wait_for_line(r"listening on (127\.0\.0\.1:\d+)")[1]

    def close(self):
        self.process.kill9()


class Platform:
    """One address for a registry's images and for files, as Artifactory has it."""

    def __init__(self, registry, files):
        """`files` maps paths to contents."""
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if self.path.startswith("/v2/"):
                    # The engine sends more than one `Accept`.
                    passed = {name: self.headers.get_all(name) for name in ("Accept", "Authorization")}
                    headers = {name: ", ".join(values) for name, values in passed.items() if values}
                    answer = requests.request(
                        self.command, f"http://{registry.address}{self.path}", headers=headers, timeout=60
                    )
                    dropped = {"connection", "transfer-encoding", "date", "content-encoding"}
                    headers = {key: value for key, value in answer.headers.items() if key.lower() not in dropped}
                    return self.answer(answer.status_code, answer.content, headers)
                if self.headers.get("Authorization") != basic:
                    return self.answer(401, b"", {})
                content = files.get(self.path)
                return self.answer(404, b"", {}) if content is None else self.answer(200, content, {})

            do_HEAD = do_GET

            def answer(self, status, content, headers):
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()


class SmallDisk:
    """A file system of its own in memory."""

    def __init__(self, folder, size):
        self.folder = folder
        folder.mkdir()
        done = run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
        assert done.returncode == 0, done.stderr

    def close(self):
        eventually(lambda: run("umount", self.folder).returncode == 0, what=f"{self.folder} unmounted")
