"""Every fact and command there is, by type."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from buildlight_contracts.builds import (
    BuildFinishedV1,
    BuildObservedV1,
    BuildUnavailableV1,
    JobObservedV1,
    PipelineBrokeV1,
    PipelineRecoveredV1,
)
from buildlight_contracts.collection import BuildActionTakenV1, BuildLogCapturedV1, CompletenessMeasuredV1
from buildlight_contracts.commands import (
    BackfillTargetV1,
    CancelBuildV1,
    CollectReportsV1,
    Command,
    PollTargetV1,
    ProvisionV1,
    PublishCheckV1,
    ReconcileTargetV1,
    RefreshBuildV1,
    ReplayDeadLettersV1,
    RerunBuildV1,
)
from buildlight_contracts.deployments import CheckObservedV1, DeploymentObservedV1, PullRequestObservedV1
from buildlight_contracts.envelope import TYPE_PREFIX, Envelope, Fact, Message
from buildlight_contracts.notifications import NotificationFailedV1, NotificationSentV1
from buildlight_contracts.operations import MessageDeadLetteredV1, MessageReplayedV1, PollFailedV1
from buildlight_contracts.provisioning import (
    ProvisioningFailedV1,
    ProvisioningRequestedV1,
    ProvisioningStepCompletedV1,
    ProvisioningSucceededV1,
)
from buildlight_contracts.test_results import TestReportObservedV1, TestReportRefusedV1

FACTS: Mapping[str, type[Fact]] = {
    fact.type: fact
    for fact in (
        BuildObservedV1,
        BuildUnavailableV1,
        JobObservedV1,
        TestReportObservedV1,
        TestReportRefusedV1,
        BuildLogCapturedV1,
        DeploymentObservedV1,
        PullRequestObservedV1,
        CheckObservedV1,
        BuildFinishedV1,
        PipelineBrokeV1,
        PipelineRecoveredV1,
        NotificationSentV1,
        NotificationFailedV1,
        ProvisioningRequestedV1,
        ProvisioningStepCompletedV1,
        ProvisioningSucceededV1,
        ProvisioningFailedV1,
        PollFailedV1,
        CompletenessMeasuredV1,
        BuildActionTakenV1,
        MessageDeadLetteredV1,
        MessageReplayedV1,
    )
}
COMMANDS: Mapping[str, type[Command]] = {
    command.type: command
    for command in (
        PollTargetV1,
        RefreshBuildV1,
        BackfillTargetV1,
        ReconcileTargetV1,
        CollectReportsV1,
        RerunBuildV1,
        CancelBuildV1,
        PublishCheckV1,
        ProvisionV1,
        ReplayDeadLettersV1,
    )
}


MessageT = TypeVar("MessageT", bound=Message)


class BadMessage(ValueError):  # noqa: N818 -- it is the message that is bad
    """A message that no later try will make readable. The text says what is wrong with it."""


def parse(body: bytes) -> Envelope:
    """Read a structured CloudEvent.

    Raises:
        BadMessage: not JSON, or not a CloudEvent 1.0; the text names the attribute.
    """
    try:
        return Envelope.model_validate_json(body)
    except ValidationError as error:
        raise BadMessage(f"not a CloudEvent: {explain(error)}") from None


def fact_of(envelope: Envelope) -> Fact:
    """The typed fact inside `envelope`.

    Raises:
        BadMessage: a type or version Buildlight does not know, or data that does not fit it.
    """
    return _typed(envelope, FACTS, "event")


def command_of(envelope: Envelope) -> Command:
    """The typed command inside `envelope`; raises as `fact_of` does."""
    return _typed(envelope, COMMANDS, "command")


def _typed(envelope: Envelope, catalogue: Mapping[str, type[MessageT]], noun: str) -> MessageT:
    name = envelope.type.removeprefix(TYPE_PREFIX) if envelope.is_ours else ""
    if name not in catalogue:
        stem, _, version = name.rpartition(".")
        known = [other.rpartition(".")[2] for other in catalogue if other.rpartition(".")[0] == stem]
        if known:
            raise BadMessage(f"unknown version {version!r} of {noun} {stem}: known is {', '.join(known)}")
        raise BadMessage(f"unknown {noun} type {envelope.type!r}")
    return validate(catalogue[name], envelope.data)


def validate(message: type[MessageT], data: Any) -> MessageT:
    """`data` as a `message`.

    Raises:
        BadMessage: naming each field that does not fit, never its value (it may be a secret).
    """
    try:
        return message.model_validate(data)
    except ValidationError as error:
        raise BadMessage(f"not a valid {message.type}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """A validation error in one line: up to five fields and what is wrong with each, without their values."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [f"{'.'.join(map(str, d['loc'])) or 'body'}: {d['msg']}" for d in details[:5]]
    more = [f"and {len(details) - 5} more"] if len(details) > 5 else []
    return "; ".join(lines + more)
