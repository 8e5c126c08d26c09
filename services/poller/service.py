"""The poller put together."""

from dataclasses import dataclass, field

import structlog

from chassis.broker import Broker
from chassis.database import READER_ROLE, make_pool, require_version
from chassis.lease import Lease
from chassis.outbox import Outbox
from chassis.service import Service
from services.poller import reconcile_schedule
from services.poller.handlers import Pace, Polls
from services.poller.measurements import Measurements, Record
from services.poller.provider import Provider, Providers
from services.poller.providers.github.client import GitHub
from services.poller.queues import POLL, RECONCILE
from services.poller.reconcile import Patience, Reconciles
from services.poller.reconcile_schedule import ReconcileSchedule
from services.poller.schedule import LEASE_SECONDS, Scheduler
from services.poller.settings import PollerSettings
from services.poller.store import Store

log = structlog.get_logger()


@dataclass
class PollerService(Service):
    """Closes the connections to the providers at its end."""

    providers: Providers = field(default_factory=dict)

    async def stop(self) -> None:
        await super().stop()
        for provider in self.providers.values():
            await provider.close()


def build(settings: PollerSettings) -> PollerService:
    """Nothing connects before the service starts."""
    pool = make_pool(
        settings.database_url.get_secret_value(),
        application="poller",
        # More than the settings say: each account being polled, or counted, holds one.
        max_size=settings.database_pool_size + 4,
    )
    reader = make_pool(
        settings.database_url.get_secret_value(), application="poller-reader", role=READER_ROLE, max_size=2
    )
    broker = Broker(settings.amqp_url.get_secret_value(), service="poller", rungs=settings.retry_rungs)
    outbox = Outbox(pool, broker, schema="poller")
    store = Store(pool, outbox)
    targets = settings.github_targets
    github: Provider = GitHub(
        api_url=settings.github_api_url,
        instance=settings.instance_of_github,
        token=settings.github_token,
        reserve_percent=settings.reserve_percent,
        timeout_seconds=settings.timeout_seconds,
    )
    providers = {(provider.name, provider.instance): provider for provider in (github,)}
    pace = Pace(
        interval=settings.interval,
        window=settings.window,
        sweep=settings.sweep,
        first=settings.since,
    )
    scheduler = Scheduler(
        targets,
        store,
        broker,
        Lease("schedule", pool, schema="poller", seconds=LEASE_SECONDS),
        interval=settings.interval,
        jitter=settings.jitter,
    )
    broker.subscribe(POLL, Polls(targets, providers, store, broker, pace).poll)
    measurements = Measurements(pool, outbox)
    reconciles = Reconciles(
        frozenset(targets).__contains__,
        providers,
        store,
        measurements,
        Record(reader),
        broker,
        Patience(interval=settings.interval),
    )
    broker.subscribe(RECONCILE, reconciles.reconcile)
    reconcile_scheduler = ReconcileSchedule(
        lambda: targets,
        measurements,
        broker,
        Lease("reconcile", pool, schema="poller", seconds=reconcile_schedule.LEASE_SECONDS),
        interval=settings.reconcile,
        first=settings.since,
    )

    async def prepare() -> None:
        await require_version(pool, "poller", "poller_0005")
        await store.add(targets)
        if not targets:
            why = "GITHUB_REPOS is not set" if settings.github_enabled else "ENABLE_GH is false"
            log.warning("nothing to poll", reason=why)

    return PollerService(
        "poller",
        pool,
        broker,
        prepare=prepare,
        tasks=[scheduler.run, reconcile_scheduler.run, outbox.run],
        pools=[reader],
        providers=providers,
    )
