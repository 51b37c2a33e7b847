"""
What connections of SQLite execute, by their public methods: for tests of the cost of a ledger.
"""

import re
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define, field

_CHANGE = re.compile(r"\s*(insert|update|delete|replace)\b", re.IGNORECASE)


@define(eq=False)
class Statement:
    """A statement with its parameters, and the rows that were fetched from it so far."""

    text: str
    parameters: Any
    rows: list[Any] = field(factory=list)

    def fetched(self, cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
        self.rows.append(row)
        return row


class Statements:
    """
    The statements of the connections that :attr:`connect` made, in their order. ``durable_changes``: the
    commits, and the changes outside a transaction.
    """

    def __init__(self) -> None:
        self.connections: list[sqlite3.Connection] = []
        self.executed: list[Statement] = []
        self.durable_changes = 0

    @property
    def connect(self) -> Callable[..., sqlite3.Connection]:
        """What a test puts in the place of ``sqlite3.connect``."""
        return partial(sqlite3.connect, factory=partial(_Connection, self))

    def clear(self) -> None:
        self.executed.clear()
        self.durable_changes = 0

    @property
    def rows(self) -> list[Any]:
        """The rows that were fetched, of all statements."""
        return [row for one in self.executed for row in one.rows]

    def of(self, words: str) -> list[Statement]:
        """The statements that contain these words."""
        return [one for one in self.executed if words in one.text]

    def count(self, word: str) -> int:
        """The number of statements that begin with this word."""
        return sum(one.text.split()[0] == word for one in self.executed)

    def plans(self, words: str = "") -> list[list[str]]:
        """The steps of the database for each executed query that contains these words."""
        queries = [one for one in self.of(words) if one.text.lstrip().startswith(("select", "with"))]
        explain = self.connections[-1].cursor()
        return [
            [step[-1] for step in explain.execute(f"explain query plan {one.text}", one.parameters).fetchall()]
            for one in queries
        ]


class _Connection(sqlite3.Connection):
    def __init__(self, statements: Statements, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.statements = statements
        statements.connections.append(self)

    def execute(self, text: str, parameters: Any = ()) -> sqlite3.Cursor:
        statement = Statement(text, parameters)
        self.statements.executed.append(statement)
        within = self.in_transaction
        cursor = super().execute(text, parameters)
        ended = within and not self.in_transaction and text.strip().lower() in ("commit", "end")
        self.statements.durable_changes += ended or (not within and _CHANGE.match(text) is not None)
        cursor.row_factory = statement.fetched
        return cursor
