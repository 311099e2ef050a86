"""Fixtures: an engine, a server on it, an account, devices."""

import itertools
import os

import pytest

from muster.agent import Agent
from muster.api import V1, V2
from muster.postgres import PrivatePostgres
from muster.server import Server

ENGINES = ["sqlite", "postgres"]


def pytest_collection_modifyitems(items):
    """Tests that share one world on one engine go to one worker, so that it is built once."""
    for item in items:
        if "world" in item.fixturenames:
            group = f"{item.path.stem}-{item.callspec.params['engine']}"
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def postgres():
    """One cluster for each worker; started when the first test wants it."""
    cluster = PrivatePostgres()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture(scope="module")
def database_url(request, engine):
    """Makes the place for one server's rows: a fresh database, or `None` for SQLite."""

    def make():
        return request.getfixturevalue("postgres").create_database() if engine == "postgres" else None

    return make


class World:
    """A server with two accounts, `account` and `stranger`, and the first one's devices."""

    def __init__(self, folder, database_url):
        self.folder = folder
        self.server = Server(folder / "server", database_url)
        self.agents = []
        self._numbers = itertools.count(1)

    def open(self, **limits):
        self.account = self.server.bootstrap()
        self.stranger = self.server.bootstrap(account="stranger")
        self.server.start(**limits)
        self.v1 = V1(self.server, self.account.user_token)
        self.v2 = V2(self.server, self.account)
        return self

    def device(self, name=None, group=None, account=None):
        """Enrols a device that does not run yet."""
        number = next(self._numbers)
        agent = Agent(self.folder / f"device{number}")
        self.agents.append(agent)
        return agent.enroll(self.server, account or self.account, name or f"device {number}", group)

    def online_device(self, **options):
        return self.device(**options).start().wait_connected(self.v1)

    def close(self):
        for agent in self.agents:
            agent.stop()
        if self.server.process is not None:
            self.server.process.stop()


@pytest.fixture(scope="module")
def worlds(tmp_path_factory, database_url):
    """Makes empty worlds, and ends their processes after the module."""
    made = []

    def make():
        world = World(tmp_path_factory.mktemp("world"), database_url())
        made.append(world)
        return world

    yield make
    for world in made:
        world.close()


@pytest.fixture(scope="module")
def world(worlds):
    """One world for the whole module: its tests make devices of their own."""
    return worlds().open()


@pytest.fixture
def own_world(worlds):
    """A world for one test that kills its server, or counts everything in it."""
    world = worlds().open()
    yield world
    world.close()


@pytest.fixture
def server(tmp_path, database_url):
    """A server that has not been started, on empty storage."""
    server = Server(tmp_path / "server", database_url())
    yield server
    if server.process is not None:
        server.process.stop()


@pytest.fixture(scope="session", autouse=True)
def no_proxy():
    """Loopback is reached directly, whatever the machine's settings are."""
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
