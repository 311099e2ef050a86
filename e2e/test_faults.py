"""The fault matrix in its short form. `bench/run faults` runs the whole of it: docs/faults.md."""

import pytest

from muster.faults import cells
from muster.faults.breakages import BREAKAGES
from muster.faults.cells import Cell, Course, run_cell, short_form
from muster.faults.stand import Stand


@pytest.fixture(scope="session")
def stand(tmp_path_factory):
    """Makes the stands that a worker needs, each once."""
    made = {}

    def get(engine, has_own_clock):
        key = f"{engine}-{has_own_clock}"
        if key not in made:
            made[key] = Stand(tmp_path_factory.mktemp("stand") / key, engine, has_own_clock)
        return made[key]

    yield get
    for each in made.values():
        each.close()


@pytest.mark.parametrize("cell", short_form(), ids=str)
def test_a_fault(cell, stand):
    breakage = BREAKAGES[cell.breakage]
    ending = run_cell(cell, stand(breakage.engine, breakage.has_own_clock))
    assert not ending.faults, ending


# A matrix that sees nothing would be all good as well.
SABOTAGE = {
    "not restored": ("connect/script", "after", lambda course: (course.kind.place / "a").chmod(0o600)),
    "half changed": ("connect/file", "during", lambda course: (course.kind.place / "left").touch()),
    "run twice": ("run", "during", lambda course: course.device.lines_path.open("a").write("first\n")),
}


@pytest.mark.parametrize("fault", SABOTAGE)
def test_the_matrix_sees_what_is_wrong(fault, stand, monkeypatch):
    kind, moment, spoil = SABOTAGE[fault]
    judge = Course.judge

    def judge_spoilt(course, ending):
        spoil(course)
        return judge(course, ending)

    monkeypatch.setattr(Course, "judge", judge_spoilt)
    breakage = "kill -9 agent and its steps"
    ending = run_cell(Cell(kind, breakage, moment), stand("postgres", False))
    assert [told.split(":")[0] for told in ending.faults] == [fault], ending


def test_the_matrix_sees_what_is_stuck(stand, monkeypatch):
    monkeypatch.setattr(cells, "PATIENCE_SECONDS", 1)
    monkeypatch.setattr(Course, "go_on", lambda course: None)
    ending = run_cell(Cell("run", "kill -9 agent", "during"), stand("postgres", False))
    assert [told.split(":")[0] for told in ending.faults] == ["stuck"], ending
