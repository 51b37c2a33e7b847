"""
The sink ``duckdb:FILE``. DuckDB is imported when it is opened.
"""

from pathlib import Path

from attrs import frozen
from penstock import Sink, SinkKind, setting

from penstock_plugins.extras import installed
from penstock_plugins.sink_support.sink_settings import RetentionSettings, decimal_scale_setting, path_of


@frozen(kw_only=True, eq=False, repr=False)
class DuckSettings(RetentionSettings):
    path: Path = setting(help="the DuckDB file; it is made by the first run")
    decimal_scale: int = decimal_scale_setting()


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
    parse=lambda text: DuckSettings(path=path_of(text, "FILE")),
    open=_duckdb,
)
