"""One fact, whoever tells it, of GitLab and of Jenkins: their polls, and their webhooks as badly as they come."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from buildlight_contracts.builds import BuildObservedV1, JobObservedV1
from buildlight_contracts.states import State
from chassis.database import Pool, make_pool
from chassis.topology import declare
from services.ingest.queues import QUEUES
from services.poller.service import FACTS_OF
from tests.corpora import corpora, corpus
from tests.integration.ingest.conftest import running
from tests.integration.poller.conftest import Intake, Sandbox, StartPoller
from tests.integration.poller.webhook_door import Address, hearing_refreshes, listening, open_door

pytestmark = pytest.mark.timeout(240)
SECRET = "shared"
SIGNING_TOKEN = "whsec_c2hhcmVk"
RUNS = 4
BADLY = {
    "twice": 0.6,
    "late": 0.3,
    "late_seconds": 1.5,
    "out_of_order": 0.6,
    # GitLab pauses a hook that is refused four times in a row.
    "forged": 0.05,
}
Told = tuple[str, int, str]
"""A build's run and attempt, with the provider's word for its state."""
Eventually = Callable[..., Any]


class Side(Protocol):
    """A provider of the sandbox, and the runs that a test makes on it; a run is known by its number there."""

    name: str
    target: str
    hook: dict[str, Any]

    def __init__(self, sandbox: Sandbox) -> None: ...

    def settings(self) -> dict[str, Any]: ...

    def prepare(self) -> None:
        """Make what a poller can find."""

    def steps(self) -> list[Callable[[], list[Told]]]:
        """What happens, in order; each tells which states there are then."""
        ...

    def run_of(self, row: dict[str, Any]) -> str:
        """The number of the run a fact is about."""
        ...


class GitLabSide:
    """Pipelines of two jobs, one of which fails in every other pipeline and is run again."""

    name = "gitlab"
    target = "acme/shop"
    hook: dict[str, Any] = {"signing_token": SIGNING_TOKEN}  # noqa: RUF012 -- never changed

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._runs: list[int] = []
        self._begun = datetime.now(UTC) - timedelta(minutes=2)

    def settings(self) -> dict[str, Any]:
        return {
            "gitlab_url": self._sandbox.addresses["gitlab"],
            "gitlab_token": "sandbox-token",
            "gitlab_projects": (self.target,),
            "gitlab_webhook_signing_tokens": (SIGNING_TOKEN,),
            "gitlab_webhook_secrets": (SECRET,),
        }

    def prepare(self) -> None:
        # A project is there from its first pipeline on.
        self._make("success")

    def steps(self) -> list[Callable[[], list[Told]]]:
        return [self._begin, self._start, self._end, self._retry, self._end_again]

    def run_of(self, row: dict[str, Any]) -> str:
        return str(row["build"]["run_id"])

    def _make(self, status: str) -> int:
        at = self._at(0)
        made = self._sandbox.control(
            "POST",
            "/gitlab/pipelines",
            json={
                "project": self.target,
                "status": status,
                "created_at": at,
                "updated_at": at,
                "jobs": [{"name": "lint", "status": status}, {"name": "unit", "status": status}],
            },
        )
        return int(made["id"])

    def _begin(self) -> list[Told]:
        self._runs = [self._make("pending") for _ in range(RUNS)]
        return [(str(run), 1, "pending") for run in self._runs]

    def _start(self) -> list[Told]:
        for run in self._runs:
            self._move(run, 10, "running", lint="running", unit="running")
        return [(str(run), 1, "running") for run in self._runs]

    def _end(self) -> list[Told]:
        for run in self._runs:
            status = self._ends(run)
            self._move(run, 20, status, lint="success", unit=status)
        return [(str(run), 1, self._ends(run)) for run in self._runs]

    def _retry(self) -> list[Told]:
        failed = self._runs[::2]
        for run in failed:
            self._move(run, 40, "running", retry=["unit"], retried_at=self._at(30), unit="running")
        return [(str(run), 2, "running") for run in failed]

    def _end_again(self) -> list[Told]:
        failed = self._runs[::2]
        for run in failed:
            self._move(run, 50, "success", unit="success")
        return [(str(run), 2, "success") for run in failed]

    def _ends(self, run: int) -> str:
        return "failed" if run in self._runs[::2] else "success"

    def _move(self, run: int, second: int, status: str, **change: Any) -> None:
        again = {name: change.pop(name) for name in ("retry", "retried_at") if name in change}
        jobs = [{"name": name, "status": state} for name, state in change.items()]
        script = {"status": status, "updated_at": self._at(second), "jobs": jobs} | again
        self._sandbox.control("PATCH", f"/gitlab/pipelines/{run}", json=script)

    def _at(self, second: int) -> str:
        return (self._begun + timedelta(seconds=second)).isoformat()


class JenkinsSide:
    """Builds of one job in a folder."""

    name = "jenkins"
    target = "acme/nightly"
    hook: dict[str, Any] = {"secret": SECRET}  # noqa: RUF012 -- never changed

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._numbers: list[int] = []

    def settings(self) -> dict[str, Any]:
        return {
            "jenkins_enabled": True,
            "jenkins_url": self._sandbox.addresses["jenkins"],
            "jenkins_username": self._sandbox.addresses["jenkins_username"],
            "jenkins_token": self._sandbox.addresses["jenkins_token"],
            "jenkins_jobs": ("acme/*",),
            "jenkins_webhook_secrets": (SECRET,),
        }

    def prepare(self) -> None:
        self._sandbox.control("POST", "/jenkins/jobs", json={"name": self.target})

    def steps(self) -> list[Callable[[], list[Told]]]:
        return [self._begin, self._end]

    def run_of(self, row: dict[str, Any]) -> str:
        return str(row["build"]["run_id"]).partition("@")[0]

    def _begin(self) -> list[Told]:
        for _ in range(RUNS):
            made = self._sandbox.control("POST", "/jenkins/builds", json={"job": self.target})
            self._numbers.append(made["number"])
        return [(str(number), 1, "building") for number in self._numbers]

    def _end(self) -> list[Told]:
        for number, result in zip(self._numbers, ("SUCCESS", "UNSTABLE") * RUNS, strict=False):
            self._sandbox.control(
                "PATCH",
                "/jenkins/builds",
                params={"job": self.target, "number": number},
                json={"building": False, "result": result},
            )
        return [(str(number), 1, "completed") for number in self._numbers]


@pytest.mark.parametrize("provider", [GitLabSide, JenkinsSide])
async def test_polls_and_unruly_webhooks_make_one_event_of_one_fact(
    provider: type[Side],
    bare: Sandbox,
    start_poller: StartPoller,
    database_url: str,
    amqp_url: str,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each state of each attempt is in the log once, and the newest of each is an end; so are its jobs."""
    monkeypatch.setattr("services.poller.discovery._LOOK_SECONDS", 0.1)
    await declare(amqp_url, QUEUES, ["5s"])
    side = provider(bare)
    side.prepare()
    settings = side.settings() | {"interval_seconds": 1, "tasks": True}
    async with (
        running(amqp_url, database_url),
        start_poller(bare, [], **settings) as poller,
        listening(poller.service) as door,
        make_pool(database_url, application="test") as pool,
    ):
        await eventually(lambda: _is_polled(pool, side.target))
        order = {"provider": side.name, "url": f"http://127.0.0.1:{door.port}/webhooks/{side.name}"}
        bare.control("POST", "/webhooks", json=order | BADLY | side.hook)
        expected: list[Told] = []
        for step in side.steps():
            there_is = step()
            expected += there_is
            # What a retry replaces no poll will see again, and Jenkins' hooks are but hints.
            await eventually(lambda there_is=there_is: _are_in_the_log(pool, side, there_is))
        await eventually(lambda: _is_all_delivered(bare))
        polled = await _polls(pool)
        await eventually(lambda: _has_polled_since(pool, polled))
        await poller.intake.settle()
        # A job's end may be seen a poll later than its build's.
        await eventually(lambda: _jobs_have_ended(pool))
        rows = await _rows(pool, "build.observed")
        jobs = await _rows(pool, "job.observed")
        [hook] = bare.control("GET", "/webhooks")
    runs = {run for run, _, _ in expected}
    told = Counter(_told(side, row) for row in rows if side.run_of(row) in runs)
    assert told == Counter(expected)
    assert set(Counter(_job(row) for row in jobs).values()) == {1}
    assert all(state.is_terminal for state in _newest(rows, "updated_at", _attempt).values())
    heard = [fact.identity() for fact in poller.intake.facts(BuildObservedV1)]
    assert len(heard) >= len(set(heard)) == len(rows)
    assert hook["counts"]["answered 202"] > RUNS


