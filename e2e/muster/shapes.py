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


STATUS = one_of("online", "offline")
FILTER_STATUS = one_of("pending", "in_progress", "success", "failed", "aborted")
# A moment that has not come is printed as an empty string in `updates`.
TIME_OR_EMPTY = re.compile(rf"(?:{SPACED_TIME.pattern})?")
APP = {"app_name": str, "version": str}
APP_UPDATED = {"app_name": str, "app_new_version": str}

V1_UPDATE = {
    "update_id": int,
    "update_status": FILTER_STATUS,
    "update_version": str,
    "comment": str,
    "deployment_schedule_time": SPACED_TIME,
}

# The documents spell two keys in two ways; an answer may carry the second as well.
V1_UPDATE_V2 = {
    "flow_name": str,
    "update_status": FILTER_STATUS,
    "comment": str,
    "deployment_schedule_time": SPACED_TIME,
    "deployment_start_time": TIME_OR_EMPTY,
    "deployment_finish_time": TIME_OR_EMPTY,
    "apps_updated": list_of(APP_UPDATED),
    "deployment_type": one_of("manual", "api-deployment"),
}
V1_UPDATE_V2_ALIASES = {"deployment_status": FILTER_STATUS, "deployment_scheduled_time": SPACED_TIME}


def v1_update_v2(value):
    """An item of `updates_v2`, with or without its second spellings."""
    aliases = {key: kind for key, kind in V1_UPDATE_V2_ALIASES.items() if key in value}
    return matches(value, {**V1_UPDATE_V2, **aliases})


# A device that has been online; figures may be absent where the device cannot tell them.
V1_DEVICE = {
    "device_id": int,
    "device_uuid": DEVICE_UUID,
    "device_name": str,
    "upswift_version": str,
    "project": str,
    "group": str,
    "device_ip": str,
    "last_keepalive": SPACED_TIME,
    "cpu_usage": optional(percent),
    "ram_usage": optional(percent),
    "disk_usage": optional(NUMBER),
    "address": str,
    "lat": optional(NUMBER),
    "lng": optional(NUMBER),
    "is_update_trigger_set": bool,
    "description": str,
    "registered_date": SPACED_TIME,
    "tags": list_of(str),
    "updates": list_of(V1_UPDATE),
    "updates_v2": list_of(v1_update_v2),
    "apps": list_of(APP),
    "mac_addresses": list_of(str),
}

V1_STATE_ITEM = {"device_status": STATUS, "device_uuid": DEVICE_UUID, "device_name": str}

_V2_DEVICE = {
    "address": str,
    "agent_version": str,
    "cpu_usage": optional(NUMBER),
    "current_disk_usage": optional(int),
    "description": str,
    "device_ip": optional(str),
    "device_name": str,
    "device_status": STATUS,
    "device_uuid": DEVICE_UUID,
    "disk_size": optional(int),
    "group_name": str,
    "is_update_trigger_set": bool,
    "lat": optional(NUMBER),
    "lng": optional(NUMBER),
    "project": str,
    "ram_usage": optional(NUMBER),
}
# The list prints its moments otherwise than the single device.
V2_LISTED_DEVICE = {**_V2_DEVICE, "last_keepalive": optional(RFC3339_TIME), "registered_date": RFC3339_TIME}
V2_DEVICE = {**_V2_DEVICE, "last_keepalive": optional(TIME_OR_EMPTY), "registered_date": SPACED_TIME}
V2_UPDATE = {
    "apps_updated": list_of(APP_UPDATED),
    "comment": str,
    "deployment_finish_time": TIME_OR_EMPTY,
    "deployment_schedule_time": SPACED_TIME,
    "deployment_start_time": TIME_OR_EMPTY,
    "deployment_status": FILTER_STATUS,
    "deployment_type": one_of("manual", "api-deployment"),
    "flow_name": str,
}
V2_ENRICHED_DEVICE = {
    **V2_DEVICE,
    "apps": list_of(APP),
    "mac_address": list_of(str),
    "tags": list_of(str),
    "updates": list_of(V2_UPDATE),
}
V2_PAGE = {"after": optional(str), "total": int}
V2_DEPLOYMENT = {
    "comment": str,
    "created_time": SPACED_TIME,
    "cve_severity": lambda value: value is None,
    "Critical": int,
    "High": int,
    "Low": int,
    "Medium": int,
    "deployment_uuid": DEPLOYMENT_UUID,
    "type": one_of("manual", "api-deployment"),
}
V2_FLOW = {
    "name": str,
    "uuid": FLOW_UUID,
    "update_parameters": list_of(str),
    "created_time": SPACED_TIME,
    "cve_severity": optional(str),
}
V2_TARGET = {
    "finished_time": optional(SPACED_TIME),
    "started_time": optional(SPACED_TIME),
    "status": one_of("Pending", "In Progress", "Succeeded", "Failed", "Aborted"),
}
V2_STEP = {"exit_code": optional(int), "name": str, "stderr": str, "stdout": str}
V2_TARGET_WITH_STEPS = {**V2_TARGET, "steps": list_of(V2_STEP)}


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
