"""
A generated ledger for the tests of the page: streams of several accounts over some days, with everything that can be
wrong with one.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from attrs import frozen
from penstock.results import (
    AccountStatus,
    Change,
    PartitionStatus,
    Problem,
    RunInfo,
    SourceStatus,
    StatusResult,
    TargetStatus,
)
from penstock_plugins.status_page.stream_content import Facts

NOW = datetime(2026, 11, 28, 6, 40, tzinfo=UTC)
LAST = date(2026, 11, 27)
NEW_MEMBERS = ("costPerHire", "remote")
REFUSED = "Joveo answered HTTP 500 with the message 'internal error'. The provider failed; nothing is wrong here."
FORBIDDEN = (
    "Joveo answered HTTP 403: this key may not read the account. Ask Joveo for access to it, or leave it out of "
    "client_ids."
)


@frozen(kw_only=True)
class GeneratedLedger:
    """``wrong``: the share of partitions with something unusual."""

    sources: Mapping[str, Sequence[str]]
    accounts: Sequence[str]
    days: int
    wrong: float = 0.004
    target: str = "warehouse"

    @property
    def first(self) -> date:
        return LAST - timedelta(days=self.days - 1)

    def facts(self) -> Facts:
        chance = random.Random(7)
        partitions = [one for source, stream in self._streams() for one in self._of_stream(source, stream, chance)]
        changes = [one for partition in partitions for one in self._changes(partition, chance)]
        runs = [run for source in self.sources for run in self._runs(source)]
        sources = tuple(self._source(source, partitions, runs) for source in self.sources)
        target = TargetStatus(target=self.target, sources=sources, problems=tuple(self._problems(sources, partitions)))
        return Facts(
            status=StatusResult(targets=(target,)),
            partitions=partitions,
            changes=changes,
            runs=runs,
            notices=(),
            first=self.first,
            last=LAST,
            now=NOW,
        )

    def _streams(self) -> Iterator[tuple[str, str]]:
        for source, streams in self.sources.items():
            for stream in streams:
                yield source, stream

    def _of_stream(self, source: str, stream: str, chance: random.Random) -> Iterator[PartitionStatus]:
        for number, account in enumerate(self.accounts):
            for day in [None] if stream == "campaigns" else self._days(number):
                rows = int(chance.gauss(900, 200) * (0.55 if day and day.weekday() > 4 else 1) + 11 * number)
                open_ = day is None or (LAST - day).days < 3
                strange = chance.random() < self.wrong
                if strange and day is not None and chance.random() < 0.3:
                    continue  # missing
                kind = chance.choice(["error", "rejected", "truncated"]) if strange else ""
                closes = None if day is None else datetime.combine(day + timedelta(days=4), time(5), UTC)
                yield PartitionStatus(
                    target=self.target,
                    source=source,
                    stream=stream,
                    account={"client_id": account},
                    day=day,
                    standing="failed" if kind == "error" else "open" if open_ else "final",
                    run_id="20261128T060000Z-0a1b2c",
                    read_at=NOW - timedelta(minutes=38) if open_ or closes is None else closes + timedelta(hours=1),
                    open_until=closes,
                    rows=rows,
                    promised=rows + 2 * (kind == "rejected"),
                    rejected=2 * (kind == "rejected"),
                    unread_values=0,
                    repeated=0,
                    truncated=kind == "truncated",
                    attempts=2 * (kind == "error"),
                    error=chance.choice([REFUSED, FORBIDDEN]) if kind == "error" else None,
                    sums={"spend": Decimal(rows) * Decimal("0.37"), "applies": Decimal(rows // 9)},
                    derived_rows={},
                )

    def _days(self, number: int) -> list[date]:
        begun = min(30, self.days // 3) if number % 9 == 5 else 0  # some accounts are newer
        return [self.first + timedelta(days=day) for day in range(begun, self.days)]

    def _changes(self, one: PartitionStatus, chance: random.Random) -> Iterator[Change]:
        if one.day is None or one.error is not None or chance.random() > 0.02:
            return
        for number in range(chance.choice([1, 1, 2])):
            yield Change(
                target=one.target,
                source=one.source,
                stream=one.stream,
                account=one.account,
                day=one.day,
                rows_before=one.rows - 3 + number,
                rows_after=one.rows - 2 + number,
                sums={"spend": (one.sums["spend"] - Decimal("1.11"), one.sums["spend"])},
                runs=("20261127T060000Z-99ffee",),
                changed_at=NOW - timedelta(minutes=38)
                if one.day.day == 3
                else datetime.combine(one.day + timedelta(days=number + 2), time(6, 2), UTC),
            )

    def _runs(self, source: str) -> list[RunInfo]:
        return [
            RunInfo(
                run_id=f"{NOW - timedelta(days=day):%Y%m%d}T060000Z-0a1b{day:02d}",
                source=source,
                started_at=datetime.combine((NOW - timedelta(days=day)).date(), time(6), UTC),
                target=self.target,
                finished_at=datetime.combine((NOW - timedelta(days=day)).date(), time(6, 2, 24), UTC),
                exit_code=1 if day in (0, 6) else 5 if day == 9 else 0,
                records=180_000 + day * 311,
                rejected=2 if day == 9 else 0,
                requests=1250,
                failed=3 if day in (0, 6) else 0,
                report=_report() if day in (0, 6) else {"streams": {}},
            )
            for day in range(20)
        ]

    def _source(self, source: str, partitions: Sequence[PartitionStatus], runs: Sequence[RunInfo]) -> SourceStatus:
        streams = [stream for owner, stream in self._streams() if owner == source]
        own: dict[tuple[str, str], list[PartitionStatus]] = {}
        for one in partitions:
            if one.source == source:
                own.setdefault((one.stream, one.account["client_id"]), []).append(one)
        found = []
        for stream in streams:
            for number, account in enumerate(self.accounts):
                several = own.get((stream, account), [])
                days = [one.day for one in several if one.day is not None]
                found.append(
                    AccountStatus(
                        source=source,
                        stream=stream,
                        account={"client_id": account},
                        first_day=min(days, default=None),
                        last_day=max(days, default=None),
                        failed=sum(one.error is not None for one in several),
                        missing=(max(days) - min(days)).days + 1 - len(days) if days else 0,
                        rejected=sum(one.rejected for one in several),
                        truncated=sum(one.truncated for one in several),
                        last_read=max(one.read_at for one in several if one.read_at),
                        configured=number != 4,
                        timezone="America/Chicago" if number == 1 else None,
                    )
                )
        return SourceStatus(
            source=source,
            streams=tuple(found),
            runs=tuple(runs[:5]),
            last_good=NOW - timedelta(days=1),
            requests_this_month=31_250,
        )

    def _problems(self, sources: Sequence[SourceStatus], partitions: Sequence[PartitionStatus]) -> Iterator[Problem]:
        by_account: dict[tuple[str, str, str], list[PartitionStatus]] = {}
        for known in partitions:
            by_account.setdefault((known.source, known.stream, known.account["client_id"]), []).append(known)
        for source in sources:
            if "job_stats" in self.sources[source.source]:
                yield _new_members(source.source)
            for one in source.streams:
                own = by_account.get((source.source, one.stream, one.account["client_id"]), [])
                groups: dict[tuple[str, str], list[PartitionStatus]] = {}
                for known in own:
                    if known.error is not None:
                        groups.setdefault(("failed", known.error), []).append(known)
                    if known.rejected:
                        groups.setdefault(("rejected", "records that cannot be decoded"), []).append(known)
                    if known.truncated:
                        groups.setdefault(("truncated", "the provider lists no more"), []).append(known)
                for (kind, reason), several in groups.items():
                    days = [known.day for known in several if known.day is not None]
                    yield _problem(source.source, one, kind, reason, len(several), days)
                if one.missing:
                    yield _problem(source.source, one, "missing", "never delivered", one.missing, [])


def _problem(source: str, one: AccountStatus, kind: str, reason: str, count: int, days: Sequence[date]) -> Problem:
    return Problem(
        source=source,
        stream=one.stream,
        account=one.account,
        kind=kind,
        count=count,
        first_day=min(days, default=one.first_day),
        last_day=max(days, default=one.last_day),
        last_read=one.last_read,
        reason=reason,
    )


def _new_members(source: str) -> Problem:
    return Problem(
        source=source,
        stream="job_stats",
        kind="new",
        count=len(NEW_MEMBERS),
        last_read=NOW,
        reason=f"no column holds the members {', '.join(NEW_MEMBERS)}",
        members=NEW_MEMBERS,
    )


def _report() -> dict[str, Any]:
    return {
        "streams": {"job_stats": {"restated": [{}, {}], "unknown_members": list(NEW_MEMBERS)}},
        "errors": [{"stream": "stats", "error": "ServerError", "message": REFUSED}],
    }


CLIENTS = ("2112", "2113", "Northwind Staffing", "Acme Jobs GmbH & Co. KG", "old-account", "harbor-logistics-emea")

SMALL = GeneratedLedger(
    sources={"talroo": ("clicks",), "joveo": ("job_stats", "campaigns")}, accounts=CLIENTS, days=60, wrong=0.03
)
LARGE = GeneratedLedger(
    sources={
        name: tuple(f"{kind}_stats" for kind in ("job", "publisher", "campaign", "category", "location"))
        for name in ("joveo", "talroo", "targetcircle", "convertr")
    },
    accounts=tuple(f"client-{number:04d}" for number in range(1001, 1061)),
    days=120,
    wrong=0.0015,
)
