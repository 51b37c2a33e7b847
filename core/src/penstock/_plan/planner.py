"""
What a run would fetch: what is wanted minus what is final. No network; the same plan is what the runner goes by.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Any, Literal

import attrs
from attrs import define, field, frozen

from penstock._config.source import ConfiguredSource
from penstock.connector import SourceSettings, Stream, affects_data
from penstock.errors import UsageError
from penstock.model import Partition, Slice
from penstock.sinks import Ledger, LedgerEntry, PendingReport, Sink, Target

Reason = Literal["missing", "open", "failed", "changed", "forced", "snapshot"]

SKEW = timedelta(minutes=5)  # by which the clocks of two machines that share a target may differ

DEFAULT_DAYS = 90  # how far back a source is read that states no retention and has no start


@frozen(kw_only=True)
class Job:
    """One source on its way into one sink."""

    source: ConfiguredSource
    streams: tuple[str, ...]
    sink: Sink
    since: date | None = None
    until: date | None = None
    full: bool = False


@frozen(kw_only=True)
class Planned:
    """One partition that a run would fetch, why, and how many requests it is expected to take at least."""

    source: str
    partition: Partition
    reason: Reason
    requests: int | None  # None: one per parent row, whose number is not known before the parent was read


@frozen(kw_only=True, eq=False)
class Fetch:
    """Partitions that are asked for together: an account's consecutive days, or an account of a snapshot."""

    stream: Stream
    partitions: tuple[Partition, ...]
    reasons: tuple[Reason, ...]
    slice: Slice
    fingerprint: str  # of the settings that shape the answer
    entries: Mapping[Partition, LedgerEntry] = field(
        factory=dict, repr=False
    )  # what the ledger held when it was planned

    @property
    def account(self) -> str | None:
        return self.slice.account

    def __str__(self) -> str:
        first, last = self.partitions[0], self.partitions[-1]
        return str(first) if first == last else f"{first} to {last.values[-1][1]}"


@frozen(kw_only=True)
class Plan:
    """
    ``waiting``: a line for each stream whose partitions are known only after another stream was read. ``exact``:
    whether a run takes just the requests that are counted here (retries and a login apart), or these at least.
    """

    partitions: tuple[Planned, ...]
    final: Mapping[str, int]  # stream -> partitions of the window that need no reading
    notices: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    exact: bool = False


@frozen(kw_only=True)
class Window:
    """Days wanted of a stream, both included; empty when ``until`` is before ``since``."""

    since: date
    until: date

    def days(self) -> list[date]:
        """Every day, ascending."""
        return [self.since + timedelta(days=number) for number in range((self.until - self.since).days + 1)]


def plan(job: Job, now: datetime) -> Plan:
    """
    The plan of a job as far as it can be known offline, from the target's ledger.

    Raises UsageError for a window that no provider serves any more, TargetError for a target that cannot be read.
    """
    target = job.sink.open_readonly(job.source.name)
    try:
        planner = Planner(job, now, target)
        planned: list[Planned] = []
        waiting: list[str] = []
        exact = True
        for stream in ordered(job.source, job.streams):
            if stream.derived is not None:
                continue
            exact = exact and _one_answer(job.source, stream)
            accounts = planner.accounts(stream)
            if accounts is None:
                lister = stream.accounts_from[0] if stream.accounts_from else "?"
                waiting.append(f"{stream.name}: one partition per account of {lister}, which was not read yet")
                continue
            for fetch in planner.fetches(stream, accounts):
                count = requests_of(job.source, fetch)
                for place, (partition, reason) in enumerate(zip(fetch.partitions, fetch.reasons, strict=True)):
                    planned.append(
                        Planned(
                            source=job.source.name,
                            partition=partition,
                            reason=reason,
                            requests=count if count is None or place == 0 else 0,
                        )
                    )
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


def requests_of(source: ConfiguredSource, fetch: Fetch) -> int | None:
    """How many requests a fetch takes at least; a report is submitted, polled and read."""
    if fetch.stream.parent is not None:
        return None
    firsts = sum(1 for _ in fetch.stream.requests(source.settings, fetch.slice))
    return 3 * firsts if fetch.stream.poller is not None else firsts


def _one_answer(source: ConfiguredSource, stream: Stream) -> bool:
    """Whether each request that a plan counts is answered at once and whole, and nothing else has to be asked."""
    asked_once = stream.paginator is None and stream.poller is None and stream.parent is None
    return asked_once and source.accounts_from(stream) is None


def ordered(source: ConfiguredSource, names: Iterable[str]) -> list[Stream]:
    """The streams of these names, in the order of their declaration."""
    wanted = set(names)
    return [stream for stream in source.streams if stream.name in wanted]


