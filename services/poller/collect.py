"""What to do when a part of what is collected of a build cannot be had. Pure."""

from uuid import UUID

from buildlight_contracts.envelope import derive_id
from services.poller.provider import Document, Reason, Results

MOST_DOCUMENTS = 1000
"""Of one attempt."""
MOST_IN_A_ROW = 3
"""With so many failing one after the other it is the provider that fails."""
_OF_ALL: frozenset[Reason] = frozenset({"unauthorized", "rate_limited"})
"""With these no other document or log could be had either."""
_LONGEST_DETAIL = 2000
_TOLD = 5


class Keys:
    """Names what a provider lists, alike in every try: several may be called the same."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], int] = {}

    def of(self, found: Document | Results) -> UUID:
        name = (found.job or "", found.source)
        number = self._seen[name] = self._seen.get(name, 0) + 1
        return derive_id("document", *name, str(number))


def job_key(job_id: str) -> UUID:
    return derive_id("job", job_id)


class Setbacks:
    """What failed in one try, part by part: the others go on."""

    def __init__(self) -> None:
        self.gone: list[str] = []
        """The provider no longer has these, and no later try will change that."""
        self.failed: list[str] = []
        """These are worth another try."""
        self._in_a_row = 0

    def went_well(self) -> None:
        self._in_a_row = 0

    def bear(self, what: str, reason: Reason, detail: str) -> bool:
        """Note that a part failed. False: it is pointless, or rude, to ask for the others now."""
        if reason == "not_found":
            self.gone.append(f"{what}: {detail}")
            return True
        self.failed.append(f"{what}: {detail}")
        self._in_a_row += 1
        return reason not in _OF_ALL and self._in_a_row < MOST_IN_A_ROW


def summary(notes: list[str]) -> str | None:
    if not notes:
        return None
    more = f"; and {len(notes) - _TOLD} more" if len(notes) > _TOLD else ""
    return ("; ".join(notes[:_TOLD]) + more).replace("\0", "")[:_LONGEST_DETAIL]
