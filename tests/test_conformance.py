"""
The kit for connectors: what keeps everything passes, and each thing that is not kept is named.
"""

import json
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from urllib.request import urlopen

import penstock
import pytest
from attrs import evolve, frozen
from imitation_joveo import JoveoSandbox
from imitation_targetcircle import TargetCircle
from penstock import (
    AuthenticationError,
    Connector,
    Envelope,
    Grant,
    Page,
    Refuse,
    Request,
    Sandbox,
    SandboxRequest,
    SandboxResponse,
    Secret,
    ServerError,
    SinglePage,
    SourceSettings,
    Stream,
    added,
    derived,
    record,
    setting,
)
from penstock.sandbox.server import serve
from penstock.testing.conformance import CHECKS, QUICK, UNKNOWN, NotConforming, conforms
from penstock_plugins.paging import Cursor, PageNumber
from penstock_plugins.tokens import HeaderTokens
from providers import PROVIDERS, Provider

pytestmark = pytest.mark.slow

# How a provider refuses a token that ran out.
EXPIRED = {"joveo": 403}


# Imitations with more than one page of every listing.
SMALL_PAGES: dict[str, Callable[[str, date], Any]] = {
    "targetcircle": partial(TargetCircle, rows_per_page=2, offer_count=3),
    "joveo": partial(JoveoSandbox, jobs_per_client=(5, 3), polls_until_ready=1, most_per_page=1),
}


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_the_connectors_meet_the_requirements_for_every_connector(provider: Provider, tmp_path: Path) -> None:
    """
    All streams of the reading ones, with the rows that their imitations state.
    """
    conforms(
        provider.name,
        tmp_path,
        make=SMALL_PAGES.get(provider.name, provider.make),
        settings=provider.settings,
        streams=provider.streams,
        truth=lambda app, stream, **partition: provider.truth(app, stream, tuple(partition.values())),
        faults="reset,cut_json",  # all of them are in front of all of these in test_fault_matrix.py
        expired=EXPIRED.get(provider.name, 401),
    )


def test_a_connector_that_only_writes_has_fewer_checks(tmp_path: Path) -> None:
    """
    For a connector without streams the kit checks its declarations.
    """
    conforms("sensis", tmp_path)

    assert list(tmp_path.iterdir()) == []  # nothing was read


# --- what is not kept -----------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class AcmeSettings(SourceSettings):
    base_url: str = setting(help="where Acme answers")
    key: Secret = setting(help="from Acme")


@record()
class Sale:
    day: date = added()
    id: str
    price: str | None = None


@record()
class CentSale:
    """One sale, with its price in cents and, wrongly scaled, as an amount."""

    day: date = added()
    id: str
    price: str | None = None
    amount: Decimal | None = derived(of="price", scale=-3, unit="USD")


def judge(response: Any, answer: Any) -> Any:
    return Refuse(AuthenticationError("the key was refused")) if response.status == 401 else None


class Sales:
    """Two sales a day."""

    def __init__(self, base_url: str, today: date) -> None:
        self.today = today

    rows = 2

    def truth(self, stream: str, day: str) -> list[dict[str, Any]]:
        return [{"id": f"{day}-{number}", "price": "1.50"} for number in range(self.rows)]

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        if request.headers.get("x-key") != "demo":
            return SandboxResponse(status=401, body=b"{}")
        return SandboxResponse(body=json.dumps(self.answer(parse_qs(request.query).get("day", [""])[0])).encode())

    def answer(self, day: str) -> list[dict[str, Any]]:
        return self.truth("sales", day)


class Empty(Sales):
    def answer(self, day: str) -> list[dict[str, Any]]:
        return []


class Talkative(Sales):
    def answer(self, day: str) -> list[dict[str, Any]]:
        return [{**row, "buyer": "ann"} for row in super().answer(day)]


