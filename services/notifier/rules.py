"""Who is told of what: rules as data, and pure decisions with named reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from buildlight_contracts.builds import PipelineBrokeV1, PipelineRecoveredV1
from buildlight_contracts.envelope import Fact, derive_id


@dataclass(frozen=True)
class Rule:
    """Facts of these `types` are told on these `channels`; None means every channel there is.

    The name is a permanent identity: it is part of each delivery's id.
    """

    name: str
    types: frozenset[str]
    channels: tuple[str, ...] | None = None


DEFAULT_RULES = (Rule("pipeline-state", types=frozenset({PipelineBrokeV1.type, PipelineRecoveredV1.type})),)


@dataclass(frozen=True)
class Break:
    """A delivery about a pipeline's break, on record for one rule and channel."""

    delivery_id: UUID
    followed_by: str | None = None
    """The id of the recovery that already follows it."""


@dataclass(frozen=True)
class Known:
    """What the decision needs beside the fact and the rules."""

    channels: Sequence[str]
    """Those that are configured."""
    max_age: timedelta
    breaks: Mapping[tuple[str, str], Break]
    """Of a recovery: the break it ends, by rule and channel, where people were told of that or will be."""


@dataclass(frozen=True)
class Send:
    """Tell it."""

    rule: str
    channel: str
    follows: UUID | None = None
    """The delivery of the break that this recovery ends."""


@dataclass(frozen=True)
class TooOld:
    """It happened too long ago to be news: a backfill, or a notifier that was away."""

    rule: str
    age: timedelta


@dataclass(frozen=True)
class NoChannel:
    """The rule wants it told, and no channel of its is configured."""

    rule: str


@dataclass(frozen=True)
class NoRule:
    """No rule wants facts of this type told."""


@dataclass(frozen=True)
class BreakUntold:
    """A recovery from what nobody on this channel was told of is no news to them."""

    rule: str
    channel: str


@dataclass(frozen=True)
class AlreadyRecovered:
    """Another recovery from the same break was told: a late build changed which one ended it."""

    rule: str
    channel: str


Decision = Send | TooOld | NoChannel | NoRule | BreakUntold | AlreadyRecovered


def delivery_id(rule: str, channel: str, fact_id: str) -> UUID:
    """One rule tells one fact on one channel once."""
    return derive_id("delivery", rule, channel, fact_id)


def evaluate(fact: Fact, fact_id: str, rules: Sequence[Rule], known: Known, now: datetime) -> list[Decision]:
    """What becomes of `fact`: one decision or more, one a channel where it gets that far."""
    wanting = [rule for rule in rules if fact.type in rule.types]
    if not wanting:
        return [NoRule()]
    return [decision for rule in wanting for decision in _by_rule(rule, fact, fact_id, known, now)]


def _by_rule(rule: Rule, fact: Fact, fact_id: str, known: Known, now: datetime) -> list[Decision]:
    channels = [c for c in known.channels if rule.channels is None or c in rule.channels]
    if not channels:
        return [NoChannel(rule.name)]
    if isinstance(fact, PipelineRecoveredV1):
        # However old: who was told that it broke must not believe so for ever.
        return [_recovery(rule.name, channel, fact_id, known) for channel in channels]
    age = now - fact.occurred_at()
    if age > known.max_age:
        return [TooOld(rule.name, age)]
    return [Send(rule.name, channel) for channel in channels]


def _recovery(rule: str, channel: str, fact_id: str, known: Known) -> Decision:
    broke = known.breaks.get((rule, channel))
    if broke is None:
        return BreakUntold(rule, channel)
    if broke.followed_by not in (None, fact_id):
        return AlreadyRecovered(rule, channel)
    return Send(rule, channel, follows=broke.delivery_id)
