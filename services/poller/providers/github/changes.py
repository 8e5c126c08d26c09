"""Running a run again, and cancelling it."""

from collections.abc import Mapping
from typing import Any

from buildlight_contracts.builds import BuildRef
from services.poller.provider import Done, Refused, Target
from services.poller.providers.github.api import Api, object_of, refusal_of
from services.poller.providers.github.mapping import number_of, text_of

ADVICE = "Give it the right to write Actions: a GitHub App, or the scope `repo`, or `actions: write`."


async def rerun(api: Api, target: Target, build: BuildRef, *, failed_only: bool) -> Done | Refused:
    """Run all jobs again, or those that failed. Asked twice for one attempt, it is done once."""
    run, what = _run(api, target, build), f"run {build.run_id} of {target.name}"
    now = await _now(api, run, target, what)
    if isinstance(now, Refused):
        return now
    attempt, url = number_of(now.get("run_attempt")) or 1, text_of(now.get("html_url"))
    if attempt > build.attempt:
        return Done(f"It has been run again already: attempt {attempt} is the latest.", url)
    answer = await api.send(
        "POST", f"{run}/{'rerun-failed-jobs' if failed_only else 'rerun'}", None, what, advice=ADVICE
    )
    if isinstance(answer, Refused):
        return answer
    which = "the jobs of it that failed" if failed_only else "it"
    return Done(f"GitHub runs {which} again, as attempt {attempt + 1}.", url)


async def cancel(api: Api, target: Target, build: BuildRef) -> Done | Refused:
    """Cancel the attempt, unless another one is running by now."""
    run, what = _run(api, target, build), f"run {build.run_id} of {target.name}"
    now = await _now(api, run, target, what)
    if isinstance(now, Refused):
        return now
    attempt, url = number_of(now.get("run_attempt")) or 1, text_of(now.get("html_url"))
    if attempt > build.attempt:
        return Refused(f"Attempt {build.attempt} is over: attempt {attempt} is the latest. Cancel that one.")
    answer = await api.send("POST", f"{run}/cancel", None, what, advice=ADVICE)
    if isinstance(answer, Refused):
        return answer
    return Done("GitHub cancels it; that may take some minutes.", url)


def _run(api: Api, target: Target, build: BuildRef) -> str:
    return f"{api.repository(target.name)}/actions/runs/{build.run_id}"


async def _now(api: Api, run: str, target: Target, what: str) -> Mapping[str, Any] | Refused:
    """The run as it is; what is asked for is one attempt, and GitHub's calls mean the latest."""
    answer = await api.get(run, target.name)
    if answer.status != 200:
        return Refused(refusal_of(answer.status, api.said(answer), what, ADVICE))
    return object_of(answer)
