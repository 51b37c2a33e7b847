"""
The records of a stream of changes that were read again replace their former ones, and the rows that are derived from
these, in every target: in whatever way a value of the key is written, and of however many columns the key is. What has
another type now is not merged, nor put beside files that have the former one.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import penstock_plugins
import psycopg
import pytest
from attrs import evolve
from penstock import (
    Connector,
    Derived,
    Envelope,
    Json,
    Project,
    Request,
    SandboxRequest,
    SandboxResponse,
    Slice,
    SourceSettings,
    Stream,
    TargetError,
    added,
    column,
    record,
)
from penstock.connector import ConnectorPlugin
from penstock.sandbox.server import serve
from penstock.testing import FakeClock
from postgres_server import server as postgres

pytestmark = pytest.mark.slow

NOW = datetime(2026, 6, 10, 8, tzinfo=UTC)
DAYS: dict[str, Any] = {"since": date(2026, 6, 1), "until": date(2026, 6, 2)}
duckdb = pytest.importorskip("duckdb", reason="needs the dependency group readers")
pytest.importorskip("pyarrow", reason="needs the dependency group readers")

KINDS = ["jsonl", "csv", "parquet", "duckdb", "postgres"]
Items = Mapping[str, Sequence[str]]
"""The items of each day, as the provider writes them."""


@record()
class Price:
    shop: str = added()
    day: date = added()
    id: Decimal
    note: str


@record()
class Visit:
    shop: str = added()
    day: date = added()
    id: datetime
    note: str


@record()
class Sale:
    shop: str = added()
    day: date = added()
    region: str
    id: int
    lines: Json | None = None


@record()
class Line:
    sale: str = added()
    region: str = added()
    note: str


@record()
class LineOfShop:
    sale: int = added()
    note: str


def requests(settings: SourceSettings, slice_: Slice) -> Iterator[Request]:
    yield Request(url=f"{settings.base_url}/sales", params=(("day", str(slice_.since)),))


def changes(record_class: type, key: str | tuple[str, ...]) -> Stream:
    return Stream(
        name="sales",
        summary="What was sold",
        record=record_class,
        kind="changes",
        key=key,
        account="shop",
        accounts=lambda settings: ("7",),
        day="day",
        requests=requests,
        envelope=Envelope(items="items"),
    )


def lines(record_class: type, stamps: Mapping[str, str]) -> Stream:
    return Stream(
        name="lines",
        summary="The lines of a sale",
        record=record_class,
        kind="changes",
        key=(*stamps, "note"),
        derived=Derived(stream="sales", column="lines", stamps=stamps),
    )


@pytest.fixture(params=KINDS)
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A sink of each kind."""
    kind: str = request.param
    if kind == "postgres":
        with postgres().database() as dsn:
            yield {"kind": kind, "dsn": dsn}
    else:
        yield {"kind": kind, "path": str(tmp_path / ("target.duckdb" if kind == "duckdb" else "target"))}


@contextmanager
def projects_of(sink: Mapping[str, Any], items: Items) -> Iterator[Callable[..., Project]]:
    """The project of a connector with some streams, whose provider returns ``items``, which a test may change."""

    def answer(request: SandboxRequest) -> SandboxResponse:
        day = request.query.removeprefix("day=")
        return SandboxResponse(body=f'{{"items": [{", ".join(items.get(day, ()))}]}}'.encode())

    with serve(answer) as server:

        def project_of(*streams: Stream) -> Project:
            connector = Connector(name="acme", summary="", settings=SourceSettings, streams=streams)
            return Project(
                {"source": {"acme": {"base_url": server.base_url}}, "sink": {"there": dict(sink)}},
                plugins=(ConnectorPlugin(connector), penstock_plugins),
                environ={},
                clock=partial(FakeClock, NOW),
            )

        yield project_of


def notes_after(sink: Mapping[str, Any], streams: Sequence[Stream], *readings: Items) -> list[str]:
    """The column ``note`` of the last stream, sorted, after a run for each of these readings."""
    items: dict[str, Sequence[str]] = {}
    with projects_of(sink, items) as project_of:
        project = project_of(*streams)
        for reading in readings:
            items |= reading
            assert project.run("acme", to="there", full=True, **DAYS).exit_code == 0
        assert not project.verify("acme", to="there").differences
    return sorted(_notes(sink, streams[-1].name))


