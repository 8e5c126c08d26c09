"""What Jenkins' notification plugin tells. Pure, and total: nothing in a body raises.

Its `build.timestamp` is the phase's time and not the build's, one way in older versions and another in newer ones,
and it tells neither causes nor stages: a notification names no build for good. It is a hint to look at one.
"""

from collections.abc import Mapping
from typing import Any

from services.poller.providers.jenkins.names import name_in
from services.poller.providers.jenkins.values import number, part, text
from services.poller.seen import Seen

PHASES = ("QUEUED", "STARTED", "COMPLETED", "FINALIZED", "NONE")
"""QUEUED is sent when the build has begun, too: Jenkins gives it its number no earlier."""


def facts_of(event: str, body: Mapping[str, Any], *, instance: str) -> Seen:
    """The one build to look at, as a pair of the job's full name and the build's bare number.

    Args:
        event: not used; the plugin sends no name of one.
        body: its JSON in the format "JSON".
        instance: not used; nothing of the body becomes a fact.
    """
    del event, instance
    build = part(body, "build")
    count = number(build.get("number"))
    if count is None or count < 1:
        return Seen(
            ignored="it names no build: build.number is missing. Is the notification plugin's format JSON?"
        )
    # `name` is the last part alone; the addresses have the folders too.
    addresses = (text(build.get("url")), text(body.get("url")), text(build.get("full_url")))
    name = next((found for one in addresses if one and (found := _name(one))), None) or text(body.get("name"))
    if name is None:
        return Seen(ignored="it names no job: url, build.url and build.full_url have none")
    return Seen(refresh=((name, str(count)),))


def _name(address: str) -> str | None:
    try:
        return name_in(address)
    except ValueError:
        return None
