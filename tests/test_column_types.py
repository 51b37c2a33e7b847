"""
The tables by column type: each destination has a type for every one.
"""

from typing import Any, get_args

import pytest
from penstock import ColumnType
from penstock._decode.structs import DECODED_TYPES
from penstock_plugins.arrow.columns import ARROW_TYPES
from penstock_plugins.duckdb import target as duckdb_target
from penstock_plugins.integrations.dlt import DLT_TYPES
from penstock_plugins.integrations.schema import JSON_SCHEMA_TYPES
from penstock_plugins.postgres import candidate
from penstock_plugins.postgres.row_types import VALUE_TYPES

# name -> the table, and the types that depend on more than the column's type: its zone, its scale, or its conversion
TABLES: dict[str, tuple[dict[Any, Any], set[ColumnType]]] = {
    "decoded": (DECODED_TYPES, {"decimal", "datetime", "json"}),
    "arrow": (ARROW_TYPES, {"decimal", "datetime"}),
    "duckdb": (duckdb_target.SQL_TYPES, {"decimal", "datetime"}),
    "dlt": (DLT_TYPES, set()),
    "json_schema": (JSON_SCHEMA_TYPES, set()),
    "postgres": (candidate.SQL_TYPES, {"datetime"}),
    "postgres_values": (VALUE_TYPES, {"datetime"}),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_every_column_type(name: str) -> None:
    """
    Each column type is in the table, or made of more than the type. None is both.
    """
    table, made = TABLES[name]
    types = set(get_args(ColumnType))

    assert types - table.keys() == made
