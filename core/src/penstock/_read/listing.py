"""
One listing: its next request, and the checks that its pages are consistent.
"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import sub

from attrs import define, evolve, field, frozen

from penstock._fetch.call import Call, CallResult
from penstock._plan.plan import PlannedSlice
from penstock._read.counts import ListingCounts, StreamHistory
from penstock.errors import BoundExceededError, BrokenBodyError, BrokenPageError, CountMismatchError, PagingError
from penstock.model import Page, Request
from penstock.protocols import BodyDecoder, Paginator, SinglePage, check_returned
from penstock.report_files import reads_files
from penstock.verdicts import Refuse

EMPTY_PAGES = 100
"""Empty pages in a row with which a listing fails. A provider that filters after it cut its pages sends some."""


def call_of(
    planned: PlannedSlice,
    request: Request,
    envelope: BodyDecoder | None,
    *,
    lenient: bool = False,
    digest: bool = False,
) -> Call:
    """A call for a slice, see :class:`~penstock._fetch.call.Call`."""
    return Call(
        request=evolve(request, as_file=True) if reads_files(envelope) else request,
        envelope=envelope,
        stream=planned.stream,
        lenient=lenient,
        digest=digest,
        account=planned.slice.account,
        partitions=planned.partitions,
    )


@frozen(kw_only=True, eq=False, repr=False)
class LoadedPage:
    """A page whose rows are written: the number of its elements, and of those that no earlier page had."""

    count: int
    fresh: int


@define(eq=False, repr=False, kw_only=True)
class Listing:
    """
    The pages that follow from one request.

    ``is_first_reading``: its slice was not read before, so that what may be a defect of this reading is an error.
    ``polled``: the first page, if the response to a poll contains it. ``files``: digests of the files read before
    this one, of a report that has several.
    """

    planned: PlannedSlice
    envelope: BodyDecoder
    paginator: Paginator
    stream_history: StreamHistory
    is_first_reading: bool = False
    polled: CallResult | None = None
    files: set[int] | None = None
    counts: ListingCounts = field(init=False)
    last: Page | None = field(default=None, init=False)  # the page read last
    has_ended: bool = field(default=False, init=False)  # whether no page comes after the last one
    _empty: list[Request] = field(factory=list, init=False)  # of the last pages, those in a row without elements
    _first: Page | None = field(default=None, init=False)
    _left: int = field(default=0, init=False)  # pages requested at once, after the first, that have not come
    _restarted: bool = field(default=False, init=False)  # another first page was requested in place of a refused one
    _is_one_page: bool = field(init=False)  # by its paginator

    def __attrs_post_init__(self) -> None:
        paginator = type(self.paginator)
        self._is_one_page = paginator is SinglePage
        self.counts = ListingCounts(
            paginator=f"the paginator {paginator.__name__}", max_pages=self.planned.source.settings.max_pages
        )
        if self.polled is not None:
            self.counts.count_request(self.polled.call.request)

    def take_polled(self) -> CallResult:
        """The first page, which the response to a poll contains."""
        assert self.polled is not None
        polled, self.polled = self.polled, None
        return polled

    def calls(self, requests: Sequence[Request]) -> tuple[Call, ...]:
        """The calls of pages. A further page of a download is requested without credentials, as the first was."""
        digest = not self._is_one_page or self.files is not None
        calls: list[Call] = []
        for request in requests:
            if not self._is_one_page:
                self.counts.count_request(request)
            if self._first is not None and request.credentials != self._first.request.credentials:
                request = evolve(request, credentials=self._first.request.credentials)
            calls.append(call_of(self.planned, request, self.envelope, digest=digest))
        return tuple(calls)

    def add_digest(self, result: CallResult) -> bool:
        """
        Record the digest of a page, if it was computed. Returns whether an earlier page had the same records.
        Raises BrokenBodyError for a file whose contents another file of the report has.
        """
        if result.digest is None:
            return False
        if self.files is not None and self._first is None:
            if result.digest in self.files:
                raise BrokenBodyError(
                    "two files of the report have the same contents, and whether their records count "
                    "once or twice is not known. Nothing was replaced; the next run makes the report anew. If it "
                    "persists, report it to the provider."
                )
            self.files.add(result.digest)
        return self.counts.add_digest(result.digest)

    def add(self, result: CallResult, loaded: LoadedPage, *, repeat: bool) -> Page:
        """
        Count a page that was loaded. Raises PagingError for a repeated page that the paginator does not expect, for a
        short page before the last, and in the first reading for an empty last one where the number of pages is stated,
        for an empty array in place of an answer that may be an object, and for a 204 where there were rows before.
        """
        page = self._count(result, loaded)
        if repeat and not self.paginator.repeats(page):
            raise PagingError(f"page {page.index + 1} came again with the records of an earlier one")
        self._check_counts(page)
        if self.is_first_reading and not loaded.count:
            self._check_empty(page)
        if self._first is None:
            self._first = page
        self.last = page
        return page

    def _count(self, result: CallResult, loaded: LoadedPage) -> Page:
        assert result.response is not None
        counts = self.counts
        counts.fetched += loaded.count
        counts.distinct += loaded.fresh
        longest = loaded.count
        if not self._is_one_page:
            longest = self.stream_history.longest(self.paginator.size_of(result.call.request), loaded.count)
        page = Page(
            request=result.call.request,
            response=result.response,
            answer=result.answer,
            index=counts.pages,
            count=loaded.count,
            fresh=loaded.fresh,
            listed=counts.fetched,
            distinct=counts.distinct,
            longest=longest,
        )
        counts.pages += 1
        self._empty = [] if loaded.count else [*self._empty, page.request]
        return page

    def _check_counts(self, page: Page) -> None:
        """Compare a page with the total that the provider states, and with the first page."""
        counts = self.counts
        if counts.total is not None and counts.distinct > counts.total:
            raise CountMismatchError(
                f"the provider states {counts.total} records, and {counts.paginator} found more, "
                f"{counts.distinct} up to page {page.index + 1}"
            )
        if self._first is not None and self._left:
            counts.compare(page.count, self._first.count, last=self._left == 1)

    def _check_empty(self, page: Page) -> None:
        """Raises PagingError for a page without elements that may be a defect of this reading."""
        is_first = self._first is None
        if (self._left == 1 or (is_first and page.answer.pages == 1)) and self.counts.total is None:
            raise PagingError(f"page {page.index + 1}, the last one that the provider states, is empty")
        if is_first and page.answer.bare:
            raise PagingError("the answer is an empty array, without the object that may be around it")
        if is_first and page.response.status == 204 and self.planned.had_rows:
            raise PagingError(
                "the provider returned no content (204), and rows were delivered before. Only a second empty "
                "reading replaces them"
            )

    def _check_end(self, page: Page, request: Request) -> None:
        """
        Raises BoundExceededError where two pages in a row were empty and the next request only counts on, and after
        ``EMPTY_PAGES`` empty ones whatever the next request is.
        """
        if len(self._empty) >= EMPTY_PAGES:
            raise BoundExceededError(
                f"{len(self._empty)} pages in a row are empty, up to page {page.index + 1}, and "
                "each names another one. The provider does not end the listing. If so many may be empty, its connector "
                "must state how a listing ends."
            ).at(request=request)
        if len(self._empty) > 1 and counts_upwards([*self._empty[-2:], request]):
            raise BoundExceededError(
                f"pages {page.index} and {page.index + 1} are empty, and {self.counts.paginator} "
                "goes on to count upwards. A paginator ends a listing at an empty page: correct the connector."
            ).at(request=request)

    @property
    def is_capped(self) -> bool:
        """Whether the provider cut the listing at its ceiling, as far as the page read last shows."""
        return self.last is not None and self.paginator.capped(self.last)

    def calls_after(self, page: Page) -> tuple[Call, ...]:
        """
        The calls to make after this page: all further ones at once where the first page states their number, else the
        next one. Empty where the next page was requested already, and after the last page.
        """
        if self._is_one_page:
            self.has_ended = True
            return ()
        if page is self._first:
            return self._calls_after_first(page)
        if self._left > 1:
            self._left -= 1
            return ()
        return self._next_call(page, self.paginator.beyond if self._left else self.paginator.next)

    def _calls_after_first(self, page: Page) -> tuple[Call, ...]:
        later_pages = self.paginator.rest(page)
        if later_pages is None:
            return self._next_call(page, self.paginator.next)
        for later in check_returned(self.paginator.rest, later_pages, Sequence, "a list of requests, or None"):
            check_returned(self.paginator.rest, later, Request, "a list of requests, or None")
        if not later_pages:
            return self._next_call(page, self.paginator.beyond)
        self._left = len(later_pages)
        return self.calls(later_pages)

    def _next_call(self, page: Page, following: Callable[[Page], Request | None]) -> tuple[Call, ...]:
        """The call of the page that ``following``, a method of the paginator, names; empty where it names none."""
        request: Request | None = check_returned(
            following, following(page), Request | None, "page.request.with_param(...), or None"
        )
        self._left = 0
        if request is None:
            self.has_ended = True
            return ()
        self._check_end(page, request)
        return self.calls([request])

    def calls_after_refusal(self, result: CallResult) -> tuple[Call, ...]:
        """The calls to make after a page was refused; empty where the listing ends there. Else raises the refusal."""
        assert isinstance(result.verdict, Refuse)
        request, response = result.call.request, result.response
        if response is None or self._left:
            raise result.verdict.error
        if self._first is None and not self._restarted:
            self._restarted = True
            if (again := self.paginator.restart(request, response)) is not None:
                return self.calls([again])
        smaller = self.paginator.smaller(request, response)
        if smaller is not None and smaller.identity != request.identity:
            return self.calls([smaller])
        if self._first is not None and self.paginator.ends(request, response):
            self.has_ended = True
            return ()
        raise result.verdict.error


_NUMBERS = r"(?<![\w-])\d{1,18}(?![\w-])"  # not those of dates and ids


def counts_upwards(requests: Sequence[Request]) -> bool:
    """
    Whether requests differ in numbers only, as a page number or an offset and no cursor, each larger by the same step.

    Without it, a connector whose paginator only counts, and a provider that answers any page number with an empty page,
    would make EMPTY_PAGES requests in each listing before it fails. Empty pages with cursors may go on.
    """
    texts = [str((*request.identity[:3], *request.identity[3])) for request in requests]
    forms = {re.sub(_NUMBERS, "0", text) for text in texts}
    numbers = [map(int, re.findall(_NUMBERS, text)) for text in texts]
    steps = {tuple(map(sub, after, before)) for before, after in pairwise(map(tuple, numbers))}
    if len(forms) > 1 or len(steps) > 1:
        return False
    (step,) = steps
    return any(step) and min(step) >= 0


def broken_page(error: BrokenBodyError) -> BrokenPageError:
    """
    The error of a body that the client accepted, by which the slice is read again. A body that the client does not
    accept is retried there, and its BrokenBodyError ends the read.
    """
    return BrokenPageError(error.without_place).at(request=error.request)
