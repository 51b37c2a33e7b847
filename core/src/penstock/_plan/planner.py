"""
What a run reads: the requested partitions minus those that are final. No network; the runner follows the same plan.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from itertools import dropwhile
from typing import Protocol

from attrs import define, field, frozen

from penstock._config.source import ConfiguredSource
from penstock._plan.division import block_days
from penstock._plan.finality import closes_at, fingerprint, is_of_today, parent_with_days, reader_version
from penstock._plan.plan import Job, Plan, PlannedPartition, PlannedSlice, Reason
from penstock._plan.selection import matches
from penstock._plan.window import Window, requested_window
from penstock.connector import Stream
from penstock.errors import UsageError
from penstock.ledger_interface import Ledger, LedgerEntry, PendingReport
from penstock.model import Pairs, Partition, Slice
from penstock.sinks import ListsFinal, Target

SKEW = timedelta(minutes=5)  # the most by which the clocks of two machines that share a target may differ


def plan(job: Job, now: datetime) -> Plan:
    """
    The plan of a job, as far as the target's ledger determines it.

    Raises UsageError for a window that the provider does not serve any more, TargetError for a target that cannot be
    read.
    """
    target = job.sink.open_readonly(job.source.name)
    try:
        planner = Planner(job, now, target)
        planned: list[PlannedPartition] = []
        waiting: list[str] = []
        exact = True
        for stream in job.chosen:
            exact = exact and _is_exact(job.source, stream)
            accounts = planner.accounts(stream)
            if accounts is None:
                lister = stream.accounts_from[0] if stream.accounts_from else "?"
                waiting.append(f"{stream.name}: one partition per account of {lister}, which was not read yet")
                continue
            if stream.kind != "snapshot":
                planner.check_window(stream, accounts)
            for slice_ in planner.slices(stream, accounts):
                planned += _planned_partitions(job.source, slice_)
            if stream.parent is not None:
                waiting.append(f"{stream.name}: requests by the rows of {stream.parent.stream}")
        return Plan(
            partitions=tuple(planned),
            final=planner.final,
            notices=tuple(dict.fromkeys(planner.notices)),
            waiting=tuple(waiting),
            exact=exact,
        )
    finally:
        if target is not None:
            target.close()


def _planned_partitions(source: ConfiguredSource, planned: PlannedSlice) -> list[PlannedPartition]:
    """The partitions of a slice. The first one has the requests of all."""
    requests, zone = requests_of(planned), planned.source.settings.timezone
    return [
        PlannedPartition(
            source=source.name,
            partition=partition,
            reason=reason,
            requests=requests if requests is None or place == 0 else 0,
            timezone=zone if zone != source.settings.timezone else None,
        )
        for place, (partition, reason) in enumerate(zip(planned.partitions, planned.reasons, strict=True))
    ]


def requests_of(planned: PlannedSlice) -> int | None:
    """The least number of requests that a slice takes; a report is submitted, polled and read."""
    if planned.stream.parent is not None:
        return None
    firsts = len(planned.stream.first_requests(planned.source.settings, planned.slice))
    return 3 * firsts if planned.stream.poller is not None else firsts


def _is_exact(source: ConfiguredSource, stream: Stream) -> bool:
    """Whether a run of this stream makes exactly the requests that a plan counts."""
    single = stream.paginator is None and stream.poller is None and stream.parent is None
    return single and source.accounts_from(stream) is None


@frozen(kw_only=True, eq=False, repr=False)
class _StreamView:
    """
    A stream as some accounts see it: the source with their settings and zone, today's fingerprint of these settings
    and today's version of the reader.
    """

    stream: Stream
    source: ConfiguredSource
    fingerprint: str
    reader_version: str
    _closes: dict[date, datetime] = field(factory=dict, init=False, repr=False)

    def closes_at(self, day: date) -> datetime:
        """The moment from which a read of this day is final."""
        if (closes := self._closes.get(day)) is None:
            closes = self._closes[day] = closes_at(self.source, self.stream, day)
        return closes


@frozen(kw_only=True, eq=False, repr=False)
class _LedgerRows:
    """The ledger's rows of a stream's window."""

    entries: Mapping[Partition, LedgerEntry] = field(factory=dict)
    reports: Mapping[str | None, Sequence[PendingReport]] = field(factory=dict)  # under way, by account
    # Of changes: by the values of an account, its partitions that were delivered.
    delivered: Mapping[Pairs, Sequence[Partition]] = field(factory=dict)


@frozen(kw_only=True, eq=False, repr=False)
class _AccountPlan:
    """
    An account's days in the window: those to read, and why; the rows of those that this run has delivered already; and
    the number of those that are final.
    """

    rows: _LedgerRows
    to_read: Mapping[Partition, Reason] = field(factory=dict)
    done: Sequence[LedgerEntry] = ()
    final: int = 0


class _DeliveredDay(Protocol):
    """
    A delivered day, as far as it decides whether the day is read again: a :class:`LedgerEntry`, or a
    :class:`penstock.ledger_interface.FinalDay` of a target that lists them.
    """

    @property
    def fingerprint(self) -> str: ...
    @property
    def reader_version(self) -> str: ...
    @property
    def complete(self) -> bool: ...
    @property
    def read_at(self) -> datetime | None: ...


DaysByAccount = Mapping[str | None, Sequence[date]]
"""The days of each account, ascending; None: of a stream without accounts."""


@define(eq=False, repr=False)
class Planner:
    """
    Plans the slices of a job's streams against the ledger of its target.

    ``run_id``: of a divided run, whose workers may be replaced. ``done`` has, by stream, what it has delivered already,
    which is not read again.
    """

    job: Job
    now: datetime
    target: Target | None
    run_id: str | None = None
    done: dict[str, list[LedgerEntry]] = field(factory=dict, init=False)
    notices: list[str] = field(factory=list, init=False)
    final: dict[str, int] = field(factory=dict, init=False)
    zones: dict[tuple[str, str], str] = field(factory=dict, init=False)  # listed in this run: (stream, account) -> zone
    chosen: list[Stream] = field(init=False)  # see Job.chosen
    _remembered: dict[str, Mapping[str, str]] = field(factory=dict, init=False)  # zones of accounts by listing stream
    _sources: dict[tuple[str | None, str | None], ConfiguredSource] = field(factory=dict, init=False)
    _views: dict[tuple[str, int], _StreamView] = field(factory=dict, init=False)  # by stream and source
    _children: dict[str, list[Stream]] = field(init=False)  # by parent: the streams to read that its rows request

    @chosen.default
    def _chosen_by_job(self) -> list[Stream]:
        return self.job.chosen

    @_children.default
    def _children_to_read(self) -> dict[str, list[Stream]]:
        children: dict[str, list[Stream]] = {}
        to_read = list(self.chosen)
        for stream in to_read:  # grows by parents that are read for their children only
            if stream.parent is not None:
                children.setdefault(stream.parent.stream, []).append(stream)
                parent = self.job.source.stream(stream.parent.stream)
                to_read += [parent] if parent not in to_read else []
        return children

    @property
    def ledger(self) -> Ledger | None:
        """The target's ledger; None where nothing was written yet, or the target has none."""
        return self.target.ledger if self.target is not None else None

    def accounts(self, stream: Stream) -> Sequence[str | None] | None:
        """
        The accounts of a stream: configured, else remembered; ``[None]`` without accounts; None when unknown yet.
        """
        if stream.account is None:
            return [None]
        if (configured := self.job.source.accounts_of(stream)) is not None:
            if not configured and stream.accounts is None:
                raise UsageError(
                    f"{self.job.source.name} has no accounts, and {stream.name} is read account by account: write a "
                    f"table [source.{self.job.source.name}.accounts.ACCOUNT] for each, empty if need be"
                )
            return configured
        if self.ledger is None or stream.accounts_from is None:
            return None
        return self.ledger.accounts(self.job.source.name, stream.accounts_from[0]) or None

    def source_of(self, stream: Stream, account: str | None) -> ConfiguredSource:
        """The source as an account of this stream sees it: its own settings and zone. One object per account."""
        zone = self._stated_zone(stream, account) if account else None
        if (account, zone) not in self._sources:
            self._sources[account, zone] = self.job.source.for_account(account, zone)
        return self._sources[account, zone]

    def _stated_zone(self, stream: Stream, account: str) -> str | None:
        """The zone that the provider states for an account: in this run, else in a former one."""
        if stream.accounts_from is None:
            return None
        lister, _ = stream.accounts_from
        return self.zones.get((lister, account)) or self._remembered_zones(lister).get(account)

    def _remembered_zones(self, lister: str) -> Mapping[str, str]:
        """The zones of the accounts of a listing stream, as the ledger had them when they were first needed."""
        if lister not in self._remembered:
            source, ledger, zones = self.job.source, self.ledger, dict[str, str]()
            for stream in source.streams:
                is_read = stream in self.chosen or stream.name in self._children
                named = source.accounts_from(stream) if is_read and stream.zone_from is not None else None
                if ledger is not None and named is not None and named[0] == lister:
                    zones.update(map(zone_of, ledger.accounts(source.name, zone_memory(stream))))
            self._remembered[lister] = zones
        return self._remembered[lister]

    def slices(self, stream: Stream, accounts: Iterable[str | None]) -> list[PlannedSlice]:
        """The slices to read of a stream, account by account, days ascending."""
        if self.job.accounts:  # a stream without accounts, which others may depend on, is read all the same
            every = list(accounts)
            accounts = [account for account in every if account is None or matches(account, self.job.accounts)]
            if every and not accounts:  # where the provider lists the accounts, nothing else refuses the pattern
                self.notices.append(
                    f"{self.job.source.name}: no account matches {', '.join(self.job.accounts)}, so that none of its "
                    "streams that are divided by accounts is read"
                )
        divided = bool(block_days(self.job.source, stream))
        accounts = [account for account in accounts if account is None or divided or self.job.has(stream, account)]
        if stream.kind == "snapshot":
            self._note_window(stream)
            plans = self._plan_snapshots(stream, accounts)
        else:
            days = self._days_in_window(stream, accounts)
            plans = self._plan_days(stream, days, self._needed_days(stream, days)) if days else {}
        if stream in self.chosen:
            self._count_final(stream, plans.values())
        return [
            self._slice(stream, account, {partition: plan.to_read[partition] for partition in group}, plan.rows)
            for account, plan in plans.items()
            for group in self._requests(stream, account, plan)
        ]

    def _requests(self, stream: Stream, account: str | None, plan: _AccountPlan) -> list[list[Partition]]:
        """The partitions to read of an account, those of one request together."""
        partitions = list(plan.to_read)
        if stream.kind == "snapshot":
            return [partitions] if partitions else []
        days_per_request = self.source_of(stream, account).days_per_request(stream)
        return grouped(partitions, plan.rows.reports.get(account, ()), days_per_request)

    def _count_final(self, stream: Stream, plans: Iterable[_AccountPlan]) -> None:
        """Count the partitions of a stream that need no read."""
        for plan in plans:
            if plan.done:
                self.done.setdefault(stream.name, []).extend(plan.done)
            if plan.final:
                self.final[stream.name] = self.final.get(stream.name, 0) + plan.final

    def _plan_snapshots(self, stream: Stream, accounts: Iterable[str | None]) -> dict[str | None, _AccountPlan]:
        """
        By account: its partition is read, unless this run has delivered it. One by whose rows others are requested, or
        divided, is read by each worker of the run.
        """
        partitions = {account: _snapshot_partition(stream, account) for account in accounts}
        rows = self._ledger_rows(stream, dict.fromkeys(partitions, ()))
        is_for_others = stream.name in self._children or stream.name in self.job.source.listers
        plans = {}
        for account, partition in partitions.items():
            done = None if is_for_others else self._delivered_already(partition, rows)
            plans[account] = _AccountPlan(
                rows=rows,
                to_read={partition: "snapshot"} if done is None else {},
                done=() if done is None else (done,),
            )
        return plans

    def _note_window(self, stream: Stream) -> None:
        """Note that a snapshot requested by the rows of some days has these days' rows only."""
        parent = self.job.source.stream(stream.parent.stream) if stream.parent is not None else None
        if parent is not None and parent.kind != "snapshot" and (self.job.since or self.job.until):
            self.notices.append(
                f"{self.job.source.name}.{stream.name} is a snapshot, requested by the rows of {parent.name}. It is "
                "replaced by the rows for the days of this window; its rows for other days are removed"
            )

    def _plan_days(
        self, stream: Stream, days: DaysByAccount, needed: Mapping[str | None, Collection[date]]
    ) -> dict[str | None, _AccountPlan]:
        """These ``days`` of each account. ``needed``: those to read whatever the target has of them."""
        left = self._days_to_check(stream, days, needed)
        rows = self._ledger_rows(
            stream, {account: account_days for account, account_days in left.items() if account_days}
        )
        plans = {}
        for account, account_days in left.items():
            listed = len(days[account]) - len(account_days)
            plans[account] = self._plan_account(stream, account, account_days, rows, needed[account], listed)
        return plans

    def _needed_days(self, stream: Stream, days: DaysByAccount) -> dict[str | None, set[date]]:
        """
        By account, the days that must be read whatever the target has of them. A day of a parent and of its children
        is read in one run, if it is read for one of them: a row that the parent got since then has its children.
        """
        if any(child.kind == "snapshot" for child in self._children.get(stream.name, ())):
            return {account: set(account_days) for account, account_days in days.items()}
        needed: dict[str | None, set[date]] = {account: set() for account in days}
        family = self._family(stream)
        for member in family if len(family) > 1 else ():
            served = self._days_in_window(member, list(days))  # a provider may serve children for fewer days
            for account, plan in self._plan_days(member, served, dict.fromkeys(served, frozenset())).items():
                needed[account].update(partition.day for partition in plan.to_read if partition.day is not None)
            for account, behind in self._behind_its_parent(member, served).items():
                needed[account] |= behind
        return {account: account_days.intersection(days[account]) for account, account_days in needed.items()}

    def _family(self, stream: Stream) -> list[Stream]:
        """The streams with days that this job reads and that request each other, from parents to children."""
        root = stream
        while (parent := parent_with_days(self.job.source, root)) is not None and parent.name in self._children:
            root = parent
        family = [root]
        for member in family:  # grows
            family += [child for child in self._children.get(member.name, ()) if child.kind != "snapshot"]
        return family

    def _behind_its_parent(self, stream: Stream, days: DaysByAccount) -> dict[str | None, set[date]]:
        """By account, the days of a child that were read before the parent's same day was: perhaps by other rows."""
        parent = parent_with_days(self.job.source, stream)
        if parent is None or not days:
            return {}
        parents, behind = self._read_at(parent, days), dict[str | None, set[date]]()
        for (account, day), read_at in self._read_at(stream, days).items():
            if read_at < parents.get((account, day), read_at):
                behind.setdefault(account, set()).add(day)
        return behind

    def _read_at(self, stream: Stream, days: DaysByAccount) -> dict[tuple[str | None, date], datetime]:
        """By account and day, when the days that were final then were read."""
        window = Window.around(days.values())
        accounts = [account for account in days if account is not None] if stream.account is not None else None
        if isinstance(self.target, ListsFinal):
            final = self.target.final_days(stream.name, since=window.since, until=window.until, accounts=accounts)
            return {
                (read.account if stream.account is not None else None, date.fromisoformat(read.day)): read.read_at
                for read in final
                if read.read_at is not None
            }
        if self.ledger is None:
            return {}
        entries = self.ledger.entries(
            self.job.source.name, stream.name, since=window.since, until=window.until, accounts=accounts
        )
        return {
            (partition.as_dict().get(stream.account or ""), partition.day): entry.read_at
            for partition, entry in entries.items()
            if partition.day is not None and entry.delivered and entry.read_at is not None
        }

    def _days_in_window(self, stream: Stream, accounts: Sequence[str | None]) -> dict[str | None, Sequence[date]]:
        """The days of each account's window that are in this job's share, ascending. Accounts have at least one."""
        windows = self._windows(stream, accounts)
        days = {window: window.days() for window in windows.values() if window is not None}
        in_share = {
            account: self.job.days_in_share(stream, account, days[window])
            for account, window in windows.items()
            if window is not None
        }
        return {account: account_days for account, account_days in in_share.items() if account_days}

    def _days_to_check(
        self, stream: Stream, days: DaysByAccount, needed: Mapping[str | None, Collection[date]]
    ) -> dict[str | None, Sequence[date]]:
        """
        Those of each account's ``days`` that may have to be read. Left out are those that the target lists
        as final, unless they are ``needed``; of ``changes``, those before the first that is not.
        """
        left = dict(days)
        for account, final in self._final_days(stream, left).items():
            every, settled = left[account], final.difference(needed[account])
            if stream.kind == "changes":
                left[account] = list(dropwhile(settled.__contains__, every))
            else:
                left[account] = [day for day in every if day not in settled]
        return left

    def _final_days(self, stream: Stream, days: DaysByAccount) -> dict[str | None, set[date]]:
        """By account, the days that need no read, as far as the target lists them."""
        final_days: dict[str | None, set[date]] = {}
        if not isinstance(self.target, ListsFinal) or self.job.full or not days:
            return final_days
        window = Window.around(days.values())
        by_text = {day.isoformat(): day for day in window.days()}
        accounts = {account or "": (account, self._view(stream, account)) for account in days}
        for final in self.target.final_days(
            stream.name,
            since=window.since,
            until=window.until,
            accounts=None if stream.account is None else list(accounts),
        ):
            account, view = accounts.get(final.account, (None, None))
            day = by_text.get(final.day)
            if view is None or day is None or final.run_id == self.run_id:  # done by this run: its row is counted
                continue
            if self._why_again(view, day, final) is None:
                final_days.setdefault(account, set()).add(day)
        return final_days

    def check_window(self, stream: Stream, accounts: Iterable[str | None]) -> None:
        """Raises UsageError where no account of this stream has a day to read in the requested window."""
        self._windows(stream, list(accounts) or [None], strict=True)

    def _windows(
        self, stream: Stream, accounts: Iterable[str | None], *, strict: bool = False
    ) -> dict[str | None, Window | None]:
        """The window of each account, in its zone; None where it holds no day, although others' may."""
        windows: dict[str | None, Window | None] = {}
        by_zone: dict[tzinfo, Window | None] = {}
        refused: UsageError | None = None
        for account in accounts:
            zone = self.source_of(stream, account).zone
            if zone not in by_zone:
                try:
                    by_zone[zone], notices = requested_window(self.job, stream, zone, self.now)
                except UsageError as error:
                    by_zone[zone], refused = None, refused or error
                else:
                    self.notices += notices
            windows[account] = by_zone[zone]
        if strict and refused is not None and not any(by_zone.values()):
            raise refused
        return windows

    def _view(self, stream: Stream, account: str | None) -> _StreamView:
        source = self.source_of(stream, account)
        key = (stream.name, id(source))  # most accounts share a source
        if key not in self._views:
            version = reader_version(source, stream) if account is None else self._view(stream, None).reader_version
            self._views[key] = _StreamView(
                stream=stream,
                source=source,
                fingerprint=fingerprint(source.settings, stream),
                reader_version=version,
            )
        return self._views[key]

    def _ledger_rows(self, stream: Stream, days: DaysByAccount) -> _LedgerRows:
        """
        The ledger's rows of these accounts, of each from its first day on (without days: of a snapshot), and the
        reports under way: the cost does not grow with the history.
        """
        ledger, source = self.ledger, self.job.source.name
        if ledger is None:
            return _LedgerRows()
        reports: dict[str | None, list[PendingReport]] = {}
        for report in ledger.pending(source, stream.name) if stream.poller is not None else ():
            reports.setdefault(account_of(stream, report), []).append(report)
        begin: dict[date | None, list[str | None]] = {}
        for account, every in days.items():
            begin.setdefault(every[0] if every else None, []).append(account)
        last = max((every[-1] for every in days.values() if every), default=None)
        entries: dict[Partition, LedgerEntry] = {}
        for since, accounts in begin.items():
            entries |= ledger.entries(
                source,
                stream.name,
                since=since,
                # The days of changes after the window are needed, see _plan_account.
                until=last if stream.kind != "changes" else None,
                accounts=[account for account in accounts if account is not None]
                if stream.account is not None
                else None,
            )
        delivered: dict[Pairs, list[Partition]] = {}
        for partition, entry in entries.items() if stream.kind == "changes" else ():
            if entry.delivered:
                delivered.setdefault(partition.values[:-1], []).append(partition)
        return _LedgerRows(entries=entries, reports=reports, delivered=delivered)

    def _plan_account(
        self,
        stream: Stream,
        account: str | None,
        days: Sequence[date],
        rows: _LedgerRows,
        needed: Collection[date],
        final: int,
    ) -> _AccountPlan:
        """
        An account's ``days`` by the ledger's rows. ``needed``: those to read whatever the target has of them.
        ``final``: the number of its other days, which the target lists as final.

        Of ``changes`` every day after one that is read is read too, also after these days where it was delivered: a
        row of an older day must not overwrite the same row of a newer one.
        """
        to_read: dict[Partition, Reason] = {}
        done: list[LedgerEntry] = []
        view = self._view(stream, account)
        for_others_only = stream.name in self._children and stream not in self.chosen
        for partition in _day_partitions(stream, account, days):
            forced = partition.day in needed or bool(to_read and stream.kind == "changes")
            if not forced and for_others_only:
                continue
            if not forced and (entry := self._delivered_already(partition, rows)) is not None:
                done.append(entry)
            elif (reason := self._reason(view, partition, rows) or ("forced" if forced else None)) is not None:
                to_read[partition] = reason
            else:
                final += 1
        if to_read and stream.kind == "changes":
            last = max(to_read)
            later = (entry for entry in rows.delivered.get(last.values[:-1], ()) if entry.values > last.values)
            to_read |= dict.fromkeys(sorted(later), "forced")
        return _AccountPlan(rows=rows, to_read=to_read, done=done, final=final)

    def _delivered_already(self, partition: Partition, rows: _LedgerRows) -> LedgerEntry | None:
        """The ledger's row of a partition that this run has delivered already; None: it has not."""
        entry = rows.entries.get(partition)
        if self.run_id is None or entry is None or entry.run_id != self.run_id or not entry.delivered or entry.error:
            return None
        return entry

    def _reason(self, view: _StreamView, partition: Partition, rows: _LedgerRows) -> Reason | None:
        """Why a day is read; None where it is final."""
        entry = rows.entries.get(partition)
        if entry is not None and entry.error is not None:
            return "failed"
        if entry is None or not entry.delivered:
            return "missing"
        if self.job.full:
            return "forced"
        if self.target is not None and not self.target.is_intact(entry):
            return "missing"
        assert partition.day is not None
        # A target that lists its final days has checked all but this last step, see ListsFinal.
        return self._why_again(view, partition.day, entry) or (None if entry.closed else "open")

    def _why_again(self, view: _StreamView, day: date, entry: _DeliveredDay) -> Reason | None:
        """
        Why a day is read again that was delivered and had closed when it was read; None where it is final. This is the
        only place that compares a reading with today's settings and rules.
        """
        if not is_of_today(entry.fingerprint, view.fingerprint):
            return "changed"
        if entry.reader_version != view.reader_version if entry.reader_version else not entry.complete:
            return "changed"  # what could not be read may be readable now
        # It is open again if the provider's restatement period (``open_for``) was since extended, and if the ledger's
        # time is in the future: the clock of that run was ahead.
        final = entry.read_at is not None and view.closes_at(day) <= entry.read_at <= self.now + SKEW
        return None if final else "open"

    def _slice(
        self, stream: Stream, account: str | None, reasons: Mapping[Partition, Reason], rows: _LedgerRows
    ) -> PlannedSlice:
        view = self._view(stream, account)
        zone = view.source.zone
        days = () if stream.kind == "snapshot" else tuple(filter(None, (partition.day for partition in reasons)))
        start = end = None
        if days:
            start = datetime.combine(days[0], time(), zone)
            end = datetime.combine(days[-1] + timedelta(days=1), time(), zone)
            if stream.kind == "changes":
                start, end = start - stream.lookback, min(end, self.now.astimezone(zone) - stream.lag)
        return PlannedSlice(
            stream=stream,
            partitions=tuple(reasons),
            reasons=tuple(reasons.values()),
            slice=Slice(now=self.now, account=account, days=days, start=start, end=end),
            source=view.source,
            fingerprint=view.fingerprint,
            reader_version=view.reader_version,
            to_deliver=stream in self.chosen,
            entries={partition: rows.entries[partition] for partition in reasons if partition in rows.entries},
        )


