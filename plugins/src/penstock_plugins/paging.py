"""
Paginators for several providers.
"""

from collections.abc import Sequence

from attrs import frozen
from penstock import Page, Request, SinglePage


@frozen(kw_only=True)
class PageNumber(SinglePage):
    """
    Pages counted up by number: ``page=1, 2, 3, ...``, with their size if the provider takes one.

    Where an answer states the number of pages, or of records, the other pages are fetched at once; the size of a page
    is then what the first one held, since providers cap it silently. Where nothing is stated, a page is the last one if
    it is empty or shorter than another page of the stream in this run (:attr:`penstock.Page.longest`).

    ``ceiling``: the provider never lists more records than this. ``full_page_is_cut``: exactly ``size`` records over
    all pages, be it one page or many smaller ones, mean that the provider stopped there.
    """

    param: str = "page"
    size_param: str | None = None
    size: int = 100
    first_page: int = 1
    ceiling: int | None = None
    full_page_is_cut: bool = False

    def first(self, request: Request) -> Request:
        numbered = request.with_param(self.param, str(self.first_page))
        return numbered.with_param(self.size_param, str(self.size)) if self.size_param else numbered

    def rest(self, first: Page) -> Sequence[Request] | None:
        start = self._number(first)
        if first.answer.pages is not None:
            last = start + max(first.answer.pages, 1) - 1
        elif first.answer.total is None:
            return None
        elif first.count == 0 or first.answer.total <= first.count:
            return ()
        else:
            last = start + -(-self._listed(first.answer.total) // first.count) - 1
        return [first.request.with_param(self.param, str(number)) for number in range(start + 1, last + 1)]

    def next(self, page: Page) -> Request | None:
        if page.count == 0 or page.count < page.longest or self._reached(page):
            return None
        return page.request.with_param(self.param, str(self._number(page) + 1))

    def may_cap(self) -> bool:
        return self.ceiling is not None or self.full_page_is_cut

    def capped(self, page: Page) -> bool:
        if self.full_page_is_cut and page.listed == self.size:
            return page.index + 1 >= (page.answer.pages or 1)
        if self._reached(page) and page.count >= page.longest:
            return True
        return self.ceiling is not None and (page.answer.total or 0) > self.ceiling

    def size_of(self, request: Request) -> int | None:
        size = request.param(self.size_param) if self.size_param else None
        return int(size) if size is not None and size.isdecimal() else None

    def _number(self, page: Page) -> int:
        return int(page.request.param(self.param) or self.first_page)

    def _listed(self, total: int) -> int:
        return total if self.ceiling is None else min(total, self.ceiling)

    def _reached(self, page: Page) -> bool:
        pages = self._number(page) - self.first_page + 1
        return self.ceiling is not None and page.count > 0 and pages * self.size >= self.ceiling
