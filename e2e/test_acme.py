"""Certificates by ACME, from Pebble: got, shown, renewed, kept."""

import re
import stat
import time

import pytest

from muster.binaries import binary
from muster.network import Network
from muster.pebble import Pebble, free_port
from muster.process import run
from muster.server import Server
from muster.waiting import eventually

NAME = "muster.example.com"


class Secured:
    """A server that gets its certificate by ACME, and what curl says to it."""

    def __init__(self, folder, http_port=None, life_seconds=None):
        self.server = Server(folder / "server")
        self.account = self.server.bootstrap()
        self.server.port = free_port()
        self.http_port = http_port
        self.pebble = Pebble(folder / "pebble", self.server.port, http_port or free_port(), life_seconds)

    def options(self, directory=None, names=NAME):
        options = ["--acme-domain", names, "--acme-email", "ops@example.com", "--acme-directory", directory or self.pebble.directory()]
        options += ["--acme-root-ca", self.pebble.certificate]
        return options + ["--acme-http-listen", f"127.0.0.1:{self.http_port}"] if self.http_port else options

    def start(self, **options):
        self.server.start(options=self.options(**options))
        return self

    def curl(self, name=NAME, root=None):
        port = self.server.port
        return run(
            "curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--resolve", f"{name}:{port}:127.0.0.1",
            "--cacert", root or self.pebble.root(), f"https://{name}:{port}/healthz",
        )  # fmt: skip

    def is_believed(self, name=NAME, root=None):
        return self.curl(name, root).returncode == 0

    def shown(self):
        """The serial number and the end of what is shown."""
        shown = run("sh", "-c", f"openssl s_client -connect 127.0.0.1:{self.server.port} -servername {NAME} | openssl x509 -noout -serial -enddate")
        return shown.stdout

    def said(self, pattern):
        return re.findall(pattern, self.server.process.output())

    def close(self):
        self.server.process.stop()
        self.pebble.close()


@pytest.fixture
def secured(tmp_path):
    made = []

    def make(**options):
        made.append(Secured(tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_certificate_is_got_over_tls_shown_and_kept(secured):
    it = secured().start(names=f"{NAME},second.example.com")
    assert "listening on" in it.server.process.output(), "nobody waits for the authority"
    eventually(it.is_believed, what="a certificate")
    assert it.is_believed("second.example.com")
    pin = it.server.process.wait_for_line(r"server pin (sha256//\S+)").group(1)
    port = it.server.port
    pinned = run("curl", "--silent", "--insecure", "--pinnedpubkey", pin, "--noproxy", "*", f"https://127.0.0.1:{port}/healthz")
    assert pinned.returncode == 0, "the pin of the first moment is the pin of the certificate"
    files = [path for path in (it.server.data / "acme").rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["account.json", "certificate.pem", "key.pem"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    # A restart needs nobody: not even an authority that is there.
    root, shown = it.pebble.root(), it.shown()
    it.pebble.stop()
    it.server.restart()
    assert it.is_believed(root=root) and it.shown() == shown
    assert it.said("asking for a certificate") == []
    # Other names need another certificate, and an authority that has forgotten the account gets a new one.
    it.server.stop()
    it.pebble.start()
    it.start(names="third.example.com")
    eventually(lambda: it.is_believed("third.example.com"), what="a certificate for another name")


def test_a_certificate_is_got_over_plain_http(secured):
    it = secured(http_port=free_port()).start()
    eventually(it.is_believed, what="a certificate")
    nothing = run("curl", "--silent", "--noproxy", "*", "-w", "%{http_code}", f"http://127.0.0.1:{it.http_port}/healthz")
    assert nothing.stdout.endswith("404"), "it answers challenges and nothing else"


def test_a_certificate_is_renewed_and_an_authority_that_is_away_is_waited_for(secured):
    """Lives through two thirds of a certificate's life, which is made as short as can be told apart."""
    it = secured(life_seconds=30)
    network = Network()
    try:
        it.start(directory=it.pebble.directory(network.to(lambda: it.pebble.port)))
        eventually(it.is_believed, what="a certificate")
        first = it.shown()
        network.cut()
        eventually(lambda: it.said("the old one is shown on"), timeout=60, what="a renewal that fails")
        assert it.shown() == first and it.is_believed()
        network.mend()
        eventually(lambda: it.shown() != first and it.is_believed(), timeout=60, what="another certificate")
        assert it.pebble.orders() == 2, "no more was asked for than was needed"
    finally:
        network.close()


def test_without_an_authority_the_server_serves_and_says_so(secured):
    it = secured()
    it.pebble.stop()
    it.start()
    eventually(lambda: it.said("no certificate, clients will not believe this server"), what="the error")
    pin = it.server.process.wait_for_line(r"server pin (sha256//\S+)").group(1)
    port = it.server.port
    pinned = run("curl", "--silent", "--fail", "--insecure", "--pinnedpubkey", pin, "--noproxy", "*", f"https://127.0.0.1:{port}/healthz")
    assert pinned.returncode == 0
    it.pebble.start()
    began = time.monotonic()
    eventually(it.is_believed, timeout=120, what="a certificate")
    assert time.monotonic() - began < 100


def test_refuses_options_that_do_not_fit(tmp_path):
    for options, expected in [
        (["--acme-domain", "a b"], "is no domain"),
        (["--acme-domain", NAME, "--tls-self-signed"], "cannot be used with"),
        (["--acme-http-listen", "127.0.0.1:0"], "--acme-domain"),
        (["--acme-domain", NAME, "--acme-directory", "http://127.0.0.1/dir"], "is not an address like https://"),
        (["--acme-domain", NAME, "--acme-root-ca", tmp_path / "none"], "cannot read"),
    ]:
        done = run(binary("muster"), "serve", "--data", tmp_path / "data", "--listen", "127.0.0.1:0", *options)
        assert done.returncode != 0 and expected in done.stderr, (options, done.stderr)
