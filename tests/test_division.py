"""
The division of a run: which shard reads what, by a pure function; and shards, each a process of its own.
"""

import math
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import attrs
import market
import penstock_plugins
import pytest
from configured_source import a_source
from divided_market_runs import MarketRuns
from hypothesis import given, strategies as st
from market import ALL, WINDOW, Market
from penstock import LockHeldError, LockShare, Parent, Project, Secret, UsageError
from penstock._fetch.limits import RateLimit
from penstock._plan.division import BLOCK_DAYS, Division, Shard, Unit, block_days, divide, divide_by_names, unit_of
from penstock.sandbox.server import serve
from penstock.testing import FakeClock
from penstock.testing.sinks import SOURCE
from penstock_plugins.files.jsonl import JsonLines
from penstock_plugins.files.sink import FileSink
from penstock_plugins.postgres.sink import PostgresSink
from postgres_server import server as postgres

pytestmark = pytest.mark.slow


def units(count: int, source: str = "shop") -> dict[Unit, int]:
    return {Unit(source, f"account{number}"): number + 1 for number in range(count)}


# --- the function -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 16])
def test_every_unit_has_one_shard(shards: int) -> None:
    """
    Each unit belongs to exactly one shard, known beforehand or not, and always to the same.
    """
    known = units(40)
    for division in (divide(shards, {"shop": 8}), divide(shards, {"shop": 8}, known, ["shop"])):
        for unit in [*known, Unit("shop", "a new one"), Unit("shop", None, "offers")]:
            shard = division.shard_of_unit(unit)
            assert 1 <= shard <= shards
            assert shard in division.shards_by_source["shop"]
    one, other = divide(shards, {"shop": 8}, known), divide(shards, {"shop": 8}, dict(reversed(known.items())))
    assert [one.shard_of_unit(unit) for unit in known] == [other.shard_of_unit(unit) for unit in known]


def test_a_shard_does_not_depend_on_other_accounts() -> None:
    """
    The shard of an account follows from its name: of two processes that know other accounts, exactly one reads it.
    """
    assert [divide(4, {"shop": 8, "other": 2}).shard_of_unit(Unit("shop", name)) for name in "abcdefgh"] == [
        divide(4, {"shop": 8}).shard_of_unit(Unit("shop", name)) for name in "abcdefgh"
    ]
    assert Counter(divide(4, {"shop": 8}).shard_of_unit(Unit("shop", f"account {n}")) for n in range(400)).keys() == {
        1,
        2,
        3,
        4,
    }


def test_known_work_is_dealt_evenly() -> None:
    """
    With known weights the shards have about the same work, the heaviest unit first.
    """
    known = units(20)
    division = divide(4, {"shop": 8}, known)

    load = Counter[int]()
    for unit, weight in known.items():
        load[division.shard_of_unit(unit)] += weight
    assert max(load.values()) <= 1.05 * sum(known.values()) / 4


def test_a_source_has_no_more_shards_than_requests_at_once() -> None:
    """
    A source that allows two requests at once is read by two shards at most, however many accounts it has.
    """
    for division in (
        divide(16, {"shop": 2, "other": 1}),
        divide(16, {"shop": 2, "other": 1}, units(40) | units(9, "other")),
    ):
        assert (len(division.shards_by_source["shop"]), len(division.shards_by_source["other"])) == (2, 1)


def test_without_listed_accounts_a_shard_without_work_holds_nothing() -> None:
    """
    Two accounts need two shards, so that their source's limits are shared among two.
    """
    assert len(divide(8, {"shop": 8}, units(2)).shards_by_source["shop"]) == 2
    assert len(divide(8, {"shop": 8}, units(2), ["shop"]).shards_by_source["shop"]) == 8


def many_source(**more: Any) -> Any:
    settings = market.MarketSettings(base_url="http://127.0.0.1:1", password=Secret("sesame"), **more)
    return a_source(*market.STREAMS, name="market", settings=settings)


def test_shares_of_the_limits_make_the_whole() -> None:
    """
    The shards of a source together make no more requests, at once and per second, than the source alone.
    """
    source = many_source(concurrency=7, requests_per_second=3.0)
    division = divide(3, {"market": 7})
    settings = [Shard(division=division, number=number).with_share_of_limits(source).settings for number in (1, 2, 3)]

    assert sorted(one.concurrency for one in settings) == [2, 2, 3]
    assert sum(one.requests_per_second for one in settings) == pytest.approx(3.0)


@given(
    rate=st.one_of(st.integers(1, 60).map(float), st.floats(0.1, 60)),
    workers=st.integers(1, 9),
    waits=st.lists(st.tuples(st.integers(0, 8), st.floats(0, 1.5)), min_size=20, max_size=60),
)
def test_no_second_has_more_requests_than_the_source_allows(
    rate: float, workers: int, waits: list[tuple[int, float]]
) -> None:
    """
    However the shards coincide, together they start no more requests in any second than one process does.
    """
    source = many_source(concurrency=9, requests_per_second=rate)
    division = divide_by_names(workers, [source])
    starts = []
    for number in division.shards_by_source["market"]:
        clock = FakeClock()
        limit = RateLimit(
            clock, Shard(division=division, number=number).with_share_of_limits(source).requests_per_second
        )
        for shard, wait in waits:
            clock.advance(wait if shard == number else 0.0)
            limit.wait_turn()
            starts.append(clock.monotonic())

    for start in starts:
        # a start that coincides with the end of a second belongs to the next one
        assert sum(start <= one < start + 1 - 1e-6 for one in starts) <= math.ceil(rate)