def account_of(stream: Stream, report: PendingReport) -> str | None:
    """The account whose report this is; None for a stream without accounts."""
    values = report.partitions[0].as_dict() if report.partitions else {}
    return values.get(stream.account or "")


def zone_memory(stream: Stream) -> str:
    """The name under which the ledger remembers the zones of a stream's accounts, as :func:`zone_text` writes them."""
    assert stream.accounts_from is not None
    return f"{stream.accounts_from[0]}.{stream.zone_from}"


def zone_text(account: str, zone: str) -> str:
    """An account and its zone as one text. Names of zones have no blanks."""
    return f"{zone} {account}"


def zone_of(text: str) -> tuple[str, str]:
    """The account and its zone."""
    zone, _, account = text.partition(" ")
    return account, zone


def _snapshot_partition(stream: Stream, account: str | None) -> Partition:
    """The one partition of an account, without a day."""
    return Partition(stream.name, ((stream.account, account),) if stream.account and account is not None else ())


def _day_partitions(stream: Stream, account: str | None, days: Iterable[date]) -> list[Partition]:
    head = _snapshot_partition(stream, account).values
    return [Partition(stream.name, (*head, (stream.day or "day", day.isoformat()))) for day in days]


def grouped(
    to_read: Sequence[Partition], reports: Iterable[PendingReport], days_per_request: int
) -> list[list[Partition]]:
    """
    An account's days to read as runs of consecutive ones, at most ``days_per_request`` long; days of a report that is
    already under way stay together as they were submitted. Days ascend, as those of ``to_read`` do.
    """
    groups: list[list[Partition]] = []
    left = list(to_read)
    for report in reports:
        theirs = [partition for partition in left if partition in report.partitions]
        if theirs and len(theirs) == len(report.partitions):
            groups.append(theirs)
            left = [partition for partition in left if partition not in theirs]
    run: list[Partition] = []
    for partition in left:
        if run and (not _is_next_day(partition, run[-1]) or len(run) >= days_per_request):
            groups.append(run)
            run = []
        run.append(partition)
    if run:
        groups.append(run)
    return sorted(groups, key=lambda group: group[0].values)


def _is_next_day(partition: Partition, other: Partition) -> bool:
    """Whether the day of a partition is the one after the other's."""
    assert partition.day is not None
    assert other.day is not None
    return partition.day - other.day == timedelta(days=1)
