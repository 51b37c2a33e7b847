"""
The tables by column type: each destination has a type for every one.
"""

from importlib import import_module
from typing import get_args

import pytest
from penstock import ColumnType

# The module and the name of a table, the library that the module needs, and the types that depend on more than the
# column's type: its zone, its scale, or its conversion.
TABLES: list[tuple[str, str, str, set[ColumnType]]] = [
    ("penstock._decode.structs", "DECODED_TYPES", "", {"decimal", "datetime", "json"}),
    ("penstock_plugins.arrow.columns", "ARROW_TYPES", "pyarrow", {"decimal", "datetime"}),
    ("penstock_plugins.duckdb.tables", "SQL_TYPES", "duckdb", {"decimal", "datetime"}),
    ("penstock_plugins.integrations.dlt", "DLT_TYPES", "", set()),
    ("penstock_plugins.integrations.stream_schema", "JSON_SCHEMA_TYPES", "", set()),
    ("penstock_plugins.postgres.column_types", "SQL_TYPES", "psycopg", {"datetime"}),
    ("penstock_plugins.postgres.column_types", "VALUE_TYPES", "psycopg", {"datetime"}),
]


@pytest.mark.parametrize(("module", "name", "library", "made"), TABLES, ids=[module for module, *_ in TABLES])
def test_a_table_has_every_column_type(module: str, name: str, library: str, made: set[ColumnType]) -> None:
    """
    Each column type is in the table, or made of more than the type. None is both.
    """
    if library:
        pytest.importorskip(library, reason=f"needs {library}: the dependency group readers")
    table = getattr(import_module(module), name)

    assert set(get_args(ColumnType)) - table.keys() == made
