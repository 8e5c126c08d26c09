"""`python -m tests.e2e.poisoned`: the notifier, killed by every Slack message whose title holds a word.

It stands for a bug that takes the process down (the word is in BUILDLIGHT_E2E_POISON); production code has none
on order.
"""

import os
import signal
import sys

from buildlight.cli import main
from services.notifier.channels.channel import Notification
from services.notifier.channels.slack import Slack

POISON = os.environ["BUILDLIGHT_E2E_POISON"]


class Poisoned(Slack):
    async def send(self, notification: Notification) -> None:
        if POISON in notification.notice.title:
            os.kill(os.getpid(), signal.SIGKILL)
        await super().send(notification)


if __name__ == "__main__":
    import services.notifier.service

    services.notifier.service.Slack = Poisoned  # type: ignore[attr-defined]
    sys.argv = ["buildlight", "run", "notifier"]
    main()
