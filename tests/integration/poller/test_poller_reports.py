"""The test reports of builds that have ended are collected, whatever else lies among them."""

import asyncio
import io
import tracemalloc
import zipfile
from typing import Any
from uuid import uuid4

import pytest

from buildlight_contracts.commands import RefreshBuildV1
from buildlight_contracts.envelope import Envelope
from buildlight_contracts.test_results import (
    Outcome,
    TestCase,
    TestReportObservedV1,
    TestReportRefusedV1,
)
from reports.stream import Limits as ArchiveLimits
from services.poller.collecting import Limits
from services.poller.collection_store import CollectionStore
from services.poller.documents import DocumentLimits
from services.poller.provider import MustWaitError, PollFailedError, Results
from services.poller.queues import COLLECT
from tests.integration.poller.conftest import Intake
from tests.integration.poller.test_poller_actions import depth
from tests.pretend_provider import PretendProvider, breaking, document, hanging, poured, ref
from tests.station_stage import collect, station

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("intake")]


def junit(*names: str, failing: int = 0) -> bytes:
    cases = "".join(
        f'<testcase classname="shop.Cart" name="{name}" time="0.1">'
        + ('<failure message="assert 12 == 7" type="AssertionError">no</failure>' if at < failing else "")
        + "</testcase>"
        for at, name in enumerate(names)
    )
    return f'<?xml version="1.0"?><testsuite name="cart" tests="{len(names)}">{cases}</testsuite>'.encode()


