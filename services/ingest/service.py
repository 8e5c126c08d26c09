"""The ingest service, put together."""

from collections.abc import Mapping, Sequence

from buildlight_contracts.routing import HINTS
from chassis.batch import BatchSubscriber
from chassis.broker import Broker
from chassis.database import make_pool, require_version
from chassis.delivery import Delivery
from chassis.follower import Follower
from chassis.outbox import Outbox
from chassis.service import Service
from chassis.topology import Queue
from services.ingest import older
from services.ingest.archiver import Archiver
from services.ingest.handlers import Append
from services.ingest.http import router
from services.ingest.http_reports import PATH as REPORTS_PATH
from services.ingest.http_reports import router as reports_router
from services.ingest.queues import APPEND, QUEUES, REPLAY
from services.ingest.relay import GiveWay, Hints, Relay
from services.ingest.replay import Replay
from services.ingest.settings import IngestSettings


def build(settings: IngestSettings, archived: Sequence[Queue] = QUEUES) -> Service:
    """Put ingest together. `archived`: the queues of all services, whose dead letters it keeps."""
    pool = make_pool(
        settings.database_url.get_secret_value(),
        application="ingest",
        max_size=settings.database_pool_size,
    )
    broker = Broker(settings.amqp_url.get_secret_value(), service="ingest", rungs=settings.retry_rungs)

    give_way = GiveWay()
    relay = Relay(broker.url, claim_check_bytes=settings.claim_check_bytes, give_way=give_way)
    follower = Follower("relay", pool, relay.apply, schema="ingest")
    hints = Hints(broker)
    outbox = Outbox(pool, broker, schema="ingest")

    def recorded(position: int) -> None:
        follower.hint()
        hints.head(position)

    async def hinted(_: Delivery) -> None:
        follower.hint()

    appender = Append(pool, recorded)

    async def record(deliveries: Sequence[Delivery]) -> Mapping[int, Exception]:
        give_way.intake(at_once=len(deliveries))
        return await appender(deliveries)

    append = BatchSubscriber(
        broker,
        APPEND,
        record,
        largest=settings.batch_messages,
        linger_seconds=settings.batch_linger_ms / 1000,
    )
    archiver = Archiver(broker, pool, outbox, archived)
    broker.subscribe(REPLAY, Replay(pool, broker, outbox))
    # Another replica may record what this one's relay has to publish.
    broker.listen(HINTS, "", hinted, newest=1)

    async def prepare() -> None:
        await require_version(pool, "ingest", "ingest_0002")

    return Service(
        "ingest",
        pool,
        broker,
        prepare=prepare,
        tasks=[append.run, follower.run, hints.run, outbox.run, archiver.run],
        routers=[
            router(pool, broker, reads_need_key=settings.reads_need_key),
            reports_router(pool, broker),
            older.router(pool, broker, open_paths=settings.open_paths),
        ],
        body_limits={REPORTS_PATH: settings.report_bytes},
        checks={"dead_letters": archiver.check},
    )
