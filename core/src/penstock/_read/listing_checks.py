"""
The counts of one listing, and the checks that its pages are consistent.
"""

from attrs import define, field

from penstock._fetch.call import Answered
from penstock.errors import BoundExceededError, CountMismatchError, PagingError
from penstock.model import Answer, Page, Request

EMPTY_PAGES = 100
"""Empty pages in a row with which a listing fails. A provider that filters after it cut its pages sends some."""


@define(eq=False, repr=False)
class ListingChecks:
    """
    The counts of one listing, over all its pages, and what a page is compared with. No page may be repeated. The
    numbers that the provider states must not change, and must agree with the pages.
    """

    paginator: str  # for messages
    max_pages: int
    total: int | None = None
    stated_pages: int | None = None
    _pages: int = field(default=0, init=False)
    _fetched: int = field(default=0, init=False)  # elements of all pages
    _distinct: int = field(default=0, init=False)  # of these, those that no earlier page had
    _first_count: int = field(default=0, init=False)  # elements of the first page
    _empty: int = field(default=0, init=False)  # the last pages, those in a row without elements
    _seen: set[int] = field(factory=set, init=False)  # digests of pages
    _requested: set[object] = field(factory=set, init=False)  # identities of requests

    def count_request(self, request: Request) -> None:
        """
        Count a request. Raises PagingError for one that was made before in this listing, BoundExceededError for one
        too many.
        """
        identity = request.identity
        if identity in self._requested:
            raise PagingError(
                f"{self.paginator} names a page as the next one that was read before, so that its pages go in a circle"
            ).at(request=request)
        if len(self._requested) >= self.max_pages:
            raise BoundExceededError(
                f"the listing has more than {self.max_pages} pages; raise max_pages if that is right"
            )
        self._requested.add(identity)

    def add_digest(self, digest: int) -> bool:
        """Record the digest of a page's items. Returns whether an earlier page had it."""
        came_before = digest in self._seen
        self._seen.add(digest)
        return came_before

    def check_stated(self, answer: Answer) -> None:
        """
        Record the numbers of records and pages that a page states. A different number means that the data changed
        meanwhile, or that this is no page (a report that is "in progress" again states no pages).
        """
        for what, before, now in (("records", self.total, answer.total), ("pages", self.stated_pages, answer.pages)):
            if before is not None and now is not None and before != now:
                raise CountMismatchError(
                    f"the provider stated {before} {what}, then {now}, while its pages were read. Its "
                    "data changed meanwhile, or a response is no page"
                )
        self.total = self.total if answer.total is None else answer.total
        self.stated_pages = self.stated_pages if answer.pages is None else answer.pages

    def add_page(self, result: Answered, *, count: int, fresh: int, longest: int) -> Page:
        """
        Count a page of ``count`` elements, ``fresh`` of which no earlier page had. ``longest``: of the pages of this
        size, in all listings of the stream.
        """
        if not self._pages:
            self._first_count = count
        self._pages += 1
        self._fetched += count
        self._distinct += fresh
        self._empty = 0 if count else self._empty + 1
        return Page(
            request=result.call.request,
            response=result.response,
            answer=result.answer,
            index=self._pages - 1,
            count=count,
            fresh=fresh,
            listed=self._fetched,
            distinct=self._distinct,
            longest=longest,
        )

    def check_page(self, page: Page, left: int) -> None:
        """
        Compare a page with the total that the provider states. Without one, each of the pages that the first one states
        has as many elements as that, and the last of them no more: a shorter one was cut. ``left``: the pages that the
        first one states and that have not been checked, this one included.
        """
        if self.total is not None:
            if self._distinct > self.total:
                raise CountMismatchError(
                    f"the provider states {self.total} records, and {self.paginator} found more, "
                    f"{self._distinct} up to page {page.index + 1}"
                )
        elif left and page.index and (page.count > self._first_count if left == 1 else page.count != self._first_count):
            place = "the last page" if left == 1 else "a page in the middle"
            raise PagingError(
                f"{place} holds {page.count} records where the first holds {self._first_count}. The provider cut a "
                f"page, or its data changed while {self.paginator} requested its pages"
            )

    def check_empty_page(self, page: Page, left: int, *, had_rows: bool) -> None:
        """Raises PagingError for a page without elements that may be a defect of this reading."""
        is_last = left == 1 or (not page.index and page.answer.pages == 1)
        if is_last and self.total is None:
            raise PagingError(f"page {page.index + 1}, the last one that the provider states, is empty")
        if not page.index and page.answer.bare:
            raise PagingError("the answer is an empty array, without the object that may be around it")
        if not page.index and page.response.status == 204 and had_rows:
            raise PagingError(
                "the provider returned no content (204), and rows were delivered before. Only a second empty "
                "reading replaces them"
            )

    def check_end(self, request: Request) -> None:
        """Raises BoundExceededError where the last ``EMPTY_PAGES`` pages were empty, and this is the next request."""
        if self._empty >= EMPTY_PAGES:
            raise BoundExceededError(
                f"{self._empty} pages in a row are empty, up to page {self._pages}, and {self.paginator} names another "
                "one. A paginator that counts pages ends a listing at an empty one: correct the connector. If so many "
                "may be empty, it must state how a listing ends."
            ).at(request=request)

    def verify(self) -> None:
        """Raises CountMismatchError if the counts differ from those that the provider states."""
        if self.total is None or self._distinct == self.total:
            return
        arrived, cause = self._distinct, ""
        if self._fetched > self._distinct:
            arrived = self._fetched
            cause = (
                f", {self._fetched - self._distinct} of them with the key of a record on an earlier page. The data "
                "changed while its pages were read, or the key of the stream does not identify a record"
            )
        raise CountMismatchError(f"the provider states {self.total} records and {arrived} arrived{cause}")
