"""
The sinks of files: ``jsonl:DIR``, ``csv:DIR``, ``parquet:DIR``, and ``-``, standard output. A codec is imported when
its sink is opened.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import Attribute, frozen, validators
from penstock import Sink, SinkKind, UsageError, setting

from penstock_plugins.extras import installed
from penstock_plugins.sink_support.sink_settings import RetentionSettings, decimal_scale_setting, path_of

_PROMISE = (
    "a partition's file appears whole or not at all and replaces its predecessor; killed at any moment, the next run "
    "leaves exactly the provider's rows; a file that is gone is read again"
)

_OF_FILES = {".csv", ".gz", ".json", ".jsonl", ".ndjson", ".parquet", ".tsv", ".txt", ".xlsx", ".zip"}


def _sink(settings: "JsonlSettings | CsvSettings | ParquetSettings", codec: Any, *, gzip: bool) -> Sink:
    from penstock_plugins.files.disk import file_errors

    path = settings.path
    suffixes = (f".{codec.name}", *([f".{codec.name}.gz"] if codec.appends else []))
    with file_errors(path):
        is_directory = path.is_dir()
    if path.name.endswith(suffixes) and not is_directory:
        from penstock_plugins.files.single import SingleFileSink

        if gzip and path.suffix != ".gz":
            raise UsageError(f"gzip is set, but {path} has no suffix .gz: name it {path.name}.gz")
        return SingleFileSink(path=path, codec=codec, compress=path.suffix == ".gz")
    if path.suffix in _OF_FILES and not is_directory:
        raise UsageError(
            f"{path} has the suffix of a file, and would become a directory of this name. One file ends in "
            f"{' or '.join(suffixes)}; name a directory without {path.suffix}"
        )
    from penstock_plugins.files.sink import FileSink

    return FileSink(directory=path, codec=codec, compress=gzip, retention=settings.retention())


def _kind_of_files(name: str, summary: str, settings: type, open_sink: Callable[[Any], Sink]) -> SinkKind:
    """A kind of files, each of a partition; the text of ``--to`` is the path."""
    return SinkKind(
        name=name,
        summary=summary,
        promise=_PROMISE,
        scheme=name,
        settings=settings,
        parse=lambda text: settings(path=path_of(text)),
        open=open_sink,
        workers="machines",
    )


@frozen(kw_only=True, eq=False, repr=False)
class JsonlSettings(RetentionSettings):
    path: Path = setting(help="a directory, or one file that ends in .jsonl or .jsonl.gz")
    gzip: bool = setting(False, help="whether files are compressed")


def _jsonl(settings: JsonlSettings) -> Sink:
    from penstock_plugins.files.jsonl import JsonLines

    return _sink(settings, JsonLines(), gzip=settings.gzip)


JSONL = _kind_of_files("jsonl", "files of JSON lines, one per partition", JsonlSettings, _jsonl)


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
    from penstock_plugins.files.csv import Csv

    codec = Csv(settings.escape_formulas, settings.delimiter, settings.decimal_sign, settings.bom)
    return _sink(settings, codec, gzip=settings.gzip)


CSV = _kind_of_files("csv", "CSV files, one per partition", CsvSettings, _csv)


@frozen(kw_only=True, eq=False, repr=False)
class ParquetSettings(RetentionSettings):
    path: Path = setting(help="a directory, or one file that ends in .parquet")
    decimal_scale: int = decimal_scale_setting()


def _parquet(settings: ParquetSettings) -> Sink:
    with installed("arrow"):
        from penstock_plugins.files.parquet import Parquet

    return _sink(settings, Parquet(settings.decimal_scale), gzip=False)


PARQUET = _kind_of_files("parquet", "Parquet files, one per partition (extra: arrow)", ParquetSettings, _parquet)


@frozen(kw_only=True, eq=False, repr=False)
class StdoutSettings:
    """None: each line begins with ``_stream`` if there are several streams."""


def _stdout(settings: StdoutSettings) -> Sink:
    from penstock_plugins.files.stdout import StdoutSink

    return StdoutSink()


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
