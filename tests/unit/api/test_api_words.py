"""The API's pure parts: cursors, windows, words, the waterfall's scale, settings."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from chassis.http import HttpError
from chassis.settings import BadSettings
from services.api.live import frame_of
from services.api.pages import words
from services.api.pages.waterfall import Bar, scale_of, ticks
from services.api.paging import cursor_of, parse_cursor
from services.api.settings import ApiSettings
from services.api.windows import parse_window, rates

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def test_a_cursor_comes_back_to_the_microsecond() -> None:
    """What was put into a cursor is what is read from it."""
    at, row = NOON + timedelta(microseconds=123_457), UUID(int=5)
    assert parse_cursor(cursor_of(at, row)) == (at, row)


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "MTIz", "é", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk6MA"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    """422, not a crash."""
    with pytest.raises(HttpError) as refused:
        parse_cursor(cursor)
    assert refused.value.status_code == 422


@pytest.mark.parametrize(
    ("window", "hours"), [("1h", 1), ("60m", 1), ("90m", 1.5), ("24h", 24), ("7d", 168), ("30d", 720)]
)
def test_windows_are_read(window: str, hours: float) -> None:
    """Minutes, hours and days, from an hour to thirty days."""
    assert parse_window(window) == timedelta(hours=hours)


@pytest.mark.parametrize("window", ["", "7", "0h", "59m", "31d", "9999d", "-1d", "1 h", "1w", "1h\n", "٣d"])
def test_other_windows_are_refused(window: str) -> None:
    """422 with what is allowed."""
    with pytest.raises(HttpError, match="from 1h to 30d"):
        parse_window(window)


def test_rates_count_only_what_says_whether_code_is_good() -> None:
    """Cancelled and open builds do not move them; without any conclusive one there is none."""
    assert rates({"success": 7, "failure": 1, "cancelled": 5, "running": 2}) == (87.5, 12.5)
    assert rates({"timed_out": 1, "startup_failure": 1}) == (0.0, 100.0)
    assert rates({"cancelled": 5}) is None


def test_durations_and_ages_are_said_shortly() -> None:
    """As a person would write them."""
    assert [words.duration(s) for s in (None, 0, 59.4, 59.6, 245, 3600, 7260, 200_000)] == [
        "–", "0s", "59s", "1m 00s", "4m 05s", "1h 00m", "2h 01m", "2d 7h",
    ]  # fmt: skip
    assert [words.ago(NOON - timedelta(seconds=s), NOON) for s in (-5, 59, 60, 7200, 3 * 86400, 40 * 86400)] == [
        "just now", "just now", "1 min ago", "2 h ago", "3 d ago", "21 Jan 2026",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "url", [None, "", "javascript:alert(1)", "data:text/html,x", "//evil.example", "http://[x"]
)
def test_only_web_addresses_are_linked(url: str | None) -> None:
    """What a provider was told may be anything."""
    assert words.web_address(url) is None
    assert words.web_address("https://ci.example/1") == "https://ci.example/1"


def test_a_state_nobody_knows_looks_unknown() -> None:
    """It is shown as unknown, with the provider's own words beside it."""
    assert words.look("exploded") == words.look("unknown")
    assert words.raw({"raw_status": "pondering", "raw_conclusion": None}) == "pondering"


def job(**times: Any) -> dict[str, Any]:
    return {"state": "success", **{key: NOON + timedelta(seconds=s) for key, s in times.items()}}


def test_the_waterfall_places_jobs_on_one_scale() -> None:
    """A thousand units from the first moment to the last; waiting shows before running; nothing leaves it."""
    first = job(created_at=0, started_at=10, finished_at=60)
    last = job(created_at=50, started_at=100, finished_at=100)
    scale = scale_of([first, last], NOON + timedelta(hours=1))
    assert scale is not None
    assert ticks(scale) == [0, 25, 50, 75, 100]
    assert scale.bar(first, NOON) == Bar(100, 500, 0, 100)
    assert scale.bar(last, NOON) == Bar(997, 3, 500, 497)
    assert scale_of([{"state": "queued"}], NOON) is None


def test_frames_are_made_of_public_facts_only() -> None:
    """Foreign types and those nobody can subscribe to make none; an unreadable build makes one without ids."""
    assert frame_of(1, "com.example.build.observed.v1", NOON, {}) is None
    assert frame_of(1, "dev.buildlight.poll.failed.v1", NOON, {}) is None
    assert frame_of(1, "dev.buildlight.build.observed.v1", NOON, "text") is None
    frame = frame_of(7, "dev.buildlight.build.observed.v1", NOON, {"build": {"provider": ""}})
    assert frame is not None
    assert frame.text == (
        '{"type":"builds","event":"build.observed.v1","position":7,"time":"2026-03-02T12:00:00Z",'
        '"data":{"build":{"provider":""}}}'
    )


def test_origins_are_read_as_older_systems_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A JSON list or commas, under either name; a short admin key is refused."""
    monkeypatch.setenv("BUILDLIGHT_DATABASE_URL", "postgresql://x")
    monkeypatch.setenv("BUILDLIGHT_AMQP_URL", "amqp://x")
    monkeypatch.setenv("ALLOWED_ORIGINS", '["http://localhost:3000/"]')
    assert ApiSettings.load().allowed_origins == ("http://localhost:3000",)
    monkeypatch.delenv("ALLOWED_ORIGINS")
    monkeypatch.setenv("ALLOW_ORIGINS", "http://localhost:5173, https://dash.example")
    assert ApiSettings.load().allowed_origins == ("http://localhost:5173", "https://dash.example")
    monkeypatch.setenv("BUILDLIGHT_ADMIN_KEY", "short")
    with pytest.raises(BadSettings, match="BUILDLIGHT_ADMIN_KEY"):
        ApiSettings.load()
