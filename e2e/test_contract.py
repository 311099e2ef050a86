"""The server against its own OpenAPI document: thousands of requests that the document allows, and that it forbids."""

import json
import os
import re
import sys

import pytest

from muster.binaries import REPOSITORY_DIR
from muster.flows import flow
from muster.process import clean_environment, run
from muster.tag_service import access_key

# Fixed, so that everybody's run asks the same; another one finds other things.
SEED = os.environ.get("FUZZ_SEED", "20261122")
EXAMPLES_MIN = 2_000
EXAMPLES_PER_OPERATION = os.environ.get("FUZZ_EXAMPLES", "15")


def known(world, devices):
    """Something that exists, for each format of the document. The second device may be deleted on the way."""
    account, tag, device = world.account, "London", devices[0]
    made = world.v2.create_flow(flow("fuzz", [("nothing", "true")]))
    deployment = world.v2.deploy(made, device.uuid)
    world.v1.change(device.token, tag=tag)
    return {
        "user-token": [account.user_token],
        "device-token": [device.token],
        "pairing-token": [account.pairing_token],
        "project-key": [account.project_key],
        "project-name": [account.project_name],
        "cursor": [world.v2.get("/devices", limit=1).json()["pagination_info"]["after"]],
        "group-name": ["Production", "Test"],
        "device-uuid": [*(device.uuid for device in devices), "d-zzzz-zzzz"],
        "flow-uuid": [made, "f-zzzz-zzzz"],
        "deployment-uuid": [deployment, "dp-zzzz-zzzz"],
    }


def hold(world, known, own, key, token, *options):
    """Holds the server against its document, and answers with the number of requests."""
    environment = clean_environment(
        FUZZ_KNOWN=json.dumps(known),
        FUZZ_OWN=json.dumps(own),
        FUZZ_ACCESS_TOKEN=token,
        FUZZ_ACCESS_KEY=json.dumps([key.access_key_id, key.secret_access_key]),
    )
    done = run(
        sys.executable, "-m", "schemathesis.cli", "--config-file", REPOSITORY_DIR / "e2e/schemathesis.toml",
        "run", f"{world.server.url}/api/openapi.json", "--checks", "all", "--seed", SEED,
        "--max-examples", EXAMPLES_PER_OPERATION, "--no-color", *options,
        cwd=REPOSITORY_DIR, env=environment, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return int(re.search(r"(\d+) generated", done.stdout).group(1))


@pytest.mark.timeout(900)
def test_the_document_is_kept(own_world):
    print(f"seed {SEED}: again with FUZZ_SEED={SEED} ./test e2e e2e/test_contract.py")
    account, devices = own_world.account, [own_world.device(), own_world.device()]
    me = own_world.v2.call("GET", "/me", project_key="account").json()
    exist = known(own_world, devices)
    # What it must not take from itself; and logging out, which would end all else, has a token of its own.
    key = access_key(own_world.server)
    own = [account.admin_user, account.project_key, devices[0].uuid, me["token"]["token_id"]]
    log_out = own_world.v2.call("POST", "/tokens", project_key="account", json={"description": "for logging out"})
    # A revoked key can still be looked at, which a check of several calls would take for a mistake.
    alone = ["LogOut", "RevokeAccessKey"]
    others = [word for name in alone for word in ("--exclude-operation-id", name)]
    requests = hold(own_world, exist, own, key, account.access_token, *others)
    requests += hold(own_world, exist, own, key, account.access_token, "--include-operation-id", "RevokeAccessKey")
    assert own_world.v2.get("/devices").status_code == 200, "its own token is still good"
    requests += hold(own_world, exist, own, key, log_out.json()["token"], "--include-operation-id", "LogOut")
    assert requests >= EXAMPLES_MIN
    print(f"{requests} requests")
