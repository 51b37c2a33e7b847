"""
The sink for Postgres 14 or newer. Every module but ``kind`` needs psycopg (the extra ``postgres``).

The modules:
- ``kind``: settings
- ``sink``, ``target``: a database as configured, and opened for one source
- ``database``: a session
- ``connection``: its parameters, and a pooler in between
- ``locks``: of a source, and of other sessions on tables
- ``server_errors``: errors of the server as penstock's
- ``sql_text``: names in statements
- ``table_locations``: where the table of a stream is
- ``catalog``: tables and rights as the server states them
- ``candidate``: a table against its declaration
- ``tables``, ``table_creation``: the tables of a source, and the statements that make them
- ``writer``: the rows of a partition until their commit, and the commit
- ``new_rows``: the rows of one stream, on their way to its table
- ``column_types``: in SQL and of values
- ``rows``: the bytes of rows for COPY
- ``delivery``: what a transaction writes
- ``replacement``, ``merge``: the statements for rows
- ``ledger``, ``ledger_schema``: the ledger in the database
- ``verify``, ``adopt``, ``erase``, ``query``: for the commands
"""
