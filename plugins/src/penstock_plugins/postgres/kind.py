"""
The sink ``postgresql://...``. psycopg is imported when it is opened.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from attrs import frozen
from penstock import Secret, Sink, SinkKind, setting

from penstock_plugins.extras import installed
from penstock_plugins.sink_support.sink_settings import RetentionSettings


@frozen(kw_only=True, eq=False, repr=False)
class PostgresSettings(RetentionSettings):
    dsn: Secret = setting(help="postgresql://user:password@host/database, or host=... dbname=...", repr=False)
    schema: str = setting(
        "{source}", help="where the tables are; may hold {source} and {connector}; without {source}, sources share them"
    )
    table: Mapping[str, str] = setting(
        help="names of tables by stream, * for all others; may hold {source}, {connector}, {stream}; default: {stream}",
        factory=dict,
    )
    ledger_schema: str = setting("penstock", help="where the ledger's tables are")
    grant_to: tuple[str, ...] = setting(help="roles that may read all tables and the ledger", factory=tuple)
    day_index: bool = setting(default=True, help="new tables get an index on the day, across accounts")
    nul: Literal["reject", "strip", "replace"] = setting(
        "reject", help="a record with a NUL character in a text: reject it, or strip or replace the character"
    )


def _postgres(settings: PostgresSettings) -> Sink:
    with installed("postgres"):
        from penstock_plugins.postgres.sink import PostgresSink

    return PostgresSink(
        dsn=settings.dsn,
        schema=settings.schema,
        tables=dict(settings.table),
        ledger_schema=settings.ledger_schema,
        grant_to=settings.grant_to,
        day_index=settings.day_index,
        nul=settings.nul,
        retention=settings.retention(),
    )


def _postgres_query(settings: PostgresSettings, text: str) -> Iterator[Mapping[str, Any]]:
    with installed("postgres"):
        from penstock_plugins.postgres.query import rows_of

    return rows_of(settings.dsn, text)


POSTGRES = SinkKind(
    name="postgres",
    summary="tables of a Postgres database, one per stream (extra: postgres)",
    promise=(
        "a partition's rows and its ledger row in one transaction: exactly once; readers see a partition as it was or "
        "as it is, never in between; what a new reading changed is recorded in penstock.restatements"
    ),
    scheme="postgresql",
    example="postgresql://...",
    settings=PostgresSettings,
    parse=lambda text: PostgresSettings(dsn=Secret(text)),
    open=_postgres,
    workers="machines",
    query=_postgres_query,
    named_streams=lambda settings: {"table": [name for name in settings.table if name != "*"]},
)
