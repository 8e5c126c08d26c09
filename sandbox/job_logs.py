"""The log of a job as GitHub's runner writes it: a mark at its beginning, a time on every line, groups, colours."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from sandbox.history import JobState, RunState, StepState
from sandbox.suites import Result

BYTE_ORDER_MARK = "\ufeff"
_SET_UP = (
    "Current runner version: '2.328.0'",
    "##[group]Runner Image Provisioner",
    "Hosted Compute Agent",
    "##[endgroup]",
    "##[group]Operating System",
    "Ubuntu",
    "24.04.3",
    "LTS",
    "##[endgroup]",
    "##[group]GITHUB_TOKEN Permissions",
    "Contents: read",
    "Metadata: read",
    "##[endgroup]",
    "Secret source: Actions",
    "Prepare workflow directory",
    "Prepare all required actions",
    "Getting action download info",
)
_BAD = ("failure", "cancelled")


def log_of(run: RunState, job: JobState, results: Sequence[Result] = ()) -> str:
    """The log of a job that has ended; `results` are those of its tests."""
    lines = [f"{BYTE_ORDER_MARK}{_stamp(job.started)} {_SET_UP[0]}"]
    for step in job.steps:
        if step.started is None or step.conclusion == "skipped":
            continue
        lines += [f"{_stamp(at)} {text}" for at, text in _spread(step, list(_step(run, job, step, results)))]
    return "\n".join(lines) + "\n"


def _step(run: RunState, job: JobState, step: StepState, results: Sequence[Result]) -> Iterator[str]:
    if step.number == 1:
        yield from _SET_UP[1:]
        yield f"Complete job name: {job.name}"
        return
    if step.name.startswith("Post ") or step.name == "Complete job":
        yield "Post job cleanup." if step.name.startswith("Post ") else "Cleaning up orphan processes"
        return
    what = step.name if step.name.startswith("Run ") else f"Run make {step.name.lower().replace(' ', '-')}"
    yield f"##[group]{what}"
    yield f"\x1b[36;1m{what.removeprefix('Run ')}\x1b[0m"
    yield "shell: /usr/bin/bash -e {0}"
    yield "##[endgroup]"
    if "checkout" in step.name:
        yield f"Syncing repository: {run.repository.full_name}"
        yield f"HEAD is now at {run.sha[:7]} {run.message.splitlines()[0] if run.message else ''}"
    if "test" in step.name.lower():
        yield from _tests(results)
    if step.conclusion == "failure" and not any(result.trouble for result in results):
        yield f"\x1b[31m{step.name}: something went wrong in {run.repository.name}\x1b[0m"
    if step.conclusion in _BAD:
        ended = (
            "Process completed with exit code 1."
            if step.conclusion == "failure"
            else "The operation was canceled."
        )
        yield f"##[error]{ended}"


def _tests(results: Sequence[Result]) -> Iterator[str]:
    for result in results:
        mark = {"passed": "\x1b[32mPASS\x1b[0m", "skipped": "\x1b[33mSKIP\x1b[0m"}.get(
            result.outcome, "\x1b[31mFAIL\x1b[0m"
        )
        yield f"{mark} {result.test.group}: {result.test.deed} ({result.seconds:.3f} s)"
        if result.trouble:
            yield f"  {result.trouble.type}: {result.trouble.message}"
    if results:
        bad = sum(result.trouble is not None for result in results)
        yield f"{len(results)} tests, {bad} failed"


def _spread(step: StepState, lines: list[str]) -> Iterator[tuple[float, str]]:
    """The lines over the time the step took."""
    began = step.started or 0.0
    lasted = max(0.0, (step.completed or began) - began)
    for place, line in enumerate(lines):
        yield began + lasted * place / max(1, len(lines)), line


def _stamp(moment: float) -> str:
    """Ten millionths of a second, as .NET writes them."""
    whole = int(moment)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{int((moment - whole) * 10_000_000):07d}Z"