@frozen(kw_only=True)
class _Known:
    """What the ledger holds of a stream when it is planned, and the settings of today."""

    entries: Mapping[Partition, LedgerEntry] = field(factory=dict)
    reports: Sequence[PendingReport] = ()  # under way
    fingerprint: str


@define
class Planner:
    """Makes the fetches of a job's streams, against what the ledger of its target holds."""

    job: Job
    now: datetime
    target: Target | None
    notices: list[str] = field(factory=list, init=False)
    final: dict[str, int] = field(factory=dict, init=False)
    _parents: frozenset[str] = field(init=False)  # streams whose children are asked for by every row, final or not

    @_parents.default
    def _parents_of_chosen(self) -> frozenset[str]:
        chosen = ordered(self.job.source, self.job.streams)
        return frozenset(stream.parent.stream for stream in chosen if stream.parent is not None)

    @property
    def ledger(self) -> Ledger | None:
        """The target's; None where nothing was written yet, or it remembers nothing."""
        return self.target.ledger if self.target is not None else None

    def accounts(self, stream: Stream) -> Sequence[str | None] | None:
        """
        The accounts of a stream: configured, else remembered; ``[None]`` without accounts; None when unknown yet.
        """
        if stream.account is None:
            return [None]
        if (configured := self.job.source.accounts_of(stream)) is not None:
            return configured
        if self.ledger is None or stream.accounts_from is None:
            return None
        return self.ledger.accounts(self.job.source.name, stream.accounts_from[0]) or None

    def fetches(self, stream: Stream, accounts: Iterable[str | None]) -> list[Fetch]:
        """What is to be read of a stream, account by account, days ascending."""
        known = self._known(stream)
        if stream.kind == "snapshot":
            wholes = [(account, _snapshot(stream, account)) for account in accounts]
            return [self._fetch(stream, account, {whole: "snapshot"}, known) for account, whole in wholes]
        days = self.window(stream).days()
        return [fetch for account in accounts for fetch in self._fetches_of_days(stream, account, days, known)]

    def window(self, stream: Stream) -> Window:
        """
        The days wanted of a stream: what was asked for, clamped to what the provider still serves.
        """
        job, zone = self.job, self.job.source.zone
        today = self.now.astimezone(zone).date()
        floor = stream.earliest(today) if stream.earliest is not None else None
        start = job.since or job.source.settings.start
        latest = (self.now - stream.lag).astimezone(zone).date() if stream.kind == "changes" else today
        until = job.until or (latest if stream.kind == "changes" else today - timedelta(days=1))
        if stream.kind == "changes":
            until = min(until, latest)
        if stream.kind != "changes" and until > today:
            self.notices.append(f"{job.source.name}.{stream.name} is read up to today, {today}, not up to {until}")
            until = today
        if job.since is not None and job.until is not None and job.since > job.until:
            raise UsageError(f"--since {job.since} is after --until {job.until}: the window holds no day")
        if floor is not None and until < floor and job.until is not None:
            raise UsageError(
                f"{job.source.name} serves {stream.name} from {floor} on (today is {today}), and the window ends on "
                f"{until}: nothing of it can be read any more. Choose later days."
            )
        if start is None:
            return Window(since=floor or until - timedelta(days=DEFAULT_DAYS - 1), until=until)
        if start > until and job.since is not None:
            last = "the last day that can be read" if job.until else "the last day that is read without --until"
            raise UsageError(f"{job.source.name}.{stream.name}: --since {start} is after {until}, {last}")
        if floor is not None and start < floor:
            self.notices.append(
                f"{job.source.name} serves {stream.name} from {floor} on: days before it are left as they are"
            )
            start = floor
        return Window(since=start, until=until)

    def _known(self, stream: Stream) -> _Known:
        ledger, source = self.ledger, self.job.source
        today = fingerprint(source.settings, stream)
        if ledger is None:
            return _Known(fingerprint=today)
        return _Known(
            entries=ledger.entries(source.name, stream.name),
            reports=ledger.pending(source.name, stream.name) if stream.poller is not None else (),
            fingerprint=today,
        )

    def _fetches_of_days(
        self, stream: Stream, account: str | None, days: Sequence[date], known: _Known
    ) -> Iterator[Fetch]:
        """The fetches of one account's days; those that are final are only counted."""
        wanted: dict[Partition, Reason] = {}
        for partition in _days(stream, account, days):
            reason = self._reason(stream, partition, known)
            if reason is None:
                self.final[stream.name] = self.final.get(stream.name, 0) + 1
            else:
                wanted[partition] = reason
        for group in grouped(list(wanted), known.reports, self.job.source.days_per_request(stream)):
            yield self._fetch(stream, account, {partition: wanted[partition] for partition in group}, known)

    def _reason(self, stream: Stream, partition: Partition, known: _Known) -> Reason | None:
        """Why a day is read; None where its last reading is final."""
        entry = known.entries.get(partition)
        if entry is not None and entry.error is not None:
            return "failed"
        if entry is None or not entry.delivered:
            return "missing"
        if self.job.full or stream.name in self._parents:
            return "forced"
        if self.target is not None and not self.target.is_intact(entry):
            return "missing"
        if entry.fingerprint != known.fingerprint:
            return "changed"
        return None if entry.final(known.fingerprint) and self._closed(stream, entry) else "open"

    def _closed(self, stream: Stream, entry: LedgerEntry) -> bool:
        """
        Whether a day that was final when it was read is so today: not where it is known by now to stay open for longer
        (``open_for``), nor where its reading is still to come: a clock that was ahead made it, perhaps too early.
        """
        closes = open_until(stream, self.job.source.settings, entry.partition, self.job.source.zone)
        return entry.read_at is not None and closes is not None and closes <= entry.read_at <= self.now + SKEW

    def _fetch(self, stream: Stream, account: str | None, reasons: Mapping[Partition, Reason], known: _Known) -> Fetch:
        zone = self.job.source.zone
        days = () if stream.kind == "snapshot" else tuple(map(day_of, reasons))
        start = end = None
        if days:
            start = datetime.combine(days[0], time(), zone)
            end = datetime.combine(days[-1] + timedelta(days=1), time(), zone)
            if stream.kind == "changes":
                start, end = start - stream.lookback, min(end, self.now.astimezone(zone) - stream.lag)
        return Fetch(
            stream=stream,
            partitions=tuple(reasons),
            reasons=tuple(reasons.values()),
            slice=Slice(now=self.now, account=account, days=days, start=start, end=end),
            fingerprint=known.fingerprint,
            entries={partition: known.entries[partition] for partition in reasons if partition in known.entries},
        )


