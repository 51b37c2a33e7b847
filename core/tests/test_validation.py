"""
Declarations that cannot work. The load of a plugin reports all of them, each with what was seen and what to write.
"""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import penstock
import pytest
from attrs import frozen
from command_in_process import main
from connector_run import loaded
from penstock.actions import Action, Field, MostValues
from penstock.connector import Connector, ConnectorPlugin, Derived, Parent, Registration, Stream
from penstock.envelope import Envelope
from penstock.errors import PluginError
from penstock.protocols import SinglePage, Unsigned, named
from penstock.records import Json, added, derived, record, row_key, secret
from penstock.redact import Secret
from penstock.settings import OpenFor, SourceSettings, setting


@frozen(kw_only=True)
class AcmeSettings(SourceSettings):
    base_url: str = setting("http://127.0.0.1:1", help="where Acme answers")
    account_ids: tuple[str, ...] = setting(("17",), help="the accounts to read")
    api_key: Secret = setting(Secret("a key of theirs"), help="the key")


@record()
class Click:
    account_id: str = added()
    report_date: date = added()
    id: str
    price: str
    clicked_on: date
    pin: str | None = secret()
    parts: Json = None


@record()
class Offer:
    id: str
    parts: Json = None


@record()
class Priced:
    id: str
    price_amount: Decimal | None = derived(of="prise", scale=-2)
    price: str
    key_of: str = row_key("id", "ipp")
    whole_amount: int | None = derived(of="price")


@record()
class Part:
    id: str


class NotDeclared:
    pass


def requests(settings: Any, slice_: Any) -> Sequence[Any]:
    return ()


CLICKS: dict[str, Any] = {
    "name": "clicks",
    "summary": "",
    "record": Click,
    "kind": "report",
    "key": "id",
    "account": "account_id",
    "accounts": lambda settings: settings.account_ids,
    "day": "report_date",
    "requests": requests,
}
OFFERS = Stream(name="offers", summary="", record=Offer, kind="snapshot", key="id", requests=requests)
PARTS: dict[str, Any] = {"name": "parts", "summary": "", "record": Part, "kind": "snapshot", "key": "id"}
ID_ONLY: Any = "id"  # a text where names are expected


class Acme:
    """Offers what a test declares, beside a sound stream."""

    __name__ = "connector-acme"

    def __init__(self, *streams: Stream, actions: Iterable[Action] = ()) -> None:
        self.streams = streams
        self.actions = tuple(actions)

    @penstock.hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        yield Connector(name="acme", summary="", settings=AcmeSettings)

    @penstock.hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        return (OFFERS, *self.streams) if source == "acme" else ()

    @penstock.hookimpl
    def penstock_actions(self, source: str) -> Iterable[Action]:
        return self.actions if source == "acme" else ()

    @penstock.hookimpl
    def penstock_paginators(self) -> Iterable[Registration]:
        yield Registration(name="single", factory=SinglePage, summary="")

    @penstock.hookimpl
    def penstock_decoders(self) -> Iterable[Registration]:
        yield Registration(name="json", factory=Envelope, summary="")


def clicks(**changed: Any) -> Stream:
    return Stream(**{**CLICKS, **changed})


def changes(**changed: Any) -> Stream:
    return clicks(kind="changes", day="clicked_on", **changed)


def parts(**changed: Any) -> Stream:
    return Stream(**{**PARTS, **changed})


SOUND = [
    pytest.param(clicks(), id="a report"),
    pytest.param(clicks(account="shop", day="day", record=Offer), id="partition columns that the record class lacks"),
    pytest.param(clicks(days_per_request=7, day_of="clicked_on"), id="several days"),
    pytest.param(clicks(days_per_request=7, envelope=Envelope(keyed_by="report_date")), id="days in the envelope"),
    pytest.param(clicks(day="clicked_on", days_per_request=7), id="the day is sent"),
    pytest.param(clicks(accounts=None, accounts_from=("offers", "id")), id="listed accounts"),
    pytest.param(clicks(paginator=named("single")), id="a named part"),
    pytest.param(clicks(paginator=lambda settings: SinglePage()), id="a part made of the settings"),
    pytest.param(clicks(required_settings=("account_ids", "open_for")), id="settings that are there"),
    pytest.param(parts(parent=Parent(stream="offers", columns=("id",)), requests=requests), id="a child"),
    pytest.param(
        parts(key=("offer_id", "id"), derived=Derived(stream="offers", column="parts", stamps={"offer_id": "id"})),
        id="a derived stream",
    ),
    pytest.param(clicks(requests=Stream.__attrs_attrs__.requests.default, not_built="later"), id="not built"),
]

