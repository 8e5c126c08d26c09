"""Mail, by SMTP. A connection a message: notifications are rare and mail servers close idle ones."""

import asyncio
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from uuid import UUID

import aiosmtplib
import structlog
from pydantic import SecretStr

from chassis.outage import Outage
from chassis.retry import Permanent, Transient
from services.notifier import render
from services.notifier.channels.channel import Notification, words

_TLS_FROM_THE_FIRST_BYTE = 465

log = structlog.get_logger()


class Mail:
    def __init__(
        self,
        host: str,
        port: int,
        *,
        sender: str,
        recipients: tuple[str, ...],
        user: str | None = None,
        password: SecretStr | None = None,
        tls: str = "auto",
        timeout_seconds: float,
    ) -> None:
        self._host = host
        self._port = port
        self._sender = sender
        self._recipients = recipients
        self._user = user
        self._password = password
        self._timeout = timeout_seconds
        self._use_tls = tls == "auto" and port == _TLS_FROM_THE_FIRST_BYTE
        # None: when the server offers it. A password never goes out in the clear but by the operator's word.
        self._start_tls = {"starttls": True, "none": False}.get(tls, True if user else None)

    async def send(self, notification: Notification) -> None:
        """Hand the mail to the server; raises as `Channel.send` says."""
        message = compose(
            notification, sender=self._sender, recipients=self._recipients, date=datetime.now(UTC)
        )
        try:
            async with asyncio.timeout(self._timeout):
                refused, _ = await aiosmtplib.send(
                    message,
                    hostname=self._host,
                    port=self._port,
                    username=self._user,
                    password=self._password.get_secret_value() if self._password else None,
                    use_tls=self._use_tls,
                    start_tls=False if self._use_tls else self._start_tls,
                    timeout=self._timeout / 2,  # so that connecting gives up before the whole does
                )
        except (aiosmtplib.SMTPConnectError, ssl.SSLError) as error:
            raise Outage("smtp", f"{type(error).__name__}: {error}") from error
        except OSError as error:  # among them aiosmtplib's lost connections and time-outs
            raise Transient(
                f"the mail server did not answer, and may have taken it: {type(error).__name__}"
            ) from error
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _refusal(error.recipients[0].code, error.recipients[0].message) from error
        except aiosmtplib.SMTPResponseException as error:
            raise _refusal(error.code, error.message) from error
        except aiosmtplib.SMTPException as error:
            raise Permanent(
                f"the mail server cannot do it: {words(error.message).rstrip('.')}. "
                "Check SMTP_TLS and SMTP_USER; then replay."
            ) from error
        if refused:
            # Sending again would reach those who have it twice.
            answers = sorted({f"{answer.code} {words(answer.message)}" for answer in refused.values()})
            log.warning("mail refused for some recipients", recipients=len(refused), answers=answers)


def _refusal(code: int, message: str) -> Permanent | Transient:
    answer = f"{code} {words(message)}"
    if 500 <= code < 600:
        return Permanent(
            f"the mail server refuses: {answer}. Check SMTP_USER, SMTP_PASS, ALERT_EMAIL_FROM and "
            "ALERT_EMAIL_TO; then replay."
        )
    return Transient(f"the mail server answers {answer}")


def compose(
    notification: Notification, *, sender: str, recipients: tuple[str, ...], date: datetime
) -> EmailMessage:
    """The mail. Its Message-ID comes from the delivery, so that a second copy can be told for what it is."""
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = notification.notice.title
    message["Date"] = format_datetime(date)
    message["Message-ID"] = message_id(notification.delivery_id, sender)
    if notification.follows:
        message["In-Reply-To"] = message["References"] = message_id(notification.follows, sender)
    message["Auto-Submitted"] = "auto-generated"  # nobody's holiday shall answer
    message.set_content(render.text(notification.notice))
    message.add_alternative(render.page(notification.notice), subtype="html")
    return message


def message_id(delivery_id: UUID, sender: str) -> str:
    return f"<{delivery_id}@{parseaddr(sender)[1].rpartition('@')[2]}>"
