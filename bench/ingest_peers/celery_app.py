"""Celery doing the job: a task that inserts one row a message, acknowledged after it ran."""

import asyncio
import json
import os
from typing import Any

import asyncpg
from celery import Celery
from kombu.entity import Exchange, Queue

INSERT = """
    INSERT INTO bench.rows (id, type, subject, occurred_at, data)
    VALUES ($1, $2, $3, $4::text::timestamptz, $5::text::jsonb)
"""

app = Celery("bench", broker=os.environ["BUILDLIGHT_AMQP_URL"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=100,
    worker_send_task_events=False,
    worker_detect_quorum_queues=True,
    broker_connection_retry_on_startup=True,
    task_queues=[
        Queue(  # type: ignore[no-untyped-call]
            name,
            Exchange(name),  # type: ignore[no-untyped-call]
            routing_key=name,
            queue_arguments={"x-queue-type": "quorum"},
        )
        for name in ("bench.celery", "bench.idle")
    ],
)
loop = asyncio.new_event_loop()
connection: Any = None


async def _insert(event: dict[str, Any]) -> None:
    global connection  # noqa: PLW0603 -- one a worker process, as is usual with Celery
    if connection is None:
        connection = await asyncpg.connect(os.environ["BUILDLIGHT_DATABASE_URL"])
    await connection.execute(
        INSERT, event["id"], event["type"], event["subject"], event["time"], json.dumps(event["data"])
    )


@app.task(name="bench.insert")  # type: ignore[untyped-decorator]
def insert(event: dict[str, Any]) -> None:
    """Insert one row."""
    loop.run_until_complete(_insert(event))
