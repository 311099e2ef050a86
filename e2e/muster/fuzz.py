"""Loaded by schemathesis: what the document's own formats stand for on the server under test.

Without these, nearly every generated request would name nothing that exists, and
be refused at its first look-up.
"""

import json
import os

import requests
import schemathesis
from hypothesis import strategies as st

KNOWN = json.loads(os.environ["FUZZ_KNOWN"])
OWN = json.loads(os.environ["FUZZ_OWN"])
OWN_TOKEN = "Bearer " + os.environ["FUZZ_ACCESS_TOKEN"]

for name, values in KNOWN.items():
    schemathesis.openapi.format(name, st.sampled_from(values))


def spare(case):
    """Leaves the fuzzer what it lives on: another parameter where a call would take that away."""
    parameters = case.path_parameters or {}
    for operation, name, other in [
        ("RevokeToken", "token_id", "t-0000000000000000"),
        ("DeleteUser", "name", "nobody"),
        ("PatchUser", "name", "nobody"),
        ("DeleteFleet", "project_key", "depot"),
        ("PatchFleet", "project_key", "depot"),
        ("DeleteDevice", "device_uuid", "d-0000-0000"),
        ("MoveDevice", "device_uuid", "d-0000-0000"),
    ]:
        if case.operation.definition.raw.get("operationId") == operation and parameters.get(name) in OWN:
            parameters[name] = other


@schemathesis.hook
def before_call(context, case, kwargs):
    spare(case)
    is_log_out = case.operation.definition.raw.get("operationId") == "LogOut"
    if is_log_out and (case.headers or {}).get("Authorization") == OWN_TOKEN:
        case.headers["Authorization"] = fresh_token(case)


def fresh_token(case):
    """A token that nobody else uses, to be revoked."""
    url = case.operation.base_url.rstrip("/") + "/api/v2/account/tokens"
    body = {"description": "to be logged out"}
    answer = requests.post(url, json=body, headers={"Authorization": OWN_TOKEN}, timeout=30)
    assert answer.status_code == 201, answer.text
    return "Bearer " + answer.json()["token"]