def test_dependent_streams_stay_together() -> None:
    """
    A child is in the shard of its parent, with and without accounts.
    """
    source = many_source()
    for shards in (2, 3, 5):
        division: Division = divide(shards, {"market": 8})
        for shop in market.SHOPS:
            homes = {
                number
                for number in range(1, shards + 1)
                for stream in ("items", "stock", "orders", "events")
                if Shard(division=division, number=number).has_account(source, source.stream(stream), shop)
            }
            assert len(homes) == 1


def days(count: int) -> list[date]:
    return [market.FIRST + timedelta(days=number) for number in range(count)]


def test_the_days_of_a_report_are_divided() -> None:
    """
    Every day of an account is read by exactly one shard, and a year of one account is shared evenly by sixteen.
    """
    source = many_source(concurrency=16)
    sales, year = source.stream("sales"), days(365)
    division = divide_by_names(16, [source])
    shares = [Shard(division=division, number=number) for number in range(1, 17)]
    read = [share.days_in_shard(source, sales, "shop1", year) for share in shares]

    assert sorted(day for own in read for day in own) == year
    assert max(map(len, read)) == 3 * BLOCK_DAYS
    assert min(map(len, read)) > BLOCK_DAYS


def test_days_that_belong_together_are_not_divided() -> None:
    """
    An account's changes, snapshots and reports on demand are read by one shard; a block of days holds whole requests.
    """
    source = many_source()
    assert {name: block_days(source, source.stream(name)) for name in ALL} == {
        **dict.fromkeys(ALL, 0),
        "sales": BLOCK_DAYS,
    }
    for stream in ("events", "orders"):
        assert len({unit_of(source, source.stream(stream), "shop1", day) for day in days(100)}) == 1
    for several in (3, 8, 31):
        sales = attrs.evolve(source.stream("sales"), days_per_request=several, day_of="day")
        assert block_days(source, sales) % several == 0
        assert BLOCK_DAYS <= block_days(source, sales) < BLOCK_DAYS + several


@pytest.mark.parametrize("role", ["parent", "listing"])
def test_a_report_that_others_depend_on_is_not_divided(role: str) -> None:
    """
    The children of a report, and the streams that are divided by its rows, need all of its days in one shard.
    """
    source = many_source()
    child = attrs.evolve(
        source.stream("items"),
        parent=Parent(stream="sales", columns=("id",)) if role == "parent" else None,
        accounts_from=("sales", "id") if role == "listing" else None,
    )
    source = attrs.evolve(source, streams=(source.stream("sales"), child))

    assert block_days(source, source.stream("sales")) == 0


# --- shards -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["jsonl", "postgres"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MarketRuns]:
    with serve(app := Market()) as server, postgres().database() as dsn:
        made = MarketRuns(app, tmp_path, f"jsonl:{tmp_path / 'out'}" if request.param == "jsonl" else dsn)
        made.configure(server.base_url, concurrency=4, shops=list(market.SHOPS))
        yield made
        assert server.errors == []


@pytest.mark.parametrize(
    ("world", "listed"),
    [
        ("jsonl", True),
        ("postgres", False),
        pytest.param("jsonl", False, marks=pytest.mark.large),
        pytest.param("postgres", True, marks=pytest.mark.large),
    ],
    ids=["jsonl-listed", "postgres-configured", "jsonl-configured", "postgres-listed"],
    indirect=["world"],
)
def test_shards_at_once_leave_the_rows_of_one_run(world: MarketRuns, listed: bool) -> None:
    """
    Three shards that run at once write exactly the rows of one run, whether the accounts are configured or listed; no
    report is requested twice. A run of everything has then only open partitions to read.
    """
    if listed:
        base_url = (world.folder / "penstock.toml").read_text().split('base_url = "')[1].partition('"')[0]
        world.configure(base_url, concurrency=4)
    world.app.slow_s = 0.01

    shards = [world.start(f"shard={number}/3") for number in (1, 2, 3)]
    for shard in shards:
        _, printed = shard.communicate()
        assert shard.returncode == 0, printed

    world.assert_true()
    assert world.app.at_once <= 4
    assert len(set(world.app.submitted)) == len(world.app.submitted)
    world.app.counts.clear()
    code, printed = world.finished()
    assert code == 0, printed
    assert "sales" not in world.app.counts
    world.assert_true()