async def _is_polled(pool: Pool, target: str) -> bool:
    return bool(await pool.fetchval("SELECT succeeded_at FROM poller.targets WHERE target = $1", target))


async def _polls(pool: Pool) -> datetime:
    found: datetime = await pool.fetchval("SELECT max(polled_at) FROM poller.targets")
    return found


async def _has_polled_since(pool: Pool, moment: datetime) -> bool:
    return await _polls(pool) > moment


async def _are_in_the_log(pool: Pool, side: Side, expected: list[Told]) -> bool:
    return set(expected) <= {_told(side, row) for row in await _rows(pool, "build.observed")}


def _is_all_delivered(sandbox: Sandbox) -> bool:
    [hook] = sandbox.control("GET", "/webhooks")
    answered = {k: v for k, v in hook["counts"].items() if k.startswith(("answered", "paused"))}
    assert set(answered) <= {"answered 202", "answered 403", "paused"}, answered
    return bool(sum(answered.values()) >= hook["counts"]["sent"])


async def _rows(pool: Pool, type_: str) -> list[dict[str, Any]]:
    rows = await pool.fetch("SELECT data FROM log.events WHERE type LIKE '%' || $1 || '.%'", type_)
    return [row["data"] for row in rows]


def _told(side: Side, row: dict[str, Any]) -> Told:
    return side.run_of(row), row["build"]["attempt"], row["raw_status"]


