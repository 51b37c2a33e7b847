"""The sink ``duckdb:FILE``: tables of a DuckDB file, with the ledger in it. Needs the extra ``duckdb``."""