def _notes(sink: Mapping[str, Any], stream: str) -> Iterator[str]:
    if sink["kind"] == "postgres":
        with psycopg.connect(sink["dsn"]) as connection:
            rows = connection.execute(f"select note from acme.{stream}").fetchall()
    elif sink["kind"] == "duckdb":
        with duckdb.connect(sink["path"], read_only=True) as connection:
            rows = connection.sql(f"select note from acme.{stream}").fetchall()
    else:
        read = {"jsonl": "json", "csv": "csv", "parquet": "parquet"}[sink["kind"]]
        limit = ", max_line_size = 1000000" if read == "csv" else ""
        files = f"{sink['path']}/acme/{stream}/**/*.{sink['kind']}{'.gz' if sink.get('gzip') else ''}"
        rows = duckdb.sql(f"select note from read_{read}('{files}', hive_partitioning = false{limit})").fetchall()
    yield from (note for (note,) in rows)


@pytest.mark.parametrize(
    ("record_class", "former", "latter"),
    [
        pytest.param(Price, "1.50", "1.5", id="a decimal with other digits"),
        pytest.param(Price, "100", "1e2", id="a decimal with an exponent"),
        pytest.param(Visit, '"2026-05-01T00:00:00Z"', '"2026-05-01T02:00:00+02:00"', id="a time in another zone"),
    ],
)
def test_a_key_that_is_written_otherwise_is_the_same_key(
    sink: dict[str, Any], record_class: type, former: str, latter: str
) -> None:
    """
    One row is left of a record that came with its key in two forms.
    """
    first = {"2026-06-01": [f'{{"id": {former}, "note": "former"}}']}
    second = {"2026-06-02": [f'{{"id": {latter}, "note": "latter"}}']}

    assert notes_after(sink, [changes(record_class, "id")], first, second) == ["latter"]


@pytest.mark.parametrize(
    ("key", "derived"),
    [
        pytest.param(("region", "id"), lines(Line, {"sale": "id", "region": "region"}), id="stamps in another order"),
        pytest.param(("id", "shop"), lines(LineOfShop, {"sale": "id"}), id="the account is a part of the key"),
        pytest.param("id", lines(Line, {"sale": "id", "region": "region"}), id="stamps beyond the key"),
        pytest.param("id", lines(LineOfShop, {"sale": "id"}), id="one column"),
    ],
)
def test_rows_derived_from_a_record_are_replaced_with_it(
    sink: dict[str, Any], key: str | tuple[str, ...], derived: Stream
) -> None:
    """
    The derived rows of a record that is read again are those of its last reading; those of others stay.
    """

    def sale(region: str, number: int, note: str) -> str:
        return json.dumps({"region": region, "id": number, "lines": [{"note": note}]})

    first = {"2026-06-01": [sale("1", 2, "former"), sale("2", 1, "other")]}
    second = {"2026-06-02": [sale("1", 2, "latter")]}

    assert notes_after(sink, [changes(Sale, key), derived], first, second) == ["latter", "other"]


@record()
class PricedSale:
    shop: str = added()
    day: date = added()
    id: Decimal
    lines: Json | None = None


@record()
class LineOfText:
    sale: str = added()
    note: str


def test_rows_derived_from_a_key_that_is_written_otherwise_are_replaced(sink: dict[str, Any]) -> None:
    """
    The text of a parent's key in derived rows is compared as the key is.
    """
    readings = [
        {f"2026-06-0{day}": [f'{{"id": {key}, "lines": [{{"note": "{note}"}}]}}']}
        for day, key, note in ((1, "1.50", "former"), (2, "1.5", "latter"))
    ]
    streams = [changes(PricedSale, "id"), lines(LineOfText, {"sale": "id"})]

    assert notes_after(sink, streams, *readings) == ["latter"]


