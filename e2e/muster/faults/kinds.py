"""The kinds of steps. Each changes something of a device, and can be held in the middle of that."""

import http.server
import os
import threading
from functools import partial

from .stand import must, picture

# More than one read of a socket, so that an answer can be held in its middle.
ARTIFACT = os.urandom(200_000)
REVERTED = {"on-failure": {"revert-all-files": True, "trigger-revert": "any-step-failure"}}
MIDDLE = "middle"


class Kind:
    """A step of one device. A device belongs to one of them."""

    name = "?"
    # Whether its step, killed in the middle, is begun again.
    is_repeatable = True
    # How often each fault strikes at moments that nobody chose.
    anywhere_times = 20

    def __init__(self, device):
        self.device = device
        self.place = device.disk / "place"
        self.place.mkdir()
        self.prepare()
        self.before = self.picture()

    def prepare(self):
        """Brings the device into the state before the update."""

    def begin(self):
        """What must happen on the running device before the update."""

    def step(self):
        """The step, as the flow language has it."""
        raise NotImplementedError

    def hold(self):
        """Lets the step come to its middle, and no further."""

    def is_held(self):
        return self.device.is_at(MIDDLE)

    def let_go(self):
        self.device.open_gate(MIDDLE)

    def picture(self):
        return picture(self.place)

    def is_new(self):
        """Whether the update is there, whole."""
        raise NotImplementedError

    def is_old(self):
        """Whether all is as it was, byte for byte."""
        return self.picture() == self.before

    def difference(self):
        now = self.picture()
        names = sorted(set(now) | set(self.before))
        return {name: (self.before.get(name), now.get(name)) for name in names if self.before.get(name) != now.get(name)}

    def close(self):
        """Ends what it started."""


class Run(Kind):
    """`run`: nobody knows what it changes, so nothing is put back."""

    name = "run"
    is_repeatable = False

    def step(self):
        return {"run": self.device.wait_at(MIDDLE), **REVERTED}

    def is_new(self):
        return f"{MIDDLE} goes on" in self.device.lines()

    def is_old(self):
        return True


class Script(Kind):
    """`connect/script`, with the folder that it changes."""

    name = "connect/script"
    is_repeatable = False

    def prepare(self):
        (self.place / "a").write_text("old")
        (self.place / "a").chmod(0o640)
        (self.place / "below").mkdir()
        (self.place / "below" / "link").symlink_to("../a")

    def step(self):
        place = self.place
        # Half of the change is made when the script is held.
        script = f"echo new > {place}/a; rm {place}/below/link; {self.device.wait_at(MIDDLE)}; echo new > {place}/b"
        return {"uses": "connect/script", "with": {"script": script, "changes": [str(place)], **REVERTED}}

    def is_new(self):
        names = sorted(path.name for path in self.place.rglob("*"))
        return names == ["a", "b", "below"] and (self.place / "b").read_text() == "new\n"


class Fetched(Kind):
    """A file that is fetched: held while half of it is there."""

    file_name = "file"

    def prepare(self):
        (self.place / self.file_name).write_text("old")
        (self.place / self.file_name).chmod(0o604)
        self.source = self.device.stand.store(f"{self.device.uuid}/{self.file_name}", ARTIFACT)

    def hold(self):
        self.device.stand.network.hold("GET /artifactory/")

    def is_held(self):
        return self.device.stand.network.is_holding

    def let_go(self):
        self.device.stand.network.release()

    def is_new(self):
        return list(picture(self.place)) == [self.file_name] and (self.place / self.file_name).read_bytes() == ARTIFACT


class File(Fetched):
    """`connect/file`."""

    name = "connect/file"

    def step(self):
        path = str(self.place / self.file_name)
        return {"uses": "connect/file", "with": {"device-path": path, **self.source, "mode": "0640", **REVERTED}}


class DownloadArtifact(Fetched):
    """`connect/download-artifact`."""

    name = "connect/download-artifact"

    def step(self):
        return {"uses": "connect/download-artifact", "with": {"device-path": str(self.place), **self.source, **REVERTED}}


