"""CDEvents to facts and back. Pure. Read: v0.3 to v0.5; written: v0.4.1 (https://cdevents.dev).

| CDEvent | fact |
|---|---|
| `pipelinerun.queued|started|finished` | `build.observed` |
| `taskrun.started|finished`, of a pipeline run | `job.observed` |
| `testsuiterun.queued|started|finished` | `build.observed`: a run whose workflow is the suite |
| `testcaserun.finished|skipped`, of a suite's run | `test_report.observed` of that run, with one case |
| `service.deployed|upgraded|rolledback|removed` | `deployment.observed` |
| `change.created|updated|merged|abandoned`, with a number | `pull_request.observed` |

A CDEvent has a source and an id, and no provider: the facts' provider is `cdevents`, their instance the event's
source. A run that is polled from its provider as well is therefore two builds.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from buildlight_contracts.builds import BuildObservedV1, BuildRef, JobObservedV1
from buildlight_contracts.catalogue import BadMessage, validate
from buildlight_contracts.deployments import DeploymentObservedV1, DeploymentState, PullRequestObservedV1
from buildlight_contracts.envelope import Fact, derive_id, material_digest
from buildlight_contracts.states import State
from buildlight_contracts.test_results import Outcome, TestReportObservedV1, report_id_of

TYPE_PREFIX = "dev.cdevents."
CONTENT_TYPE = "application/cdevents+json"
VERSION = "0.4.1"
PROVIDER = "cdevents"
OUR_SOURCE = "buildlight://"
READER = 1
"""Of the facts made here; a later version may read the same event better."""

_VERSIONED = re.compile(r"dev\.cdevents\.([a-z]+)\.([a-z]+)\.(\d+)\.(\d+)\.")
_LONGEST_ID = 255
_COMMIT = re.compile(r"@([0-9a-f]{40})(?:[?#]|$)")
_NUMBER = re.compile(r"(?:^|[#!/-])(\d{1,9})$")

_STATES = {"queued": State.QUEUED, "started": State.RUNNING}
_OUTCOMES = {
    # v0.4 of runs, v0.4 of tests, and v0.5 of both.
    "success": State.SUCCESS,
    "pass": State.SUCCESS,
    "failure": State.FAILURE,
    "fail": State.FAILURE,
    "error": State.FAILURE,
    "cancel": State.CANCELLED,
}
_CASES = {
    "success": Outcome.PASSED,
    "pass": Outcome.PASSED,
    "failure": Outcome.FAILED,
    "fail": Outcome.FAILED,
    "error": Outcome.ERROR,
    "cancel": Outcome.SKIPPED,
}
_CHANGES = {"created": "open", "updated": "open", "merged": "merged", "abandoned": "closed"}


class UnmappedError(ValueError):
    """A CDEvent of which no fact is made; the text says why."""


# -- CDEvents to facts


def fact_of(event: Any) -> Fact:
    """The fact that a CDEvent (the JSON object with `context` and `subject`) tells.

    Raises:
        UnmappedError: it is of another kind, incomplete, or one that Buildlight made itself.
    """
    context, subject = _part(event, "context"), _part(event, "subject")
    kind = _VERSIONED.match(_text(context, "type") or "")
    if kind is None:
        raise UnmappedError("context.type is none of CDEvents'")
    noun, predicate = kind[1], kind[2]
    make = _MAPPINGS.get((noun, predicate))
    if make is None:
        raise UnmappedError(f"no fact is made of {noun}.{predicate}")
    source = _text(context, "source")
    if not source or not _text(subject, "id"):
        raise UnmappedError("context.source or subject.id is missing")
    if source.startswith(OUR_SOURCE):
        raise UnmappedError("Buildlight made it of a fact that it has")
    try:
        return make(predicate, context, subject, _moment(context))
    except BadMessage as error:
        raise UnmappedError(str(error)) from None


def _run(predicate: str, context: Mapping[str, Any], subject: Mapping[str, Any], at: datetime) -> Fact:
    content = _part(subject, "content")
    suite = _part(content, "testSuite")
    name = _text(content, "pipelineName") or _text(suite, "name") or _text(suite, "id") or "unnamed"
    outcome = _text(content, "outcome")
    state = _STATES.get(predicate) or _OUTCOMES.get((outcome or "").lower(), State.UNKNOWN)
    return validate(
        BuildObservedV1,
        {
            "build": _build(context, subject),
            "repository": _text(_part(content, "repository"), "id") or _place(context, subject),
            "workflow_id": _id(name),
            "workflow": name,
            "title": _text(content, "errors") or _text(content, "reason"),
            "url": _text(content, "url") or _text(content, "uri"),
            "raw_status": predicate,
            "raw_conclusion": outcome,
            "state": state,
            "created_at": at if predicate == "queued" else None,
            "started_at": at if predicate == "started" else None,
            "finished_at": at if predicate == "finished" else None,
            "updated_at": at,
        },
    )


def _task(predicate: str, context: Mapping[str, Any], subject: Mapping[str, Any], at: datetime) -> Fact:
    content = _part(subject, "content")
    run = _part(content, "pipelineRun")
    if not _text(run, "id"):
        raise UnmappedError("a task's run outside of a pipeline's: subject.content.pipelineRun.id is missing")
    outcome = _text(content, "outcome")
    return validate(
        JobObservedV1,
        {
            "build": _build(context, run),
            "job_id": _id(str(subject["id"])),
            "name": _text(content, "taskName") or subject["id"],
            "url": _text(content, "url") or _text(content, "uri"),
            "raw_status": predicate,
            "raw_conclusion": outcome,
            "failure_reason": _text(content, "errors"),
            "state": _STATES.get(predicate) or _OUTCOMES.get((outcome or "").lower(), State.UNKNOWN),
            "started_at": at if predicate == "started" else None,
            "finished_at": at if predicate == "finished" else None,
            "observed_at": at,
        },
    )


def _case(predicate: str, context: Mapping[str, Any], subject: Mapping[str, Any], at: datetime) -> Fact:
    content = _part(subject, "content")
    run, case = _part(content, "testSuiteRun"), _part(content, "testCase")
    if not _text(run, "id"):
        raise UnmappedError("a case's run outside of a suite's: subject.content.testSuiteRun.id is missing")
    told = (_text(content, "outcome") or _text(content, "status") or "").lower()
    outcome = Outcome.SKIPPED if predicate == "skipped" else _CASES.get(told)
    if outcome is None:
        raise UnmappedError(f"{told!r} is no outcome of a test case")
    build = _build(context, run)
    one = {
        "suite": _text(run, "id"),
        "name": (_text(case, "name") or _text(case, "id") or str(subject["id"]))[:1000],
        "outcome": outcome.value,
        "message": (_text(content, "reason") or "")[:2000] or None,
    }
    digest = material_digest({"case": one, "run": subject["id"]})
    counts = {"passed": 0, "failed": 0, "errors": 0, "skipped": 0, _COUNTS[outcome]: 1}
    return validate(
        TestReportObservedV1,
        {
            "build": build,
            "repository": _place(context, run),
            "report_id": report_id_of(build, digest),
            "chunk": 1,
            "last": True,
            "digest": digest,
            "origin": "upload",
            "source": str(subject["id"])[:1000],
            "format": PROVIDER,
            "reader": READER,
            "totals": {"tests": 1, "flaky": 0, "duration_seconds": 0, **counts},
            "observed_at": at,
            "cases": [one],
        },
    )


_COUNTS = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed",
    Outcome.ERROR: "errors",
    Outcome.SKIPPED: "skipped",
}


def _service(predicate: str, context: Mapping[str, Any], subject: Mapping[str, Any], at: datetime) -> Fact:
    content = _part(subject, "content")
    environment = _part(content, "environment")
    artifact = _text(content, "artifactId") or ""
    commit = _COMMIT.search(artifact)
    return validate(
        DeploymentObservedV1,
        {
            **_where(context, subject["id"]),
            # Each event is a deployment of its own: CDEvents has no id for one.
            "deployment_id": _id(_text(context, "id") or ""),
            "environment": _text(environment, "name") or _text(environment, "id") or "unknown",
            "raw_status": predicate,
            "state": DeploymentState.INACTIVE if predicate == "removed" else DeploymentState.SUCCESS,
            "ref": artifact or None,
            "commit_sha": commit[1] if commit else None,
            "url": _text(environment, "url") or _text(environment, "uri"),
            "finished_at": None if predicate == "removed" else at,
            "updated_at": at,
        },
    )


def _change(predicate: str, context: Mapping[str, Any], subject: Mapping[str, Any], at: datetime) -> Fact:
    content = _part(subject, "content")
    number = _NUMBER.search(str(subject["id"]))
    repository = _text(_part(content, "repository"), "id")
    if number is None or int(number[1]) < 1 or repository is None:
        raise UnmappedError(
            "subject.id ends with no number of a change, or subject.content.repository.id is missing"
        )
    return validate(
        PullRequestObservedV1,
        {
            **_where(context, repository),
            "number": int(number[1]),
            "title": _text(content, "description"),
            "raw_status": _CHANGES[predicate],
            "url": _text(content, "url") or _text(content, "uri"),
            "created_at": at if predicate == "created" else None,
            "merged_at": at if predicate == "merged" else None,
            "closed_at": at if predicate in ("merged", "abandoned") else None,
            "updated_at": at,
        },
    )


_Mapping = Callable[[str, Mapping[str, Any], Mapping[str, Any], datetime], Fact]
_MAPPINGS: Mapping[tuple[str, str], _Mapping] = {
    **{
        (noun, verb): _run
        for noun in ("pipelinerun", "testsuiterun")
        for verb in ("queued", "started", "finished")
    },
    ("taskrun", "started"): _task,
    ("taskrun", "finished"): _task,
    ("testcaserun", "finished"): _case,
    ("testcaserun", "skipped"): _case,
    **{("service", verb): _service for verb in ("deployed", "upgraded", "rolledback", "removed")},
    **{("change", verb): _change for verb in _CHANGES},
}


def _build(context: Mapping[str, Any], run: Mapping[str, Any]) -> BuildRef:
    return BuildRef(
        provider=PROVIDER,
        instance=_id(str(context["source"])),
        repository_id=_id(_place(context, run)),
        run_id=_id(str(run["id"])),
    )


def _where(context: Mapping[str, Any], repository: str) -> dict[str, Any]:
    return {
        "provider": PROVIDER,
        "instance": _id(str(context["source"])),
        "repository_id": _id(repository),
        "repository": repository,
    }


def _place(context: Mapping[str, Any], subject: Mapping[str, Any]) -> str:
    """Where the subject's id is unique: its own source, or else the event's."""
    return _text(subject, "source") or str(context["source"])


def _id(text: str) -> str:
    """`text` where it may be an id; of a longer one its digest."""
    return text if len(text) <= _LONGEST_ID else str(derive_id("long id", text))


def _moment(context: Mapping[str, Any]) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(context, "timestamp") or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UnmappedError("context.timestamp is no time") from None


def _part(value: Any, key: str) -> Mapping[str, Any]:
    part = value.get(key) if isinstance(value, dict) else None
    return part if isinstance(part, dict) else {}


def _text(part: Mapping[str, Any], key: str) -> str | None:
    """A text that is there and not empty; half a character, which no UTF-8 can write, becomes a question mark."""
    value = part.get(key)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and value else None


# -- a CDEvent of its own as a CloudEvent


def in_cloudevent(event: Any) -> dict[str, Any]:
    """The CloudEvent that carries a CDEvent, by CDEvents' binding: attributes from its context, itself as data."""
    context, subject = _part(event, "context"), _part(event, "subject")
    attributes = {
        "specversion": "1.0",
        "id": context.get("id"),
        "source": context.get("source"),
        "type": context.get("type"),
        "subject": subject.get("id"),
        "time": context.get("timestamp"),
        "datacontenttype": CONTENT_TYPE,
    }
    return {name: value for name, value in attributes.items() if value is not None} | {"data": event}


