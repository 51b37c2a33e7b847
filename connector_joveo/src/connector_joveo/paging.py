"""
Paging of listings whose document contradicts itself on where pages start, and states no number of records.
"""

from collections.abc import Sequence

from attrs import frozen
from penstock import Page, Request, Response
from penstock_plugins.paging import PageNumber


@frozen(kw_only=True)
class ReadTwice(PageNumber):
    """
    A listing of several pages without a stated total is read twice, the second time with pages shorter by one record.

    A record that leaves the list during the read moves those behind it up by one, so that one of them is on no page
    that was read. The second reading has the missed records, since its pages end elsewhere; its other records are
    dropped as repeated. An empty page may be a failure, too: a listing that only such a page makes one of one page is
    read twice as well, and the second reading goes on behind the end of the first one while it brings new records.
    """

    size_param: str = "limit"
    short_page_ends: bool = True

    def next(self, page: Page) -> Request | None:
        if self._is_of_second(page):
            return self._next_of_second(page)
        following = self._next_of_first(page)
        if (
            following is not None
            or page.answer.total is not None
            or self.reached_ceiling(page)
            or self._is_one_page(page)
        ):
            return following
        start = self._number(page.request) - page.index
        return self._with(self._with(page.request, self.param, start), self.size_param, self.size - 1)

    def repeats(self, page: Page) -> bool:
        return self._is_of_second(page)

    def _is_of_second(self, page: Page) -> bool:
        """Whether this is a page of the second reading."""
        return self.size_of(page.request) == self.size - 1

    def _next_of_first(self, page: Page) -> Request | None:
        return super().next(page)

    def _is_one_page(self, page: Page) -> bool:
        """Whether the listing that ends with this page is of one page, whose records came at one moment."""
        after_an_empty_one = page.index + bool(page.count) == 2 and page.listed == page.distinct > 0
        return page.distinct < self.size and page.distinct <= page.longest and not after_an_empty_one

    def _next_of_second(self, page: Page) -> Request | None:
        """
        The end is the page that the first reading ended with, or shortly behind it: the pages are shorter by one. It is
        later where records come that the first reading has not. The first page may be empty, as in the first reading.
        """
        number = self._number(page.request)
        pages = page.index + 1 - number  # of the first reading, one more or less
        behind = number > pages + 2 + pages // (self.size - 1)
        short = page.count < page.longest if page.count else number > self.first_page
        return None if short or (behind and not page.fresh) else self._after(page)


@frozen(kw_only=True)
class UncertainPages(ReadTwice):
    """
    ``first_page`` is 0, and page 1 may repeat it. If page 0 is refused, the listing starts again at 1. The response
    after the last page is not stated either: after two different pages, one that repeats another ends the listing.
    """

    first_page: int = 0

    def rest(self, first: Page) -> Sequence[Request] | None:
        return super().rest(first) if first.answer.pages is not None else None

    def _next_of_first(self, page: Page) -> Request | None:
        if page.index == 0:
            return self._after(page)
        # A second page that only repeats the first is no end: page 0 and page 1 may be the same one.
        repeated = not page.fresh and not (page.index == 1 and self.repeats(page))
        return None if repeated else super()._next_of_first(page)

    def repeats(self, page: Page) -> bool:
        # Three times the same short page: the provider serves its only page, whatever number is requested.
        only = page.index == 2 and page.count < self.size and page.listed == 3 * page.count
        differed = page.distinct > page.count  # so the number does count, and this is the last page again
        return page.index == 1 or only or differed or super().repeats(page)

    def restart(self, request: Request, response: Response) -> Request | None:
        if response.status == 400 and request.param(self.param) == "0":
            return request.with_param(self.param, "1")
        return None


@frozen(kw_only=True)
class ProbedPages(ReadTwice):
    """
    A listing without a stated total also requests the page before its first one, at last. That page holds missing
    records, repeats the first page, or is refused.
    """

    def next(self, page: Page) -> Request | None:
        if self._is_before(page.request):
            return None
        following = super().next(page)
        if following is None and page.answer.total is None and not self.reached_ceiling(page):
            return self._with(self._with(page.request, self.param, self.first_page - 1), self.size_param, self.size)
        return following

    def repeats(self, page: Page) -> bool:
        return self._is_before(page.request) or super().repeats(page)

    def ends(self, request: Request, response: Response) -> bool:
        return self._is_before(request) and response.status in (400, 404, 422)

    def _is_before(self, request: Request) -> bool:
        """Whether it requests the page before the first."""
        return request.param(self.param) == str(self.first_page - 1)
