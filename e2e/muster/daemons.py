"""Services that stand beside an agent as on any device: sshd and nginx."""

import getpass
import shutil
import socket
from pathlib import Path

from .process import Process, run
from .waiting import eventually

ATTEMPTS = 5


def program(name):
    """Debian keeps daemons where only root looks."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    assert found, f"{name} is not installed"
    return found


def on_free_port(start):
    """What `start(port)` makes with a port that was free, once somebody listens there."""
    for attempt in range(ATTEMPTS):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        process = start(port)

        def listens():
            if not process.is_running:
                raise RuntimeError(process.output())
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        try:
            eventually(listens, what=f"{process.command[0]} at {port}")
            return process, port
        except RuntimeError:
            # Somebody was faster.
            if attempt == ATTEMPTS - 1:
                raise


class Sshd:
    """OpenSSH's server, and a client's key that it takes."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir()
        self.user = getpass.getuser()
        self.key = self._key("client")
        (self.folder / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        self.host_key = self._key("host")
        # Where it puts itself for those who have not logged in.
        Path("/run/sshd").mkdir(exist_ok=True)
        self.process, self.port = on_free_port(self._start)

    def _key(self, name):
        done = run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name)
        assert done.returncode == 0, done.stderr
        return self.folder / name

    def _start(self, port):
        config = self.folder / f"sshd-{port}.conf"
        config.write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {self.host_key}\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nPermitRootLogin yes\n"
            "PasswordAuthentication no\nSubsystem sftp internal-sftp\n"
        )
        return Process([program("sshd"), "-D", "-e", "-f", config], self.folder / "sshd.log")

    def stop(self):
        self.process.stop()


class Nginx:
    """A web server of a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.root = self.folder / "root"
        self.root.mkdir(parents=True)
        self.process, self.port = on_free_port(self._start)

    def _start(self, port):
        config = self.folder / f"nginx-{port}.conf"
        temporary = "".join(
            f"  {kind}_temp_path {self.folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config.write_text(
            f"daemon off;\nmaster_process off;\npid {self.folder}/pid;\nerror_log stderr;\n"
            "events { worker_connections 256; }\n"
            f"http {{\n  access_log off;\n{temporary}"
            f"  server {{ listen 127.0.0.1:{port}; location / {{ root {self.root}; }} }}\n}}\n"
        )
        return Process([program("nginx"), "-p", self.folder, "-c", config, "-e", "stderr"], self.folder / "nginx.log")

    def stop(self):
        self.process.stop()
