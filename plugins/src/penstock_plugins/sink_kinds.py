"""
The sinks: their settings, for the configuration and for ``--to``. A sink's own package is imported when it is opened.
"""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import Attribute, frozen, validators
from penstock import Secret, Sink, SinkKind, UsageError, setting

from penstock_plugins.extras import installed

if TYPE_CHECKING:
    from penstock.ledger import Retention


@frozen(kw_only=True, eq=False, repr=False)
class RetentionSettings:
    """What the ledger of a target retains: the same keys for every sink with a ledger of its own."""

    keep_runs: int = setting(1000, help="runs of a source whose records the ledger keeps", validator=validators.ge(1))
    keep_run_days: int = setting(400, help="days that the ledger keeps the record of a run", validator=validators.ge(1))
    keep_restatement_days: int | None = setting(
        None,
        help="days that the ledger keeps what was restated; default: always",
        validator=validators.optional(validators.ge(1)),
    )

    def retention(self) -> "Retention":
        from penstock.ledger import Retention

        return Retention(runs=self.keep_runs, run_days=self.keep_run_days, restatement_days=self.keep_restatement_days)


# --- files ------------------------------------------------------------------------------------------------------------

_PROMISE = (
    "a partition's file appears whole or not at all and replaces its predecessor; killed at any moment, the next run "
    "leaves exactly the provider's rows; a file that is gone is read again"
)


def _path(text: str, place: str = "DIR") -> Path:
    scheme, _, path = text.partition(":")
    if not path:
        raise UsageError(f"{text!r} names no place: write {scheme}:{place}, such as {scheme}:data")
    return Path(path).expanduser()


def _sink(settings: "JsonlSettings | CsvSettings | ParquetSettings", codec: Any, *, gzip: bool) -> Sink:
    from penstock_plugins.files.disk import file_errors

    path = settings.path
    suffixes = (f".{codec.name}", *([f".{codec.name}.gz"] if codec.appends else []))
    with file_errors(path):
        is_file = path.name.endswith(suffixes) and not path.is_dir()
    if is_file:
        from penstock_plugins.files.single import SingleFileSink

        if gzip and path.suffix != ".gz":
            raise UsageError(f"gzip is set, but {path} has no suffix .gz: name it {path.name}.gz")
        return SingleFileSink(path=path, codec=codec, compress=path.suffix == ".gz")
    from penstock_plugins.files.sink import FileSink

    return FileSink(directory=path, codec=codec, compress=gzip, retention=settings.retention())


@frozen(kw_only=True, eq=False, repr=False)
class JsonlSettings(RetentionSettings):
    path: Path = setting(help="a directory, or one file that ends in .jsonl or .jsonl.gz")
    gzip: bool = setting(False, help="whether files are compressed")


def _jsonl(settings: JsonlSettings) -> Sink:
    from penstock_plugins.files.jsonl import JsonLines

    return _sink(settings, JsonLines(), gzip=settings.gzip)


JSONL = SinkKind(
    name="jsonl",
    summary="files of JSON lines, one per partition",
    promise=_PROMISE,
    scheme="jsonl",
    settings=JsonlSettings,
    parse=lambda text: JsonlSettings(path=_path(text)),
    open=_jsonl,
    workers="machines",
)


def _one_character(settings: object, attribute: "Attribute[str]", value: str) -> None:
    if len(value) != 1 or value in '"\r\n':
        raise ValueError(f"must be one character, and no quote or line end, not {value!r}")


@frozen(kw_only=True, eq=False, repr=False)
class CsvSettings(RetentionSettings):
    path: Path = setting(help="a directory, or one file that ends in .csv or .csv.gz")
    gzip: bool = setting(False, help="whether files are compressed")
    escape_formulas: bool = setting(
        False, help="whether texts that a spreadsheet would run get a ' before them; this changes data"
    )
    delimiter: str = setting(",", help='one character between cells, such as ";" or a tab', validator=_one_character)
    decimal_sign: str = setting(
        ".", help="the sign before the fraction of a decimal", validator=validators.in_((".", ","))
    )
    bom: bool = setting(False, help="whether files begin with a byte order mark, by which Excel recognises UTF-8")


def _csv(settings: CsvSettings) -> Sink:
    from penstock_plugins.files.csvfile import Csv

    codec = Csv(settings.escape_formulas, settings.delimiter, settings.decimal_sign, settings.bom)
    return _sink(settings, codec, gzip=settings.gzip)


CSV = SinkKind(
    name="csv",
    summary="CSV files, one per partition",
    promise=_PROMISE,
    scheme="csv",
    settings=CsvSettings,
    parse=lambda text: CsvSettings(path=_path(text)),
    open=_csv,
    workers="machines",
)


