"""The agent's commands, as a person or an installer uses them."""

import json
import stat

import pytest

from muster.agent import UUID, Agent
from muster.api import V1
from muster.binaries import binary
from muster.process import run


@pytest.fixture
def agent(tmp_path):
    agent = Agent(tmp_path / "device")
    yield agent
    agent.stop()


def test_enrolling_puts_the_device_where_it_was_told(world, agent):
    agent.enroll(world.server, world.account, name="by hand", group="Test")
    details = world.v1.device(agent.token)
    assert (details["device_uuid"], details["device_name"], details["group"]) == (agent.uuid, "by hand", "Test")


def test_without_a_name_or_group_there_are_defaults(world, agent):
    agent.enroll(world.server, world.account)
    details = world.v1.device(agent.token)
    assert details["device_name"] and details["group"] == "Production"


def test_the_printed_token_stands_alone_and_works(world, agent):
    agent.enroll(world.server, world.account)
    done = agent.command("--print-token")
    assert done.returncode == 0 and done.stderr == ""
    (token,) = done.stdout.splitlines()
    answer = world.v1.details(device_token=token)
    assert answer.status_code == 200
    assert [device["device_uuid"] for device in answer.json()["message"]] == [agent.uuid]


def test_the_state_is_for_its_owner_alone(world, agent):
    agent.enroll(world.server, world.account)
    token_files = [
        path for path in agent.state.rglob("*") if path.is_file() and agent.token.encode() in path.read_bytes()
    ]
    assert token_files, "the token should be in the state"
    readable = stat.S_IRWXG | stat.S_IRWXO
    hidden = not agent.state.stat().st_mode & readable
    assert hidden or not any(path.stat().st_mode & readable for path in token_files)


def test_status_is_for_people_and_for_programs(world, agent):
    agent.enroll(world.server, world.account)
    for_people, for_programs = agent.command("status"), agent.command("status", "--json")
    assert for_people.returncode == for_programs.returncode == 0
    assert agent.uuid in for_people.stdout
    assert json.loads(for_programs.stdout)["device_uuid"] == agent.uuid
    assert agent.token not in for_people.stdout + for_programs.stdout


def test_commands_before_enrolment_say_so(agent):
    for words in (["--print-token"], ["run"]):
        done = agent.command(*words)
        assert done.returncode != 0, words
        assert "enrol" in done.stderr.lower() and "panicked" not in done.stderr, done.stderr


def test_two_agents_cannot_share_one_state(world, agent):
    agent.enroll(world.server, world.account).start().wait_connected(world.v1)
    second = agent.command("run")
    assert second.returncode != 0
    assert str(agent.state) in second.stderr and "panicked" not in second.stderr
    assert agent.process.is_running


def test_sigterm_ends_the_agent_well(world, agent):
    agent.enroll(world.server, world.account).start().wait_connected(world.v1)
    assert agent.process.stop() == 0


def test_a_wrong_pairing_token_is_refused(world, agent):
    for token in ("mp_wrong", "", world.account.user_token):
        done = agent.try_enroll(world.server.url, token)
        assert done.returncode != 0
        assert "token" in done.stderr.lower() and "panicked" not in done.stderr, done.stderr
    assert world.account.pairing_token not in done.stderr
    assert agent.command("--print-token").returncode != 0, "a refused device keeps no token"


def test_an_unknown_group_is_refused(world, agent):
    done = agent.try_enroll(world.server.url, world.account.pairing_token, group="no such group")
    assert done.returncode != 0
    assert "no such group" in done.stderr


def test_a_server_that_is_not_there_is_named(agent):
    done = agent.try_enroll("http://127.0.0.1:1", "mp_any")
    assert done.returncode != 0
    assert "127.0.0.1:1" in done.stderr and "panicked" not in done.stderr


def test_a_pairing_token_enrols_into_its_own_account(world, agent):
    agent.enroll(world.server, world.stranger)
    assert world.v1.details(device_token=agent.token).status_code == 400
    theirs = V1(world.server, world.stranger.user_token)
    assert theirs.device(agent.token)["device_uuid"] == agent.uuid


def test_help_names_every_command():
    done = run(binary("muster-agent"), "--help")
    assert done.returncode == 0
    for word in ("enroll", "run", "status", "--print-token"):
        assert word in done.stdout
    assert not UUID.search(done.stdout)