# -- facts to CDEvents


def cdevents_of(fact: Fact) -> tuple[dict[str, Any], ...]:
    """The CDEvents, of v0.4.1, that say what `fact` says; none where CDEvents has no word for it.

    Of a test report one for each case. Ids are derived from the fact's, so that the same fact makes the same
    events; the source begins `buildlight://`, by which they are known again.
    """
    match fact:
        case BuildObservedV1():
            return _from_build(fact)
        case JobObservedV1():
            return _from_job(fact)
        case TestReportObservedV1():
            return tuple(_from_case(fact, number) for number in range(len(fact.cases)))
        case DeploymentObservedV1():
            return _from_deployment(fact)
        case PullRequestObservedV1():
            return _from_pull_request(fact)
    return ()


_OUTCOME_OF = {
    State.SUCCESS: "success",
    State.NEUTRAL: "success",
    State.FAILURE: "failure",
    State.TIMED_OUT: "error",
    State.STARTUP_FAILURE: "error",
    # v0.5's word; v0.4 takes any text and has none for what was ended on purpose.
    State.CANCELLED: "cancel",
    State.SKIPPED: "cancel",
    State.STALE: "cancel",
}
_OF_CASE = {Outcome.PASSED: "pass", Outcome.FAILED: "fail", Outcome.ERROR: "error", Outcome.SKIPPED: "cancel"}


