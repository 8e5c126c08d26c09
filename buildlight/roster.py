"""The six services by name: how each is built and which queues it owns.

A service's code is imported only when it is built, so that one run alone does not carry the others' weight.
"""

from collections.abc import Sequence
from importlib import import_module

from chassis.service import Service
from chassis.topology import Queue

SERVICES = ("ingest", "poller", "analytics", "notifier", "provisioner", "api")


def queues() -> tuple[Queue, ...]:
    """Every durable queue of every service."""
    return tuple(queue for name in SERVICES for queue in import_module(f"services.{name}.queues").QUEUES)


def build(name: str) -> Service:
    """Put the service `name` together from its settings; nothing connects.

    Raises:
        BadSettings: naming each variable that is missing or wrong.
    """
    match name:
        case "ingest":
            from services.ingest.service import build as build_ingest  # noqa: PLC0415
            from services.ingest.settings import IngestSettings  # noqa: PLC0415

            # It archives the dead letters of all: only up here are all queues known.
            return build_ingest(IngestSettings.load(), archived=queues())
        case "poller":
            from services.poller.service import build as build_poller  # noqa: PLC0415
            from services.poller.settings import PollerSettings  # noqa: PLC0415

            return build_poller(PollerSettings.load())
        case "analytics":
            from services.analytics.service import build as build_analytics  # noqa: PLC0415
            from services.analytics.settings import AnalyticsSettings  # noqa: PLC0415

            return build_analytics(AnalyticsSettings.load())
        case "notifier":
            from services.notifier.service import build as build_notifier  # noqa: PLC0415
            from services.notifier.settings import NotifierSettings  # noqa: PLC0415

            return build_notifier(NotifierSettings.load())
        case "provisioner":
            from services.provisioner.service import build as build_provisioner  # noqa: PLC0415
            from services.provisioner.settings import ProvisionerSettings  # noqa: PLC0415

            return build_provisioner(ProvisionerSettings.load())
        case "api":
            from services.api.service import build as build_api  # noqa: PLC0415
            from services.api.settings import ApiSettings  # noqa: PLC0415

            return build_api(ApiSettings.load())
    raise ValueError(f"no service {name!r}; there are {', '.join(SERVICES)}")


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The services meant by `names`, `all` being every one; in the order they are best started.

    Raises:
        ValueError: a name that is no service.
    """
    unknown = [name for name in names if name not in (*SERVICES, "all")]
    if unknown:
        raise ValueError(f"no service {', '.join(unknown)}; there are {', '.join(SERVICES)} and all")
    return tuple(name for name in SERVICES if "all" in names or name in names)
