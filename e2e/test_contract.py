"""The server against its own OpenAPI document: thousands of requests that the document allows, and that it forbids."""

import json
import os
import re
import sys

import pytest

from muster.binaries import REPOSITORY_DIR
from muster.flows import flow
from muster.process import clean_environment, run

# Fixed, so that everybody's run asks the same; another one finds other things.
SEED = os.environ.get("FUZZ_SEED", "20261122")
EXAMPLES_MIN = 2_000
EXAMPLES_PER_OPERATION = os.environ.get("FUZZ_EXAMPLES", "40")


def known(world, device):
    """Something that exists, for each format of the document."""
    account, tag = world.account, "London"
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
        "device-uuid": [device.uuid, "d-zzzz-zzzz"],
        "flow-uuid": [made, "f-zzzz-zzzz"],
        "deployment-uuid": [deployment, "dp-zzzz-zzzz"],
    }


@pytest.mark.timeout(900)
def test_the_document_is_kept(own_world, tmp_path):
    print(f"seed {SEED}: again with FUZZ_SEED={SEED} ./test e2e e2e/test_contract.py")
    environment = clean_environment(
        FUZZ_KNOWN=json.dumps(known(own_world, [own_world.device(), own_world.device()][0])),
        FUZZ_ACCESS_TOKEN=own_world.account.access_token,
    )
    done = run(
        sys.executable, "-m", "schemathesis.cli", "--config-file", REPOSITORY_DIR / "e2e/schemathesis.toml",
        "run", f"{own_world.server.url}/api/openapi.json", "--checks", "all", "--seed", SEED,
        "--max-examples", EXAMPLES_PER_OPERATION, "--no-color",
        cwd=REPOSITORY_DIR, env=environment, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    generated = int(re.search(r"(\d+) generated", done.stdout).group(1))
    assert generated >= EXAMPLES_MIN, done.stdout
    print(f"{generated} requests")
