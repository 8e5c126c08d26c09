"""What is asked of a provider: whether to ask it, and what an unclear end means. Pure.

A provider's effect and our note of it cannot be one. So it is noted that the provider is about to be asked; after
a crash, or a call without an answer, what came of it is looked up before it is asked again. Where that cannot be
seen (a run started anew is another run), it is not asked again: better not done, and said so, than done twice.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.collection import BuildAction
from buildlight_contracts.commands import CancelBuildV1, PublishCheckV1, RerunBuildV1
from services.poller.provider import Reason

ActionCommand = RerunBuildV1 | CancelBuildV1 | PublishCheckV1

LOOK_AFTER = timedelta(seconds=20)
"""Providers show what they were asked to do a moment later."""
NOTHING_DONE: frozenset[Reason] = frozenset({"unauthorized", "forbidden", "not_found", "rate_limited"})
"""With these a provider has done nothing of what it was asked."""
FINAL: frozenset[Reason] = frozenset({"unauthorized", "forbidden", "not_found"})
"""Whoever asked waits for an answer: no try within minutes mends these."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the provider."""


@dataclass(frozen=True, slots=True)
class Settled:
    """It has come to this, and the provider is not asked (again)."""

    status: Literal["done", "refused", "failed"]
    detail: str
    url: str | None = None


def action_of(command: ActionCommand) -> BuildAction:
    match command:
        case RerunBuildV1():
            return "rerun_failed" if command.failed_only else "rerun"
        case CancelBuildV1():
            return "cancel"
        case PublishCheckV1():
            return "publish_check"


def is_late(now: datetime, expires_at: datetime | None, *, wait: timedelta = timedelta()) -> bool:
    """Whether it is past its time, or will be after `wait`."""
    return expires_at is not None and now + wait >= expires_at


def look_in(now: datetime, begun_at: datetime) -> timedelta:
    """How long to wait before looking up what came of it; negative: no longer."""
    return begun_at + LOOK_AFTER - now


def after_unclear_end(command: ActionCommand, latest: BuildObservedV1 | None) -> Ask | Settled:
    """What to do when the provider was asked and its answer is not known.

    `latest`: the run as it is now; None when the provider does not have it (any more).
    """
    if isinstance(command, PublishCheckV1):
        return Ask()  # shown twice it says the same
    if latest is None:
        return Settled("failed", "It is not known whether it was done: the provider no longer has the build.")
    if isinstance(command, CancelBuildV1):
        if latest.state.is_terminal or latest.build.attempt > command.build.attempt:
            return Settled("done", f"It has ended: {latest.state.value}.", latest.url)
        return Ask()
    if latest.build.attempt > command.build.attempt:
        return Settled("done", f"It was run again: attempt {latest.build.attempt} is the latest.", latest.url)
    if shows_reruns(command):
        return Ask()
    return Settled(
        "failed",
        "It is not known whether it was done: the provider did not answer, and what it starts anew is another "
        "build. Look for one before asking again, with another Idempotency-Key.",
        latest.url,
    )


def shows_reruns(command: RerunBuildV1) -> bool:
    """Whether a rerun is an attempt of the same run. GitLab and Jenkins start whole builds anew."""
    return command.build.provider == "github" or (command.build.provider == "gitlab" and command.failed_only)
