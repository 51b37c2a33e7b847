"""
Deliveries of a partition or a group, killed ones too, and the ledger that they leave.
"""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import evolve

from penstock.fault_points import kill_at
from penstock.ledger_interface import Ledger, LedgerEntry
from penstock.model import Batch, Partition, Rejected
from penstock.sinks import Erased, Erasure, Target
from penstock.testing.sinks.layouts import ANSWERS, CLICKS, LEADS, SOURCE
from penstock.testing.sinks.rows import Row, Streams, answer, lead, rows_of

READ_AT = datetime(2026, 3, 5, 4, 30, tzinfo=UTC)


def a_day(day: int = 1, advertiser: str = "2112") -> Partition:
    return Partition("clicks", (("advertiser_id", advertiser), ("report_date", f"2026-03-{day:02d}")))


def a_lead_day(day: int, campaign: str = "7") -> Partition:
    return Partition("leads", (("campaign", campaign), ("day", f"2026-03-{day:02d}")))


def deliver(
    target: Target,
    partition: Partition,
    streams: Streams,
    *,
    run_id: str = "r1",
    **facts: Any,
) -> None:
    """One partition, its first stream's rows in batches of two."""
    entry = an_entry(target.ledger, partition, rows=len(streams[0][1]), run_id=run_id, **facts)
    writer = target.begin([layout for layout, _ in streams], partition)
    for layout, values in streams:
        rows = rows_of(layout, values)
        for start in range(0, max(len(rows), 1), 2):
            writer.write(Batch(layout=layout, rows=rows[start : start + 2]))
    commit(target, writer, entry)


def commit(target: Target, writer: Any, entry: LedgerEntry) -> LedgerEntry:
    """Commit one partition; raises the error of its commit. Returns the entry as committed."""
    (done,) = target.commit_group([(writer, entry)])
    if isinstance(done, Exception):
        raise done
    return done


def deliver_group(
    target: Any, days: Mapping[Partition, Sequence[Row]], *, run_id: str = "r1", **facts: Any
) -> Sequence[LedgerEntry | Exception]:
    """Clicks of several partitions, committed as a group."""
    commits = []
    for partition, rows in days.items():
        entry = an_entry(target.ledger, partition, rows=len(rows), run_id=run_id, **facts)
        writer = target.begin([CLICKS], partition)
        writer.write(Batch(layout=CLICKS, rows=rows_of(CLICKS, rows)))
        commits.append((writer, entry))
    done: Sequence[LedgerEntry | Exception] = target.commit_group(commits)
    return done


def ledger_of(target: Target) -> Ledger:
    """The ledger of a target that keeps one."""
    assert target.ledger is not None
    return target.ledger


def an_entry(ledger: Ledger | None, partition: Partition, **facts: Any) -> LedgerEntry:
    """A delivery of ``partition`` that was planned just now."""
    former = ledger.entries(SOURCE, partition.stream).get(partition) if ledger is not None else None
    version = former.version if former is not None else 0
    defaults: dict[str, Any] = {"run_id": "r1", "read_at": READ_AT, "open_until": READ_AT, "fingerprint": "f"}
    return LedgerEntry(
        source=SOURCE, partition=partition, state="delivered", **{**defaults, "version": version, **facts}
    )


def killed_at(point: str, work: Callable[[], None]) -> bool:
    """Run ``work`` in a process that is killed at ``point``. Returns whether it reached the point."""
    child = os.fork()
    if child == 0:
        try:
            kill_at(point)
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def erase(target: Any, erasures: Sequence[Erasure], stream: str = "clicks") -> Erased:
    """Erase in all partitions; raw text of rejected records becomes ``erased``."""
    texts: dict[Partition, list[Rejected]] = {}
    for entry, record in ledger_of(target).rejected(SOURCE, stream):
        texts.setdefault(entry.partition, []).append(evolve(record, raw="erased"))
    entries = ledger_of(target).entries(SOURCE, stream).items()
    kind = erasures[0].layout.kind
    erased: Erased = target.erase(
        erasures, [evolve(entry, kind=kind, rejected_records=tuple(texts.get(key, ()))) for key, entry in entries]
    )
    return erased


def deliver_leads(target: Target) -> None:
    deliver(
        target, a_lead_day(1), [(LEADS, [lead(1)]), (ANSWERS, [answer(1, "a", "1")])], derived_rows={"lead_data": 1}
    )
    deliver(
        target, a_lead_day(2), [(LEADS, [lead(2)]), (ANSWERS, [answer(2, "a", "2")])], derived_rows={"lead_data": 1}
    )
    target.finish("leads")
