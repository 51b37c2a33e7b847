"""
Recordings: what they keep, what they hide, and what a run from one delivers.
"""

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import penstock_plugins
import pytest
import time_machine
from attrs import evolve, frozen
from penstock import (
    Connector,
    Envelope,
    Parent,
    Project,
    Ready,
    ReportFile,
    Request,
    SandboxRequest,
    SandboxResponse,
    Slice,
    SourceSettings,
    Stream,
    Waiting,
    added,
    column,
    named,
    personal,
    record,
    secret,
    setting,
)
from penstock.connector import ConnectorPlugin
from penstock.errors import UsageError
from penstock.sandbox import FAULTS, with_faults
from penstock.sandbox.server import serve
from penstock.testing import FakeClock, replayed
from providers import PROVIDERS, Provider, then
from scripted_provider import ScriptedProvider

pytestmark = pytest.mark.slow

HOW = ("record", "record_full")


def project(provider: Provider, base_url: str, **more: Any) -> Project:
    """A project with this provider as its source, at noon of the tests' day."""
    values = {**provider.settings, "requests_per_second": 2000.0, "poll_first_s": 0.01, "poll_max_s": 0.02, **more}
    return Project(
        {"source": {provider.name: {**values, "base_url": base_url}}},
        environ={},
        clock=lambda stop: then(provider.today),
    )


def counts(report: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Records and requests, by stream."""
    (source,) = report["sources"].values()
    return {name: (stream["records"], stream["requests"]) for name, stream in source["streams"].items()}


def recorded(provider: Provider, folder: Path, how: str) -> dict[str, Any]:
    """Record a run of the provider's exact imitation into ``folder / how``, its rows into ``out``; its report."""
    days = provider.window()
    with provider.served() as (server, _):
        found = project(provider, server.base_url).run(
            provider.name,
            to=f"jsonl:{folder / 'out'}",
            streams=provider.streams,
            since=days[0],
            until=days[-1],
            **{how: folder / how},  # type: ignore[arg-type]
        )
    assert found.exit_code == 0, found.report
    return found.report


def delivered(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("data.jsonl")
        if ".penstock" not in path.parts
    }


def content(folder: Path) -> bytes:
    """Every byte of a recording, unpacked."""
    parts = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            raw = path.read_bytes()
            parts.append(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
            if raw[:2] == b"PK":
                archive = zipfile.ZipFile(io.BytesIO(raw))
                parts += [archive.read(name) for name in archive.namelist()]
    return b"\n".join(parts)


every = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)


@every
def test_a_full_recording_delivers_the_same_files_without_network(provider: Provider, tmp_path: Path) -> None:
    """
    Into a new target, byte by byte, with the provider gone, and in a project without its configuration.
    """
    recorded(provider, tmp_path, "record_full")

    again = Project({}, environ={}).run(
        provider.name, to=f"jsonl:{tmp_path / 'again'}", replay=tmp_path / "record_full"
    )

    assert again.exit_code == 0, again.report
    rows = delivered(tmp_path / "out")
    assert rows
    assert delivered(tmp_path / "again") == rows


@every
def test_a_masked_recording_is_a_fixture(provider: Provider, tmp_path: Path) -> None:
    """
    The kit reads it with as many records in every stream, none of them rejected; no personal value is in it.
    """
    report = recorded(provider, tmp_path, "record")
    rows = [json.loads(line) for body in delivered(tmp_path / "out").values() for line in body.splitlines()]

    found = replayed(provider.name, tmp_path / "record")

    assert found.report.exit_code == 0, found.report.errors
    assert counts(found.report.as_dict()) == counts(report)
    columns = [one for stream in provider.registry.streams(provider.name) for one in stream.columns]
    private = {one.name for one in columns if one.personal} - {one.name for one in columns if not one.personal}
    values = {str(row[name]) for row in rows for name in private & row.keys() if row[name] is not None}
    partly = {one.name for one in columns if "*.value" in one.hidden_personal}
    public = json.dumps([{name: row[name] for name in row.keys() - private - partly} for row in rows])
    kept = content(tmp_path / "record")
    values = {value for value in values if len(value) > 5 and value not in public}
    assert [value for value in values if value.encode() in kept] == []
    assert len(values) > 20 or provider.name != "talroo"
    if any(one.personal for one in columns):
        assert b"masked-" in kept


@pytest.mark.parametrize("provider", [PROVIDERS["talroo"], PROVIDERS["joveo"]], ids=["talroo", "joveo"])
@pytest.mark.parametrize("how", HOW)
def test_a_recording_is_for_its_owner_only(provider: Provider, how: str, tmp_path: Path) -> None:
    """
    Directories 0700, files 0600.
    """
    recorded(provider, tmp_path, how)

    there = [tmp_path / how, *(tmp_path / how).rglob("*")]
    assert [path for path in there if path.stat().st_mode & 0o077] == []


def test_a_masked_recording_reaches_no_target_with_a_ledger(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """
    Neither an old nor a new ledger takes its rows; standard output and a single file do.
    """
    provider = PROVIDERS["talroo"]
    recorded(provider, tmp_path, "record")
    empty = Project({}, environ={})

    for to in (f"jsonl:{tmp_path / 'out'}", f"csv:{tmp_path / 'new'}"):
        with pytest.raises(UsageError, match=r"its rows are not those of the provider .* Print them with --to -"):
            empty.run("talroo", to=to, replay=tmp_path / "record")
    assert not (tmp_path / "new").exists()
    printed = empty.run("talroo", to="-", replay=tmp_path / "record")
    one = empty.run("talroo", to=f"jsonl:{tmp_path / 'clicks.jsonl'}", replay=tmp_path / "record")

    assert (printed.exit_code, one.exit_code) == (0, 0), (printed.errors, one.errors)
    assert sorted(capfd.readouterr().out.splitlines()) == sorted((tmp_path / "clicks.jsonl").read_text().splitlines())


def test_rows_are_rebuilt_after_a_mapping_was_mended(tmp_path: Path) -> None:
    """
    Into the target of the recorded run, with --full; what was read after the recording stays.
    """
    provider = PROVIDERS["talroo"]
    recorded(provider, tmp_path, "record_full")
    days = provider.window()
    five_days_later = time_machine.travel(datetime(2026, 3, 25, tzinfo=UTC), tick=True)  # at the provider, too
    with provider.served() as (server, _), five_days_later:
        later = Project(
            {"source": {"talroo": {**provider.settings, "base_url": server.base_url}}},
            environ={},
            clock=lambda stop: FakeClock(datetime(2026, 3, 25, tzinfo=UTC), stop),
        )
        to = f"jsonl:{tmp_path / 'out'}"
        newer = later.run("talroo", to=to, since=days[-1], until=days[-1], full=True)
        again = later.run("talroo", to=to, full=True, replay=tmp_path / "record_full")
        status = later.status("talroo", to=to)

    assert (newer.exit_code, again.exit_code) == (0, 0)
    assert again.report["sources"]["talroo"]["streams"]["clicks"]["partitions"]["delivered"] == 4
    assert "talroo: what was read after the recording stays as it is" in again.notices
    assert status.exit_code == 0


def test_a_request_that_was_not_recorded_is_named(tmp_path: Path) -> None:
    """
    A request of a window that was not recorded, or of a directory without a recording, is named.
    """
    recorded(PROVIDERS["talroo"], tmp_path, "record_full")
    empty = Project({}, environ={})

    found = empty.run("talroo", to="-", replay=tmp_path / "record_full", since="2026-03-01", until="2026-03-01")

    assert found.exit_code == 1
    assert "has no response to this request" in found.errors[0]["message"]
    assert "or without --full: then it has no final days" in found.errors[0]["message"]
    with pytest.raises(UsageError, match="this is no recording that can be read"):
        empty.run("talroo", to="-", replay=tmp_path / "out")
    with pytest.raises(UsageError, match="there are files in it"):
        recorded(PROVIDERS["talroo"], tmp_path, "record_full")


# --- what a provider may send -----------------------------------------------------------------------------------------


@record(key="id")
class Buyer:
    id: str
    name: str | None = personal()
    born: date | None = personal()
    phone: int | None = personal()
    visits: int | None = None
    hash: str | None = secret()
    more: Any = column(hidden=("[name=hash]",), hidden_personal=("contact.mail",))


@record(key="order")
class Order:
    buyer: str = added()
    order: str


CANARIES = ("Ann Canary", "1985-03-12", "4915551234", "h4sh-canary", "mail-canary", "note-canary", "s1gned-canary")

ANN = {
    "id": "b1",
    "name": "Ann Canary",
    "born": "1985-03-12",
    "phone": 4915551234,
    "visits": 7,
    "hash": "h4sh-canary",
    "more": {"contact": {"mail": "mail-canary", "city": "Oslo"}, "list": [{"name": "hash", "value": "h4sh-canary"}]},
    "note": "note-canary",
}


def a_shop(folder: Path, answer: Callable[[SandboxRequest], Any], **stream: Any) -> ScriptedProvider:
    given: dict[str, Any] = {"path": "/buyers", "kind": "snapshot", "envelope": Envelope(items="data")}
    given = {"record": Buyer, **given, **stream}
    return ScriptedProvider(folder=folder, streams=[Stream(name="buyers", summary="", **given)], answer=answer)


def report_and_recording(shop: ScriptedProvider, folder: Path, *, full: bool = False) -> tuple[Any, bytes]:
    """The report of a recorded run, and every byte of the recording."""
    report = shop.run(**{"record_full" if full else "record": folder})
    return report, content(folder)


def again(shop: ScriptedProvider, folder: Path) -> Any:
    """The report of a run from the recording, whose provider answers nothing."""
    other = ScriptedProvider(folder=folder / "again", streams=shop.streams, answer=lambda request: 500)
    report: Any = other.run(replay=folder)
    assert other.requests == []
    shop.sink = other.sink
    return report


def leaked(kept: bytes) -> list[str]:
    return [one for one in CANARIES if one.encode() in kept]


def test_values_are_masked_and_keep_their_form(tmp_path: Path) -> None:
    """
    Personal columns, personal and secret parts of nested ones, and members that no column declares; all else stays.
    """
    shop = a_shop(tmp_path, lambda request: {"data": [ANN, {**ANN, "id": "b2"}], "total": 2})

    first, kept = report_and_recording(shop, tmp_path / "recording")
    second = again(shop, tmp_path / "recording")

    assert leaked(kept) == []
    assert b"Oslo" in kept
    assert (first.exit_code, second.exit_code) == (0, 0)
    one, other = shop.rows("buyers")
    assert one["name"].startswith("masked-")
    assert one["name"] == other["name"]
    assert (one["id"], one["visits"], one["born"], len(str(one["phone"]))) == ("b1", 7, "1111-11-11", 10)
    assert one["more"]["contact"]["city"] == "Oslo"
    assert one["more"]["list"] == []  # the object that the hidden path selects


@record(key="id")
class Contact:
    id: str
    more: Any = column(hidden=("keys[name=token]",), hidden_personal=("[name=mail]",))


def test_a_path_with_a_selection_is_masked_as_rows_are(tmp_path: Path) -> None:
    """
    A path with a selection is masked in any case, for secret and personal parts, and below a member; a full recording
    keeps the personal ones.
    """
    more = {
        "keys": [{"name": "TOKEN", "value": "h4sh-canary"}],
        "list": [{"name": "Mail", "value": "mail-canary"}, {"name": "city", "value": "Oslo"}],
    }
    shop = a_shop(tmp_path, lambda request: {"data": [{"id": "b1", "more": more}]}, record=Contact)

    _, masked = report_and_recording(shop, tmp_path / "masked")
    _, full = report_and_recording(shop, tmp_path / "full", full=True)

    assert (leaked(masked), leaked(full)) == ([], ["mail-canary"])
    assert b"Oslo" in masked


def test_a_full_recording_masks_credentials_only(tmp_path: Path) -> None:
    """
    Secret columns and parts; the rows are those of the provider.
    """
    shop = a_shop(tmp_path, lambda request: {"data": [ANN]})

    _, kept = report_and_recording(shop, tmp_path / "recording", full=True)
    rows = shop.rows("buyers")
    again(shop, tmp_path / "recording")

    assert leaked(kept) == ["Ann Canary", "1985-03-12", "4915551234", "mail-canary", "note-canary"]
    assert shop.rows("buyers") == rows


@pytest.mark.parametrize("full", [False, True], ids=["masked", "full"])
@pytest.mark.parametrize("packed", ["plain", "gzip", "zip", "latin-1", "json lines"])
def test_report_files_are_recorded(packed: str, full: bool, tmp_path: Path) -> None:
    """
    Unpacked where they are masked; in every form that a report may have, totals included.
    """
    names = "id,name,born,phone,visits,hash,note"
    lines = [f"b{number},Ann Canary,1985-03-12,4915551234,7,h4sh-canary,note-canary" for number in range(3)]
    plain = "\n".join([names, *lines, "Total,,,,21,,"]) + "\n"
    whole = plain.encode()
    if packed == "json lines":
        whole = "".join(json.dumps({**ANN, "id": f"b{number}"}) + "\n" for number in range(3)).encode()
    if packed == "zip":
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.csv", plain)
            archive.writestr("b.csv", plain.replace("b0", "b7").replace("b1", "b8").replace("b2", "b9"))
        whole = file.getvalue()
    whole = {"gzip": gzip.compress(whole), "latin-1": plain.replace("Ann", "Änn").encode("latin-1")}.get(packed, whole)
    encoding = "latin-1" if packed == "latin-1" else None
    shop = a_shop(tmp_path, lambda request: whole, envelope=ReportFile(totals="Total", encoding=encoding))

    first, kept = report_and_recording(shop, tmp_path / "recording", full=full)
    rows = shop.rows("buyers")
    second = again(shop, tmp_path / "recording")

    assert first.errors == second.errors == []
    assert len(rows) == len(shop.rows("buyers")) == (6 if packed == "zip" else 3)
    assert "h4sh-canary" not in leaked(kept)
    if full:
        assert shop.rows("buyers") == rows
    else:
        assert leaked(kept) == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (json.dumps({"data": [ANN]}).encode()[:-40], "the body is no JSON"),
        (b"<html><p>Bad gateway</p><!-- Ann Canary --></html>", "HTML"),
        ({"dta": [ANN]}, "the body has dta"),
        (503, "HTTP 503"),
    ],
    ids=["cut", "html", "renamed", "503"],
)
def test_an_odd_answer_stays_odd(answer: Any, message: str, tmp_path: Path) -> None:
    """
    A run from the recording fails as the recorded one did, and no personal value is in it.
    """
    shop = a_shop(tmp_path, lambda request: answer)

    first, kept = report_and_recording(shop, tmp_path / "recording")
    second = again(shop, tmp_path / "recording")

    assert leaked(kept) == []
    assert (first.exit_code, second.exit_code) == (1, 1)
    assert message in first.errors[0]["message"]
    assert message in second.errors[0]["message"]


