"""
Committed partitions for tools that pull (dlt), and the rows and hints made of them, without the tools.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve
from penstock import Batch, LedgerEntry, Partition, Project, ProviderError, Secret
from penstock.testing.conformance import QUICK
from penstock_plugins.integrations import dlt
from penstock_plugins.integrations.dlt import CommittedPartition, deliveries
from penstock_plugins.integrations.state_ledger import StateLedger
from providers import CONVERTR, TALROO, TODAY, Provider, bag, then

pytestmark = pytest.mark.slow

DAYS = [TODAY - timedelta(days=back) for back in range(6, 0, -1)]


@define
class World:
    provider: Provider
    app: Any
    project: Project

    def take(self, *streams: str, state: dict[str, Any] | None = None) -> Iterator[CommittedPartition]:
        layouts = self.project.layouts(self.provider.name, streams)
        ledger = StateLedger(layouts, streams)
        ledger.load(state or {})
        return deliveries(self.project, self.provider.name, ledger, since=DAYS[0], until=DAYS[-1])


@pytest.fixture
def world(request: pytest.FixtureRequest, working_directory: Path) -> Iterator[World]:
    provider: Provider = getattr(request, "param", TALROO)
    with provider.served() as (server, app):
        keys = {**provider.settings, **QUICK, "base_url": server.base_url}
        source = {key: Secret(one) if key in provider.secrets else one for key, one in keys.items()}
        project = Project(
            {"source": {provider.name: source}}, environ={}, clock=lambda stop: type(then())(then().now(), stop)
        )
        yield World(provider, app, project)


def test_each_partition_comes_once_also_without_rows(world: World) -> None:
    """
    Every partition of the window, and in all of them the rows that the provider has.
    """
    taken = list(world.take("clicks"))

    assert len({one.entry.partition for one in taken}) == len(taken) == 12
    rows = [row for one in taken for batch in one.batches for row in batch.dicts()]
    assert bag(rows) == bag(row for key in TALROO.parts(world.app, DAYS) for row in TALROO.truth(world.app, *key))
    assert any(not one.batches or not any(map(len, one.batches)) for one in taken), "no day of the window is empty"


def test_the_state_covers_the_partitions_that_were_taken(world: World) -> None:
    """
    The state after a partition covers it and those before; a run that goes on from there takes the rest.
    """
    layouts = world.project.layouts("talroo")
    ledger = StateLedger(layouts, ["clicks"])
    taken = deliveries(world.project, "talroo", ledger, since=DAYS[0], until=DAYS[-1])
    first = [next(taken) for _ in range(4)]
    state = ledger.state("clicks")
    taken.close()  # type: ignore[attr-defined]

    rest = list(world.take("clicks", state={"clicks": state}))
    final = {one.entry.partition for one in first if one.entry.is_final}
    assert final
    assert final.isdisjoint({one.entry.partition for one in rest})
    assert len(final) + len(rest) == 12


def test_a_failure_is_raised_after_the_rest(world: World) -> None:
    """
    The partitions that are well come first, then the error of the one that is not.
    """
    world.app.overstate(DAYS[2])
    taken = world.take("clicks")
    seen = []

    with pytest.raises(ProviderError, match="clicks"):
        seen.extend(taken)

    assert len(seen) == 10


def test_an_error_that_prevents_the_run_is_raised(world: World) -> None:
    """
    A stream that cannot be read, and an option that is wrong, raise where the partitions are taken.
    """
    ledger = StateLedger(world.project.layouts("talroo"), ["tocks"])
    with pytest.raises(Exception, match="tocks"):
        list(deliveries(world.project, "talroo", ledger))


# --- dlt --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [CONVERTR], indirect=True)
def test_how_streams_are_written(world: World) -> None:
    """
    Changes are merged by key, what is derived from them replaces its parent's rows, a snapshot replaces its table.
    """
    layouts = {one.stream: one for one in world.project.layouts("convertr")}

    merge = {"write_disposition": {"disposition": "merge", "strategy": "delete-insert"}}
    assert dlt.disposition_of(layouts["leads"]) == {**merge, "primary_key": ["id"]}
    assert dlt.disposition_of(layouts["lead_data"]) == {
        **merge,
        "primary_key": ["lead_id", "at_id"],
        "merge_key": ["lead_id"],
    }
    assert dlt.disposition_of(layouts["campaigns"]) == {"write_disposition": "replace"}
    assert not any(dlt.GONE in dlt.columns_of(one, 9) for one in layouts.values()), "a key would be deleted"


def test_a_report_replaces_its_partition(world: World) -> None:
    """
    Rows are replaced by account and day, with exact decimals; a partition without rows is one row that states it.
    """
    (clicks,) = world.project.layouts("talroo")

    assert dlt.disposition_of(clicks)["merge_key"] == ["advertiser_id", "report_date"]
    assert dlt.columns_of(clicks, 9)["price_amount"] == {
        "data_type": "decimal",
        "precision": 38,
        "scale": 9,
        "description": "what is paid",
        "nullable": True,
    }
    assert dlt.columns_of(clicks, 9)["time"]["timezone"] is False
    partition = Partition("clicks", (("advertiser_id", "2112"), ("report_date", "2026-03-01")))
    entry = LedgerEntry(source="talroo", partition=partition, state="delivered", run_id="r")
    row = dlt.gone(CommittedPartition(entry, ()), clicks)
    assert (row["advertiser_id"], row["report_date"], row[dlt.GONE]) == ("2112", date(2026, 3, 1), True)
    required = {name for name, one in dlt.columns_of(clicks, 9).items() if not one["nullable"]}
    assert all(row[name] is not None for name in required)


@pytest.mark.parametrize("world", [CONVERTR], indirect=True)
def test_of_a_key_on_two_days_the_later_row_is_kept(world: World) -> None:
    """
    In one load, dlt keeps one row of a key: that with the highest number, since changes state how it is sorted.
    """
    for name in ("leads", "lead_data"):
        (layout,) = [one for one in world.project.layouts("convertr") if one.stream == name]
        assert dlt.columns_of(layout, 9)[dlt.ORDER]["dedup_sort"] == "desc"
    state: dict[str, Any] = {}
    options = {"since": DAYS[0], "until": DAYS[-1]}
    (leads,) = world.project.layouts("convertr", ["leads"])[:1]

    rows = list(dlt.resource_rows(state, world.project, "convertr", [leads], leads, options))

    numbers = [{row[dlt.ORDER] for row in batch} for batch in rows]
    assert len(numbers) > 1
    assert numbers == [{number} for number in range(1, len(numbers) + 1)]


@pytest.mark.parametrize(
    ("text", "scale", "fits"),
    [
        ("0.123456789", 9, True),
        ("0.1234567891", 9, False),
        ("0.1234567890", 9, True),
        ("12345678901234567890.5", 0, False),
    ],
)
def test_a_decimal_is_never_rounded(world: World, text: str, scale: int, fits: bool) -> None:
    """
    More digits after the point than the column has are an error that names the remedy; zeros at the end are none.
    """
    (clicks,) = world.project.layouts("talroo")
    if fits:
        dlt.check_rounding([{"price_amount": Decimal(text)}, {"price_amount": None}], clicks, scale)
    else:
        with pytest.raises(ProviderError, match=r"decimal_scale=18"):
            dlt.check_rounding([{"price_amount": Decimal(text)}], clicks, scale)


def test_nested_values_are_json_in_json(world: World) -> None:
    """
    dlt decodes a text of a JSON column once, with floats: what is inside keeps its digits.
    """
    (clicks,) = world.project.layouts("talroo")
    batch = next(batch for one in world.take("clicks") for batch in one.batches if batch.rows)
    batch = evolve(batch, rows=batch.rows[:1])
    batch.rows[0]._extra = {"rate": Decimal("0.10")}

    ((row,),) = dlt.rows_of(CommittedPartition(entry=None, batches=[batch]), clicks, count())  # type: ignore[arg-type]
    assert row["_extra"] == '"{\\"rate\\":0.10}"'
    assert isinstance(batch, Batch)
