"""The Tag Service as programs speak it: the base clients of BCE's SDKs for Python and for JavaScript.

Both are driven generically, as neither has a client of its own for the Tag Service.
"""

import json
import subprocess
from dataclasses import dataclass

from baidubce.auth.bce_credentials import BceCredentials
from baidubce.bce_base_client import BceBaseClient
from baidubce.bce_client_configuration import BceClientConfiguration
from baidubce.exception import BceHttpClientError, BceServerError
from baidubce.retry.retry_policy import NoRetryPolicy

from .binaries import REPOSITORY_DIR
from .process import clean_environment

JS_DIR = REPOSITORY_DIR / "e2e/js"
JSON_TYPE = b"application/json; charset=utf-8"


class Refused(Exception):
    """What a stack's own exception told."""

    def __init__(self, status, code, message, request_id):
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message, self.request_id = status, code, message, request_id


@dataclass(frozen=True)
class AccessKey:
    access_key_id: str
    secret_access_key: str


def access_key(server, *options):
    """Makes one beside the running server, as an operator would."""
    done = server.admin("access-key", "create", "--json", *options)
    assert done.returncode == 0, f"access-key create: {done.stderr}{done.stdout}"
    return AccessKey(**json.loads(done.stdout))


class _PythonClient(BceBaseClient):
    def _compute_service_id(self):
        return "tag"

    def send(self, method, path, params, body):
        return self._send_request(method, path, headers={b"Content-Type": JSON_TYPE}, params=params, body=body)


class PythonStack:
    name = "python"

    def __init__(self, server, key):
        credentials = BceCredentials(key.access_key_id, key.secret_access_key)
        endpoint = f"127.0.0.1:{server.port}"
        config = BceClientConfiguration(credentials=credentials, endpoint=endpoint, retry_policy=NoRetryPolicy())
        self.client = _PythonClient(config)

    def call(self, method, path, params, body):
        text = None if body is None else json.dumps(body)
        params = {name.encode(): value.encode() for name, value in params.items()}
        try:
            answer = self.client.send(method.encode(), path.encode(), params, text)
        except BceHttpClientError as error:
            told = error.last_error
            assert isinstance(told, BceServerError), repr(told)
            raise Refused(told.status_code, told.code, str(told), told.request_id) from error
        assert answer.metadata.bce_request_id
        raw = getattr(answer, "raw_data", None)
        return json.loads(raw) if raw else None

    def close(self):
        pass


class JavaScriptStack:
    name = "javascript"

    def __init__(self, server, key):
        command = ["node", JS_DIR / "tag_service.js", server.url, key.access_key_id, key.secret_access_key]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_environment()
        )

    def call(self, method, path, params, body):
        request = {"method": method, "path": path, "params": params, "body": None if body is None else json.dumps(body)}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "node ended"
        told = json.loads(line)
        assert told["request_id"]
        if told["status"] != 200:
            raise Refused(told["status"], told["code"], told["message"], told["request_id"])
        return told["body"] or None

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


STACKS = [PythonStack, JavaScriptStack]


def pair(tag):
    """`("key", "value")` as bodies have it."""
    return {"tagKey": tag[0], "tagValue": tag[1]}


class TagService:
    """The nine operations, over either stack."""

    def __init__(self, stack):
        self.stack = stack

    def call(self, method, path, params=None, body=None):
        return self.stack.call(method, path, params or {}, body)

    def create(self, *tags):
        return self.call("PUT", "/v1/tag", {"create": ""}, {"tags": [pair(tag) for tag in tags]})

    def delete(self, *tags):
        return self.call("PUT", "/v1/tag", {"delete": ""}, {"tags": [pair(tag) for tag in tags]})

    def tags(self, **params):
        listed = self.call("GET", "/v1/tag", params)["tags"]
        return [(tag["tagKey"], tag["tagValue"]) for tag in listed]

    def resources(self, **params):
        listed = self.call("GET", "/v1/tag/tagResources", params)["tagResources"]
        of = lambda it: (it["resourceType"], it["region"], it["resourceId"])  # noqa: E731
        return {(tag["tagKey"], tag["tagValue"]): [of(it) for it in tag["resources"]] for tag in listed}

    def bind(self, tag, *resources):
        return self.call("POST", "/v1/resource", body=self._binding(tag, resources))

    def unbind(self, tag, *resources):
        return self.call("PUT", "/v1/resource", body=self._binding(tag, resources))

    @staticmethod
    def _binding(tag, resources):
        return {**pair(tag), "serviceType": resources[0]["serviceType"], "resources": list(resources)}

    def clear(self, resource):
        return self.call("PUT", "/v1/tag", {"deleteTagAssociation": ""}, {"resource": resource})

    def assign(self, resource, *tags):
        whole = {**resource, "resourceUuid": "", "associationType": "floating", "tags": [pair(tag) for tag in tags]}
        return self.call("POST", "/v1/tag", {"createAndAssign": ""}, {"resources": [whole]})

    def query(self, body, is_strong=False, has_path=True):
        strong = {"strongAssociation": "true"} if is_strong else {}
        if has_path:
            found = self.call("POST", "/v1/tag/queryFullList", strong, body)
        else:
            found = self.call("POST", "/v1/tag", {"queryFullList": "", **strong}, body)
        return found["tagAssociationFulls"]


def device_resource(world, device):
    return {"serviceType": "DEVICE", "region": world.account.project_key, "resourceId": device.uuid}