def zipped(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in files.items():
            writer.writestr(name, content)
    return archive.getvalue()


def pieces(body: bytes, size: int = 1000) -> Any:
    return poured(*(body[start : start + size] for start in range(0, len(body), size)))


async def test_reports_in_an_artifact(database_url: str, amqp_url: str, intake: Intake) -> None:
    """Each becomes a fact that names its build, its file and its job; what is no report is passed over."""
    body = zipped(
        {
            "junit/cart.xml": junit("adds", "removes", failing=1),
            "junit/basket.xml": junit("empties"),
            "coverage.xml": b"<coverage/>",
            "screen.png": b"\x89PNG\r\n" + bytes(5000),
            "broken.xml": b"<testsuite name='x'><!DOCTYPE",
            "declared.xml": b"<!DOCTYPE a [<!ENTITY b 'c'>]><testsuite/>",
        }
    )
    provider = PretendProvider(documents=[document("test-results", pieces(body), job="unit")])
    async with station(database_url, amqp_url, provider) as running:
        await running.send(collect(failed=False))
        done = await running.collected()
        await intake.settle()
    facts = {fact.source: fact for fact in intake.facts(TestReportObservedV1)}
    cart = facts["test-results/junit/cart.xml"]
    assert [(case.name, case.outcome) for case in cart.cases] == [
        ("adds", Outcome.FAILED),
        ("removes", Outcome.PASSED),
    ]
    assert (cart.origin, cart.job, cart.branch, cart.commit_sha, cart.last) == (
        "artifact",
        "unit",
        "main",
        "c0ffee",
        True,
    )
    assert {"test-results/junit/cart.xml", "test-results/junit/basket.xml"} <= set(facts)
    refused = {fact.source for fact in intake.facts(TestReportRefusedV1)}
    assert "test-results/declared.xml" in refused
    assert not {"test-results/coverage.xml", "test-results/screen.png"} & (refused | set(facts))
    assert (done["reports"], done["refused"]) == (len(facts), len(refused))
    assert done["cases"] == sum(len(fact.cases) for fact in facts.values())


async def test_a_long_report_and_results_of_the_providers_own(
    database_url: str, amqp_url: str, intake: Intake
) -> None:
    """In several messages of one report, of which the last has the totals; those already read as they are."""
    provider = PretendProvider(
        documents=[
            document("report.xml", pieces(junit(*(f"case {n}" for n in range(2500))), 65_536)),
            Results(
                "testReport", "jenkins", (TestCase(name="a", outcome=Outcome.PASSED),), notes=("a note",)
            ),
        ]
    )
    async with station(database_url, amqp_url, provider) as running:
        await running.send(collect(failed=False))
        done = await running.collected()
        await intake.settle()
    assert (done["reports"], done["cases"]) == (2, 2501)
    *chunks, own = intake.facts(TestReportObservedV1)
    assert [(c.chunk, len(c.cases), c.last) for c in chunks] == [
        (1, 1000, False),
        (2, 1000, False),
        (3, 500, True),
    ]
    assert len({c.report_id for c in chunks}) == 1
    assert chunks[-1].totals is not None
    assert chunks[-1].totals.tests == 2500
    assert (own.origin, own.format, own.notes) == ("provider", "jenkins", ("a note",))
    assert own.totals is not None
    assert own.totals.passed == 1


async def test_an_attempt_without_reports(database_url: str, amqp_url: str) -> None:
    async with station(database_url, amqp_url, PretendProvider()) as running:
        await running.send(collect(failed=False))
        done = await running.collected()
    assert (done["reports"], done["refused"], done["detail"]) == (0, 0, None)


async def test_a_document_that_fails_does_not_hold_up_the_others(
    database_url: str, amqp_url: str, intake: Intake
) -> None:
    """It breaks off in the middle of the first try; the next one fetches it alone. One that is gone is noted."""
    good, bad, gone = zipped({"a.xml": junit("a")}), zipped({"b.xml": junit("b")}), "It has expired."
    provider = PretendProvider(
        documents=[
            document("bad", breaking(PollFailedError("unreachable", "It stopped."), bad[:40])),
            document("gone", breaking(PollFailedError("not_found", gone))),
            document("good", pieces(good)),
        ]
    )
    async with station(database_url, amqp_url, provider) as running:
        await running.send(collect(failed=False))
        async with asyncio.timeout(30):
            while "bad" not in ((await running.collection()).get("detail") or ""):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        provider.documents[0] = document("bad", pieces(bad))
        done = await running.collected()
        await intake.settle()
    assert [fact.source for fact in intake.facts(TestReportObservedV1)] == ["good/a.xml", "bad/b.xml"]
    assert done["reports"] == 2


async def test_killed_in_the_middle_it_repeats_harmlessly(
    database_url: str, amqp_url: str, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the process died after publishing the second document: it is published again, by the same ids."""
    keep, kept = CollectionStore.keep_document, []

    async def die_once(self: CollectionStore, *args: Any, **options: Any) -> None:
        kept.append(args)
        if len(kept) == 2:
            raise ConnectionResetError("as if killed here")
        await keep(self, *args, **options)

    monkeypatch.setattr(CollectionStore, "keep_document", die_once)
    # Two of one name, as several jobs leave them.
    provider = PretendProvider(
        documents=[document("results", pieces(junit(name))) for name in ("a", "b", "c")]
    )
    async with station(database_url, amqp_url, provider) as running:
        await running.send(collect(failed=False))
        done = await running.collected()
        await intake.settle()
    assert (done["reports"], done["cases"]) == (3, 3)
    assert sorted(intake.ids().values()) == [1, 1, 2]


async def test_waiting_in_the_middle(database_url: str, amqp_url: str, intake: Intake) -> None:
    """The budget is spent after the first document: nothing is fetched twice, and no attempt is spent."""
    provider = PretendProvider(
        documents=[document(name, pieces(junit(name))) for name in ("a", "b")],
        fails={"b": [MustWaitError(0.1, "the reserve is reached") for _ in range(6)]},
    )
    async with station(database_url, amqp_url, provider) as running:
        await running.send(collect(failed=False))
        await running.collected()
        await intake.settle()
    assert sorted(intake.ids().values()) == [1, 1]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (zipped({"bomb.xml": bytes(200_000_000)}), "bomb"),
        (zipped({f"{n}.xml": junit("a") for n in range(40)}), "entries"),
        (zipped({"../../etc/passwd.xml": junit("a")}), "leaves the archive"),
        (zipped({"a.xml": junit("a")})[:-60], "end"),
    ],
    ids=["a ZIP bomb", "too many entries", "a path that leads out", "cut off"],
)
async def test_hostile_archives(
    database_url: str, amqp_url: str, intake: Intake, body: bytes, reason: str
) -> None:
    """Refused with a reason, in bounded memory, while the document after it is read; and never asked for again."""
    provider = PretendProvider(
        documents=[
            document("evil", pieces(body, 65_536)),
            document("good", pieces(junit("a"))),
        ]
    )
    limits = Limits(documents=DocumentLimits(archive=ArchiveLimits(entries=30, total_bytes=100_000_000)))
    async with station(database_url, amqp_url, provider, limits=limits) as running:
        tracemalloc.start()
        await running.send(collect(failed=False))
        done = await running.collected()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        await intake.settle()
    assert peak < 20_000_000
    assert done["status"] == "done"
    assert "good" in {fact.source for fact in intake.facts(TestReportObservedV1)}
    if reason != "end":  # what is cut off behind its last file may be told or not
        assert any(reason in fact.reason for fact in intake.facts(TestReportRefusedV1))


async def test_a_document_that_hangs(
    database_url: str, amqp_url: str, intake: Intake, eventually: Any
) -> None:
    """It has its time; the others are read, and what it never gives is a dead letter that can be replayed."""
    provider = PretendProvider(
        documents=[
            document("stuck", hanging(b"PK\x03\x04")),
            document("good", pieces(junit("a"))),
        ]
    )
    limits = Limits(documents=DocumentLimits(most_seconds=0.3))
    async with station(database_url, amqp_url, provider, limits=limits) as running:
        await running.send(collect(failed=False))
        await eventually(lambda: depth(amqp_url, COLLECT.dead), timeout=30)
        kept = await running.collection()
        await intake.settle()
    assert "stuck was not read to its end" in kept["detail"]
    assert [fact.source for fact in intake.facts(TestReportObservedV1)] == ["good"]


async def test_the_express_lane(database_url: str, amqp_url: str, intake: Intake) -> None:
    """Urgent ones do not wait for what the others' downloads take."""
    provider = PretendProvider(documents=[document("stuck", hanging(b"PK"))])
    async with station(database_url, amqp_url, provider) as running:
        for number in range(COLLECT.prefetch + 1):
            await running.send(collect(ref(str(number)), failed=False))
        async with asyncio.timeout(30):
            while provider.asked["stuck"] < COLLECT.prefetch:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        provider.documents = [document("report.xml", pieces(junit("a")))]
        await running.send(collect(ref("99"), failed=False, priority="critical"))
        assert (await running.collected(ref("99")))["reports"] == 1


async def test_what_is_not_for_it(database_url: str, amqp_url: str, eventually: Any) -> None:
    """Another provider's build is dropped, another command dies."""
    provider = PretendProvider()
    stranger = collect(ref().model_copy(update={"instance": "elsewhere"}))
    other = RefreshBuildV1(
        provider="github", instance="x", target="a/b", run_id="1", reason="asked", due_at=collect().ended_at
    )
    async with station(database_url, amqp_url, provider) as running:
        await running.send(stranger)
        await running.service.broker.put(b"{}", key=COLLECT.name, message_id=str(uuid4()))
        wrong = Envelope.wrap(other, source="buildlight://test", time=collect().ended_at)
        await running.service.broker.put(wrong.to_json(), key=COLLECT.name, message_id=wrong.id)
        await eventually(lambda: two_dead(amqp_url), timeout=30)
        assert (await running.collection(stranger.build))["status"] is None
    assert provider.asked == {}


async def two_dead(amqp_url: str) -> bool:
    return await depth(amqp_url, COLLECT.dead) == 2
