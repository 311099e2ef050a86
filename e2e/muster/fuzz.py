"""Loaded by schemathesis: what the document's own formats stand for on the server under test.

Without these, nearly every generated request would name nothing that exists, and
be refused at its first look-up.
"""

import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import requests
import schemathesis
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from signing import signature  # noqa: E402

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
def before_load_schema(context, raw_schema):
    """The checks of credentials know 401 alone; the Tag Service's documents say 400 and 403."""
    for path, operations in raw_schema["paths"].items():
        if path.startswith(("/v1/tag", "/v1/resource")):
            for operation in operations.values():
                operation.pop("security", None)


@schemathesis.serializer("application/x-git-upload-pack-request")
def as_it_is(context, value):
    """What a clone sends to a Git server has a form of its own; a text will do to be refused."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook
def before_call(context, case, kwargs):
    spare(case)


ACCESS_KEY = json.loads(os.environ["FUZZ_ACCESS_KEY"])
BEARER = f"Bearer {os.environ['FUZZ_ACCESS_TOKEN']}"
SIGNED_BY_DEFAULT = {"host", "content-length", "content-type", "content-md5"}
send_unsigned = requests.adapters.HTTPAdapter.send


def send(adapter, request, *args, **options):
    """Signs what goes to the Tag Service, as late as can be: the signature is over what is sent.

    A request whose token was taken away or changed by a check stays as it is.
    """
    is_tag_service = urlsplit(request.path_url).path.split("/")[1:3] in (["v1", "tag"], ["v1", "resource"])
    if is_tag_service and request.headers.get("Authorization") == BEARER:
        request.headers["Host"] = urlsplit(request.url).netloc
        text = lambda value: value.decode("latin-1") if isinstance(value, bytes) else value  # noqa: E731
        headers = {text(name).lower(): text(value) for name, value in request.headers.items()}
        signed = {name: headers[name] for name in headers if name in SIGNED_BY_DEFAULT or name.startswith("x-bce-")}
        request.headers["Authorization"] = signature(*ACCESS_KEY, request.method, request.path_url, signed)
    return send_unsigned(adapter, request, *args, **options)


requests.adapters.HTTPAdapter.send = send
