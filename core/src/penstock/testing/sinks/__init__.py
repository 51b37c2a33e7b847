"""
The tests for every sink. Subclass :class:`SinkSuite` in a test module, define the methods that make the sink and read
its rows, and name the points at which it may be killed::

    class TestJsonl(SinkSuite):
        commit_points = ("files.staged", "files.intended", ...)

        def sink(self, place): ...
        def rows(self, place, layout): ...

The rows are hostile: quotes, line breaks, texts that formats use for null, numbers beyond 64 bits, nested values.

``layouts``, ``rows`` and ``deliveries`` have what the tests deliver. The tests are in ``replacements``, ``merges``,
``erasures``, ``ledgers`` and ``kills``; ``suite`` has what each of them needs of a sink.
"""

from penstock.testing.sinks.deliveries import (
    READ_AT,
    a_day,
    a_lead_day,
    an_entry,
    commit,
    deliver,
    deliver_group,
    killed_at,
    ledger_of,
)
from penstock.testing.sinks.erasures import ErasureTests
from penstock.testing.sinks.kills import KillTests
from penstock.testing.sinks.layouts import ANSWERS, CLICKS, LEADS, OF_CLICKS, OF_LEADS, SOURCE, TAGS
from penstock.testing.sinks.ledgers import LedgerTests
from penstock.testing.sinks.merges import ChangesTests
from penstock.testing.sinks.replacements import RowTests
from penstock.testing.sinks.rows import HOSTILE, Row, Streams, answer, click, lead, plain, rows_of, tag

__all__ = [
    "ANSWERS",
    "CLICKS",
    "HOSTILE",
    "LEADS",
    "OF_CLICKS",
    "OF_LEADS",
    "READ_AT",
    "SOURCE",
    "TAGS",
    "Row",
    "SinkSuite",
    "Streams",
    "a_day",
    "a_lead_day",
    "an_entry",
    "answer",
    "click",
    "commit",
    "deliver",
    "deliver_group",
    "killed_at",
    "lead",
    "ledger_of",
    "plain",
    "rows_of",
    "tag",
]


class SinkSuite(RowTests, ChangesTests, ErasureTests, LedgerTests, KillTests):
    """The tests. ``place`` is an empty directory per test, in which a sink keeps everything or a name for it."""
