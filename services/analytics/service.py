"""How analytics is put together."""

from buildlight_contracts.routing import HINTS
from chassis.broker import Broker
from chassis.database import make_pool, require_version
from chassis.delivery import Delivery
from chassis.follower import Apply, Follower
from chassis.outbox import Outbox
from chassis.service import Service
from services.analytics import conclusions
from services.analytics.projections import PROJECTIONS
from services.analytics.settings import AnalyticsSettings


def build(settings: AnalyticsSettings) -> Service:
    """The service, put together; nothing connects before it starts."""
    pool = make_pool(
        settings.database_url.get_secret_value(),
        application="analytics",
        max_size=settings.database_pool_size,
    )
    broker = Broker(settings.amqp_url.get_secret_value(), service="analytics", rungs=settings.retry_rungs)
    outbox = Outbox(pool, broker, schema="analytics")

    def follow(name: str, apply: Apply, types: list[str]) -> Follower:
        return Follower(
            name,
            pool,
            apply,
            schema="analytics",
            types=types,
            batch=settings.follower_batch_events,
            poll_seconds=settings.poll_seconds,
        )

    followers = [
        *(follow(projection.follower, projection.apply, projection.types) for projection in PROJECTIONS),
        follow(conclusions.FOLLOWER, conclusions.Conclusions(outbox).apply, conclusions.TYPES),
    ]

    async def hinted(_: Delivery) -> None:
        for follower in followers:
            follower.hint()

    broker.listen(HINTS, "", hinted, newest=1)

    async def prepare() -> None:
        await require_version(pool, "analytics", "analytics_0001")

    return Service(
        "analytics",
        pool,
        broker,
        prepare=prepare,
        tasks=[*(follower.run for follower in followers), outbox.run],
    )
