"""Update flows whose course a test can watch and hold up."""

import json
from pathlib import Path

# JSON strings are YAML strings, so a script needs no quoting rules of its own.
quoted = json.dumps


def flow(name, steps, inputs=()):
    """A document with one flow of `run` steps: pairs of a name and a shell script."""
    lines = ["flows:", f"  {quoted(name)}:", "    steps:"]
    for step, script in steps:
        lines += [f"      - name: {quoted(step)}", f"        run: {quoted(script)}"]
    if inputs:
        lines += ["on:", "  workflow-dispatch:", "    inputs:"]
        lines += [f"      {quoted(given)}: {{}}" for given in inputs]
    return "\n".join(lines) + "\n"


def document(steps):
    """A flow of steps as the flow language has them, named in their order. JSON is YAML."""
    named = [{"name": f"step {number}", **step} for number, step in enumerate(steps, 1)]
    return json.dumps({"flows": {"update": {"steps": named}}})


class GatedFlow:
    """Three steps that each add to one file; the middle one waits until the test opens its gate.

    The middle step writes before and after its wait, so that a step which is begun
    twice shows, and so does one whose end is lost.
    """

    BEGUN = ["first", "middle begun"]
    ALL = ["first", "middle begun", "middle done", "last"]

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path, self.gate, self.pid_path = (self.folder / name for name in ("lines", "gate", "pid"))

    def document(self):
        say = f">> '{self.path}'"
        middle = (
            f"echo $$ > '{self.pid_path}'; echo 'middle begun' {say}; "
            f"while [ ! -e '{self.gate}' ]; do sleep 0.1; done; echo 'middle done' {say}"
        )
        return flow("gated", [("one", f"echo first {say}"), ("two", middle), ("three", f"echo last {say}")])

    def lines(self):
        return self.path.read_text().splitlines() if self.path.exists() else []

    def is_in_the_middle(self):
        return self.lines()[:2] == self.BEGUN

    def open_gate(self):
        self.gate.touch()

    def is_middle_alive(self):
        """Whether the shell of the middle step still runs."""
        stat = Path(f"/proc/{self.pid_path.read_text().strip()}/stat")
        try:
            # A zombie has ended; it only waits to be reaped.
            return stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except FileNotFoundError:
            return False
