"""The poller put together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import structlog

from buildlight_contracts.commands import CollectReportsV1
from chassis.broker import Broker
from chassis.database import READER_ROLE, make_pool, require_version
from chassis.lease import Lease
from chassis.outbox import Outbox
from chassis.service import Service
from services.poller import http, reconcile_schedule, webhooks
from services.poller.account_store import AccountStore
from services.poller.acting import Actions
from services.poller.action_store import ActionStore
from services.poller.backfill_store import BackfillStore
from services.poller.backfills import Backfills
from services.poller.calls import longest_call_seconds
from services.poller.collecting import Collections
from services.poller.collection_store import CollectionStore
from services.poller.discovery import LEASE_SECONDS as DISCOVERY_LEASE_SECONDS
from services.poller.discovery import Discovery
from services.poller.discovery_store import DiscoveryStore
from services.poller.full_logs import FullLogs
from services.poller.full_logs import router as log_routes
from services.poller.handlers import Pace, Polls
from services.poller.means import Means
from services.poller.measurements import Measurements, Record
from services.poller.provider import Provider, Providers, Target
from services.poller.providers.github import webhook as github_webhook
from services.poller.providers.github.client import GitHub
from services.poller.providers.gitlab import webhook as gitlab_webhook
from services.poller.providers.gitlab.client import GitLab
from services.poller.providers.jenkins import webhook as jenkins_webhook
from services.poller.providers.jenkins.client import Jenkins
from services.poller.queues import (
    ACTIONS,
    BACKFILL,
    COLLECT,
    COLLECT_BACKLOG,
    COLLECT_EXPRESS,
    POLL,
    QUEUES,
    RECONCILE,
    REFRESH,
    REFRESH_EXPRESS,
)
from services.poller.reconcile import Patience, Reconciles
from services.poller.reconcile_schedule import ReconcileSchedule
from services.poller.refreshes import Refreshes
from services.poller.schedule import LEASE_SECONDS, Scheduler
from services.poller.settings import PollerSettings
from services.poller.store import Store
from services.poller.taking import Outlet
from services.poller.turns import TurnBook

_LANES = 2

FACTS_OF: Mapping[str, webhooks.FactsOf] = {
    "github": github_webhook.facts_of,
    "gitlab": gitlab_webhook.facts_of,
    "jenkins": jenkins_webhook.facts_of,
}
"""By provider, what its webhooks mean."""

log = structlog.get_logger()


@dataclass
class PollerService(Service):
    """Closes the connections to the providers at its end."""

    providers: Providers = field(default_factory=dict)

    async def stop(self) -> None:
        await super().stop()
        for provider in self.providers.values():
            await provider.close()


def build(settings: PollerSettings, facts_of: Mapping[str, webhooks.FactsOf] = FACTS_OF) -> PollerService:
    """Nothing connects before the service starts. `facts_of`: by provider, what its webhooks mean."""
    providers = {(provider.name, provider.instance): provider for provider in _providers(settings)}
    pool = make_pool(
        settings.database_url.get_secret_value(),
        application="poller",
        # Each message in hand may hold one, its target's or run's, and each account one a lane, its turn's.
        max_size=settings.database_pool_size
        + sum(queue.prefetch for queue in QUEUES)
        + _LANES * len(providers),
    )
    reader = make_pool(
        settings.database_url.get_secret_value(), application="poller-reader", role=READER_ROLE, max_size=2
    )
    broker = Broker(settings.amqp_url.get_secret_value(), service="poller", rungs=settings.retry_rungs)
    outbox = Outbox(pool, broker, schema="poller")
    store = Store(pool, outbox)
    turns = TurnBook(AccountStore(pool), longest_call_seconds=longest_call_seconds(settings.timeout_seconds))
    for provider in providers.values():
        provider.take_turns(turns.of)

    async def collect(command: CollectReportsV1) -> None:
        await broker.command(command)

    means = Means(
        watch=settings.watch,
        providers=providers,
        store=store,
        broker=broker,
        outlet=Outlet(broker.record, collect if settings.collect_reports else None),
        turns=turns,
        interval=settings.interval,
    )
    pace = Pace(
        interval=settings.interval,
        window=settings.window,
        sweep=settings.sweep,
        first=settings.since,
        deployments=settings.deployments,
    )
    scheduler = Scheduler(
        settings.watch,
        store,
        broker,
        Lease("schedule", pool, schema="poller", seconds=LEASE_SECONDS),
        interval=settings.interval,
        jitter=settings.jitter,
        asks=settings.polling_enabled,
    )
    discovery = Discovery(
        means,
        DiscoveryStore(pool, outbox),
        Lease("discovery", pool, schema="poller", seconds=DISCOVERY_LEASE_SECONDS),
        every=settings.discovery,
    )
    measurements = Measurements(pool, outbox)
    reconcile_scheduler = ReconcileSchedule(
        measurements,
        broker,
        Lease("reconcile", pool, schema="poller", seconds=reconcile_schedule.LEASE_SECONDS),
        interval=settings.reconcile,
        first=settings.since,
        asks=settings.polling_enabled,
    )
    refreshes = Refreshes(means)
    reconciles = Reconciles(means, measurements, Record(reader), Patience(interval=settings.interval))
    broker.subscribe(POLL, Polls(means, pace).poll)
    broker.subscribe(REFRESH, refreshes.usual)
    broker.subscribe(REFRESH_EXPRESS, refreshes.express)
    broker.subscribe(BACKFILL, Backfills(means, BackfillStore(pool)).backfill)
    kept = CollectionStore(pool)
    collections = Collections(providers, kept, broker, calling=means.calling)
    broker.subscribe(COLLECT, collections.usual)
    broker.subscribe(COLLECT_EXPRESS, collections.express)
    broker.subscribe(COLLECT_BACKLOG, collections.usual)
    broker.subscribe(
        ACTIONS, Actions(providers, kept, ActionStore(pool, outbox), broker, calling=means.calling).act
    )
    full_logs = FullLogs(providers, kept, calling=means.calling)
    broker.subscribe(RECONCILE, reconciles.reconcile)

    async def prepare() -> None:
        await require_version(pool, "poller", "poller_0006")
        await store.add(settings.watch.targets)
        await store.polled(settings.watch.found(await store.discovered()))
        if not settings.watch:
            log.warning(
                "nothing to poll",
                reason="none of GITHUB_REPOS, GITLAB_PROJECTS and JENKINS_JOBS is set, and its provider enabled",
            )

    instances = {
        "github": settings.instance_of_github,
        "gitlab": settings.instance_of_gitlab,
        "jenkins": settings.instance_of_jenkins,
    }

    async def watched(provider: str, instance: str, name: str) -> Target | None:
        wanted = Target(provider, instance, name)
        known = await store.called(wanted)
        return webhooks.among(
            (
                target
                for target, by, vanished in known
                if settings.watch.wants(target, discovered_by=by, vanished=vanished)
            ),
            wanted,
        )

    return PollerService(
        "poller",
        pool,
        broker,
        prepare=prepare,
        tasks=[scheduler.run, discovery.run, reconcile_scheduler.run, outbox.run],
        routers=[
            http.router(settings, instances, facts_of, watched, pool, broker),
            log_routes(full_logs, pool, reads_need_key=settings.reads_need_key),
        ],
        body_limits={"/webhooks/": settings.webhook_max_bytes},
        pools=[reader],
        providers=providers,
    )


def _providers(settings: PollerSettings) -> Iterator[Provider]:
    """Those of which something is polled."""
    if settings.github_watch:
        yield GitHub(
            api_url=settings.github_api_url,
            instance=settings.instance_of_github,
            token=settings.github_token,
            app=settings.github_app,
            report_artifacts=settings.github_report_artifacts,
            reserve_percent=settings.reserve_percent,
            timeout_seconds=settings.timeout_seconds,
        )
    if settings.gitlab_watch:
        yield GitLab(
            api_url=settings.gitlab_api_url,
            instance=settings.instance_of_gitlab,
            token=settings.gitlab_token,
            reserve_percent=settings.reserve_percent,
            timeout_seconds=settings.timeout_seconds,
        )
    if settings.jenkins_watch and settings.jenkins_url:
        yield Jenkins(
            url=settings.jenkins_url,
            instance=settings.instance_of_jenkins,
            username=settings.jenkins_username,
            token=settings.jenkins_token,
            timeout_seconds=settings.timeout_seconds,
        )