def _predicate(state: State) -> str | None:
    if state is State.UNKNOWN:
        return None
    if state.is_terminal:
        return "finished"
    return "started" if state is State.RUNNING else "queued"


def _from_build(fact: BuildObservedV1) -> tuple[dict[str, Any], ...]:
    predicate = _predicate(fact.state)
    if predicate is None:
        return ()
    content = {"pipelineName": fact.workflow, "url": fact.url}
    if predicate == "finished":
        content |= _ended(fact.state, fact.raw_conclusion)
    return (_event(fact, f"pipelinerun.{predicate}", "pipelineRun", _run_id(fact.build), content),)


def _from_job(fact: JobObservedV1) -> tuple[dict[str, Any], ...]:
    predicate = _predicate(fact.state)
    if predicate not in ("started", "finished"):
        return ()
    content = {
        "taskName": fact.name,
        "url": fact.url,
        "pipelineRun": {"id": _run_id(fact.build), "source": _source(fact)},
    }
    if predicate == "finished":
        content |= _ended(fact.state, fact.failure_reason or fact.raw_conclusion)
    return (_event(fact, f"taskrun.{predicate}", "taskRun", fact.job_id, content),)


def _from_case(fact: TestReportObservedV1, number: int) -> dict[str, Any]:
    case = fact.cases[number]
    name = " > ".join(part for part in (case.suite, case.classname, case.name) if part)
    content = {
        "outcome": _OF_CASE[case.outcome],
        "reason": case.message,
        "environment": {"id": f"{fact.build.provider}/{fact.build.instance}"},
        "testCase": {"id": name, "name": case.name},
        "testSuiteRun": {"id": _run_id(fact.build), "source": _source(fact)},
    }
    run = f"{fact.report_id}/{fact.chunk}/{number}"
    return _event(fact, "testcaserun.finished", "testCaseRun", run, content, part=str(number))


