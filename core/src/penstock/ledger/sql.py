"""
The ledger in portable SQL, for a database with ``on conflict ... do update`` and generated columns.
"""

from penstock.ledger.deliveries import Deliveries
from penstock.ledger.reports_and_runs import ReportsAndRuns


class SqlLedger(Deliveries, ReportsAndRuns):
    """
    :class:`penstock.ledger_interface.Ledger` over ``_execute`` and ``_transaction``, which a database supplies, see
    :class:`penstock.ledger.schema.SqlTables`.
    """
