"""The administrator's commands on storage that no server holds."""

import pytest
import requests

from muster.api import V1, V2
from muster.binaries import binary
from muster.process import clean_environment, Process, run


def test_migrating_by_hand_and_then_serving(server):
    for _ in range(2):
        done = server.admin("migrate")
        assert done.returncode == 0, done.stderr
    account = server.bootstrap()
    server.start()
    assert V1(server, account.user_token).details().json() == {"more": False, "message": []}
    assert V2(server, account).get("/devices").json()["pagination_info"]["total"] == 0


def test_serving_without_migrating_works_too(server):
    server.start()
    assert requests.get(f"{server.url}/healthz", timeout=30).status_code == 200


def test_bootstrapping_twice_is_refused_and_says_so(server):
    account = server.bootstrap()
    again = server.admin("bootstrap", "--json")
    assert again.returncode != 0
    assert again.stdout == "" and "panicked" not in again.stderr
    assert "account" in again.stderr.lower()
    server.start()
    assert V1(server, account.user_token).details().status_code == 200, "the first tokens still work"


def test_another_account_has_its_own_tokens_and_a_name_of_its_own(server):
    first, second = server.bootstrap(), server.bootstrap(account="second")
    assert (
        len(
            {first.user_token, first.access_token, first.pairing_token}
            & {second.user_token, second.access_token, second.pairing_token}
        )
        == 0
    )
    again = server.admin("bootstrap", "--json", "--account", "second")
    assert again.returncode != 0 and "second" in again.stderr


def test_what_was_handed_over_has_every_key(server):
    account = server.bootstrap()
    assert (account.project_key, account.project_name) == ("demo", "demo")
    assert all(
        [account.admin_user, account.admin_password, account.user_token, account.access_token, account.pairing_token]
    )


def test_data_survive_a_clean_stop(server):
    account = server.bootstrap()
    server.start()
    V2(server, account).create_group("kept")
    server.restart()
    answer = V2(server, account).post("/groups", {"name": "kept"})
    assert 400 <= answer.status_code < 500


def settings_by_environment(server, _folder):
    env = {"MUSTER_DATA": server.data, "MUSTER_LISTEN": "127.0.0.1:0"}
    if server.database_url:
        env["MUSTER_DATABASE_URL"] = server.database_url
    return [], clean_environment(**env)


def settings_by_file(server, folder):
    lines = [f'data = "{server.data}"', 'listen = "127.0.0.1:0"']
    if server.database_url:
        lines.append(f'database_url = "{server.database_url}"')
    path = folder / "muster.toml"
    path.write_text("\n".join(lines) + "\n")
    return ["--config", path], None


@pytest.mark.parametrize("settings", [settings_by_environment, settings_by_file])
def test_options_may_come_from_elsewhere(server, tmp_path, settings):
    account = server.bootstrap()
    options, env = settings(server, tmp_path)
    server.process = Process([binary("muster"), "serve", *options], tmp_path / "log", env=env)
    server.port = int(server.process.wait_for_line(r"listening on http://127\.0\.0\.1:(\d+)").group(1))
    assert V2(server, account).get("/devices").status_code == 200


def test_a_config_file_with_an_unknown_key_is_refused(server, tmp_path):
    path = tmp_path / "muster.toml"
    path.write_text('lissen = "127.0.0.1:0"\n')
    done = run(binary("muster"), "serve", *server.storage(), "--config", path, timeout=20)
    assert done.returncode != 0 and "lissen" in done.stderr
