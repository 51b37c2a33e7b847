"""
The sink for Postgres 14 or newer. Every module in here needs psycopg (the extra ``postgres``).

The modules, in the order in which a run uses them: ``database`` (a session), with ``dsn``, ``pooler``,
``source_lock``, ``server_errors``, ``sql_text`` (names in statements) and ``rights``; ``sink`` (as configured) and
``target`` (opened for one source), ``table_locations``, ``catalog``, ``candidate`` (a table against its declaration),
``tables`` and ``table_creation``; ``writer`` (the rows
of a partition until their commit, and the commit), ``group_commit`` (of several partitions), ``new_rows`` (those of one
stream), ``row_types`` (their values against the types of the columns), ``rows`` (their bytes for COPY), ``delivery``
(what a transaction writes), ``replacement`` and ``merge`` (the statements for rows) and ``ledger``, with
``ledger_schema`` and ``ledger_comments``. Commands of their own:
``verify``, ``adopt``, ``erase`` and ``query``.
"""
