"""
The bundled sinks, in the order in which they are listed. Each kind is in the package of its sink: its settings, and how
a configuration or ``--to`` opens it.
"""

from penstock_plugins.duckdb.kind import DUCKDB
from penstock_plugins.files.kinds import CSV, JSONL, PARQUET, STDOUT
from penstock_plugins.integrations.singer_kind import SINGER
from penstock_plugins.postgres.kind import POSTGRES

KINDS = (JSONL, CSV, PARQUET, DUCKDB, POSTGRES, SINGER, STDOUT)