def _decimal_scale() -> Any:
    return setting(
        9,
        help="digits after the point of decimal columns that declare none; a record with more is rejected",
        validator=validators.and_(validators.ge(0), validators.le(38)),
    )


@frozen(kw_only=True, eq=False, repr=False)
class ParquetSettings(RetentionSettings):
    path: Path = setting(help="a directory, or one file that ends in .parquet")
    decimal_scale: int = _decimal_scale()


def _parquet(settings: ParquetSettings) -> Sink:
    with installed("arrow"):
        from penstock_plugins.files.parquet import Parquet

    return _sink(settings, Parquet(settings.decimal_scale), gzip=False)


PARQUET = SinkKind(
    name="parquet",
    summary="Parquet files, one per partition (extra: arrow)",
    promise=_PROMISE,
    scheme="parquet",
    settings=ParquetSettings,
    parse=lambda text: ParquetSettings(path=_path(text)),
    open=_parquet,
    workers="machines",
)

# --- DuckDB -----------------------------------------------------------------------------------------------------------


@frozen(kw_only=True, eq=False, repr=False)
class DuckSettings(RetentionSettings):
    path: Path = setting(help="the DuckDB file; it is made by the first run")
    decimal_scale: int = _decimal_scale()


def _duckdb(settings: DuckSettings) -> Sink:
    with installed("duckdb"):
        from penstock_plugins.duckdb.sink import DuckSink

    return DuckSink(path=settings.path, decimal_scale=settings.decimal_scale, retention=settings.retention())


DUCKDB = SinkKind(
    name="duckdb",
    summary="tables of a DuckDB file, one per stream (extra: duckdb)",
    promise=(
        "a partition's rows and its ledger row in one transaction: exactly once; no other process can open the "
        "file during a run"
    ),
    scheme="duckdb",
    example="duckdb:FILE",
    settings=DuckSettings,
    parse=lambda text: DuckSettings(path=_path(text, "FILE")),
    open=_duckdb,
)

# --- Postgres ---------------------------------------------------------------------------------------------------------


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


# --- Singer targets ---------------------------------------------------------------------------------------------------


@frozen(kw_only=True, eq=False, repr=False)
class SingerTargetSettings:
    command: str = setting(help='the program of the target, such as "target-postgres"; arguments may follow')
    config: Mapping[str, Any] = setting(
        factory=dict,
        repr=False,
        help='the configuration of the target; a value may be { env = "NAME" } or { file = "/run/secrets/..." }',
    )
    ledger: Path = setting(help="the directory of the ledger, which a Singer target does not keep itself")
    may_change: tuple[str, ...] = setting(
        (), help="keys of config that do not say where the data is: a change of any other needs another ledger"
    )
    decimals_as_text: bool = setting(False, help="for a target that makes a binary float of a number")
    nested_as_text: bool = setting(False, help="for a target that takes objects and lists badly")


def _singer_settings(text: str) -> SingerTargetSettings:
    """``singer:COMMAND``: the ledger is in the current directory."""
    command = text.partition(":")[2].strip()
    if not command:
        raise UsageError('singer: names no target: write singer:COMMAND, such as "singer:target-jsonl"')
    program = Path(shlex.split(command)[0]).name
    return SingerTargetSettings(command=command, ledger=Path(".penstock") / f"singer-{program}")


def _singer(settings: SingerTargetSettings) -> Sink:
    from penstock_plugins.integrations.singer_target import SingerSink

    return SingerSink(settings)


SINGER = SinkKind(
    name="singer",
    summary="any Singer target: BigQuery, Snowflake, S3 and others",
    promise=(
        "at least once: a partition counts as delivered when the target ended with 0 and returned the state; rows of a "
        "restated day are sent again and replaced by key, a row that vanished stays in the target"
    ),
    scheme="singer",
    example="singer:COMMAND",
    settings=SingerTargetSettings,
    parse=_singer_settings,
    open=_singer,
)


# --- standard output --------------------------------------------------------------------------------------------------


@frozen(kw_only=True, eq=False, repr=False)
class StdoutSettings:
    name_streams: bool | None = setting(
        None, help="write the stream's name as _stream first in each line; default: only if there are several streams"
    )


def _stdout(settings: StdoutSettings) -> Sink:
    from penstock_plugins.files.stdout import StdoutSink

    return StdoutSink(name_streams=settings.name_streams)


STDOUT = SinkKind(
    name="stdout",
    summary="JSON lines on standard output",
    promise="at least once: nothing is remembered, each run writes all that it reads",
    scheme="-",
    example="-",
    settings=StdoutSettings,
    parse=lambda text: StdoutSettings(),
    open=_stdout,
)

KINDS = (JSONL, CSV, PARQUET, DUCKDB, POSTGRES, SINGER, STDOUT)