class Paged(Sales):
    """Three sales a day, two on a page."""

    rows = 3

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        whole = json.loads(super().__call__(request).body)
        if not isinstance(whole, list):
            return super().__call__(request)
        start = 2 * (int(parse_qs(request.query).get("page", ["1"])[0]) - 1)
        return SandboxResponse(body=json.dumps(whole[start : start + 2]).encode())


class Headed(Sales):
    """Three sales a day, two on a page, and the cursor of the next page in a header."""

    rows = 3

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        whole = json.loads(super().__call__(request).body)
        if not isinstance(whole, list):
            return super().__call__(request)
        start = int(parse_qs(request.query).get("cursor", ["0"])[0])
        headers = {"X-Next": str(start + 2)} if start + 2 < len(whole) else {}
        return SandboxResponse(headers=headers, body=json.dumps(whole[start : start + 2]).encode())


class Full(Paged):
    """Two whole pages."""

    rows = 4


class OnePage(Paged):
    rows = 2


class Endless(Sales):
    """Every page has other sales."""

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        if request.path == "/me" or request.headers.get("x-key") != "demo":
            return super().__call__(request)
        query = parse_qs(request.query)
        return SandboxResponse(body=json.dumps([{"id": f"{query['day'][0]}-{query.get('page')}"}]).encode())


class Shops(Sales):
    """The sales of each shop have the same ids."""

    def truth(self, stream: str, day: str, shop: str = "") -> list[dict[str, Any]]:
        return super().truth(stream, day)


class Nameless(Sales):
    def answer(self, day: str) -> list[dict[str, Any]]:
        return [*super().answer(day), {"id": None}]


class Doubling(Sales):
    def answer(self, day: str) -> list[dict[str, Any]]:
        return super().answer(day) * 2


class Renamed(Sales):
    """Two sales have the same id."""

    def answer(self, day: str) -> list[dict[str, Any]]:
        return [*super().answer(day), {"id": f"{day}-0", "price": "7.00"}]


class Changing(Sales):
    """Each imitation that is made has other prices."""

    made = 0

    def __init__(self, base_url: str, today: date) -> None:
        super().__init__(base_url, today)
        type(self).made += 1
        self.price = str(self.made)

    def truth(self, stream: str, day: str) -> list[dict[str, Any]]:
        return [{**row, "price": self.price} for row in super().truth(stream, day)]


class Forgetting(Sales):
    """Each day is served once."""

    def __init__(self, base_url: str, today: date) -> None:
        super().__init__(base_url, today)
        self.served: set[str] = set()

    def answer(self, day: str) -> list[dict[str, Any]]:
        rows = [] if day in self.served else super().answer(day)
        self.served.add(day)
        return rows


class Echoing(Sales):
    """A refusal repeats the start of the key."""

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        key = request.headers.get("x-key", "")
        if key == "demo":
            return super().__call__(request)
        return SandboxResponse(status=401, body=json.dumps({"message": f"no key begins with {key[:15]}"}).encode())


class Provisional(Sales):
    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        answer = super().__call__(request)
        return evolve(answer, body=b'{"final": false, "sales": %s}' % answer.body) if answer.status == 200 else answer


class Counted(Sales):
    """A page with its number of sales, and whether there is another one."""

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        answer = super().__call__(request)
        rows = json.loads(answer.body)
        if not isinstance(rows, list):
            return answer
        page = int(parse_qs(request.query).get("page", ["1"])[0])
        found = {"count": len(rows), "paging": {"hasMore": page == 1}, "sales": rows[page - 1 : page]}
        return SandboxResponse(body=json.dumps(found).encode())


class Floating(Sales):
    def truth(self, stream: str, day: str) -> list[dict[str, Any]]:
        return [{"id": f"{day}-{number}", "price": number * 0.1} for number in (1, 3)]


class Untold(Sales):
    truth = None  # type: ignore[assignment]

    def answer(self, day: str) -> list[dict[str, Any]]:
        return Sales.truth(self, "sales", day)


class Open(Sales):
    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        return super().__call__(evolve(request, headers={"x-key": "demo"}))