def _snapshot(stream: Stream, account: str | None) -> Partition:
    """The one partition of an account, without a day."""
    return Partition(stream.name, ((stream.account, account),) if stream.account and account is not None else ())


def _days(stream: Stream, account: str | None, days: Iterable[date]) -> list[Partition]:
    head = _snapshot(stream, account).values
    return [Partition(stream.name, (*head, (stream.day or "day", day.isoformat()))) for day in days]


def day_of(partition: Partition) -> date:
    """The day of a partition that has one: its last value."""
    return date.fromisoformat(partition.values[-1][1])


def grouped(
    wanted: Sequence[Partition], reports: Iterable[PendingReport], days_per_request: int
) -> list[list[Partition]]:
    """
    An account's wanted days as runs of consecutive ones, at most ``days_per_request`` long; days of a report that is
    already under way stay together as they were submitted. Days ascend, as those of ``wanted`` do.
    """
    groups: list[list[Partition]] = []
    left = list(wanted)
    for report in reports:
        theirs = [partition for partition in left if partition in report.partitions]
        if theirs and len(theirs) == len(report.partitions):
            groups.append(theirs)
            left = [partition for partition in left if partition not in theirs]
    run: list[Partition] = []
    for partition in left:
        if run and (day_of(partition) - day_of(run[-1]) != timedelta(days=1) or len(run) >= days_per_request):
            groups.append(run)
            run = []
        run.append(partition)
    if run:
        groups.append(run)
    return sorted(groups)


def open_until(stream: Stream, settings: SourceSettings, partition: Partition, zone: tzinfo) -> datetime | None:
    """The moment from which a reading of this partition is final; None: never."""
    if stream.kind == "snapshot":
        return None
    day = day_of(partition)
    if stream.kind == "changes":
        return datetime.combine(day + timedelta(days=1), time(), zone) + max(stream.lookback, stream.lag)
    rule = settings.open_for or stream.open_for
    return rule.until(day, zone)


def fingerprint(settings: SourceSettings, stream: Stream) -> str:
    """
    A hash of the settings that shape the provider's answer, so that changing one makes delivered days wanted again.

    Settings at their default are left out: a new setting of a later version changes no fingerprint.
    """
    said: dict[str, Any] = {}
    for attribute in attrs.fields(type(settings)):
        value = getattr(settings, attribute.name)
        if affects_data(attribute) and value != attribute.default and value not in ((), {}, None):
            said[attribute.name] = value
    text = json.dumps([stream.name, said], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
