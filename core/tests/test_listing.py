"""A listing, from values: which calls follow a page or a refusal, and which pages cannot be those of one listing."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import pytest
from attrs import frozen
from configured_source import a_source
from penstock._fetch.call import Answered, Call
from penstock._plan.dependencies import Dependencies
from penstock._plan.plan import PlannedSlice
from penstock._read.components import components_of
from penstock._read.context import SliceContext
from penstock._read.counts import StreamCounters
from penstock._read.listing import Listing, LoadedPage
from penstock._read.listing_checks import EMPTY_PAGES
from penstock._run_report.log import RunLog
from penstock._run_report.report import RunReport
from penstock.connector import Stream
from penstock.envelope import Envelope
from penstock.errors import (
    BoundExceededError,
    CountMismatchError,
    PagingError,
    PenstockError,
    PluginError,
    ProviderError,
)
from penstock.events import ignore
from penstock.model import Answer, Page, Partition, Request, Response, Slice
from penstock.protocols import SinglePage
from penstock.records import record
from penstock.settings import SourceSettings
from penstock.testing import FakeClock
from penstock.verdicts import Accept, Refuse

NOW = datetime(2026, 8, 12, 6, 0, tzinfo=UTC)
URL = "http://localhost/clicks"


@record()
class Row:
    id: str


STREAM = Stream(name="clicks", summary="", record=Row, kind="snapshot", key="id", requests=lambda *_: ())
ENVELOPE = Envelope()


def at(page: object, **more: Any) -> Request:
    """The request of a page."""
    return Request(url=URL, params=(("page", str(page)),), **more)


def number(request: Request) -> int:
    return int(request.param("page") or 0)


@frozen(kw_only=True)
class Numbered(SinglePage):
    """
    ``page=1, 2, 3, ...`` up to an empty page, or as many as the first one states, all at once.

    ``afterwards``: the pages that it names behind an empty or the last page. ``repeated``: it expects repeated pages.
    ``restarted``, ``shrunk``: the pages that it names in place of a refused one. ``over``: a refusal ends the listing.
    """

    afterwards: object = None
    repeated: bool = False
    restarted: object = None
    shrunk: object = None
    over: bool = False
    ceiling: int | None = None

    def rest(self, first: Page) -> Sequence[Request] | None:
        return None if first.answer.pages is None else [at(one) for one in range(2, first.answer.pages + 1)]

    def next(self, page: Page) -> Request | None:
        return at(number(page.request) + 1) if page.count else self.beyond(page)

    def beyond(self, last: Page) -> Request | None:
        return None if self.afterwards is None else at(self.afterwards)

    def repeats(self, page: Page) -> bool:
        return self.repeated

    def reached_ceiling(self, page: Page) -> bool:
        return page.listed == self.ceiling

    def restart(self, request: Request, response: Response) -> Request | None:
        return None if self.restarted is None else at(self.restarted)

    def smaller(self, request: Request, response: Response) -> Request | None:
        return None if self.shrunk is None else at(self.shrunk)

    def ends(self, request: Request, response: Response) -> bool:
        return self.over


class Counting(Numbered):
    """Goes on after an empty page, as a paginator with a mistake does."""

    def next(self, page: Page) -> Request | None:
        return at(number(page.request) + 1)


class Filtered(Numbered):
    """Goes on after an empty page, by a cursor that shows no order."""

    def next(self, page: Page) -> Request | None:
        return at("xy"[page.index % 2] * (page.index + 1))


class Text(Numbered):
    """Returns no requests."""

    def rest(self, first: Page) -> Any:
        return None if first.answer.pages is None else [URL]

    def next(self, page: Page) -> Any:
        return URL


class Came(NamedTuple):
    """A page that came: its elements, how many of them are new (None: all), and the numbers that it states."""

    elements: int
    fresh: int | None = None
    pages: int | None = None
    total: int | None = None
    repeat: bool = False


def a_listing(
    paginator: SinglePage | None = None, stream_counters: StreamCounters | None = None, **more: Any
) -> Listing:
    settings = SourceSettings(base_url="http://localhost", max_pages=200)
    source = a_source(STREAM, name="shop", settings=settings)
    slice_ = Slice(now=NOW, account="7", days=(date(2026, 8, 11),))
    planned = PlannedSlice(
        stream=STREAM,
        partitions=(Partition("clicks", (("account", "7"),)),),
        reasons=("missing",),
        slice=slice_,
        source=source,
        fingerprint="",
    )
    paginator = paginator or Numbered()
    context = SliceContext(
        planned=planned,
        components=components_of(source, STREAM, ())._replace(
            paginator=paginator, is_one_page=type(paginator) is SinglePage
        ),
        target=None,
        dependencies=Dependencies(source, [STREAM]),
        stream_counters=stream_counters or StreamCounters(),
        log=RunLog("shop", RunReport(run_id="r1"), ignore),
        clock=FakeClock(NOW),
    )
    return Listing(context=context, decoder=ENVELOPE, **{"request": at(1), **more})


def a_result(call: Call, came: Came) -> Answered:
    answer = Answer(total=came.total, pages=came.pages)
    return Answered(call, Response(status=200, received_at=NOW), Accept(), answer)


def a_refusal(call: Call) -> Answered:
    return Answered(call, Response(status=400, received_at=NOW), Refuse(ProviderError("refused")))


def added(listing: Listing, call: Call, came: Came) -> Page:
    """The page that this result of a call becomes."""
    result = a_result(call, came)
    listing.checks.check_stated(result.answer)
    listing.add_digest(result)
    fresh = came.elements if came.fresh is None else came.fresh
    return listing.add(result, LoadedPage(count=came.elements, fresh=fresh), repeat=came.repeat)


def first_call(listing: Listing) -> Call:
    """The call of the first page."""
    (call,) = listing.first_calls
    return call


def read(listing: Listing, came: Sequence[Came]) -> list[list[str] | None]:
    """The pages that are requested after each of those that came; None: the listing has ended."""
    due, requested = [first_call(listing)], []
    for one in came:
        calls = listing.calls_after(added(listing, due.pop(0), one))
        due += calls or ()
        requested.append(None if calls is None else [call.request.param("page") or "" for call in calls])
    return requested


@pytest.mark.parametrize(
    ("paginator", "came", "requested"),
    [
        pytest.param(SinglePage(), [Came(3)], [None], id="one answer holds everything"),
        pytest.param(Numbered(), [Came(0)], [None], id="the empty page"),
        pytest.param(Numbered(), [Came(2), Came(1), Came(0)], [["2"], ["3"], None], id="one by one"),
        pytest.param(
            Numbered(),
            [Came(2, pages=3), Came(2), Came(1)],
            [["2", "3"], [], None],
            id="all at once, as many as stated",
        ),
        pytest.param(Numbered(), [Came(2, pages=1)], [None], id="one page is stated"),
        pytest.param(
            Numbered(), [Came(2), Came(2, pages=3), Came(0)], [["2"], ["3"], None], id="a later page states the number"
        ),
        pytest.param(
            Numbered(afterwards=9),
            [Came(2, pages=2), Came(2), Came(2)],
            [["2"], ["9"], ["10"]],
            id="the last of the stated pages names another one",
        ),
        pytest.param(
            Numbered(afterwards=9),
            [Came(2, pages=1), Came(1)],
            [["9"], ["10"]],
            id="the only stated page names another",
        ),
        pytest.param(
            Numbered(repeated=True),
            [Came(2), Came(2, fresh=0, repeat=True), Came(0)],
            [["2"], ["3"], None],
            id="a repeated page that the paginator expects",
        ),
        pytest.param(
            Numbered(), [Came(2, total=3), Came(2, fresh=1, total=3), Came(0)], [["2"], ["3"], None], id="a total"
        ),
        pytest.param(
            Numbered(), [Came(2, pages=3, total=4), Came(1), Came(1)], [["2", "3"], [], None], id="short, but all came"
        ),
        pytest.param(Counting(), [Came(0), Came(2), Came(0), Came(1)], [["2"], ["3"], ["4"], ["5"]], id="empty pages"),
        pytest.param(Filtered(), [Came(0), Came(0), Came(1)], [["x"], ["yy"], ["xxx"]], id="empty pages of a cursor"),
    ],
)
def test_the_requests_after_each_page(
    paginator: SinglePage, came: list[Came], requested: list[list[str] | None]
) -> None:
    """
    The stated pages are requested at once and only once, others one by one; the listing ends where none is named.
    """
    assert read(a_listing(paginator), came) == requested


@pytest.mark.parametrize(
    ("paginator", "came", "error", "message"),
    [
        pytest.param(Numbered(), [Came(2), Came(2, repeat=True)], PagingError, "page 2 came again", id="repeated"),
        pytest.param(
            Numbered(),
            [Came(2, total=3), Came(2)],
            CountMismatchError,
            "states 3 records, and the paginator Numbered found more, 4 up to page 2",
            id="more than the total",
        ),
        pytest.param(
            Numbered(), [Came(2, total=3), Came(1, total=4)], CountMismatchError, "3 records, then 4", id="other total"
        ),
        pytest.param(
            Numbered(), [Came(2, pages=3), Came(1)], PagingError, "in the middle holds 1 records", id="a short page"
        ),
        pytest.param(
            Numbered(), [Came(2, pages=3), Came(0)], PagingError, "in the middle holds 0 records", id="an empty page"
        ),
        pytest.param(
            Numbered(), [Came(2, pages=3), Came(3)], PagingError, "in the middle holds 3 records", id="a longer page"
        ),
        pytest.param(
            Numbered(),
            [Came(2, pages=2), Came(3)],
            PagingError,
            "the last page holds 3 records",
            id="a longer last page",
        ),
        pytest.param(
            Numbered(), [Came(0, pages=1)], PagingError, "page 1, the last one .*, is empty", id="the only stated page"
        ),
        pytest.param(
            Numbered(),
            [Came(2, pages=2), Came(0)],
            PagingError,
            "page 2, the last one .*, is empty",
            id="the last page",
        ),
        pytest.param(
            Counting(),
            [Came(1), *[Came(0)] * EMPTY_PAGES],
            BoundExceededError,
            f"{EMPTY_PAGES} pages in a row are empty, up to page {EMPTY_PAGES + 1}, and the paginator Counting names",
            id="counts on",
        ),
        pytest.param(
            Filtered(),
            [Came(0)] * EMPTY_PAGES,
            BoundExceededError,
            f"{EMPTY_PAGES} pages in a row are empty",
            id="empty pages without end",
        ),
        pytest.param(Numbered(afterwards=1), [Came(0)], PagingError, "go in a circle", id="a circle"),
        pytest.param(Numbered(), [Came(1)] * 200, BoundExceededError, "more than 200 pages", id="too many pages"),
        pytest.param(Numbered(), [Came(1, pages=201)], BoundExceededError, "more than 200", id="too many are stated"),
        pytest.param(Text(), [Came(1)], PluginError, "next", id="text in place of a request"),
        pytest.param(Text(), [Came(1, pages=2)], PluginError, "rest", id="text among the requests"),
    ],
)
def test_pages_that_cannot_be_those_of_one_listing(
    paginator: SinglePage, came: list[Came], error: type[PenstockError], message: str
) -> None:
    """
    The last of these pages is an error that names what was seen; those before it pass.
    """
    read(a_listing(paginator, is_first_reading=True), came[:-1])

    with pytest.raises(error, match=message):
        read(a_listing(paginator, is_first_reading=True), came)


@pytest.mark.parametrize(
    ("came", "is_first_reading"),
    [
        pytest.param([Came(2, pages=2), Came(0)], False, id="in the second reading"),
        pytest.param([Came(2, pages=2, total=2), Came(0)], True, id="where the total is known"),
    ],
)
def test_an_empty_last_page_that_is_no_defect(came: list[Came], is_first_reading: bool) -> None:
    """
    A page that is empty in the second reading, too, is the provider's way; a total shows that nothing is missing.
    """
    assert read(a_listing(is_first_reading=is_first_reading), came) == [["2"], None]


def test_a_page_shows_the_counts_up_to_it() -> None:
    """
    Place, elements so far, those with a key of their own, and the longest page of this size in the run.
    """
    history = StreamCounters()
    listing = a_listing(stream_counters=history)
    pages = [
        added(listing, first_call(listing), Came(3)),
        added(listing, listing.calls([at(2)])[0], Came(2, fresh=1)),
    ]
    other = a_listing(stream_counters=history)

    shown = [(page.index, page.count, page.fresh, page.listed, page.distinct, page.longest) for page in pages]
    assert shown == [(0, 3, 3, 3, 3, 3), (1, 2, 1, 5, 4, 3)]
    assert listing.last is pages[1]
    assert added(other, first_call(other), Came(1)).longest == 3


@pytest.mark.parametrize(("came", "capped"), [([], False), ([Came(2)], False), ([Came(2), Came(2)], True)])
def test_a_listing_is_cut_where_its_last_page_reaches_the_ceiling(came: list[Came], capped: bool) -> None:
    """
    The page read last decides; before the first page nothing is known.
    """
    listing = a_listing(Numbered(ceiling=4))
    read(listing, came)

    assert listing.reached_ceiling == capped


@pytest.mark.parametrize(
    ("paginator", "came", "instead"),
    [
        pytest.param(Numbered(restarted=0), [], ["0"], id="another first page"),
        pytest.param(Numbered(shrunk=7), [], ["7"], id="a smaller first page"),
        pytest.param(Numbered(shrunk=7), [Came(2)], ["7"], id="a smaller page"),
        pytest.param(Numbered(over=True), [Came(2)], None, id="there is no such page"),
        pytest.param(Numbered(), [], "refused", id="the first page"),
        pytest.param(Numbered(), [Came(2)], "refused", id="a later page"),
        pytest.param(Numbered(over=True), [], "refused", id="no first page is no end"),
        pytest.param(Numbered(restarted=0), [Came(2)], "refused", id="a later page begins nothing anew"),
        pytest.param(Numbered(shrunk=1), [], "refused", id="the same page is not smaller"),
        pytest.param(
            Numbered(shrunk=7, over=True), [Came(2, pages=3)], "refused", id="a page that the provider stated"
        ),
    ],
)
def test_the_requests_after_a_refusal(paginator: Numbered, came: list[Came], instead: list[str] | str | None) -> None:
    """
    The paginator may name another request, or see the end; a page that the provider stated must come.
    """
    listing = a_listing(paginator)
    call = first_call(listing)
    for one in came:
        (call, *_) = listing.calls_after(added(listing, call, one)) or ()
    refusal = a_refusal(call)

    if instead == "refused":
        with pytest.raises(ProviderError, match=r"^refused$"):
            listing.calls_after_refusal(refusal)
    else:
        calls = listing.calls_after_refusal(refusal)
        assert (None if calls is None else [one.request.param("page") for one in calls]) == instead


def test_a_listing_begins_anew_once() -> None:
    """
    The other first page is refused, too: that stands.
    """
    listing = a_listing(Numbered(restarted=0))
    (again,) = listing.calls_after_refusal(a_refusal(first_call(listing))) or ()

    with pytest.raises(ProviderError, match=r"^refused$"):
        listing.calls_after_refusal(a_refusal(again))


def test_a_download_goes_on_without_credentials() -> None:
    """
    The pages after a first one that was requested without credentials are, too, whatever the paginator returns.
    """
    listing = a_listing(request=at(1, credentials=False))
    first = added(listing, first_call(listing), Came(2))
    (second,) = listing.calls_after(first) or ()

    assert not second.request.credentials
    assert first_call(a_listing()).request.credentials


def test_the_first_page_in_the_answer_to_a_poll_is_counted() -> None:
    """
    A next page that is the polled one is a circle.
    """
    polled = a_result(first_call(a_listing()), Came(0))
    listing = a_listing(Numbered(afterwards=1), polled=polled)
    page = listing.add(polled, LoadedPage(count=0, fresh=0), repeat=False)

    with pytest.raises(PagingError, match="go in a circle"):
        listing.calls_after(page)


@pytest.mark.parametrize(("paginator", "digest"), [(SinglePage(), False), (Numbered(), True)], ids=["one", "several"])
def test_a_call_is_for_the_partitions_of_its_slice(paginator: SinglePage, digest: bool) -> None:
    """
    A call is signed for the account of its slice; the items are fingerprinted only where another page can repeat them.
    """
    listing = a_listing(paginator)
    call = first_call(listing)

    assert call == Call(at(1), ENVELOPE, STREAM, False, digest, "7", listing.context.planned.partitions)
