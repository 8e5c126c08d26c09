"""Telling a dependency that is down from a message that is bad, and waiting for it."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from aio_pika.exceptions import AMQPConnectionError, ChannelClosed, ChannelInvalidStateError
from aiormq.exceptions import AMQPConnectionError as AiormqConnectionError
from aiormq.exceptions import AuthenticationError, ProbableAuthenticationError

from chassis.database import is_misconfigured, is_outage

LONGEST_BACKOFF_SECONDS = 5.0

_BROKER_AWAY = (AMQPConnectionError, AiormqConnectionError, ChannelInvalidStateError)

log = structlog.get_logger()


class Outage(Exception):  # noqa: N818 -- a state of the world, not a kind of bug
    """A dependency as a whole is away: `postgres`, `rabbitmq`, `github`, `slack`, ..."""

    def __init__(self, dependency: str, detail: str = "") -> None:
        super().__init__(f"{dependency} is down: {detail}" if detail else f"{dependency} is down")
        self.dependency = dependency


def outage_of(error: BaseException) -> Outage | None:
    """The outage behind `error`, or None when the fault lies elsewhere."""
    if isinstance(error, Outage):
        return error
    if isinstance(error, AuthenticationError | ProbableAuthenticationError):
        return None  # waiting mends no password
    # The broker's first: its errors are OSErrors too. A refused declaration closes its channel, but is no outage.
    if isinstance(error, _BROKER_AWAY) or type(error) is ChannelClosed:
        return Outage("rabbitmq", str(error))
    if is_outage(error):
        return Outage("postgres", str(error))
    return None


async def patiently(dependency: str, attempt: Callable[[], Awaitable[object]]) -> None:
    """Call `attempt` until it does not fail for want of a connection, with backoff."""
    for tries in range(1_000_000):
        try:
            await attempt()
            return
        except Exception as error:
            if outage_of(error) is None or is_misconfigured(error):
                raise
            if tries == 0:
                log.warning("waiting for a dependency", dependency=dependency, error=str(error))
            await asyncio.sleep(min(LONGEST_BACKOFF_SECONDS, 0.2 * 2 ** min(tries, 10)))
