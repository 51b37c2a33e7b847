"""
The ledger in SQL: :class:`SqlLedger` for any database, :class:`SqliteLedger` beside files.

A row per partition, under the source, the stream and the partition's canonical text, from which the database itself
computes the columns ``account`` and ``day`` (YYYY-MM-DD; empty text where there is none). In SQLite timestamps are ISO
8601 text in UTC with microseconds, so that they sort as text; sums, files and reports are JSON text. The view ``days``
is for people: ``sqlite3 DIR/.penstock/ledger.sqlite "select * from days"``.

The modules: ``schema`` (the tables), ``partition_queries``, ``deliveries`` (what changes a partition),
``reports_and_runs``; ``sql`` joins them, ``texts`` has the values of columns, ``sqlite`` the database beside files,
``delivered`` a sequence of delivered partitions.

Free text (errors, rejected records, reports, requests) is masked on its way in; keys are not, they must stay equal.
"""

from penstock.ledger.delivered import DeliveredEntries, windows_of_rows
from penstock.ledger.deliveries import LedgerWrite
from penstock.ledger.reports_and_runs import Retention
from penstock.ledger.schema import FORGET_PREFIX, SCHEMA_VERSION, STANDING, UNSETTLED
from penstock.ledger.sql import SqlLedger
from penstock.ledger.sqlite import SqliteLedger
from penstock.ledger.texts import files_from, files_text, partition_of

__all__ = [
    "FORGET_PREFIX",
    "SCHEMA_VERSION",
    "STANDING",
    "UNSETTLED",
    "DeliveredEntries",
    "LedgerWrite",
    "Retention",
    "SqlLedger",
    "SqliteLedger",
    "files_from",
    "files_text",
    "partition_of",
    "windows_of_rows",
]
