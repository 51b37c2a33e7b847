"""
What sinks share.

The modules:
- ``sink_settings``: settings of several sinks
- ``attempts``: calls that may fail
- ``unfit``: records that a target cannot hold
- ``text_columns``: nested values as JSON texts, rows as CSV
- ``column_facts``: what is declared about a column
- ``sql_tables``: names, marks and notices of tables
- ``declared``: whether a stream is divided as its delivered rows were
- ``table_verification``: the rows of a table, compared with the ledger
"""
