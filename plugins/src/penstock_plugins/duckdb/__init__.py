"""
The sink ``duckdb:FILE``: tables of a DuckDB file, with the ledger in it. Needs the extra ``duckdb``.

The modules:
- ``kind``: settings
- ``sink``, ``target``: a file as configured, and opened for one source
- ``database``: a connection
- ``ledger``: the ledger in the file
- ``tables``: the tables of one source
- ``writer``: the rows of a partition until their commit
"""
