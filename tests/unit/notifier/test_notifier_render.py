"""How a fact reads on each channel."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from buildlight_contracts.builds import PipelineBrokeV1, PipelineRecoveredV1
from buildlight_contracts.testing import example
from services.notifier import render
from services.notifier.channels.channel import Notification
from services.notifier.channels.mail import compose

BUILD = "33e40f1d-ad16-525e-9eb4-7cf4f6a7e420"
PUBLIC = "https://buildlight.acme.example"


def broke(**changes: Any) -> render.Notice:
    return render.notice(example(PipelineBrokeV1, **changes), public_url=PUBLIC)


def recovered(**changes: Any) -> render.Notice:
    return render.notice(example(PipelineRecoveredV1, **changes), public_url=PUBLIC)


def test_a_break_reads_so() -> None:
    """What, where, since when, by which commit, and where to look."""
    assert broke() == render.Notice(
        title="acme/shop: CI broke on main",
        lines=(
            "It failed; broken since 2026-03-02 09:04 UTC.",
            "Commit 009b8a3 by octocat: Take cards with a long number",
        ),
        links=(
            ("Build at github", "https://github.com/acme/shop/actions/runs/30433642"),
            ("In Buildlight", f"{PUBLIC}/builds/{BUILD}"),
        ),
    )


def test_a_recovery_says_how_long_it_was_broken() -> None:
    """From the break to the recovery."""
    notice = recovered()
    assert notice.title == "acme/shop: CI works again on main"
    assert notice.lines[0] == "Green since 2026-03-02 10:12 UTC, after 1 h 8 min."
    assert recovered(broken_since=None).lines[0] == "Green since 2026-03-02 10:12 UTC."


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ("failure", "It failed; broken since 2026-03-02 09:04 UTC."),
        ("timed_out", "It timed out; broken since 2026-03-02 09:04 UTC."),
        ("startup_failure", "It could not start; broken since 2026-03-02 09:04 UTC."),
        ("unknown", "It is red; broken since 2026-03-02 09:04 UTC."),
    ],
)
def test_the_state_in_words(state: str, line: str) -> None:
    """Each bad end has its words."""
    assert broke(state=state).lines[0] == line


@pytest.mark.parametrize(
    ("unknown", "line"),
    [
        (("author",), "Commit 009b8a3: Take cards with a long number"),
        (("commit_message",), "Commit 009b8a3 by octocat"),
        (("commit_sha", "author"), "Commit: Take cards with a long number"),
    ],
)
def test_of_a_commit_what_is_known(unknown: tuple[str, ...], line: str) -> None:
    """What a provider does not say is left out."""
    assert broke(**dict.fromkeys(unknown)).lines[1] == line


def test_what_is_not_known_leaves_no_gap() -> None:
    """No branch, no commit, no address of its own: still a whole sentence, and no empty link."""
    fact = example(PipelineBrokeV1, branch=None, commit_sha=None, commit_message=None, author=None, url=None)
    assert render.notice(fact, public_url=None) == render.Notice(
        "acme/shop: CI broke", ("It failed; broken since 2026-03-02 09:04 UTC.",), ()
    )


def test_plain_text() -> None:
    """A mail's body."""
    assert render.text(broke()) == (
        "It failed; broken since 2026-03-02 09:04 UTC.\n"
        "Commit 009b8a3 by octocat: Take cards with a long number\n"
        "\n"
        "Build at github: https://github.com/acme/shop/actions/runs/30433642\n"
        f"In Buildlight: {PUBLIC}/builds/{BUILD}\n"
    )


def test_slack() -> None:
    """Two sections that Slack may add nothing to, and the title as the fallback."""
    assert render.slack(broke()) == {
        "text": "acme/shop: CI broke on main",
        "blocks": [
            {
                "type": "section",
                "text": {
                    "type": "mrkdwn",
                    "verbatim": True,
                    "text": "*acme/shop: CI broke on main*\n"
                    "It failed; broken since 2026-03-02 09:04 UTC.\n"
                    "Commit 009b8a3 by octocat: Take cards with a long number",
                },
            },
            {
                "type": "section",
                "text": {
                    "type": "mrkdwn",
                    "verbatim": True,
                    "text": "<https://github.com/acme/shop/actions/runs/30433642|Build at github>  ·  "
                    f"<{PUBLIC}/builds/{BUILD}|In Buildlight>",
                },
            },
        ],
    }


def test_html() -> None:
    """A mail's other body."""
    assert render.page(broke()) == (
        "<!doctype html>\n<html><body>\n<h3>acme/shop: CI broke on main</h3>\n"
        "<p>It failed; broken since 2026-03-02 09:04 UTC.</p>\n"
        "<p>Commit 009b8a3 by octocat: Take cards with a long number</p>\n"
        '<p><a href="https://github.com/acme/shop/actions/runs/30433642">Build at github</a> · '
        f'<a href="{PUBLIC}/builds/{BUILD}">In Buildlight</a></p>\n'
        "</body></html>\n"
    )


