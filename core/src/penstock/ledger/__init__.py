"""
The ledger in SQL: :class:`SqlLedger` for any database, :class:`SqliteLedger` beside files.

A row per partition, under the source, the stream and the partition's canonical text, from which the database itself
computes the columns ``account`` and ``day`` (YYYY-MM-DD; empty text where there is none). In SQLite timestamps are ISO
8601 text in UTC with microseconds, so that they sort as text; sums, files and reports are JSON text. The view ``days``
is for people: ``sqlite3 DIR/.penstock/ledger.sqlite "select * from days"``.

Sinks use the names of this package. Its modules, each built on those before it: ``schema`` (the tables),
``stored_values`` (what their columns hold), ``partition_queries``, ``deliveries`` (what changes a partition), ``sql``
(the whole: reports, accounts and runs are added), ``sqlite`` (the database beside files). ``delivered_entries`` reads
any ledger, some days at a time.

Free text (errors, rejected records, reports, requests) is masked on its way in; keys are not, they must stay equal.
"""

from penstock.ledger.delivered_entries import DeliveredEntries, windows_of_rows
from penstock.ledger.deliveries import LedgerWrite
from penstock.ledger.schema import FORGET_PREFIX, SCHEMA_VERSION, STANDING, UNSETTLED
from penstock.ledger.sql import Retention, SqlLedger
from penstock.ledger.sqlite import SqliteLedger
from penstock.ledger.stored_values import files_from, files_text, partition_of
from penstock.ledger_interface import restated_sums

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
    "restated_sums",
    "windows_of_rows",
]
