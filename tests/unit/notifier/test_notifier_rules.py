"""Who is told of what, and why not."""

from datetime import UTC, datetime, timedelta

import pytest

from buildlight_contracts.builds import BuildFinishedV1, PipelineBrokeV1, PipelineRecoveredV1
from buildlight_contracts.testing import example
from services.notifier.rules import (
    DEFAULT_RULES,
    AlreadyRecovered,
    Break,
    BreakUntold,
    Decision,
    Known,
    NoChannel,
    NoRule,
    Rule,
    Send,
    TooOld,
    delivery_id,
    evaluate,
)

RULE = "pipeline-state"
BROKE = example(PipelineBrokeV1, broke_at="2026-03-02T09:04:10Z")
RECOVERED = example(PipelineRecoveredV1, recovered_at="2026-03-02T10:12:30Z")
HOUR = timedelta(hours=1)
JUST_AFTER = datetime(2026, 3, 2, 9, 4, 11, tzinfo=UTC)
DAY_AFTER = datetime(2026, 3, 3, 9, 4, 10, tzinfo=UTC)
FIRST = delivery_id(RULE, "slack", "broke")


def decisions(
    fact: PipelineBrokeV1 | PipelineRecoveredV1 | BuildFinishedV1,
    *,
    rules: tuple[Rule, ...] = DEFAULT_RULES,
    channels: tuple[str, ...] = ("slack", "mail"),
    breaks: dict[tuple[str, str], Break] | None = None,
    now: datetime = JUST_AFTER,
) -> list[Decision]:
    return evaluate(fact, "the-fact", rules, Known(channels, HOUR, breaks or {}), now)


def test_a_break_is_sent_to_every_configured_channel() -> None:
    """By default nobody has to write a rule."""
    assert decisions(BROKE) == [Send(RULE, "slack"), Send(RULE, "mail")]


def test_a_rule_may_name_its_channels() -> None:
    """Only a channel that is both named and configured is used."""
    rules = (Rule("by-mail", frozenset({BROKE.type}), channels=("mail", "pager")),)
    assert decisions(BROKE, rules=rules) == [Send("by-mail", "mail")]


def test_two_rules_decide_each_for_itself() -> None:
    """A fact that two rules want is told by both."""
    rules = (*DEFAULT_RULES, Rule("by-mail", frozenset({BROKE.type}), channels=("mail",)))
    assert decisions(BROKE, rules=rules) == [
        Send(RULE, "slack"),
        Send(RULE, "mail"),
        Send("by-mail", "mail"),
    ]


def test_no_channel_is_a_reason() -> None:
    """Without a configured channel nothing is sent, and the rule is named."""
    assert decisions(BROKE, channels=()) == [NoChannel(RULE)]


def test_no_rule_is_a_reason() -> None:
    """A fact that no rule wants goes no further."""
    assert decisions(example(BuildFinishedV1)) == [NoRule()]


@pytest.mark.parametrize(("age", "told"), [(timedelta(seconds=3600), True), (timedelta(seconds=3601), False)])
def test_an_old_break_is_history(age: timedelta, told: bool) -> None:
    """At the limit it is news; a second past it, it is not, and its age is said."""
    found = decisions(BROKE, channels=("slack",), now=BROKE.broke_at + age)
    assert found == ([Send(RULE, "slack")] if told else [TooOld(RULE, age)])


def test_a_break_from_a_clock_ahead_is_news() -> None:
    """A provider's clock may be ahead of ours."""
    assert decisions(BROKE, channels=("slack",), now=BROKE.broke_at - HOUR) == [Send(RULE, "slack")]


def test_a_recovery_follows_its_break_on_the_channel_that_had_it() -> None:
    """Where the break was told the recovery is; where not, it would be no news."""
    found = decisions(RECOVERED, breaks={(RULE, "slack"): Break(FIRST)})
    assert found == [Send(RULE, "slack", follows=FIRST), BreakUntold(RULE, "mail")]


def test_a_recovery_is_told_however_old() -> None:
    """Who was told that it broke must not believe so for ever, though the notifier was away for a day."""
    found = decisions(RECOVERED, channels=("slack",), breaks={(RULE, "slack"): Break(FIRST)}, now=DAY_AFTER)
    assert found == [Send(RULE, "slack", follows=FIRST)]


def test_the_same_recovery_again_is_the_same_decision() -> None:
    """The fact that follows the break already is this one: the delivery's id will tell."""
    breaks = {(RULE, "slack"): Break(FIRST, followed_by="the-fact")}
    assert decisions(RECOVERED, channels=("slack",), breaks=breaks) == [Send(RULE, "slack", follows=FIRST)]


def test_a_break_has_one_recovery() -> None:
    """Another recovery from the same break is not told."""
    breaks = {(RULE, "slack"): Break(FIRST, followed_by="another")}
    assert decisions(RECOVERED, channels=("slack",), breaks=breaks) == [AlreadyRecovered(RULE, "slack")]


def test_a_delivery_is_named_by_rule_channel_and_fact() -> None:
    """The same three give the same id for ever; any other gives another."""
    assert str(delivery_id(RULE, "slack", "f1")) == "200234c5-45b4-59c7-837c-8b11cff838f7"
    others = {
        delivery_id("other", "slack", "f1"),
        delivery_id(RULE, "mail", "f1"),
        delivery_id(RULE, "slack", "f2"),
    }
    assert len(others | {delivery_id(RULE, "slack", "f1")}) == 4
