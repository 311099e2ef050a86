"""A server with its storage and clock, behind a network, and devices on it."""

import contextlib
import hashlib
import itertools
import os
import signal
from pathlib import Path

import requests

from ..agent import Agent
from ..api import TIMEOUT_SECONDS, V1, V2
from ..flows import document
from ..network import Network
from ..postgres import PrivatePostgres
from ..process import Process, clean_environment, run
from ..server import Server

FAKETIME_LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"
REPOSITORY = "faults"
# Small enough to be full at once, large enough for a device's state, a package and a clone.
SMALL_DISK_BYTES = 48 * 1024 * 1024


class Clock:
    """The wall clock of processes started with `environment`: what time passes, and timers, stay true."""

    def __init__(self, folder):
        self.path = Path(folder) / "clock"
        self.jump(0)

    def jump(self, seconds):
        # Replaced at once: a half-written offset would be another jump.
        new = self.path.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self.path)

    @property
    def environment(self):
        found = sorted(Path("/").glob(FAKETIME_LIBRARIES.lstrip("/")))
        if not found:
            raise RuntimeError("no libfaketime; on Debian or Ubuntu: apt-get install faketime")
        return {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


class Stand:
    """One server, and devices one after the other."""

    def __init__(self, folder, engine, has_own_clock=False):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.postgres = PrivatePostgres() if engine == "postgres" else None
        self.clock = Clock(self.folder) if has_own_clock else None
        self.server = Server(self.folder / "server", self.postgres and self.postgres.create_database())
        self.account = self.server.bootstrap()
        self.network = Network()
        self._numbers = itertools.count(1)
        self._address = f"http://127.0.0.1:{self.network.to(lambda: self.server.port)}"
        self.server.environment = self.clock.environment if self.clock else {}
        self.server.start(options=["--public-url", self._address])
        self.v1, self.v2 = V1(self.server, self.account.user_token), V2(self.server, self.account)
        self._make_repository()
        self._containers = None

    def _make_repository(self):
        answer = requests.post(
            f"{self.server.url}/api/v2/account/repositories", headers=self._bearer, json={"name": REPOSITORY},
            timeout=TIMEOUT_SECONDS,
        )  # fmt: skip
        assert answer.status_code == 201, answer.text

    @property
    def _bearer(self):
        return {"Authorization": f"Bearer {self.account.access_token}"}

    def containers(self, make):
        """The stand's one engine, made when the first device wants it."""
        if self._containers is None:
            self._containers = make(self)
        return self._containers

    def store(self, path, content):
        """Stores an artifact; what a step says to fetch it."""
        url = f"{self.server.url}/artifactory/{REPOSITORY}/{path}"
        answer = requests.put(url, data=content, headers=self._bearer, timeout=TIMEOUT_SECONDS)
        assert answer.status_code == 201, answer.text
        return {"registry": REPOSITORY, "artifactory-path": path}

    @contextlib.contextmanager
    def device(self, has_small_disk=False):
        """An enrolled device that does not run yet; ended, with all that it started, afterwards."""
        folder = self.folder / f"device{next(self._numbers)}"
        with contextlib.ExitStack() as stack:
            disk = stack.enter_context(small_disk(folder / "disk")) if has_small_disk else folder / "disk"
            device = Device(self, folder, disk)
            # Before its disk goes: what still runs on it would keep it busy.
            stack.callback(device.end)
            yield device

    def close(self):
        with contextlib.suppress(AssertionError):
            self.server.process.stop()
        if self._containers:
            self._containers.close()
        self.network.close()
        if self.postgres:
            self.postgres.stop()


@contextlib.contextmanager
def small_disk(folder):
    """A file system of its own for as long as it is needed."""
    folder.mkdir(parents=True)
    size = f"size={SMALL_DISK_BYTES}"
    mounted = run("mount", "-t", "tmpfs", "-o", size, "muster-faults", folder)
    if mounted.returncode != 0:
        raise RuntimeError(f"a small disk needs root and the right to mount: {mounted.stderr}")
    try:
        yield folder
    finally:
        run("umount", "--lazy", folder)


class Device:
    """An agent whose files are below `disk`, and what the test knows of it, which is not."""

    def __init__(self, stand, folder, disk):
        self.stand, self.folder, self.disk = stand, folder, disk
        self.notes = folder / "notes"
        for each in (disk, self.notes):
            each.mkdir(parents=True, exist_ok=True)
        self.clock = Clock(folder)
        self.environment = {}
        self.lines_path = self.notes / "lines"
        self.agent = Agent(disk)
        done = self.agent.try_enroll(stand._address, stand.account.pairing_token, folder.name)
        assert done.returncode == 0, done.stderr
        self.uuid = self.agent.status_uuid()

    def start(self):
        environment = clean_environment(**self.environment, **({} if self.stand.clock is None else self.clock.environment))
        command = [*self.agent.run_command(), "--log", "debug"]
        self.process = Process(command, self.folder / "agent.log", environment)
        return self

    def wait_connected(self):
        self.agent.uuid = self.uuid
        self.agent.wait_connected(self.stand.v1)

    def update(self, steps):
        """A deployment of its own that must succeed."""
        v2 = self.stand.v2
        v2.wait_for_status(v2.deploy(v2.create_flow(document(steps)), self.uuid), self.uuid, "Succeeded")

    def kill_agent(self):
        """Its steps go on."""
        self.process.kill9()

    def lose_power(self):
        """Everything of the device ends at once, and nothing of it is left."""
        self.process.kill9()
        while left := self._processes():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _processes(self):
        """Whatever bears the device's folder in its arguments or its environment."""
        mark = str(self.folder).encode() + b"/"
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    told = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
                    is_dead = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
                    if mark in told and not is_dead:
                        found.append(int(entry.name))
        return found

    def end(self):
        if getattr(self, "process", None):
            self.lose_power()

    # What its steps did ----------------------------------------------------------

    def say(self, line):
        """Shell that notes a line, on no disk of the device's."""
        return f"echo '{line}' >> '{self.lines_path}'"

    def wait_at(self, gate):
        """Shell that notes that it waits, waits until `open_gate`, and notes that it goes on."""
        there = self.notes / gate
        return f"{self.say(f'{gate} waits')}; while [ ! -e '{there}' ]; do sleep 0.05; done; {self.say(f'{gate} goes on')}"

    def is_at(self, gate):
        return f"{gate} waits" in self.lines()

    def open_gate(self, gate):
        (self.notes / gate).touch()

    def lines(self):
        return self.lines_path.read_text().splitlines() if self.lines_path.exists() else []


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def picture(root):
    """What is below `root`, so that two pictures are equal when nothing of it differs."""
    found = {}
    for path in sorted(Path(root).rglob("*")):
        stat = path.lstat()
        content = os.readlink(path) if path.is_symlink() else digest(path) if path.is_file() else None
        found[str(path.relative_to(root))] = (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime_ns, content)
    return found


def must(*command, **options):
    """Runs a command that has to succeed."""
    done = run(*command, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout
