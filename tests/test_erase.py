"""
What was delivered goes: rows, also of days that were forgotten before; and personal columns that were delivered before
``include_personal = false``, after which targets hold what a reading of today would have delivered.
"""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import penstock_plugins
import psycopg
import pytest
from attrs import field, frozen
from penstock import (
    Connector,
    Derived,
    Envelope,
    Json,
    OpenFor,
    Project,
    Request,
    SandboxRequest,
    SandboxResponse,
    Secret,
    Slice,
    SourceSettings,
    Stream,
    TargetError,
    UsageError,
    added,
    column,
    personal,
    record,
    setting,
)
from penstock.connector import ConnectorPlugin
from penstock.ledger.partition_queries import PartitionQueries
from penstock.sandbox.server import Server, serve
from penstock.testing import FakeClock
from postgres_server import server as postgres

pytestmark = pytest.mark.slow

LIBRARIES = {"parquet": "pyarrow", "duckdb": "duckdb"}
NOW = datetime(2026, 6, 10, 8, tzinfo=UTC)
DAYS: dict[str, Any] = {"since": date(2026, 3, 1), "until": date(2026, 3, 2)}


@record()
class Lead:
    campaign: str = added()
    day: date = added()
    id: str
    clicks: int | None = column(additive=True)
    email: str | None = personal()
    born: date | None = personal()
    form: Json | None = column(hidden_personal=("phone", "answers.value"), default=None)
    answers: Json | None = column(hidden_personal=("value",), default=None)


@record()
class Answer:
    lead_id: str = added()
    name: str
    value: str | None = personal()


@frozen(kw_only=True)
class Settings(SourceSettings):
    base_url: str = setting("https://leads.example", help="where it answers")
    campaigns: tuple[str, ...] = setting(("7", "8"), help="the campaigns")


def requests(settings: Settings, slice_: Slice) -> Iterable[Request]:
    yield Request(url=f"{settings.base_url}/leads", params=(("of", slice_.account or ""), ("day", str(slice_.since))))


STREAMS = (
    Stream(
        name="leads",
        summary="Leads",
        record=Lead,
        kind="report",
        key="id",
        account="campaign",
        accounts=lambda settings: settings.campaigns,
        day="day",
        requests=requests,
        envelope=Envelope(items="leads", total="total"),
        open_for=OpenFor(30),
    ),
    Stream(
        name="answers",
        summary="Answers of a lead",
        record=Answer,
        kind="report",
        key=("lead_id", "name"),
        derived=Derived(stream="leads", column="answers", stamps={"lead_id": "id"}),
    ),
)
VISITS = Stream(
    name="visits",
    summary="Visits, which no test reads",
    record=Answer,
    kind="report",
    key=("lead_id", "name"),
    account="campaign",
    accounts=lambda settings: settings.campaigns,
    day="day",
    requests=requests,
    envelope=Envelope(items="visits"),
    on_by_default=False,
)
PLUGINS = (
    ConnectorPlugin(Connector(name="leads", summary="Leads", settings=Settings, streams=(*STREAMS, VISITS))),
    penstock_plugins,
)
SECRETS = (b"ann@a", b"0171", b"1990", b"blue")  # in every personal value
UNKNOWN = b"ann@b"  # in a member that no column declares


def answer_of(request: SandboxRequest) -> SandboxResponse:
    """Three leads of a day: one whole, one with values that do not fit, one that is rejected."""
    query = dict(pair.split("=") for pair in request.query.split("&"))
    place = f"{query['of']}-{query['day']}"
    form = {"phone": "0171 1", "size": 1.50, "answers": [{"name": "colour", "value": "blue"}]}
    whole = {
        "id": f"a-{place}",
        "clicks": 3,
        "email": "ann@a.example",
        "born": "1990-01-31",
        "form": form,
        "answers": [{"name": "colour", "value": 'dark, "blue"'}],
    }
    unfit = {**whole, "id": f"b-{place}", "clicks": "a few", "born": "in 1990", "nick": "ann@b.example", "form": None}
    rejected = {**whole, "id": None}
    return SandboxResponse(body=json.dumps({"leads": [whole, unfit, rejected], "total": 3}).encode())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve(answer_of) as running:
        yield running


@frozen(kw_only=True)
class Here:
    """A project whose source delivers personal columns or not."""

    folder: Path
    base_url: str
    sinks: Mapping[str, Mapping[str, Any]]
    more: Mapping[str, Any] = field(factory=dict)

    def project(self, *, include_personal: bool) -> Project:
        source = {"base_url": self.base_url, "include_personal": include_personal, **self.more}
        return Project(
            {"source": {"leads": source}, "sink": dict(self.sinks)},
            plugins=PLUGINS,
            environ={},
            clock=partial(FakeClock, NOW),
        )


def contents(folder: Path) -> dict[str, bytes]:
    """The files for readers, by their place."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".penstock" not in path.parts
    }


def rejected_of(project: Project, to: str) -> list[tuple[str, str, str, str]]:
    return [(str(one.partition), one.path, one.reason, one.raw) for one in project.rejected(to=to).rejected]


@pytest.mark.parametrize(
    "more", [{}, {"extra": True}, {"exclude": ["_extra"]}, {"gzip": True}], ids=["", "extra", "no extra", "gzip"]
)
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_erase_leaves_the_rows_of_a_reading_of_today(
    server: Server, tmp_path: Path, kind: str, more: dict[str, Any]
) -> None:
    """
    Byte for byte: files, their description, rejected records. The days stay final, sums and rows stay, and verify
    finds no difference. The same in a stream cut from another one.
    """
    kept = {name: value for name, value in more.items() if name != "gzip"}
    own = {"kind": kind, "gzip": "gzip" in more}
    sinks = {name: {**own, "path": str(tmp_path / name)} for name in ("old", "new")}
    here = Here(folder=tmp_path, base_url=server.base_url, sinks=sinks, more=kept)
    old, today = here.project(include_personal=True), here.project(include_personal=False)
    assert old.run("leads", to="old", **DAYS).exit_code == 5
    assert today.run("leads", to="new", **DAYS).exit_code == 5
    totals = old.totals(to="old").totals
    counted = today.erase_personal("leads", to="old", dry_run=True).targets
    assert [(one.stream, one.partitions, one.rows) for one in counted] == [("leads", 4, 0)]
    assert {"leads.email", "leads.born", "leads.form", "answers.value"} <= set(counted[0].columns)

    (done,) = today.erase_personal("leads", "leads", to="old").targets

    assert (done.partitions, done.rows, done.left) == (4, 16, 0)
    erased, fresh = contents(tmp_path / "old"), contents(tmp_path / "new")
    assert erased.keys() == fresh.keys()
    for place, content in fresh.items():
        assert erased[place] == content, place
    assert rejected_of(today, "old") == rejected_of(today, "new")
    texts = [gzip.decompress(one) if "gzip" in more and one[:2] == b"\x1f\x8b" else one for one in erased.values()]
    assert not any(secret in text for text in texts for secret in SECRETS)
    assert any(UNKNOWN in text for text in texts) == ("extra" in more)
    assert today.verify(to="old").differences == ()
    assert today.totals(to="old").totals == totals
    assert today.plan("leads", to="old", **DAYS).partitions == ()
    assert today.erase_personal("leads", to="old").targets[0].rows == 0


def test_a_file_that_is_not_as_delivered_is_left_and_named(server: Server, tmp_path: Path) -> None:
    """
    All others are erased; exit code 1. A file that is gone has nothing to erase.
    """
    here = Here(
        folder=tmp_path, base_url=server.base_url, sinks={"files": {"kind": "jsonl", "path": str(tmp_path / "out")}}
    )
    here.project(include_personal=True).run("leads", to="files", **DAYS)
    first, second, *_ = sorted((tmp_path / "out" / "leads" / "leads").rglob("data.jsonl"))
    first.write_bytes(first.read_bytes() + b"{}\n")
    second.unlink()

    result = here.project(include_personal=False).erase_personal("leads", to="files")

    assert (result.exit_code, result.targets[0].left) == (1, 1)
    assert "has another size. Move the file away" in result.notices[0]
    assert b"ann@" in first.read_bytes()
    assert not second.exists()
    others = contents(tmp_path / "out" / "leads" / "leads")
    assert sum(b"ann@" in content for content in others.values()) == 1


@pytest.mark.parametrize("kind", ["jsonl", "duckdb"])
def test_a_long_history_is_not_held(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """
    ``forget --personal`` and ``forget --rows`` read the rows of the ledger some days at a time, and those of a table
    some at a time.
    """
    monkeypatch.setattr("penstock.ledger.partition_queries.ROWS_AT_ONCE", 1)
    held = [0]

    def counted(results: Any) -> Any:
        held[0] = max(held[0], len(results))
        return results

    with delivered_to(kind, server, tmp_path) as (project, _):
        entries = PartitionQueries.entries
        monkeypatch.setattr(PartitionQueries, "entries", lambda *given, **named: counted(entries(*given, **named)))
        if kind == "duckdb":
            monkeypatch.setattr("penstock_plugins.duckdb.target.ERASED_AT_ONCE", 1)
            from penstock_plugins.duckdb.database import Database

            run = Database.run

            def counting(database: Any, statement: str, values: Any = ()) -> Any:
                result = run(database, statement, values)
                counted(result.rows if statement.startswith("select rowid") else [])
                return result

            monkeypatch.setattr(Database, "run", counting)
        sinks = {"there": {"kind": kind, "path": str(tmp_path / ("out.duckdb" if kind == "duckdb" else "out"))}}
        today = Here(folder=tmp_path, base_url=server.base_url, sinks=sinks).project(include_personal=False)
        (erased,) = today.erase_personal("leads", "leads", to="there").targets
        assert (erased.partitions, erased.rows) == (4, 16)
        assert held == [2]  # the accounts of a day
        assert today.verify(to="there").differences == ()
        held[0] = 0
        (forgotten,) = project.forget("leads", "leads", to="there", rows=True, **DAYS).targets
        assert forgotten.partitions == 4
        assert held == [2]
        assert project.verify(to="there").differences == ()


def test_a_source_that_delivers_personal_columns_is_refused(server: Server, tmp_path: Path) -> None:
    """
    The next run would bring them again.
    """
    here = Here(
        folder=tmp_path, base_url=server.base_url, sinks={"files": {"kind": "jsonl", "path": str(tmp_path / "out")}}
    )
    project = here.project(include_personal=True)
    project.run("leads", to="files", **DAYS)

    with pytest.raises(UsageError, match=r"Set include_personal = false in \[source\.leads\] first"):
        project.erase_personal("leads", to="files")


def test_a_target_without_a_ledger_is_left_by_name(server: Server, tmp_path: Path) -> None:
    """
    One file is written whole by the next run.
    """
    here = Here(folder=tmp_path, base_url=server.base_url, sinks={})

    with pytest.raises(UsageError, match=r"leads\.jsonl keeps no ledger: the next run reads everything"):
        here.project(include_personal=False).erase_personal("leads", to=f"jsonl:{tmp_path}/leads.jsonl")


def test_columns_of_a_table_become_null(server: Server, tmp_path: Path, dsn: str) -> None:
    """
    The table holds what a reading of today would have left in it, with the columns; a column that its owner made not
    null is named, and nothing changes.
    """
    sinks = {
        name: {"kind": "postgres", "dsn": Secret(dsn), "schema": name, "ledger_schema": f"ledger_{name}"}
        for name in ("old", "new")
    }
    here = Here(folder=tmp_path, base_url=server.base_url, sinks=sinks)
    old, today = here.project(include_personal=True), here.project(include_personal=False)
    old.run("leads", to="old", **DAYS)
    today.run("leads", to="new", **DAYS)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("alter table old.leads alter column email set not null")
        with pytest.raises(TargetError, match='alter column "email" drop not null'):
            today.erase_personal("leads", to="old")
        assert connection.execute("select count(*) from old.leads where email is null").fetchone() == (0,)
        connection.execute("alter table old.leads alter column email drop not null")

        (done,) = today.erase_personal("leads", to="old").targets

        assert (done.rows, done.left) == (16, 0)
        for stream, columns in {"leads": "id, clicks, form, _extra", "answers": "lead_id, name"}.items():
            found = [
                connection.execute(f"select {columns} from {name}.{stream} order by 1, 2").fetchall() for name in sinks
            ]
            assert found[0] == found[1] != []
        left = connection.execute("select count(email) + count(born) from old.leads").fetchone()
        assert left == (0,)
        assert connection.execute("select count(value) from old.answers").fetchone() == (0,)
        rejected = "select partition, path, reason, raw from ledger_{}.rejected order by 1, 2"
        assert (
            connection.execute(rejected.format("old")).fetchall()
            == connection.execute(rejected.format("new")).fetchall()
        )
    assert today.verify(to="old").differences == ()
    assert today.plan("leads", to="old", **DAYS).partitions == ()


@contextmanager
def delivered_to(kind: str, server: Server, tmp_path: Path) -> Iterator[tuple[Project, str]]:
    """A project whose leads were delivered to a target of this kind, and the database of one in Postgres."""
    pytest.importorskip(LIBRARIES.get(kind, "json"), reason="needs the dependency group readers")
    with postgres().database() as dsn:
        paths = {"duckdb": {"path": str(tmp_path / "out.duckdb")}, "postgres": {"dsn": Secret(dsn)}}
        sinks = {"there": {"kind": kind, **paths.get(kind, {"path": str(tmp_path / "out")})}}
        project = Here(folder=tmp_path, base_url=server.base_url, sinks=sinks).project(include_personal=True)
        project.run("leads", to="there", **DAYS)
        yield project, dsn


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "duckdb", "postgres"])
def test_rows_that_were_forgotten_before_can_be_deleted(server: Server, tmp_path: Path, kind: str) -> None:
    """
    ``forget`` leaves the rows where they are, and ``verify`` names them, also where the ledger has nothing of the
    stream any more. ``forget --rows`` deletes them, those of derived streams too, and other days stay.
    """
    with delivered_to(kind, server, tmp_path) as (project, _):
        project.forget("leads", "leads", to="there", **DAYS)
        left = project.verify(to="there")
        assert (left.exit_code, len(left.differences)) == (1, 4)
        assert {one.repair for one in left.differences} == {"uncounted"}
        with pytest.raises(UsageError, match="leads is divided by days: name them"):
            project.forget("leads", "leads", to="there", rows=True)

        first = {"since": DAYS["since"], "until": DAYS["since"]}
        (done,) = project.forget("leads", "leads", to="there", rows=True, **first).targets

        assert done.partitions == 2
        assert {one.partition["day"] for one in project.verify(to="there").differences} == {"2026-03-02"}
        (done,) = project.forget("leads", "leads", to="there", rows=True, accounts=["7", "8"]).targets
        assert (done.partitions, project.verify(to="there").exit_code) == (2, 0)
        with pytest.raises(UsageError, match="nothing of leads was delivered"):
            project.forget("leads", "leads", to="there", rows=True, **DAYS)
        assert project.run("leads", to="there", **DAYS).exit_code == 5
        assert project.verify(to="there").exit_code == 0


@pytest.mark.parametrize("kind", ["jsonl", "duckdb", "postgres"])
def test_foreign_files_in_the_place_of_a_stream_are_not_verified(server: Server, tmp_path: Path, kind: str) -> None:
    """
    Files, or a table, where a stream would be that was never delivered: ``verify`` is about what penstock wrote.
    """
    with delivered_to(kind, server, tmp_path) as (project, dsn):
        (tmp_path / "out" / "leads" / "visits").mkdir(parents=True)
        (tmp_path / "out" / "leads" / "visits" / "data.jsonl").write_text("{}\n")
        made = "create table leads.visits as select 'mine' as note; comment on table leads.visits is 'mine'"
        if kind == "duckdb":
            import duckdb

            with duckdb.connect(str(tmp_path / "out.duckdb")) as connection:
                connection.execute(made)
        if kind == "postgres":
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(made)

        assert project.verify(to="there").differences == ()
        with pytest.raises(UsageError, match=r"no leads\.visits was delivered yet"):
            project.forget("leads", "visits", to="there", rows=True, **DAYS)
