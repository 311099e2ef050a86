"""A fleet's whole life, told with nothing but `requests` and the calls of the vendor's pages.

What those pages do not have (a second fleet, a group, an app by call) stands in
`Owner`, so that the story itself stays what a script of theirs would be.
"""

import json

import requests

from muster.waiting import eventually

FLOW = """\
flows:
  Greeting:
    steps:
      - name: greet
        run: test "${{ inputs.mood }}" = kind && echo "hello from $(hostname)"
'on':
  workflow-dispatch:
    inputs:
      mood: {}
"""
ENDLESS_FLOW = """\
flows:
  Endless:
    steps:
      - name: wait
        run: sleep 600
"""


class Script:
    """The calls as the pages print them: a JSON content, a method, an address."""

    def __init__(self, world):
        self.base, self.account = world.server.url, world.account
        self.v2 = f"{self.base}/api/v2/{self.account.project_key}"
        self.headers = {"Authorization": f"Bearer {self.account.access_token}"}

    def old(self, method, path, **json_content):
        """API v1: the token is in the JSON content, and 200 is the only good status."""
        json_content["user_token"] = self.account.user_token
        call_request = requests.request(method, f"{self.base}{path}", json=json_content, timeout=30)
        assert call_request.status_code == 200, call_request.text
        return json.loads(call_request.content)["message"]

    def new(self, method, path, status, **request_options):
        headers = {**self.headers, **request_options.pop("headers", {})}
        call_request = requests.request(method, f"{self.v2}{path}", headers=headers, timeout=30, **request_options)
        assert call_request.status_code == status, call_request.text
        return call_request.json() if call_request.text else None

    def change(self, device, op, path, value):
        operations = [{"op": op, "path": path, "value": value}]
        return self.new("PATCH", f"/devices/{device.uuid}", 200, json={"operations": operations})

    def flow(self, document):
        made = self.new("POST", "/update-flows", 201, data=document, headers={"Content-Type": "application/yaml"})
        return made["update_flows"][0]["uuid"]

    def filter(self, *filters, groups=()):
        return {
            "project": {"name": self.account.project_name},
            "groups": [{"name": group} for group in groups],
            "filters": [{"type": kind, "operand": operand, "value": value, **more}
                        for kind, operand, value, more in filters],
        }  # fmt: skip

    def deploy(self, flow_uuid, device_filter, **configuration):
        """Deploys through v2, whose filter names no project; answers with the deployment's uuid."""
        without_project = {key: value for key, value in device_filter.items() if key != "project"}
        configuration = {"flow_uuid": flow_uuid, **configuration}
        body = {"device_filter": without_project, "deployment_configuration": configuration}
        return self.new("POST", "/deployments", 201, json=body)["deployment_uuid"]

    def statuses(self, deployment):
        devices = self.new("GET", f"/deployments/{deployment}/devices", 200)["deployment_by_device_uuid"]
        return {uuid: target["status"] for uuid, target in devices.items()}

    def tags(self, device):
        return self.new("GET", f"/devices/{device.uuid}", 200, params={"enrich_info": "true"})["tags"]

    def group(self, device):
        return self.new("GET", f"/devices/{device.uuid}", 200)["group_name"]


class Owner:
    """What the vendor has in its console only."""

    def __init__(self, script):
        self.script = script
        self.account_url = f"{script.base}/api/v2/account"

    def make(self, path, **body):
        answer = requests.post(f"{self.account_url}{path}", json=body, headers=self.script.headers, timeout=30)
        assert answer.status_code == 201, answer.text
        return answer.json()


