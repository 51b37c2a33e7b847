"""
What sinks share.

The modules: ``contents`` (rows and sums of a table, compared with the ledger) and ``by_days`` (some days of them at a
time), ``unfit`` (records that a target cannot hold), ``csv_records`` (JSON arrays as lines of CSV) and ``nested``
(nested values as JSON texts).
"""