def _from_deployment(fact: DeploymentObservedV1) -> tuple[dict[str, Any], ...]:
    predicate = {DeploymentState.SUCCESS: "deployed", DeploymentState.INACTIVE: "removed"}.get(fact.state)
    if predicate is None:
        return ()
    content: dict[str, Any] = {"environment": {"id": fact.environment}}
    if predicate == "deployed":
        kind = fact.provider if fact.provider in ("github", "gitlab") else "generic"
        content["artifactId"] = f"pkg:{kind}/{fact.repository}@{fact.commit_sha or fact.ref or 'unknown'}"
    return (_event(fact, f"service.{predicate}", "service", fact.repository, content),)


def _from_pull_request(fact: PullRequestObservedV1) -> tuple[dict[str, Any], ...]:
    predicate = "merged" if fact.merged_at else "abandoned" if fact.closed_at else None
    if predicate is None:
        return ()
    content = {"repository": {"id": fact.repository}}
    return (_event(fact, f"change.{predicate}", "change", f"{fact.repository}#{fact.number}", content),)


def _ended(state: State, why: str | None) -> dict[str, str]:
    outcome = _OUTCOME_OF[state]
    return {"outcome": outcome} | ({"errors": why} if why and outcome != "success" else {})


def _event(
    fact: Fact, kind: str, subject_type: str, subject_id: str, content: Mapping[str, Any], *, part: str = ""
) -> dict[str, Any]:
    identity = fact.identity()
    return {
        "context": {
            "version": VERSION,
            "id": str(derive_id("cdevent", str(identity), part)) if part else str(identity),
            "source": _source(fact),
            "type": f"{TYPE_PREFIX}{kind}.0.2.0",
            "timestamp": fact.occurred_at().isoformat().replace("+00:00", "Z"),
        },
        "subject": {
            "id": subject_id,
            "source": _source(fact),
            "type": subject_type,
            "content": {name: value for name, value in content.items() if value is not None},
        },
    }


def _source(fact: Fact) -> str:
    """`buildlight://` and where it happened: provider, instance and repository."""
    return OUR_SOURCE + "/".join(fact.subject().split("/")[:3])


def _run_id(build: BuildRef) -> str:
    return f"{build.run_id}/{build.attempt}"
