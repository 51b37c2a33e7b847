"""
The bundled paginators: by number, offset, cursor and link, wherever a provider expects and states them.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen
from penstock import Answer, Envelope, Page, Request, Response, SandboxRequest, SandboxResponse, Stream, named, record
from penstock_plugins.paging import Cursor, Link, Offset, PageNumber
from scripted_provider import ScriptedProvider

pytestmark = pytest.mark.slow

SIZE = 3
READINGS = 6  # how often a slice is read whose pages do not fit together: they may have moved meanwhile


@record()
class Order:
    """An order."""

    id: int


def at(value: Any, path: str) -> Any:
    """The member at a dotted path; None without it."""
    for member in path.split("."):
        value = value.get(member) if isinstance(value, dict) else None
    return value


def nested(path: str, value: Any) -> dict[str, Any]:
    for member in reversed(path.split(".")):
        value = {member: value}
    return value if isinstance(value, dict) else {}


@frozen(kw_only=True)
class Style:
    """How a provider pages: the part, where the position is in a request, and how an answer names the next page."""

    part: str
    options: dict[str, Any] = field(factory=dict)
    param: str
    answers: str = ""  # a path, a "Header:" or "Link:"; "": the answer names nothing
    absolute: bool = False

    @property
    def place(self) -> str:
        return str(self.options.get("place", "query"))

    def start(self, request: SandboxRequest) -> int:
        """Records before the requested page."""
        found: Any = request.params.get(self.param)
        if self.place == "header":
            found = request.headers.get(self.param.lower())
        elif self.place == "body":
            found = at(json.loads(request.body), self.param)
        found = int(str(found).removeprefix("c")) if found is not None else None
        if self.part == "page_number":
            return int(request.params.get("limit", SIZE)) * ((found or 1) - 1)
        return found or 0

    def answer(self, request: SandboxRequest, rows: list[Any], following: int | None, **more: Any) -> SandboxResponse:
        value: dict[str, Any] = {"rows": rows, **more}
        headers: dict[str, str] = {}
        if following is not None and self.answers:
            named_by: str = f"c{following}"
            if self.part == "link":
                host = f"http://{request.headers['host']}" if self.absolute else ""
                named_by = f"{host}/orders?{self.param}={following}"
            if self.answers == "Link:":
                headers["Link"] = f'</orders?{self.param}=0>; rel="first", <{named_by}>; rel="next"'
            elif self.answers.endswith(":"):
                headers[self.answers[:-1]] = named_by
            else:
                value |= nested(self.answers, named_by)
        return SandboxResponse(body=json.dumps(value).encode(), headers=headers)


NUMBERS = [
    pytest.param(Style(part="page_number", param="page"), id="number"),
    pytest.param(Style(part="page_number", options={"place": "body"}, param="page"), id="number in body"),
    pytest.param(
        Style(part="page_number", options={"place": "header", "param": "X-Page"}, param="X-Page"), id="header"
    ),
    pytest.param(Style(part="offset", param="offset"), id="offset"),
    pytest.param(
        Style(
            part="offset",
            options={"place": "body", "param": "page.skip", "size_param": "page.take"},
            param="page.skip",
        ),
        id="offset in body",
    ),
    pytest.param(
        Style(part="offset", options={"place": "header", "param": "X-Skip", "size_param": None}, param="X-Skip"),
        id="offset in header",
    ),
]
NAMED = [
    pytest.param(Style(part="cursor", param="cursor", answers="next"), id="cursor"),
    pytest.param(
        Style(
            part="cursor",
            options={"place": "body", "param": "variables.after", "member": "data.pageInfo.endCursor"},
            param="variables.after",
            answers="data.pageInfo.endCursor",
        ),
        id="GraphQL",
    ),
    pytest.param(
        Style(
            part="cursor",
            options={"place": "header", "param": "X-After", "header": "x-next"},
            param="X-After",
            answers="X-Next:",
        ),
        id="cursor in headers",
    ),
    pytest.param(Style(part="link", param="from", answers="Link:"), id="Link header, relative"),
    pytest.param(Style(part="link", param="from", answers="Link:", absolute=True), id="Link header, absolute"),
    pytest.param(
        Style(part="link", options={"member": "links.next"}, param="from", answers="links.next"), id="link, relative"
    ),
    pytest.param(
        Style(part="link", options={"member": "links.next"}, param="from", answers="links.next", absolute=True),
        id="link, absolute",
    ),
]


@define
class Shop:
    """A provider of ``rows`` orders that pages in one style."""

    style: Style
    folder: Path
    rows: int = 7
    respond: Callable[[SandboxRequest, int], Any] | None = None
    envelope: Envelope = field(factory=lambda: Envelope(items="rows"))
    options: dict[str, Any] = field(factory=dict)
    small: ScriptedProvider = field(init=False)

    def __attrs_post_init__(self) -> None:
        style = self.style

        def request(settings: Any, slice_: Any) -> Request:
            url = f"{settings.base_url}/orders"
            return Request.json("POST", url, {"query": "orders"}) if style.place == "body" else Request(url=url)

        stream = Stream(
            name="orders",
            summary="orders",
            record=Order,
            kind="snapshot",
            key="id",
            requests=request,
            envelope=self.envelope,
            paginator=named(style.part, **style.options, **self.options),
        )
        self.small = ScriptedProvider(folder=self.folder, streams=[stream], answer=self._answer)

    def _answer(self, request: SandboxRequest) -> Any:
        start = self.style.start(request)
        return self.respond(request, start) if self.respond is not None else self.page(request, start)

    def page(self, request: SandboxRequest, start: int, count: int = SIZE, **more: Any) -> SandboxResponse:
        rows = [{"id": number + 1} for number in range(start, min(start + count, self.rows))]
        return self.style.answer(request, rows, start + count if start + count < self.rows else None, **more)

    def read(self) -> tuple[int, list[int], int, str]:
        """Exit code, what was delivered, the number of requests, and the first error."""
        report = self.small.run()
        error = report.errors[0]["message"] if report.errors else ""
        return report.exit_code, [row["id"] for row in self.small.rows("orders")], len(self.small.requests), error


@pytest.mark.parametrize("style", [*NUMBERS, *NAMED])
@pytest.mark.parametrize("rows", [7, 1, 0], ids=["three pages", "one record", "an empty page"])
def test_each_page_is_requested_once(style: Style, rows: int, tmp_path: Path) -> None:
    """
    Every record comes, in order. The empty page, or the one without a cursor or link, is the last.
    """
    exit_code, delivered, requests, _ = Shop(style, tmp_path, rows).read()

    beyond = 1 if rows and style.part in ("page_number", "offset") else 0  # no total: an empty page shows the end
    assert (exit_code, delivered) == (0, list(range(1, rows + 1)))
    assert requests == max(-(-rows // SIZE), 1) + beyond


@pytest.mark.parametrize("style", NUMBERS)
def test_a_stated_total_names_all_pages(style: Style, tmp_path: Path) -> None:
    """
    The others are requested at once, and none beyond the last.
    """
    shop = Shop(style, tmp_path, envelope=Envelope(items="rows", total="total"))
    shop.respond = lambda request, start: shop.page(request, start, total=7)

    assert shop.read()[:3] == (0, [1, 2, 3, 4, 5, 6, 7], 3)


@pytest.mark.parametrize("style", [*NUMBERS, *NAMED])
def test_a_page_that_comes_again_is_an_error(style: Style, tmp_path: Path) -> None:
    """
    A provider that ignores the position would fill a listing with its first page: nothing is delivered.
    """
    shop = Shop(style, tmp_path)
    shop.respond = lambda request, start: style.answer(
        request, [{"id": number} for number in range(1, 4)], start + SIZE, irrelevant=0
    )

    exit_code, delivered, requests, error = shop.read()

    assert (exit_code, delivered, requests) == (1, [], 2 * READINGS)
    assert "page 2 came again with the records of an earlier one" in error


@pytest.mark.parametrize("style", NAMED)
@pytest.mark.parametrize("to", [0, SIZE], ids=["to an earlier page", "to itself"])
def test_a_circle_is_an_error(style: Style, to: int, tmp_path: Path) -> None:
    """
    The second page names one that was requested already.
    """
    shop = Shop(style, tmp_path)
    calls: list[int] = []

    def respond(request: SandboxRequest, start: int) -> Any:
        calls.append(start)
        rows = [{"id": 10 * len(calls) + number} for number in range(SIZE)]
        return style.answer(request, rows, to if start else SIZE)

    shop.respond = respond
    exit_code, delivered, requests, error = shop.read()

    assert (exit_code, delivered) == (1, [])
    assert requests <= 3 * READINGS  # the first page has no cursor, so that cursor 0 is a request of its own
    assert "in a circle" in error


@pytest.mark.parametrize("style", NAMED)
def test_a_short_page_with_a_successor_is_not_the_last(style: Style, tmp_path: Path) -> None:
    """
    The cursor or link decides, not the length of a page, even of an empty one.
    """
    shop = Shop(style, tmp_path)
    counts = {0: 2, 3: 0, 6: 1}
    shop.respond = lambda request, start: style.answer(
        request, [{"id": start + number} for number in range(counts[start])], start + 3 if start < 6 else None
    )

    assert shop.read()[:3] == (0, [0, 1, 6], 3)


@pytest.mark.parametrize("style", [*NUMBERS, *NAMED])
@pytest.mark.parametrize("head", [("info.hasMore",), ()], ids=["named in the envelope", "not named"])
@pytest.mark.parametrize("texts", [False, True], ids=["flag", "text"])
def test_a_flag_of_further_pages_decides_the_end(
    style: Style, head: tuple[str, ...], texts: bool, tmp_path: Path
) -> None:
    """
    A short page goes on, and a full one that names a successor ends, if the provider states it.
    """
    shop = Shop(style, tmp_path, envelope=Envelope(items="rows", head=head), options={"more": "info.hasMore"})

    def respond(request: SandboxRequest, start: int) -> Any:
        rows = [{"id": 10 * start + number} for number in range(1 if start == SIZE else SIZE)]
        goes_on: Any = start < 2 * SIZE
        position = start + len(rows) if style.part == "offset" else start + SIZE
        return style.answer(request, rows, position, info={"hasMore": str(goes_on).lower() if texts else goes_on})

    shop.respond = respond
    if style.part == "offset":  # the short page moves its successors
        assert shop.read()[:3] == (0, [0, 1, 2, 30, 40, 41, 42, 70, 71, 72], 4)
    else:
        assert shop.read()[:3] == (0, [0, 1, 2, 30, 60, 61, 62], 3)


@pytest.mark.parametrize("style", [*NUMBERS, *NAMED])
@pytest.mark.parametrize(
    ("stated", "seen"), [(True, "states another page"), ("maybe", "should state whether")], ids=["nothing", "no flag"]
)
def test_a_flag_that_contradicts_its_page_is_an_error(style: Style, stated: Any, seen: str, tmp_path: Path) -> None:
    """
    Another page is stated, and this one is empty or does not name it; or the member is no flag at all.
    """
    shop = Shop(style, tmp_path, options={"more": "more"})
    shop.respond = lambda request, start: style.answer(request, [], None, more=stated)

    exit_code, _, requests, error = shop.read()

    assert (exit_code, requests) == (1, READINGS)
    assert seen in error


@pytest.mark.parametrize("style", NUMBERS)
def test_the_page_after_the_last_may_be_an_error(style: Style, tmp_path: Path) -> None:
    """
    Where the paginator has its status; the listing ends there. Else the error stands.
    """
    for ends_on, expected in (((404,), (0, [1, 2, 3, 4, 5, 6])), ((410,), (1, []))):
        folder = tmp_path / str(ends_on[0])
        folder.mkdir()
        shop = Shop(style, folder, rows=6, options={"ends_on": ends_on})

        def respond(request: SandboxRequest, start: int, shop: Shop = shop) -> Any:
            return 404 if start >= 6 else shop.page(request, start)

        shop.respond = respond
        assert shop.read()[:2] == expected


@pytest.mark.parametrize("most", [{0: 1}, {0: 4, 4: 2}], ids=["from the start", "in the middle"])
@pytest.mark.parametrize("total", [None, 11], ids=["no total", "total"])
@pytest.mark.parametrize(
    "style",
    [
        pytest.param(Style(part="offset", param="offset"), id="offset"),
        pytest.param(
            Style(part="offset", options={"place": "body", "size_param": "take"}, param="offset"), id="offset in body"
        ),
        pytest.param(
            Style(part="cursor", options={"size_param": "limit"}, param="cursor", answers="next"), id="cursor"
        ),
        pytest.param(Style(part="link", options={"size_param": "limit"}, param="from", answers="Link:"), id="link"),
        pytest.param(Style(part="page_number", options={"size_param": "limit"}, param="page"), id="number"),
    ],
)
def test_a_page_that_is_too_large_is_requested_smaller(
    style: Style, total: int | None, most: dict[int, int], tmp_path: Path
) -> None:
    """
    A page that is too large, the first or one in the middle of a listing, is requested at half the size, again and
    again. No record is lost or repeated.
    """
    envelope = Envelope(items="rows", total="total")
    shop = Shop(style, tmp_path, 11, envelope=envelope, options={"size": 4, "too_large": (413,)})

    def respond(request: SandboxRequest, start: int) -> Any:
        size = json.loads(request.body)["take"] if request.body else int(request.params.get("limit", 4))
        if size > next(allowed for begin, allowed in sorted(most.items(), reverse=True) if start >= begin):
            return 413
        return shop.page(request, start, size, total=total)

    shop.respond = respond
    exit_code, delivered, _, error = shop.read()

    assert (exit_code, delivered) == (0, list(range(1, 12))), error


@pytest.mark.parametrize("total", [None, 11], ids=["no total", "total"])
def test_a_page_of_another_size_begins_where_the_last_ended(total: int | None, tmp_path: Path) -> None:
    """
    A provider that sends two records where four are requested, and then refuses the size: the page at half the size
    would begin behind two records that nobody requested.
    """
    options = {"size_param": "limit", "size": 4, "too_large": (413,)}
    envelope = Envelope(items="rows", total="total")
    shop = Shop(Style(part="page_number", param="page"), tmp_path, 11, envelope=envelope, options=options)

    def respond(request: SandboxRequest, start: int) -> Any:
        size = int(request.params["limit"])
        return 413 if start and size > 2 else shop.page(request, start, 2, total=total)

    shop.respond = respond
    exit_code, delivered, _, error = shop.read()

    assert (exit_code, delivered) == (1, [])
    assert "begins after 4 records, and 2 were listed before it" in error


def test_a_body_without_an_object_cannot_be_paged(tmp_path: Path) -> None:
    """
    The message states what to write.
    """
    style = Style(part="offset", options={"place": "body"}, param="offset")

    with pytest.raises(Exception, match=re.escape('write Request.json("POST", url, {...})')):
        Offset(**style.options).first(Request(url="https://provider.example/list"))


def test_a_cursor_of_an_answer_that_is_no_object_is_an_error(tmp_path: Path) -> None:
    """
    An array has no members: the listing would end after its first page, unseen.
    """
    shop = Shop(Style(part="cursor", param="cursor"), tmp_path, envelope=Envelope(items=("", "rows")))
    shop.respond = lambda request, start: [{"id": 1}]

    exit_code, delivered, _, error = shop.read()

    assert (exit_code, delivered) == (1, [])
    assert "no JSON object" in error


def test_a_link_to_another_origin_gets_no_credentials(tmp_path: Path) -> None:
    """
    A link to another origin, which the connector does not declare, is not followed.
    """
    shop = Shop(Style(part="link", options={"member": "next"}, param="from"), tmp_path)
    shop.respond = lambda request, start: {"rows": [{"id": 1}], "next": "https://elsewhere.example/orders"}

    exit_code, delivered, requests, error = shop.read()

    assert (exit_code, delivered, requests) == (1, [], 1)
    assert "elsewhere.example" in error


def a_page(*, request: Request, head: dict[str, Any] | None = None, **more: Any) -> Page:
    headers = more.pop("headers", ())
    response = Response(status=200, headers=headers, body=b"{}", received_at=datetime(2026, 3, 1, tzinfo=UTC))
    return Page(
        request=request, response=response, answer=Answer(head=head or {}, total=more.pop("total", None)), **more
    )


@pytest.mark.parametrize(
    ("headers", "following"),
    [
        ((("link", "<?page=2>; rel=next"),), "https://provider.example/a/list?page=2"),
        (
            (("link", '<b>;rel="prev", <c?x=1,2>; title="a, b"; rel="last next"'),),
            "https://provider.example/a/c?x=1%2C2",
        ),
        ((("link", "</1>; rel=prev"), ("link", "</2>; REL=NEXT")), "https://provider.example/2"),
        ((("link", "<https://provider.example/3>; rel=prev"),), None),
        ((("link", "<https://provider.example/4>"),), None),
        ((), None),
    ],
    ids=["only a query", "commas and several relations", "two headers", "another relation", "no relation", "none"],
)
def test_the_link_header_names_the_next_page(headers: Any, following: str | None) -> None:
    """
    Relations are words in any case (RFC 8288), and URLs are relative to the page's.
    """
    request = Request(url="https://provider.example/a/list", params=(("page", "1"),), headers=(("Accept", "x/y"),))

    found = Link().next(a_page(request=request, headers=headers))

    assert (found and found.full_url) == following
    assert found is None or found.headers == request.headers


@pytest.mark.parametrize(
    ("offset", "count", "total", "cut"),
    [(900, 100, None, True), (900, 99, None, False), (0, 100, 1001, True), (800, 100, None, False)],
    ids=["reached", "not reached", "more stated", "before it"],
)
def test_an_offset_ends_at_the_ceiling(offset: int, count: int, total: int | None, cut: bool) -> None:
    """
    A listing that ends at the ceiling may have more records.
    """
    request = Request(url="https://provider.example/list", params=(("offset", str(offset)),))
    paginator = Offset(ceiling=1000)
    page = a_page(request=request, count=count, longest=100, total=total)

    assert paginator.has_ceiling()
    assert paginator.reached_ceiling(page) is cut
    assert (paginator.next(page) is None) is (offset + count >= 1000)


def test_the_rest_of_a_ceilinged_listing_stops_there() -> None:
    """
    A page beyond the ceiling would be refused.
    """
    first = a_page(request=Offset().first(Request(url="https://provider.example/list")), count=100, total=5000)

    rest = Offset(ceiling=300, start=0).rest(first)

    assert rest is not None
    assert [request.param("offset") for request in rest] == ["100", "200"]


@pytest.mark.parametrize("value", [None, "", False, 0], ids=repr)
def test_a_cursor_without_a_value_ends_a_listing(value: Any) -> None:
    """
    Providers write each of these for no further page.
    """
    request = Request(url="https://provider.example/list")

    assert Cursor().next(a_page(request=request, head={"next": value})) is None


def test_the_word_null_in_a_header_ends_a_listing() -> None:
    """
    A header has no other null: Salesforce sends ``Sforce-Locator: null`` with the last page.
    """
    page = a_page(request=Request(url="https://provider.example/list"), headers=(("sforce-locator", "null"),))

    assert Cursor(header="Sforce-Locator").next(page) is None


def test_a_listing_whose_path_has_a_query_is_read_to_its_end(tmp_path: Path) -> None:
    """
    The parameters of the stream and of its paginator follow those of the path.
    """
    pages = {None: {"rows": [{"id": 1}], "next": "b"}, "b": {"rows": [{"id": 2}]}}
    stream = Stream(
        name="rows",
        record=Order,
        kind="snapshot",
        key="id",
        path="/rows?kind=all",
        envelope=Envelope(items="rows", head="next"),
        paginator=named("cursor", member="next"),
    )
    shop = ScriptedProvider(
        folder=tmp_path,
        streams=[stream],
        answer=lambda request: pages[request.params.get("cursor")] if request.params["kind"] == "all" else {},
    )

    assert shop.run().exit_code == 0
    assert [row["id"] for row in shop.rows("rows")] == [1, 2]


def test_a_member_of_another_shape_is_an_error() -> None:
    """
    A cursor is a text or a number, a link a text.
    """
    page = a_page(request=Request(url="https://provider.example/list"), head={"next": {"page": 2}})

    for paginator in (Cursor(), Link(member="next")):
        with pytest.raises(Exception, match="next should be a"):
            paginator.next(page)


def test_a_page_number_starts_where_the_provider_starts() -> None:
    """
    Page 0 in a body is a number, not a missing one.
    """
    paginator = PageNumber(place="body", first_page=0)
    first = paginator.first(Request.json("POST", "https://provider.example/list", {"q": "é"}))

    following = paginator.next(a_page(request=first, count=1, longest=1))

    assert first.body == '{"q":"é","page":0}'.encode()
    assert following is not None
    assert following.body == '{"q":"é","page":1}'.encode()
