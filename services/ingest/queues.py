"""The queues ingest consumes."""

from buildlight_contracts.commands import ReplayDeadLettersV1
from buildlight_contracts.routing import COMMANDS, INTAKE
from chassis.topology import Binding, Queue

APPEND = Queue(
    "ingest.append",
    owner="ingest",
    purpose="Every observation, to be recorded in the log.",
    bindings=(Binding(INTAKE, "#"),),
    prefetch=1000,  # two batches: one being recorded while the next arrives
)
REPLAY = Queue(
    "ingest.replay",
    owner="ingest",
    purpose="Requests to put dead letters back on the queues they died on.",
    bindings=(Binding(COMMANDS, ReplayDeadLettersV1.type),),
    prefetch=1,  # requests are served one after the other
)

QUEUES = (APPEND, REPLAY)
