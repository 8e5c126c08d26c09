"""The poller's queues."""

from buildlight_contracts.commands import (
    BackfillTargetV1,
    CancelBuildV1,
    CollectReportsV1,
    PollTargetV1,
    PublishCheckV1,
    ReconcileTargetV1,
    RefreshBuildV1,
    RerunBuildV1,
)
from buildlight_contracts.routing import BACKLOG, COMMANDS, EXPRESS
from chassis.topology import Binding, Queue

POLL = Queue(
    "poller.poll",
    owner="poller",
    purpose="Polls that are due: one target each.",
    bindings=(Binding(COMMANDS, PollTargetV1.type),),
    prefetch=4,
)
REFRESH = Queue(
    "poller.refresh",
    owner="poller",
    purpose="Single runs to look at, of priority low or normal.",
    bindings=(Binding(COMMANDS, RefreshBuildV1.type),),
    prefetch=2,
)
REFRESH_EXPRESS = Queue(
    "poller.refresh.express",
    owner="poller",
    purpose="Single runs to look at, of priority high or critical: their calls go first.",
    bindings=(Binding(COMMANDS, RefreshBuildV1.type + EXPRESS),),
    prefetch=4,
)
BACKFILL = Queue(
    "poller.backfill",
    owner="poller",
    purpose="Past builds to collect: one target of a request each, slice by slice.",
    bindings=(Binding(COMMANDS, BackfillTargetV1.type),),
    prefetch=1,
)
COLLECT = Queue(
    "poller.collect",
    owner="poller",
    purpose="Builds that have ended, of priority normal: their test reports, and what matters of their logs.",
    bindings=(Binding(COMMANDS, CollectReportsV1.type),),
    prefetch=2,
)
COLLECT_EXPRESS = Queue(
    "poller.collect.express",
    owner="poller",
    purpose="Builds that have ended, of priority high or critical: their calls go first.",
    bindings=(Binding(COMMANDS, CollectReportsV1.type + EXPRESS),),
    prefetch=4,
)
COLLECT_BACKLOG = Queue(
    "poller.collect.backlog",
    owner="poller",
    purpose="Builds that ended long ago, of priority low: a first poll or a backfill brings thousands at once.",
    bindings=(Binding(COMMANDS, CollectReportsV1.type + BACKLOG),),
    prefetch=1,
)
ACTIONS = Queue(
    "poller.actions",
    owner="poller",
    purpose="What providers are asked to do: run a build again, cancel it, show a verdict on its commit.",
    bindings=tuple(
        Binding(COMMANDS, command.type) for command in (RerunBuildV1, CancelBuildV1, PublishCheckV1)
    ),
    prefetch=4,
)

RECONCILE = Queue(
    "poller.reconcile",
    owner="poller",
    purpose="Comparisons of what a provider has with what the log has: one target each.",
    bindings=(Binding(COMMANDS, ReconcileTargetV1.type),),
    # They mostly wait: for the next poll to bring what seems to be missing.
    prefetch=8,
)

QUEUES: tuple[Queue, ...] = (
    POLL,
    REFRESH,
    REFRESH_EXPRESS,
    BACKFILL,
    COLLECT,
    COLLECT_EXPRESS,
    COLLECT_BACKLOG,
    ACTIONS,
    RECONCILE,
)
