"""What the sandbox was asked and what it was made to do: a test's oracle counts here."""

import re
from collections import Counter, deque
from datetime import UTC, datetime
from typing import Any

KEPT_EFFECTS = 20_000
KEPT_PATHS = 5_000

_NUMBER = re.compile(r"\d+")


class Ledger:
    """Effects in order, and requests counted by path and status.  Both are bounded."""

    def __init__(self) -> None:
        self._effects: deque[dict[str, Any]] = deque(maxlen=KEPT_EFFECTS)
        self._sequence = 0
        self._requests: Counter[tuple[str, str, str, int]] = Counter()

    def effect(self, target: str, kind: str, **what: Any) -> None:
        """Note something a server really took: a message, a mail, a repository, a commit, a call-back."""
        self._sequence += 1
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._effects.append(
            {"sequence": self._sequence, "time": moment, "target": target, "kind": kind, **what}
        )

    def effects(self, target: str | None, after: int) -> dict[str, Any]:
        """Effects past sequence `after`; `total` counts all since the start, forgotten ones too."""
        kept = [
            effect
            for effect in self._effects
            if effect["sequence"] > after and target in (None, effect["target"])
        ]
        return {"total": self._sequence, "effects": kept}

    def forget_effects(self) -> None:
        self._effects.clear()

    def request(self, target: str, method: str, path: str, status: int) -> None:
        """Count an answered request; 0 stands for one that was never answered."""
        key = (target, method, path, status)
        if key not in self._requests and len(self._requests) >= KEPT_PATHS:
            key = (target, method, _NUMBER.sub("{n}", path), status)
        self._requests[key] += 1

    def requests(self, target: str | None) -> dict[str, Any]:
        """Counts in all, by status, and by method, path and status."""
        chosen = {key: count for key, count in self._requests.items() if target in (None, key[0])}
        by_status: Counter[str] = Counter()
        for (_, _, _, status), count in chosen.items():
            by_status[str(status)] += count
        return {
            "total": sum(chosen.values()),
            "by_status": dict(by_status),
            "by_path": [
                {"target": name, "method": method, "path": path, "status": status, "count": count}
                for (name, method, path, status), count in chosen.items()
            ],
        }

    def forget_requests(self) -> None:
        self._requests.clear()
