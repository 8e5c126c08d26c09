"""The provisioner's queues."""

from dataclasses import replace

from buildlight_contracts.commands import ProvisionV1
from buildlight_contracts.routing import COMMANDS
from chassis.topology import Binding, Queue
from services.provisioner.settings import ProvisionerSettings

JOBS = Queue(
    "provisioning-jobs",
    owner="provisioner",
    purpose="plain JSON jobs from other teams: checked, noted, put to work",
    prefetch=10,
    foreign=True,
)
PROVISION = Queue(
    "provisioner.provision",
    owner="provisioner",
    purpose="the command to provision a repository: checked, noted, put to work",
    bindings=(Binding(COMMANDS, ProvisionV1.type),),
    prefetch=10,
)
WORK = Queue(
    "provisioner.work",
    owner="provisioner",
    purpose="accepted runs to carry out, one message a run",
    prefetch=5,
)
CALLBACK = Queue(
    "provisioner.callback",
    owner="provisioner",
    purpose="runs whose status the control plane is to be told",
    prefetch=4,
)
QUEUES = (JOBS, PROVISION, WORK, CALLBACK)


def jobs(settings: ProvisionerSettings) -> Queue:
    return replace(JOBS, name=settings.jobs_queue, prefetch=settings.jobs_prefetch)


def work(settings: ProvisionerSettings) -> Queue:
    return replace(WORK, prefetch=settings.concurrency)
