"""
Paging of listings whose document contradicts itself on where pages start.
"""

from collections.abc import Sequence

from attrs import frozen
from penstock import Page, Request, Response
from penstock_plugins.paging import PageNumber


@frozen(kw_only=True)
class UncertainPages(PageNumber):
    """
    ``first_page`` is 0, and page 1 may repeat it. If page 0 is refused, the listing starts again at 1. The response
    after the last page is not stated either: after two different pages, one that repeats another ends the listing.
    """

    first_page: int = 0

    def rest(self, first: Page) -> Sequence[Request] | None:
        return super().rest(first) if first.answer.pages is not None else None

    def next(self, page: Page) -> Request | None:
        following = page.request.with_param(self.param, str(self._number(page) + 1))
        if page.index == 0:
            return following
        # A second page that only repeats the first is no end: page 0 and page 1 may be the same one.
        repeated = not page.fresh and not (page.index == 1 and self.repeats(page))
        return None if repeated else super().next(page)

    def repeats(self, page: Page) -> bool:
        # Three times the same short page: the provider serves its only page, whatever number is requested.
        only = page.index == 2 and page.count < self.size and page.listed == 3 * page.count
        differed = page.distinct > page.count  # so the number does count, and this is the last page again
        return page.index == 1 or only or differed

    def restart(self, request: Request, response: Response) -> Request | None:
        if response.status == 400 and request.param(self.param) == "0":
            return request.with_param(self.param, "1")
        return None


@frozen(kw_only=True)
class ProbedPages(PageNumber):
    """
    A listing without a stated total also requests the page before its first one, at last. That page holds missing
    records, repeats the first page, or is refused.
    """

    def next(self, page: Page) -> Request | None:
        if self._is_before(page.request):
            return None
        following = super().next(page)
        if following is None and page.answer.total is None and not self.capped(page):
            return page.request.with_param(self.param, str(self.first_page - 1))
        return following

    def repeats(self, page: Page) -> bool:
        return self._is_before(page.request)

    def ends(self, request: Request, response: Response) -> bool:
        return self._is_before(request) and response.status in (400, 404, 422)

    def _is_before(self, request: Request) -> bool:
        """Whether it requests the page before the first."""
        return request.param(self.param) == str(self.first_page - 1)
