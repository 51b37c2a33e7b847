"""
The targets that a call looks at, opened for reading, and the days and accounts that it selects in them.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from functools import cached_property
from itertools import count
from operator import attrgetter
from typing import TypeVar

from attrs import define, evolve, field, frozen

from penstock._config.config import ConfiguredSink
from penstock._config.pipeline import Pipeline
from penstock._plan.selection import matches
from penstock._plugins.sink_calls import open_readonly
from penstock._project.setup import Notices, Setup
from penstock._util.clock import Clock
from penstock.errors import LockHeldError, PenstockError, PluginError, UsageError, sentences
from penstock.ledger import DeliveredEntries, windows_of_rows
from penstock.ledger.delivered_entries import each_once
from penstock.ledger_interface import DeliveredSums, Ledger, LedgerEntry, RunRecord
from penstock.model import Partition
from penstock.names import did_you_mean
from penstock.results import Result

RUNS_AT_ONCE = 20  # records of runs, with a report of up to 64 KiB each

_T = TypeVar("_T")
_R = TypeVar("_R", bound=Result)


@frozen(kw_only=True)
class SelectedTarget:
    """A target to read, and the sources to show; None: all in its ledger."""

    sink: ConfiguredSink
    sources: tuple[str, ...] | None

    @property
    def keeps_ledger(self) -> bool:
        """Whether the target records what is delivered to it; a single file and standard output do not."""
        return self.sink.open().keeps_ledger

    @property
    def no_ledger_text(self) -> str:
        """The message about a target that keeps no ledger."""
        return f"{self.sink.name} keeps no ledger: what was delivered there is not known, and each run reads everything"

    @property
    def address(self) -> str:
        """A text that two names of one target share."""
        try:
            address = self.sink.open().address
        except PenstockError:  # reported when the target is read
            address = None
        return address or self.sink.name


def _each_once(targets: Sequence[SelectedTarget], preferred: Collection[str]) -> list[SelectedTarget]:
    """Targets of one address as one, with the sources of all, under the name that it has in ``preferred``, if any."""
    by_address: dict[str, SelectedTarget] = {}
    for selected in targets:
        address = selected.address
        if (other := by_address.get(address)) is not None:
            sources = None
            if other.sources is not None and selected.sources is not None:
                sources = tuple(dict.fromkeys((*other.sources, *selected.sources)))
            sink = selected.sink if selected.sink.name in preferred and other.sink.name not in preferred else other.sink
            selected = SelectedTarget(sink=sink, sources=sources)
        by_address[address] = selected
    return list(by_address.values())


@frozen
class SourceLedger:
    """A source in the ledger of a target."""

    target_name: str
    source: str
    ledger: Ledger

    @property
    def streams(self) -> list[str]:
        """The streams that have a row, in alphabetical order."""
        return sorted(stream for _, stream in self.ledger.sources(self.source))

    def entries(self, stream: str, days: "Days") -> dict[Partition, LedgerEntry]:
        """The rows of a stream's partitions within these days, of these accounts."""
        entries = self.ledger.entries(self.source, stream, since=days.since, until=days.until)
        return {partition: entry for partition, entry in entries.items() if days.contains(partition)}

    def partitions(self, stream: str, days: "Days") -> Iterator[Partition]:
        """The partitions with a row within these days, of these accounts. Rows are read some days at a time."""

        def read(since: date | None, until: date | None) -> Iterable[Partition]:
            return self.ledger.entries(self.source, stream, since=since, until=until)

        windows = windows_of_rows(self.ledger, self.source, stream, days.since, days.until)
        return filter(days.contains, each_once(windows, read, attrgetter("day")))

    def delivered(self, stream: str, days: "Days") -> DeliveredEntries:
        """The delivered partitions of a stream within these days, of these accounts, in the order of their days."""
        return DeliveredEntries(
            self.ledger, self.source, stream, since=days.since, until=days.until, accepts=days.contains
        )

    def delivered_sums(self, stream: str, days: "Days") -> Iterator[DeliveredSums]:
        """Rows and sums of the delivered partitions of a stream within these days, of these accounts, in any order."""

        def read(since: date | None, until: date | None) -> Iterable[DeliveredSums]:
            return self.ledger.delivered_sums(self.source, stream, since=since, until=until)

        windows = windows_of_rows(self.ledger, self.source, stream, days.since, days.until)
        for sums in each_once(windows, read, attrgetter("day")):
            if matches_account(days.accounts, (value for _, value in sums.account)):
                yield sums

    def runs(self) -> Iterator[RunRecord]:
        """The runs that the ledger keeps, newest first. They are read some at a time: their reports are long."""
        for offset in count(step=RUNS_AT_ONCE):
            runs = self.ledger.runs(self.source, RUNS_AT_ONCE, offset=offset)
            yield from runs
            if len(runs) < RUNS_AT_ONCE:
                return

    def mark_missing(self, stream: str, partitions: Sequence[Partition]) -> None:
        """Let the next run read these partitions again, without adopting a report that was made before."""
        marked = set(partitions)
        for report in self.ledger.pending(self.source, stream):
            if not marked.isdisjoint(report.partitions):
                self.ledger.drop(report)
        self.ledger.forget(self.source, partitions)


