"""Loaded by schemathesis: what the document's own formats stand for on the server under test.

Without these, nearly every generated request would name nothing that exists, and
be refused at its first look-up.
"""

import json
import os

import schemathesis
from hypothesis import strategies as st

KNOWN = json.loads(os.environ["FUZZ_KNOWN"])
OWN = json.loads(os.environ["FUZZ_OWN"])

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
