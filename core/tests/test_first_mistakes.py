"""
Mistakes of a first connector: ``penstock connectors`` and the kit report each with what was written and what to write.
"""

import gzip
import io
import re
import zipfile
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import penstock_plugins
import pytest
from attrs import evolve, frozen
from command_in_process import main
from connector_run import problems_of
from penstock import (
    Connector,
    ConnectorPlugin,
    Request,
    Sandbox,
    SandboxBase,
    SandboxResponse,
    Secret,
    SourceSettings,
    Stream,
    Unsigned,
    added,
    hookimpl,
    json_response,
    named,
    record,
    setting,
)
from penstock.testing.conformance import UNKNOWN, NotConforming, conforms

pytestmark = pytest.mark.slow


@frozen(kw_only=True)
class Settings(SourceSettings):
    key: Secret = setting(help="the key")


@frozen(kw_only=True)
class Untyped(SourceSettings):
    key = setting(help="the key")


@frozen(kw_only=True)
class TextSecret(SourceSettings):
    api_key: str = setting(help="the key")


@frozen(kw_only=True)
class BareList(SourceSettings):
    account_ids: list = setting(help="the accounts")  # type: ignore[type-arg]


@frozen(kw_only=True)
class BareTable(SourceSettings):
    labels: "dict | None" = setting(default=None, help="the labels")  # type: ignore[type-arg]


class Undecorated(SourceSettings):
    key: Secret = setting(help="the key")


@frozen(kw_only=True)
class Alone:
    key: Secret = setting(help="the key")


@record(kind="report", key="id", day="day")
class Sale:
    day: date = added()
    id: str
    price: str | None = None


@record(kind="report", key="id", day="day")
class OfShop:
    day: date = added()
    shop: str = added()
    id: str


class Plain:
    id: str


class Imitation(SandboxBase):
    def sales(self, request: Any) -> SandboxResponse:
        return json_response([{"id": "1", "price": "2.50"}])

    routes: ClassVar = {"GET /sales": sales}


class OfGzip(Imitation):
    def sales(self, request: Any) -> SandboxResponse:
        return SandboxResponse(body=gzip.compress(b"id,price\n1,2\n"))

    routes: ClassVar = {"GET /sales": sales}


class OfZip(Imitation):
    def sales(self, request: Any) -> SandboxResponse:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("sales.csv", "id,price\n1,2\n")
        return SandboxResponse(body=packed.getvalue())

    routes: ClassVar = {"GET /sales": sales}


class OfData(Imitation):
    def sales(self, request: Any) -> SandboxResponse:
        return json_response({"data": [{"id": "1"}]})

    routes: ClassVar = {"GET /sales": sales}


class Poller:
    """A poller whose state is a text."""

    def handle(self, response: Any) -> str:
        return "1"

    def poll(self, submitted: Any, handle: str) -> Any:
        return submitted

    def state(self, response: Any, age_s: float) -> Any:
        return "done"

    def expired(self, response: Any) -> bool:
        return False


STREAM = Stream(name="sales", summary="", record=Sale, path="/sales", params={"day": "{since}"})
SANDBOX = Sandbox(connector="acme", summary="", make=Imitation, settings={"key": "demo"})
CONNECTOR = Connector(name="acme", summary="", settings=Settings, streams=(STREAM,), sandbox=SANDBOX)


def acme(**fields: Any) -> ConnectorPlugin:
    """The connector, with a mistake in its own fields."""
    return ConnectorPlugin(evolve(CONNECTOR, **fields))


def sales(**fields: Any) -> ConnectorPlugin:
    """The connector, with a mistake in its stream."""
    return acme(streams=(evolve(STREAM, **fields),))


def requests(function: Any) -> ConnectorPlugin:
    return sales(path="", params={}, requests=function)


def returns_none(settings: Any, slice_: Any) -> Any:
    Request(url=settings.base_url)


def endless(settings: Any, slice_: Any) -> Any:
    return (Request(url=f"{settings.base_url}/{number}") for number in count())


def takes_one(settings: Any) -> Any:
    return []


def decodes(response: Any) -> Any:
    return response.body


def judges_one(response: Any) -> Any:
    return None


class NoSource:
    @hookimpl
    def penstock_sources(self) -> Any:
        return []


class OneSource:
    @hookimpl
    def penstock_sources(self) -> Any:
        return CONNECTOR


class OtherName:
    @hookimpl
    def penstock_sources(self) -> Any:
        return [evolve(CONNECTOR, streams=(), sandbox=None)]

    @hookimpl
    def penstock_record_streams(self, source: str) -> Any:
        return [STREAM] if source == "acne" else []


class Unmarked:
    def penstock_sources(self) -> Any:
        return [CONNECTOR]


HERE = r"\(test_first_mistakes.py, line \d+\)"

