"""For the tests of whoever publishes or listens: an example of every message, a publisher without a broker.

Used so::

    fact = example(BuildObservedV1, branch="release")
    async with Recorder() as publisher:
        await my_service(publisher)
    assert publisher.messages(BuildObservedV1) == [fact]
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self, TypeVar, get_args

from pydantic import BaseModel

from buildlight_contracts.catalogue import validate
from buildlight_contracts.commands import Command
from buildlight_contracts.envelope import TYPE_PREFIX, Envelope, Fact, Message, Payload
from buildlight_contracts.outgoing import COMMAND_LIFETIME, outgoing

PayloadT = TypeVar("PayloadT", bound=Payload)
MessageT = TypeVar("MessageT", bound=Message)

_ASKED_AT = datetime(2026, 3, 2, 9, 5, tzinfo=UTC)
_VALUES: Mapping[str, Any] = {
    # A failed build of a shop, on GitHub.
    "provider": "github",
    "instance": "api.github.com",
    "repository_id": "1296269",
    "repository": "acme/shop",
    "run_id": "30433642",
    "attempt": 1,
    "workflow_id": "159038",
    "workflow": "CI",
    "run_number": 562,
    "event": "push",
    "branch": "main",
    "commit_sha": "009b8a3a9ccbb128af87f9b1c0f4c62e8a304f6d",
    "commit_message": "Take cards with a long number",
    "author": "octocat",
    "actor": "octocat",
    "pull_request": 41,
    "url": "https://github.com/acme/shop/actions/runs/30433642",
    "job_id": "399444496",
    "runner": "ubuntu-24.04",
    "number": 1,
    "raw_status": "completed",
    "raw_conclusion": "failure",
    "state": "failure",
    "duration_seconds": 245.0,
    "created_at": "2026-03-02T09:00:00Z",
    "started_at": "2026-03-02T09:00:05Z",
    "finished_at": "2026-03-02T09:04:10Z",
    "updated_at": "2026-03-02T09:04:12Z",
    "observed_at": "2026-03-02T09:04:10Z",
    "broke_at": "2026-03-02T09:04:10Z",
    "broken_since": "2026-03-02T09:04:10Z",
    "recovered_at": "2026-03-02T10:12:30Z",
    "BuildObservedV1.title": "Take cards with a long number",
    "JobObservedV1.name": "unit tests",
    "Step.name": "Run the tests",
    "PipelineBrokeV1.last_good": {
        "provider": "github",
        "instance": "api.github.com",
        "repository_id": "1296269",
        "run_id": "30433588",
        "attempt": 1,
    },
    "BuildUnavailableV1.status": 404,
    "noticed_at": "2026-03-02T11:00:00Z",
    "BuildObservedV1.tag": "v2.4.1",
    "BuildObservedV1.parent": {
        "provider": "github",
        "instance": "api.github.com",
        "repository_id": "1296269",
        "run_id": "30433640",
        "attempt": 1,
    },
    "queued_at": "2026-03-02T09:00:01Z",
    # It has ended, and those have none.
    "BuildObservedV1.resumed_at": None,
    "stage": "test",
    "failure_reason": "script_failure",
    "is_allowed_to_fail": False,
    # What its tests said.
    "job": "unit tests",
    "report_id": "5e6f1a54-6f0b-5d84-8f4b-7c0b9b6c5a11",
    "chunk": 1,
    "last": True,
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "origin": "artifact",
    "source": "test-results.zip/junit.xml",
    "format": "junit",
    "reader": 1,
    "notes": ["1 character that XML does not allow was left out"],
    "reported_at": "2026-03-02T09:03:58Z",
    "suite": "pytest",
    "classname": "tests.test_cards",
    "TestCase.name": "test_takes_a_long_number",
    "file": "tests/test_cards.py",
    "line": 17,
    "outcome": "failed",
    "TestCase.duration_seconds": 0.42,
    "TestCase.attempts": [
        {"outcome": "failed", "duration_seconds": 0.21, "message": "assert 16 == 19"},
        {"outcome": "failed", "duration_seconds": 0.21, "message": "assert 16 == 19"},
    ],
    "TestAttempt.duration_seconds": 0.21,
    "failure_type": "AssertionError",
    "message": "assert 16 == 19",
    "detail": "tests/test_cards.py:21: AssertionError",
    "Totals.tests": 1,
    "Totals.passed": 0,
    "Totals.failed": 1,
    "Totals.errors": 0,
    "Totals.skipped": 0,
    "Totals.flaky": 0,
    "Totals.duration_seconds": 0.42,
    "TestReportRefusedV1.reason": "not XML: the document is empty",
    "refused_at": "2026-03-02T09:05:00Z",
    # Its log, and what Buildlight did about it.
    "BuildLogCapturedV1.step": "Run the tests",
    "found_by": "error_marker",
    "excerpt": "E   assert 16 == 19\nProcess completed with exit code 1.",
    "first_line": 212,
    "lines": 214,
    "masked": 0,
    "is_cut": False,
    "captured_at": "2026-03-02T09:04:10Z",
    "action": "rerun_failed",
    "BuildActionTakenV1.outcome": "done",
    "BuildActionTakenV1.detail": "GitHub runs the failed jobs again",
    "taken_at": "2026-03-02T09:06:00Z",
    "since": "2026-03-01T00:00:00Z",
    "until": "2026-03-02T00:00:00Z",
    "at_provider": 120,
    "recorded": 119,
    "open_but_ended": 0,
    "MissingBuild.reason": "created after the last complete poll",
    "measured_at": "2026-03-02T09:10:00Z",
    "priority": "normal",
    "RefreshBuildV1.reason": "webhook",
    "ended_at": "2026-03-02T09:04:10Z",
    "failed": True,
    "failed_only": True,
    "PublishCheckV1.name": "Buildlight",
    "conclusion": "failure",
    "PublishCheckV1.title": "1 new failure, 2 flaky",
    "summary": "test_takes_a_long_number fails since this commit.",
    "details_url": "https://buildlight.acme.example/builds/1",
    "path": "tests/test_cards.py",
    "level": "failure",
    "Annotation.title": "test_takes_a_long_number",
    # What else happened to its commit.
    "deployment_id": "815",
    "environment": "production",
    "is_production": True,
    "DeploymentObservedV1.raw_status": "success",
    "DeploymentObservedV1.state": "success",
    "ref": "main",
    "PullRequestObservedV1.number": 41,
    "PullRequestObservedV1.raw_status": "closed",
    "is_draft": False,
    "head_branch": "long-numbers",
    "head_sha": "009b8a3a9ccbb128af87f9b1c0f4c62e8a304f6d",
    "base_branch": "main",
    "merge_commit_sha": "7fd1a60b01f91b314f59955a4e4d4e80d8edf11d",
    "merged_at": "2026-03-02T08:59:50Z",
    "closed_at": "2026-03-02T08:59:50Z",
    "check_id": "399444497",
    "CheckObservedV1.name": "coverage",
    "app": "codecov",
    # What people were told of it.
    "delivery_id": "4e0b2a86-27f6-5b0f-9d4a-6f2f6f0c7f5e",
    "rule": "main-is-red",
    "channel": "slack",
    "fact_id": "f5a1cf0f-30a9-5b0c-8f6f-0d9c2f3b7a61",
    "fact_type": "pipeline.broke.v1",
    "title": "acme/shop: CI broke on main",
    "sent_at": "2026-03-02T09:04:13Z",
    "NotificationFailedV1.reason": "Slack says channel_not_found",
    # A repository from a template.
    "GitConfig.provider": "gitlab",
    "ProvisioningFailedV1.failed_at": "2026-03-02T12:00:02Z",
    "_Provisioning.run_id": "prov-0001",
    "ProvisionV1.run_id": "prov-0001",
    "kind": "component",
    "template": "go-backend",
    "name": "my-service",
    "namespace": "my-team",
    "group_id": "815",
    "visibility": "private",
    "values": {"port": 8080},
    "requested_at": "2026-03-02T12:00:00Z",
    "step": "create",
    "ProvisioningStepCompletedV1.detail": "my-team/my-service created",
    "ProvisioningStepCompletedV1.duration_seconds": 0.4,
    "completed_at": "2026-03-02T12:00:02Z",
    "project_id": 2042,
    "project_url": "https://gitlab.example/my-team/my-service",
    "succeeded_at": "2026-03-02T12:00:05Z",
    "ProvisioningFailedV1.reason": "the group 815 allows no new projects",
    # Buildlight's own troubles.
    "target": "acme/shop",
    "due_at": "2026-03-02T09:05:00Z",
    "PollFailedV1.reason": "unauthorized",
    "PollFailedV1.status": 401,
    "PollFailedV1.detail": "GitHub refuses the token. Make a new one and set GITHUB_TOKEN.",
    "failed_at": "2026-03-02T09:05:01Z",
    "dead_letter_id": "0d5c9d1e-4a4b-5d52-9f0f-3f1b6b1f8f10",
    "dead_letter_ids": ["0d5c9d1e-4a4b-5d52-9f0f-3f1b6b1f8f10"],
    "queue": "notifier.evaluate",
    "message_id": "f5a1cf0f-30a9-5b0c-8f6f-0d9c2f3b7a61",
    "message_type": "dev.buildlight.pipeline.broke.v1",
    "MessageDeadLetteredV1.kind": "exhausted",
    "MessageDeadLetteredV1.reason": "TimeoutError: Slack did not answer within 10 s",
    "fingerprint": "9f86d081884c7d65",
    "attempts": 5,
    "died_at": "2026-03-02T10:10:00Z",
    "targets": 3,
    "request_id": "7f0d4b55-93c3-5c2e-8e0d-2f6a1c9b3d44",
    "replay": 1,
    "by": "octocat",
    "replayed_at": "2026-03-02T10:30:00Z",
}


def example(payload: type[PayloadT], **changes: Any) -> PayloadT:
    """A valid `payload` with every field filled that it can have, the same each time; `changes` replaces fields."""
    return payload.model_validate(_data(payload) | changes)


def example_envelope(message: type[Fact | Command], **changes: Any) -> Envelope:
    """The example of `message` as it travels, the same each time."""
    made = example(message, **changes)
    return Envelope.wrap(
        made,
        source="https://ci.acme.example",
        time=made.occurred_at() if isinstance(made, Fact) else _ASKED_AT,
        expires_at=None if isinstance(made, Fact) else _ASKED_AT + COMMAND_LIFETIME,
    )


def _data(payload: type[BaseModel]) -> dict[str, Any]:
    return {name: _value(payload, name) for name in payload.model_fields}


def _value(payload: type[BaseModel], name: str) -> Any:
    """From the table, the name with its class (or a base) before the bare name; else a nested example."""
    for key in (*(f"{cls.__name__}.{name}" for cls in payload.__mro__), name):
        if key in _VALUES:
            return _VALUES[key]
    annotation = payload.model_fields[name].annotation
    nested = _payload_in(annotation)
    if nested is None:
        raise LookupError(
            f"{payload.__name__}.{name} has no example: add one to buildlight_contracts.testing"
        )
    return [_data(nested)] if getattr(annotation, "__origin__", None) is tuple else _data(nested)


def _payload_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_payload_in, get_args(annotation))), None)


class Recorder:
    """Stands in for `Publisher` without a broker: checks and wraps as it does, and keeps the envelopes."""

    def __init__(self) -> None:
        self.published: list[Envelope] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def publish(
        self,
        message: Fact | Command | Envelope,
        *,
        source: str | None = None,
        expires_at: datetime | None = None,
    ) -> Envelope:
        """Keep what `Publisher.publish` would have sent; raises what that raises before it sends."""
        letter = outgoing(message, source=source, expires_at=expires_at)
        self.published.append(letter.envelope)
        return letter.envelope

    def messages(self, kind: type[MessageT]) -> list[MessageT]:
        """The facts or commands of one class that were published, in order."""
        return [
            validate(kind, envelope.data)
            for envelope in self.published
            if envelope.type == TYPE_PREFIX + kind.type
        ]
