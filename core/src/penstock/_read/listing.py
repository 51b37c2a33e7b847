"""
One listing: the sequence of its pages.
"""

from collections.abc import Callable, Sequence

from attrs import define, evolve, field, frozen

from penstock._fetch.call import Answered, Call
from penstock._plan.plan import PlannedSlice
from penstock._read.context import SliceContext
from penstock._read.listing_checks import ListingChecks
from penstock.errors import BrokenBodyError, BrokenPageError, PagingError, check_returned
from penstock.model import Page, Request
from penstock.protocols import BodyDecoder, Paginator
from penstock.report_files import reads_files
from penstock.verdicts import Refuse


def call_of(
    planned: PlannedSlice,
    request: Request,
    decoder: BodyDecoder | None,
    *,
    lenient: bool = False,
    digest: bool = False,
) -> Call:
    """A call for a slice, see :class:`~penstock._fetch.call.Call`."""
    return Call(
        request=evolve(request, as_file=True) if reads_files(decoder) else request,
        decoder=decoder,
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
    The pages that follow from one request. ``first_calls``: of its first page; none for one that was ``polled``.

    ``is_first_reading``: its slice was not read before, so that what may be a defect of this reading is an error.
    ``polled``: the first page, if the response to a poll contains it. ``file_digests``: of the files read before this
    one, of a report that has several.
    """

    context: SliceContext
    request: Request
    decoder: BodyDecoder
    is_first_reading: bool = False
    polled: Answered | None = None
    file_digests: set[int] | None = None
    paginator: Paginator = field(init=False)
    checks: ListingChecks = field(init=False)
    first_calls: tuple[Call, ...] = field(default=(), init=False)
    last: Page | None = field(default=None, init=False)  # the page read last
    _first: Page | None = field(default=None, init=False)
    _left: int = field(default=0, init=False)  # pages requested at once, after the first, that have not come
    _restarted: bool = field(default=False, init=False)  # another first page was requested in place of a refused one

    def __attrs_post_init__(self) -> None:
        self.paginator = self.context.components.paginator
        self.checks = ListingChecks(
            paginator=f"the paginator {type(self.paginator).__name__}",
            max_pages=self.context.planned.source.settings.max_pages,
        )
        if self.polled is not None:
            self.checks.count_request(self.polled.call.request)
        else:
            self.first_calls = self.calls([self.paginator.first(self.request)])

    def take_polled(self) -> Answered | None:
        """The first page, where the response to a poll contains it and it was not taken yet."""
        polled, self.polled = self.polled, None
        return polled

    def calls(self, requests: Sequence[Request]) -> tuple[Call, ...]:
        """The calls of pages. A further page of a download is requested without credentials, as the first was."""
        digest = not self.context.components.is_one_page or self.file_digests is not None
        calls: list[Call] = []
        for request in requests:
            if not self.context.components.is_one_page:
                self.checks.count_request(request)
            if self._first is not None and request.credentials != self._first.request.credentials:
                request = evolve(request, credentials=self._first.request.credentials)
            calls.append(call_of(self.context.planned, request, self.decoder, digest=digest))
        return tuple(calls)

    def add_digest(self, result: Answered) -> bool:
        """
        Record the digest of a page, if it was computed. Returns whether an earlier page had the same records.
        Raises BrokenBodyError for a file whose contents another file of the report has.
        """
        if result.digest is None:
            return False
        if self.file_digests is not None and self._first is None:
            if result.digest in self.file_digests:
                raise BrokenBodyError(
                    "two files of the report have the same contents, and whether their records count "
                    "once or twice is not known. Nothing was replaced; the next run makes the report anew. If it "
                    "persists, report it to the provider."
                )
            self.file_digests.add(result.digest)
        return self.checks.add_digest(result.digest)

    def add(self, result: Answered, loaded: LoadedPage, *, repeat: bool) -> Page:
        """
        Count a page that was loaded. Raises PagingError for a repeated page that the paginator does not expect, for a
        short page before the last, and in the first reading for an empty last one where the number of pages is stated,
        for an empty array in place of an answer that may be an object, and for a 204 where there were rows before.
        """
        longest = loaded.count
        if not self.context.components.is_one_page:
            size = self.paginator.size_of(result.call.request)
            longest = self.context.stream_counters.add_page(size, loaded.count)
        page = self.checks.add_page(result, count=loaded.count, fresh=loaded.fresh, longest=longest)
        if repeat and not self.paginator.repeats(page):
            raise PagingError(f"page {page.index + 1} came again with the records of an earlier one")
        self.checks.check_page(page, self._left)
        if self.is_first_reading and not loaded.count:
            self.checks.check_empty_page(page, self._left, had_rows=self.context.planned.had_rows)
        if self._first is None:
            self._first = page
        self.last = page
        return page

    @property
    def reached_ceiling(self) -> bool:
        """Whether the provider cut the listing at its ceiling, as far as the page read last shows."""
        return self.last is not None and self.paginator.reached_ceiling(self.last)

    def calls_after(self, page: Page) -> tuple[Call, ...] | None:
        """
        The calls to make after this page: all further ones at once where the first page states their number, else the
        next one. Empty where the next page was requested already; None after the last page.
        """
        if self.context.components.is_one_page:
            return None
        if page is self._first:
            return self._calls_after_first(page)
        if self._left > 1:
            self._left -= 1
            return ()
        return self._next_call(page, self.paginator.beyond if self._left else self.paginator.next)

    def _calls_after_first(self, page: Page) -> tuple[Call, ...] | None:
        later_pages = self.paginator.rest(page)
        if later_pages is None:
            return self._next_call(page, self.paginator.next)
        for later in check_returned(self.paginator.rest, later_pages, Sequence, "a list of requests, or None"):
            check_returned(self.paginator.rest, later, Request, "a list of requests, or None")
        if not later_pages:
            return self._next_call(page, self.paginator.beyond)
        self._left = len(later_pages)
        return self.calls(later_pages)

    def _next_call(self, page: Page, following: Callable[[Page], Request | None]) -> tuple[Call, ...] | None:
        """The call of the page that ``following``, a method of the paginator, names; None where it names none."""
        request: Request | None = check_returned(
            following, following(page), Request | None, "page.request.with_param(...), or None"
        )
        self._left = 0
        if request is None:
            return None
        self.checks.check_end(request)
        return self.calls([request])

    def calls_after_refusal(self, result: Answered) -> tuple[Call, ...] | None:
        """The calls to make after a page was refused; None where the listing ends there. Else raises the refusal."""
        assert isinstance(result.verdict, Refuse)
        request, response = result.call.request, result.response
        if self._left:
            raise result.verdict.error
        if self._first is None and not self._restarted:
            self._restarted = True
            if (again := self.paginator.restart(request, response)) is not None:
                return self.calls([again])
        smaller = self.paginator.smaller(request, response)
        if smaller is not None and smaller.identity != request.identity:
            return self.calls([smaller])
        if self._first is not None and self.paginator.ends(request, response):
            return None
        raise result.verdict.error


def broken_page(error: BrokenBodyError) -> BrokenPageError:
    """
    The error of a body that the client accepted, by which the slice is read again. A body that the client does not
    accept is retried there, and its BrokenBodyError ends the read.
    """
    return BrokenPageError(error.without_place).at(request=error.request)
