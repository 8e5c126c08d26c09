"""Private servers: a PostgreSQL and a RabbitMQ of this checkout's own, on loopback.

    async with private_postgres(folder) as url: ...      # postgresql://...
    async with private_rabbitmq(folder) as url: ...      # amqp://...

Nothing of the machine's own servers is used or touched but their binaries. A second start in the
same folder finds its data again. `Postgres` and `RabbitMQ` are the same servers with `kill()` and
`start()`, for tests of what happens when one dies.
"""

from buildlight.servers.postgres import Postgres, private_postgres
from buildlight.servers.process import PrivateServer, ServerError, free_port
from buildlight.servers.rabbitmq import RabbitMQ, private_rabbitmq

__all__ = [
    "Postgres",
    "PrivateServer",
    "RabbitMQ",
    "ServerError",
    "free_port",
    "private_postgres",
    "private_rabbitmq",
]