class Git(Kind):
    """`connect/git`, from a repository that a plain web server has."""

    name = "connect/git"

    def prepare(self):
        work, bare = self.device.notes / "work", self.device.notes / "web" / "app.git"
        commit = ["git", "-C", work, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet"]
        must("git", "init", "--quiet", work)
        self._commit(work, commit, "old")
        must("git", "clone", "--quiet", work, self.place / "app")
        self._commit(work, commit, "new")
        must("git", "clone", "--quiet", "--bare", work, bare)
        must("git", "-C", bare, "update-server-info")
        handler = partial(_Quiet, directory=bare.parent)
        self.web = _Web(("127.0.0.1", 0), handler)
        threading.Thread(target=self.web.serve_forever, daemon=True).start()
        self.port = self.device.stand.network.to(lambda: self.web.server_port)

    def _commit(self, work, commit, content):
        (work / "file").write_bytes(content.encode() + ARTIFACT)
        must("git", "-C", work, "add", ".")
        must(*commit, "--message", content)

    def step(self):
        repository = f"http://127.0.0.1:{self.port}/app.git"
        return {"uses": "connect/git", "with": {"repository": repository, "device-path": str(self.place), **REVERTED}}

    def hold(self):
        self.device.stand.network.hold("/objects/")

    def is_held(self):
        return self.device.stand.network.is_holding

    def let_go(self):
        self.device.stand.network.release()

    def is_new(self):
        return os.listdir(self.place) == ["app"] and (self.place / "app/file").read_bytes() == b"new" + ARTIFACT

    def close(self):
        self.web.shutdown()
        self.web.server_close()


class _Web(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A link that is cut is what these tests are about."""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class DebianPackage(Kind):
    """`connect/debian-package`, with dpkg on a root of its own: held in the package's own script."""

    name = "connect/debian-package"

    def prepare(self):
        home, admin = self.device.disk / "home", self.place / "var/lib/dpkg"
        for folder in (home, admin / "info", admin / "updates"):
            folder.mkdir(parents=True)
        (admin / "status").touch()
        config = "force-script-chrootless\nforce-not-root\nforce-bad-path\nlog=/dev/null\n"
        (home / ".dpkg.cfg").write_text(f"{config}root={self.place}\n")
        self.device.environment = {"HOME": home, "DPKG_ROOT": self.place, "DPKG_ADMINDIR": admin}
        self.old, self.new = self._deb("1.0", ""), self._deb("2.0", self.device.wait_at(MIDDLE))

    def _deb(self, version, script):
        root = self.device.notes / f"deb-{version}"
        (root / "DEBIAN").mkdir(parents=True)
        (root / "opt/app").mkdir(parents=True)
        (root / "opt/app/version").write_text(version)
        (root / "opt/app" / f"only-{version}").write_text(version)
        words = {"Package": "app", "Version": version, "Architecture": "all", "Maintainer": "a <a@b>", "Description": "x"}
        (root / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in words.items()))
        (root / "DEBIAN/postinst").write_text(f"#!/bin/sh\n{script}\n")
        (root / "DEBIAN/postinst").chmod(0o755)
        deb = self.device.notes / f"app-{version}.deb"
        must("dpkg-deb", "--build", "--root-owner-group", root, deb)
        return deb

    def begin(self):
        self.device.update([self._install(self.old)])
        self.before = self.picture()
        assert self._says("1.0"), self.before

    def step(self):
        return self._install(self.new)

    def _install(self, deb):
        return {"uses": "connect/debian-package", "with": {"device-path": str(deb), **REVERTED}}

    def picture(self):
        """The package's files, and what dpkg says of it. A folder's time is not dpkg's to keep."""
        files = picture(self.place / "opt").items()
        found = {name: told for name, told in files if told[-1] is not None}
        status = (self.place / "var/lib/dpkg/status").read_text()
        found["status"] = [line for line in status.splitlines() if line.startswith(("Package", "Version", "Status"))]
        return found

    def is_new(self):
        return (self.place / "opt/app/version").read_text() == "2.0" and self._says("2.0")

    def _says(self, version):
        return self.picture()["status"] == ["Package: app", "Status: install ok installed", f"Version: {version}"]


KINDS = {kind.name: kind for kind in (Run, Script, File, DownloadArtifact, Git, DebianPackage)}
