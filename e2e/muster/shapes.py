"""What answers look like: kinds of values, and exact sets of keys."""

import re

NUMBER = (int, float)
SPACED_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
RFC3339_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
DEVICE_UUID = re.compile(r"d-[0-9a-z]{4}-[0-9a-z]{4}")
FLOW_UUID = re.compile(r"f-[0-9a-z]{4}-[0-9a-z]{4}")
DEPLOYMENT_UUID = re.compile(r"dp-[0-9a-z]{4}-[0-9a-z]{4}")


def optional(kind):
    """The kind, or null."""
    return lambda value: value is None or matches(value, kind)


def one_of(*words):
    return lambda value: value in words


def list_of(kind):
    return lambda value: isinstance(value, list) and all(matches(item, kind) for item in value)


def percent(value):
    """A whole number from 0 to 100."""
    return matches(value, int) and 0 <= value <= 100


def matches(value, kind):
    """Whether `value` is of a type, matches a pattern as a whole, has a shape, or pleases a function."""
    if isinstance(kind, re.Pattern):
        return isinstance(value, str) and kind.fullmatch(value) is not None
    if isinstance(kind, dict):
        return isinstance(value, dict) and mismatches(value, kind) == []
    if isinstance(kind, (type, tuple)):
        # In Python True is an int; in JSON it is not.
        return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    return bool(kind(value))


def mismatches(body, shape):
    """Every key that is missing, superfluous or of another kind than `shape` says."""
    missing = [f"{key} is missing" for key in shape if key not in body]
    superfluous = [f"{key} is superfluous" for key in body if key not in shape]
    wrong = [f"{key} is {body[key]!r}" for key in shape if key in body and not matches(body[key], shape[key])]
    return missing + superfluous + wrong


def assert_shape(body, shape):
    assert isinstance(body, dict), body
    assert mismatches(body, shape) == [], body


def assert_v2_error(answer, status, code=None):
    """The one shape of every refusal of API v2."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert_shape(body, {"message": str, "error_message": str, "code": str, "request_id": str})
    assert body["message"] == body["error_message"] != ""
    assert body["request_id"] and re.fullmatch(r"[a-z0-9_]+", body["code"])
    assert code in (None, body["code"])


def assert_v1_error(answer, status=400):
    assert answer.status_code == status, answer.text
    assert_shape(answer.json(), {"error_message": str})
    assert answer.json()["error_message"]
