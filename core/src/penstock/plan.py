"""
What a run would fetch: what is wanted minus what is final. No network; the same plan is what the runner goes by.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Literal

import attrs

from penstock.declare import Connector, OpenFor, SourceSettings, Stream, shapes
from penstock.errors import UsageError
from penstock.model import Ask, Partition
from penstock.sink import Entry, Ledger, PendingReport, Sink, Target
from penstock.values import define, field, frozen

if TYPE_CHECKING:
    from penstock.registry import Registry

Reason = Literal["missing", "open", "failed", "changed", "forced", "snapshot"]

DEFAULT_DAYS = 90  # how far back a source is read that states no retention and has no start


@frozen(kw_only=True, eq=False)
class ConfiguredSource:
    """A provider account as configured."""

    name: str
    connector: Connector
    settings: SourceSettings
    streams: tuple[Stream, ...]  # all that it offers
    registry: "Registry"

    @property
    def zone(self) -> tzinfo:
        if self.settings.timezone == "UTC":
            return UTC
        from zoneinfo import ZoneInfo

        return ZoneInfo(self.settings.timezone)

    def stream(self, name: str) -> Stream:
        return next(stream for stream in self.streams if stream.name == name)

    def derived_from(self, name: str) -> tuple[Stream, ...]:
        return tuple(one for one in self.streams if one.derived is not None and one.derived.stream == name)


@frozen(kw_only=True)
class Job:
    """One source on its way into one sink."""

    source: ConfiguredSource
    streams: tuple[str, ...]
    sink: Sink
    target_name: str
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
    """Partitions that one chain of requests covers: an account's consecutive days, or an account of a snapshot."""

    stream: Stream
    partitions: tuple[Partition, ...]
    reasons: tuple[Reason, ...]
    ask: Ask
    fingerprint: str  # of the settings that shape the answer
    entries: Mapping[Partition, Entry] = field(factory=dict, repr=False)  # what the ledger held when it was planned

    @property
    def account(self) -> str | None:
        return self.ask.account

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
        return [self.since + timedelta(days=number) for number in range((self.until - self.since).days + 1)]


def plan(job: Job, now: datetime) -> Plan:
    """
    The plan of a job as far as it can be known offline, from the target's ledger.

    Raises UsageError for a window that no provider serves any more, TargetError for a target that cannot be read.
    """
    target = job.sink.look(job.source.name)
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
                listing = stream.accounts_from[0] if stream.accounts_from else "?"
                waiting.append(f"{stream.name}: one partition per account of {listing}, which was not read yet")
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
    firsts = sum(1 for _ in fetch.stream.requests(source.settings, fetch.ask))
    return 3 * firsts if fetch.stream.poller is not None else firsts


def _one_answer(source: ConfiguredSource, stream: Stream) -> bool:
    """Whether each request that a plan counts is answered at once and whole, and nothing else has to be asked."""
    listed = stream.accounts_from is not None and (stream.accounts is None or stream.accounts(source.settings) is None)
    return stream.paginator is None and stream.poller is None and stream.parent is None and not listed


def ordered(source: ConfiguredSource, names: Iterable[str]) -> list[Stream]:
    """The streams of these names, in the order of their declaration."""
    wanted = set(names)
    return [stream for stream in source.streams if stream.name in wanted]


