"""What is done with each message."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from pydantic import SecretStr

from buildlight_contracts.commands import ProvisionV1
from chassis.broker import Broker
from chassis.delivery import Delivery
from chassis.outage import outage_of
from chassis.retry import ATTEMPT, Permanent, reason_of
from services.provisioner import callback
from services.provisioner.job import CannotProvision, from_command, from_plain, without_values
from services.provisioner.metrics import CALLBACKS, JOB_DURATION, JOBS_ACCEPTED, JOBS_FAILED, JOBS_PROCESSED
from services.provisioner.queues import CALLBACK, WORK
from services.provisioner.steps import At, Tools, Walk, nowhere
from services.provisioner.store import Alone, Run, Store

log = structlog.get_logger()

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class FrontDoors:
    """Two ways in for one kind of job. Fast: checked, noted, put to work."""

    def __init__(self, store: Store, broker: Broker, *, clock: Clock = _now) -> None:
        self._store = store
        self._broker = broker
        self._clock = clock

    async def plain(self, delivery: Delivery) -> None:
        """A plain JSON job from the queue of others."""
        await self._accept(from_plain(delivery.body), door="queue")

    async def command(self, delivery: Delivery) -> None:
        job, envelope = from_command(delivery.body, now=self._clock())
        await self._accept(
            job, door="command", correlation_id=envelope.correlationid, causation_id=envelope.id
        )

    async def _accept(
        self,
        job: ProvisionV1,
        *,
        door: str,
        correlation_id: str | None = None,
        causation_id: str | None = None,
    ) -> None:
        accepted = await self._store.accept(
            job, self._clock(), correlation_id=correlation_id, causation_id=causation_id
        )
        if not accepted.is_same_job:
            raise Permanent(
                f"run_id {job.run_id!r} was already used for another job: send this one with a run_id of its own"
            )
        # Asked again while it is queued: the first time may have ended between the two.
        if accepted.status == "queued":
            await _put(self._broker, WORK.name, job.run_id)
        if accepted.is_new:
            JOBS_ACCEPTED.labels(door).inc()
            log.info("provisioning accepted", run_id=job.run_id, template=job.blueprint.template)


class Worker:
    """Carries out accepted runs, one message a run."""

    def __init__(
        self, store: Store, broker: Broker, tools: Tools, *, worker_id: str, tells: bool, at: At = nowhere
    ) -> None:
        self._store = store
        self._broker = broker
        self._tools = tools
        self._worker_id = worker_id
        self._tells = tells
        self._at = at

    async def work(self, delivery: Delivery) -> None:
        """Carry out a run, or go on with it.

        A failure that is an answer ends the run and the message. What may pass is retried; when every try is
        used up, the run has failed and the message dies, and goes on with the run when it is replayed.
        """
        run_id = _run_id(delivery)
        is_last = int(delivery.headers.get(ATTEMPT, 0)) >= len(self._broker.rungs)
        async with self._store.alone(run_id, "run") as alone:
            run = await alone.run()
            if run is None:
                raise Permanent(f"there is no run {run_id}: send its job to {WORK.owner} again")
            if run.is_over:
                await self._tell(alone)
                return
            await alone.begin(self._worker_id)
            await self._tell(alone)
            await self._try(alone, run, is_last=is_last)

    async def _try(self, alone: Alone, run: Run, *, is_last: bool) -> None:
        walk = Walk(self._tools, alone, run, tell=self._tell, at=self._at)
        try:
            await walk.go()
        except CannotProvision as refusal:
            await self._fail(alone, run, walk.current, str(refusal), resumable=False)
        except Exception as error:
            if outage_of(error) is None and is_last:
                reason = f"Given up after {len(self._broker.rungs) + 1} tries: {reason_of(error)}"
                await self._fail(alone, run, walk.current, reason, resumable=True)
            raise
        else:
            _count(await alone.run(), "succeeded")

    async def _fail(self, alone: Alone, run: Run, step: str, reason: str, *, resumable: bool) -> None:
        reason = without_values(reason, run.job.blueprint.values).replace("\0", "")
        await alone.fail(run, step, reason, _now(), resumable=resumable)
        JOBS_FAILED.labels(step).inc()
        _count(await alone.run(), "failed", step=step, reason=reason)
        await self._tell(alone)

    async def _tell(self, alone: Alone) -> None:
        """Have the control plane told, unless it has heard the newest."""
        run = await alone.run()
        if self._tells and run is not None and run.version > run.told:
            await _put(self._broker, CALLBACK.name, run.run_id)


class ControlPlane:
    """Tells the control plane how runs stand: always the newest, so that the order of messages is no matter."""

    def __init__(self, store: Store, *, url: str | None, api_key: SecretStr | None) -> None:
        self._store = store
        self._url = url
        self._api_key = api_key

    async def tell(self, delivery: Delivery) -> None:
        run_id = _run_id(delivery)
        if self._url is None:
            return
        async with self._store.alone(run_id, "callback") as alone:
            run = await alone.run()
            if run is None or run.told >= run.version:
                return
            body = callback.report(run, await alone.steps())
            await callback.send(
                self._url,
                self._api_key.get_secret_value() if self._api_key else None,
                body,
                idempotency_key=f"{run_id}/{run.version}",
            )
            await alone.told(run.version)
            CALLBACKS.labels(body["status"]).inc()


def _count(run: Run | None, status: str, **more: str) -> None:
    assert run is not None
    assert run.started_at is not None
    assert run.finished_at is not None
    seconds = (run.finished_at - run.started_at).total_seconds()
    JOBS_PROCESSED.labels(status).inc()
    JOB_DURATION.observe(seconds)
    log.info("provisioning ended", status=status, run_id=run.run_id, seconds=round(seconds, 3), **more)


async def _put(broker: Broker, queue: str, run_id: str) -> None:
    body = json.dumps({"run_id": run_id}).encode()
    await broker.put(body, key=queue, message_id=run_id, content_type="application/json")


def _run_id(delivery: Delivery) -> str:
    try:
        return str(json.loads(delivery.body)["run_id"])
    except (ValueError, KeyError, TypeError):
        raise Permanent('not {"run_id": "..."}') from None
