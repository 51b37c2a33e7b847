"""Functions that a connector declares: each is called once with the sandbox's settings, and its result is checked."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from command_in_process import main
from connector_run import loaded, problems_of
from penstock.connector import Connector, ConnectorPlugin, Parent, Sandbox, Stream
from penstock.envelope import Envelope
from penstock.errors import PluginError, check_returned
from penstock.model import Answer, Request, Response, Slice
from penstock.protocols import STATES, Grant, Ready, ReportState, Unsigned, named
from penstock.records import added, record
from penstock.redact import Secret
from penstock.report_files import ReportFile
from penstock.settings import SourceSettings, setting
from penstock.testing.exchange import a_response


@frozen(kw_only=True)
class AcmeSettings(SourceSettings):
    base_url: str = setting(help="where Acme answers")
    account_ids: tuple[str, ...] = setting(help="the accounts to read")
    key: Secret = setting(Secret("a-key-of-the-trial"), help="the key")


@record()
class Click:
    account_id: str = added()
    day: date = added()
    id: str


@record()
class Changed:
    day: date | None = added()
    site: str = added()
    id: str


class Poller:
    """A poller whose state is what a test declares."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def handle(self, response: Response) -> str:
        return "1"

    def poll(self, submitted: Request, handle: str) -> Request:
        return submitted

    def state(self, response: Response, age_s: float) -> Any:
        return self._state

    def expired(self, response: Response) -> bool:
        return False


def clicks(settings: AcmeSettings, slice_: Slice) -> Iterable[Request]:
    yield Request(url=f"{settings.base_url}/clicks/{slice_.account}/{slice_.since}")


def nothing(settings: AcmeSettings, slice_: Slice) -> Any:
    Request(url=settings.base_url)


def a_text(settings: AcmeSettings, slice_: Slice) -> Any:
    return f"{settings.base_url}/clicks"


def texts(settings: AcmeSettings, slice_: Slice) -> Any:
    return [f"{settings.base_url}/clicks"]


def failing(settings: Any, slice_: Slice) -> Any:
    return Request(url=f"{settings.url_base}/clicks")


def one(settings: AcmeSettings, slice_: Slice) -> Any:
    return Request(url=f"{settings.base_url}/clicks", columns={"day": slice_.days and slice_.since, "site": "a"})


def with_secret(settings: Any, slice_: Slice) -> Any:
    return Request(url=f"{settings.base_url}/clicks", params=[("key", settings.key.reveal())])


def with_a_secret_object(settings: Any, slice_: Slice) -> Any:
    return Request(url=f"{settings.base_url}/clicks", params=[("key", settings.key)])


def with_a_secret_as_text(settings: Any, slice_: Slice) -> Any:
    return Request(url=f"{settings.base_url}/clicks", params=[("key", f"{settings.key}")])


def with_a_secret_object_in_json(settings: Any, slice_: Slice) -> Any:
    return Request.json("POST", f"{settings.base_url}/clicks", {"key": settings.key})


def acme(
    settings: Mapping[str, Any] | None = None,
    fields: Mapping[str, Any] | None = None,
    others: Iterable[Stream] = (),
    **stream: Any,
) -> ConnectorPlugin:
    declared: dict[str, Any] = {
        "name": "clicks",
        "summary": "",
        "record": Click,
        "kind": "report",
        "key": "id",
        "account": "account_id",
        "day": "day",
        "requests": clicks,
    }
    sandbox = Sandbox(
        connector="acme",
        summary="",
        make=lambda base_url, today: lambda request: None,  # type: ignore[arg-type,return-value]
        settings={"account_ids": ["17"]} if settings is None else settings,
    )
    streams = (Stream(**{**declared, **stream}), *others)
    connector = Connector(
        name="acme", summary="", settings=AcmeSettings, streams=streams, sandbox=sandbox, **(fields or {})
    )
    return ConnectorPlugin(connector)


def problems_in(plugin: ConnectorPlugin) -> list[str]:
    """The problems of the connector that this plugin offers."""
    return [reason.removeprefix("connector acme: ") for reason in problems_of([plugin])]


CHANGES: dict[str, Any] = {"record": Changed, "kind": "changes", "account": None}


@pytest.mark.parametrize(
    "stream",
    [
        {},
        {"requests": one},
        {"poller": Poller(Ready())},
        {**CHANGES, "requests": one},
        {**CHANGES, "envelope": Envelope(stamps={"day": "day", "site": "site"})},
        {**CHANGES, "envelope": lambda settings: Envelope(keyed_by="day", stamps={"site": "site"})},
        {"envelope": lambda settings: lambda response: Answer()},
    ],
    ids=["list", "one request", "poller", "stamped by the request", "by the envelope", "by a made envelope", "decoder"],
)
def test_sound_functions_have_no_problem(stream: dict[str, Any]) -> None:
    """
    Requests may be one, or several in any iterable. A decoder may be a function.
    """
    assert problems_in(acme(**stream)) == []


