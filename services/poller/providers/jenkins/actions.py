"""What Jenkins can be asked to do with a build."""

from collections.abc import Mapping
from typing import Any

from services.poller.calls import Answer
from services.poller.provider import Done, PollFailedError, Refused
from services.poller.providers.jenkins.api import Api
from services.poller.providers.jenkins.values import rows, text

RUN_FIELDS = "timestamp,building,actions[parameters[name,value]]"
"""What is to be known of a build before anything is done with it."""
_JOB_FIELDS = "buildable,property[parameterDefinitions[name]]"


async def build_again(api: Api, job: str, number: int, run: Mapping[str, Any]) -> Done | Refused:
    """Start a build like this one; `run` has `RUN_FIELDS`.

    Jenkins builds what the job's branch has now, which need not be what this build built.
    """
    what = f"the job {job}"
    found = await api.fetch(api.job(job), _JOB_FIELDS, what)
    if found is None:
        return Refused(f"There is no job {job} any more, or the user may not see it.")
    if found.get("buildable") is False:
        return Refused(f"{job} is disabled in Jenkins. Enable it there first.")
    given = [one for action in rows(run, "actions") for one in rows(action, "parameters")]
    secret = [
        text(one.get("name")) or "?"
        for one in given
        if not isinstance(one.get("value"), str | bool | int | float)
    ]
    if secret:
        return Refused(
            f"Jenkins does not show the value of {', '.join(secret)}, so that the build cannot be started with it "
            "again. Start it in Jenkins."
        )
    defined = any(rows(one, "parameterDefinitions") for one in rows(found, "property"))
    form = {str(one["name"]): _as_text(one["value"]) for one in given if text(one.get("name"))}
    way = "buildWithParameters" if defined or form else "build"
    answer = await api.post(f"{api.job(job)}/{way}", form or None)
    if answer.status not in (200, 201, 302, 303):
        return _refused(api, answer, what, "Job/Build")
    _expect_no_login(api, answer, what)
    with_them = " with the same parameters" if form else ""
    return Done(
        f"{job} is queued again{with_them}, as a new build after #{number}; it builds what the branch has now.",
        answer.headers.get("location"),
    )


async def stop(api: Api, job: str, number: int, run: Mapping[str, Any]) -> Done | Refused:
    """Have Jenkins abort a build that goes on; `run` has `RUN_FIELDS`."""
    what = f"the build {job} #{number}"
    if run.get("building") is not True:
        return Refused(f"{job} #{number} has ended already.")
    answer = await api.post(f"{api.job(job)}/{number}/stop")
    if answer.status not in (200, 201, 302, 303):
        return _refused(api, answer, what, "Job/Cancel")
    _expect_no_login(api, answer, what)
    return Done(f"{job} #{number} is asked to stop.", f"{api.job(job)}/{number}/")


def _refused(api: Api, answer: Answer, what: str, permission: str) -> Refused:
    if answer.status == 403:
        return Refused(
            f"Jenkins refuses: the user needs the permission {permission} for {what.removeprefix('the ')}."
        )
    if answer.status in (404, 410):
        return Refused(f"There is no {what.removeprefix('the ')} any more, or the user may not see it.")
    if answer.status in (400, 405, 409):
        return Refused(
            f"Jenkins answered {answer.status}: it does not do this with {what.removeprefix('the ')}."
        )
    raise api.failure(answer, what)


def _expect_no_login(api: Api, answer: Answer, what: str) -> None:
    location = answer.headers.get("location", "")
    if "/login" in location or "securityRealm" in location:
        raise PollFailedError(
            "unauthorized", f"{what} leads to a page to log in. Check JENKINS_USERNAME and JENKINS_API_TOKEN."
        )
    del api


def _as_text(value: str | bool | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
