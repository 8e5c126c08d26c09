"""Addresses of pages of builds. Pure.

Jenkins lists builds newest first, by place and not by time: an address of ours says which stretch of time is meant,
and from which place on to look for it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlencode, urlsplit

from services.poller.provider import Span


@dataclass(frozen=True, slots=True)
class Window:
    """Which builds a listing's address means: those of a span, from the so-maniest on, newest first."""

    span: Span
    start: int = 0

    def address(self, job: str) -> str:
        query = {"since": self.span.since.astimezone(UTC).isoformat()}
        if self.span.until is not None:
            query["until"] = self.span.until.astimezone(UTC).isoformat()
        return f"{job}?{urlencode({**query, 'from': self.start})}"

    @classmethod
    def read(cls, address: str) -> "Window":
        query = {key: values[0] for key, values in parse_qs(urlsplit(address).query).items()}
        until = datetime.fromisoformat(query["until"]) if "until" in query else None
        return cls(Span(datetime.fromisoformat(query["since"]), until), int(query["from"]))

    def holds(self, when: datetime) -> bool:
        return when >= self.span.since and (self.span.until is None or when < self.span.until)