MISTAKEN = [
    (clicks(record=NotDeclared), "NotDeclared is no record class: put @record() above it"),
    (clicks(kind="reports"), "kind 'reports' does not exist; write 'report' or 'changes' or 'snapshot'. Did you mean"),
    (clicks(day=None), 'it is a report without day; name the column of the report\'s day, day="report_date"'),
    (clicks(kind="changes", day=None), "it has changes without day"),
    (clicks(kind="changes", key=()), "it has changes without a key, by which they are merged"),
    (clicks(kind="snapshot"), "it is a snapshot, which has no days, with day 'report_date'"),
    (clicks(requests=Stream.__attrs_attrs__.requests.default), "it has no requests, so nothing would be fetched"),
    (clicks(accounts=("17", "18")), "accounts is tuple; write a function, such as lambda settings:"),
    (changes(lookback=3), "lookback is 3; write timedelta(days=3), or the unit that is meant, from datetime"),
    (changes(lag="5 min"), "lag is '5 min'; write timedelta(days=1), or the unit that is meant, from datetime"),
    (changes(lag=-timedelta(minutes=5)), "lag is -300 s; write a time of 0 or more,"),
    (clicks(lookback=timedelta(days=3)), "lookback without changes: a report does not use it; leave it out,"),
    (clicks(poll_first_s=-1), "poll_first_s is -1; write a number of seconds of 0 or more"),
    (clicks(poll_max_s=0), "poll_max_s is 0; write a number of seconds above 0"),
    (clicks(poll_max_s=timedelta(minutes=1)), "poll_max_s is datetime.timedelta(seconds=60); write a number of"),
    (clicks(open_for=-1), "open_for is -1 days; write 0 or more days, and a day of the month from 1 to 28"),
    (clicks(open_for=OpenFor(2, month_day=31)), "write 0 or more days, and a day of the month from 1 to 28"),
    (clicks(open_for="2 days"), "open_for is '2 days'; write a number of days, open_for=2, or OpenFor(2, month_day=8)"),
    (clicks(name="daily clicks"), "name is 'daily clicks'; write a letter, then letters, digits, _ and -"),
    (
        clicks(days_per_request=7, envelope=named("json", items="clicks")),
        "days_per_request is 7, and no column holds a row's day; name one, day_of=",
    ),
    (clicks(account="acount_id"), "account names the column 'acount_id', which Click does not have"),
    (clicks(account="account"), "write account='account_id'"),
    (clicks(day="report_day"), "write day='report_date'"),
    (clicks(day="parts"), "day 'parts' is of type json; annotate it as date"),
    (clicks(account="pin"), "account 'pin' is secret"),
    (clicks(key=("id", "clickid")), "key names the column 'clickid', which Click does not have"),
    (clicks(key="parts"), "key 'parts' is a json column"),
    (clicks(key="pin"), "key 'pin' is secret"),
    (clicks(day_of="clicked"), "day_of names the column 'clicked', which Click does not have. Did"),
    (clicks(inexact_bounds=True), "inexact_bounds with no day_of; name a column with a time (datetime)"),
    (clicks(inexact_bounds=True, day_of="id"), "inexact_bounds with day_of 'id', a text column; name a column"),
    (clicks(smallest="week"), "smallest is 'week'; write 'day', 'hour', 'minute' or 'second'"),
    (clicks(zone_from="zone"), "zone_from without accounts_from; name the stream that lists"),
    (clicks(requests=None), "it has no requests, so nothing would be fetched; write path= or requests="),
    (clicks(path="/clicks"), "it has requests, which replace path and params; write one of the two"),
    (clicks(requests=None, path="clicks"), "path is 'clicks'; write a path below base_url"),
    (clicks(requests=None, path="/{acount}"), "path names {acount}, which is no value of a request. Did you mean"),
    (
        clicks(requests=None, path="/c", params={"k": "{api_key}"}),
        "params['k'] names the secret api_key; the authenticator sends it, not a template",
    ),
    (
        clicks(requests=None, path="/c", kind="snapshot", day=None, params={"d": "{since:%Y}"}),
        "params['d'] names {since}, and the stream has no day",
    ),
    (
        clicks(requests=None, path="/c/{id}", parent=Parent(stream="x", columns=("id",), per_request=9)),
        "path takes one parent row, and per_request is 9; name the column in a list of one element of json, or write",
    ),
    (
        clicks(requests=None, path="/c", json={"q": "{sinse}"}),
        "json['q'] names {sinse}, which is no value of a request. Did you mean \"since\"? Braces of the provider's own",
    ),
    (clicks(requests=None, path="/c", json={"k": "{api_key}"}), "json['k'] names the secret api_key; the auth"),
    (
        clicks(
            requests=None, path="/c", json={"i": "{id}"}, parent=Parent(stream="x", columns=("id",), per_request=9)
        ),
        "json['i'] takes one parent row, and per_request is 9; name the column in a list of one element",
    ),
    (clicks(json={}), "json is the body of the request that path names; write path=, and no requests="),
    (clicks(account=None), 'accounts without account; name the column of the account, account="account_id"'),
    (
        clicks(days_per_request=7, day_of="clicked_on", path="/clicks", params={"day": "{since}"}, requests=None),
        "name {until} or {end}, too, or leave days_per_request out; if the provider returns all later days without",
    ),
    (clicks(days_per_request=7), "days_per_request is 7, and no column holds a row's day; name one"),
    (clicks(days_per_request=0), "days_per_request is 0; write a number of days, 1 or more"),
    (clicks(accounts=None, accounts_from=("offer", "id")), "accounts_from names the stream 'offer', which does"),
    (clicks(accounts=None, accounts_from=("offers", "ids")), "accounts_from: names the column 'ids', which Offer"),
    (
        clicks(accounts=None, accounts_from=("offers", "id"), zone_from="zon"),
        "zone_from: names the column 'zon', which Offer",
    ),
    (clicks(requests=None, path="/c", params={"day": "{since:YYYY-MM-DD}"}), "would be sent as it is; write {since:"),
    (clicks(requests=None, path="/c", json={"v": {"a": "{start:ms}"}}), "or {start:epoch_s} or {start:epoch_ms}"),
    (clicks(requests=None, path="/c", params={"a": "{until:epoch_s}"}), "is a day and no time; write {end:epoch_s}"),
    (clicks(parent=Parent(stream="clicks", columns=("id",))), "parent names the stream itself"),
    (clicks(parent=Parent(stream="offers", columns=("id",))), "and that of its parent offers is None"),
    (parts(parent=Parent(stream="offers", columns=("slug",)), requests=requests), "parent: names the column 'slug'"),
    (parts(parent=Parent(stream="offers", columns=ID_ONLY), requests=requests), "parent: columns is str ('id');"),
    (parts(derived=Derived(stream="offers", column="id", stamps={})), "the column id of offers is a text column"),
    (parts(derived=Derived(stream="offers", column="bits", stamps={})), "derived: names the column 'bits'"),
    (parts(derived=Derived(stream="ofers", column="parts", stamps={})), 'which does not exist. Did you mean "offers"'),
    (parts(kind="changes", derived=Derived(stream="offers", column="parts", stamps={})), "so write 'snapshot'"),
    (clicks(paginator=named("singel")), "paginator: no paginator named 'singel' is installed. Did you"),
    (clicks(paginator=named("single", size=3)), "cannot be made with the options ['size']"),
    (clicks(poller=named("waits")), "poller: no poller named 'waits' is installed"),
    (clicks(envelope=named("xml")), "envelope: no decoder named 'xml' is installed"),
    (clicks(paginator=SinglePage), "paginator is the class SinglePage; write SinglePage(...)"),
    (clicks(paginator="offset"), "paginator is the text 'offset'; write paginator=named(\"offset\")"),
    (clicks(poller=SinglePage()), "poller is SinglePage without handle, poll, state, expired"),
    (clicks(envelope="clicks"), "envelope is the text 'clicks'; write envelope=Envelope(items=\"clicks\")"),
    (
        clicks(required_settings=("acount_ids",)),
        "required_settings names 'acount_ids', which is no setting of AcmeSettings. Did you mean",
    ),
    (parts(record=Priced, requests=requests), "Priced.price_amount: derived(of='prise') names the column 'prise'"),
    (parts(record=Priced, requests=requests), "Priced.key_of: row_key('ipp') names the column 'ipp'"),
    (parts(record=Priced, requests=requests), "Priced.whole_amount: derived(of='price') is annotated as integer"),
    (OFFERS, "more than one has this name; rename all but one"),
]  # fmt: skip


@pytest.mark.parametrize("stream", SOUND)
def test_a_sound_stream_is_offered(stream: Stream) -> None:
    """
    A sound stream is offered, whatever it leaves to penstock or to the configuration.
    """
    registry = loaded([Acme(stream)])

    assert registry.broken() == ()
    assert stream in registry.streams("acme")


@pytest.mark.parametrize(("stream", "output"), MISTAKEN, ids=[output[:60] for _, output in MISTAKEN])
def test_a_mistake_in_a_stream_breaks_its_plugin(stream: Stream, output: str) -> None:
    """
    The plugin is listed with the stream, what was seen and what to write. A run gets the same message.
    """
    registry = loaded([Acme(stream)])

    reasons = [broken.reason for broken in registry.broken()]
    assert any(reason.startswith(f"stream {stream.name}: ") and output in reason for reason in reasons)
    with pytest.raises(PluginError) as refused:
        registry.streams("acme")
    assert output in str(refused.value)
    assert str(refused.value).startswith("connector-acme is broken: ")


def test_a_stream_derived_from_changes_holds_their_whole_key() -> None:
    """
    By a part of it, the rows of other records would be replaced, or none. The account is held without a stamp.
    """
    cut = Derived(stream="clicks", column="parts", stamps={"click_id": "id"})
    one, two = (
        loaded([Acme(changes(key=key), parts(kind="changes", key=("click_id", "id"), derived=cut))])
        for key in (("account_id", "id"), ("id", "price"))
    )

    assert not one.broken()
    assert [broken.reason for broken in two.broken()] == [
        "stream parts: derived: stamps lacks 'price' of the key of clicks, by which the rows of a record that is read "
        "again are replaced: add it"
    ]


