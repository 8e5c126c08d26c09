"""The ingest service itself, whole: relay, hints and archive run beside the append."""

import asyncio
import os

import asyncpg

from bench.ingest_peers.protocol import serve
from services.ingest.service import build
from services.ingest.settings import IngestSettings


async def main() -> None:
    service = build(IngestSettings.load())
    await service.start()
    append, *others = service.tasks
    background = [asyncio.create_task(task()) for task in others]
    database = await asyncpg.connect(os.environ["BUILDLIGHT_DATABASE_URL"])

    async def run(count: int) -> None:
        before = await database.fetchval("SELECT position FROM log.head")
        task = asyncio.create_task(append())
        while await database.fetchval("SELECT position FROM log.head") < before + count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()  # which acknowledges the batch in hand
        await asyncio.gather(task, return_exceptions=True)

    await serve(run)
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    await service.stop()


asyncio.run(main())
