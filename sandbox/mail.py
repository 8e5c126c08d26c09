"""A mail server that delivers to the ledger."""

import asyncio
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, Envelope, Session

from sandbox.faults import Fault, Faults
from sandbox.ledger import Ledger

MAXIMUM_BYTES = 10 * 1024 * 1024


class Mailbox:
    """aiosmtpd's handler: takes every message, unless a fault is on order."""

    def __init__(self, ledger: Ledger, faults: Faults) -> None:
        self._ledger = ledger
        self._faults = faults

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Answer DATA; a fault's `path` is matched against the recipients."""
        del server, session
        fault = self._faults.take("smtp", " ".join(envelope.rcpt_tos))
        if fault is None or fault.after:
            self._keep(envelope)
        reply = "250 2.0.0 Message accepted" if fault is None else await _reply(fault)
        self._ledger.request("smtp", "DATA", "/", int(reply[:3]) if reply[:3].isdecimal() else 0)
        return reply

    def _keep(self, envelope: Envelope) -> None:
        content = envelope.content or b""
        raw = content.encode() if isinstance(content, str) else content
        message = message_from_bytes(raw, _class=EmailMessage, policy=policy.default)
        body = message.get_body(("plain", "html"))
        self._ledger.effect(
            "smtp",
            "mail",
            sender=envelope.mail_from,
            recipients=envelope.rcpt_tos,
            subject=message["subject"],
            message_id=message["message-id"],
            headers={name.lower(): str(value) for name, value in message.items()},
            body=body.get_content() if body else "",
        )


async def _reply(fault: Fault) -> str:
    match fault.kind:
        case "hang":
            await asyncio.sleep(fault.seconds)
            return "421 4.4.2 Timed out"
        case "nonsense":
            return "hello, this is no SMTP answer"
        case "rate_limit" | "secondary_limit":
            return "452 4.5.3 Too many messages, try again later"
        case "auth":
            return "530 5.7.0 Authentication required"
    text = "4.3.0 Try again later" if fault.status < 500 else "5.7.1 Rejected"
    return f"{fault.status} {text}"


async def serve(mailbox: Mailbox, host: str, port: int) -> asyncio.Server:
    """Listen; port 0 picks a free one."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(
        lambda: SMTP(
            mailbox, hostname="sandbox", ident="Sandbox", data_size_limit=MAXIMUM_BYTES, enable_SMTPUTF8=True
        ),
        host,
        port,
    )
