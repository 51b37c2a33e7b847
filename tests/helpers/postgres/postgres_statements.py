"""
What connections to Postgres execute, by the public methods of psycopg: for tests of the cost of a target.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from attrs import define, field
from psycopg.copy import LibpqWriter


@define(eq=False)
class Statement:
    """A statement with its parameters, the rows that were fetched from it so far, and the bytes of a COPY."""

    text: str
    parameters: Any = None
    rows: list[Any] = field(factory=list)
    copied_bytes: int = 0


class PostgresStatements:
    """
    The statements of the connections that :attr:`connect` made, in their order, apart from those of cursors of the
    server. ``begin`` and ``commit`` stand for a transaction.
    """

    def __init__(self) -> None:
        self.executed: list[Statement] = []

    @property
    def connect(self) -> Callable[..., "psycopg.Connection[Any]"]:
        """What a test puts in the place of ``psycopg.connect``."""
        return type("Recorded", (_Connection,), {"statements": self}).connect  # type: ignore[attr-defined, no-any-return]

    def clear(self) -> None:
        self.executed.clear()

    @property
    def texts(self) -> list[str]:
        return [one.text for one in self.executed]

    def of(self, words: str) -> list[Statement]:
        """The statements that contain these words."""
        return [one for one in self.executed if words in one.text]

    def record(self, text: str, parameters: Any = None) -> Statement:
        self.executed.append(Statement(text, parameters))
        return self.executed[-1]


class _Connection(psycopg.Connection[Any]):
    statements: PostgresStatements

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = _Cursor

    @contextmanager
    def transaction(self, *arguments: Any, **options: Any) -> Iterator[psycopg.Transaction]:
        outermost = self.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if outermost:
            self.statements.record("begin")
        with super().transaction(*arguments, **options) as transaction:
            yield transaction
        if outermost:
            self.statements.record("commit")


class _Cursor(psycopg.Cursor[Any]):
    connection: _Connection
    statement: Statement

    def execute(self, query: Any, params: Any = None, **options: Any) -> "_Cursor":
        self.statement = self.connection.statements.record(query, params)
        return super().execute(query, params, **options)

    def copy(self, statement: Any, params: Any = None, **options: Any) -> Any:
        recorded = self.connection.statements.record(statement, params)
        return super().copy(statement, params, writer=_Writer(self, recorded), **options)

    def fetchone(self) -> Any:
        row = super().fetchone()
        self.statement.rows += [] if row is None else [row]
        return row

    def fetchall(self) -> list[Any]:
        rows = super().fetchall()
        self.statement.rows += rows
        return rows

    def __iter__(self) -> Iterator[Any]:
        for row in super().__iter__():
            self.statement.rows.append(row)
            yield row


class _Writer(LibpqWriter):
    def __init__(self, cursor: _Cursor, statement: Statement) -> None:
        super().__init__(cursor)
        self.statement = statement

    def write(self, data: Any) -> None:
        self.statement.copied_bytes += len(data)
        super().write(data)