@define
class Planner:
    """Makes the fetches of a job's streams, against what the ledger of its target holds."""

    job: Job
    now: datetime
    target: Target | None
    notices: list[str] = field(factory=list, init=False)
    final: dict[str, int] = field(factory=dict, init=False)
    _whole: frozenset[str] = field(init=False)  # parents: their children are asked for by every row, final or not

    @_whole.default
    def _parents(self) -> frozenset[str]:
        chosen = ordered(self.job.source, self.job.streams)
        return frozenset(stream.parent.stream for stream in chosen if stream.parent is not None)

    @property
    def ledger(self) -> Ledger | None:
        return self.target.ledger if self.target is not None else None

    def accounts(self, stream: Stream) -> Sequence[str | None] | None:
        """
        The accounts of a stream: configured, else remembered; ``[None]`` without accounts; None when unknown yet.
        """
        if stream.account is None:
            return [None]
        if stream.accounts is not None and (configured := stream.accounts(self.job.source.settings)) is not None:
            return list(dict.fromkeys(configured))
        if self.ledger is None or stream.accounts_from is None:
            return None
        return self.ledger.accounts(self.job.source.name, stream.accounts_from[0]) or None

    def fetches(self, stream: Stream, accounts: Iterable[str | None]) -> list[Fetch]:
        """
        What is to be read of a stream, account by account, days ascending.
        """
        ledger, source = self.ledger, self.job.source
        entries = ledger.entries(source.name, stream.name) if ledger is not None else {}
        adopted = ledger.pending(source.name, stream.name) if ledger is not None and stream.poller is not None else ()
        days = self.window(stream).days() if stream.kind != "snapshot" else []
        print_ = fingerprint(source.settings, stream)
        made: list[Fetch] = []
        for account in accounts:
            head = ((stream.account, account),) if stream.account is not None and account is not None else ()
            if stream.kind == "snapshot":
                whole = Partition(stream.name, head)
                made.append(self._fetch(stream, account, [], [whole], ["snapshot"], entries, print_))
                continue
            wanted: dict[date, Reason] = {}
            for day in days:
                reason = self._reason(stream, entries.get(self._day(stream, head, day)), print_)
                if reason is None:
                    self.final[stream.name] = self.final.get(stream.name, 0) + 1
                else:
                    wanted[day] = reason
            for group in self._groups(stream, head, list(wanted), adopted):
                partitions = [self._day(stream, head, day) for day in group]
                reasons = [wanted[day] for day in group]
                made.append(self._fetch(stream, account, group, partitions, reasons, entries, print_))
        return made

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
                f"{until}: nothing of it can be read any more. Ask for later days."
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

    def _day(self, stream: Stream, head: tuple[tuple[str, str], ...], day: date) -> Partition:
        return Partition(stream.name, (*head, (stream.day or "day", day.isoformat())))

    def _reason(self, stream: Stream, entry: Entry | None, print_: str) -> Reason | None:
        if entry is not None and entry.error is not None:
            return "failed"
        if entry is None or not entry.delivered:
            return "missing"
        if self.job.full or stream.name in self._whole:
            return "forced"
        if self.target is not None and not self.target.present(entry):
            return "missing"
        if entry.fingerprint != print_:
            return "changed"
        return None if entry.final(print_) else "open"

    def _groups(
        self, stream: Stream, head: tuple[tuple[str, str], ...], days: list[date], adopted: Sequence[PendingReport]
    ) -> list[list[date]]:
        """
        Wanted days as runs of consecutive ones, at most ``days_per_request`` long; days of a report that is already
        under way stay together as they were submitted.
        """
        groups: list[list[date]] = []
        left = list(days)
        for report in adopted:
            theirs = [day for day in left if self._day(stream, head, day) in report.partitions]
            if theirs and len(theirs) == len(report.partitions):
                groups.append(theirs)
                left = [day for day in left if day not in theirs]
        limit = days_per_request(stream, self.job.source.settings)
        run: list[date] = []
        for day in left:
            if run and (day - run[-1] != timedelta(days=1) or len(run) >= limit):
                groups.append(run)
                run = []
            run.append(day)
        if run:
            groups.append(run)
        return sorted(groups)

    def _fetch(
        self,
        stream: Stream,
        account: str | None,
        days: Sequence[date],
        partitions: Sequence[Partition],
        reasons: Sequence[Reason],
        entries: Mapping[Partition, Entry],
        print_: str,
    ) -> Fetch:
        zone = self.job.source.zone
        start = end = None
        if days:
            start = datetime.combine(days[0], time(), zone)
            end = datetime.combine(days[-1] + timedelta(days=1), time(), zone)
            if stream.kind == "changes":
                start, end = start - stream.overlap, min(end, self.now.astimezone(zone) - stream.lag)
        return Fetch(
            stream=stream,
            partitions=tuple(partitions),
            reasons=tuple(reasons),
            ask=Ask(now=self.now, account=account, days=tuple(days), start=start, end=end),
            fingerprint=print_,
            entries={partition: entries[partition] for partition in partitions if partition in entries},
        )


def days_per_request(stream: Stream, settings: SourceSettings) -> int:
    limit = stream.days_per_request
    return limit(settings) if callable(limit) else limit


def open_until(stream: Stream, settings: SourceSettings, partition: Partition, zone: tzinfo) -> datetime | None:
    """The moment from which a reading of this partition is final; None: never."""
    if stream.kind == "snapshot":
        return None
    day = date.fromisoformat(partition.values[-1][1])
    if stream.kind == "changes":
        return datetime.combine(day + timedelta(days=1), time(), zone) + max(stream.overlap, stream.lag)
    rule = OpenFor.parse(settings.open_for) if settings.open_for else stream.open_for
    return rule.until(day, zone)