def test_derived_rows_that_are_all_gone_are_not_lost(sink: dict[str, Any]) -> None:
    """
    Where the last record with derived rows comes again without any, no day counts as missing.
    """
    items: dict[str, Sequence[str]] = {"2026-06-01": ['{"region": "1", "id": 1, "lines": [{"note": "former"}]}']}
    with projects_of(sink, items) as project_of:
        project = project_of(changes(Sale, "id"), lines(LineOfShop, {"sale": "id"}))
        assert project.run("acme", to="there", **DAYS).exit_code == 0
        items |= {"2026-06-02": ['{"region": "1", "id": 1, "lines": []}']}
        assert project.run("acme", to="there", full=True, **{**DAYS, "since": DAYS["until"]}).exit_code == 0

        assert not project.verify("acme", to="there").differences
        assert not project.plan("acme", to="there", **DAYS).partitions
        items |= {"2026-06-01": [], "2026-06-02": ['{"region": "1", "id": 2, "lines": [{"note": "latter"}]}']}
        again = project.run("acme", to="there", full=True, **{**DAYS, "since": DAYS["until"]})
        assert (again.exit_code, again.report["notices"]) == (0, [])
        assert not project.verify("acme", to="there").differences
    assert list(_notes(sink, "lines")) == ["latter"]


def test_a_long_text_is_merged(sink: dict[str, Any]) -> None:
    """
    A text of any length is merged as a short one is, beside its key.
    """
    first, second = "a" * 200_000, "b" * 200_000
    readings = [{"2026-06-01": [f'{{"id": 1, "note": "{note}"}}']} for note in (first, second)]

    assert notes_after(sink, [changes(Price, "id")], *readings) == [second]


@record()
class Counted:
    shop: str = added()
    day: date = added()
    id: int
    value: int


@record()
class Local:
    shop: str = added()
    day: date = added()
    id: int
    value: datetime = column(zone="naive")


@record()
class Moment:
    shop: str = added()
    day: date = added()
    id: int
    value: datetime


@record()
class Dated:
    shop: str = added()
    day: date = added()
    id: int
    value: date


@record()
class Asked:
    shop: str = added()
    day: date = added()
    id: int
    value: bool


@record()
class Unvalued:
    shop: str = added()
    day: date = added()
    id: int


@record()
class Price2:
    shop: str = added()
    day: date = added()
    id: int
    value: Decimal = column(decimal_scale=2)


@record()
class Price4:
    shop: str = added()
    day: date = added()
    id: int
    value: Decimal = column(decimal_scale=4)


def report(record_class: type) -> Stream:
    return evolve(changes(record_class, "id"), kind="report")


OTHER_TYPES = [
    pytest.param(Counted, "5", Asked, "true", id="a number as a boolean"),
    pytest.param(Counted, "5", Moment, '"2026-05-01T00:00:00Z"', id="a number as a time"),
    pytest.param(Local, '"2026-05-01T10:00:00"', Moment, '"2026-05-01T00:00:00Z"', id="a local time as one of UTC"),
    pytest.param(Moment, '"2026-05-01T10:00:00Z"', Dated, '"2026-05-01"', id="a time as its day"),
]


@pytest.mark.parametrize("kind", ["report", "changes"])
@pytest.mark.parametrize(
    ("former", "value", "latter", "other"),
    [
        *OTHER_TYPES,
        pytest.param(Price4, "1.2345", Price2, "1.25", id="a decimal of another scale"),
        pytest.param(Counted, "5", Price2, "1.25", id="a whole number as a decimal"),
        pytest.param(Price2, "1.25", Counted, "5", id="a decimal as a whole number"),
    ],
)
def test_typed_files_of_contradicting_types_are_refused(
    tmp_path: Path, kind: str, former: type, value: str, latter: type, other: str
) -> None:
    """
    Readers of both files of Parquet would round or shift the former values, or fail. Nothing is requested. After the
    directory was moved away the days are read anew.
    """
    items: dict[str, Sequence[str]] = {"2026-06-01": [f'{{"id": 1, "value": {value}}}']}
    streams = [changes(former, "id"), changes(latter, "id")] if kind == "changes" else [report(former), report(latter)]
    with projects_of({"kind": "parquet", "path": str(tmp_path)}, items) as project_of:
        assert project_of(streams[0]).run("acme", to="there", **DAYS).exit_code == 0
        items |= {"2026-06-01": [f'{{"id": 2, "value": {other}}}']}
        project = project_of(streams[1])
        with pytest.raises(TargetError, match=r"they have value as .*, and .* now, so that readers would round or"):
            project.run("acme", to="there", **DAYS)

        (tmp_path / "acme" / "sales").rename(tmp_path / "former")
        assert project.run("acme", to="there", **DAYS).exit_code == 0
    files = f"{tmp_path}/acme/sales/**/*.parquet"
    assert duckdb.sql(f"select id from read_parquet('{files}') ").fetchall() == [(2,)]


