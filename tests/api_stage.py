"""A stage for the API: the read models it reads, filled by hand, and the service running behind a real port.

The other services' migrations make the read models. Where one of them is not in the checkout, tables of the same
shape stand in.
"""

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import uvicorn

from buildlight_contracts.builds import BuildRef, PipelineRef
from buildlight_contracts.envelope import NAMESPACE, Envelope, Fact
from buildlight_contracts.routing import EVENTS, POSITION_HEADER
from chassis.http import make_app
from chassis.service import WEB, Service
from services.api.service import build
from services.api.settings import ApiSettings

KEY = "an-admin-key-for-tests-only"
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)

_STAND_INS = {
    "analytics.builds": """
        CREATE TABLE analytics.builds (
            build_id uuid PRIMARY KEY, pipeline_id uuid, provider text, instance text, repository_id text,
            repository text, workflow_id text, workflow text, run_id text, attempt int, run_number int, title text,
            event text, branch text, commit_sha text, commit_message text, author text, actor text,
            pull_request int, url text, raw_status text, raw_conclusion text, state text, created_at timestamptz,
            started_at timestamptz, finished_at timestamptz, updated_at timestamptz,
            ordered_at timestamptz NOT NULL, duration_seconds double precision, queue_seconds double precision,
            position bigint);
        CREATE INDEX ON analytics.builds (ordered_at DESC, build_id DESC);
        CREATE INDEX ON analytics.builds (pipeline_id, ordered_at);
    """,
    "analytics.jobs": """
        CREATE TABLE analytics.jobs (
            job_key uuid PRIMARY KEY, build_id uuid, job_id text, name text, runner text, url text, raw_status text,
            raw_conclusion text, state text, created_at timestamptz, started_at timestamptz,
            finished_at timestamptz, observed_at timestamptz, duration_seconds double precision,
            queue_seconds double precision, steps jsonb, position bigint)
    """,
    "analytics.pipelines": """
        CREATE TABLE analytics.pipelines (
            pipeline_id uuid PRIMARY KEY, provider text, instance text, repository_id text, repository text,
            workflow_id text, workflow text, branch text, state text, latest_build_id uuid,
            conclusive_build_id uuid, state_since timestamptz, ordered_at timestamptz)
    """,
    "analytics.unavailable_attempts": """
        CREATE TABLE analytics.unavailable_attempts (
            build_id uuid PRIMARY KEY, subject text, attempt int, repository text, status int,
            noticed_at timestamptz)
    """,
}
# Of these the API reads views; what is behind them is their owners' business, so tables take their place.
_VIEWS = {
    "provisioner.published_runs": """
        CREATE TABLE provisioner.published_runs (
            run_id text, status text, kind text, template text, name text, namespace text, group_id text,
            visibility text, project_id bigint, project_url text, commit_sha text, error text,
            created_at timestamptz, started_at timestamptz, finished_at timestamptz)
    """,
    "provisioner.published_steps": """
        CREATE TABLE provisioner.published_steps (
            run_id text, number int, step text, status text, detail text, started_at timestamptz,
            finished_at timestamptz, duration_seconds double precision)
    """,
    "notifier.published_history": """
        CREATE TABLE notifier.published_history (
            delivery_id uuid, rule text, channel text, title text, status text, reason text, fact_type text,
            fact_id text, created_at timestamptz, sent_at timestamptz)
    """,
}