def by_offer(**changed: Any) -> Stream:
    return Stream(**{**PARTS, "name": "by_offer", "account": "offer", "requests": requests, **changed})


@pytest.mark.parametrize(
    ("other", "lister", "output"),
    [
        (clicks(kind="snapshot", day=None), ("clicks", "id"), "'clicks', which is divided by account_id; name a snap"),
        (clicks(account=None, accounts=None), ("clicks", "id"), "'clicks', which is of kind 'report'; name a snapshot"),
        (clicks(accounts=None, accounts_from=("offers", "id")), ("offers", "parts"), "and clicks names 'id'; streams"),
    ],
    ids=["divided by accounts", "divided by days", "another column"],
)
def test_accounts_are_listed_by_one_column_of_a_whole_snapshot(
    other: Stream, lister: tuple[str, str], output: str
) -> None:
    """
    A list that is read in several pieces, or two columns, would count in part only.
    """
    broken = loaded([Acme(other, by_offer(accounts_from=lister))]).broken()

    assert any(output in one.reason for one in broken)


def test_a_child_with_days_has_the_kind_of_its_parent() -> None:
    """
    A day of changes does not hold the rows of a report's day.
    """
    child = clicks(name="visits", kind="changes", parent=Parent(stream="clicks", columns=("id",)))

    (broken,) = loaded([Acme(clicks(), child)]).broken()

    assert broken.reason.startswith("stream visits: kind is 'changes', and that of its parent clicks is 'report'")


def test_a_parent_without_a_kind_is_the_only_problem() -> None:
    """
    The missing kind of a parent is reported once, and not for its child.
    """
    child = clicks(name="visits", parent=Parent(stream="clicks", columns=("id",)))

    (broken,) = loaded([Acme(clicks(kind=None), child)]).broken()

    assert broken.reason.startswith("stream clicks: kind None does not exist")


def test_all_mistakes_are_reported_at_once() -> None:
    """
    The mistakes of all streams are reported together.
    """
    registry = loaded([Acme(clicks(kind="x", key="y", day_of="z"), parts(requests=requests, required_settings=("q",)))])

    with pytest.raises(PluginError) as refused:
        registry.streams("acme")
    lines = [line for line in str(refused.value).splitlines() if line.startswith("  - ")]
    assert [line.split(": ")[0].strip("- ") for line in lines] == ["stream clicks"] * 3 + ["stream parts"]


FIELD = Field(name="id", place="path", required=True)
ACTION: dict[str, Any] = {"name": "pause", "summary": "", "method": "POST", "path": "/offers/{id}", "fields": (FIELD,)}


