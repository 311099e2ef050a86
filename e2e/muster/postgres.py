"""A PostgreSQL of the tests' own."""

import itertools
import subprocess

from .binaries import E2E_DIR
from .process import STOP_SECONDS, run

SCRIPT = E2E_DIR / "private-postgres"


class PrivatePostgres:
    """One cluster, which ends when this process ends, however it ends."""

    def __init__(self):
        self.child = subprocess.Popen(
            [str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.base_url = self.child.stdout.readline().strip()
        if not self.base_url:
            raise RuntimeError(f"{SCRIPT} ended with {self.child.wait()}; it says why on standard error")
        self._numbers = itertools.count(1)
        where = run(SCRIPT, "--where")
        self._psql = f"{where.stdout.strip()}/psql"

    def create_database(self):
        """The URL of a fresh, empty database."""
        name = f"test{next(self._numbers)}"
        self.sql("postgres", f"create database {name}")
        return f"{self.base_url}/{name}"

    def sql(self, database, statement):
        """What `psql` prints for one statement, unaligned."""
        done = run(self._psql, "-X", "-v", "ON_ERROR_STOP=1", "-Atc", statement, f"{self.base_url}/{database}")
        if done.returncode != 0:
            raise RuntimeError(f"psql: {done.stderr}")
        return done.stdout

    def restart(self):
        """Ends it as a crash would, and starts it again, on the same port and data."""
        self.child.stdin.write("restart\n")
        self.child.stdin.flush()
        if self.child.stdout.readline() != "restarted\n":
            raise RuntimeError(f"{SCRIPT} ended with {self.child.wait()}; it says why on standard error")

    def stop(self):
        self.child.stdin.close()
        self.child.stdout.close()
        self.child.wait(STOP_SECONDS)