class Stage:
    """Writes the read models directly, as their owner would."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.connection = connection

    async def prepare(self) -> None:
        for name, ddl in _STAND_INS.items():
            if await self.connection.fetchval("SELECT to_regclass($1)", name) is None:
                await self._create(name, ddl)
        for name, ddl in _VIEWS.items():
            kind = await self.connection.fetchval(
                "SELECT relkind::text FROM pg_class WHERE oid = to_regclass($1)", name
            )
            if kind == "v":
                await self.connection.execute(f"DROP VIEW {name} CASCADE")
            if kind in {None, "v"}:
                await self._create(name, ddl)

    async def _create(self, name: str, ddl: str) -> None:
        schema = name.partition(".")[0]
        await self.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        await self.connection.execute(ddl)
        await self.connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO buildlight_reader")
        await self.connection.execute(f"GRANT SELECT ON {name} TO buildlight_reader")

    async def put(self, table: str, key: str, row: dict[str, Any]) -> None:
        """Insert or replace a row; columns the table lacks are left out."""
        schema, _, name = table.partition(".")
        has = {
            record["column_name"]: record["data_type"]
            for record in await self.connection.fetch(
                "SELECT column_name, data_type FROM information_schema.columns "
                "WHERE table_schema = $1 AND table_name = $2",
                schema,
                name,
            )
        }
        row = {
            column: json.dumps(value) if has[column] == "jsonb" else value
            for column, value in row.items()
            if column in has
        }
        columns = ", ".join(row)
        places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        await self.connection.execute(f"DELETE FROM {table} WHERE {key} = $1", row[key])
        await self.connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", *row.values())

    async def build(
        self,
        run: int,
        state: str = "success",
        *,
        at: datetime = NOON,
        repository: str = "acme/shop",
        workflow: str = "CI",
        branch: str | None = "main",
        attempt: int = 1,
        seconds: float | None = 60.0,
        author: str = "ada",
        message: str = "Take cards with a long number",
        **changes: Any,
    ) -> UUID:
        """One attempt of a run, and its pipeline's row as the newest build makes it. Returns the build's id."""
        repository_id = str(sum(map(ord, repository)))
        workflow_id = str(sum(map(ord, workflow)))
        ref = BuildRef(
            provider="github",
            instance="api.github.com",
            repository_id=repository_id,
            run_id=str(run),
            attempt=attempt,
        )
        pipeline = PipelineRef(
            provider="github",
            instance="api.github.com",
            repository_id=repository_id,
            workflow_id=workflow_id,
            branch=branch,
        )
        ended = state not in {"queued", "waiting", "action_required", "running", "unknown"}
        started = None if state in {"queued", "waiting"} else at + timedelta(seconds=5)
        row = {
            "build_id": ref.build_id,
            "pipeline_id": pipeline.pipeline_id,
            "provider": "github",
            "instance": "api.github.com",
            "repository_id": repository_id,
            "repository": repository,
            "workflow_id": workflow_id,
            "workflow": workflow,
            "run_id": str(run),
            "attempt": attempt,
            "run_number": run,
            "run_order": run,
            "state_rank": 5,
            "event_id": ref.build_id,
            "title": message,
            "event": "push",
            "branch": branch,
            "commit_sha": uuid5(NAMESPACE, f"{repository}{run}").hex + "00000000",
            "commit_message": message,
            "author": author,
            "actor": author,
            "pull_request": None,
            "url": f"https://github.example/{repository}/actions/runs/{run}",
            "raw_status": "completed" if ended else "in_progress" if state == "running" else state,
            "raw_conclusion": state if ended else None,
            "state": state,
            "created_at": at,
            "started_at": started,
            "finished_at": started + timedelta(seconds=seconds or 0) if ended and started else None,
            "updated_at": at + timedelta(seconds=5 + (seconds or 0)),
            "ordered_at": at,
            "duration_seconds": seconds if ended else None,
            "queue_seconds": 5.0 if started else None,
            "position": run,
            **changes,
        }
        await self.put("analytics.builds", "build_id", row)
        await self._pipeline(row)
        return ref.build_id

    async def _pipeline(self, row: dict[str, Any]) -> None:
        old = await self.connection.fetchrow(
            "SELECT * FROM analytics.pipelines WHERE pipeline_id = $1", row["pipeline_id"]
        )
        if old and old["ordered_at"] > row["ordered_at"]:
            return
        conclusive = row["state"] in {"success", "failure", "timed_out", "startup_failure"}
        turned = conclusive and (
            old is None
            or old["state"] == "unknown"
            or (old["state"] == "success") != (row["state"] == "success")
        )
        await self.put(
            "analytics.pipelines",
            "pipeline_id",
            {
                **{name: row[name] for name in ("pipeline_id", "provider", "instance", "repository_id")},
                **{
                    name: row[name]
                    for name in ("repository", "workflow_id", "workflow", "branch", "ordered_at")
                },
                "state": row["state"] if conclusive else old["state"] if old else "unknown",
                "latest_build_id": row["build_id"],
                "conclusive_build_id": row["build_id"]
                if conclusive
                else old["conclusive_build_id"]
                if old
                else None,
                "state_since": row["finished_at"] if turned else old["state_since"] if old else None,
            },
        )

    async def job(self, build_id: UUID, number: int, name: str, state: str, **changes: Any) -> None:
        row = {
            "job_key": uuid5(build_id, str(number)),
            "build_id": build_id,
            "job_id": str(number),
            "name": name,
            "runner": "ubuntu-24.04",
            "url": None,
            "raw_status": "completed",
            "raw_conclusion": state,
            "state": state,
            "created_at": NOON,
            "started_at": NOON + timedelta(seconds=5),
            "finished_at": NOON + timedelta(seconds=65),
            "observed_at": NOON + timedelta(seconds=65),
            "duration_seconds": 60.0,
            "queue_seconds": 5.0,
            "steps": [],
            "state_rank": 5,
            "event_id": build_id,
            "position": 1,
            **changes,
        }
        await self.put("analytics.jobs", "job_key", row)

    async def record(self, fact: Fact) -> int:
        """Append a fact to the log, as ingest does. Returns its position."""
        envelope = Envelope.of(fact, source="https://ci.acme.example")
        return int(
            await self.connection.fetchval(
                """
                SELECT position FROM log.append(
                    ARRAY[$1::uuid], ARRAY[sha256($2::bytea)], ARRAY[$3], ARRAY[$4], ARRAY[$5], ARRAY[$6::timestamptz],
                    ARRAY[NULL::text], ARRAY[NULL::text], ARRAY[NULL::text], ARRAY[$7])
                """,
                envelope.id,
                envelope.id.encode(),
                envelope.type,
                envelope.subject,
                envelope.source,
                envelope.time,
                json.dumps(envelope.data),
            )
        )


@contextlib.asynccontextmanager
async def staged(database_url: str) -> AsyncIterator[Stage]:
    connection = await asyncpg.connect(database_url)
    try:
        stage = Stage(connection)
        await stage.prepare()
        yield stage
    finally:
        await connection.close()


@dataclass(frozen=True)
class Running:
    """The API behind a port of this machine."""

    service: Service
    url: str

    async def relay(self, fact: Fact, position: int) -> None:
        """Publish a recorded fact on the events exchange, as ingest's relay does."""
        await self.service.broker.publish(
            Envelope.of(fact, source="https://ci.acme.example"),
            EVENTS,
            headers={POSITION_HEADER: position},
        )