@pytest.mark.parametrize("how", HOW)
def test_masked_values_of_a_request_are_nowhere_in_a_recording(how: str, tmp_path: Path) -> None:
    """
    Masked values are neither in the settings that the request takes them from, nor where the provider repeats them,
    with all letters escaped too; the recording can still be run from.
    """
    talroo = PROVIDERS["talroo"]
    reference = talroo.settings["customer_reference"]

    recorded(talroo, tmp_path, how)
    kept = content(tmp_path / how)
    again = Project({}, environ={}).run(talroo.name, to="-", replay=tmp_path / how)

    assert b"advertiser_id" in kept
    assert reference.encode() not in kept
    assert again.exit_code == 0

    escaped = "".join(f"%{byte:02x}" for byte in reference.encode())
    with serve() as server:
        server.app = lambda request: SandboxResponse(
            status=403,
            headers={"X-For": escaped, "X-Of": reference},
            body=json.dumps({"error": f"not you, {reference}, {escaped}"}).encode(),
        )
        project(talroo, server.base_url, retries=1).run(
            talroo.name, to=f"jsonl:{tmp_path / 'other'}", **{how: tmp_path / "refused"}
        )
    refused = content(tmp_path / "refused")
    assert b"not you" in refused
    assert reference.encode() not in refused
    assert escaped.encode() not in refused


