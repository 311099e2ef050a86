"""The command line as a client, with a home of its own."""

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios

from .binaries import binary
from .process import clean_environment

TIMEOUT_SECONDS = 120


class Client:
    """Runs `muster` commands for one account; `login` makes it need no environment any more."""

    def __init__(self, folder, server, account, is_logged_in=True):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.account = account
        self.settings = {"XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
        if is_logged_in:
            self.settings |= {
                "MUSTER_URL": server.url,
                "MUSTER_TOKEN": account.access_token,
                "MUSTER_FLEET": account.project_key,
            }

    @property
    def file(self):
        return self.folder / "muster" / "client.toml"

    def environment(self, **extra):
        return clean_environment(**{**self.settings, **extra})

    def run(self, *words, stdin="", env=None):
        """The finished process, whatever its exit code."""
        done = subprocess.run(
            [binary("muster"), *(str(word) for word in words)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            env=env or self.environment(),
            check=False,
        )
        # Whatever a command says: a token is in what made it, and nowhere else.
        assert self.account.access_token not in done.stdout + done.stderr
        return done

    def ok(self, *words, stdin=""):
        """What a command that succeeds prints."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words, stdin=""):
        """What a command prints with --json."""
        return json.loads(self.ok(*words, "--json", stdin=stdin))

    def table(self, *words):
        """The lines of a table, each as a list of its words."""
        return [line.split() for line in self.ok(*words).splitlines()]

    def refused(self, code, *words, stdin=""):
        """What a command that ends with that exit code says on standard error; it prints nothing else."""
        done = self.run(*words, stdin=stdin)
        assert (done.returncode, done.stdout) == (code, ""), f"{words}: {done}"
        return done.stderr

    def on_terminal(self, *words, answers=(), columns=100, **extra):
        """Exit code and everything shown by a command whose streams are all one terminal.

        `answers` are pairs: what is typed once that prompt is there, or what is done then.
        """
        environment = self.environment(TERM="xterm-256color", **extra)
        pid, terminal = pty.fork()
        if pid == 0:
            set_width(1, columns)
            os.execve(binary("muster"), [binary("muster"), *(str(word) for word in words)], environment)
        return ended(pid, terminal, list(answers))


def set_width(terminal, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))


def ended(pid, terminal, answers):
    """Everything that came from the terminal until its program ended."""
    shown = b""
    while True:
        readable, _, _ = select.select([terminal], [], [], TIMEOUT_SECONDS)
        assert readable, f"silent for {TIMEOUT_SECONDS} s after {shown!r}"
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other end is closed.
            part = b""
        if not part:
            break
        shown += part
        if answers and answers[0][0].encode() in shown:
            _, reply = answers.pop(0)
            if callable(reply):
                reply()
            else:
                os.write(terminal, f"{reply}\n".encode())
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode(errors="replace")
