"""
Paginators that more than one provider uses.
"""

from collections.abc import Sequence

from attrs import frozen
from penstock import Page, Request, Response, SinglePage


@frozen(kw_only=True)
class PageNumber(SinglePage):
    """
    Pages counted up by number: ``page=1, 2, 3, ...``, with their size if the provider takes one.

    Where an answer states the number of pages, or of records, the rest is asked for at once; the size of a page is
    then what the first one held, since providers cap it silently. Where nothing is stated, the listing ends at an
    empty page, at one shorter than ``size``, or at one without a new key. ``page_size_may_be_capped``: the
    provider may cap the size silently, so the listing ends at an empty page, or at one shorter than those before it.

    ``first_page`` 0 with ``uncertain``: the provider's document contradicts itself on where counting starts, so the
    second page may repeat the first, and a refused page 0 starts again at 1; nor does it say what comes after the last
    page, so once two different ones came, a page that repeats one ends the listing. ``probe_previous_page``: the
    document contradicts itself on where counting starts, so a listing without a stated total also requests the page
    before its first one; it holds missing records, repeats the first page, or is refused.

    ``ceiling``: the provider never lists more records than this. ``full_page_is_cut``: exactly ``size`` records over
    all pages, be it one page or many smaller ones, mean that the provider stopped there.
    """

    param: str = "page"
    size_param: str | None = None
    size: int = 100
    first_page: int = 1
    uncertain: bool = False
    ceiling: int | None = None
    full_page_is_cut: bool = False
    page_size_may_be_capped: bool = False
    probe_previous_page: bool = False

    def first(self, request: Request) -> Request:
        numbered = request.with_param(self.param, str(self.first_page))
        return numbered.with_param(self.size_param, str(self.size)) if self.size_param else numbered

    def rest(self, first: Page) -> Sequence[Request] | None:
        start = self._number(first)
        if first.answer.pages is not None:
            last = start + max(first.answer.pages, 1) - 1
        elif first.answer.total is None or self.uncertain:
            return None
        elif first.count == 0 or first.answer.total <= first.count:
            return ()
        else:
            last = start + -(-self._listed(first.answer.total) // first.count) - 1
        return [first.request.with_param(self.param, str(number)) for number in range(start + 1, last + 1)]

    def next(self, page: Page) -> Request | None:
        if self._is_before(page.request):
            return None
        following = page.request.with_param(self.param, str(self._number(page) + 1))
        if self.uncertain and page.index == 0:
            return following
        if page.count == 0 or page.count < self._full(page):
            looks = self.probe_previous_page and page.answer.total is None
            return page.request.with_param(self.param, str(self.first_page - 1)) if looks else None
        if self._reached(page):
            return None
        # A second page that only repeats the first is no end: page 0 and page 1 may be the same one.
        return following if page.fresh or (page.index == 1 and self.repeats(page)) else None

    def repeats(self, page: Page) -> bool:
        if not self.uncertain:
            return self._is_before(page.request)
        # Three times the same short page: the provider serves its only page, whatever number is asked for.
        only = (
            self.page_size_may_be_capped
            and page.index == 2
            and page.count < self.size
            and page.listed == 3 * page.count
        )
        differed = page.distinct > page.count  # so the number does count, and this is the last page again
        return page.index == 1 or only or differed

    def capped(self, page: Page) -> bool:
        if self.full_page_is_cut and page.listed == self.size:
            return page.index + 1 >= (page.answer.pages or 1)
        if self._reached(page) and page.count >= self._full(page):
            return True
        return self.ceiling is not None and (page.answer.total or 0) > self.ceiling

    def restart(self, request: Request, response: Response) -> Request | None:
        if self.uncertain and response.status == 400 and request.param(self.param) == "0":
            return request.with_param(self.param, "1")
        return None

    def ends(self, request: Request, response: Response) -> bool:
        return self._is_before(request) and response.status in (400, 404, 422)

    def _is_before(self, request: Request) -> bool:
        """Whether it asks for the page before the first (``probe_previous_page``)."""
        return self.probe_previous_page and request.param(self.param) == str(self.first_page - 1)

    def _number(self, page: Page) -> int:
        return int(page.request.param(self.param) or self.first_page)

    def _full(self, page: Page) -> float:
        """What a page must hold for another to follow: ``size``, or, where it may be capped, what those before held."""
        if not self.page_size_may_be_capped:
            return self.size
        return (page.listed - page.count) / page.index if page.index else 0

    def _listed(self, total: int) -> int:
        return total if self.ceiling is None else min(total, self.ceiling)

    def _reached(self, page: Page) -> bool:
        pages = self._number(page) - self.first_page + 1
        return self.ceiling is not None and page.count > 0 and pages * self.size >= self.ceiling
