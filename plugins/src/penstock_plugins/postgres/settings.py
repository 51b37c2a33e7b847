"""
The keys of a Postgres sink, and how ``--to postgresql://...`` becomes one. Importable without psycopg.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from penstock import PluginError, Secret, SinkKind, setting

if TYPE_CHECKING:
    from penstock import Sink


@frozen(kw_only=True)
class PostgresSettings:
    dsn: Secret = setting(help="postgresql://user:password@host/database, or host=... dbname=...", repr=False)
    schema: str | None = setting(None, help="where the tables are; default: the source's name")
    table: Mapping[str, str] = setting(help="names of tables by stream; default: the stream's name", factory=dict)


@frozen
class _Missing:
    """What is installed cannot talk to Postgres."""

    error: ImportError = field(repr=False)

    def __str__(self) -> str:
        return (
            f"the sink postgres needs psycopg, which is not installed here or does not load ({self.error}). Run: pip "
            "install 'penstock-plugins[postgres]'"
        )


def _installed() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise PluginError(str(_Missing(error))) from error


def _open(settings: PostgresSettings) -> "Sink":
    _installed()
    from penstock_plugins.postgres.sink import PostgresSink

    return PostgresSink(dsn=settings.dsn, schema=settings.schema, tables=dict(settings.table))


def _query(settings: PostgresSettings, text: str) -> "Iterator[Mapping[str, Any]]":
    _installed()
    from penstock_plugins.postgres.query import rows_of

    return rows_of(settings.dsn, text)


POSTGRES = SinkKind(
    name="postgres",
    summary="tables of a Postgres database, one per stream",
    promise=(
        "a partition's rows and its ledger row in one transaction: exactly once; readers see a partition as it was or "
        "as it is, never in between; what a new reading changed is recorded in penstock.restatements"
    ),
    scheme="postgresql",
    settings=PostgresSettings,
    parse=lambda text: PostgresSettings(dsn=Secret(text)),
    open=_open,
    query=_query,
    named_streams=lambda settings: {"table": settings.table},
)
