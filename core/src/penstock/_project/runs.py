"""
``runs``: the last runs, from the ledger of a target.
"""

from penstock._project.target_query import SourceLedger, narrowed
from penstock.ledger_interface import RunRecord
from penstock.results import RunInfo


def runs_of(source_ledger: SourceLedger, limit: int, run_id: str | None) -> list[RunInfo]:
    """The last runs of a source in one target, newest first, at most ``limit``; ``run_id``: only the run of this id."""
    runs = narrowed(source_ledger.ledger.runs, run_id=run_id)(source_ledger.source, limit)
    return [run_info(run, source_ledger.target_name) for run in runs if run_id in (None, run.run_id)]


def run_info(run: RunRecord, target: str) -> RunInfo:
    streams = run.report.get("streams", {}).values()
    return RunInfo(
        run_id=run.run_id,
        source=run.source,
        started_at=run.started_at,
        target=target,
        finished_at=run.finished_at,
        exit_code=run.exit_code,
        records=sum(stream.get("records", 0) for stream in streams),
        rejected=sum(stream.get("rejected", 0) for stream in streams),
        requests=run.requests,
        failed=sum(stream.get("partitions", {}).get("failed", 0) for stream in streams),
        report=run.report,
    )
