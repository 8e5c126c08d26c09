"""What turns a channel on, and what is refused at the start."""

import os
from typing import Any

import pytest

from chassis.settings import BadSettings
from services.notifier.service import configured
from services.notifier.settings import NotifierSettings

SERVERS = {"BUILDLIGHT_DATABASE_URL": "postgresql://x", "BUILDLIGHT_AMQP_URL": "amqp://x"}
MAIL = {
    "SMTP_HOST": "mail.acme.example",
    "ALERT_EMAIL_FROM": "ci@acme.example",
    "ALERT_EMAIL_TO": "a@acme.example, b@acme.example",
}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings from these variables and no others."""

    def from_variables(variables: dict[str, str]) -> NotifierSettings:
        for name in list(os.environ):
            monkeypatch.delenv(name)
        for name, value in (SERVERS | variables).items():
            monkeypatch.setenv(name, value)
        return NotifierSettings.load()

    return from_variables


def test_without_a_sink_every_channel_is_off(load: Any) -> None:
    """And it is known which variables would turn it on."""
    settings = load({})
    assert configured(settings) == {}
    assert settings.missing("slack") == ("ALERT_SLACK_WEBHOOK",)
    assert settings.missing("mail") == ("SMTP_HOST", "ALERT_EMAIL_FROM", "ALERT_EMAIL_TO")


@pytest.mark.parametrize("name", ["ALERT_SLACK_WEBHOOK", "SLACK_WEBHOOK_URL"])
def test_slack_by_either_name(load: Any, name: str) -> None:
    """The address is a secret and is never shown."""
    settings = load({name: "https://hooks.slack.com/services/T/B/secret"})
    assert list(configured(settings)) == ["slack"]
    assert "secret" not in repr(settings)


def test_mail_needs_a_server_a_sender_and_someone_to_read_it(load: Any) -> None:
    """A host alone, as a company's environment may have it, turns nothing on."""
    assert list(configured(load({"SMTP_HOST": "mail.acme.example"}))) == []
    settings = load(MAIL | {"SMTP_PASSWORD": "word"})
    assert list(configured(settings)) == ["mail"]
    assert settings.mail_to == ("a@acme.example", "b@acme.example")
    assert settings.smtp_port == 587
    assert settings.smtp_password is not None
    assert settings.smtp_password.get_secret_value() == "word"


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        (
            "ALERT_SLACK_WEBHOOK",
            "xoxb-123-secret",
            "ALERT_SLACK_WEBHOOK: Value error, not an address such as https://buildlight.example.com",
        ),
        (
            "BUILDLIGHT_URL",
            "buildlight.acme.example",
            "BUILDLIGHT_URL: Value error, not an address such as https://buildlight.example.com",
        ),
        (
            "ALERT_EMAIL_TO",
            "a@acme.example, nobody",
            "ALERT_EMAIL_TO: Value error, not a mail address such as ci@example.com",
        ),
        (
            "ALERT_EMAIL_FROM",
            "a@acme.example\nBcc: b@acme.example",
            "ALERT_EMAIL_FROM: Value error, not a mail address such as ci@example.com",
        ),
        (
            "BUILDLIGHT_NOTIFY_MAX_AGE_SECONDS",
            "0",
            "BUILDLIGHT_NOTIFY_MAX_AGE_SECONDS: Input should be greater than 0",
        ),
    ],
)
def test_a_wrong_value_names_its_variable_and_shows_no_secret(
    load: Any, name: str, value: str, complaint: str
) -> None:
    """The start is refused with what to mend."""
    with pytest.raises(BadSettings) as refused:
        load({name: value})
    assert str(refused.value) == complaint