def _attempt(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["build"]["run_id"], row["build"]["attempt"]


def _job(row: dict[str, Any]) -> tuple[Any, ...]:
    return *_attempt(row), row["job_id"], row["raw_status"]


async def _jobs_have_ended(pool: Pool) -> bool:
    jobs = await _rows(pool, "job.observed")
    newest = _newest(jobs, "observed_at", lambda row: _job(row)[:-1])
    return bool(newest) and all(state.is_terminal for state in newest.values())


def _newest(
    rows: list[dict[str, Any]], moment: str, key: Callable[[dict[str, Any]], Any]
) -> dict[Any, State]:
    """The state that counts: the newest, and of one time the later."""
    ordered = sorted(rows, key=lambda row: (datetime.fromisoformat(row[moment]), State(row["state"]).rank))
    return {key(row): State(row["state"]) for row in ordered}


# -- what was recorded elsewhere


@pytest.mark.parametrize("provider", ["gitlab", "jenkins"])
async def test_recorded_hooks_come_in(
    provider: str, bare: Sandbox, database_url: str, amqp_url: str, intake: Intake, eventually: Eventually
) -> None:
    """Each is answered 202, with what came of it: facts, a build to look at, or why nothing did."""
    bodies = _recorded(provider)
    side: Side = GitLabSide(bare) if provider == "gitlab" else JenkinsSide(bare)
    settings = side.settings() | {"gitlab_projects": ("gitlab-org/gitlab-test",)}
    if provider == "jenkins":
        settings |= {"gitlab_projects": ()}
    async with (
        hearing_refreshes(amqp_url) as refreshes,
        open_door(database_url, amqp_url, mappings=FACTS_OF, **settings) as door,
    ):
        answers = {name: await _post(door, provider, body) for name, body in bodies.items()}
        accepted = sum(answer["accepted"] for answer in answers.values())
        asked = sum(answer["refreshes"] for answer in answers.values())
        await eventually(lambda: len(refreshes.commands) == asked)
        await intake.settle()
    assert all(a["accepted"] or a["refreshes"] or a["ignored"] for a in answers.values())
    assert len(intake.envelopes) == accepted
    if provider == "gitlab":
        assert answers["go-playground/gitlab/pipeline-event.json"]["accepted"] == 5
        assert len(intake.facts(JobObservedV1)) >= 4
        assert {c.run_id for c in refreshes.commands} >= {"31", "2366"}
    else:
        assert {name: a["ignored"].split(":")[0] for name, a in answers.items()} == {
            name: f"{name} is not polled" for name in ("Synapse", "assembla")
        }


def _recorded(provider: str) -> dict[str, dict[str, Any]]:
    """By name, the hooks of a provider in the corpora."""
    if provider == "jenkins":
        samples = json.loads(corpus("webhooks/jenkins/public-samples.json").read_text(encoding="utf-8"))
        return {one["payload"]["name"]: one["payload"] for one in samples}
    root = corpora() / "webhooks"
    files: list[Path] = [
        file
        for folder in ("webhooks/gitlab/go-gitlab", "webhooks/go-playground/gitlab")
        for file in sorted(corpus(folder).glob("*.json"))
    ]
    return {str(file.relative_to(root)): json.loads(file.read_text(encoding="utf-8")) for file in files}


async def _post(door: Address, provider: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"x-gitlab-token": SECRET} if provider == "gitlab" else {"x-jenkins-token": SECRET}
    answer = await door.http.post(f"/webhooks/{provider}", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found