@pytest.mark.parametrize("kind", ["report", "changes"])
@pytest.mark.parametrize(("former", "value", "latter", "other"), OTHER_TYPES)
def test_a_type_that_contradicts_is_refused_after_a_version_without_the_column(
    tmp_path: Path, kind: str, former: type, value: str, latter: type, other: str
) -> None:
    """
    A column that was gone for a version, and comes back with another type: files have its former values. Nothing is
    requested, and the files are left as they are. After the directory was moved away its types do not count.
    """
    items: dict[str, Sequence[str]] = {"2026-06-01": [f'{{"id": 1, "value": {value}}}']}
    one_day = {"full": True, "since": DAYS["until"], "until": DAYS["until"]}

    def stream(record_class: type) -> Stream:
        return changes(record_class, "id") if kind == "changes" else report(record_class)

    with projects_of({"kind": "parquet", "path": str(tmp_path)}, items) as project_of:
        assert project_of(stream(former)).run("acme", to="there", **DAYS).exit_code == 0
        items |= {"2026-06-02": ['{"id": 2}']}
        for _ in range(2):
            assert project_of(stream(Unvalued)).run("acme", to="there", **one_day).exit_code == 0
        contents = [path.read_bytes() for path in sorted(tmp_path.rglob("data.parquet"))]
        items |= {"2026-06-02": [f'{{"id": 2, "value": {other}}}']}
        with pytest.raises(TargetError, match=r"they have value as .*, and .* now, so that readers would round or"):
            project_of(stream(latter)).run("acme", to="there", **one_day)
        assert [path.read_bytes() for path in sorted(tmp_path.rglob("data.parquet"))] == contents

        (tmp_path / "acme" / "sales").rename(tmp_path / "former")
        for record_class in (Unvalued, latter):
            assert project_of(stream(record_class)).run("acme", to="there", **one_day).exit_code == 0


@record()
class Noted:
    shop: str = added()
    day: date = added()
    id: Decimal


@pytest.mark.parametrize(
    ("sink", "keys"),
    [*((kind, {}) for kind in KINDS), *((kind, {"gzip": True}) for kind in ("jsonl", "csv"))],
    indirect=["sink"],
)
def test_records_keep_the_values_of_a_column_that_is_gone(sink: dict[str, Any], keys: Mapping[str, Any]) -> None:
    """
    A record that is not read again keeps what it has in a column that its connector has no more, also where others are
    merged, and when the column comes back.
    """
    sink |= keys
    kept = 'kept, "whole"'
    former = [json.dumps({"id": 1, "note": kept}), json.dumps({"id": 2, "note": "b"})]
    items: dict[str, Sequence[str]] = {"2026-06-01": former}
    one_day = {"full": True, "since": DAYS["until"], "until": DAYS["until"]}
    with projects_of(sink, items) as project_of:
        assert project_of(changes(Price, "id")).run("acme", to="there", **DAYS).exit_code == 0
        for number in (2, 3):
            items |= {"2026-06-02": [f'{{"id": {number}}}']}
            assert project_of(changes(Noted, "id")).run("acme", to="there", **one_day).exit_code == 0
        assert kept in list(_notes(sink, "sales"))
        items |= {"2026-06-02": ['{"id": 3, "note": "back"}']}
        project = project_of(changes(Price, "id"))
        assert project.run("acme", to="there", **one_day).exit_code == 0
        assert not project.verify("acme", to="there").differences
    assert {kept, "back"} <= set(_notes(sink, "sales"))
