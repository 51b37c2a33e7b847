"""
A reading in the libraries that take Arrow streams: the recipes of docs/python.md, and errors inside of a query.

Needs the dependency group ``readers`` (make test-all installs it).
"""

import datetime
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import time_machine
from command_in_subprocess import configure
from penstock import CountMismatchError, Project, SandboxRequest, SandboxResponse
from penstock.sandbox.server import Server, serve
from providers import TALROO, TODAY, Provider

pytestmark = pytest.mark.large

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
RECIPES = re.findall(r"<!-- readers -->\n```python\n(# (\w+).*?)```", PAGE.read_text(), re.DOTALL)
YESTERDAY = TODAY - datetime.timedelta(days=1)

AS_ROWS: dict[str, Callable[[Any], list[dict[str, Any]]]] = {
    "DuckDB": lambda found: [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()],
    "Polars": lambda found: found.to_dicts(),
    "pandas": lambda found: found.to_dict("records"),
}


def _polars(records: Any) -> Any:
    import polars

    return polars.scan_arrow_c_stream(records).select("report_date", "price_amount").collect().to_dicts()


def _duckdb(records: Any) -> Any:
    import duckdb

    return AS_ROWS["DuckDB"](duckdb.sql("select report_date, price_amount from records"))


def _pandas(records: Any) -> Any:
    import pandas

    return pandas.DataFrame.from_arrow(records)[["report_date", "price_amount"]].to_dict("records")


def _pyarrow(records: Any) -> Any:
    import pyarrow

    return pyarrow.table(records).select(["report_date", "price_amount"]).to_pylist()


QUERIES = {"Polars": _polars, "DuckDB": _duckdb, "pandas": _pandas, "pyarrow": _pyarrow}


@pytest.fixture
def talroo(working_directory: Path) -> Iterator[Server]:
    """Talroo's imitation on the day of the tests, and a configuration for it."""
    noon = datetime.datetime.combine(TODAY, datetime.time(12), datetime.UTC)
    with time_machine.travel(noon, tick=True), serve() as server:
        server.app = TALROO.make(server.base_url, TODAY)
        configure(working_directory, TALROO, server.base_url)
        yield server


def truth(provider: Provider, app: Any, day: datetime.date) -> list[dict[str, Any]]:
    return [row for rows in provider.expected(app, [day]).values() for row in rows]


def cents(rows: list[dict[str, Any]]) -> Decimal:
    return sum((Decimal(row["price"]) for row in rows), Decimal(0)) / 100


@pytest.mark.parametrize(("recipe", "name"), RECIPES, ids=[name for _, name in RECIPES])
def test_a_recipe_reads_yesterdays_clicks(recipe: str, name: str, talroo: Server) -> None:
    """
    A recipe reads in each library all clicks of the day, text for ids, a date for the day and the exact sum of the
    money.
    """
    expected = truth(TALROO, talroo.app, YESTERDAY)
    scope: dict[str, Any] = {}

    exec(recipe, scope)
    rows = AS_ROWS[name](scope["clicks"])

    assert len(rows) == len(expected) > 0
    assert {type(row["advertiser_id"]) for row in rows} == {str}
    assert {row["report_date"] for row in rows} == {YESTERDAY}
    assert sum(row["price_amount"] for row in rows) == cents(expected)


def test_every_recipe_is_run() -> None:
    """
    There is one recipe for each library of this module.
    """
    assert {name for _, name in RECIPES} == set(AS_ROWS)


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_is_exact(name: str, talroo: Server) -> None:
    """
    A reading in a query, twice: it is read anew.
    """
    expected = cents(truth(TALROO, talroo.app, YESTERDAY))
    records = Project("penstock.toml").read("talroo", "clicks", since="yesterday")

    for _ in range(2):
        assert sum(row["price_amount"] for row in QUERIES[name](records)) == expected


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_raises_the_error_of_the_reading(name: str, talroo: Server) -> None:
    """
    A day with fewer clicks than the provider states is no shorter frame: the library raises, and the error is kept.
    """
    app: Any = talroo.app

    def short(request: SandboxRequest) -> SandboxResponse:
        response: SandboxResponse = app(request)
        return SandboxResponse(
            status=response.status, body=re.sub(rb'("total_clicks": ?"?)\d+', rb"\g<1>999", response.body)
        )

    talroo.app = short
    records = Project("penstock.toml", sets=("source.talroo.retries=0",)).read("talroo", "clicks", since="yesterday")

    with pytest.raises(Exception, match="the provider states 999 records"):
        QUERIES[name](records)

    assert isinstance(records.error, CountMismatchError)
