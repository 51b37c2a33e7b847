"""
The ledger of a run whose target keeps none: its state is JSON that another tool stores and brings back.

The state of a stream maps each account (empty text: no accounts) to the fingerprint of the settings that it was read
with, and its final days to how long they were open::

    {"accounts": {"2112": {"fingerprint": "7d0c...", "final": {"2026-08-25/2026-11-15": [345600, ""]}}}}

A range of days has one value: the seconds from the beginning of the first day (UTC) to the end of the provider's
restatements, and the fingerprint of the record class where records were rejected. Days that are open are not in it:
they are read again.

Reports that were submitted and are not delivered yet are in the state, too, without credentials, so that the next run
adopts them. The day is the last column of ``partition``, and ``days`` are all days of the report::

    {"accounts": {}, "reports": [
        {"handle": "/reports/1", "request": "[...]", "submitted_at": "2026-11-15T03:00:00+00:00",
         "fingerprint": "7d0c...", "partition": [["client_id", "c1"], ["report_date", "2026-11-10"]],
         "days": ["2026-11-10/2026-11-14"]}]}

The state of a stream that is divided by accounts also has what the provider listed of them, by the name that the core
gives it (``"listed": {"shops": ["2112", "2113"]}``): a list that becomes empty fails such a stream.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from attrs import define, field
from penstock import Layout, Ledger, LedgerEntry, Partition, PendingReport, RunRecord, UsageError, mask

from penstock_plugins.integrations.stream_schema import groups

MAX_REPORTS = 100  # in the state of one stream, the newest: a state is written many times, and stays small

_DAY = timedelta(days=1)


class _FinalDay(NamedTuple):
    """How a day became final: the seconds from its beginning to its close, and what could not be read of it."""

    open_s: int
    reader_version: str


@define
class _Account:
    """The final days of an account, and their state, which is made again after a change only."""

    fingerprint: str
    days: dict[date, _FinalDay] = field(factory=dict)
    _state: dict[str, Any] | None = field(default=None, init=False)
    _last: date = field(default=date.min, init=False)  # no day is later; days are delivered in their order

    def put(self, day: date, final: _FinalDay | None) -> bool:
        """Set a day, or delete it; whether that changed anything."""
        if self.days.get(day) == final:
            return False
        self._state = None
        if final is None:
            del self.days[day]
        else:
            self.days[day] = final
            self._last = max(self._last, day)
        return True

    def drop_after(self, day: date) -> bool:
        """Delete all later days; whether there were any."""
        if day >= self._last:
            return False
        later = [other for other in self.days if other > day]
        for other in later:
            self.put(other, None)
        self._last = day
        return bool(later)

    @property
    def state(self) -> dict[str, Any]:
        if self._state is None:
            final = {f"{first}/{last}": list(self.days[first]) for first, last in _ranges(self.days)}
            self._state = {"fingerprint": self.fingerprint, "final": final}
        return self._state


@define(eq=False, repr=False)
class StateLedger(Ledger):
    """
    A ledger that lasts for one run. It begins with the states of streams, and has their states after each delivery.

    ``layouts``: all streams that are delivered, as :meth:`penstock.Project.layouts` gives them; ``chosen``: of these,
    the ones that the other tool receives. ``on_report`` is called after a report was submitted or dropped; without it
    reports are not in the states, and the next run submits them again.
    """

    layouts: Sequence[Layout]
    chosen: Sequence[str]
    on_report: Callable[[], None] | None = None
    unstored: int = field(default=0, init=False)  # changes since the states were stored, by the one who stores them
    _streams: dict[str, dict[str, _Account]] = field(factory=dict, init=False)
    _reports: dict[str, dict[str, Mapping[str, Any]]] = field(factory=dict, init=False)  # stream -> handle -> state
    _listed: dict[str, tuple[str, ...]] = field(factory=dict, init=False)  # by the name that the core gives
    _divided: set[str] = field(init=False)  # the streams with accounts

    def __attrs_post_init__(self) -> None:
        self._divided = {
            layout.stream for layout in self.layouts if set(layout.partition_columns) - {layout.day_column}
        }

    def load(self, states: Mapping[str, Any]) -> None:
        """Take over the states of streams. Raises UsageError for what is no state of penstock."""
        for stream, state in states.items():
            try:
                accounts = {str(name): _account(stored) for name, stored in (state or {}).get("accounts", {}).items()}
                reports = [_report_state(_report("", stream, stored)) for stored in (state or {}).get("reports", ())]
                listed = {str(name): tuple(map(str, texts)) for name, texts in (state or {}).get("listed", {}).items()}
            except (AttributeError, LookupError, TypeError, ValueError, OverflowError):
                raise UsageError(
                    f"the state of the stream {stream} is not one that penstock wrote. Run without a state, to read "
                    "everything again"
                ) from None
            self._streams[stream] = accounts
            self._reports[stream] = {report["handle"]: report for report in reports[-MAX_REPORTS:]}
            for name, texts in listed.items():  # one that was not chosen for a while may have an older list
                self._listed[name] = tuple(dict.fromkeys((*self._listed.get(name, ()), *texts)))

    def state(self, stream: str) -> dict[str, Any]:
        """The state of a stream, as :meth:`load` takes it."""
        accounts, reports = self._streams.get(stream, {}), self._reports.get(stream, {})
        listed = {name: list(texts) for name, texts in self._listed.items()} if stream in self._divided else {}
        if not accounts and not reports and not listed:
            return {}
        state: dict[str, Any] = {"accounts": {name: account.state for name, account in accounts.items()}}
        return state | ({"reports": list(reports.values())} if reports else {}) | ({"listed": listed} if listed else {})

    def delivered_together(self, stream: str) -> list[str]:
        """The chosen streams that one read delivers."""
        return [layout.stream for layout in groups(self.layouts).get(stream, ()) if layout.stream in self.chosen]

    # --- the methods of a ledger --------------------------------------------------------------------------------------

    def entries(
        self,
        source: str,
        stream: str,
        *,
        since: date | None = None,
        until: date | None = None,
        accounts: Sequence[str] | None = None,
        flawed: bool = False,
    ) -> dict[Partition, LedgerEntry]:
        """The days that all streams which are delivered together have as final, with the same settings."""
        states = [self._streams.get(name, {}) for name in self.delivered_together(stream)]
        layout = next((layout for layout in self.layouts if layout.stream == stream), None)
        if flawed or not states or layout is None or layout.day_column is None:
            return {}
        found: dict[Partition, LedgerEntry] = {}
        for name, account in states[0].items():
            if accounts is not None and name not in accounts:
                continue
            others = [state.get(name, _Account("")) for state in states[1:]]
            if any(other.fingerprint != account.fingerprint for other in others):
                continue
            for day, final in account.days.items():
                within = (since is None or since <= day) and (until is None or day <= until)
                if within and all(other.days.get(day) == final for other in others):
                    entry = _entry(source, layout, name, day, final, account.fingerprint)
                    found[entry.partition] = entry
        return found

    def deliver(self, entry: LedgerEntry) -> None:
        """
        Record a delivery for the streams that are delivered together. Of ``changes``, days after it are final once they
        are read again, too: its rows may have overwritten theirs, and the run may end before it reads them.
        """
        day, changed = entry.partition.day, False
        if day is not None and entry.kind != "snapshot":
            name = entry.partition.values[0][1] if len(entry.partition.values) > 1 else ""
            for stream in self.delivered_together(entry.partition.stream):
                accounts = self._streams.setdefault(stream, {})
                if name not in accounts or accounts[name].fingerprint != entry.fingerprint:
                    accounts[name] = _Account(entry.fingerprint)
                changed = accounts[name].put(day, _final(entry, day)) or changed
                if entry.kind == "changes":
                    changed = accounts[name].drop_after(day) or changed
        # A delivery that changes no state counts as well where some are unstored, so that these do not wait for long.
        if changed or self.unstored:
            self.unstored += 1

    def fail_all(self, source: str, failures: Sequence[tuple[Partition, str]], run_id: str) -> None:
        """No effect: a day that failed is not final."""

    def submit(self, report: PendingReport) -> None:
        """Add a report under way, to the first of the streams that it delivers."""
        if self.on_report is None:
            return
        state = _report_state(report)
        for stream in self.delivered_together(report.stream)[:1]:
            reports = self._reports.setdefault(stream, {})
            reports[state["handle"]] = state
            if len(reports) > MAX_REPORTS:
                del reports[next(iter(reports))]
        self.unstored += 1
        self.on_report()

    def drop(self, report: PendingReport) -> None:
        """Remove a report that was delivered, or that the provider does not have any more."""
        if self.on_report is None:
            return
        for stream in self.delivered_together(report.stream)[:1]:
            self._reports.get(stream, {}).pop(mask(report.handle), None)
        self.unstored += 1
        self.on_report()

    def pending(self, source: str, stream: str) -> tuple[PendingReport, ...]:
        """The reports under way of a stream, in the order of their submission."""
        first = self.delivered_together(stream)[:1]
        return tuple(
            _report(source, stream, report) for name in first for report in self._reports.get(name, {}).values()
        )

    def remember_accounts(self, source: str, stream: str, accounts: Sequence[str]) -> None:
        if self._listed.get(stream, ()) != tuple(accounts):
            self._listed[stream] = tuple(accounts)
            self.unstored += 1

    def accounts(self, source: str, stream: str) -> tuple[str, ...]:
        return self._listed.get(stream, ())

    def record_run(self, run: RunRecord) -> None:
        """No effect."""

    def close(self) -> None:
        """No effect."""


# --- days -------------------------------------------------------------------------------------------------------------


def _account(stored: Mapping[str, Any]) -> _Account:
    account = _Account(str(stored["fingerprint"]))
    for text, (open_s, reader_version) in stored["final"].items():
        for day in _days_in(text):
            account.put(day, _FinalDay(int(open_s), str(reader_version)))
    return account


def _final(entry: LedgerEntry, day: date) -> _FinalDay | None:
    """How this delivery made its day final; None: the day is open."""
    if not entry.is_final or entry.open_until is None:
        return None
    opened = entry.open_until - datetime.combine(day, time(), UTC)
    return _FinalDay(int(opened.total_seconds()), entry.reader_version)


def _entry(source: str, layout: Layout, account: str, day: date, final: _FinalDay, fingerprint: str) -> LedgerEntry:
    """A final day as a row of a ledger."""
    closed = datetime.combine(day, time(), UTC) + timedelta(seconds=final.open_s)
    values = (account, day.isoformat()) if len(layout.partition_columns) > 1 else (day.isoformat(),)
    return LedgerEntry(
        source=source,
        partition=Partition(layout.stream, tuple(zip(layout.partition_columns, values, strict=True))),
        state="delivered",
        run_id="",
        read_at=closed,
        open_until=closed,
        fingerprint=fingerprint,
        reader_version=final.reader_version,
    )


def _ranges(days: Mapping[date, object]) -> Iterator[tuple[date, date]]:
    """Runs of consecutive days of one value."""
    ordered = sorted(days)
    if not ordered:
        return
    first = ordered[0]
    for day, following in pairwise(ordered):
        if following - day != _DAY or days[following] != days[day]:
            yield first, day
            first = following
    yield first, ordered[-1]


def _days_in(text: str) -> list[date]:
    """The days of a range as a state has it; both ends are included."""
    first, last = (date.fromisoformat(day) for day in text.split("/"))
    return [first + number * _DAY for number in range((last - first).days + 1)]


# --- reports ----------------------------------------------------------------------------------------------------------


def _report_state(report: PendingReport) -> dict[str, Any]:
    days = {partition.day: None for partition in report.partitions if partition.day is not None}
    return {
        "handle": mask(report.handle),
        "request": mask(report.request),
        "submitted_at": report.submitted_at.isoformat(),
        "fingerprint": report.fingerprint,
        "partition": [list(column) for column in report.partitions[0].values],
        "days": [f"{first}/{last}" for first, last in _ranges(days)],
    }


def _report(source: str, stream: str, stored: Mapping[str, Any]) -> PendingReport:
    columns = tuple((str(name), str(value)) for name, value in stored["partition"])
    days = [day for text in stored["days"] for day in _days_in(text)]
    values = [(*columns[:-1], (columns[-1][0], day.isoformat())) for day in days] or [columns]
    submitted_at = datetime.fromisoformat(stored["submitted_at"])
    if submitted_at.tzinfo is None:
        raise ValueError("a time without zone")
    return PendingReport(
        source=source,
        stream=stream,
        handle=str(stored["handle"]),
        request=str(stored["request"]),
        partitions=tuple(Partition(stream, value) for value in values),
        submitted_at=submitted_at,
        fingerprint=str(stored["fingerprint"]),
    )