@pytest.mark.parametrize(
    ("stream", "output"),
    [
        ({"requests": nothing}, "the requests of the stream clicks (test_function_trials.py, line "),
        ({"requests": nothing}, ") returned nothing; write return [Request(...)]"),
        ({"requests": a_text}, ") returned str; write return [Request(...)]"),
        ({"requests": texts}, ") returned str; write return [Request(...)]"),
        (
            {"requests": failing},
            "requests failed with AttributeError: 'AcmeSettings' object has no attribute 'url_base'",
        ),
        (
            {"poller": Poller("done")},
            ") returned str ('done'); write return Waiting(), Ready(), ",
        ),
        (
            {"poller": lambda settings: Poller(None)},
            ") returned nothing; write return Waiting(), ",
        ),
        (CHANGES, "nothing fills the column site, which the provider does not send"),
        (
            {"days_per_request": lambda settings: 7},
            'nothing fills the column day, which the provider does not send; write Request(..., columns={"day": ',
        ),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_a_wrong_result_is_named_with_its_correction(stream: dict[str, Any], output: str) -> None:
    """
    ``penstock connectors`` and the kit name it, before any request.
    """
    found = problems_in(acme(**stream))

    assert found
    assert all(problem.startswith("stream clicks: ") for problem in found)
    assert any(output in problem for problem in found)


@pytest.mark.parametrize(
    ("stream", "output"),
    [
        ({"poller": lambda settings: 1}, "poller is int (1) without handle, poll, state, expired; see "),
        ({"paginator": lambda settings: None}, ") returned nothing; write return, and the paginator"),
        ({"paginator": lambda settings: named("pager")}, "no paginator named 'pager' is installed"),
        ({"envelope": lambda settings: settings.items}, "envelope failed with AttributeError: 'AcmeSettings' object "),
        ({"judge": lambda response, answer: "ok"}, ") returned str; write return None, which leaves the decision to "),
        ({"earliest": lambda today: 90}, ") returned int; write return today - timedelta(...)"),
        (
            {"accounts": lambda settings: settings.accounts},
            "accounts failed with AttributeError: 'AcmeSettings' object",
        ),
        ({"accounts": lambda settings: "17"}, ") returned str ('17'); write return the accounts as texts"),
        ({"accounts": lambda settings: [17]}, ") returned list ([17]); write return the accounts as texts"),
        ({"accounts": lambda settings: None}, ") returned nothing; write return the accounts as texts"),
        (
            {"earliest": lambda today: datetime(2026, 1, 1, tzinfo=UTC)},
            ") returned datetime; write return today - timedelta(...)",
        ),
        ({"account": "shop"}, "accounts=lambda settings: settings.account_ids"),
        ({"requests": with_secret}, "writes the secret key into the request, which the ledger may keep; write "),
        ({"requests": with_a_secret_object}, "the value of key is Secret, and no text; write secret.reveal(), in an "),
        (
            {"requests": with_a_secret_as_text},
            "sends key with '***', which is how a Secret prints; write secret.reveal()",
        ),
        ({"requests": with_a_secret_object_in_json}, "a value of the body is Secret, and no text; write secret.rev"),
    ],
)
def test_results_of_other_functions_are_checked(stream: dict[str, Any], output: str) -> None:
    """
    Components, verdicts, days and accounts; a function that fails does not end the listing.
    """
    assert any(output in problem for problem in problems_in(acme(**stream)))


class NotFrozen(Unsigned):
    key: str


@frozen
class Forgetful(Unsigned):
    """Forgets to return the request that it signed."""

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        request.with_headers(("x-key", "1"))
        return None  # type: ignore[return-value]


@frozen
class Printing(Unsigned):
    """Sends how a secret prints."""

    key: Secret

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        return request.with_headers(("x-key", f"{self.key}"))


@frozen
class Unrevealing(Printing):
    """Sends the secret object."""

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        return request.with_headers(("x-key", self.key))  # type: ignore[arg-type]


class Login(Printing):
    """Formats the secret object into the login."""

    def grant_request(self) -> Request:
        return Request(method="POST", url="http://127.0.0.1:1/login", body=f"password={self.key}".encode())

    def sign(self, request: Request, now: datetime, grant: Grant | None) -> Request:
        return request


@pytest.mark.parametrize(
    ("authenticator", "output"),
    [
        (
            lambda settings: Login(settings.key),
            "sends a body with 'password=***', which is how a Secret prints; write secret.reveal()",
        ),
        (lambda settings: NotFrozen(key="1"), "; put @frozen(kw_only=True) above the class that extends Unsigned"),
        (lambda settings: Forgetful(), ") returned nothing; write return request.with_headers(...)"),
        (lambda settings: Printing(settings.key), "sends x-key with '***', which is how a Secret prints; write secret"),
        (
            lambda settings: Unrevealing(settings.key),
            "the value of x-key is Secret, and no text; write secret.reveal()",
        ),
        (Forgetful, "authenticator is the class Forgetful; write a function, such as authenticator=lambda settings: F"),
    ],
)
def test_an_authenticator_that_cannot_sign_is_named(authenticator: Any, output: str) -> None:
    """
    A class without its decorator, a result that was forgotten, a class in place of a function.
    """
    (problem,) = problems_in(acme(fields={"authenticator": authenticator}))
    assert output in problem


@record()
class Order:
    id: str


@record()
class Line:
    order_id: str = added()
    number: int


def a_child(**parent: Any) -> dict[str, Any]:
    """The fields of a child by a path, whose record class adds ``order_id``."""
    own = {"kind": "snapshot", "key": ("order_id", "number"), "account": None, "day": None, "requests": None}
    orders = Stream(name="orders", record=Order, kind="snapshot", key="id", path="/orders")
    declared = Parent(stream="orders", columns=("id",), **parent)
    return {**own, "record": Line, "path": "/lines", "parent": declared, "others": [orders]}


def test_a_column_that_no_row_of_the_parent_fills_is_named() -> None:
    """
    The column has another name than the parent's; links gives it this name. Links that need a real row are not tried.
    """

    def needs_a_slug(row: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        return [{"slug": row["id"].split("/")[1]}]

    (problem,) = problems_in(acme(**a_child()))
    assert problem.startswith("stream clicks: nothing fills the column order_id")
    assert 'write links=lambda row: [{"order_id": row["id"]}] in Parent(...)' in problem
    assert problems_in(acme(**a_child(links=lambda row: [{"order_id": row["id"]}]))) == []
    assert problems_in(acme(**a_child(links=needs_a_slug))) == []
    for links in (lambda row: None, lambda row: {"order_id": row["id"]}):
        (problem,) = problems_in(acme(**a_child(links=links)))
        assert re.search(
            r"parent: links: a lambda \(test_function_trials\.py, line \d+\) returned (nothing|dict .*); write", problem
        )


def test_settings_of_a_sandbox_that_its_class_refuses_are_named() -> None:
    """
    The demo would fail with the same problem.
    """
    assert problems_in(acme(settings={"account_idz": ["1"]}))[0].startswith(
        "its settings class refuses the settings of its sandbox: sandbox: source.acme.account_idz: unknown key."
    )


def test_a_connector_that_offers_nothing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A connector for which no hook offers anything is named: its hooks may answer another name than that of the
    connector.
    """
    empty = ConnectorPlugin(Connector(name="acme", summary="", settings=AcmeSettings))

    assert main(["connectors"], plugins=[empty], environ={}) == 0
    assert "connector acme: it has neither streams nor actions" in " ".join(capsys.readouterr().out.split())


def test_a_wrong_state_fails_a_run_by_name() -> None:
    """
    A text is not taken for a report that is ready.
    """
    with pytest.raises(
        PluginError, match=r"Poller\.state \(test_function_trials\.py, line \d+\) returned str \('done'\)"
    ):
        check_returned(Poller("done").state, "done", ReportState, STATES)


def test_a_gzip_body_without_a_report_envelope_is_named() -> None:
    """
    The remedy is in the message; a report file takes such a body.
    """
    packed = a_response(body=b"\x1f\x8b\x08\x00rest")

    assert "packed with gzip" in str(Envelope()(packed).problem)
    assert "envelope=ReportFile()" in str(Envelope()(packed).problem)
    with pytest.raises(Exception, match="packed, but cut"):
        ReportFile()(packed)


def test_an_installed_connector_without_an_entry_point_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    ``penstock connectors`` names it, and so does a run that needs the connector. Distributions without penstock are
    left alone.
    """
    for name, requires in (("connector_shop", "penstock-core>=1"), ("connector_cable", "usb")):
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\nRequires-Dist: {requires}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = loaded()

    (broken,) = [one for one in registry.broken() if one.plugin.distribution in ("connector_shop", "connector_cable")]
    assert str(broken.plugin) == "connector_shop 1"
    assert '[project.entry-points.penstock] connector_shop = "connector_shop:plugin"' in broken.reason
    with pytest.raises(PluginError, match="the connector 'shop' is missing because connector_shop 1 is broken"):
        registry.connector("shop")


@frozen
class Signer(Unsigned):
    key: str


@pytest.mark.parametrize(
    ("fields", "output"),
    [
        ({"authenticator": lambda settings: "key"}, "returned the text 'key'; write named(\"key\", ...)"),
        ({"authenticator": lambda settings: Signer}, "authenticator returned the class Signer; write Signer(...)"),
        ({"authenticator": lambda settings: Signer(key=settings.api_key)}, "authenticator failed with AttributeError"),
        ({"authenticator": lambda settings: named("none")}, "authenticator failed with PluginError: no authenticator"),
        ({"check": lambda settings, slice_: settings.base_url}, ") returned str; write return Request(...)"),
        ({"check": lambda settings, slice_: slice_.accounts[0]}, "check failed with AttributeError"),
    ],
    ids=["text", "class", "no such setting", "no such part", "check", "check that fails"],
)
def test_wrong_functions_of_a_connector_are_named(fields: dict[str, Any], output: str) -> None:
    """
    The results of an authenticator function and of the check are examined.
    """
    problems = problems_in(acme(fields=fields))

    assert [output in problem for problem in problems] == [True]
