"""The notifier put together."""

from collections.abc import Mapping
from datetime import timedelta

import structlog

from chassis.broker import Broker
from chassis.database import make_pool, require_version
from chassis.outbox import Outbox
from chassis.service import Service
from services.notifier.channels.channel import Channel
from services.notifier.channels.mail import Mail
from services.notifier.channels.slack import Slack
from services.notifier.handlers import Deliverer, Evaluator
from services.notifier.queues import CHANNELS, EVALUATE
from services.notifier.rules import DEFAULT_RULES
from services.notifier.settings import NotifierSettings
from services.notifier.store import Store

log = structlog.get_logger()


def build(settings: NotifierSettings) -> Service:
    """Nothing connects yet. A channel that is not configured is off: its queue has no consumer."""
    pool = make_pool(
        settings.database_url.get_secret_value(),
        application="notifier",
        max_size=settings.database_pool_size,
    )
    broker = Broker(settings.amqp_url.get_secret_value(), service="notifier", rungs=settings.retry_rungs)
    outbox = Outbox(pool, broker, schema="notifier")
    store = Store(pool, outbox)
    channels = configured(settings)
    broker.subscribe(
        EVALUATE,
        Evaluator(
            store,
            broker,
            rules=DEFAULT_RULES,
            channels=tuple(channels),
            max_age=timedelta(seconds=settings.max_age_seconds),
        ),
    )
    for name, channel in channels.items():
        broker.subscribe(
            CHANNELS[name],
            Deliverer(
                store,
                broker,
                channel,
                name=name,
                public_url=settings.public_url,
                # Longer than a try can take: until then a copy of the message waits for its end.
                claim_seconds=2 * settings.send_timeout_seconds,
            ),
        )

    async def prepare() -> None:
        await require_version(pool, "notifier", "notifier_0001")
        for name in CHANNELS:
            missing = settings.missing(name)
            if missing:
                log.warning("channel is off", channel=name, not_set=", ".join(missing))
            else:
                log.info("channel is on", channel=name)

    return Service("notifier", pool, broker, prepare=prepare, tasks=[outbox.run])


def configured(settings: NotifierSettings) -> Mapping[str, Channel]:
    """The channels that are on, by name."""
    channels: dict[str, Channel] = {}
    if settings.slack_webhook:
        channels["slack"] = Slack(settings.slack_webhook, timeout_seconds=settings.send_timeout_seconds)
    if settings.smtp_host and settings.mail_from and settings.mail_to:
        channels["mail"] = Mail(
            settings.smtp_host,
            settings.smtp_port,
            sender=settings.mail_from,
            recipients=settings.mail_to,
            user=settings.smtp_user,
            password=settings.smtp_password,
            tls=settings.smtp_tls,
            timeout_seconds=settings.send_timeout_seconds,
        )
    return channels
