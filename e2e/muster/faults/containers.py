"""The kinds of steps that run containers, on a real engine with a real registry."""

import json
import os

from ..docker import PASSWORD, USER, Engine, Registry
from ..waiting import eventually
from .kinds import KINDS as KINDS_OF_FILES
from .kinds import MIDDLE, REVERTED, Kind
from .stand import picture

# Ends at once when it is told to, unlike a first process that knows no signal.
SERVE = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
IMAGE = "shop/app"


class Containers:
    """An engine, and a registry with an image; the account calls it `images`."""

    def __init__(self, stand):
        self.engine = Engine().start()
        self.registry = Registry(stand.folder / "registry")
        image = f"{self.registry.address}/{IMAGE}:1"
        self.engine.make_image(image, f"CMD {json.dumps(SERVE)}", "LABEL made=now")
        self.engine.push(image)
        self.engine.make_image("local/old:1")
        stand.v2.create_registry(
            name="images", kind="docker", url=f"http://{self.registry.address}", username=USER, secret=PASSWORD
        )

    def close(self):
        self.engine.close()
        self.registry.close()


class Contained(Kind):
    """Held while its container waits to become healthy."""

    # An engine takes its time.
    anywhere_times = 5

    def prepare(self):
        self.engine = self.device.stand.containers(Containers).engine
        self.container = f"app-{self.device.folder.name}"
        self.device.agent.options = ["--docker-socket", str(self.engine.socket)]

    def hold(self):
        pass

    def let_go(self):
        self.device.open_gate(MIDDLE)

    def close(self):
        for container in self.engine.containers():
            if self.container in container["Names"][0]:
                self.engine.request("DELETE", f"/containers/{container['Id']}?force=true&v=true")


class Docker(Contained):
    """`connect/docker`, in place of a container that somebody made by hand."""

    name = "connect/docker"

    def prepare(self):
        super().prepare()
        policy = {"Name": "unless-stopped", "MaximumRetryCount": 0}
        self.old = self.engine.run(self.container, "local/old:1", SERVE, RestartPolicy=policy)

    def step(self):
        options = {
            "name": self.container, "network": "none", "restart": "always", "volumes": [f"{self.device.notes}:/notes"],
            "health-cmd": f"test -e /notes/{MIDDLE}", "health-interval-seconds": 1, "health-retries": 1000,
        }  # fmt: skip
        image = {"registry": "images", "image-path": IMAGE, "image-tag": "1"}
        return {"uses": "connect/docker", "with": {**image, "run-options": options, **REVERTED}}

    def is_held(self):
        found = self.engine.inspect(self.container)
        return found and found["Id"] != self.old and found["State"]["Running"]

    def picture(self):
        """What stands under the name, and beside it."""
        names = {name: runs for name, runs in self.engine.names().items() if self.container in name}
        return {"container": self.engine.picture(self.container), "names": names}

    def is_new(self):
        # What stood aside is removed once the run is over, beside the agent's work.
        eventually(lambda: self.picture()["names"] == {self.container: True}, what="the new container alone")
        return self.engine.inspect(self.container)["Id"] != self.old


class DockerCompose(Contained):
    """`connect/docker-compose`, in place of an earlier set."""

    name = "connect/docker-compose"

    def begin(self):
        self.device.update([self._step("old", {})])
        self.before = self.picture()

    def step(self):
        test = ["CMD", "test", "-e", f"/notes/{MIDDLE}"]
        check = {"healthcheck": {"test": test, "interval": "1s", "retries": 1000}}
        return self._step("new", {**check, "volumes": [f"{self.device.notes}:/notes"]})

    def _step(self, version, more):
        service = {"image": f"{self.device.stand.containers(Containers).registry.address}/{IMAGE}:1",
                   "network_mode": "none", "restart": "always", "environment": ["V=$V"], **more}  # fmt: skip
        compose = json.dumps({"version": "2.4", "services": {"a": service}})
        given = {"device-path": str(self.place), "project": self.container, "compose": compose, "registry": "images"}
        return {"uses": "connect/docker-compose", "with": {**given, "env": {"V": version}, "steady-seconds": 1, **REVERTED}}

    def is_held(self):
        return self.picture()["versions"] == [("V=new", True)]

    def picture(self):
        """Which set runs, and its files."""
        versions = []
        for listed in self.engine.containers():
            if listed["Labels"].get("com.docker.compose.project") == self.container:
                found = self.engine.inspect(listed["Id"])
                if found is None:
                    continue  # Compose has removed it since.
                version = next(word for word in found["Config"]["Env"] if word.startswith("V="))
                versions.append((version, found["State"]["Running"]))
        return {"versions": versions, **picture(self.place)}

    def is_new(self):
        names = sorted(os.listdir(self.place))
        return self.picture()["versions"] == [("V=new", True)] and names == [".muster-env.json", "docker-compose.yml"]


KINDS = {**KINDS_OF_FILES, **{kind.name: kind for kind in (Docker, DockerCompose)}}
