"""
Totals of an invoice, and the partitions that they are made of, from the ledger of a target.
"""

from collections.abc import Iterator
from decimal import Decimal, localcontext

from attrs import define, field, fields_dict

from penstock._project.target_query import Days, SourceLedger
from penstock.ledger_interface import DeliveredSums, LedgerEntry
from penstock.results import PartitionStatus, Standing, Total


def totals_of(source_ledger: SourceLedger, days: Days, *, daily: bool) -> list[Total]:
    """Rows and sums of a source's accounts in one target, per month or per day. A long history is not in memory."""
    by_period: dict[tuple[str, tuple[tuple[str, str], ...], str], _Sum] = {}
    with localcontext(prec=1000):  # so that sums are exact
        for stream in source_ledger.streams:
            for sums in source_ledger.delivered_sums(stream, days):
                period = sums.day if daily else sums.day[: len("2026-10")]
                key = (stream, sums.account, period)
                if (total := by_period.get(key)) is None:
                    total = by_period[key] = _Sum()
                total.add(sums)
    return [
        Total(
            target=source_ledger.target_name,
            source=source_ledger.source,
            stream=stream,
            account=dict(account),
            period=period,
            days=total.days,
            open=total.open,
            rows=total.rows,
            sums=total.sums,
        )
        for (stream, account, period), total in sorted(by_period.items(), key=lambda item: item[0])
    ]


@define
class _Sum:
    """Rows and sums of some partitions, with the number of those that have a day, and of those that are not final."""

    days: int = 0
    open: int = 0
    rows: int = 0
    sums: dict[str, Decimal] = field(factory=dict)

    def add(self, partition: DeliveredSums) -> None:
        self.days += bool(partition.day)
        self.open += not partition.final
        self.rows += partition.rows
        for name, amount in partition.sums.items():
            self.sums[name] = self.sums.get(name, Decimal(0)) + amount


def partitions_of(source_ledger: SourceLedger, days: Days) -> Iterator[PartitionStatus]:
    """The rows of a source's partitions in one target, ordered by stream, account and day."""
    for stream in source_ledger.streams:
        for partition, entry in sorted(source_ledger.entries(stream, days).items(), key=lambda item: item[0].values):
            yield PartitionStatus(
                target=source_ledger.target_name,
                source=source_ledger.source,
                stream=stream,
                account=partition.without_day.as_dict(),
                day=partition.day,
                standing=_standing(entry),
                **{name: getattr(entry, name) for name in _OF_AN_ENTRY},
            )


_OF_AN_ENTRY = fields_dict(PartitionStatus).keys() & fields_dict(LedgerEntry).keys() - {"source"}


def _standing(entry: LedgerEntry) -> Standing:
    """The state that ``status`` counts: an entry is final with whatever settings it was read."""
    if entry.error is not None:
        return "failed"
    return "final" if entry.is_final else "open"