# What was written -> the whole message, as a regular expression where it names a line of this file.
MISTAKES: dict[str, tuple[Any, str]] = {
    "a setting without a type": (
        acme(settings=Untyped, sandbox=None),
        rf"connector acme: Untyped\.key {HERE} has no type; write key: str = setting\(\.\.\.\)",
    ),
    "a secret typed str": (
        acme(settings=TextSecret, sandbox=None),
        rf"connector acme: TextSecret\.api_key {HERE} looks like a secret and is a text, which logs may show; write "
        r"api_key: Secret = setting\(\.\.\.\), or setting\(\.\.\., secret=False\) if it is none",
    ),
    "a list without the type of its elements": (
        acme(settings=BareList, sandbox=None),
        rf"connector acme: BareList\.account_ids {HERE} has a type that does not name its elements, so that they would "
        r"not be checked; write account_ids: tuple\[str, \.\.\.\] = setting\(\.\.\.\)",
    ),
    "a table without the type of its values": (
        acme(settings=BareTable, sandbox=None),
        rf"connector acme: BareTable\.labels {HERE} has a type that does not name its elements, so that they would not "
        r"be checked; write labels: dict\[str, str\] = setting\(\.\.\.\)",
    ),
    "settings without @frozen": (
        acme(settings=Undecorated, sandbox=None),
        rf"connector acme: Undecorated {HERE} has no decorator; put @frozen\(kw_only=True\) above it",
    ),
    "settings that extend nothing": (
        acme(settings=Alone, sandbox=None),
        rf"connector acme: settings is Alone {HERE}, which does not extend SourceSettings; write class "
        r"Alone\(SourceSettings\)",
    ),
    "an authenticator as an object": (
        acme(authenticator=Unsigned()),
        r"connector acme: authenticator is Unsigned; write a function, such as authenticator=lambda settings: "
        r"HeaderTokens\(headers=\{\.\.\.: settings\.token\}\)",
    ),
    "an authenticator as a class": (
        acme(authenticator=lambda settings: Unsigned),
        r"connector acme: authenticator returned the class Unsigned; write Unsigned\(\.\.\.\)",
    ),
    "a hook that returns no source": (
        NoSource(),
        r"penstock_sources returned no source; write return \[Connector\(\.\.\.\)\]",
    ),
    "a hook that returns one source": (
        OneSource(),
        r"penstock_sources failed: TypeError: one Connector in place of a list; write \[Connector\(\.\.\.\)\]",
    ),
    "a hook for another source": (
        OtherName(),
        r"connector acme: it has neither streams nor actions; penstock_record_streams\(source\) and "
        r"penstock_actions\(source\) return nothing for source='acme'",
    ),
    "a hook without its mark": (Unmarked(), r"penstock_sources lacks the mark @penstock\.hookimpl"),
    "requests that return None": (
        requests(returns_none),
        rf"connector acme: stream sales: the requests of the stream sales {HERE} returned nothing; write return "
        r"\[Request\(\.\.\.\)\]\.",
    ),
    "requests that return a text": (
        requests(lambda settings, slice_: settings.base_url),
        rf"connector acme: stream sales: the requests of the stream sales {HERE} returned str; write return "
        r"\[Request\(\.\.\.\)\]\.",
    ),
    "requests with one parameter": (
        requests(takes_one),
        rf"connector acme: stream sales: requests {HERE} takes \(settings: Any\) -> Any, and is called with settings "
        r"and slice_; write takes_one\(settings, slice_\)",
    ),
    "requests that do not end": (
        requests(endless),
        rf"connector acme: stream sales: the requests of the stream sales {HERE} are more than 100,000 for one slice, "
        r"or do not end; write the first request of a listing, and a paginator for its pages\.",
    ),
    "requests as a list": (
        requests([Request(url="http://127.0.0.1")]),
        r"stream sales: requests is list; write a function, such as requests\(settings, slice_\)",
    ),
    "a state that is a text": (
        sales(poller=Poller()),
        rf"connector acme: stream sales: Poller\.state {HERE} returned str \('done'\); write return Waiting\(\), "
        r"Ready\(\), Empty\(\) or Gone\(reason\)\.",
    ),
    "a poller as a class": (sales(poller=Poller), r"stream sales: poller is the class Poller; write Poller\(\.\.\.\)"),
    "a column that nothing fills": (
        sales(record=OfShop),
        r"connector acme: stream sales: nothing fills the column shop, which the provider does not send; write "
        r'Request\(\.\.\., columns=\{"shop": \.\.\.\}\), or leave added\(\) out where the provider sends it',
    ),
    "a day of another name": (
        sales(day="dy"),
        "stream sales: day names the column 'dy', which Sale does not have, and nothing fills day; write day='day'",
    ),
    "a class without @record": (
        sales(record=Plain, kind="report", key="id", day="day"),
        r"stream sales: Plain is no record class: put @record\(\) above it",
    ),
    "a key of another name": (
        sales(key="ids"),
        r"stream sales: key names the column 'ids', which Sale does not have\. Did you mean \"id\"\?",
    ),
    "a template of another name": (
        sales(params={"day": "{sinc}"}),
        r"stream sales: params\['day'\] names \{sinc\}, which is no value of a request\. Did you mean \"since\"\?",
    ),
    "a secret in a template": (
        sales(params={"key": "{key}"}),
        r"stream sales: params\['key'\] names the secret key; the authenticator sends it, not a template",
    ),
    "a number in a template": (
        sales(params={"day": "{since}", "limit": 100}),
        r"stream sales: params\['limit'\] is int \(100\); write a text, \"100\"",
    ),
    "a decoder in place of a function of the settings": (
        sales(envelope=decodes),
        rf"connector acme: stream sales: envelope failed with AttributeError: 'Settings' object has no attribute "
        rf"'body' {HERE}; a function there takes the settings and returns the decoder, so write "
        r"envelope=lambda settings: decodes if it is the decoder itself",
    ),
    "a paginator of another name": (
        sales(paginator=named("page_nummer")),
        r"stream sales: paginator: no paginator named 'page_nummer' is installed\. Did you mean \"page_number\"\? "
        r"Installed: .*page_number\.",
    ),
    "a judge with one parameter": (
        acme(judge=judges_one),
        rf"connector acme: judge {HERE} takes \(response: Any\) -> Any, and is called with response and answer; write "
        r"judges_one\(response, answer\)",
    ),
    "a check that returns a list": (
        acme(check=lambda settings, slice_: [Request(url=settings.base_url)]),
        rf"connector acme: check {HERE} returned list; write return Request\(\.\.\.\)",
    ),
    "one stream in place of a list": (
        acme(streams=STREAM),
        r"connector acme: streams cannot be used: TypeError: one Stream in place of a list; write \[Stream\(\.\.\.\)\]",
    ),
    "streams of a module that does not exist": (
        acme(streams="acme_shop.streams:STREAMS"),
        r"connector acme: streams cannot be used: ImportError: the "
        r"connector names \"acme_shop\.streams:STREAMS\", and there is no module acme_shop\.streams\.?",
    ),
    "a sandbox that is the application": (
        acme(sandbox=Imitation),
        r"connector acme: sandbox cannot be used: TypeError: it offers type; write Sandbox\(\.\.\.\)",
    ),
    "a connector that is another value": (
        ConnectorPlugin("math:pi"),
        r"ConnectorPlugin\(\"math:pi\"\) cannot be used: TypeError: it is float; write "
        r"Connector\(\.\.\.\)",
    ),
    "a connector in a module that does not exist": (
        ConnectorPlugin("acme_shop:CONNECTOR"),
        r"ConnectorPlugin\(\"acme_shop:CONNECTOR\"\) cannot be used: ImportError: the connector names "
        r"\"acme_shop:CONNECTOR\", and there is no module acme_shop\..*",
    ),
    "a sandbox of another name": (
        acme(sandbox=evolve(SANDBOX, connector="acne")),
        r"it offers the sandbox of 'acne', which is no connector here\. Did you mean \"acme\"\?",
    ),
}