class Queried(Sales):
    """Rows are the answer to a POST, as in GraphQL."""

    def __call__(self, request: SandboxRequest) -> SandboxResponse:
        day = json.loads(request.body).get("day", "") if request.method == "POST" else ""
        return super().__call__(evolve(request, target=f"{request.target}?day={day}"))


class Acme:
    """A connector that keeps everything, but for what a test changes."""

    def __init__(
        self,
        make: Any = Sales,
        *,
        connector: Mapping[str, Any] | None = None,
        stream: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.make, self.connector, self.stream, self.settings = make, connector or {}, stream or {}, settings or {}

    @penstock.hookimpl
    def penstock_sources(self) -> Iterable[Connector]:
        usual: dict[str, Any] = {
            "authenticator": lambda settings: HeaderTokens(headers={"x-key": settings.key}),
            "judge": judge,
            "check": lambda settings, slice_: Request(url=f"{settings.base_url}/me"),
        }
        yield Connector(name="acme", summary="", **{"settings": AcmeSettings, **usual, **self.connector})

    @penstock.hookimpl
    def penstock_record_streams(self, source: str) -> Iterable[Stream]:
        usual: dict[str, Any] = {
            "record": Sale,
            "kind": "report",
            "key": "id",
            "day": "day",
            "requests": lambda settings, slice_: [
                Request(url=f"{settings.base_url}/sales", params=(("day", str(slice_.since)),))
            ],
        }
        if source == "acme":
            yield Stream(name="sales", summary="", **{**usual, **self.stream})

    @penstock.hookimpl
    def penstock_sandboxes(self) -> Iterable[Sandbox]:
        yield Sandbox(connector="acme", summary="", make=self.make, settings={"key": "demo", **self.settings})


class Masking(Acme):
    """A plugin that gives the rows of each page the same keys."""

    def __init__(self) -> None:
        super().__init__(Paged, stream={"paginator": PageNumber()})

    @penstock.hookimpl
    def penstock_batch(self, batch: Any) -> Any:
        for number, row in enumerate(batch.rows):
            row.id = f"x{number}"
        return batch


class CountingOn(SinglePage):
    """Requests page after page."""

    def next(self, page: Page) -> Request:
        return page.request.with_param("page", str(page.index + 2))


@frozen
class Elsewhere:
    """Logs in at another host."""

    url: str

    def grant_request(self) -> Request:
        return Request(method="POST", url=self.url)

    def read_grant(self, response: Any) -> Grant:
        return Grant(token=Secret("granted-token"))

    def sign(self, request: Request, now: Any, grant: Any) -> Request:
        return request.with_headers(("x-key", "demo"))

    def explain(self, request: Request, now: Any) -> str:
        return ""


@frozen(kw_only=True)
class LoginSettings(AcmeSettings):
    login_url: str = setting("", help="where tokens are granted")


def post(settings: Any, slice_: Any) -> Request:
    return Request(method="POST", url=f"{settings.base_url}/me")


def only_once(response: Any, answer: Any) -> Any:
    refused = judge(response, answer)
    return refused or (Refuse(AuthenticationError("busy")) if response.status == 500 else None)


def test_a_sound_connector_conforms(tmp_path: Path) -> None:
    """
    A sound connector conforms with the truth of its imitation, whether it is stated or offered, and where it is stated
    to be unknown.
    """
    conforms("acme", tmp_path / "a", plugins=[Acme()], truth=Sales.truth)
    paged = Acme(Paged, stream={"paginator": PageNumber()})
    more = {"envelope": Envelope(items="sales", total="count"), "paginator": PageNumber(more="paging.hasMore")}
    conforms("acme", tmp_path / "e", plugins=[Acme(Counted, stream=more)], faults="cut")
    conforms("acme", tmp_path / "b", plugins=[Acme(Untold)], truth=UNKNOWN, faults="cut")
    conforms("acme", tmp_path / "c", plugins=[paged], faults="cut")
    conforms("acme", tmp_path / "d", plugins=[Acme(Full, stream={"paginator": PageNumber()})], faults="cut")
    conforms(
        "acme", tmp_path / "f", plugins=[Acme(Headed, stream={"paginator": Cursor(header="X-Next")})], faults="cut"
    )


def test_a_check_may_be_a_query(tmp_path: Path) -> None:
    """
    A POST to the path from which a stream is read by POST: GraphQL has no other request that only reads.
    """
    stream = {"requests": None, "path": "/sales", "json": {"day": "{since}"}}

    def query(settings: Any, slice_: Any) -> Request:
        return Request(method="POST", url=f"{settings.base_url}/sales", body=b"{}")

    conforms("acme", tmp_path, plugins=[Acme(Queried, stream=stream, connector={"check": query})], faults="cut")


def a_moment(settings: Any, slice_: Any) -> Request:
    return Request(url=f"{settings.base_url}/sales", params=(("day", str(slice_.since)),))


@frozen(kw_only=True)
class CurrencySettings(AcmeSettings):
    currency: str = setting("USD", help="of the prices")


@frozen(kw_only=True)
class StatedSettings(AcmeSettings):
    currency: str = setting("USD", help="of the prices", affects_data=True)
    page_size: int = setting(2, help="sales of a page", affects_data=False)


def in_currency(settings: Any, slice_: Any) -> Request:
    size = getattr(settings, "page_size", 2)
    return a_moment(settings, slice_).with_param("currency", settings.currency).with_param("size", str(size))


def test_a_setting_of_the_requests_states_whether_it_affects_the_data(tmp_path: Path) -> None:
    """
    Either statement is one: the rows of another currency are others, those of another page size are not.
    """
    connector = {"settings": StatedSettings}

    conforms("acme", tmp_path, plugins=[Acme(stream={"requests": in_currency}, connector=connector)], faults="cut")


def sending(settings: Any, slice_: Any) -> Request:
    """Requests that send one themselves."""
    own = urllib.request.Request(f"{settings.base_url}/me", headers={"X-Key": "demo"})
    with suppress(OSError), urlopen(own):
        pass
    return a_moment(settings, slice_)


def downloaded(other: str) -> Any:
    """Requests that go to another server, without credentials."""
    return lambda settings, slice_: [
        evolve(a_moment(settings, slice_), url=f"{other}/sales", credentials=False, headers=(("accept", "text/json"),))
    ]


PROVISIONAL = Envelope(items="sales", provisional_unless={"final": True})

COUNTED = {"paginator": PageNumber()}

# Of each check: connectors that differ from a sound one in what it tries, and the start of its message.
TWINS: dict[str, list[tuple[Callable[[str], Acme], str]]] = {
    "declarations": [
        (lambda other: Acme(stream={"key": "nothing"}), "stream sales: key names the column 'nothing'"),
        (
            lambda other: Acme(stream={"requests": in_currency}, connector={"settings": CurrencySettings}),
            "stream sales: its requests (test_conformance.py, line ",
        ),
    ],
    "exit code": [
        (
            lambda other: Acme(stream={"judge": lambda response, answer: Refuse(ServerError("no"))}),
            "the first run ended",
        ),
        (
            lambda other: Acme(Endless, stream={"paginator": CountingOn()}),
            "the first run ended with 1 instead of 0: B",
        ),
        (lambda other: Acme(Empty, stream={"paginator": CountingOn()}), "the first run ended with 1 instead of 0: B"),
    ],
    "nothing to read": [
        (lambda other: Acme(Empty), "sales: the sandbox has no record of it, so that nothing was tried"),
    ],
    "rejected": [(lambda other: Acme(Nameless), "sales: 3 records rejected")],
    "repeated": [(lambda other: Acme(Doubling), "sales: 6 records came twice")],
    "unknown members": [(lambda other: Acme(Talkative), "sales: members that the record class lacks: buyer")],
    "key": [
        (lambda other: Masking(), "sales ('2026-03-17',): 1 keys are there twice, such as ('x0',)"),
        (
            lambda other: Acme(
                Shops, stream={"kind": "changes", "account": "shop", "accounts": lambda settings: ("a", "b")}
            ),
            "sales: the key ('2026-03-17-0',) is in the accounts a and b; changes are merged over all accounts",
        ),
        (
            lambda other: Acme(Renamed, stream={"kind": "changes"}),
            "sales: 3 records have the key of another one with other values, such as id 2026-03-17-0; rows are lost",
        ),
    ],
    "truth": [
        (lambda other: Acme(Untold), "sales: no row was compared with what the sandbox holds"),
        (
            lambda other: Masking(),
            "sales ('2026-03-17',): of 3 true rows 3 rows are missing and 3 should not be there, such as "
            '{"id": "2026-03-17-0", "price": "1.50"} in place of {"id": "x0", "price": "1.50"}',
        ),
        (
            lambda other: Acme(stream={"record": CentSale}),
            "sales ('2026-03-17',): the truth states no amount, and nothing else shows whether its scale is right",
        ),
        (lambda other: Acme(Floating), "sales ('2026-03-17',): price is 0.30000000000000004, a float that lost digits"),
    ],
    "paths": [
        (
            lambda other: Acme(Counted, stream={"envelope": Envelope(items="sales", total="counts"), **COUNTED}),
            "sales: no answer of the sandbox has the member 'counts', which total= names, so that it was not tried. "
            'Did you mean "count"?',
        ),
        (
            lambda other: Acme(
                Counted,
                stream={
                    "envelope": Envelope(items="sales", total="count"),
                    "paginator": PageNumber(more="paging.hasmore"),
                },
            ),
            "sales: no answer of the sandbox has the member 'paging.hasmore', which more= names, so that it was not "
            'tried. Did you mean "paging.hasMore"?',
        ),
    ],
    "origin": [
        (lambda other: Acme(stream={"requests": downloaded(other)}), "3 requests were sent, and 0 came"),
        (lambda other: Acme(stream={"requests": sending}), "6 requests came to base_url, and penstock sent 3"),
    ],
    "second page": [
        (
            lambda other: Acme(OnePage, stream={"paginator": PageNumber()}),
            "sales: its paginator saw no second page with records",
        )
    ],
    "moved record": [
        (
            lambda other: Acme(Paged, stream={"paginator": PageNumber(), "key": ()}),
            "sales ('2026-03-17',): a record of the first page that came again on the last one",
        )
    ],
    "stopped": [(lambda other: Acme(Changing), "after a stopped run: 1 partitions have other rows")],
    "resumed": [(lambda other: Acme(Forgetting), "resumed: ")],
    "final": [
        (lambda other: Acme(Provisional, stream={"envelope": PROVISIONAL}), "sales: 3 final partitions were read again")
    ],
    "faults": [
        (
            lambda other: Acme(connector={"judge": only_once}),
            "a run behind the fault server_error (500 with an HTML page)",
        )
    ],
    "wrong secret": [
        (lambda other: Acme(Open), "a run with a wrong key ended with 0 instead of 3"),
        (lambda other: Acme(Open), "with a wrong key something was delivered"),
    ],
    "check of a wrong secret": [
        (lambda other: Acme(Open), "the check of a wrong key returned: acme: credentials work"),
    ],
    "secret shown": [
        (
            lambda other: Acme(Echoing, connector={"judge": None, "reason": "message"}),
            "with a wrong key, its start was shown",
        )
    ],
    "check": [
        (lambda other: Acme(connector={"check": post}), "the check sent POST /me; expected one GET"),
        (
            lambda other: Acme(connector={"check": lambda settings, slice_: Request(url="http://127.0.0.1:1/")}),
            "the check of right credentials raised ForeignOriginError",
        ),
    ],
    "login": [
        (
            lambda other: Acme(
                connector={
                    "authenticator": lambda settings: Elsewhere(settings.login_url),
                    "settings": LoginSettings,
                    "origins": "login_url",
                },
                settings={"login_url": other},
            ),
            "the login goes to http://127.0.0.1:",
        )
    ],
}


def test_every_check_has_a_twin_that_fails_it() -> None:
    """
    A check that nothing fails proves nothing.
    """
    assert list(TWINS) == list(CHECKS)


@pytest.mark.parametrize(
    ("check", "twin", "text"),
    [(check, twin, text) for check, twins in TWINS.items() for twin, text in twins],
    ids=[f"{check} {number}" for check, twins in TWINS.items() for number in range(len(twins))],
)
def test_a_broken_twin_fails_its_check(
    check: str, twin: Callable[[str], Acme], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A broken twin of the connector fails its check with a message that begins with what was seen.
    """
    monkeypatch.setitem(QUICK, "max_pages", 20)  # one twin has pages without end
    with serve() as other:
        other.app = Sales(other.base_url, date(2026, 3, 20))
        if check == "origin":
            other.app = Open(other.base_url, date(2026, 3, 20))

        with pytest.raises(NotConforming) as raised:
            conforms("acme", tmp_path, plugins=[twin(other.base_url)], faults="server_error")

    found = [one for one in raised.value.problems if one.check == check]
    assert found, raised.value.problems
    assert any(one.startswith(text) for one in found), found


def test_unmet_requirements_are_listed_under_the_connector(tmp_path: Path) -> None:
    """
    All of it, in one AssertionError.
    """
    with pytest.raises(AssertionError) as raised:
        conforms("acme", tmp_path, plugins=[Acme(Open)])

    assert str(raised.value).startswith("acme does not keep what every connector must:\n  - a run with a wrong key")


class Raising(Sales):
    def answer(self, day: str) -> list[dict[str, Any]]:
        raise KeyError(day)


class Dictionary(Sales):
    def __call__(self, request: SandboxRequest) -> Any:
        return {"sales": []}


class NoSandbox(Acme):
    @penstock.hookimpl
    def penstock_sandboxes(self) -> Iterable[Sandbox]:
        return []


@pytest.mark.parametrize(
    ("plugin", "truth", "text"),
    [
        (Acme(Raising), None, r"the sandbox raised KeyError: '2026-03-1\d' \(test_conformance.py, line \d+\)"),
        (Acme(), lambda app, stream: [], r"truth takes \(app, stream\); write truth\(sandbox, stream, day\)"),
        (NoSandbox(), None, r"it offers no sandbox; write Connector\(sandbox=...\), or give conforms make="),
        (Acme(Dictionary), None, r"GET /sales was answered with dict; write return json_response\(...\), or Sandbox"),
        (
            Acme(Sales("", date.min)),
            None,
            r"the sandbox cannot be made: TypeError: .*; make= is a class or function of ",
        ),
        (
            Acme(connector={"settings": AcmeSettings(base_url="http://x", key=Secret("x"))}),
            None,
            "settings is AcmeSettings; write a class",
        ),
        (Acme(), lambda app, stream, day: [{"id": f"{day}-0"}, {"id": f"{day}-1"}], "The truth has no price, and the "),
        (Acme(stream={"account": "shop"}), None, r"it is read account by account \(shop\), and the settings of the sa"),
    ],
    ids=[
        "sandbox that fails",
        "truth of other parameters",
        "no sandbox",
        "sandbox that answers a dictionary",
        "sandbox that was made",
        "declaration",
        "truth without a column",
        "no accounts",
    ],
)
def test_a_mistake_in_the_test_itself_is_named(plugin: Acme, truth: Any, text: str, tmp_path: Path) -> None:
    """
    A mistake in the test itself is named with its place, or with what to write.
    """
    with pytest.raises(AssertionError, match=text):
        conforms("acme", tmp_path, plugins=[plugin], truth=truth)


def test_the_kit_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Everything is in the folder that it was given, tokens that change included.
    """
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))

    conforms("acme", tmp_path / "given", plugins=[Acme()])

    assert list(scratch.iterdir()) == []
