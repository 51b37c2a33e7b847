"""The plan: windows, retention, reasons, and how days are put together into requests."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from attrs import define, evolve, field, frozen
from configured_source import a_source
from hypothesis import example, given, strategies as st
from penstock._plan.finality import fingerprint, reader_version, same_settings
from penstock._plan.planner import Planner, grouped, plan_job
from penstock._plan.read_job import ReadJob
from penstock._plan.selection import chosen_streams
from penstock._plan.window import requested_window
from penstock.connector import Stream
from penstock.errors import UsageError
from penstock.ledger_interface import FinalDay, Ledger, LedgerEntry, PendingReport
from penstock.model import Partition, Request, Slice
from penstock.records import record
from penstock.settings import OpenFor, SourceSettings, setting
from penstock.sinks import BaseTarget


@record()
class Row:
    id: str


@frozen(kw_only=True)
class Settings(SourceSettings):
    base_url: str = "http://localhost"
    ids: tuple[str, ...] = ()
    currency: str = setting("EUR", help="currency of the report", affects_data=True)


def a_request(settings: Any, slice_: Slice) -> Iterable[Request]:
    return [Request(url="http://localhost/")]


def two_months_before(today: date) -> date:
    return (today.replace(day=1) - timedelta(days=32)).replace(day=1)


CLICKS = Stream(
    name="clicks",
    summary="clicks",
    record=Row,
    kind="report",
    key="id",
    account="account_id",
    accounts=lambda settings: settings.ids or None,
    accounts_from=("accounts", "id"),
    day="report_date",
    requests=a_request,
    earliest=two_months_before,
    open_for=OpenFor(3),
)
ACCOUNTS = Stream(name="accounts", summary="accounts", record=Row, kind="snapshot", key="id", requests=a_request)
LEADS = Stream(
    name="leads",
    summary="leads",
    record=Row,
    kind="changes",
    key="id",
    day="updated_day",
    requests=a_request,
    lookback=timedelta(minutes=10),
    lag=timedelta(minutes=5),
)
LATER = Stream(name="later", summary="not yet", record=Row, kind="snapshot", not_built="work in progress")
NOW = datetime(2026, 8, 12, 6, 0, tzinfo=UTC)


@define
class FakeLedger(Ledger):
    held: dict[Partition, LedgerEntry] = field(factory=dict)
    reports: tuple[PendingReport, ...] = ()
    known: tuple[str, ...] = ()
    queries: list[dict[str, Any]] = field(factory=list)

    def entries(self, source: str, stream: str, **window: Any) -> dict[Partition, LedgerEntry]:
        self.queries.append(window)
        since, until = window.get("since") or date.min, window.get("until") or date.max
        return {
            key: entry
            for key, entry in self.held.items()
            if key.stream == stream and (key.day is None or since <= key.day <= until)
        }

    def pending(self, source: str, stream: str) -> tuple[PendingReport, ...]:
        return self.reports

    def accounts(self, source: str, stream: str) -> tuple[str, ...]:
        return self.known


@define
class FakeTarget(BaseTarget):
    ledger: Any
    gone: set[Partition] = field(factory=set)

    def is_intact(self, entry: LedgerEntry) -> bool:
        return entry.partition not in self.gone

    def close(self) -> None: ...


@define
class ListingTarget(FakeTarget):
    """Lists its final days, so that their rows are not loaded."""

    def final_days(
        self, stream: str, *, since: date, until: date, accounts: Sequence[str] | None
    ) -> Iterable[FinalDay]:
        for partition, entry in self.ledger.held.items():
            values = dict(partition.values)
            account, day = values.get("account_id", ""), partition.values[-1][1]
            within = partition.stream == stream and since.isoformat() <= day <= until.isoformat()
            if within and entry.is_final and entry.error is None and self.is_intact(entry):
                of = (entry.fingerprint, entry.run_id, entry.read_at, entry.reader_version)
                yield FinalDay(account, day, *of, entry.complete)


both_targets = pytest.mark.parametrize("target_of", [FakeTarget, ListingTarget], ids=["by rows", "by its list"])


@define
class FakeSink:
    target: FakeTarget | None = None

    def open_readonly(self, source: str) -> Any:
        return self.target


def a_job(target: FakeTarget | None = None, streams: tuple[str, ...] = ("clicks",), **more: Any) -> ReadJob:
    settings = more.pop("settings", None) or Settings(ids=("1",))
    source = a_source(ACCOUNTS, CLICKS, LEADS, LATER, settings=settings)
    sink: Any = FakeSink(target)
    return ReadJob(source=source, streams=streams, sink=sink, **more)


def days_of(job: ReadJob, now: datetime = NOW) -> list[tuple[str, str]]:
    return [(one.partition.values[-1][1], one.reason) for one in plan_job(job, now).partitions]


def read(day: str, read_at: datetime, **more: Any) -> tuple[Partition, LedgerEntry]:
    partition = Partition("clicks", (("account_id", "1"), ("report_date", day)))
    settings = more.pop("settings", Settings(ids=("1",)))
    entry = LedgerEntry(
        source="s",
        partition=partition,
        state="delivered",
        run_id="r",
        read_at=read_at,
        open_until=CLICKS.open_for.until(date.fromisoformat(day), UTC),
        fingerprint=fingerprint(settings, CLICKS),
    )
    return partition, evolve(entry, **more)


def test_without_a_window_everything_the_provider_serves_is_read():
    """
    Without a window, a retention of two full months is read from the first of the month before the last one to
    yesterday.
    """
    days = days_of(a_job())

    assert days[0] == ("2026-06-01", "missing")
    assert days[-1] == ("2026-08-11", "missing")
    assert len(days) == 72


@given(
    today=st.dates(date(2020, 1, 1), date(2035, 12, 31)),
    back=st.integers(-5, 200),
    length=st.integers(0, 40),
)
def test_a_window_never_leaves_the_served_days(today: date, back: int, length: int):
    """
    The days of any window are inside it, inside retention, not in the future, ascending and without a gap, and those
    left out are named; a window wholly outside is refused, never empty without a word.
    """
    since = today - timedelta(days=back)
    until = since + timedelta(days=length)
    job = a_job(since=since, until=until)
    now = datetime(today.year, today.month, today.day, 12, tzinfo=UTC)
    floor = two_months_before(today)
    if until < floor:
        with pytest.raises(UsageError, match="nothing of it can be read"):
            requested_window(job, CLICKS, UTC, now)
        return
    if since > today:
        with pytest.raises(UsageError, match="the last day that can be read"):
            requested_window(job, CLICKS, UTC, now)
        return
    window, notices = requested_window(job, CLICKS, UTC, now)
    last = min(until, today)
    assert window.days() == [max(since, floor) + timedelta(days=n) for n in range((last - max(since, floor)).days + 1)]
    assert len(notices) == (since < floor) + (until > today)


def test_a_start_that_has_not_come_is_named():
    """
    A run whose start has not come reads nothing, and states so: the start may be on purpose, or a wrong year.
    """
    job = a_job(settings=Settings(ids=("1",), start=date(2062, 8, 1)))

    planned = plan_job(job, NOW)

    assert not planned.partitions
    assert "s.clicks: nothing is read, because start 2062-08-01 is after" in " ".join(planned.notices)
    before = plan_job(evolve(job, until=date(2026, 8, 1)), NOW)
    assert "because start 2062-08-01 is after 2026-08-01, the day of --until" in " ".join(before.notices)


def test_a_window_that_ends_before_it_starts_is_refused():
    """
    --since after --until names both.
    """
    with pytest.raises(UsageError, match="--since 2026-08-05 is after --until 2026-08-01"):
        plan_job(a_job(since=date(2026, 8, 5), until=date(2026, 8, 1)), NOW)


@both_targets
@pytest.mark.parametrize(
    ("held", "reason"),
    [
        (read("2026-08-01", NOW), None),
        (read("2026-08-01", datetime(2026, 8, 4, 23, 59, tzinfo=UTC)), "open"),
        (read("2026-08-01", datetime(2026, 8, 5, 0, 0, tzinfo=UTC)), None),
        (read("2026-08-01", NOW + timedelta(days=1)), "open"),
        (read("2026-08-01", NOW, open_until=NOW + timedelta(days=1)), "open"),
        (read("2026-08-01", NOW, error="HTTP 500"), "failed"),
        (read("2026-08-01", NOW, state="failed"), "missing"),
        (read("2026-08-01", NOW, settings=Settings(ids=("1",), currency="USD")), "changed"),
    ],
    ids=[
        "final",
        "read before it closed",
        "read when it closed",
        "read by a clock that was ahead",
        "read while another rule kept it open",
        "failed since",
        "never delivered",
        "other settings",
    ],
)
def test_why_a_day_is_read(held: tuple[Partition, LedgerEntry], reason: str | None, target_of: type[FakeTarget]):
    """
    A day is final when it was read after it closed, with the current settings, and did not fail since. A reading of a
    moment that has not come yet proves nothing: it may have been made before the day was over.
    """
    target = target_of(FakeLedger(dict([held])))
    planned = plan_job(a_job(target, since=date(2026, 8, 1), until=date(2026, 8, 1)), NOW)

    assert [one.reason for one in planned.partitions] == ([] if reason is None else [reason])
    assert planned.final == ({"clicks": 1} if reason is None else {})


READINGS = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["delivered", "delivered", "delivered", "failed"]),
        "run_id": st.sampled_from(["r", "this run"]),
        "read_at": st.sampled_from([datetime(2026, 8, day, tzinfo=UTC) for day in (3, 4, 5, 12, 13)]),
        "open_until": st.sampled_from([datetime(2026, 8, 3, tzinfo=UTC), datetime(2026, 8, 6, tzinfo=UTC), None]),
        "fingerprint": st.sampled_from([fingerprint(Settings(ids=("1",)), CLICKS), "other settings"]),
        "reader_version": st.sampled_from(["", "another", "today's"]),
        "rejected": st.integers(0, 1),
        "unread_values": st.integers(0, 1),
        "error": st.sampled_from([None, None, "HTTP 500"]),
    }
)


@example({"run_id": "this run"}, False, "this run")
@given(READINGS, st.booleans(), st.sampled_from([None, "this run"]))
def test_a_list_of_final_days_and_their_rows_give_the_same_plan(
    reading: dict[str, Any], gone: bool, run_id: str | None
) -> None:
    """
    A day is final in whatever way the target states it, and whatever its ledger row has besides.
    """
    day = date(2026, 8, 1)
    job = a_job(since=day, until=day)
    if reading.get("reader_version") == "today's":
        reading["reader_version"] = reader_version(job.source, CLICKS)
    partition, entry = read(day.isoformat(), **{"read_at": NOW, **reading})
    plans = []
    for target_of in (FakeTarget, ListingTarget):
        target: Any = target_of(FakeLedger({partition: entry}), gone={partition} if gone else set())
        planner = Planner(job, NOW, target, run_id)
        of_stream = planner.plan_stream(CLICKS, ["1"])
        plans.append(([one.reasons for one in of_stream.slices], of_stream.final, of_stream.delivered_by_run))

    assert plans[0] == plans[1]


@both_targets
def test_the_last_three_days_are_open(target_of: type[FakeTarget]):
    """
    A provider that restates for 3 days is read again for yesterday and the two days before, and for no other day.
    """
    days = [(date(2026, 8, 11) - timedelta(days=n)).isoformat() for n in range(10)]
    target = target_of(FakeLedger(dict(read(day, NOW) for day in days)))

    assert days_of(a_job(target, since=date(2026, 8, 2))) == [
        ("2026-08-09", "open"),
        ("2026-08-10", "open"),
        ("2026-08-11", "open"),
    ]


@both_targets
@pytest.mark.parametrize(
    ("read_at", "reason"), [(date(2026, 8, 11), "open"), (date(2026, 8, 12), None)], ids=["too early", "late enough"]
)
def test_a_longer_memory_reopens_days(read_at: date, reason: str | None, target_of: type[FakeTarget]):
    """
    A day that was final by the rule it was read under is read again once the provider is known to change it for longer.
    """
    held = dict([read("2026-08-01", datetime.combine(read_at, time(), UTC))])
    settings = Settings(ids=("1",), open_for="10 days")
    job = a_job(target_of(FakeLedger(held)), since=date(2026, 8, 1), until=date(2026, 8, 1), settings=settings)

    assert [one.reason for one in plan_job(job, NOW).partitions] == ([] if reason is None else [reason])


@both_targets
def test_full_reads_final_days_again_but_none_beyond_retention(target_of: type[FakeTarget]):
    """
    --full ignores final; a day before the retention floor keeps its last reading.
    """
    held = dict([read("2026-05-31", NOW), read("2026-06-01", NOW)])
    job = a_job(target_of(FakeLedger(held)), since=date(2026, 5, 1), until=date(2026, 6, 1), full=True)

    assert days_of(job) == [("2026-06-01", "forced")]


@both_targets
def test_a_file_that_is_gone_is_missing(target_of: type[FakeTarget]):
    """
    A day that the ledger calls delivered but the target does not hold any more is planned again.
    """
    partition, entry = read("2026-07-01", NOW)
    target = target_of(FakeLedger({partition: entry}), gone={partition})

    assert days_of(a_job(target, since=date(2026, 7, 1), until=date(2026, 7, 1))) == [("2026-07-01", "missing")]


def test_a_pattern_that_no_listed_account_matches_is_noted():
    """
    A mistyped account would be a run of nothing that ends with 0, without a word.
    """
    remembered = FakeTarget(FakeLedger(known=("1", "2")))
    settings = Settings(ids=())

    (note,) = plan_job(a_job(remembered, settings=settings, accounts=("3",)), NOW).notices

    assert note.startswith("s: no account matches 3, so that none of its streams")
    assert plan_job(a_job(remembered, settings=settings, accounts=("3", "2")), NOW).notices == ()


def test_accounts_that_the_provider_lists_are_waited_for_or_in_the_ledger():
    """
    Without configured accounts the plan names the listing it waits for; with remembered ones it is complete.
    """
    job = a_job(settings=Settings(), since=date(2026, 8, 11))
    assert plan_job(job, NOW).waiting == ("clicks: one partition per account of accounts, which was not read yet",)

    target = FakeTarget(FakeLedger(known=("7", "8")))
    planned = plan_job(a_job(target, settings=Settings(), since=date(2026, 8, 11)), NOW).partitions
    assert [one.partition.values[0][1] for one in planned] == ["7", "8"]


def clicks_of(days: Iterable[date]) -> list[Partition]:
    return [Partition("clicks", (("report_date", day.isoformat()),)) for day in days]


@given(expected=st.sets(st.integers(0, 60)), limit=st.integers(1, 40))
def test_days_are_grouped_into_runs_of_bounded_length(expected: set[int], limit: int):
    """
    Every planned day is in exactly one request, requests hold consecutive days only, none more than allowed.
    """
    first = date(2026, 6, 1)
    days = [first + timedelta(days=n) for n in sorted(expected)]
    groups = [[partition.day for partition in group] for group in grouped(clicks_of(days), (), limit)]

    assert [day for group in groups for day in group] == days
    for group in groups:
        assert len(group) <= limit
        assert group == [group[0] + timedelta(days=n) for n in range(len(group))]


def test_days_of_a_report_under_way_stay_together():
    """
    After a crash the days that were submitted as one report are requested as that report again.
    """
    days = clicks_of(date(2026, 8, 1) + timedelta(days=n) for n in range(6))
    theirs = tuple(days[1:4])
    report = PendingReport(
        source="s", stream="clicks", handle="h", request="r", partitions=theirs, submitted_at=NOW, fingerprint="f"
    )

    assert grouped(days, (report,), 60) == [days[:1], days[1:4], days[4:]]


def test_changes_are_read_up_to_the_lag_and_overlap_the_day_before():
    """
    The window of an unfinished day ends five minutes ago, that of a finished one at its end; both reach back.
    """
    job = a_job(streams=("leads",), since=date(2026, 8, 11))
    slices = Planner(job, NOW, None).plan_stream(LEADS, [None]).slices

    assert [(planned.slice.start, planned.slice.end) for planned in slices] == [
        (datetime(2026, 8, 10, 23, 50, tzinfo=UTC), datetime(2026, 8, 12, 0, 0, tzinfo=UTC)),
        (datetime(2026, 8, 11, 23, 50, tzinfo=UTC), datetime(2026, 8, 12, 5, 55, tzinfo=UTC)),
    ]


def test_the_lag_of_changes_is_elapsed_time_where_summer_time_begins() -> None:
    """
    Two minutes after the clocks were put forward, five minutes ago is before that, not an hour that does not exist.
    """
    now = datetime(2026, 3, 29, 1, 2, tzinfo=UTC)
    settings = Settings(timezone="Europe/Berlin")
    job = a_job(streams=("leads",), settings=settings, since=date(2026, 3, 29))
    (planned,) = Planner(job, now, None).plan_stream(LEADS, [None]).slices

    assert planned.slice.end is not None
    assert now - planned.slice.end.astimezone(UTC) == timedelta(minutes=5)


def test_days_are_cut_in_the_zone_of_the_source():
    """
    At six in the morning UTC it is still yesterday in Honolulu.
    """
    settings = Settings(ids=("1",), timezone="Pacific/Honolulu")
    planned = days_of(a_job(settings=settings, since=date(2026, 8, 9)))

    assert planned == [("2026-08-09", "missing"), ("2026-08-10", "missing")]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["clikcs"], 'Did you mean "clicks"'),
        (["later"], "work in progress"),
    ],
    ids=["unknown", "not built"],
)
def test_a_stream_that_cannot_run_is_refused(names: list[str], message: str):
    """
    The error names the stream, or the reason why it cannot be read.
    """
    with pytest.raises(UsageError, match=message):
        chosen_streams(a_job().source, names)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("https://api.example.com/", True),
        ("https://api.example.com:443", True),
        ("https://api.example.com:8443", False),
        ("https://api.example.com/staging", False),
        ("http://127.0.0.1:8977", False),
        ("https://staging.example.com", False),
    ],
)
def test_another_host_has_other_rows(other: str, same: bool) -> None:
    """
    A day that was read of an imitation, a test system, or another stage of a gateway, is not final at the provider.
    """
    of_first = fingerprint(SourceSettings(base_url="https://api.example.com"), CLICKS)
    of_other = fingerprint(SourceSettings(base_url=other), CLICKS)

    assert same_settings(of_first, of_other) is same
    assert fingerprint(SourceSettings(base_url="http://127.0.0.1:1"), CLICKS) == fingerprint(
        SourceSettings(base_url="http://localhost:2"), CLICKS
    )


def fingerprints_of_two_hosts() -> tuple[str, str]:
    """That of the provider, and that of an imitation at another address."""
    return fingerprint(Settings(), CLICKS), fingerprint(Settings(base_url="http://192.0.2.7"), CLICKS)


def test_rows_of_an_imitation_are_not_those_of_the_provider():
    """
    Final days that were read at another address are read again.
    """
    of_provider, of_imitation = fingerprints_of_two_hosts()

    assert not same_settings(of_imitation, of_provider)
    assert not same_settings(of_provider, of_imitation)


def test_final_days_stored_without_a_host_stay_final():
    """
    Targets of versions that stored no host, or no path, keep their final days, whatever their base_url.
    """
    of_provider, of_imitation = fingerprints_of_two_hosts()
    without_host, _, _ = of_provider.partition("@")

    assert same_settings(without_host, of_provider)
    assert same_settings(without_host, of_imitation)
    assert same_settings(f"{without_host}@192.0.2.7", of_imitation)


def test_a_new_setting_at_its_default_changes_no_fingerprint():
    """
    Settings at their default are left out, so that an upgrade that adds one plans nothing again.
    """

    @frozen(kw_only=True)
    class Newer(Settings):
        new: str = setting("x", help="new", affects_data=True)

    assert fingerprint(Newer(), CLICKS) == fingerprint(Settings(), CLICKS)
    assert fingerprint(Newer(new="y"), CLICKS) != fingerprint(Settings(), CLICKS)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("3", OpenFor(3)),
        ("3d", OpenFor(3)),
        ("3 days", OpenFor(3)),
        ("1 day", OpenFor(1)),
        ("40 days, 8th of next month", OpenFor(40, 8)),
        ("0 days, 8th of the next month", OpenFor(0, 8)),
    ],
    ids=str,
)
def test_open_for_in_words(text: str, rule: OpenFor):
    """
    A number of days, and a day of the next month.
    """
    assert OpenFor.parse(text) == rule


@pytest.mark.parametrize("text", ["", "soon", "3 weeks", "-1", "3 days, 31st of next month"], ids=repr)
def test_open_for_that_is_no_time(text: str):
    """
    Anything else is refused with an example.
    """
    with pytest.raises(ValueError, match="3 days"):
        OpenFor.parse(text)


@given(day=st.dates(date(2020, 1, 1), date(2035, 12, 31)), month_day=st.integers(1, 28), days=st.integers(0, 60))
def test_a_day_closes_after_both_rules(day: date, month_day: int, days: int):
    """
    Never before the days are over, never before that day of the next month is over.
    """
    closes = OpenFor(days, month_day).until(day, UTC)
    following = date(day.year + (day.month == 12), day.month % 12 + 1, month_day)

    assert closes.date() == max(day + timedelta(days=days + 1), following + timedelta(days=1))


def test_a_snapshot_is_always_planned():
    """
    A snapshot is planned once per account, whatever the ledger holds.
    """
    planned = plan_job(a_job(streams=("accounts",)), NOW).partitions
    assert [(one.partition, one.reason, one.requests) for one in planned] == [(Partition("accounts"), "snapshot", 1)]


def test_the_ledger_is_read_for_the_window_only() -> None:
    """
    A plan reads the ledger's rows of its own days and accounts, however long the history is, and of the day before and
    after them if it reads the day beside.
    """
    ledger = FakeLedger()
    job = a_job(FakeTarget(ledger), since=date(2026, 8, 10), until=date(2026, 8, 11), settings=Settings(ids=("1", "2")))

    plan_job(job, NOW)

    assert ledger.queries == [
        {"since": date(2026, 8, 10), "until": date(2026, 8, 11), "accounts": ["1", "2"]},
        {"since": date(2026, 8, 9), "until": date(2026, 8, 9), "accounts": ["1", "2"]},
        {"since": date(2026, 8, 12), "until": date(2026, 8, 12), "accounts": ["1", "2"]},
    ]
    ledger.queries.clear()

    plan_job(a_job(FakeTarget(ledger), settings=Settings(ids=tuple(map(str, range(100))))), NOW)

    assert len(ledger.queries) == 2, "one query for a stream and one for the day before, however many accounts and days"


PAIR = Settings(ids=("1", "2"))


def test_rows_of_final_days_are_not_loaded_where_the_target_lists_them() -> None:
    """
    The ledger's rows are loaded of an account that has a day to read only, from its first such day on.
    """
    days = [(date(2026, 8, 11) - timedelta(days=n)).isoformat() for n in range(60)]
    held = dict(read(day, NOW, settings=PAIR) for day in days if day != "2026-08-08")
    held |= {evolve(one, values=(("account_id", "2"), one.values[1])): entry for one, entry in held.items()}
    held = {one: evolve(entry, partition=one) for one, entry in held.items()}
    held |= dict([read("2026-08-08", NOW, settings=PAIR)])
    ledger = FakeLedger(held)
    closed = a_job(ListingTarget(ledger), since=date(2026, 7, 1), until=date(2026, 8, 8), settings=PAIR)
    planned = plan_job(closed, NOW)

    assert [(str(one.partition), one.reason) for one in planned.partitions] == [
        ("clicks[account_id=2, report_date=2026-08-08]", "missing")
    ]
    assert planned.final == {"clicks": 39 + 38}
    assert ledger.queries == [
        {"since": date(2026, 8, 8), "until": date(2026, 8, 8), "accounts": ["2"]},
        {"since": date(2026, 8, 9), "until": date(2026, 8, 9), "accounts": ["2"]},  # beside the window
    ]


def test_a_list_of_final_days_is_not_kept() -> None:
    """
    The memory of a plan does not grow with the final days of reports that the target lists.
    """

    alive = most = 0

    class Listed(FinalDay):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    class CountingTarget(ListingTarget):
        def final_days(self, stream: str, **window: Any) -> Iterable[FinalDay]:
            nonlocal alive, most
            for final in super().final_days(stream, **window):
                alive += 1
                most = max(most, alive)
                yield Listed._make(final)

    days = [date(2026, 6, 1) + timedelta(days=n) for n in range(60)]
    target = CountingTarget(FakeLedger(dict(read(day.isoformat(), NOW) for day in days)))

    assert plan_job(a_job(target, since=days[0], until=days[-1]), NOW).final == {"clicks": 60}
    assert most <= 3


def test_rows_between_an_old_day_and_this_week_are_not_loaded() -> None:
    """
    A day of long ago that failed is read again with every run: only its row is loaded, not those of all days since.
    """
    days = [date(2026, 8, 11) - timedelta(days=n) for n in range(60)]
    held = dict(read(day.isoformat(), NOW, settings=PAIR) for day in days[3:])
    held |= {evolve(one, values=(("account_id", "2"), one.values[1])): entry for one, entry in held.items()}
    held = {one: evolve(entry, partition=one) for one, entry in held.items()}
    failed = next(one for one in held if one.values == (("account_id", "2"), ("report_date", days[50].isoformat())))
    held[failed] = evolve(held[failed], error="refused")
    ledger = FakeLedger(held)

    planned = plan_job(a_job(ListingTarget(ledger), since=days[-1], settings=PAIR), NOW).partitions

    assert [one.reason for one in planned] == [*["missing"] * 3, "failed", *["missing"] * 3]
    assert ledger.queries == [
        {"since": days[50], "until": days[50], "accounts": ["2"]},
        {"since": days[2], "until": days[0], "accounts": ["1", "2"]},
    ]


def test_final_days_of_changes_after_a_read_day_are_read_again() -> None:
    """
    The final days of ``changes`` before the first day to read are left; those after it are read with it, in order.
    """
    known = LedgerEntry(
        source="s",
        partition=Partition("leads"),
        state="delivered",
        run_id="r",
        read_at=NOW,
        open_until=datetime(2026, 8, 11, 0, 10, tzinfo=UTC),
        fingerprint=fingerprint(Settings(ids=("1",)), LEADS),
    )
    days = [f"2026-08-{number:02}" for number in (4, 5, 7, 8)]
    partitions = [Partition("leads", (("updated_day", day),)) for day in days]
    held = {one: evolve(known, partition=one) for one in partitions}
    plans = []
    for target_of in (FakeTarget, ListingTarget):
        ledger = FakeLedger(held)
        job = a_job(target_of(ledger), streams=("leads",), since=date(2026, 8, 4), until=date(2026, 8, 7))
        plans.append(plan_job(job, NOW))

    assert plans[0] == plans[1]
    assert [(one.partition.values[-1][1][-2:], one.reason) for one in plans[1].partitions] == [
        ("06", "missing"),
        ("07", "forced"),
        ("08", "forced"),
    ]
    assert plans[1].final == {"leads": 2}
    assert [query["since"] for query in ledger.queries] == [date(2026, 8, 6)]


@both_targets
@pytest.mark.parametrize(
    ("runs", "reread"),
    [("aaaa", ""), ("abbb", ""), ("abaa", "78"), ("abab", "78"), ("aaba", "8"), ("baaa", "678")],
    ids=["one run", "followed", "ended early", "another day failed", "at the end", "at the beginning"],
)
def test_changes_after_a_day_of_a_run_that_ended_early_are_read_again(
    runs: str, reread: str, target_of: type[FakeTarget]
) -> None:
    """
    A run of ``changes`` reads every day after one that it reads. If it ended before that (killed, or stopped), the next
    run reads the others, though the target has them as final. Within a run, days are read in any order.
    """
    held = {}
    for number, run in enumerate(runs):
        partition = Partition("leads", (("updated_day", f"2026-08-0{5 + number}"),))
        held[partition] = LedgerEntry(
            source="s",
            partition=partition,
            state="delivered",
            run_id=run,
            read_at=NOW - timedelta(hours=0 if run == "b" else 5, minutes=number),
            open_until=datetime(2026, 8, 9, 0, 10, tzinfo=UTC),
            fingerprint=fingerprint(Settings(ids=("1",)), LEADS),
        )
    job = a_job(target_of(FakeLedger(held)), streams=("leads",), since=date(2026, 8, 5), until=date(2026, 8, 8))

    planned = plan_job(job, NOW)

    assert "".join(one.partition.values[-1][1][-1] for one in planned.partitions) == reread
    assert {one.reason for one in planned.partitions} <= {"forced"}
    assert planned.final == {"leads": 4 - len(reread)}


@pytest.mark.parametrize("name", ["", " "])
def test_a_configured_account_without_a_name_is_refused(name: str) -> None:
    """
    Providers answer a request without an account with the rows of all, so that these would be there twice.
    """
    with pytest.raises(UsageError, match=r"an account of s\.clicks has no name in the configuration"):
        plan_job(a_job(settings=Settings(ids=("1", name))), NOW)


@pytest.mark.parametrize("name", ["2026-08-05", "2026-99-99"])
def test_a_configured_account_in_the_form_of_a_day_is_refused(name: str) -> None:
    """
    The ledger knows a partition's day by its form: such an account's row was not found again by the next run.
    """
    with pytest.raises(UsageError, match=rf"s\.clicks: an account cannot have the form of a day \({name}\)"):
        plan_job(a_job(settings=Settings(ids=("1", name))), NOW)


def test_rows_that_a_merged_stream_keeps_of_other_settings_are_noted() -> None:
    """
    A merged stream keeps them, and a notice says so; a report replaces them.
    """
    day = date(2026, 8, 5)
    plans = []
    for stream, values in (("clicks", (("account_id", "1"),)), ("leads", ())):
        last = "report_date" if stream == "clicks" else "updated_day"
        partition = Partition(stream, (*values, (last, day.isoformat())))
        entry = LedgerEntry(
            source="acme", partition=partition, state="delivered", run_id="r", read_at=NOW, fingerprint="a test system"
        )
        target = FakeTarget(FakeLedger({partition: entry}))
        plans.append(plan_job(a_job(target, streams=(stream,), since=day, until=day), NOW))

    assert [[one.reason for one in plan.partitions] for plan in plans] == [["changed"], ["changed"]]
    assert ["rows that only former readings have" in text for plan in plans for text in plan.notices] == [True]


@both_targets
@pytest.mark.parametrize(
    ("bad", "reader", "reasons"),
    [
        ({"rejected": 1}, "today's", []),
        ({"rejected": 1}, "another", ["changed"]),
        ({}, "another", ["changed"]),
        ({"rejected": 1}, "", ["changed"]),
        ({"unread_values": 1}, "another", ["changed"]),
        ({}, "", []),
    ],
    ids=["same reader", "another", "another, for another day of the request", "unknown", "unread values", "nothing"],
)
def test_a_day_with_rejected_records_is_read_by_a_new_reader(
    bad: dict[str, int], reader: str, reasons: list[str], target_of: type[FakeTarget]
) -> None:
    """
    The reader is the record class and the connector's version: what it could not read, another may.
    """
    day = "2026-08-05"
    job = a_job(since=date.fromisoformat(day), until=date.fromisoformat(day))
    known = reader_version(job.source, CLICKS) if reader == "today's" else reader
    held = dict([read(day, datetime(2026, 8, 12, 1, tzinfo=UTC), reader_version=known, **bad)])
    job = evolve(job, sink=FakeSink(target_of(FakeLedger(held))))

    assert [one.reason for one in plan_job(job, NOW).partitions] == reasons


def test_the_reader_is_the_record_class_and_the_version() -> None:
    """
    Another column, or another version of the connector, is another reader.
    """

    @record()
    class Wider:
        id: str
        name: str | None = None

    source = a_job().source
    assert reader_version(source, CLICKS) == reader_version(a_job().source, CLICKS)
    assert reader_version(source, evolve(CLICKS, record=Wider)) != reader_version(source, CLICKS)
    assert reader_version(evolve(source, version="2"), CLICKS) != reader_version(source, CLICKS)


def test_reports_under_way_are_looked_up_by_account() -> None:
    """
    The days of a report stay together as submitted, for its own account; another account's reports do not matter.
    """

    def days(account: str, *numbers: int) -> tuple[Partition, ...]:
        return tuple(Partition("clicks", (("account_id", account), ("report_date", f"2026-08-0{n}"))) for n in numbers)

    reports = tuple(
        PendingReport(
            source="s", stream="clicks", handle=str(at), request="", partitions=one, submitted_at=NOW, fingerprint=""
        )
        for at, one in enumerate((days("1", 2, 3), days("2", 1, 2)))
    )
    settings = Settings(ids=("1", "2"))
    job = a_job(since=date(2026, 8, 1), until=date(2026, 8, 3), settings=settings)
    stream = evolve(CLICKS, poller=object(), days_per_request=3)
    planner = Planner(job, NOW, FakeTarget(FakeLedger(reports=reports)))

    slices = planner.plan_stream(stream, ["1", "2"]).slices

    found = [[partition.as_dict()["report_date"][-1] for partition in planned.partitions] for planned in slices]
    assert found == [["1"], ["2", "3"], ["1", "2"], ["3"]]


def test_each_worker_reads_a_delivered_list_of_accounts() -> None:
    """
    A worker that found it delivered would read none of its accounts.
    """
    listed = LedgerEntry(source="s", partition=Partition("accounts"), state="delivered", run_id="r", read_at=NOW)
    target: Any = FakeTarget(FakeLedger({listed.partition: listed}))

    planner = Planner(a_job(target, streams=("accounts", "clicks")), NOW, target, "r")

    assert [str(one.partitions[0]) for one in planner.plan_stream(ACCOUNTS, [None]).slices] == ["accounts"]
