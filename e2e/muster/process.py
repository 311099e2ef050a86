"""One child process: its output in a file, its end by its own id."""

import os
import re
import subprocess
from pathlib import Path

from .waiting import eventually

STOP_SECONDS = 120


def clean_environment(**extra):
    """The environment without settings of Muster's own that a developer may have exported."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MUSTER_")}
    return {**kept, **{key: str(value) for key, value in extra.items()}}


def run(*command, timeout=60, env=None, **options):
    """Runs `command` to its end, with no standard input; what it printed is kept as text."""
    return subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=env or clean_environment(),
        check=False,
        **options,
    )


class Process:
    """A child that runs until it is stopped or killed."""

    def __init__(self, command, log_path, env=None):
        self.command = [str(word) for word in command]
        self.log_path = Path(log_path)
        # Appended to, so that the log of a restarted program shows both lives.
        self.begin = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env or clean_environment(),
            )

    @property
    def pid(self):
        return self.child.pid

    @property
    def is_running(self):
        return self.child.poll() is None

    def output(self):
        """What this life of the program has printed so far."""
        with self.log_path.open("rb") as log:
            log.seek(self.begin)
            return log.read().decode(errors="replace")

    def wait_for_line(self, pattern, timeout=60):
        """The match of `pattern` in the output; an early end of the program is an error that shows it."""

        def seen():
            found = re.search(pattern, self.output(), re.MULTILINE)
            if found is None and not self.is_running:
                raise RuntimeError(
                    f"{self.command} ended with {self.child.returncode} before printing {pattern!r}:\n{self.output()}"
                )
            return found

        return eventually(seen, timeout, what=f"{pattern!r} in the output of {self.command[0]}")

    def stop(self):
        """SIGTERM; returns the exit code. A program that does not end is killed, and that is an error."""
        if self.is_running:
            self.child.terminate()
        try:
            return self.child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(
                f"{self.command} did not end within {STOP_SECONDS} s of SIGTERM:\n{self.output()}"
            ) from None

    def kill9(self):
        """SIGKILL: no chance to write anything more."""
        if self.is_running:
            self.child.kill()
        self.child.wait(STOP_SECONDS)
