"""What the matrix found, as a table for people and as figures for programs."""

import json

from .breakages import BREAKAGES
from .cells import ANYWHERE, MOMENTS
from .containers import KINDS

# What is counted, and how a broken promise begins.
PROMISES = {
    "stuck": "stuck",
    "ended by a deadline alone": "ended by a deadline",
    "steps run twice": "run twice",
    "half changed": "half changed",
    "not restored": "not restored",
    "not carried out": "not carried out",
}
LETTERS = {"Succeeded": "S", "Failed": "F", "Aborted": "A"}


class Report:
    """The cells that have ended, in no order."""

    def __init__(self):
        self.endings = {}

    def add(self, cell, ending):
        self.endings[cell] = ending

    def broken(self):
        """The cells that broke a promise."""
        return {cell: ending for cell, ending in self.endings.items() if ending.faults}

    def counts(self):
        told = [fault for ending in self.endings.values() for fault in ending.faults]
        return {name: sum(fault.startswith(begin) for fault in told) for name, begin in PROMISES.items()}

    def table(self):
        """Markdown: a row for each fault, a column for each kind of step."""
        head = ["", *(f"`{kind}`" for kind in KINDS)]
        lines = [head, ["---"] * len(head)]
        lines += [[breakage, *(self._entry(kind, breakage) for kind in KINDS)] for breakage in BREAKAGES]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _entry(self, kind, breakage):
        moments = [self._letter(kind, breakage, moment) for moment in MOMENTS]
        anywhere = [cell for cell in self.endings if (cell.kind, cell.breakage, cell.moment) == (kind, breakage, ANYWHERE)]
        if anywhere:
            moments.append(f"{sum(not self.endings[cell].faults for cell in anywhere)}/{len(anywhere)}")
        return " ".join(moments)

    def _letter(self, kind, breakage, moment):
        found = [end for cell, end in self.endings.items() if (cell.kind, cell.breakage, cell.moment) == (kind, breakage, moment)]
        if not found:
            return "·"
        return "**!**" if found[0].faults else LETTERS[found[0].status]

    def summary(self):
        endings = self.endings.values()
        slowest = max((ending.seconds for ending in endings), default=0.0)
        words = [f"{len(self.endings)} cells", *(f"{count} {name}" for name, count in self.counts().items())]
        return f"{', '.join(words)}; the slowest ended {slowest:.1f} s after its fault."

    def as_json(self):
        counts = self.counts()
        slowest = max((ending.seconds for ending in self.endings.values()), default=0.0)
        return json.dumps({
            "figures": {"cells": len(self.endings), **counts, "slowest end after its fault, s": round(slowest, 1)},
            "aims": dict.fromkeys(counts, 0),
            "holds": bool(self.endings) and not self.broken(),
        }, indent=2)  # fmt: skip
