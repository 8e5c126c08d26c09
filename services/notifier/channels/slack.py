"""Slack, by an incoming webhook.

Over httpx: slack-sdk's asynchronous client needs aiohttp, a second HTTP stack for one POST, and its other
client would block the loop. A connection a message: Slack takes about one a second, and nothing stays open.
"""

import asyncio
import ssl

import httpx
from pydantic import SecretStr

from chassis.outage import Outage
from chassis.retry import Permanent, Transient
from services.notifier import render
from services.notifier.channels.channel import Notification, words


class Slack:
    def __init__(self, webhook: SecretStr, *, timeout_seconds: float) -> None:
        self._webhook = webhook
        self._timeout = timeout_seconds
        self._tls = ssl.create_default_context()

    async def send(self, notification: Notification) -> None:
        """Post the notice; raises as `Channel.send` says."""
        patience = httpx.Timeout(self._timeout, connect=self._timeout / 2)
        try:
            async with (
                asyncio.timeout(self._timeout),
                httpx.AsyncClient(verify=self._tls, timeout=patience) as client,
            ):
                response = await client.post(
                    self._webhook.get_secret_value(), json=render.slack(notification.notice)
                )
        # Not chained: an HTTP client's traceback has the webhook's address in it, which is a secret.
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise Outage("slack", f"{type(error).__name__}: {error}") from None
        except (httpx.RequestError, TimeoutError, OSError) as error:
            raise Transient(f"Slack did not answer, and may have taken it: {type(error).__name__}") from None
        if not response.is_success:
            raise _refusal(response)


def _refusal(response: httpx.Response) -> Permanent | Transient:
    status, answer = response.status_code, words(response.text)
    if status == 429:
        return Transient(
            f"Slack says {answer}: too many messages",
            retry_after_seconds=_seconds(response.headers.get("retry-after", "")),
        )
    if status >= 500 or status == 408:
        return Transient(f"Slack answers {status}: {answer}")
    # Slack's own word (no_service, invalid_token, channel_is_archived, ...) tells the operator what to repair.
    return Permanent(
        f"Slack refuses with {status}: {answer}. Check ALERT_SLACK_WEBHOOK and its channel; then replay."
    )


def _seconds(retry_after: str) -> float | None:
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
