"""
Deliveries into Postgres: a target, partitions of it, and what the tables then hold.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
from attrs import evolve
from penstock import Batch, Column, Layout, LedgerEntry, Secret
from penstock.testing.sinks import CLICKS, SOURCE, a_day, a_lead_day, an_entry, click, rows_of
from penstock_plugins.postgres.sink import PostgresSink
from penstock_plugins.postgres.target import PostgresTarget


def sink(dsn: str, **more: Any) -> PostgresSink:
    return PostgresSink(dsn=Secret(dsn), lock_wait_ms=300, **more)


def name_of(dsn: str) -> str:
    """The database's name."""
    return dsn.partition("?")[0].rpartition("/")[2]


def query(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def deliver(
    target: PostgresTarget, rows: Sequence[Mapping[str, Any]], layout: Layout = CLICKS, **facts: Any
) -> LedgerEntry:
    partition = facts.pop("partition", a_lead_day(1) if layout.kind == "changes" else a_day())
    known = target.ledger.entry(target.source, partition)
    entry = evolve(an_entry(None, partition, rows=len(rows), **facts), source=target.source)
    entry = evolve(entry, version=known.version if known is not None else 0)
    writer = target.begin([evolve(layout, source=target.source)], partition)
    writer.write(Batch(layout=layout, rows=rows_of(layout, rows)))
    return writer.commit(entry)


def delivered(
    dsn: str,
    rows: Sequence[Mapping[str, Any]],
    layout: Layout = CLICKS,
    run_id: str = "r1",
    source: str = SOURCE,
    partition: Any = None,
    sums: Mapping[str, Decimal] | None = None,
    fingerprint: str = "f",
    **settings: Any,
) -> LedgerEntry:
    """One run that delivers one partition."""
    target = sink(dsn, **settings).open(source, run_id)
    try:
        facts = {"run_id": run_id, "sums": sums or {}, "fingerprint": fingerprint}
        return deliver(target, rows, layout, **facts, **({"partition": partition} if partition else {}))
    finally:
        target.close()


def a_trigger(dsn: str, table: str, when: str, does: str) -> None:
    query(dsn, f"create function meddle() returns trigger language plpgsql as $$ begin {does} end $$")
    each = "" if "for each" in when else "for each row"
    query(dsn, f"create {when.replace('TABLE', table)} {each} execute function meddle()")


def a_session_end(dsn: str, table: str, when: str, first: int = 1) -> None:
    """
    A trigger that ends the session in which it is called: once, at call number ``first``. A sequence counts the calls,
    which no rollback resets.
    """
    query(dsn, "create sequence session_ends")
    end = "perform pg_terminate_backend(pg_backend_pid());"
    a_trigger(dsn, table, when, f"if nextval('session_ends') = {first} then {end} end if; return new;")


class LostAnswer:
    """
    Connections of which one ends when a partition was committed, before it has the answer to COMMIT: it is in
    ``ended``.
    """

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.ended: list[psycopg.Connection[Any]] = []

    @property
    def connect(self) -> Callable[..., "psycopg.Connection[Any]"]:
        """What a test puts in the place of ``psycopg.connect``."""
        return type("Ending", (_Ending,), {"lost": self}).connect  # type: ignore[attr-defined, no-any-return]


class _Ending(psycopg.Connection[Any]):
    lost: LostAnswer

    @contextmanager
    def transaction(self, *arguments: Any, **options: Any) -> Iterator[psycopg.Transaction]:
        with super().transaction(*arguments, **options) as transaction:
            yield transaction
        if not self.lost.ended and query(self.lost.dsn, "select rows from penstock.partitions"):
            self.lost.ended.append(self)
            self.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")


def a_click_of(day: int, number: int, **values: Any) -> dict[str, Any]:
    return click(number, report_date=date(2026, 3, day), **values)


def changed(layout: Layout, *columns: Column) -> Layout:
    """The layout with these columns, in place of those of their names or before ``_extra``."""
    new = {column.name: column for column in columns}
    kept = [new.pop(column.name, column) for column in layout.columns]
    return evolve(layout, columns=(*kept[:-1], *new.values(), kept[-1]))


def as_role(dsn: str, role: str) -> str:
    return f"{dsn}{'&' if '?' in dsn else '?'}options=-crole%3D{role}"


def verified(dsn: str, stream: str, **settings: Any) -> list[str]:
    seen = sink(dsn, **settings).open_readonly(SOURCE)
    assert seen is not None
    found = list(seen.verify(stream, list(seen.ledger.entries(SOURCE, stream).values())))
    seen.close()
    return [one.what for one in found]
