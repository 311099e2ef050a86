"""Callers of the two APIs. They send what they are given and hand back the bare answer."""

import requests

from .waiting import eventually

TIMEOUT_SECONDS = 30
FINAL_STATUSES = {"Succeeded", "Failed", "Aborted"}


class V1:
    """API v1: tokens in the body, also of GET and DELETE."""

    def __init__(self, server, user_token):
        self.server = server
        self.user_token = user_token

    def call(self, method, path, body=None, **request_options):
        """`body` with the account's token added, unless it brings one (or `None`) itself."""
        if body is not None:
            request_options["json"] = {"user_token": self.user_token, **body}
        url = f"{self.server.url}{path}"
        return requests.request(method, url, timeout=TIMEOUT_SECONDS, **request_options)

    def delete_tag(self, tag_name, device_filter):
        return self.call("DELETE", "/v1/device_tags", {"tag_name": tag_name, "device_filter": device_filter})

    def delete_app(self, app_name, device_filter):
        return self.call("DELETE", "/v1/device_apps", {"app_name": app_name, "device_filter": device_filter})

    def details(self, **body):
        return self.call("GET", "/v1/devices_details", body)

    def change(self, device_token, **body):
        return self.call("POST", "/v1/devices_details", {"device_token": device_token, **body})

    def device_state(self, **body):
        return self.call("GET", "/v1/get_device_state", body)

    def devices_state(self, **body):
        return self.call("GET", "/v1/get_devices_state", body)

    def set_trigger(self, device_token, is_set):
        body = {"device_token": device_token, "trigger_set": is_set}
        return self.call("POST", "/v1/set_update_trigger", body)

    def state(self, device_uuid):
        """`online` or `offline`."""
        answer = self.device_state(device_id=device_uuid)
        assert answer.status_code == 200, answer.text
        return answer.json()["message"]["device_status"]

    def device(self, device_token):
        """The details of one device."""
        answer = self.details(device_token=device_token)
        assert answer.status_code == 200, answer.text
        (device,) = answer.json()["message"]
        return device

    def every_device(self, project_name):
        """The details of all devices, page by page."""
        devices, more, offset = [], True, {}
        while more:
            answer = self.details(project_name=project_name, limit=50, **offset)
            assert answer.status_code == 200, answer.text
            page, more = answer.json()["message"], answer.json()["more"]
            devices += page
            offset = {"offset": page[-1]["device_id"]} if page else {}
        return devices


class V2:
    """API v2 of one fleet: an access token in the header."""

    def __init__(self, server, account):
        self.server = server
        self.access_token = account.access_token
        self.project_key = account.project_key

    def call(self, method, path, token=None, project_key=None, headers=None, **request_options):
        url = f"{self.server.url}/api/v2/{project_key or self.project_key}{path}"
        headers = {"Authorization": f"Bearer {token or self.access_token}", **(headers or {})}
        return requests.request(method, url, headers=headers, timeout=TIMEOUT_SECONDS, **request_options)

    def get(self, path, **params):
        return self.call("GET", path, params=params)

    def post(self, path, body=None):
        return self.call("POST", path, json=body) if body is not None else self.call("POST", path)

    def patch(self, device_uuid, *operations):
        return self.call("PATCH", f"/devices/{device_uuid}", json={"operations": list(operations)})

    def create_group(self, name):
        answer = self.post("/groups", {"name": name})
        assert answer.status_code == 201, answer.text

    def create_app(self, name):
        answer = self.post("/apps", {"name": name})
        assert answer.status_code == 201, answer.text

    def add_tags(self, device_uuid, *names):
        answer = self.patch(device_uuid, {"op": "add", "path": "tags", "value": list(names)})
        assert answer.status_code == 200, answer.text

    def tags(self, device_uuid):
        return self.get(f"/devices/{device_uuid}", enrich_info="true").json()["tags"]

    def create_registry(self, **registry):
        """A registry of the account."""
        answer = self.call("POST", "/registries", project_key="account", json=registry)
        assert answer.status_code == 201, answer.text

    def create_flows(self, yaml, content_type="application/yaml"):
        return self.call("POST", "/update-flows", data=yaml.encode(), headers={"Content-Type": content_type})

    def create_flow(self, yaml):
        """The uuid of the first flow in `yaml`."""
        answer = self.create_flows(yaml)
        assert answer.status_code == 201, answer.text
        return answer.json()["update_flows"][0]["uuid"]

    def try_deploy(self, flow_uuid, *device_uuids, **configuration):
        """Deploys to those devices, or to the whole fleet when none is named."""
        filters = [{"type": "specific_device", "operand": "is", "value": uuid} for uuid in device_uuids]
        body = {
            "device_filter": {"groups": [], "filters": filters},
            "deployment_configuration": {"flow_uuid": flow_uuid, **configuration},
        }
        return self.post("/deployments", body)

    def deploy(self, flow_uuid, *device_uuids, **configuration):
        answer = self.try_deploy(flow_uuid, *device_uuids, **configuration)
        assert answer.status_code == 201, answer.text
        return answer.json()["deployment_uuid"]

    def target(self, deployment_uuid, device_uuid, **params):
        """Where one device of a deployment stands."""
        answer = self.get(f"/deployments/{deployment_uuid}/devices/{device_uuid}", **params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait_for_status(self, deployment_uuid, device_uuid, status):
        """The target, once it stands so; one that ended otherwise is an error at once."""

        def reached():
            target = self.target(deployment_uuid, device_uuid, enrich_info="true")
            if target["status"] in FINAL_STATUSES - {status}:
                raise RuntimeError(f"waited for {status}, and got {target}")
            return target["status"] == status

        eventually(reached, what=f"{status} in {deployment_uuid} on {device_uuid}")
        return self.target(deployment_uuid, device_uuid)

    def targets(self, deployment_uuid):
        answer = self.get(f"/deployments/{deployment_uuid}/devices")
        assert answer.status_code == 200, answer.text
        return answer.json()["deployment_by_device_uuid"]