def test_the_plan_names_the_shard_of_each_partition(tmp_path: Path) -> None:
    """
    ``plan`` with shards gives each partition the number of the shard that reads it; a shard's plan has no others.
    """
    settings = {"base_url": "http://127.0.0.1:1", "password": "sesame", "shops": list(market.SHOPS)}
    project = Project({"source": {"market": settings}}, plugins=[market, penstock_plugins])

    plan = project.plan("market", since=WINDOW[0], until=WINDOW[1], shards=3)

    by_shop: dict[str, set[int | None]] = {}
    for one in plan.partitions:
        if one.partition.stream != "sales":  # whose days are divided
            by_shop.setdefault(one.partition.as_dict().get("shop", ""), set()).add(one.shard)
    assert {shop for shop, found in by_shop.items() if len(found) == 1} == {"", *market.SHOPS}
    assert all(one.shard in (1, 2, 3) for one in plan.partitions)
    assert sum(count for count, _ in plan.shards.values()) == len(plan.partitions)


def test_a_source_of_one_request_at_once_is_read_by_one_shard(tmp_path: Path) -> None:
    """
    Another shard reads nothing, and a notice states why.
    """
    settings = {"base_url": "http://127.0.0.1:1", "password": "sesame", "shops": list(market.SHOPS), "concurrency": 1}
    project = Project({"source": {"market": settings}}, plugins=[market, penstock_plugins])
    plan = project.plan("market", since=WINDOW[0], until=WINDOW[1], shards=2)
    (reading,) = {one.shard for one in plan.partitions}

    result = project.run("market", to=f"jsonl:{tmp_path}", since=WINDOW[0], shard=f"{3 - (reading or 0)}/2")

    assert result.exit_code == 0
    assert "market allows 1 request at once, so 1 of 2 shards read it; not this one" in result.notices


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "1/99999", "-1/2"])
def test_a_text_that_names_no_shard_is_refused(text: str) -> None:
    """
    A text that names no shard is refused.
    """
    project = Project(
        {"source": {"market": {"base_url": "http://127.0.0.1:1", "password": "sesame"}}},
        plugins=[market, penstock_plugins],
    )

    with pytest.raises(UsageError, match="3/16"):
        project.run("market", to="jsonl:out", shard=text)


def test_a_target_for_one_process_refuses_shards(tmp_path: Path) -> None:
    """
    A single file and standard output are written by one process only.
    """
    settings = {"base_url": "http://127.0.0.1:1", "password": "sesame", "shops": ["shop1"]}
    project = Project({"source": {"market": settings}}, plugins=[market, penstock_plugins])

    with pytest.raises(UsageError, match="several processes"):
        project.run("market", to=f"jsonl:{tmp_path}/one.jsonl", streams=["sales"], shard="1/2")


# --- the lock of shards -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["jsonl", "postgres"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "jsonl":
        yield FileSink(directory=tmp_path / "out", codec=JsonLines())
        return
    with postgres().database() as dsn:
        yield PostgresSink(dsn=Secret(dsn), lock_wait_ms=50)


def lock_share(name: str, division: str = "2 shards") -> LockShare:
    return LockShare(division=division, name=name)


def test_lock_shares_exclude_every_other_run(sink: Any) -> None:
    """
    Shares of one division open the target together. Another division, the same share again and a whole run are refused
    until the last share has ended.
    """
    first = sink.open(SOURCE, "r1", lock_share=lock_share("1"))
    second = sink.open(SOURCE, "r2", lock_share=lock_share("2"))
    for refused in (
        lambda: sink.open(SOURCE, "r3"),
        lambda: sink.open(SOURCE, "r3", lock_share=lock_share("2")),
        lambda: sink.open(SOURCE, "r3", lock_share=lock_share("1", "3 shards")),
    ):
        with pytest.raises(LockHeldError):
            refused()
    first.close()
    with pytest.raises(LockHeldError):
        sink.open(SOURCE, "r4")
    third = sink.open(SOURCE, "r5", lock_share=lock_share("1"))
    third.close()
    second.close()

    sink.open(SOURCE, "r6").close()
    sink.open(SOURCE, "r7", lock_share=lock_share("1", "3 shards")).close()


@pytest.mark.parametrize("source", [SOURCE, "another"])
def test_two_machines_do_not_share_a_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """
    On a shared file system, a shard, or a run of another source, is refused while those of another machine write:
    SQLite's log cannot be shared.
    """
    sink = FileSink(directory=tmp_path / "out", codec=JsonLines())
    first = sink.open(SOURCE, "r1", lock_share=lock_share("1"))
    with monkeypatch.context() as patch:
        patch.setattr("penstock_plugins.files.locks.machine", lambda: "another")
        with pytest.raises(
            LockHeldError, match="Machines cannot share the ledger, an SQLite file: start all runs and shards on one"
        ):
            sink.open(source, "r2", lock_share=lock_share("2") if source == SOURCE else None)
    sink.open(source, "r3", lock_share=lock_share("2") if source == SOURCE else None).close()
    first.close()
    with monkeypatch.context() as patch:
        patch.setattr("penstock_plugins.files.locks.machine", lambda: "another")
        sink.open(SOURCE, "r4").close()


def test_a_run_excludes_parts(sink: Any) -> None:
    """
    A shard is refused while a whole run writes the source.
    """
    whole = sink.open(SOURCE, "r1")
    with pytest.raises(LockHeldError):
        sink.open(SOURCE, "r2", lock_share=lock_share("1"))
    whole.close()
