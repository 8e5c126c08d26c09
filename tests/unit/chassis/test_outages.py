"""What counts as an outage of the database."""

import errno
import socket
import ssl

import asyncpg
import pytest
from asyncpg import exceptions

from chassis.broker import Broker
from chassis.database import is_outage
from chassis.outage import Outage


def from_server(sqlstate: str, severity: str = "ERROR") -> BaseException:
    """The error asyncpg makes of a server's message."""
    error = exceptions.PostgresError.new(
        {"C": sqlstate, "M": "said the server", "S": severity, "V": severity}
    )
    assert isinstance(error, BaseException)
    return error


@pytest.mark.parametrize(
    "sqlstate",
    [
        *("08000", "08001", "08003", "08004", "08006"),  # the connection failed
        "25006",  # read-only after a failover
        "25P03",  # the session was ended while this process was stopped
        *("28000", "28P01", "3D000"),  # the login or the database was taken away
        *("53100", "53300"),  # disk full, too many connections
        *("57P01", "57P02", "57P03", "57P04", "57P05"),  # shutting down, crashed, starting, dropped, idle
        "58030",  # the server's disk
    ],
)
def test_a_server_that_is_away_is_an_outage(sqlstate: str) -> None:
    """An error about the server, and not about what was asked of it, is an outage."""
    assert is_outage(from_server(sqlstate, "FATAL"))


@pytest.mark.parametrize(
    "sqlstate",
    [
        *("22P02", "22P05", "22021", "22003"),  # bad JSON, NUL, bad text, out of range
        *("23502", "23505", "23514"),  # constraints
        "25P02",  # the statement before it was
        *(
            "40001",
            "40P01",
            "55P03",
            "57014",
        ),  # worth another try of the one message, yet the server is there
        *("42501", "42601", "42703", "42P01"),  # no right, bad SQL, no such column, no such table
        *("53200", "54000", "P0001", "XX000"),
    ],
)
def test_a_statement_at_fault_is_not_an_outage(sqlstate: str) -> None:
    """An error that the same statement would meet again, or that concerns it alone, is not an outage."""
    assert not is_outage(from_server(sqlstate))


def test_a_protocol_violation_is_an_outage_only_when_the_session_ends() -> None:
    """A pooler says 08P01, fatally, of a server it cannot reach; Postgres says it of a client's message."""
    assert is_outage(from_server("08P01", "FATAL"))
    assert not is_outage(from_server("08P01"))


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        BrokenPipeError(errno.EPIPE, "broken pipe"),
        OSError(errno.EHOSTUNREACH, "no route to host"),
        FileNotFoundError(errno.ENOENT, "no such socket"),
        socket.gaierror(socket.EAI_NONAME, "name not known"),
        ssl.SSLError(1, "closed"),
        TimeoutError(),
        exceptions.TargetServerAttributeNotMatched("no primary"),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InterfaceError("cannot call PreparedStatement.fetch(): the underlying connection is closed"),
        asyncpg.InterfaceError("pool is closing"),
    ],
)
def test_a_network_that_is_away_is_an_outage(error: BaseException) -> None:
    """What the operating system or asyncpg say of a lost connection is an outage."""
    assert is_outage(error)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "no such file", "rules.yaml"),
        asyncpg.InterfaceError("cannot perform operation: another operation is in progress"),
        asyncpg.DataError("invalid input for query argument $1: 'x'"),
        ValueError("not a database's error"),
        KeyError("x"),
    ],
)
def test_a_fault_of_our_own_is_not_an_outage(error: BaseException) -> None:
    """A bug, a bad argument or a file of our own is not an outage."""
    assert not is_outage(error)


async def test_a_pool_that_is_not_open_is_an_outage() -> None:
    """HTTP is served while a service starts and stops: asked then, the database is away, not misused."""
    pool = asyncpg.create_pool("postgresql://nobody@127.0.0.1:9/none", min_size=0)
    with pytest.raises(asyncpg.InterfaceError) as not_yet:
        await pool.fetchval("SELECT 1")
    assert is_outage(not_yet.value)
    await pool
    await pool.close()
    with pytest.raises(asyncpg.InterfaceError) as no_more:
        await pool.fetchval("SELECT 1")
    assert is_outage(no_more.value)


async def test_a_broker_that_is_not_connected_yet_is_an_outage() -> None:
    """Publishing while a service starts can be repeated: it is no error of ours."""
    broker = Broker("amqp://127.0.0.1:9/", service="try", rungs=["1s"])
    with pytest.raises(Outage, match="rabbitmq is down"):
        await broker.put(b"{}", key="anywhere")