def fingerprint(settings: SourceSettings, stream: Stream) -> str:
    """
    A hash of the settings that shape the provider's answer, so that changing one makes delivered days wanted again.

    Settings at their default are left out: a new setting of a later version changes no fingerprint.
    """
    said: dict[str, Any] = {}
    for attribute in attrs.fields(type(settings)):
        value = getattr(settings, attribute.name)
        if shapes(attribute) and value != attribute.default and value not in ((), {}, None):
            said[attribute.name] = value
    text = json.dumps([stream.name, said], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def chosen_streams(source: ConfiguredSource, names: Sequence[str] | None) -> tuple[str, ...]:
    """
    The streams to run: those named, else all that are on by default and need no further setting.

    Raises UsageError for an unknown one (with the nearest known), one that is not built, and one that lacks a setting.
    """
    if not names:
        return tuple(
            stream.name
            for stream in source.streams
            if stream.on_by_default and not stream.not_built and not lacking(source, stream)
        )
    known = {stream.name: stream for stream in source.streams}
    for name in names:
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
            raise UsageError(f"{source.connector.name} has no stream {name!r}; {hint}")
        if known[name].not_built:
            raise UsageError(f"the stream {name} of {source.connector.name} cannot be read: {known[name].not_built}")
        if missing := lacking(source, known[name]):
            raise UsageError(f"the stream {name} needs {' and '.join(missing)}: set it under [source.{source.name}]")
    chosen = dict.fromkeys(names)
    for name in names:  # a derived stream travels with its parent
        derived = known[name].derived
        if derived is not None:
            chosen.setdefault(derived.stream)
    return tuple(stream.name for stream in source.streams if stream.name in chosen)


def lacking(source: ConfiguredSource, stream: Stream) -> list[str]:
    """The settings a stream needs and does not have."""
    return [name for name in stream.needs if not getattr(source.settings, name)]


def strange_exclusions(source: ConfiguredSource) -> list[str]:
    """A problem for every name in ``exclude`` that is no column of any stream: it would leave nothing out, unsaid."""
    if not source.settings.exclude:
        return []
    from penstock.config.words import did_you_mean

    names: set[str] = set()
    for stream in source.streams:
        more = stream.more_columns(source.settings) if stream.more_columns is not None else ()
        added = [name for name in (stream.account, stream.day) if name is not None]
        columns = [*added, *(column.name for column in (*stream.columns, *more))]
        names.update(columns, (f"{stream.name}.{column}" for column in columns))
    return [
        f"source.{source.name}.exclude: {name!r} is no column of {source.connector.name}."
        f"{did_you_mean(name, sorted(names))} `penstock streams {source.connector.name}` lists them"
        for name in source.settings.exclude
        if name not in names
    ]


def missed_columns(source: ConfiguredSource, names: Iterable[str]) -> list[str]:
    """
    A problem for every column that the settings leave out and that a run of these streams goes by: a key, a partition,
    a row's day, or what another stream is asked by.
    """
    settings = source.settings
    if not settings.exclude and settings.include_personal:
        return []
    read_by = _read_by(source, names)
    why = "(part of) a key or a partition, or what another stream is asked by"
    problems: list[str] = []
    for given in settings.exclude:
        streams = [name for name in read_by if {given, given.removeprefix(f"{name}.")} & read_by[name]]
        if streams:
            where = " and ".join(streams)
            problems.append(f"source.{source.name}.exclude: {given!r} cannot be left out of {where}: it is {why}")
    if not settings.include_personal:
        problems.extend(
            f"source.{source.name}.include_personal: {name}.{column.name} is personal and cannot be left out: it is "
            f"{why}. Leave out the stream instead, with --streams or a pipeline"
            for name, columns in read_by.items()
            for column in source.stream(name).columns
            if column.personal and column.name in columns
        )
    return problems


def _read_by(source: ConfiguredSource, names: Iterable[str]) -> dict[str, set[str]]:
    """The columns without which these streams, and those they are read with, cannot be read."""
    found: dict[str, set[str]] = {}

    def visit(name: str, columns: Iterable[str] = ()) -> None:
        stream = source.stream(name)
        known = name in found
        found.setdefault(name, set()).update(columns)
        if known:
            return
        day_of = stream.day_of(source.settings) if callable(stream.day_of) else stream.day_of
        partition = [one for one in (stream.account, stream.day) if one is not None]
        found[name].update(stream.key, partition, [day_of] if day_of is not None else [])
        if stream.parent is not None:
            visit(stream.parent.stream, stream.parent.columns)
        listed = stream.accounts is None or stream.accounts(source.settings) is None
        if stream.accounts_from is not None and listed:
            visit(stream.accounts_from[0], stream.accounts_from[1:])
        for child in source.derived_from(name):
            assert child.derived is not None
            visit(child.name, (*partition, *child.derived.stamps))

    for name in names:
        visit(name)
    return found
