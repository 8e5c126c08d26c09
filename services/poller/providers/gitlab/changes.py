"""What GitLab is asked to change: run again, cancel, show a verdict.

"Run again" means two things here. Only what failed: the same pipeline, in a new derived attempt. All of it: GitLab
cannot run a whole pipeline again; a new one is started on the same branch, tag or merge request, which may have
moved on, and without the variables the old one may have been started with.
"""

import re
from collections.abc import Iterable
from urllib.parse import quote

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.commands import PublishCheckV1
from services.poller.provider import Done, Refused, Target
from services.poller.providers.gitlab.api import Api, an_answer
from services.poller.providers.gitlab.executions import Execution
from services.poller.providers.gitlab.fields import number, text
from services.poller.providers.gitlab.mapping import merge_request_of
from services.poller.providers.gitlab.pipelines import Pipelines, Whole

STATES = {"success": "success", "failure": "failed", "neutral": "success"}
"""A commit status knows no neutral: it must hold up nothing."""
_CANCELLED = ("canceled", "canceling")
_ENDED = ("success", "failed", "skipped")
_RETRIED = ("failed", "canceled")
_LONGEST_DESCRIPTION = 255
_ALREADY = re.compile(r"Cannot transition status via \S+ from :(\w+)")


async def rerun(
    api: Api, pipelines: Pipelines, target: Target, build: BuildRef, *, failed_only: bool
) -> Done | Refused:
    """Start the pipeline anew, or run again what failed. The latter, asked twice for one attempt, is done once."""
    if not failed_only:
        return await _start_anew(api, target, build)
    now = await pipelines.look(target, build.run_id)
    if not isinstance(now, Whole):
        return _no_longer(target, build)
    if now.latest > build.attempt:
        said = f"It has been run again already: attempt {now.latest} is the latest."
        return Done(said, text(now.row.get("web_url")))
    if not may_retry(now.executions):
        return Refused(
            f"No job of pipeline {build.run_id} has failed or was cancelled: GitLab would run nothing again. "
            "Ask for all of it."
        )
    address = api.project(target.name, f"/pipelines/{build.run_id}/retry")
    answer = await api.post(address, f"pipeline {build.run_id} of {target.name}")
    pipelines.forget(target, build.run_id)
    if isinstance(answer, Refused):
        return answer
    done = f"GitLab runs the jobs of pipeline {build.run_id} again that failed or were cancelled."
    return Done(done, text(an_answer(answer).get("web_url")))


def may_retry(executions: Iterable[Execution]) -> bool:
    """Whether some job failed or was cancelled at its latest execution: GitLab says 201 where none did."""
    latest = {one.name: one for one in sorted(executions, key=lambda one: one.number)}
    return any(one.status in _RETRIED for one in latest.values())


async def _start_anew(api: Api, target: Target, build: BuildRef) -> Done | Refused:
    what = f"pipeline {build.run_id} of {target.name}"
    looked = await api.get(api.project(target.name, f"/pipelines/{build.run_id}"), what)
    if looked.status != 200:
        return _no_longer(target, build)
    old = an_answer(looked)
    ref, source = text(old.get("ref")), text(old.get("source"))
    if ref is None or source in ("parent_pipeline", "pipeline"):
        return Refused(
            "GitLab cannot start this pipeline anew by itself: another one started it. Run that one again, or "
            "only the failed jobs of this one."
        )
    request = merge_request_of(ref)
    if request is None:
        answer = await api.post(api.project(target.name, "/pipeline"), what, {"ref": ref})
    else:
        address = api.project(target.name, f"/merge_requests/{request}/pipelines")
        answer = await api.post(address, what)
    if isinstance(answer, Refused):
        return answer
    new = an_answer(answer)
    moved = "" if new.get("sha") == old.get("sha") else ", which has moved on to another commit since"
    return Done(
        f"GitLab runs no whole pipeline again; it has started pipeline {number(new.get('id'))} on {ref}{moved}.",
        text(new.get("web_url")),
    )


async def cancel(api: Api, pipelines: Pipelines, target: Target, build: BuildRef) -> Done | Refused:
    """Cancel the attempt, unless it has ended: GitLab says 200 to that too, and does nothing."""
    now = await pipelines.look(target, build.run_id)
    if not isinstance(now, Whole):
        return _no_longer(target, build)
    status, url = text(now.row.get("status")), text(now.row.get("web_url"))
    if now.latest > build.attempt:
        return Refused(
            f"Attempt {build.attempt} is over: attempt {now.latest} is the latest. Cancel that one."
        )
    if status in _CANCELLED:
        # Also when the answer to an earlier try was lost.
        return Done(f"Pipeline {build.run_id} is {status} already.", url)
    if status in _ENDED:
        return Refused(f"Pipeline {build.run_id} has ended: it is {status}. There is nothing to cancel.")
    address = api.project(target.name, f"/pipelines/{build.run_id}/cancel")
    answer = await api.post(address, f"pipeline {build.run_id} of {target.name}")
    pipelines.forget(target, build.run_id)
    if isinstance(answer, Refused):
        return answer
    row = an_answer(answer)
    said = f"GitLab was told to cancel pipeline {build.run_id}; it is {text(row.get('status')) or 'unknown'}."
    return Done(said, text(row.get("web_url")))


def _no_longer(target: Target, build: BuildRef) -> Refused:
    return Refused(f"GitLab has no pipeline {build.run_id} of {target.name} (any more).")


async def publish_status(api: Api, target: Target, check: PublishCheckV1) -> Done | Refused:
    """Set the commit's status of this name.

    It becomes a job of the build's pipeline, stage `external`: a failed one makes that pipeline fail.
    """
    looked = await api.get(
        api.project(target.name, f"/pipelines/{check.build.run_id}"),
        f"pipeline {check.build.run_id} of {target.name}",
    )
    # What others say of a build must not choose the commit.
    sha = text(an_answer(looked).get("sha")) if looked.status == 200 else None
    if sha is None:
        return _no_longer(target, check.build)
    state = STATES[check.conclusion]
    body = {
        "state": state,
        "name": check.name,
        "description": check.title[:_LONGEST_DESCRIPTION],
        "pipeline_id": number(int(check.build.run_id)) if check.build.run_id.isdecimal() else None,
        "target_url": check.details_url,
    }
    answer = await api.post(
        api.project(target.name, f"/statuses/{quote(sha, safe='')}"),
        f"commit {sha[:12]} of {target.name}",
        {name: value for name, value in body.items() if value is not None},
    )
    left_out = f" {len(check.annotations)} annotations are left out: a status has no room for them."
    done = Done(
        f"The commit status {check.name} says {state}." + (left_out if check.annotations else ""),
        check.details_url,
    )
    if isinstance(answer, Refused):
        already = _ALREADY.search(answer.detail)
        # GitLab refuses to set what is set: the answer to an earlier try was lost.
        return done if already and already.group(1) == state else answer
    return done
