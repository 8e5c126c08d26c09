"""Analytics owns no durable queue: it follows the log, and hears hints on a private one that dies with it."""

from chassis.topology import Queue

QUEUES: tuple[Queue, ...] = ()