@contextmanager
def ledgers(selected: SelectedTarget) -> Iterator[list[SourceLedger]]:
    """
    Each source to show that the target has, read-only; closed at the end. Several sources share one ledger: a database
    has a limit of connections. A source that is not in it is looked for under its own name, too.
    """
    sink, sources = selected.sink.open(), selected.sources
    with ExitStack() as opened:

        def ledgers_under(name: str, to_show: Sequence[str] | None) -> dict[str, Ledger]:
            """The sources to show in the ledger of the target, opened under this name. One without any is closed."""
            if (target := open_readonly(sink, name)) is None:
                return {}
            with ExitStack() as closing:
                closing.callback(target.close)
                ledger = target.ledger
                by_name = {} if ledger is None else dict.fromkeys(_sources_to_show(ledger, to_show), ledger)
                if by_name:
                    opened.push(closing.pop_all())
            return by_name

        if sources is None or len(sources) == 1:
            by_source = ledgers_under("" if sources is None else sources[0], sources)
        else:
            by_source = ledgers_under("", sources)
            for source in sources:
                if source not in by_source:
                    by_source |= ledgers_under(source, (source,))
        in_order = by_source if sources is None else filter(by_source.__contains__, sources)
        yield [SourceLedger(selected.sink.name, source, by_source[source]) for source in in_order]


def _sources_to_show(ledger: Ledger, sources: Sequence[str] | None) -> Sequence[str]:
    """The sources to show that are in a ledger; None: all of them."""
    if sources is None:
        return list(dict.fromkeys(source for source, _ in ledger.sources()))
    in_ledger = {source for source in sources if ledger.runs(source, 1)}
    if len(in_ledger) < len(sources):  # else the rows of a thousand others need not be looked at
        in_ledger |= {source for source, _ in ledger.sources()}
    return [source for source in sources if source in in_ledger]


