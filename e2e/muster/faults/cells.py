"""A cell of the matrix: one fault, at one moment of one kind of step, and how that ends."""

import contextlib
import itertools
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from ..api import FINAL_STATUSES
from ..flows import document
from ..waiting import eventually
from .breakages import BREAKAGES
from .containers import KINDS

MOMENTS = ("before", "during", "after", "in rollback")
# A device that has not ended by then is stuck. Far above what any cell takes.
PATIENCE_SECONDS = 90
GATE = "gate"
# Not held anywhere: broken at some moment of the whole run.
ANYWHERE = "anywhere"
ANYWHERE_BREAKAGES = ("kill -9 agent and its steps", "kill -9 agent", "kill -9 server", "PostgreSQL restarted")
# How often the fault strikes, and how far apart: a run that nothing disturbs takes about 0.1 s.
STRIKES = 3
STRIKE_SECONDS_MAX = 0.12


@dataclass
class Ending:
    """How a cell ended. `faults` is empty when every promise was kept."""

    status: str = "?"
    reason_code: str = ""
    seconds: float = 0.0
    faults: list = field(default_factory=list)


@dataclass(frozen=True)
class Cell:
    """One of the matrix."""

    kind: str
    breakage: str
    moment: str
    # Chooses what is left to chance, the same each time.
    seed: int = 0

    def __str__(self):
        return f"{self.breakage} | {self.moment}{self.seed or ''} | {self.kind}"


def every_cell():
    return [Cell(*words) for words in itertools.product(KINDS, BREAKAGES, MOMENTS)]


def anywhere():
    """The faults that strike between two instructions, at moments that nobody chose."""
    pairs = itertools.product(KINDS.values(), ANYWHERE_BREAKAGES)
    return [Cell(kind.name, breakage, ANYWHERE, seed) for kind, breakage in pairs for seed in range(1, kind.anywhere_times + 1)]


def short_form():
    """Every fault with every kind of step, and every moment with each of both."""
    numbered = itertools.product(enumerate(KINDS), enumerate(BREAKAGES))
    return [Cell(kind, breakage, MOMENTS[(i + j) % len(MOMENTS)]) for (i, kind), (j, breakage) in numbered]


def run_cell(cell, stand):
    """Brings a device to the cell's moment, breaks what is to break, and judges how it ends."""
    breakage = BREAKAGES[cell.breakage]()
    with contextlib.ExitStack() as stack:
        device = stack.enter_context(stand.device(breakage.has_small_disk))
        stack.callback(well_again, device)
        kind = KINDS[cell.kind](device)
        stack.callback(kind.close)
        return Course(cell, device, kind, breakage).run()


def well_again(device):
    """Whatever broke is whole for the next cell."""
    stand = device.stand
    stand.network.release()
    stand.network.mend()
    if stand.clock:
        stand.clock.jump(0)
    if not stand.server.process.is_running:
        stand.server.restart()


class Course:
    """What happens in one cell."""

    def __init__(self, cell, device, kind, breakage):
        self.cell, self.device, self.kind, self.breakage = cell, device, kind, breakage
        self.v2 = device.stand.v2
        self.chance = random.Random(str(cell))

    def run(self):
        device = self.device.start()
        device.wait_connected()
        self.kind.begin()
        if self.cell.moment == "during":
            self.kind.hold()
        else:
            self.kind.let_go()
        self.deployment = self.v2.deploy(self.v2.create_flow(self.flow()), device.uuid)
        if self.cell.moment == ANYWHERE:
            for _ in range(STRIKES):
                time.sleep(self.chance.uniform(0, STRIKE_SECONDS_MAX))
                began = self.strike()
        else:
            eventually(self.is_there, what=f"the moment of {self.cell}")
            began = self.strike()
        ending = self.end(began)
        ending.faults += self.judge(ending) if ending.status in FINAL_STATUSES else []
        return ending

    def strike(self):
        """The fault comes and goes; when it began."""
        began = time.monotonic()
        with self.breakage.broken(self.device):
            self.go_on()
        return began

    def flow(self):
        gate, last = {"run": self.device.wait_at(GATE)}, {"run": self.device.say("last")}
        first = {"run": self.device.say("first")}
        step = self.kind.step()
        match self.cell.moment:
            case "before":
                return document([gate, step, last])
            case "during":
                return document([first, step, last])
            case "after":
                return document([step, gate, last])
            case "anywhere":
                return document([first, step, self.chance.choice([last, {"run": "exit 3"}])])
        # Rollback actions run in the order of the steps: so the first one's holds up the step's own.
        held = {"run": self.device.wait_at(GATE), "trigger-revert": "any-step-failure"}
        return document([{**first, "on-failure": held}, step, {"run": "exit 3"}])

    def is_there(self):
        return self.kind.is_held() if self.cell.moment == "during" else self.device.is_at(GATE)

    def go_on(self):
        if self.cell.moment == "during":
            self.kind.let_go()
        else:
            self.device.open_gate(GATE)

    def end(self, began):
        ending = Ending()

        def has_ended():
            target = self.v2.target(self.deployment, self.device.uuid, enrich_info="true")
            ending.status, ending.reason_code = target["status"], target["reason_code"] or ""
            self.target = target
            return target["status"] in FINAL_STATUSES

        try:
            eventually(has_ended, timeout=PATIENCE_SECONDS)
            ending.seconds = time.monotonic() - began
            self.device.update([{"run": "true"}])
        except (AssertionError, RuntimeError) as error:
            ending.faults.append(f"stuck: {error}")
        return ending

    def judge(self, ending):
        """The promises that were not kept."""
        lines = Counter(self.device.lines())
        faults = [f"run twice: {line!r}" for line, count in lines.items() if count > 1 and not self.may_repeat(line)]
        if ending.reason_code.endswith(("_deadline", "_unconfirmed")):
            faults.append(f"ended by a deadline alone: {ending.reason_code}")
        if ending.status == "Succeeded":
            if self.cell.moment == "in rollback" or not self.kind.is_new() or lines["last"] != 1:
                faults.append(f"half changed: said to have succeeded, {self.kind.difference()}")
        elif not self.kind.is_old():
            faults.append(f"not restored: {self.kind.difference()}; steps {self.target['steps']}")
        return faults

    def may_repeat(self, line):
        return self.kind.is_repeatable and line.startswith("middle ")