def test_a_commit_message_cannot_speak_slack_or_html() -> None:
    """A mention, a false link and a script arrive as the characters they are made of."""
    notice = broke(commit_message="<!channel> <https://evil.example|sign in> <script>1 && 2</script>")
    said = render.slack(notice)["blocks"][0]["text"]["text"].splitlines()[-1]
    assert said == (
        "Commit 009b8a3 by octocat: &lt;!channel&gt; &lt;https://evil.example|sign in&gt; "
        "&lt;script&gt;1 &amp;&amp; 2&lt;/script&gt;"
    )
    assert "&lt;script&gt;1 &amp;&amp; 2&lt;/script&gt;" in render.page(notice)
    assert "<script" not in render.page(notice)


def test_only_the_first_line_of_a_message_and_nothing_invisible() -> None:
    """Later lines go; control characters and turned writing become spaces."""
    notice = broke(commit_message="\n fix\x00 the\u202e  till\r\tnow \nSigned-off-by: me")
    assert notice.lines[1] == "Commit 009b8a3 by octocat: fix the till now"


def test_a_title_is_one_line() -> None:
    """A branch or workflow with a line break cannot add a header to a mail."""
    notice = broke(branch="main\r\nBcc: everyone@acme.example", workflow="CI\n2")
    assert notice.title == "acme/shop: CI 2 broke on main Bcc: everyone@acme.example"
    mail = compose(
        Notification(UUID(int=1), notice),
        sender="ci@acme.example",
        recipients=("team@acme.example",),
        date=datetime(2026, 3, 2, tzinfo=UTC),
    )
    assert mail["Bcc"] is None


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "https://", "https://user:word@github.com/x", "no address", "https://[x/y"]
)
def test_what_is_no_web_address_is_no_link(url: str) -> None:
    """A provider's data, or a forger's, cannot put a script or a password behind a link."""
    assert [label for label, _ in broke(url=url).links] == ["In Buildlight"]


def test_an_address_cannot_end_its_link_early() -> None:
    """What closes a link in Slack is percent-encoded; what is encoded already stays as it is."""
    assert broke(url="https://ci.example/a|b>c d%20e").links[0][1] == "https://ci.example/a%7Cb%3Ec%20d%20e"


def test_the_longest_hostile_text_fits_into_slacks_limit() -> None:
    """Slack refuses a section over 3,000 characters: a long name must not silence an alarm."""
    long = dict.fromkeys(
        ("repository", "workflow", "branch", "author", "commit_message", "commit_sha"), "&" * 9999
    )
    notice = broke(**long, url="https://ci.example/?" + "&" * 9999)
    sections = [block["text"]["text"] for block in render.slack(notice)["blocks"]]
    assert all(len(section) <= 3000 for section in sections)
    assert notice.title == f"{'&' * 79}…: {'&' * 79}… broke on {'&' * 79}…"


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (timedelta(seconds=-5), "0 s"),
        (timedelta(seconds=59.4), "59 s"),
        (timedelta(seconds=59.6), "1 min"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=1, minutes=8), "1 h 8 min"),
        (timedelta(days=2, hours=3, minutes=59), "2 d 3 h"),
    ],
)
def test_durations(duration: timedelta, words: str) -> None:
    """In two units at most."""
    assert render.lasted(duration) == words


def test_a_mail_is_named_by_its_delivery_and_hangs_under_the_break() -> None:
    """Message-ID from the delivery, References to the break's; text and HTML; never answered by a machine."""
    mail = compose(
        Notification(UUID(int=2), recovered(), follows=UUID(int=1)),
        sender="Buildlight <ci@acme.example>",
        recipients=("one@acme.example", "two@acme.example"),
        date=datetime(2026, 3, 2, 10, 12, 31, tzinfo=UTC),
    )
    body = {part.get_content_type(): part.get_content() for part in mail.iter_parts()}
    assert {
        name: str(value) for name, value in mail.items() if name not in ("Content-Type", "MIME-Version")
    } == {
        "From": "Buildlight <ci@acme.example>",
        "To": "one@acme.example, two@acme.example",
        "Subject": "acme/shop: CI works again on main",
        "Date": "Mon, 02 Mar 2026 10:12:31 +0000",
        "Message-ID": "<00000000-0000-0000-0000-000000000002@acme.example>",
        "In-Reply-To": "<00000000-0000-0000-0000-000000000001@acme.example>",
        "References": "<00000000-0000-0000-0000-000000000001@acme.example>",
        "Auto-Submitted": "auto-generated",
    }
    assert body == {"text/plain": render.text(recovered()), "text/html": render.page(recovered())}


def test_a_first_mail_refers_to_nothing() -> None:
    """A break begins a thread."""
    mail = compose(
        Notification(UUID(int=1), broke()),
        sender="ci@acme.example",
        recipients=("team@acme.example",),
        date=datetime(2026, 3, 2, tzinfo=UTC),
    )
    assert mail["References"] is None
    assert not re.search(r"[^\x00-\x7f]", mail["Message-ID"])
