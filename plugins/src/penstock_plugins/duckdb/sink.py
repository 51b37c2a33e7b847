"""
Tables of a DuckDB file: schema = source, table = stream, with the ledger in the schema ``penstock``.

A partition's rows wait in temporary tables, so that no transaction is open while pages are fetched. One transaction
deletes the partition's former rows, inserts these and records the delivery: after a kill, both or neither is there.

The names passed to :func:`fault_point` are the moments at which the tests kill the process.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from attrs import field, frozen
from penstock import BaseSink, TargetError
from penstock.ledger import Retention

from penstock_plugins.duckdb.database import Database, errors
from penstock_plugins.duckdb.ledger import SCHEMA, DuckLedger
from penstock_plugins.duckdb.target import DuckTarget
from penstock_plugins.sink_support.attempts import closed_on_error
from penstock_plugins.sink_support.sink_settings import SCALE


@frozen(kw_only=True)
class DuckSink(BaseSink):
    """The DuckDB file at ``path``. ``decimal_scale``: digits after the point of columns that declare none."""

    path: Path
    decimal_scale: int = SCALE
    retention: Retention = field(factory=Retention)

    @property
    def address(self) -> str:
        """The file, by whatever way it is named."""
        return f"file {os.path.realpath(self.path)}"

    def open(self, source: str, run_id: str, streams: Sequence[str] = ()) -> DuckTarget:
        with errors(self.path):
            is_place = self.path.absolute().parent.is_dir()
        if not is_place:
            raise TargetError(f"{self.path.parent} is no directory. Make it, or name another target.")
        if self.path.stem.lower() in (source.lower(), SCHEMA):
            raise TargetError(
                f"{self.path}: DuckDB calls the database {self.path.stem}, like the schema in it, and could not tell "
                "them apart. Name the file otherwise, such as warehouse.duckdb."
            )
        database = Database(self.path)
        with closed_on_error(database):
            database.lock(source, run_id)
            ledger = DuckLedger(database, retention=self.retention)
            target = self._target(database, ledger, source)
            target.recover()
        return target

    def open_readonly(self, source: str) -> DuckTarget | None:
        with errors(self.path):
            if not self.path.exists():
                return None
        database = Database(self.path, readonly=True)
        with closed_on_error(database):
            if DuckLedger.exists(database):
                return self._target(database, DuckLedger(database, readonly=True), source)
        database.close()
        return None

    def _target(self, database: Database, ledger: DuckLedger, source: str) -> DuckTarget:
        return DuckTarget(f"duckdb:{self.path}", database, ledger, source, scale=self.decimal_scale)
