"""Settings: names, files, and errors that name the variable and never show a secret."""

from pathlib import Path

import pytest
from pydantic import AliasChoices, Field, SecretStr

from chassis.settings import BadSettings, Settings, seconds_of


class Sample(Settings):
    interval_seconds: float = Field(
        default=60, ge=1, validation_alias=AliasChoices("BUILDLIGHT_INTERVAL", "WORKER_INTERVAL")
    )
    token: SecretStr | None = Field(default=None, validation_alias="SAMPLE_TOKEN", min_length=8)


@pytest.fixture(autouse=True)
def addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDLIGHT_DATABASE_URL", "postgresql://x")
    monkeypatch.setenv("BUILDLIGHT_AMQP_URL", "amqp://x")


def test_defaults_and_older_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable is read by any of its names; the rungs are a comma-separated list."""
    monkeypatch.setenv("WORKER_INTERVAL", "7")
    monkeypatch.setenv("BUILDLIGHT_RETRY_RUNGS", "100ms, 1s")
    settings = Sample.load()
    assert settings.interval_seconds == 7
    assert settings.retry_rungs == ("100ms", "1s")


def test_a_secret_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """NAME_FILE stands for NAME, its text stripped."""
    (tmp_path / "token").write_text("long-enough-secret\n")
    monkeypatch.setenv("SAMPLE_TOKEN_FILE", str(tmp_path / "token"))
    token = Sample.load().token
    assert token is not None
    assert token.get_secret_value() == "long-enough-secret"


def test_a_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variable and the path are named."""
    monkeypatch.setenv("SAMPLE_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(BadSettings, match="SAMPLE_TOKEN_FILE: cannot read .*none: No such file"):
        Sample.load()


def test_every_wrong_variable_is_named_by_the_name_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line each: missing, out of bounds, too short; the secret itself is not shown."""
    monkeypatch.delenv("BUILDLIGHT_AMQP_URL")
    monkeypatch.setenv("WORKER_INTERVAL", "0")
    monkeypatch.setenv("SAMPLE_TOKEN", "hush")
    with pytest.raises(BadSettings) as error:
        Sample.load()
    assert str(error.value).splitlines() == [
        "BUILDLIGHT_AMQP_URL: is not set",
        "WORKER_INTERVAL: Input should be greater than or equal to 1",
        "SAMPLE_TOKEN: Value should have at least 8 items after validation, not 4",
    ]


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("1.5m", 90), ("1h", 3600)])
def test_durations(text: str, seconds: float) -> None:
    """Number and unit."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-1s", "1d"])
def test_no_durations(text: str) -> None:
    """Anything else is refused with an example of what is meant."""
    with pytest.raises(ValueError, match="is not a duration such as 500ms, 30s, 5m or 1h"):
        seconds_of(text)


def test_a_rung_that_is_no_duration_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named."""
    monkeypatch.setenv("BUILDLIGHT_RETRY_RUNGS", "5s,later")
    with pytest.raises(BadSettings, match="BUILDLIGHT_RETRY_RUNGS: .*'later' is not a duration"):
        Sample.load()
