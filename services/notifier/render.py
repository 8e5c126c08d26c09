"""How a fact reads: what happened as a notice, and the notice as plain text, Slack's blocks and HTML.

Names and commit messages are written by whoever can push: they are cleaned and cut when the notice is made,
and escaped once, where it is turned into a channel's form.
"""

import html
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from buildlight_contracts.builds import PipelineBrokeV1, PipelineRecoveredV1
from buildlight_contracts.states import State

# Slack takes 3,000 characters a section and refuses the whole message over that; escaped, one may become five.
_LONGEST_NAME = 80
_LONGEST_MESSAGE = 150
_LONGEST_ADDRESS = 1000
_HOW = {
    State.FAILURE: "It failed",
    State.TIMED_OUT: "It timed out",
    State.STARTUP_FAILURE: "It could not start",
}


@dataclass(frozen=True)
class Notice:
    """What people are told: a title of one line, some sentences, some links as (label, address)."""

    title: str
    lines: tuple[str, ...]
    links: tuple[tuple[str, str], ...]


def notice(fact: PipelineBrokeV1 | PipelineRecoveredV1, *, public_url: str | None) -> Notice:
    """What happened, where, by which commit, since when or for how long, and where to look.

    `public_url`: Buildlight's own address, for the link to its page of the build.
    """
    what = "broke" if isinstance(fact, PipelineBrokeV1) else "works again"
    where = f" on {_clean(fact.branch, _LONGEST_NAME)}" if fact.branch else ""
    title = f"{_clean(fact.repository, _LONGEST_NAME)}: {_clean(fact.workflow, _LONGEST_NAME)} {what}{where}"
    lines = (_when(fact), _commit(fact))
    build = f"{public_url}/builds/{fact.build.build_id}" if public_url else None
    links = (
        (f"Build at {_clean(fact.build.provider, _LONGEST_NAME)}", _address(fact.url)),
        ("In Buildlight", _address(build)),
    )
    return Notice(
        title,
        tuple(line for line in lines if line),
        tuple((label, address) for label, address in links if address),
    )


def text(notice: Notice) -> str:
    """Plain text, without the title: a mail's body."""
    return "\n".join([*notice.lines, "", *(f"{label}: {address}" for label, address in notice.links)]) + "\n"


def slack(notice: Notice) -> dict[str, Any]:
    """The body for Slack's incoming webhook: blocks, and `text` for where blocks are not shown."""
    blocks = [_section("\n".join([f"*{_slack(notice.title)}*", *map(_slack, notice.lines)]))]
    if notice.links:
        blocks.append(
            _section("  ·  ".join(f"<{_slack(address)}|{_slack(label)}>" for label, address in notice.links))
        )
    return {"text": _slack(notice.title), "blocks": blocks}


def page(notice: Notice) -> str:
    """HTML: a mail's other body."""
    lines = "".join(f"<p>{html.escape(line)}</p>\n" for line in notice.lines)
    links = " · ".join(
        f'<a href="{html.escape(address)}">{html.escape(label)}</a>' for label, address in notice.links
    )
    return (
        f"<!doctype html>\n<html><body>\n<h3>{html.escape(notice.title)}</h3>\n{lines}"
        + (f"<p>{links}</p>\n" if links else "")
        + "</body></html>\n"
    )


def lasted(duration: timedelta) -> str:
    """`2 d 3 h`, `1 h 8 min`, `5 min` or `32 s`."""
    minutes, seconds = divmod(max(0, round(duration.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def _when(fact: PipelineBrokeV1 | PipelineRecoveredV1) -> str:
    if isinstance(fact, PipelineBrokeV1):
        return f"{_HOW.get(fact.state, 'It is red')}; broken since {_moment(fact.broke_at)}."
    if fact.broken_since is None:
        return f"Green since {_moment(fact.recovered_at)}."
    return f"Green since {_moment(fact.recovered_at)}, after {lasted(fact.recovered_at - fact.broken_since)}."


def _commit(fact: PipelineBrokeV1 | PipelineRecoveredV1) -> str:
    """`Commit 009b8a3 by octocat: Take cards with a long number`, as far as it is known."""
    sha = _clean(fact.commit_sha or "", _LONGEST_NAME)[:7]
    author = _clean(fact.author or "", _LONGEST_NAME)
    first_line = _clean((fact.commit_message or "").strip().partition("\n")[0], _LONGEST_MESSAGE)
    about = " ".join(filter(None, ("Commit", sha, f"by {author}" if author else "")))
    if first_line:
        return f"{about}: {first_line}"
    return about if sha or author else ""


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _clean(text: str, longest: int) -> str:
    """One line, with nothing that is invisible or turns the direction of writing, of bounded length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def _address(url: str | None) -> str | None:
    """A web address fit to be a link, or None: providers' data could hold `javascript:` as well."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
        fit = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        return None
    # Slack ends an address at | and >, mail at white space.
    address = quote(url, safe="/:?#[]@!$&'()*+,;=%~")
    return address if fit and len(_slack(address)) <= _LONGEST_ADDRESS else None


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _section(text: str) -> dict[str, Any]:
    # verbatim: Slack shall make no links and mentions of its own out of a commit's message.
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}
