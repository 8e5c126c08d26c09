"""The api owns no durable queue: each replica hears recorded facts on a private one that dies with it."""

from chassis.topology import Queue

QUEUES: tuple[Queue, ...] = ()
