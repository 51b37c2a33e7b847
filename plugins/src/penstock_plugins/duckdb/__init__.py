"""
The sink ``duckdb:FILE``: tables of a DuckDB file, with the ledger in it. Needs the extra ``duckdb``.

The modules, in the order in which a run uses them: ``kind`` (settings), ``sink`` (as configured) and ``target`` (opened
for one source); ``database`` (a connection), ``ledger``, ``tables``, ``writer`` (the rows of a partition until their
commit).
"""
