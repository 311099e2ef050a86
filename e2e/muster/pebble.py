"""Pebble, the test server of ACME, with names that all lead to this machine."""

import contextlib
import json
import random
import socket

import requests
import urllib3

from .process import Process, clean_environment, run
from .waiting import eventually


# What Pebble's own address is believed by: no authority, which rustls would not take for a server.
OWN = """
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = Pebble
[extensions]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1
"""


def free_port():
    """A port that nobody has: Pebble wants to be told all of its ports. None that the system
    hands out by itself, which another process may be given before it is used."""
    while True:
        port = random.randint(10_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Pebble:
    """An authority that looks for the names of the server at `tls_port` and `http_port` of this machine."""

    def __init__(self, folder, tls_port, http_port, life_seconds=None):
        folder.mkdir(parents=True)
        self.folder = folder
        self.port, self.management, self.dns = free_port(), free_port(), free_port()
        self.certificate, key = folder / "own.pem", folder / "own.key"
        (folder / "own.conf").write_text(OWN)
        done = run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-config", folder / "own.conf", "-keyout", key, "-out", self.certificate,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.certificate),
            "privateKey": str(key),
            "httpPort": http_port,
            "tlsPort": tls_port,
        }
        if life_seconds:
            settings["certificateValidityPeriod"] = life_seconds
        (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
        names = [
            "pebble-challtestsrv", "-dns01", f"127.0.0.1:{self.dns}", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
            "-http01", "", "-https01", "", "-tlsalpn01", "", "-management", f"127.0.0.1:{free_port()}",
        ]  # fmt: skip
        self.names = Process(names, folder / "names.log")
        self.process = None
        self.start()

    def start(self):
        """An authority that was stopped knows nothing of before when it starts again."""
        command = ["pebble", "-config", self.folder / "pebble.json", "-dnsserver", f"127.0.0.1:{self.dns}"]
        environment = clean_environment(PEBBLE_VA_NOSLEEP=1, PEBBLE_AUTHZREUSE=0)
        self.process = Process(command, self.folder / "pebble.log", environment)
        eventually(self._answers, what="Pebble")
        return self

    def _answers(self):
        try:
            return self._get("/roots/0").ok
        except requests.ConnectionError:
            return False

    def _get(self, path):
        with urllib3.warnings.catch_warnings():
            urllib3.disable_warnings()
            return requests.get(f"https://127.0.0.1:{self.management}{path}", verify=False, timeout=30)

    def directory(self, port=None):
        return f"https://127.0.0.1:{port or self.port}/dir"

    def root(self):
        """A file with the authority that vouches for what it gives."""
        path = self.folder / "root.pem"
        path.write_text(self._get("/roots/0").text)
        return path

    def orders(self):
        """How many certificates were asked for; what it refused for its nonce came again."""
        return self.process.output().count("Added order")

    def stop(self):
        if self.process.is_running:
            self.process.child.terminate()
            self.process.child.wait()

    def close(self):
        self.stop()
        self.names.child.terminate()
        self.names.child.wait()
