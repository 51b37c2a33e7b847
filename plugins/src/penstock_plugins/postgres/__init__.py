"""
The sink for Postgres 14 or newer. Every module but ``kind`` needs psycopg (the extra ``postgres``).

The modules, in the order in which a run uses them: ``kind`` (settings), ``sink`` (as configured) and ``target`` (opened
for one source); ``database`` (a session), with ``connection``, ``locks``, ``server_errors`` and ``sql_text`` (names in
statements); ``table_locations``, ``catalog`` (tables and rights as the server states them), ``candidate`` (a table
against its declaration), ``tables`` and ``table_creation``; ``writer`` (the rows of a partition until their commit, and
the commit), ``new_rows`` (those of one stream), ``column_types`` (in SQL and of values), ``rows`` (their bytes for
COPY), ``delivery`` (what a transaction writes), ``replacement`` and ``merge`` (the statements for rows); ``ledger`` and
``ledger_schema``. Commands of their own: ``verify``, ``adopt``, ``erase`` and ``query``.
"""
