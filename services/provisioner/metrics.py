"""What the provisioner counts; the older names with our prefix."""

import asyncio
from collections.abc import Sequence

import structlog
from aio_pika.exceptions import AMQPError
from prometheus_client import Counter, Gauge, Histogram

from chassis.broker import Broker
from chassis.topology import Queue

JOBS_ACCEPTED = Counter("buildlight_provisioner_jobs_accepted_total", "Jobs accepted, each once.", ["door"])
JOBS_PROCESSED = Counter(
    "buildlight_provisioner_jobs_processed_total", "Runs that came to an end, either way.", ["status"]
)
JOBS_FAILED = Counter("buildlight_provisioner_jobs_failed_total", "Runs that failed.", ["step"])
JOB_DURATION = Histogram(
    "buildlight_provisioner_job_duration_seconds",
    "From a run's first step to its end, waits for retries included.",
    buckets=(0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600),
)
STEP_DURATION = Histogram(
    "buildlight_provisioner_step_duration_seconds",
    "One step that was done.",
    ["step"],
    buckets=(0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600),
)
CALLBACKS = Counter(
    "buildlight_provisioner_callbacks_total", "Call-backs the control plane took.", ["status"]
)
QUEUE_DEPTH = Gauge("buildlight_provisioner_queue_depth", "Messages that wait in a queue.", ["queue"])

_LOOK_SECONDS = 15.0

log = structlog.get_logger()


async def watch_depths(broker: Broker, queues: Sequence[Queue]) -> None:
    """Keep `QUEUE_DEPTH` until cancelled."""
    while True:
        try:
            connection = await broker.faststream.connect()
            channel = await connection.channel()
            try:
                for queue in queues:
                    declared = await channel.declare_queue(queue.name, passive=True)
                    QUEUE_DEPTH.labels(queue.name).set(declared.declaration_result.message_count or 0)
            finally:
                await channel.close()
        except (AMQPError, OSError, RuntimeError) as error:
            log.info("cannot look at the queues", error=str(error))
        await asyncio.sleep(_LOOK_SECONDS)