def test_a_fleet_lives(own_world):
    """Enrol, tag, app, group, move, flow, deploy, filter by result, abort, delete a tag by filter."""
    script = Script(own_world)
    owner = Owner(script)
    owner.make("/fleets", project_key="depot", name="Depot")
    owner.make("/apps", name="greeter")
    script.new("POST", "/groups", 201, json={"name": "Shop floor"})

    # Enrol: three real devices; the third stays off.
    north, south = own_world.online_device(name="north"), own_world.online_device(name="south")
    spare = own_world.device(name="spare")
    states = script.old("GET", "/v1/get_devices_state", project_name=script.account.project_name)
    assert {state["device_name"]: state["device_status"] for state in states} == {
        "north": "online", "south": "online", "spare": "offline",
    }  # fmt: skip

    # Tag, app, group: once through each API.
    said = script.old("POST", "/v1/devices_details", device_token=north.token, tag="shop", group="Shop floor")
    assert said == "Success"
    script.change(south, "add", "tags", ["shop", "two words"])
    script.change(south, "add", "apps", [{"app_name": "greeter", "version": "0.9"}])
    script.change(south, "replace", "group_name", "Shop floor")
    assert (script.tags(north), sorted(script.tags(south))) == (["shop"], ["shop", "two words"])
    assert (script.group(north), script.group(south), script.group(spare)) == ("Shop floor",) * 2 + ("Production",)

    # Move: to another fleet, where it is no longer this one's.
    destination = {"destination_project_key": "depot", "destination_group_name": "Test"}
    moved = script.new("POST", f"/devices/{spare.uuid}/move", 200, json=destination)
    assert moved == {"message": "Device moved successfully"}
    script.new("GET", f"/devices/{spare.uuid}", 404)

    # Flow and deployment: what is said to north only is kind, so south fails.
    flow = script.flow(FLOW)
    app = {"name": "greeter", "version": "1.0"}
    here = script.filter(("tag", "is", "shop", {}), groups=["Shop floor"])
    kind_to_north = script.filter(("specific_device", "is", north.uuid, {}), groups=["Shop floor"])
    good = script.deploy(flow, kind_to_north, app=app, parameters_mapping={"mood": "kind"})
    eventually(lambda: script.statuses(good) == {north.uuid: "Succeeded"}, what="north greets")
    steps = script.new("GET", f"/deployments/{good}/devices/{north.uuid}", 200)["steps"]
    assert [(step["name"], step["exit_code"]) for step in steps] == [("greet", 0)]
    assert steps[0]["stdout"].startswith("hello from ")
    mixed = script.deploy(flow, here, app=app, parameters_mapping={"mood": "rough"})
    eventually(lambda: set(script.statuses(mixed).values()) == {"Failed"}, what="both refuse to be rough")

    # The app stands where the flow succeeded, and nowhere else.
    details = script.old("GET", "/v1/devices_details", project_name=script.account.project_name)
    assert {device["device_name"]: device["apps"] for device in details} == {
        "north": [{"app_name": "greeter", "version": "1.0"}],
        "south": [{"app_name": "greeter", "version": "0.9"}],
    }

    # Filter by a deployment's result: those that failed are tried again, the API v1 way.
    failed = script.filter(("deployment", "is", "failed", {"deployment_id": mixed}))
    configuration = {"flow_id": flow, "comment": "again", "app": app, "parameters_mapping": {"mood": "kind"}}
    again = script.old("POST", "/v2/deploy_update", device_filter=failed, deployment_configuration=configuration)
    assert again == "Created"
    newest = script.new("GET", "/deployments", 200, params={"limit": 1})["deployments"][0]
    assert (newest["comment"], newest["type"]) == ("again", "api-deployment")
    retried = newest["deployment_uuid"]
    expected = {north.uuid: "Succeeded", south.uuid: "Succeeded"}
    eventually(lambda: script.statuses(retried) == expected, what="both greet")

    # Abort: one device first, then the rest.
    endless = script.deploy(script.flow(ENDLESS_FLOW), here)
    eventually(lambda: set(script.statuses(endless).values()) == {"In Progress"}, what="both wait")
    said = script.new("POST", f"/deployments/{endless}/devices/{north.uuid}/abort", 201)
    assert said == {"message": "Deployment for device aborted successfully"}
    eventually(lambda: script.statuses(endless)[north.uuid] == "Aborted", what="north is told to stop")
    assert script.statuses(endless)[south.uuid] == "In Progress"
    said = script.new("POST", f"/deployments/{endless}/abort", 201)
    assert said == {"message": "Deployment aborted successfully"}
    eventually(lambda: set(script.statuses(endless).values()) == {"Aborted"}, what="south is told to stop")

    # Delete the tag: of those only whose newest update was aborted, that bear the app, and are here.
    narrowed = script.filter(
        ("update_status", "is", "aborted", {}),
        ("app", "is", "greeter", {}),
        ("specific_device", "is_not", south.uuid, {}),
        groups=["Shop floor"],
    )
    assert script.old("DELETE", "/v1/device_tags", tag_name="shop", device_filter=narrowed) == "Success"
    assert (script.tags(north), sorted(script.tags(south))) == ([], ["shop", "two words"])
    assert script.old("DELETE", "/v1/device_tags", tag_name="shop", device_filter=script.filter()) == "Success"
    assert script.tags(south) == ["two words"]
