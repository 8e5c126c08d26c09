"""The steps of a job by its log."""

from datetime import timedelta
from itertools import pairwise

import pytest

from reports.job_log import JobLog
from reports.log_steps import MOST_STEPS, LogStep
from tests.unit.reports.job_logs import BEGAN, PYTEST, github, gitlab, jenkins


def steps(log: bytes) -> list[LogStep]:
    reader = JobLog()
    reader.feed(log)
    reader.close()
    return list(reader.steps)


def test_github() -> None:
    """One a command, with the times of its lines; the one that ended the job failed."""
    found = steps(github(("actions/checkout@v4", "Syncing\nDone"), ("make test", PYTEST)))
    assert [(s.name, s.failed) for s in found] == [
        ("Set up job", False),
        ("Run actions/checkout@v4", False),
        ("Run make test", True),
        ("Post job cleanup", False),
        ("Cleaning up orphan processes", False),
    ]
    assert [s.first_line for s in found][:3] == [1, 5, 11]
    assert all(a.last_line == b.first_line - 1 for a, b in pairwise(found))
    assert found[1].started_at == BEGAN + timedelta(seconds=4)
    assert found[1].duration_seconds == pytest.approx(5)


@pytest.mark.parametrize("stamped", [False, True])
def test_gitlab(stamped: bool) -> None:
    """One a section, with the times the markers carry; also where every line has its time."""
    found = steps(gitlab(PYTEST, stamped=stamped))
    assert [(s.name, s.duration_seconds) for s in found] == [
        ('Preparing the "docker" executor', 5.0),
        ('Executing "step_script" stage of the job script', 60.0),
        ("Cleaning up project directory", 1.0),
    ]
    assert found[0].started_at == BEGAN


def test_jenkins() -> None:
    """One a stage."""
    found = steps(jenkins("boom"))
    assert [(s.name, s.depth) for s in found] == [("Build", 0), ("Test", 0)]
    assert found[0].duration_seconds == pytest.approx(3)


def test_nested_sections() -> None:
    """A section inside another stands one deeper; an end without a beginning is passed over."""
    log = (
        b"section_end:5:never\r\x1b[0K\nsection_start:10:outer\r\x1b[0KOuter\nsection_start:11:inner[collapsed=true]\r"
        b"\x1b[0KInner\nx\nsection_end:12:inner\r\x1b[0K\nsection_end:14:outer\r\x1b[0K\n"
    )
    assert [(s.name, s.depth, s.duration_seconds) for s in steps(log)] == [
        ("Outer", 0, 4.0),
        ("Inner", 1, 1.0),
    ]


def test_a_log_without_steps() -> None:
    assert steps(b"hello\nworld\n") == []


def test_steps_without_end_are_bounded() -> None:
    """A hundred thousand markers are not a hundred thousand steps."""
    assert len(steps(b"".join(b"section_start:1:s%d\r\n" % n for n in range(3000)))) == MOST_STEPS
    assert len(steps(b"[Pipeline] { (x)\n" * 3000)) == MOST_STEPS
    assert len(steps(b"##[group]Run x\n" * 3000)) == MOST_STEPS
