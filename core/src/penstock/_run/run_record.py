"""
The record of a run in the ledger, for ``penstock status`` and ``penstock runs``.
"""

from datetime import datetime

from penstock._run.context import RunContext
from penstock.errors import PenstockError
from penstock.ledger_interface import Ledger, RunRecord

ERRORS_RECORDED = 50  # of a source


def record_run(context: RunContext, source: str, ledger: Ledger, finished_at: datetime) -> None:
    """Record the run of a source. If the ledger cannot be written, a notice states that."""
    of_source = context.report.of_source(source)
    report = of_source.as_dict()
    errors = {"errors": report["errors"][:ERRORS_RECORDED]}
    parked = {"parked": report["parked"]} if of_source.parked else {}
    record = RunRecord(
        run_id=context.report.run_id,
        source=source,
        started_at=context.started_at,
        finished_at=finished_at,
        exit_code=of_source.exit_code,
        report={**report["sources"].get(source, {}), **errors, **parked},
    )
    try:
        ledger.record_run(record)
    except PenstockError as error:
        context.report.notices.append(f"{source}: this run is not in the ledger: {error}")
