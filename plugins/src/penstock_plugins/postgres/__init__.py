"""
The sink for Postgres 14 or newer. Every module in here needs psycopg (the extra ``postgres``).

The modules, in the order in which a run uses them: ``database`` (the session and the lock), ``sink``,
``table_locations``, ``catalog``, ``candidate`` (a table against its declaration), ``tables`` (creation and
migration), ``writer`` (a partition), ``new_rows`` (those of one of its streams), ``row_types`` (their values against
the types of the columns), ``rows`` (their bytes for COPY), ``replacement`` (their merge) and ``ledger``. Commands of
their own: ``verify``, ``adopt``, ``erase`` and ``query``.
"""