@pytest.mark.parametrize(
    ("changed", "output"),
    [
        (
            {"fields": ()},
            "path '/offers/{id}' contains {id}, which is no field; add Field(name='id', place=",
        ),
        ({"fields": (Field(name="id"),)}, 'field id: it is in the path; write place="path" and required=True'),
        ({"path": "/offers"}, "field id: path '/offers' does not name it; write {id} there"),
        ({"fields": (FIELD, Field(name="key", aliases=("id",)))}, "field key: 'id' is also a name of the field id"),
        ({"fields": (FIELD, FIELD)}, "field id: more than one has this name"),
        ({"fields": (FIELD, Field(name="x", place="cookie"))}, "field x: place 'cookie' is none of path, query"),  # type: ignore[arg-type]
        ({"fields": (FIELD, Field(name="x", type="int"))}, "field x: type 'int' is none of text, integer"),  # type: ignore[arg-type]
        ({"rows_per_request": 0}, "rows_per_request is 0; write 1 or more"),
        ({"rows_member": "inputs"}, "rows_member is 'inputs', and a body has one row; write rows_per_request=100"),
        ({"most_values": MostValues(field="x", most=2, most_url=100)}, "most_values names the field 'x'"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_mistake_in_an_action_breaks_its_plugin(changed: dict[str, Any], output: str) -> None:
    """
    A mistake in an action is reported with the action and the field; nothing can be sent.
    """
    registry = loaded([Acme(actions=[Action(**{**ACTION, **changed})])])

    assert any(broken.reason.startswith("action pause: ") and output in broken.reason for broken in registry.broken())
    with pytest.raises(PluginError, match="connector-acme is broken: "):
        registry.actions("acme")
    assert loaded([Acme(actions=[Action(**ACTION)])]).broken() == ()


class Stranger:
    """Adds a mistaken stream to a connector that is not its own."""

    __name__ = "stranger"

    @penstock.hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        return [clicks(name="more", key="nothing")] if source == "acme" else []


def test_a_mistake_of_another_plugin_affects_nothing_else() -> None:
    """
    The connector's own streams are offered; the other plugin is the broken one.
    """
    registry = loaded([Acme(), Stranger()])

    assert [stream.name for stream in registry.streams("acme")] == ["offers"]
    assert [str(broken.plugin) for broken in registry.broken()] == ["stranger"]


@pytest.mark.parametrize("words", ["streams acme", "plan acme", "run acme --to -", "check acme", "connectors"])
def test_every_verb_reports_a_wrong_declaration(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A wrong declaration is reported before the first request. ``connectors`` lists it, whoever needs the connector ends
    with 2.
    """
    code = main(words.split(), plugins=[Acme(clicks(day=None))], environ={})

    out, err = capsys.readouterr()
    assert code == (0 if words == "connectors" else 2)
    assert "stream clicks: it is a report without day" in out + err
    if code:
        assert "If you wrote it, correct that (`penstock connectors --debug`" in err
        assert "Otherwise install another version of connector-acme and report the fault to its publisher" in err


# --- connectors -------------------------------------------------------------------------------------------------------


class Undecorated(SourceSettings):
    token: Secret = setting(help="the token")


@frozen(kw_only=True)
class Untyped(SourceSettings):
    account_ids = setting((), help="accounts")


@frozen(kw_only=True)
class Open(SourceSettings):
    api_token: str | None = setting(None, help="the token")
    page_token: str = setting("", help="the name of the parameter with the page's token", secret=False)


@frozen
class Signs(Unsigned):
    pass


NO_TYPE: Any = {"authenticator": Signs(), "judge": "ok", "limits": 3, "settings": "acme"}
CONNECTORS: list[tuple[dict[str, Any], str]] = [
    ({"settings": Undecorated}, "Undecorated (test_validation.py, line "),
    ({"settings": Undecorated}, "has no decorator; put @frozen(kw_only=True) above it"),
    ({"settings": Untyped}, "has no type; write account_ids: str = setting(...)"),
    ({"settings": Open}, "looks like a secret and is a text, which logs may show; write api_token: Secret = "),
    ({"settings": NO_TYPE["settings"]}, "settings is str ('acme'); write a class that extends SourceSettings"),
    ({"authenticator": NO_TYPE["authenticator"]}, "authenticator is Signs; write a function, such as authenticator="),
    ({"judge": NO_TYPE["judge"]}, "judge is str ('ok'); write a function, such as judge(response, answer)"),
    ({"limits": NO_TYPE["limits"]}, "limits is int (3); write Limits("),
]


@pytest.mark.parametrize(("fields", "output"), CONNECTORS, ids=[output[:60] for _, output in CONNECTORS])
def test_a_mistake_in_a_connector_breaks_its_plugin(fields: dict[str, Any], output: str) -> None:
    """
    The plugin is listed with the connector, and its file where a class is wrong; the connector cannot be used.
    """
    connector = Connector(**{"name": "acme", "summary": "", "settings": AcmeSettings, "streams": (OFFERS,), **fields})
    registry = loaded([ConnectorPlugin(connector)])

    reasons = [broken.reason for broken in registry.broken()]
    assert len(reasons) == 1
    assert reasons[0].startswith("connector acme: ")
    assert output in reasons[0]
    with pytest.raises(PluginError, match="the connector 'acme' is missing because acme is broken: "):
        registry.connector("acme")