def test_answers_without_records_are_kept_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Answers without records are in memory until the end of the run; beyond the bound they are recorded without their
    body.
    """
    monkeypatch.setattr("penstock._recording.recorder.MAX_HELD_BYTES", 100)
    shop = a_shop(tmp_path, lambda request: SandboxResponse(status=400, body=b'{"error": "%s"}' % (b"x" * 200)))
    shop.run(record_full=tmp_path / "recording")
    again_report = again(shop, tmp_path / "recording")

    assert b"xxxx" not in content(tmp_path / "recording")
    assert "lacks the body" in again_report.errors[0]["message"]


@frozen(kw_only=True)
class BuyerSettings(SourceSettings):
    buyers: tuple[str, ...] = setting(help="the accounts")


def orders_of(settings: BuyerSettings, slice_: Slice) -> Iterable[Request]:
    account = slice_.account or ""
    yield Request(
        method="POST",
        url=f"{settings.base_url}/{quote(account, safe='')}/x",
        params=(("by", account),),
        body=json.dumps([account]).encode(),
    )


def test_an_account_that_is_an_address_is_masked_in_requests_too(tmp_path: Path) -> None:
    """
    The settings of the recording have the same replacement, so that a run from it makes the recorded requests.
    """
    address = "ann@canary.example"
    orders = Stream(
        name="orders",
        summary="",
        record=Order,
        kind="snapshot",
        account="buyer",
        accounts=lambda settings: settings.buyers,
        requests=orders_of,
    )
    shop = ConnectorPlugin(Connector(name="shop", summary="", settings=BuyerSettings, streams=[orders]))
    plugins = (shop, penstock_plugins)

    with serve(lambda request: SandboxResponse(body=b'[{"order": "1"}]')) as server:
        source = {"base_url": server.base_url, "buyers": [address]}
        first = Project({"source": {"shop": source}}, plugins=plugins, environ={}).run(
            "shop", to=f"jsonl:{tmp_path / 'out'}", record=tmp_path / "recording"
        )
    second = Project({}, plugins=plugins, environ={}).run(
        "shop", to=f"jsonl:{tmp_path / 'rows.jsonl'}", replay=tmp_path / "recording"
    )

    assert first.errors == second.errors == ()
    (row,) = map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())
    account = row["buyer"]
    (kept,) = [
        json.loads(path.read_text())["request"] for path in (tmp_path / "recording" / "shop").glob("*.exchange.json")
    ]
    assert (kept["account"], kept["params"], kept["body"]) == (account, [["by", account]], json.dumps([account]))
    assert kept["url"].endswith(f"/{account}/x")
    assert account != address
    assert b"canary" not in content(tmp_path / "recording")


def test_an_address_beside_the_records_is_personal(tmp_path: Path) -> None:
    """
    An address beside the records, such as that of the user who made a report, is personal; a session's token in a
    header is a credential.
    """
    body = json.dumps({"data": [], "madeBy": "ann@canary.example"}).encode()
    shop = a_shop(tmp_path, lambda request: SandboxResponse(headers={"X-Auth-Token": "t0ken-canary"}, body=body))

    report, kept = report_and_recording(shop, tmp_path / "recording")

    assert report.exit_code == 0
    assert b"madeBy" in kept
    assert b"canary" not in kept


def test_an_address_in_a_link_leads_a_masked_run_on(tmp_path: Path) -> None:
    """
    Addresses of persons in headers, in links and in sentences are masked, and a run from the recording follows these
    links; one in a plain column stays, and requests have it as it is.
    """
    link = '<http://{}/buyers?by=ann%40canary.example&after=1>; rel="next"'

    def answer(request: SandboxRequest) -> SandboxResponse:
        if request.path.startswith("/buyers/"):
            return SandboxResponse(body=json.dumps({"data": [{"order": request.path[8]}]}).encode())
        is_last = "after" in request.params
        body = {"data": [{"id": f"{int(is_last)}@shop.example"}], "note": "Call ann@canary.example."}
        headers = {
            "X-User": "ann@canary.example",
            **({} if is_last else {"Link": link.format(request.headers["host"])}),
        }
        return SandboxResponse(headers=headers, body=json.dumps(body).encode())

    shop = a_shop(tmp_path, answer, paginator=named("link"))
    orders = Stream(
        name="orders",
        summary="",
        record=Order,
        kind="snapshot",
        parent=Parent(stream="buyers", columns=("id",)),
        requests=lambda settings, slice_: [
            Request(
                url=settings.url("/buyers/{id}/orders", id=slice_.parent["id"]),
                columns={"buyer": slice_.parent["id"]},
            )
        ],
        envelope=Envelope(items="data"),
    )
    shop.streams.append(orders)

    first, kept = report_and_recording(shop, tmp_path / "recording")
    second = again(shop, tmp_path / "recording")

    assert first.errors == second.errors == []
    assert len(shop.rows("buyers")) == len(shop.rows("orders")) == 2
    assert b"canary" not in kept


@pytest.mark.parametrize("kept", [None, 0, 1], ids=["missing", "empty", "cut"])
def test_a_recording_that_was_cut_costs_no_row(kept: int | None, tmp_path: Path) -> None:
    """
    The first lines of a report of lines are a report, too. Its partition fails, and nothing is delivered.
    """
    lines = "".join(f"b{number},Ann,1985-03-12,,7,," + "\n" for number in range(3))
    report = f"id,name,born,phone,visits,hash,note\n{lines}".encode()
    shop = a_shop(tmp_path, lambda request: report, envelope=ReportFile())
    report_and_recording(shop, tmp_path / "recording", full=True)
    (body,) = (tmp_path / "recording" / "shop").glob("*-buyers.*[!n]")
    if kept is None:
        body.unlink()
    else:
        body.write_bytes(report[: report.index(b"b1")] if kept else b"")

    found = again(shop, tmp_path / "recording")

    assert found.exit_code == 1
    assert "the recording is damaged" in found.errors[0]["message"]
    assert shop.rows("buyers") == []


def test_a_connection_that_breaks_is_recorded(tmp_path: Path) -> None:
    """
    The message of a connection that breaks is recorded as the answer to the request.
    """
    shop = a_shop(tmp_path, with_faults(lambda request: SandboxResponse(), [evolve(FAULTS["reset"], kind="fatal")]))

    report_and_recording(shop, tmp_path / "recording")
    report = again(shop, tmp_path / "recording")

    assert report.exit_code == 1
    assert report.errors[0]["reason"].startswith("as recorded: 127.0.0.1 ")


@frozen
class Polled:
    """A report whose link to the file grants access to it."""

    base: str

    def handle(self, response: Any) -> str:
        return "7"

    def poll(self, submission: Request, handle: str) -> Request:
        return Request(url=submission.url.replace("/buyers", f"/status/{handle}"))

    def state(self, response: Any, age_s: float) -> Any:
        body = response.json()
        if body["state"] == "busy":
            return Waiting()
        return Ready(downloads=(Request.link(self.base, body["link"], credentials=False),))

    def expired(self, response: Any) -> bool:
        return False


@pytest.mark.parametrize("full", [False, True], ids=["masked", "full"])
@pytest.mark.parametrize("base", ["http://{host}/file/x.csv", "/file/x.csv", "file/x.csv"])
def test_a_report_on_demand_is_recorded_with_its_download(full: bool, base: str, tmp_path: Path) -> None:
    """
    Polls in their order; the link without what grants access, in the answer that names it and in its request.
    """
    polls = iter(["busy", "done"])

    def answer(request: SandboxRequest) -> Any:
        if request.path.startswith("/status"):
            host = request.headers["host"]
            link = f"{base.format(host=host)}?sig=s1gned-canary%2B%2F&expires=20260101"
            return {"state": next(polls), "link": link}
        if request.path.startswith("/file"):
            assert "s1gned-canary" in request.query
            return b"id,name,visits\nb1,Ann Canary,7\n"
        return {"report": "7"}

    shop = a_shop(
        tmp_path,
        answer,
        envelope=Envelope(),
        poller=lambda settings: Polled(settings.base_url + "/"),
        downloads=ReportFile(),
        poll_first_s=0.01,
        poll_max_s=0.01,
    )

    first, kept = report_and_recording(shop, tmp_path / "recording", full=full)
    second = again(shop, tmp_path / "recording")

    assert first.errors == second.errors == []
    assert "s1gned-canary" not in leaked(kept)
    assert [row["visits"] for row in shop.rows("buyers")] == [7]


def test_children_are_found_by_masked_parents(tmp_path: Path) -> None:
    """
    A parent's key that is personal is in the path of a child's request: masked, and found again.
    """

    @record(key="name")
    class Person:
        name: str = personal(default=...)

    people = Stream(name="people", summary="", record=Person, kind="snapshot", path="/people")
    orders = Stream(
        name="orders",
        summary="",
        record=Order,
        kind="snapshot",
        parent=Parent(stream="people", columns=("name",)),
        requests=lambda settings, slice_: [
            Request(
                url=settings.url("/people/{name}/orders", name=slice_.parent["name"]),
                columns={"buyer": slice_.parent["name"]},
            )
        ],
    )

    def answer(request: SandboxRequest) -> Any:
        if "orders" in request.path:
            return [{"order": "1" if "Ann" in request.path else "2"}]
        return [{"name": "Ann Canary"}, {"name": "Bob Canary"}]

    shop = ScriptedProvider(folder=tmp_path, streams=[people, orders], answer=answer)

    first, kept = report_and_recording(shop, tmp_path / "recording")
    second = again(shop, tmp_path / "recording")

    assert first.errors == second.errors == []
    assert b"Canary" not in kept
    assert len(shop.rows("orders")) == 2


def test_a_body_that_cannot_be_masked_is_not_kept(tmp_path: Path) -> None:
    """
    The records of its decoder are not found in the body; the run and its replay name it.
    """

    @frozen
    class Lines:
        def __call__(self, response: Any) -> Any:
            from penstock import Answer, Items

            rows = [dict(zip(("id", "name"), line.split("|"), strict=True)) for line in response.text().split()]
            return Answer(items=[Items(raw=json.dumps(rows).encode())])

    shop = a_shop(tmp_path, lambda request: b"b1|Ann-Canary b2|Bob-Canary", envelope=Lines())

    first, kept = report_and_recording(shop, tmp_path / "recording")
    second = again(shop, tmp_path / "recording")

    assert b"Canary" not in kept
    assert "1 responses are in the recording without their body" in " ".join(first.notices)
    assert "--record-full keeps it as it is" in second.errors[0]["message"]


def test_names_of_members_that_are_personal_are_not_kept(tmp_path: Path) -> None:
    """
    A map of arrays by a personal value: its names are not masked, so the body is left out.
    """

    @record(key="order")
    class OfBuyer:
        buyer: str | None = added(personal=True)
        order: str

    envelope = Envelope(items="data", keyed_by="buyer")
    shop = a_shop(
        tmp_path, lambda request: {"data": {"Ann Canary": [{"order": "1"}]}}, record=OfBuyer, envelope=envelope
    )

    first, kept = report_and_recording(shop, tmp_path / "recording")

    assert first.exit_code == 0, first.errors
    assert leaked(kept) == []
    assert "1 responses are in the recording without their body" in " ".join(first.notices)


@frozen
class Spoken(Polled):
    """A report whose state is a line of text."""

    def state(self, response: Any, age_s: float) -> Any:
        link = response.text().partition(" ")[2]
        return Ready(downloads=(Request.link(self.base, link, credentials=False),)) if link else Waiting()


def test_a_link_in_plain_text_is_masked(tmp_path: Path) -> None:
    """
    The query of the download's request shows which texts are secret.
    """

    def answer(request: SandboxRequest) -> Any:
        if request.path.startswith("/status"):
            return b"done /file/x.csv?sig=s1gned-canary&v=2"
        return b"id,visits\nb1,7\n" if request.path.startswith("/file") else {"report": "7"}

    shop = a_shop(tmp_path, answer, poller=lambda settings: Spoken(settings.base_url + "/"), downloads=ReportFile())

    first, kept = report_and_recording(shop, tmp_path / "recording")

    assert first.errors == []
    assert leaked(kept) == []
