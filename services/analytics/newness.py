"""Which of two observations, and which of two builds of a pipeline, is the newer: one answer everywhere."""

from datetime import datetime

from buildlight_contracts.builds import BuildObservedV1

_LARGEST = 2**63 - 1


def ordered_at(build: BuildObservedV1) -> datetime:
    """The time builds are ordered by. A rerun keeps its run's creation: it does not overtake later runs."""
    return build.created_at or build.started_at or build.updated_at


def run_order(build: BuildObservedV1) -> int:
    """Orders runs of one moment: the run's number, else its id when that is a number, else 0."""
    if build.run_number is not None:
        return build.run_number
    run_id = build.build.run_id
    number = int(run_id) if run_id.isdecimal() and run_id.isascii() else 0
    return number if number <= _LARGEST else 0
