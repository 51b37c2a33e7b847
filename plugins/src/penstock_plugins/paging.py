"""
Paginators for several providers: by page number, offset, cursor and link.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from attrs import evolve, frozen
from penstock import Envelope, Page, PagingError, PluginError, Request, Response, SinglePage, flag

from penstock_plugins.polling import member_at

Place = Literal["query", "body", "header"]


@frozen(kw_only=True, eq=False, repr=False)
class Paged(SinglePage):
    """
    The options that all paginators here have.

    ``place``
        where the provider expects the values of paging: ``query``: names are parameters; ``body``: names are paths in
        the JSON object of a POST, dotted for nesting (``variables.after``); ``header``: names are headers.
    ``size_param``, ``size``
        the name of the page size, if the provider takes one, and the size to request.
    ``more``
        the path of a member that states whether there is another page, such as ``hasMore``. Where it is absent or null,
        the other rules apply. Name it in the envelope too, ``head=("hasMore",)``: each body is then read once.
    ``short_page_ends``
        whether a page that is shorter than another page of the stream in this run (:attr:`penstock.Page.longest`) is
        the last one, where nothing is stated. Only for a provider that documents full pages: one that removes records
        after it cut the page (deleted ones, those without a permission) sends short pages in the middle of a listing.
    ``ends_on``
        the statuses with which the provider refuses a page after the last one. Only for a provider that documents it.
    ``too_large``
        the statuses with which the provider refuses a page as too large. The page is then requested at half the size,
        down to 1, and so are those after it. A status of 5xx is tried again first, unless ``statuses`` of the stream,
        or its judge, makes it a ``Refusal``.
    ``ceiling``
        the provider never lists more records than this.
    """

    place: Place = "query"
    size_param: str | None = None
    size: int = 100
    more: str | None = None
    short_page_ends: bool = False
    ends_on: tuple[int, ...] = ()
    too_large: tuple[int, ...] = ()
    ceiling: int | None = None

    def first(self, request: Request) -> Request:
        return self._with(request, self.size_param, self.size) if self.size_param else request

    def size_of(self, request: Request) -> int | None:
        size = self._value(request, self.size_param) if self.size_param else None
        return int(size) if size is not None and str(size).isdecimal() else None

    def ends(self, request: Request, response: Response) -> bool:
        return response.status in self.ends_on

    def smaller(self, request: Request, response: Response) -> Request | None:
        size = self.size_of(request) or self.size  # a link may be without one
        if self.size_param is None or response.status not in self.too_large or size < 2:
            return None
        return self._with(request, self.size_param, size // 2)

    def has_ceiling(self) -> bool:
        return self.ceiling is not None

    def reached_ceiling(self, page: Page) -> bool:
        return self._reached(page) or self._states_more_than_ceiling(page)

    def _reached(self, page: Page) -> bool:
        return self.ceiling is not None and self._end_of(page) >= self.ceiling

    def _states_more_than_ceiling(self, page: Page) -> bool:
        return self.ceiling is not None and (page.answer.total or 0) > self.ceiling

    def _end_of(self, page: Page) -> int:
        """Records up to the end of this page."""
        return page.listed

    def _with(self, request: Request, name: str, value: Any) -> Request:
        """The request with this value of paging, in place of a former one."""
        if self.place == "query":
            return request.with_param(name, str(value))
        if self.place == "header":
            return request.with_headers((name, str(value)))
        body = inner = self._body(request)
        *outer, last = name.split(".")
        for member in outer:
            if not isinstance(inner.get(member), dict):
                inner[member] = {}
            inner = inner[member]
        inner[last] = value
        return evolve(request, body=json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=str).encode())

    def _value(self, request: Request, name: str) -> Any:
        """The value of paging that the request has; None without one."""
        if self.place == "query":
            return request.param(name)
        if self.place == "header":
            return next((value for header, value in request.headers if header.lower() == name.lower()), None)
        return member_at(self._body(request), name)

    def _body(self, request: Request) -> dict[str, Any]:
        try:
            body = json.loads(request.body or b"")
        except ValueError:
            body = None
        if isinstance(body, dict):
            return body
        raise PluginError(
            f"{type(self).__name__}(place='body') pages a request without a JSON object as its body; "
            'write Request.json("POST", url, {...}).'
        ).at(request=request)

    def _states_more(self, page: Page) -> bool | None:
        """Whether the answer states that there is another page; None: not stated."""
        value = None if self.more is None else flag(member_of(page, self.more))
        if value is None or isinstance(value, bool):
            return value
        if value in (0, 1, "0", "1"):
            return bool(int(value))
        raise _fault(page, f"{self.more} should state whether there is another page, and is {value!r}")

    def _goes_on(self, page: Page) -> bool:
        """Whether a further page is requested of a listing that counts, where the answer states no number of pages."""
        more = self._states_more(page)
        if more and page.count == 0:
            raise _fault(page, f"{self.more} states another page, and this one is empty")
        if more is not None:
            return more
        return page.count > 0 and (not self.short_page_ends or page.count >= page.longest)


@frozen(kw_only=True, eq=False, repr=False)
class PageNumber(Paged):
    """
    Pages counted up by number: ``page=1, 2, 3, ...``, with their size if the provider takes one.

    Where an answer states the number of pages, or of records, the other pages are fetched at once; the size of a page
    is then what the first one held, since providers cap it silently. Where nothing is stated, the last page is an empty
    one; with ``short_page_ends``, a short one too. Where ``more`` states it, that decides alone.

    With ``too_large`` pages are requested one after the other. A refused page is requested with a smaller size: the
    largest divisor of the number of records before it that is at most half the old size, so that a page begins with the
    same record. PagingError is raised if another number of records was listed before it, since the provider caps pages
    silently.

    ``full_page_is_cut``: exactly ``size`` records over all pages, be it one page or many smaller ones, mean that the
    provider stopped there.
    """

    param: str = "page"
    first_page: int = 1
    full_page_is_cut: bool = False

    def first(self, request: Request) -> Request:
        return super().first(self._with(request, self.param, self.first_page))

    def rest(self, first: Page) -> Sequence[Request] | None:
        start = self._number(first.request)
        if self.too_large:
            return None
        if first.answer.pages is not None:
            last = start + max(first.answer.pages, 1) - 1
        elif first.answer.total is None:
            return None
        elif first.count == 0 or first.answer.total <= first.count:
            return ()
        else:
            last = start + -(-self._listed(first.answer.total) // first.count) - 1
        return [self._with(first.request, self.param, number) for number in range(start + 1, last + 1)]

    def next(self, page: Page) -> Request | None:
        if self.too_large:
            self._check_place(page)
        if self._reached(page) or not self._goes_on(page):
            return None
        return self._after(page)

    def beyond(self, last: Page) -> Request | None:
        return self._after(last) if self._states_more(last) and not self._reached(last) else None

    def smaller(self, request: Request, response: Response) -> Request | None:
        size = self.size_of(request)
        if size is None or response.status not in self.too_large or size < 2:
            return None
        before = (self._number(request) - self.first_page) * size
        smaller = next(candidate for candidate in range(size // 2, 0, -1) if before % candidate == 0)
        request = self._with(request, self.param, self.first_page + before // smaller)
        return self._with(request, str(self.size_param), smaller)

    def has_ceiling(self) -> bool:
        return super().has_ceiling() or self.full_page_is_cut

    def reached_ceiling(self, page: Page) -> bool:
        if self.full_page_is_cut and page.listed == self.size:
            return page.index + 1 >= (page.answer.pages or 1)
        return (self._reached(page) and page.count >= page.longest) or self._states_more_than_ceiling(page)

    def _goes_on(self, page: Page) -> bool:
        if not self.too_large or self._states_more(page) is not None:
            return super()._goes_on(page)
        if page.answer.pages is not None:
            return page.count > 0 and self._number(page.request) - self.first_page + 1 < page.answer.pages
        if page.answer.total is not None:
            return page.count > 0 and page.listed < self._listed(page.answer.total)
        return super()._goes_on(page)

    def _check_place(self, page: Page) -> None:
        """Raises PagingError if a page whose size was lowered does not begin where the one before it ended."""
        size = self.size_of(page.request)
        if size in (None, self.size):
            return
        before, listed = (self._number(page.request) - self.first_page) * (size or 0), page.listed - page.count
        follows_a_short_page = page.count == 0 and 0 <= before - listed < (size or 0)
        if before != listed and not follows_a_short_page:
            raise PagingError(
                f"{page.request} begins after {before} records, and {listed} were listed before it: the provider sends "
                f"fewer than the {self.size} records that size requests. Set size to what it sends."
            )

    def _after(self, page: Page) -> Request:
        return self._with(page.request, self.param, self._number(page.request) + 1)

    def _number(self, request: Request) -> int:
        number = self._value(request, self.param)
        return self.first_page if number in (None, "") else int(number)

    def _listed(self, total: int) -> int:
        return total if self.ceiling is None else min(total, self.ceiling)

    def _reached(self, page: Page) -> bool:
        pages = self._number(page.request) - self.first_page + 1
        return self.ceiling is not None and page.count > 0 and pages * self.size >= self.ceiling


@frozen(kw_only=True, eq=False, repr=False)
class Offset(Paged):
    """
    Pages by the number of records before them: ``offset=0, 100, 200, ...``, each time as many as came.

    Where an answer states the number of records, the other pages are fetched at once, at distances of what the first
    one held; one after the other with ``too_large``. Where nothing is stated, the listing ends as that of
    :class:`PageNumber`.

    ``start``: the offset of the first record.
    """

    param: str = "offset"
    size_param: str | None = "limit"
    start: int = 0

    def first(self, request: Request) -> Request:
        return super().first(self._with(request, self.param, self.start))

    def rest(self, first: Page) -> Sequence[Request] | None:
        total = first.answer.total
        if total is None or self.too_large:
            return None
        if first.count == 0:
            return ()
        listed = total if self.ceiling is None else min(total, self.ceiling)
        return [
            self._with(first.request, self.param, self.start + before)
            for before in range(first.count, listed, first.count)
        ]

    def next(self, page: Page) -> Request | None:
        listed, total = self._end_of(page), page.answer.total
        if self._reached(page):
            return None
        goes_on = self._goes_on(page) if total is None else page.count > 0 and listed < total
        return self._with(page.request, self.param, self.start + listed) if goes_on else None

    def beyond(self, last: Page) -> Request | None:
        more = self._states_more(last) and not self._reached(last)
        return self._with(last.request, self.param, self.start + self._end_of(last)) if more else None

    def _end_of(self, page: Page) -> int:
        offset = self._value(page.request, self.param)
        return (self.start if offset in (None, "") else int(offset)) - self.start + page.count


@frozen(kw_only=True, eq=False, repr=False)
class Cursor(Paged):
    """
    Each answer names the next page: ``cursor=...``, absent on the first page. One page after the other.

    ``member`` is the path of the cursor in the answer (``data.orders.pageInfo.endCursor``), ``header`` the name of the
    header that has it instead. A cursor that is absent, null, empty, false or 0 ends the listing, and so do the word
    null in a header, and ``more``. Name both paths in the envelope too, ``head=("next",)``: each body is then read
    once.
    """

    param: str = "cursor"
    member: str = "next"
    header: str | None = None

    def next(self, page: Page) -> Request | None:
        if self._reached(page):
            return None
        cursor = member_of(page, self.member) if self.header is None else page.response.header(self.header)
        named, more = cursor not in (None, "", False), self._states_more(page)
        if self.header is not None and cursor == "null":  # a header has no other null
            named = False
        if more and not named:
            raise _fault(page, f"{self.more} states another page, and {self.header or self.member} does not name it")
        if not named or more is False:
            return None
        if isinstance(cursor, (dict, list)):
            raise _fault(page, f"{self.member} should be a cursor, and is {type(cursor).__name__}")
        return self._with(page.request, self.param, cursor)


@frozen(kw_only=True, eq=False, repr=False)
class Link(Paged):
    """
    Each answer has a link to the next page, absolute or relative, which is followed with the method, headers and body
    of the first request. One page after the other.

    ``member`` is the path of the link in the answer (``links.next``); None: the ``Link`` header (RFC 8288), in its
    relation ``rel``. A link that is absent, null or empty ends the listing, and so does ``more``. ``keep_scheme``: see
    :meth:`penstock.Request.link`. Credentials go to the declared origins only, wherever a link leads.
    """

    member: str | None = None
    rel: str = "next"
    keep_scheme: bool = False

    def next(self, page: Page) -> Request | None:
        if self._reached(page):
            return None
        link = member_of(page, self.member) if self.member is not None else self._in_header(page.response)
        more = self._states_more(page)
        if link is not None and not isinstance(link, str):
            raise _fault(page, f"{self.member} should be a link, and is {type(link).__name__}")
        if more and not link:
            raise _fault(page, f"{self.more} states another page, and there is no link to it")
        if not link or more is False:
            return None
        following = Request.link(page.request.full_url, link, keep_scheme=self.keep_scheme)
        return evolve(page.request, url=following.url, params=following.params)

    def _in_header(self, response: Response) -> str | None:
        values = [value for name, value in response.headers if name.lower() == "link"]
        return next((url for url, relations in _links(", ".join(values)) if self.rel.lower() in relations), None)


_LINK = r"<([^>]*)>((?:\s*;\s*[^\s=;,]+\s*(?:=\s*(?:\"(?:[^\"\\]|\\.)*\"|[^\s;,\"]*))?)*)"
_REL = r"(?i);\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,]+))"


def _links(header: str) -> Iterator[tuple[str, list[str]]]:
    """The links of a ``Link`` header, each with its relations in lower case."""
    for link in re.finditer(_LINK, header):
        relations = re.search(_REL, link[2])
        yield link[1].strip(), (relations[1] or relations[2] or "").lower().split() if relations else []


def _fault(page: Page, text: str) -> PagingError:
    return PagingError(text).at(request=page.request)


def member_of(page: Page, path: str) -> Any:
    """The member of an answer in JSON, None without it: what the envelope read of it, else what the body has there."""
    if path in page.answer.head:
        return page.answer.head[path]
    read = Envelope(head=(path,))(page.response)
    if page.count and (read.problem is not None or any(items.format == "array" for items in read.items)):
        raise _fault(page, f"{path} is read of an answer whose body is no JSON object")
    return read.head.get(path)