@contextlib.asynccontextmanager
async def running(database_url: str, amqp_url: str, **settings: Any) -> AsyncIterator[Running]:
    service = build(
        ApiSettings.load(database_url=database_url, amqp_url=amqp_url, **{"admin_key": KEY, **settings})
    )
    app = make_app()
    for middleware in service.middleware:
        app.add_middleware(middleware.cls, *middleware.args, **middleware.kwargs)
    for router in service.routers:
        app.include_router(router)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, **WEB))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    await service.start()
    tasks = [asyncio.create_task(task()) for task in service.tasks]
    web = asyncio.create_task(server.serve([listener]))
    try:
        while not server.started:  # noqa: ASYNC110 -- uvicorn sends no event
            await asyncio.sleep(0.01)
        yield Running(service, f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.should_exit = True
        server.force_exit = True
        await web
        await service.stop()


_WORKFLOWS = ("CI", "Deploy", "Nightly end-to-end")
_AUTHORS = ("ada", "grace", "linus", "margaret", "renovate[bot]")
_MESSAGES = (
    "Take cards with a long number",
    "Do not ask twice for the same address",
    "Bump the HTTP client",
    "Retry the warehouse's inventory call when it times out",
    "Show prices with tax in the basket",
    "Fix a race in the session store",
    "Remove the old checkout",
)


async def fill(stage: Stage, now: datetime, *, seed: int = 1) -> UUID:
    """A company's last days up to `now`, lively enough to look at. Returns a failed build that has jobs."""
    chance = random.Random(seed)
    shown: UUID | None = None
    run = 400
    pipelines = [
        (repository, workflow, branch)
        for repository in ("acme/shop", "acme/warehouse", "acme/mobile-app", "acme/design-system")
        for workflow in _WORKFLOWS
        for branch in (("main", "fix/session-race") if workflow == "CI" else ("main",))
    ]
    for index, (repository, workflow, branch) in enumerate(pipelines):
        streak = index in {2, 6, 13}
        for age in range(18, 0, -1):
            run += 1
            at = now - timedelta(minutes=age * chance.uniform(31, 37) + index)
            state = chance.choices(
                ("success", "failure", "cancelled", "skipped", "timed_out"), (84, 8, 4, 2, 2)
            )[0]
            if age <= 3:
                state = "failure" if streak else "success"
            if age == 1 and index in {1, 4, 9}:
                state = ("running", "queued", "action_required")[(1, 4, 9).index(index)]
                at = now - timedelta(minutes=chance.uniform(1, 6))
            if index == 11 and age == 5:
                state = "unknown"
            built = await stage.build(
                run,
                state,
                at=at,
                repository=repository,
                workflow=workflow,
                branch=branch,
                seconds=chance.lognormvariate(5.2, 0.5),
                author=chance.choice(_AUTHORS),
                message=chance.choice(_MESSAGES),
                attempt=2 if chance.random() < 0.08 else 1,
                **({"raw_status": "pondering", "raw_conclusion": None} if state == "unknown" else {}),
            )
            if streak and age == 1 and shown is None:
                shown = built
                await _jobs(stage, built, at)
    for number, (title, status, reason) in enumerate(
        (
            ("acme/shop: Deploy broke on main", "sent", None),
            ("acme/warehouse: CI recovered on main", "sent", None),
            ("acme/mobile-app: CI broke on main", "failed", "Slack says channel_not_found"),
            ("acme/design-system: Nightly end-to-end broke on main", "pending", None),
        )
    ):
        await stage.put(
            "notifier.published_history",
            "delivery_id",
            {
                "delivery_id": UUID(int=number + 1),
                "rule": "main-is-red",
                "channel": ("slack", "mail")[number % 2],
                "title": title,
                "status": status,
                "reason": reason,
                "fact_type": "pipeline.broke.v1",
                "fact_id": str(UUID(int=number)),
                "created_at": now - timedelta(minutes=7 + 40 * number),
                "sent_at": now - timedelta(minutes=7 + 40 * number) if status == "sent" else None,
            },
        )
    for number, (status, name, error) in enumerate(
        (
            ("running", "payments", None),
            ("succeeded", "invoices", None),
            ("failed", "ledger", "the group 815 allows no new projects"),
        )
    ):
        await stage.put(
            "provisioner.published_runs",
            "run_id",
            {
                "run_id": f"prov-{number}",
                "status": status,
                "kind": "component",
                "template": "go-backend",
                "name": name,
                "namespace": "payments-team",
                "visibility": "private",
                "project_url": "https://gitlab.example/payments-team/invoices"
                if status == "succeeded"
                else None,
                "error": error,
                "created_at": now - timedelta(minutes=3 + 90 * number),
                "finished_at": None if status == "running" else now - timedelta(minutes=2 + 90 * number),
            },
        )
    assert shown is not None
    return shown


async def _jobs(stage: Stage, build: UUID, at: datetime) -> None:
    def moment(seconds: float) -> datetime:
        return at + timedelta(seconds=seconds)

    plans = (
        ("lint", "success", 8, 35),
        ("unit tests (3.11)", "success", 9, 118),
        ("unit tests (3.12)", "failure", 11, 141),
        ("build image", "success", 120, 190),
        ("end-to-end <script>alert(1)</script>", "skipped", 190, 190),
    )
    for number, (name, state, begin, end) in enumerate(plans):
        cuts = [begin + (end - begin) * part for part in (0, 0.05, 0.2, 0.9, 1)]
        steps = [
            {
                "number": step + 1,
                "name": title,
                "raw_status": "completed",
                "raw_conclusion": state if step == 2 else "success",
                "state": state if step == 2 else "success",
                "started_at": moment(cuts[step]).isoformat(),
                "finished_at": moment(cuts[step + 1]).isoformat(),
            }
            for step, title in enumerate(("Set up", "Check out", f"Run {name}", "Clean up"))
        ]
        await stage.job(
            build,
            number,
            name,
            state,
            created_at=moment(2),
            started_at=moment(begin),
            finished_at=moment(end),
            duration_seconds=float(end - begin),
            steps=[] if state == "skipped" else steps,
        )


@dataclass(frozen=True)
class Watched:
    """A target as the poller's tables have it; times are before `now`."""

    name: str
    days: tuple[tuple[int, int, int, int], ...] = ()
    """From today back: at the provider, unavailable, missing, open though ended; zeros before that."""
    gaps: tuple[tuple[str, int, str, str, str], ...] = ()
    """Run, attempt, kind, reason, detail."""
    reach_days: int = 30
    """How many days were measured, today the last."""
    measured: timedelta | None = timedelta(minutes=40)
    worked: timedelta | None = timedelta(seconds=30)
    failing: tuple[timedelta, str, str] | None = None
    """Since, reason, detail."""
    postponed: str | None = None
    asked_again: int = 0

    @property
    def id(self) -> UUID:
        return uuid5(NAMESPACE, self.name)


async def watch(stage: Stage, *targets: Watched, now: datetime) -> None:
    """Write what the poller keeps of `targets` and of how complete they are."""
    for target in targets:
        since, reason, detail = target.failing or (None, None, None)
        await stage.put(
            "poller.targets",
            "target_id",
            {
                "target_id": target.id,
                "provider": "github",
                "instance": "api.github.com",
                "target": target.name,
                "polled_at": now,
                "succeeded_at": now - target.worked if target.worked is not None else None,
                "listed_through": now,
                "failing_since": now - since if since is not None else None,
                "failing_reason": reason,
                "failing_detail": detail,
            },
        )
        if target.measured is None and target.postponed is None:
            continue
        at = now - target.measured if target.measured is not None else None
        await stage.put(
            "poller.completeness",
            "target_id",
            {
                "target_id": target.id,
                "request_id": UUID(int=7) if at else None,
                "since": now - timedelta(days=30) if at else None,
                "until": at,
                "measured_at": at,
                "took_seconds": 3.5 if at else None,
                "asked_again": target.asked_again if at else None,
                "postponed_until": now + timedelta(minutes=5) if target.postponed else None,
                "postponed_why": target.postponed,
                "postponed_request_id": UUID(int=8) if target.postponed else None,
            },
        )
        await stage.connection.executemany(
            "INSERT INTO poller.completeness_days VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            [
                (target.id, (now - timedelta(days=age)).date(), total, total - lacks, gone, lacks, held, at)
                for age, (total, gone, lacks, held) in enumerate(
                    (*target.days, *((0, 0, 0, 0),) * (target.reach_days - len(target.days)))
                )
            ],
        )
        await stage.connection.executemany(
            "INSERT INTO poller.completeness_gaps VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            [
                (target.id, run, attempt, kind, reason, detail, now - timedelta(hours=1), at)
                for run, attempt, kind, reason, detail in target.gaps
            ],
        )