def test_strict_plugins_refuses_a_wrong_result(capsys: pytest.CaptureFixture[str]) -> None:
    """
    The list itself ends with 0: a broken plugin that nobody uses is no failure.
    """
    plugins = [requests(returns_none), penstock_plugins]

    assert main(["connectors"], plugins=plugins) == 0
    assert main(["--strict-plugins", "connectors"], plugins=plugins) == 2
    assert "the requests of the stream sales (test_first_mistakes.py, line " in capsys.readouterr().err


def test_a_sound_connector_has_no_problem() -> None:
    """
    None of what follows is reported of it.
    """
    assert problems_of([acme(), penstock_plugins]) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_before_the_first_run(mistake: str) -> None:
    """
    One message states what was written and what to write.
    """
    plugin, message = MISTAKES[mistake]

    found = problems_of([plugin, penstock_plugins])

    assert len(found) == 1, found
    assert re.fullmatch(message, found[0]), found[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            OfGzip,
            "with HTTP 200, but the body is packed with gzip, and the envelope of this stream reads JSON; a report "
            "file is read with envelope=ReportFile(), or downloads=ReportFile() behind a poller",
        ),
        (
            OfZip,
            "with HTTP 200, but the body is a zip file, and the envelope of this stream reads JSON; a report file",
        ),
        (
            OfData,
            "all 1 records were rejected, the first because $[0].id: the member 'id' is missing; there is data",
        ),
    ],
    ids=["a gzip body without a report envelope", "a zip file without one", "records inside of a member"],
)
def test_a_mistake_about_the_body_is_reported_by_the_kit(make: Any, message: str, tmp_path: Path) -> None:
    """
    The kit reports a mistake about the body in the message of its first run.
    """
    plugins = [acme(sandbox=evolve(SANDBOX, make=make)), penstock_plugins]

    with pytest.raises(NotConforming) as raised:
        conforms("acme", tmp_path, plugins=plugins, truth=UNKNOWN)

    first = raised.value.problems[0]
    assert first.check == "exit code"
    assert message in first
