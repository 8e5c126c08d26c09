"""A task told to stop stops, whatever else happens at that moment."""

import asyncio
from typing import Any, cast

import pytest

from chassis.broker import Broker
from chassis.database import Pool
from chassis.follower import Follower
from chassis.outbox import Outbox


class IdleOutbox(Outbox):
    async def _publish_some(self) -> bool:
        return False


class IdleFollower(Follower):
    async def retry_parked(self) -> None:
        return

    async def catch_up(self) -> None:
        return


def outbox() -> Any:
    return IdleOutbox(cast("Pool", None), cast("Broker", None), schema="play")


def follower() -> Any:
    return IdleFollower("idle", cast("Pool", None), cast("Any", None), schema="play")


@pytest.mark.parametrize("make", [outbox, follower])
@pytest.mark.parametrize("turns", range(4))
async def test_news_at_the_moment_of_the_stop_do_not_outlive_it(make: Any, turns: int) -> None:
    """The wake-up and the cancellation arrive together: the task ends all the same."""
    idle = make()
    task = asyncio.create_task(idle.run())
    await asyncio.sleep(0.01)
    idle._woken.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done == {task}
    assert task.cancelled()
