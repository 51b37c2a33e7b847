"""
The requirements for every connector, tested against its own sandbox: one call in one test of a connector.

::

    def test_it_keeps_what_every_connector_must(tmp_path):
        conforms("acme", tmp_path, truth=lambda acme, stream, account_id, report_date: ...)

The sandbox is served on this machine, and the runner reads it into memory. No other host gets a request.

- ``requirements``: all of them, in their order
- ``findings``: their names, and what is wrong
- ``subject``: the connector and its imitation
- ``first_run``, ``later_runs``, ``paging``, ``credentials``: the runs, and what each must show
- ``truth``, ``rows``: rows, compared with those of the imitation, or of another run
- ``named_members``: members that a declaration names
"""

from penstock.testing.conformance.credentials import (
    LETTERS_SHOWN,
    WRONG,
    one_reading_check,
    secrets_of,
    wrong_credentials,
)
from penstock.testing.conformance.findings import CHECKS, Finding, NotConforming
from penstock.testing.conformance.first_run import first_run
from penstock.testing.conformance.later_runs import PASSING, faults_that_pass, nothing_final_again, stopped_and_resumed
from penstock.testing.conformance.paging import paging
from penstock.testing.conformance.requirements import conforms
from penstock.testing.conformance.rows import Key, Row, Rows, bag, delivered_to, differing, plain
from penstock.testing.conformance.subject import LONGEST_RUN_S, QUICK, TODAY, Subject, noon_of, source_of
from penstock.testing.conformance.truth import UNKNOWN, Truth

__all__ = [
    "CHECKS",
    "LETTERS_SHOWN",
    "LONGEST_RUN_S",
    "PASSING",
    "QUICK",
    "TODAY",
    "UNKNOWN",
    "WRONG",
    "Finding",
    "Key",
    "NotConforming",
    "Row",
    "Rows",
    "Subject",
    "Truth",
    "bag",
    "conforms",
    "delivered_to",
    "differing",
    "faults_that_pass",
    "first_run",
    "noon_of",
    "nothing_final_again",
    "one_reading_check",
    "paging",
    "plain",
    "secrets_of",
    "source_of",
    "stopped_and_resumed",
    "wrong_credentials",
]
