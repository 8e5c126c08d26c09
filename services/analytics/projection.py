"""What a projection is: tables that are a function of the set of events it reads."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, ClassVar

from buildlight_contracts.catalogue import FACTS, validate
from buildlight_contracts.envelope import TYPE_PREFIX, Fact
from chassis.database import Connection
from chassis.follower import Recorded

Row = Mapping[str, Any]


class Projection(ABC):
    """Events in, rows out: any order, duplication or batching of the same events gives the same rows.

    Only the column `position` may differ, for positions are the order.
    """

    name: ClassVar[str]
    """Permanent: renaming it is a migration."""
    version: ClassVar[int]
    """Grows whenever the same events would give other rows."""
    reads: ClassVar[tuple[type[Fact], ...]]
    definitions: ClassVar[tuple[str, ...]]
    """The files in `projections/` that define its tables."""

    @property
    def follower(self) -> str:
        """The name its checkpoint is kept under: another version has one of its own."""
        return f"{self.name}.v{self.version}"

    @property
    def types(self) -> list[str]:
        """The event types it reads, as the log has them."""
        return [TYPE_PREFIX + fact.type for fact in self.reads]

    def ddl(self) -> list[str]:
        """The statements that make its tables and indexes, one a string."""
        folder = files("services.analytics.projections")
        texts = [folder.joinpath(name).read_text(encoding="utf-8") for name in self.definitions]
        return [statement for text in texts for statement in text.split(";\n")]

    @abstractmethod
    async def apply(self, events: Sequence[Recorded], connection: Connection) -> None:
        """Apply a batch inside the caller's transaction, with a fixed number of statements.

        Raises:
            BadMessage: an event's data does not fit its type; the caller finds out which.
        """


def fact_in(event: Recorded) -> Fact:
    """The typed fact of one of our own types that `event` holds.

    Raises:
        BadMessage: its data does not fit.
    """
    return validate(FACTS[event.type.removeprefix(TYPE_PREFIX)], event.data)


def newest_of(rows: Iterable[Row], *, key: str, newest: Sequence[str]) -> list[Row]:
    """One row a key: the one with the largest `newest`, and of equals the first."""
    kept: dict[Any, Row] = {}
    for row in rows:
        there = kept.setdefault(row[key], row)
        if [row[column] for column in newest] > [there[column] for column in newest]:
            kept[row[key]] = row
    return list(kept.values())


def newest_wins(table: str, columns: Mapping[str, str], *, key: str, newest: Sequence[str]) -> str:
    """The statement that upserts rows, given as one array a column, where the newest of a key wins.

    Args:
        table: with its schema.
        columns: name to SQL type, in the order of the arrays; JSON is given as text.
        key: the primary key's column; no two of the given rows may share one.
        newest: the columns that decide, most important first; of equals the row that is there stays.
    """
    names = ", ".join(columns)
    # JSON comes as text: asyncpg would take a list in an array of jsonb for another dimension of the array.
    kinds = ["text" if kind == "jsonb" else kind for kind in columns.values()]
    arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(kinds, 1))
    return f"""
        INSERT INTO {table} AS known ({names})
        SELECT {", ".join(f"given.{name}::{kind}" for name, kind in columns.items())}
          FROM unnest({arrays}) AS given ({names})
        ON CONFLICT ({key}) DO UPDATE SET ({names}) = ROW ({", ".join(f"excluded.{c}" for c in columns)})
         WHERE ({", ".join(f"excluded.{c}" for c in newest)}) > ({", ".join(f"known.{c}" for c in newest)})
    """


def arrays(rows: Sequence[Row], columns: Mapping[str, str]) -> list[list[Any]]:
    """`rows` as one array a column, in the columns' order."""
    return [[row[column] for row in rows] for column in columns]
