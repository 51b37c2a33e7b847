"""
One job of a run: its target, and its streams in the order in which they depend on each other.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from attrs import define, field

from penstock._config.source import ConfiguredSource
from penstock._fetch.client import SourceClient
from penstock._fetch.scheduler import Reading, Task
from penstock._plan.dependencies import Dependencies, Key, key_of
from penstock._plan.planner import Job, PlannedSlice, Planner, account_of, zone_memory, zone_text
from penstock._read.components import Components, components_of
from penstock._read.loader import Loader
from penstock._read.on_demand import Handles, Reports, poll_times
from penstock._read.reader import Reader
from penstock._read.reconcile import PageSizes, Skips
from penstock._run.commit import Delivery, refusal
from penstock._run.context import RunContext
from penstock.connector import Stream, zone_exists
from penstock.errors import AuthenticationError, ForbiddenError, PenstockError, ProviderError
from penstock.names import did_you_mean
from penstock.redact import clip
from penstock.sinks import Checks, Interruptible, Ledger, PendingReport

# After 403 for so many accounts, and an answer for none, the credentials are refused and nothing more is requested.
FORBIDDEN = 3


@define(eq=False, repr=False)
class SourceRun:
    """
    One job of a run: opened, begun and finished by the runner.
    """

    job: Job
    context: RunContext
    _delivery: Delivery | None = field(default=None, init=False)
    _planner: Planner = field(init=False)
    _dependencies: Dependencies = field(init=False)
    _first: list[Stream] = field(init=False)  # streams that can be read at once, parents first
    _client: SourceClient = field(init=False)
    _components: dict[tuple[str, int], Components] = field(factory=dict, init=False)
    _adoptable: dict[str, dict[str, PendingReport]] = field(factory=dict, init=False)  # by stream and request
    _handles: Handles = field(factory=Handles, init=False)
    _refused: dict[str | None, AuthenticationError] = field(factory=dict, init=False)  # by whose credentials
    _forbidden: dict[Key, ForbiddenError] = field(factory=dict, init=False)  # accounts of streams that were refused
    _page_sizes: dict[str, PageSizes] = field(factory=partial(defaultdict, PageSizes), init=False)  # by stream
    _skips: dict[str, Skips] = field(factory=partial(defaultdict, Skips), init=False)  # by stream
    _searched: dict[str, int] = field(factory=dict, init=False)  # by stream, see Reader.searched
    _began: dict[str, float] = field(factory=dict, init=False)  # stream -> when its first reading started

    @property
    def source(self) -> ConfiguredSource:
        return self.job.source

    @property
    def delivery(self) -> Delivery:
        assert self._delivery is not None, "open() comes first"
        return self._delivery

    @property
    def _ledger_of_reports(self) -> Ledger | None:
        """The ledger that keeps the reports under way; those of a recording are not at the provider any more."""
        return self.delivery.target.ledger if self.context.recorded_until is None else None

    def open(self) -> None:
        """
        Open the target, check that it can hold the streams, and plan the streams that can be planned. A target that
        cannot be used, and a window that the provider does not serve, raise before any request.
        """
        chosen = self.job.chosen
        derived = {stream.name: self.source.derived_from(stream.name) for stream in chosen}
        names = [name for own, others in derived.items() for name in (own, *(other.name for other in others))]
        target = self.job.open(self.context.report.run_id, names)
        self._delivery = Delivery(self.source, target, self.context)
        this_run = self.context.report.run_id if self.context.others is not None else None
        self._planner = Planner(self.job, self.context.started_at, target, this_run)
        for stream in chosen:
            if stream.kind != "snapshot":
                self._planner.check_window(stream, self._planner.accounts(stream) or ())
        self._dependencies = Dependencies(self.source)
        self._first = self._dependencies.start_with(chosen)
        self.context.report.notices.extend(getattr(target, "notices", ()))
        if isinstance(target, Checks):
            target.check([layout for stream in chosen for layout in self._components_of(stream).shape.layouts])

    def begin(self) -> None:
        """Give the scheduler the slices that can be read now. Others follow when the streams they need are read."""
        self._client = self.context.client(self.source)
        for stream in self._first:
            self._add(stream, self._planner.accounts(stream) or ())

    def finish(self) -> None:
        """After the last read: let the target complete its streams, and record the run."""
        holders = {self.source.credentials_of(account) for _, account in self._forbidden}
        if self._refused or not all(map(self._client.was_answered, holders)):
            self.context.report.refused = True
        self.delivery.finish()
        if not self.context.report.interrupted and not self.context.report.deadline:
            self._fail_unlisted()
            self._drop_stale_reports()
        self.context.report.notices.extend(dict.fromkeys(self._planner.notices))
        if self.context.others is None:
            self.delivery.record_run()

    def interrupt(self, reason: PenstockError) -> None:
        """End a wait of the target; called from another thread."""
        if self._delivery is not None and isinstance(self._delivery.target, Interruptible):
            self._delivery.target.interrupt(reason)

    def close(self) -> None:
        """Release the target's lock, whatever the state of the job. What was delivered stays, if that fails."""
        if self._delivery is not None:
            try:
                self._delivery.target.close()
            except PenstockError as error:
                self.context.fail(self.source.name, None, None, error)

    # --- what is read, and after what ---------------------------------------------------------------------------------

    def _add(self, stream: Stream, accounts: Iterable[str | None]) -> None:
        """Plan a stream's slices and give them to the scheduler."""
        slices = self._planner.slices(stream, accounts)
        if stream in self._planner.chosen:
            self._find_adoptable(stream)
            self._count_planned(stream, slices)
        for planned in slices:
            self._dependencies.begun(planned)
            if planned.to_deliver:
                self.delivery.expect(planned)
        self.context.scheduler.add(map(self._task, slices))

    def _find_adoptable(self, stream: Stream) -> None:
        """Look up the reports that earlier runs submitted."""
        if stream.poller is None or self._ledger_of_reports is None:
            return
        pending = self._ledger_of_reports.pending(self.source.name, stream.name)
        own = [report for report in pending if self.job.has(stream, account_of(stream, report))]
        self._adoptable.setdefault(stream.name, {report.request: report for report in own})

    def _count_planned(self, stream: Stream, slices: Iterable[PlannedSlice]) -> None:
        counts = self.context.report.stream(self.source.name, stream.name)
        counts.planned += sum(len(planned.partitions) for planned in slices)
        counts.final = self._planner.final.get(stream.name, 0)
        self.delivery.recount(self._planner.done.pop(stream.name, ()))
        self.context.emit(
            {
                "event": "planned",
                "source": self.source.name,
                "stream": stream.name,
                "partitions": counts.planned,
                "final": counts.final,
            }
        )

    def _drop_stale_reports(self) -> None:
        """After a run that was not ended early: drop reports that are past their deadline and belong to no slice."""
        ledger, now = self.delivery.target.ledger, self.context.clock.now()
        for name, reports in self._adoptable.items():
            deadline_s = poll_times(self.source.settings, self.source.stream(name)).deadline_s
            for report in reports.values():
                if ledger is not None and (now - report.submitted_at).total_seconds() >= deadline_s:
                    with suppress(PenstockError):  # the target is lost; the next run drops the report
                        ledger.drop(report)

    def _task(self, planned: PlannedSlice) -> Task:
        parent = self._parent_of(planned)
        return Task(
            self._client,
            start=partial(self._read_and_commit, planned),
            after=(id(self), parent) if parent is not None else None,
            ended=partial(self._ended, planned),
        )

    def _read_and_commit(self, planned: PlannedSlice) -> Reading:
        """One task: read a slice, then commit its partitions, if the stream is to be delivered."""
        if refused := self._refused.get(self.source.credentials_of(planned.account)):
            raise refused
        if forbidden := self._forbidden.get(key_of(planned)):
            raise forbidden
        self._client.check_not_parked()
        parent = self._parent_of(planned)
        if parent is not None and not self._dependencies.is_well(parent, planned.slice.days):
            raise ProviderError(f"{planned.stream.name} was not read: its parent {parent[0]} failed or was not read")
        if planned.stream.name not in self._began:
            self._began[planned.stream.name] = time.monotonic()
            self.context.emit({"event": "stream_started", "source": self.source.name, "stream": planned.stream.name})
        result = yield from self._reader(planned).read()
        for partition in result.partitions:
            if refusal(result, partition) is not None:
                self._dependencies.refuse(partition)
        if planned.to_deliver:
            self.delivery.commit(result)
        elif planned.stream.name not in self.job.streams and self.job.has(planned.stream, planned.account):
            self.delivery.count_set_aside(result)  # once, where several workers read it

    @staticmethod
    def _parent_of(planned: PlannedSlice) -> Key | None:
        parent = planned.stream.parent
        return (parent.stream, planned.account) if parent is not None else None

    def _reader(self, planned: PlannedSlice) -> Reader:
        source, components = planned.source, self._components_of(planned.stream, planned.source)
        target = self.delivery.target if planned.to_deliver else None
        loader = Loader(
            planned=planned,
            shape=components.shape,
            zone=source.zone,
            day_of=components.day_of,
            target=target,
            dependencies=self._dependencies,
            hooks=source.registry.batch_hooks(),
            listener=self.delivery,
        )
        return Reader(
            planned=planned,
            components=components,
            loader=loader,
            reports=self._reports(planned, components),
            clock=self.context.clock,
            dependencies=self._dependencies,
            sizes=self._page_sizes[planned.stream.name],
            skips=self._skips[planned.stream.name],
            searched=self._searched,
            listener=self.delivery,
        )

    def _components_of(self, stream: Stream, source: ConfiguredSource | None = None) -> Components:
        """The stream's components, made when they are first needed. ``source``: as an account sees it."""
        source = source or self.source
        key = (stream.name, id(source))  # the planner keeps the sources that it made
        if key not in self._components:
            self._components[key] = components_of(source, stream, self._dependencies.columns(stream))
        return self._components[key]

    def _reports(self, planned: PlannedSlice, components: Components) -> Reports | None:
        if components.poller is None:
            return None
        return Reports(
            source=self.source,
            planned=planned,
            poller=components.poller,
            read=components.read,
            ledger=self._ledger_of_reports if planned.to_deliver else None,
            clock=self.context.clock,
            adoptable=self._adoptable.get(planned.stream.name, {}),
            handles=self._handles,
            listener=self.delivery,
        )

    # --- after a task -------------------------------------------------------------------------------------------------

    def _ended(self, planned: PlannedSlice, error: BaseException | None) -> None:
        """Handle the end of a task: report its failure, and release the tasks that waited for it."""
        stream = planned.stream
        self.delivery.ended_at = self.context.clock.now()
        if stream.name in self._began:
            seconds = time.monotonic() - self._began[stream.name]
            self.context.report.stream(self.source.name, stream.name).seconds = seconds
        if isinstance(error, ForbiddenError):
            self._forbid(planned, error)
        elif isinstance(error, AuthenticationError):
            self._refused[self.source.credentials_of(planned.account)] = error
        if error is not None:
            self.delivery.fail(planned, error)
        self._dependencies.ended(planned, well=error is None)
        if self._dependencies.is_over(key_of(planned)):
            self.context.scheduler.release((id(self), key_of(planned)))
        if dependents := self._dependencies.dependents.pop(stream.name, None):
            well = self._dependencies.is_well(key_of(planned))
            self._accounts_listed(planned, dependents, failed=not well)
        self._dependencies.drop(planned)

    def _forbid(self, planned: PlannedSlice, error: ForbiddenError) -> None:
        """Fail the account; all with its credentials, where nothing was answered with them so far."""
        self._forbidden[key_of(planned)] = error
        holder = self.source.credentials_of(planned.account)
        forbidden = [key for key in self._forbidden if self.source.credentials_of(key[1]) == holder]
        if len(forbidden) >= FORBIDDEN and not self._client.was_answered(holder):
            self._refused[holder] = error

    def _accounts_listed(self, planned: PlannedSlice, dependents: list[Stream], *, failed: bool) -> None:
        """Store the listed accounts in the ledger, and read the streams that are divided by them."""
        name, ledger = planned.stream.name, self.delivery.target.ledger
        if failed:
            for one in dependents:
                self._add(one, self._planner.accounts(one) or ())
            return
        rows = self._dependencies.rows(key_of(planned))
        column = dependents[0].accounts_from[1] if dependents[0].accounts_from else ""
        names = [str(row[column]) for row in rows if row[column] not in (None, "")]
        accounts = tuple(dict.fromkeys(names))
        if len(names) < len(rows) and self.job.has(planned.stream, planned.account):
            lack = f"{len(rows) - len(names)} of {len(rows)} records of {name} have no {column}"
            self._fail_unnamed(dependents, lack)
        self._note_unlisted(planned.stream, accounts)
        if ledger is not None and self.job.has(planned.stream, planned.account):
            former = ledger.accounts(self.source.name, name)
            if former and not accounts:
                self._fail_no_longer_listed(name, dependents, former)
                return
            self._note_gone(name, dependents, [one for one in former if one not in accounts])
            ledger.remember_accounts(self.source.name, name, accounts)
        if not accounts and len(names) == len(rows):
            self._planner.notices.append(
                f"{self.source.name}.{name} lists no account, so that nothing is read of "
                f"{', '.join(one.name for one in dependents)}"
            )
        for one in dependents:
            self._add(one, accounts if one.zone_from is None else self._with_zones(one, accounts, rows))

    def _fail_unnamed(self, dependents: Iterable[Stream], lack: str) -> None:
        """Fail the streams for the listed accounts without a name: rows of such a request would be anybody's."""
        for one in dependents:
            error = ProviderError(
                f"{one.name}: {lack}, by which it is read account by account. No request was made for these; the other "
                "accounts are read. If the provider lists accounts without it, the connector must name them by another "
                "column."
            )
            self._fail_unplanned(one, None, error)

    def _fail_no_longer_listed(self, lister: str, dependents: Iterable[Stream], former: Sequence[str]) -> None:
        """
        Fail the streams whose accounts are not listed any more, not one of them: a run that reads nothing of them must
        not end well. The ledger goes on to remember the accounts.
        """
        for one in dependents:
            error = ProviderError(
                f"{one.name} was not read: {lister} lists no account, and listed {len(former)} when it was read before "
                f"({clip(', '.join(former), 200)}). What was delivered stays. If the provider has none any more, leave "
                f'the stream out, exclude_streams = ["{self.source.name}.{one.name}"].'
            )
            self._fail_unplanned(one, None, error)

    def _note_gone(self, lister: str, dependents: Iterable[Stream], gone: Sequence[str]) -> None:
        """Note accounts that are not listed any more, and their days that nobody reads again although they are open."""
        ledger = self.delivery.target.ledger
        if not gone or ledger is None:
            return
        left = sum(
            1
            for one in dependents
            for entry in ledger.entries(self.source.name, one.name, accounts=gone).values()
            if entry.delivered and entry.partition.day is not None and not entry.final(entry.fingerprint)
        )
        days = f", also their {left} days that are still open" if left else ""
        self._planner.notices.append(
            f"{self.source.name}.{lister} does not list {clip(', '.join(gone), 200)} any more: what was delivered of "
            f"these accounts stays as it was last read{days}"
        )

    def _fail_unplanned(self, stream: Stream, account: str | None, error: ProviderError) -> None:
        """Fail a stream, or an account of it, that has no partitions, since accounts or days are not known."""
        place = None if account is None else {stream.account or "account": account}
        self.context.report.count(self.source.name, stream.name, planned=1, failed=1)
        self.context.fail(self.source.name, stream.name, place, error)

    def _fail_unlisted(self) -> None:
        """Fail streams whose accounts were never listed: a run that reads nothing of them must not end well."""
        for lister, dependents in self._dependencies.dependents.items():
            for one in dependents if self.source.stream(lister).account is None else ():
                error = ProviderError(f"{one.name} was not read: {lister}, which lists its accounts, was not read")
                self._fail_unplanned(one, None, error)

    def _note_unlisted(self, lister: Stream, accounts: Sequence[str]) -> None:
        """Note tables of accounts that the provider does not list: the account that was meant lacks its zone."""
        where, listed = f"{self.source.name}.{lister.name}", clip(", ".join(accounts), 200) or "none"
        if self.source.listers == {lister.name}:
            for table in sorted(set(self.source.settings.account_tables) - set(accounts)):
                self._planner.notices.append(
                    f"{where} lists no account {table}, so the table [source.{self.source.name}.accounts.{table}] is "
                    f"not used.{did_you_mean(table, accounts)} There are {listed}"
                )

    def _with_zones(self, stream: Stream, accounts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """
        The accounts whose listed zone is known or absent, and the ledger's memory of the zones. An account with a zone
        that does not exist fails: days in another zone would be other rows.
        """
        assert stream.accounts_from is not None
        assert stream.zone_from is not None
        lister, column = stream.accounts_from
        zones = {str(row[column]): str(row[stream.zone_from]) for row in rows if row[stream.zone_from]}
        wrong = {account: zone for account, zone in zones.items() if not zone_exists(zone)}
        for account, zone in wrong.items():
            error = ProviderError(
                f"{stream.name}: {lister}.{stream.zone_from} of the account {account} is {zone!r}, which is no IANA "
                f"name of a time zone; its days cannot be cut. Write timezone in [source.{self.source.name}.accounts."
                f"{account}]."
            )
            tables = self.source.settings.account_tables
            if "timezone" not in tables.get(account, {}) and self.job.has(stream, account):
                self._fail_unplanned(stream, account, error)
                accounts = [one for one in accounts if one != account]
            del zones[account]
        self._planner.zones.update({(lister, account): zone for account, zone in zones.items()})
        ledger = self.delivery.target.ledger
        if ledger is not None and self.job.has(self.source.stream(lister), None):
            texts = [zone_text(account, zone) for account, zone in zones.items()]
            ledger.remember_accounts(self.source.name, zone_memory(stream), texts)
        return list(accounts)
