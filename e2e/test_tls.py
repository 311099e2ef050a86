"""TLS: the agent, the client and curl against a server that shows a certificate."""

import json
import os
import shutil
import subprocess

import pytest

from muster.agent import Agent
from muster.binaries import binary
from muster.flows import document
from muster.process import Process, clean_environment, run
from muster.server import Server
from muster.tunnel import Target, connect, echo, exchange, listens
from muster.waiting import eventually

MEBIBYTE = 1024 * 1024
OTHER_PIN = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


class Secured:
    """A server that speaks TLS, and what is said to it with curl."""

    def __init__(self, folder, *options):
        self.server = Server(folder)
        self.account = self.server.bootstrap()
        self.server.start(options=options)
        self.pin = self.server.process.wait_for_line(r"server pin (sha256//\S+)").group(1)

    def curl(self, *options, path="/healthz"):
        return run("curl", "--silent", "--show-error", *options, f"{self.server.url}{path}")

    def curl_pinned(self, pin=None):
        return self.curl("--insecure", "--pinnedpubkey", pin or self.pin)

    def api(self, path, *options):
        done = self.curl(
            "--fail", "--insecure", "--pinnedpubkey", self.pin,
            "--header", f"Authorization: Bearer {self.account.access_token}", *options, path=path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def secured(tmp_path):
    secured = Secured(tmp_path / "server", "--tls-self-signed")
    yield secured
    secured.server.process.stop()


@pytest.fixture
def agent(secured, tmp_path):
    agent = Agent(tmp_path / "device")
    yield agent
    agent.stop()


def enroll(agent, secured, pin=None):
    options = ["--server-pin", pin] if pin else []
    return agent.command("enroll", "--server", secured.server.url, "--pairing-token", secured.account.pairing_token, *options)


def test_curl_knows_the_server_by_its_certificate_and_by_its_pin(secured):
    assert secured.server.url.startswith("https://")
    certificate = secured.server.data / "tls" / "certificate.pem"
    assert secured.curl("--cacert", certificate).returncode == 0
    assert secured.curl_pinned().returncode == 0
    assert secured.curl_pinned(OTHER_PIN).returncode != 0
    assert secured.curl().returncode != 0, "nobody vouches for it"


def test_a_device_knows_the_server_by_its_pin(secured, agent):
    assert "certificate" in enroll(agent, secured).stderr
    wrong = enroll(agent, secured, OTHER_PIN)
    assert wrong.returncode != 0 and secured.pin in wrong.stderr and OTHER_PIN in wrong.stderr
    done = enroll(agent, secured, secured.pin)
    assert done.returncode == 0, done.stderr
    uuid = agent.status_uuid()
    agent.start()
    fleet = secured.account.project_key

    def is_online():
        return '"Online"' in secured.api(f"/api/v2/{fleet}/devices/{uuid}").replace("online", "Online")

    eventually(is_online, what="a device behind TLS online")


def test_an_artifact_comes_over_the_same_trust(secured, agent, tmp_path):
    assert enroll(agent, secured, secured.pin).returncode == 0
    uuid, fleet = agent.status_uuid(), secured.account.project_key
    agent.start()
    post = ["--header", "Content-Type: application/json", "--data"]
    secured.api("/api/v2/account/repositories", *post, '{"name": "files"}')
    secured.api("/artifactory/files/a", "--request", "PUT", "--data", "content")
    target = tmp_path / "target"
    step = {"uses": "connect/file", "with": {"device-path": str(target), "registry": "files", "artifactory-path": "a"}}
    yaml = ["--header", "Content-Type: application/yaml", "--data-binary", document([step])]
    flow = secured.api(f"/api/v2/{fleet}/update-flows", *yaml).split('"uuid":"')[1].split('"')[0]
    order = (
        f'{{"device_filter": {{"groups": [], "filters": [{{"type": "specific_device", "operand": "is", "value": "{uuid}"}}]}},'
        f' "deployment_configuration": {{"flow_uuid": "{flow}"}}}}'
    )
    secured.api(f"/api/v2/{fleet}/deployments", *post, order)
    eventually(target.exists, what="the artifact on the device")
    assert target.read_text() == "content"


def test_the_client_logs_in_with_a_pin_and_keeps_it(secured, tmp_path):
    env = clean_environment(XDG_CONFIG_HOME=tmp_path)
    login = ["login", secured.server.url, "--token-stdin"]
    refused = _with_input([*login], secured.account.access_token, env)
    assert refused.returncode != 0 and "certificate" in refused.stderr.lower(), refused.stderr
    done = _with_input([*login, "--server-pin", secured.pin], secured.account.access_token, env)
    assert done.returncode == 0, done.stderr
    assert run(binary("muster"), "devices", "list", env=env).returncode == 0


def _with_input(words, text, env):
    command = [str(binary("muster")), *map(str, words)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, env=env, check=False)


def test_streams_and_tunnels_go_over_the_same_trust(secured, agent, tmp_path):
    assert enroll(agent, secured, secured.pin).returncode == 0
    uuid, fleet = agent.status_uuid(), secured.account.project_key
    agent.start()
    target, data = Target(echo), os.urandom(4 * MEBIBYTE)
    env = clean_environment(
        MUSTER_URL=secured.server.url, MUSTER_TOKEN=secured.account.access_token, MUSTER_FLEET=fleet,
        MUSTER_SERVER_PIN=secured.pin, XDG_CONFIG_HOME=tmp_path,
    )  # fmt: skip
    words = [binary("muster"), "tunnel", uuid, str(target.port), "--json"]

    def is_open():
        return run(binary("muster"), "tunnels", "create", uuid, target.port, "--json", env=env).stdout

    made = json.loads(eventually(is_open, what="a port tunnel"))
    eventually(lambda: listens(made["server_port"]), what="its listener")
    here = Process(words, tmp_path / "tunnel.log", env)
    port = json.loads(here.wait_for_line(r"^\{.*\}$").group())["port"]
    for each in (made["server_port"], port):
        with connect(each) as connection:
            assert exchange(connection, data) == data
    refused = run(*words[:4], "--stdio", env={**env, "MUSTER_SERVER_PIN": OTHER_PIN})
    assert refused.returncode == 1 and OTHER_PIN in refused.stderr
    here.kill9()
    target.close()


def test_a_renewed_certificate_is_shown_without_a_restart(tmp_path):
    made = [Secured(tmp_path / name, "--tls-self-signed") for name in ("one", "two")]
    for each in made:
        each.server.process.stop()
    files = tmp_path / "files"
    shutil.copytree(made[0].server.data / "tls", files)
    secured = Secured(tmp_path / "server", "--tls-certificate", files / "certificate.pem", "--tls-key", files / "key.pem")
    try:
        assert secured.pin == made[0].pin
        # Half of a renewal is no certificate: the old one stays until both files are there.
        for name in ("certificate.pem", "key.pem"):
            shutil.copy(made[1].server.data / "tls" / name, files / "new")
            os.replace(files / "new", files / name)
        eventually(lambda: secured.curl_pinned(made[1].pin).returncode == 0, what="the renewed certificate")
        assert secured.curl_pinned(made[0].pin).returncode != 0
    finally:
        secured.server.process.stop()


def test_quickstart_beyond_loopback_speaks_tls(tmp_path):
    command = [binary("muster"), "quickstart", "--exit", "--listen", "0.0.0.0:0", "--data", tmp_path / "data"]
    process = Process(command, tmp_path / "log")
    eventually(lambda: not process.is_running, what="the end of the story")
    assert process.child.returncode == 0, process.output()
    assert "https://127.0.0.1:" in process.output() and "Pin       sha256//" in process.output()


def test_a_certificate_without_its_key_is_refused(tmp_path):
    done = run(binary("muster"), "serve", "--data", tmp_path, "--tls-certificate", tmp_path / "a.pem")
    assert done.returncode == 2 and "--tls-key" in done.stderr
    done = run(binary("muster"), "serve", "--data", tmp_path, "--tls-certificate", tmp_path / "a.pem", "--tls-key", tmp_path / "b.pem")
    assert done.returncode == 1 and "certificate" in done.stderr
