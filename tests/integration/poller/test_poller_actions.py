"""What is asked of a provider is done once, answered again, and never late."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aio_pika
import pytest

from buildlight_contracts.collection import BuildActionTakenV1
from buildlight_contracts.states import State
from services.poller import actions
from services.poller.budget import Budget
from services.poller.provider import Done, MustWaitError, PollFailedError, Refused
from services.poller.queues import ACTIONS
from tests.integration.poller.conftest import Intake
from tests.pretend_provider import PretendProvider, a_build, ref
from tests.station_stage import cancel, check, rerun, station

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("intake")]


@pytest.fixture
def provider() -> PretendProvider:
    return PretendProvider(runs={"100": a_build(ref())})


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came of an action may be looked up right away."""
    monkeypatch.setattr(actions, "LOOK_AFTER", timedelta())


async def test_each_is_done_and_told(
    database_url: str, amqp_url: str, intake: Intake, provider: PretendProvider
) -> None:
    """Rerun, cancel and check: asked of the provider, kept with its answer, recorded as a fact."""
    commands = [rerun(), rerun(failed_only=True), cancel(), check()]
    async with station(database_url, amqp_url, provider) as running:
        for command in commands:
            await running.send(command)
            settled = await running.settled(command.request_id)
            assert (settled["status"], settled["url"]) == ("done", "https://github.test/1")
            assert settled["asked_by"] == "ada"
        await intake.settle()
    wanted = ["rerun", "rerun_failed", "cancel", "publish_check"]
    assert [action for action, _ in provider.effects] == wanted
    facts = intake.facts(BuildActionTakenV1)
    assert [(f.action, f.outcome, f.by) for f in facts] == [(name, "done", "ada") for name in wanted]
    assert [f.request_id for f in facts] == [c.request_id for c in commands]


async def test_asked_again_it_is_answered_again(
    database_url: str, amqp_url: str, intake: Intake, provider: PretendProvider
) -> None:
    """The same request five times: one effect, one fact."""
    command, other = rerun(), cancel()
    async with station(database_url, amqp_url, provider) as running:
        for _ in range(5):
            await running.send(command)
        await running.settled(command.request_id)
        await running.send(other)
        await running.settled(other.request_id)
        await intake.settle()
    assert [action for action, _ in provider.effects] == ["rerun", "cancel"]
    assert len(intake.facts(BuildActionTakenV1)) == 2


async def test_a_lost_answer_is_looked_up(
    database_url: str, amqp_url: str, intake: Intake, provider: PretendProvider, at_once: None
) -> None:
    """The provider did it and its answer was lost: the new attempt shows, and it is not asked twice."""
    provider.fails["after rerun"] = [PollFailedError("unreachable", "No answer.")]
    provider.runs["100"] = a_build(ref(attempt=2), State.QUEUED)
    command = rerun()
    async with station(database_url, amqp_url, provider) as running:
        await running.send(command)
        settled = await running.settled(command.request_id)
    assert settled["status"] == "done"
    assert "attempt 2" in settled["detail"]
    assert provider.effects == [("rerun", ref())]