@define(slots=False)  # cached_property needs a __dict__
class TargetQuery:
    """
    The targets that a call reads: those of a pipeline or a source, ``to``, else those last used, else those of the
    pipelines. ``clock``: that of the call. ``used_by_source``: ``name`` is a source, never a pipeline. ``stream``,
    ``accounts``: a name and patterns that the caller chose; a notice states each of which no target has anything.

    A target of several that cannot be used is left out: ``failed`` has its error, a notice names it, and the exit code
    is 1. A single one raises. Iterating opens the targets for reading, one after the other, and yields each with
    the sources in its ledger.
    """

    setup: Setup
    name: str | None
    to: str | None
    clock: Clock
    used_by_source: bool
    stream: str | None
    accounts: Sequence[str]
    notices: Notices = field(factory=Notices, init=False)
    failed: dict[str, str] = field(factory=dict, init=False)
    _known_streams: set[str] = field(factory=set, init=False)
    _known_accounts: set[str] = field(factory=set, init=False)

    @cached_property
    def _pipeline(self) -> Pipeline | None:
        config, name = self.setup.config, self.name
        if name is None or name not in config.pipelines or self.used_by_source:
            return None
        return config.pipeline(name)

    @property
    def sources(self) -> tuple[str, ...] | None:
        """The sources to show: the one that was named, or those of the pipeline; None: all."""
        if self._pipeline is not None:
            return self._pipeline.source
        return None if self.name is None else (self.name,)

    @cached_property
    def targets(self) -> list[SelectedTarget]:
        """Raises UsageError where there is none."""
        config, sources = self.setup.config, self.sources
        to = self.to or (self._pipeline.sink if self._pipeline is not None else None)
        if to is not None:
            texts: dict[str, tuple[str, ...] | None] = {to: sources}
        else:
            texts = dict(self.setup.targets_used(sources, self.notices.add))
            for pipeline in () if texts else config.pipelines.values():
                if sources is None or set(sources) & set(pipeline.source):
                    texts[pipeline.sink] = sources
        if not texts:
            raise self._no_target()
        selected = self._configured(texts)
        self.notices.add(*(text for target in selected for text in target.sink.notices))
        return _each_once(selected, config.sinks)

    def _configured(self, texts: Mapping[str, tuple[str, ...] | None]) -> list[SelectedTarget]:
        """The targets with their settings. One of several whose settings cannot be read is left out."""
        config, selected, errors = self.setup.config, [], []
        for text, sources in texts.items():
            try:
                selected.append(SelectedTarget(sink=config.sink_for(text, self.setup.registry), sources=sources))
            except UsageError as error:
                errors.append(error)
                self._leave_out(text, "cannot be read", error)
        if errors and (not selected or config.problems):
            raise errors[0]
        return selected

    def _no_target(self) -> UsageError:
        config, name = self.setup.config, self.name
        names = [*config.sources, *(() if self.used_by_source else config.pipelines)]
        if name is not None and name not in names:
            of_connector = [source for source in config.sources if config.connector_of(source) == name]
            if of_connector:
                return UsageError(f"{name} is a connector; name a source of it: {' or '.join(of_connector)}")
            if name not in self.setup.registry.connectors():
                meant = did_you_mean(name, names)
                return UsageError(sentences(f"no source or pipeline {name!r} is known here", meant))
        whose = f" for {name}" if name is not None else ""
        return UsageError(f"no target was used{whose} from this configuration yet; name one with --to{config.absent}")

    def expected(self, selected: SelectedTarget) -> tuple[str, ...]:
        """The sources that this target should have: those named, else those of the pipelines that write to it."""
        return self.in_pipelines(selected) if selected.sources is None else selected.sources

    def in_pipelines(self, selected: SelectedTarget) -> tuple[str, ...]:
        """The sources of the pipelines that write to this target. A pipeline reads all of their accounts."""
        pipelines = [pipe for pipe in self.setup.config.pipelines.values() if pipe.sink == selected.sink.name]
        return tuple(dict.fromkeys(name for pipeline in pipelines for name in pipeline.source))

    @contextmanager
    def leaving_out(self, selected: SelectedTarget, what: str = "was left out") -> Iterator[None]:
        """A target that cannot be used is left out, unless it is the only one, or another run holds it."""
        try:
            yield
        except LockHeldError:
            raise
        except PenstockError as error:
            if len(self.targets) == 1 and not self.failed:
                raise
            self._leave_out(selected.sink.name, what, error)

    def _leave_out(self, target: str, what: str, error: PenstockError) -> None:
        self.failed[target] = str(error)
        self.notices.add(f"the target {target} {what}: {error}")

    def __iter__(self) -> Iterator[tuple[SelectedTarget, list[SourceLedger]]]:
        for selected in self.targets:
            with self.leaving_out(selected, "cannot be read"), ledgers(selected) as opened:
                for source_ledger in opened:
                    self.add_known(source_ledger)
                yield selected, opened

    def add_known(self, source_ledger: SourceLedger) -> None:
        """Add the streams and accounts of a source to those that are known, where the caller chose some."""
        source = source_ledger.source
        if self.stream is not None:
            self._known_streams.update(source_ledger.streams)
            with suppress(PluginError):  # of a connector that is not installed any more
                streams = self.setup.registry.streams(self.setup.config.connector_of(source))
                self._known_streams.update(stream.name for stream in streams)
        if self.accounts:
            counts = source_ledger.ledger.counts(source)
            self._known_accounts.update(value for counted in counts for value in counted.account.values())

    def _unknown(self) -> Iterator[str]:
        """What the caller chose and no target has."""
        streams, accounts = sorted(self._known_streams), sorted(self._known_accounts)
        if self.stream is not None and self.stream not in streams:
            yield f"no stream {self.stream!r} is known here.{did_you_mean(self.stream, streams)}"
        for pattern in self.accounts:
            if not any(matches(account, [pattern]) for account in accounts):
                yield f"nothing of an account {pattern!r} was read here.{did_you_mean(pattern, accounts)}"

    def each(self, look: Callable[[SourceLedger], Iterable[_T]]) -> Iterator[_T]:
        """What ``look`` gives for every source of every target, in their order. A notice names those without ledger."""
        for selected, opened in self:
            if not selected.keeps_ledger:
                self.notices.add(selected.no_ledger_text)
            for source_ledger in opened:
                yield from look(source_ledger)

    def with_notices(self, result: _R) -> _R:
        """The result of the call, with its notices, and the exit code where a target was left out."""
        self.notices.add(*(text.removesuffix(".") for text in self._unknown()))
        exit_code = result.exit_code or int(bool(self.failed))
        return evolve(result, notices=tuple(self.notices.texts), exit_code=exit_code)


def nothing_of(
    source: str, stream: str, columns: Sequence[str], day_column: str | None, derived: Sequence[str]
) -> LedgerEntry:
    """
    A delivery without rows, of no account and no day. By it, :meth:`penstock.sinks.Verifiable.verify` learns the
    columns of a stream's partitions, and those derived from it, where nothing of it is in the ledger.
    """
    values = [(name, "0001-01-01" if name == day_column else "") for name in columns]
    return LedgerEntry(
        source=source,
        partition=Partition(stream=stream, values=tuple(values)),
        state="delivered",
        run_id="",
        derived_rows=dict.fromkeys(derived, 0),
    )


# --- days and accounts ------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Days:
    """Days, both included, and patterns of accounts; None or empty: all."""

    since: date | None = None
    until: date | None = None
    accounts: Sequence[str] = ()

    def contains(self, partition: Partition) -> bool:
        """Whether a partition is of these days and accounts; one without a day is of any days."""
        day = partition.day
        if day is not None and not (self.since or day) <= day <= (self.until or day):
            return False
        return matches_account(self.accounts, (value for _, value in partition.without_day.values))


def matches_account(patterns: Sequence[str], values: Iterable[str]) -> bool:
    """Whether one of these values of an account matches a pattern; without patterns, always."""
    return not patterns or any(matches(value, patterns) for value in values)
