"""A Muster server with its own data, on a port of its own."""

import json
from dataclasses import dataclass
from pathlib import Path

from .binaries import binary
from .process import Process, clean_environment, run

# High enough never to disturb; the tests of the limit itself give their own.
NO_LIMIT = 1_000_000


@dataclass(frozen=True)
class Account:
    """What `muster admin bootstrap` hands over."""

    admin_user: str
    admin_password: str
    user_token: str
    access_token: str
    pairing_token: str
    project_key: str
    project_name: str


class Server:
    """One data folder, at most one database, and the process that serves them."""

    def __init__(self, folder, database_url=None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = self.folder / "data"
        self.database_url = database_url
        self.process = None
        self.port = 0
        self.scheme = "http"
        self.options = []
        # What its process finds in its environment besides.
        self.environment = {}

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def storage(self):
        """The options that say where the data are, the same for every command."""
        options = ["--data", self.data]
        return options + ["--database-url", self.database_url] if self.database_url else options

    def start(self, v1_device_calls=NO_LIMIT, v1_account_calls=NO_LIMIT, options=(), environment=None):
        self.environment = environment or self.environment
        self.options = [
            "--address-calls-per-minute", NO_LIMIT, "--access-token-calls-per-minute", NO_LIMIT,
            "--access-key-calls-per-minute", NO_LIMIT,
            "--login-attempts-per-minute", NO_LIMIT, "--agent-api-calls-per-minute", NO_LIMIT, "--log-file-calls-per-minute", NO_LIMIT,
            "--v1-device-calls-per-minute", v1_device_calls,
            "--v1-account-calls-per-minute", v1_account_calls,
            "--tunnel-ports", 0, *options,
        ]  # fmt: skip
        return self._launch()

    def _launch(self):
        listen = f"127.0.0.1:{self.port}"
        command = [binary("muster"), "serve", *self.storage(), "--listen", listen, *self.options]
        self.process = Process(command, self.folder / "server.log", clean_environment(**self.environment))
        found = self.process.wait_for_line(r"listening on (https?)://127\.0\.0\.1:(\d+)")
        self.scheme, self.port = found.group(1), int(found.group(2))
        return self

    def admin(self, *words):
        """Runs `muster admin …` on this server's data."""
        return run(binary("muster"), "admin", *words, *self.storage())

    def bootstrap(self, account=None):
        named = ["--account", account] if account else []
        done = self.admin("bootstrap", "--json", *named)
        assert done.returncode == 0, f"bootstrap: {done.stderr}{done.stdout}"
        return Account(**json.loads(done.stdout))

    def stop(self):
        code = self.process.stop()
        assert code == 0, f"SIGTERM should end the server well, not with {code}:\n{self.process.output()}"

    def kill9(self):
        self.process.kill9()

    def restart(self):
        """On the same port and data, whether the process still runs or was killed."""
        if self.process.is_running:
            self.stop()
        return self._launch()