async def test_killed_between_the_effect_and_the_note(
    database_url: str,
    amqp_url: str,
    provider: PretendProvider,
    at_once: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if the process died when the provider had done it: the next try looks, and does not do it again."""
    from services.poller.action_store import Alone

    settle, died = Alone.settle, [False]

    async def die_once(self: Alone, *args: Any, **options: Any) -> None:
        if not died[0]:
            died[0] = True
            provider.runs["100"] = a_build(ref(attempt=2), State.QUEUED)
            raise ConnectionResetError("as if killed here")
        await settle(self, *args, **options)

    monkeypatch.setattr(Alone, "settle", die_once)
    command = rerun()
    async with station(database_url, amqp_url, provider) as running:
        await running.send(command)
        assert (await running.settled(command.request_id))["status"] == "done"
    assert provider.effects == [("rerun", ref())]


async def test_what_did_not_happen_is_done(
    database_url: str, amqp_url: str, provider: PretendProvider, at_once: None
) -> None:
    """The call was lost on its way: no later attempt shows, and it is asked for again."""
    provider.fails["before rerun"] = [PollFailedError("unreachable", "No answer.")]
    command = rerun()
    async with station(database_url, amqp_url, provider) as running:
        await running.send(command)
        assert (await running.settled(command.request_id))["status"] == "done"
    assert provider.effects == [("rerun", ref())]


async def test_where_nobody_can_see_it_is_not_done_twice(
    database_url: str, amqp_url: str, intake: Intake, at_once: None
) -> None:
    """Jenkins starts a build anew: an answer lost means that it is not known, and that is what is said."""
    build = ref(provider="jenkins")
    provider = PretendProvider(name="jenkins", runs={"100": a_build(build)})
    provider.fails["after rerun"] = [PollFailedError("unreachable", "No answer.")]
    command = rerun(build)
    async with station(database_url, amqp_url, provider, builds=[build]) as running:
        await running.database.execute("UPDATE poller.targets SET provider = 'jenkins'")
        await running.send(command)
        settled = await running.settled(command.request_id)
        await intake.settle()
    assert settled["status"] == "failed"
    assert "not known" in settled["detail"]
    assert len(provider.effects) == 1
    assert intake.facts(BuildActionTakenV1) == []


async def test_a_late_one_is_refused(
    database_url: str, amqp_url: str, intake: Intake, provider: PretendProvider
) -> None:
    """Past its expiry nothing is done, and whoever asked learns why."""
    command = rerun()
    async with station(database_url, amqp_url, provider) as running:
        await running.send(command, lives_seconds=-1)
        settled = await running.settled(command.request_id)
        await intake.settle()
    assert settled["status"] == "refused"
    assert settled["detail"].startswith("Too late")
    assert provider.effects == []
    assert intake.facts(BuildActionTakenV1) == []


async def test_a_refusal(database_url: str, amqp_url: str, intake: Intake, provider: PretendProvider) -> None:
    """What the provider will not do is said in its words; so is a token that may not."""
    provider.answers = [Refused("The run is too old to be run again.")]
    command, other = rerun(), cancel()
    async with station(database_url, amqp_url, provider) as running:
        await running.send(command)
        assert (await running.settled(command.request_id))["detail"] == "The run is too old to be run again."
        provider.fails["before cancel"] = [PollFailedError("forbidden", "Give the token the right to write.")]
        await running.send(other)
        settled = await running.settled(other.request_id)
        assert (settled["status"], settled["detail"]) == ("refused", "Give the token the right to write.")
        await intake.settle()
    assert provider.effects == []
    assert [f.outcome for f in intake.facts(BuildActionTakenV1)] == ["refused", "refused"]


async def test_a_rate_limit_is_waited_out(
    database_url: str, amqp_url: str, provider: PretendProvider
) -> None:
    """A short one; one longer than the command lives is told at once."""
    short, long = rerun(), cancel()
    provider.fails["before rerun"] = [MustWaitError(0.2, "the provider asked to wait")]
    provider.fails["before cancel"] = [PollFailedError("rate_limited", "No more calls for now.")]
    provider.budget = Budget(blocked_until=datetime.now(UTC) + timedelta(hours=1))
    async with station(database_url, amqp_url, provider) as running:
        await running.send(short)
        assert (await running.settled(short.request_id))["status"] == "done"
        await running.send(long, lives_seconds=60)
        settled = await running.settled(long.request_id)
    assert settled["status"] == "failed"
    assert "Nothing was done" in settled["detail"]
    assert [action for action, _ in provider.effects] == ["rerun"]


async def test_a_provider_that_is_away_is_given_up(
    database_url: str, amqp_url: str, provider: PretendProvider, at_once: None
) -> None:
    """Every try fails: the action has failed, told as unknown, and leaves no dead letter behind."""
    provider.fails["before cancel"] = [PollFailedError("server_error", "502.") for _ in range(9)]
    provider.runs["100"] = a_build(ref(), State.RUNNING)
    command = cancel()
    async with station(database_url, amqp_url, provider) as running:
        await running.send(command)
        settled = await running.settled(command.request_id)
        assert provider.asked["before cancel"] == 3
        assert await depth(amqp_url, ACTIONS.dead) == 0
    assert settled["status"] == "failed"
    assert "not known" in settled["detail"]


async def test_a_build_nobody_watches(database_url: str, amqp_url: str, provider: PretendProvider) -> None:
    command = rerun(ref("999"))
    async with station(database_url, amqp_url, provider) as running:
        await running.send(command)
        settled = await running.settled(command.request_id)
    assert settled["status"] == "refused"
    assert "not watched" in settled["detail"]


async def test_an_id_used_for_something_else(
    database_url: str, amqp_url: str, provider: PretendProvider, eventually: Any
) -> None:
    """It dies, with the reason; the first one's answer stands."""
    first = rerun()
    async with station(database_url, amqp_url, provider) as running:
        await running.send(first)
        await running.settled(first.request_id)
        await running.send(cancel(request_id=first.request_id))
        await eventually(lambda: depth(amqp_url, ACTIONS.dead), timeout=30)
        assert (await running.action(first.request_id))["action"] == "rerun"
    assert [action for action, _ in provider.effects] == ["rerun"]


async def test_two_at_once_on_one_build(database_url: str, amqp_url: str, provider: PretendProvider) -> None:
    """One after the other; both are answered."""
    provider.answers = [Done("1"), Done("2")]
    first, second = cancel(), cancel(request_id=uuid4())
    async with station(database_url, amqp_url, provider) as running:
        await running.send(first)
        await running.send(second)
        details = {(await running.settled(c.request_id))["detail"] for c in (first, second)}
    assert details == {"1", "2"}


async def depth(amqp_url: str, queue: str) -> int:
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0
