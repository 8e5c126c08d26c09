"""Liveness and readiness that mean something.

Live: the event loop turns. Ready: RabbitMQ and Postgres answer, and every queue has its consumer (a
reconnect has been seen to lose consumers before).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Check = Callable[[], Awaitable[None]]
"""Returns when all is well; raises, with a sentence, when not."""

CHECK_TIMEOUT_SECONDS = 3.0


async def run_checks(checks: Mapping[str, Check]) -> dict[str, str]:
    """Run `checks` side by side. Returns `{name: "ok" or what is wrong}`."""

    async def one(check: Check) -> str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                await check()
        except TimeoutError:
            return f"no answer within {CHECK_TIMEOUT_SECONDS:.0f} s"
        except Exception as error:  # noqa: BLE001 -- whatever is wrong, readiness says it
            return str(error) or type(error).__name__
        return "ok"

    answers = await asyncio.gather(*(one(check) for check in checks.values()))
    return dict(zip(checks, answers, strict=True))


def report(answers: Mapping[str, str]) -> dict[str, Any]:
    """The body of `/health/ready`."""
    ready = all(answer == "ok" for answer in answers.values())
    return {"status": "ready" if ready else "not ready", "checks": dict(answers)}
