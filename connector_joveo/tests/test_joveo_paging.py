"""
Listings whose first page number is not documented.
"""

from datetime import UTC, datetime

import pytest
from connector_joveo.paging import ProbedPages, UncertainPages
from penstock import Answer, Page, Request, Response

UNCERTAIN = UncertainPages(size=2)


@pytest.mark.parametrize(
    ("index", "count", "fresh", "following"),
    [
        (0, 2, 2, "1"),
        (0, 1, 1, "1"),
        (0, 0, 0, "1"),
        (1, 2, 2, "2"),
        (1, 2, 0, "2"),
        (1, 1, 0, None),
        (1, 0, 0, None),
        (2, 2, 2, "3"),
        (2, 2, 0, None),
        (2, 1, 1, None),
    ],
    ids=[
        "first, full",
        "first, short",
        "first, empty",
        "second, full",
        "second, repeats a full one",
        "second, repeats a short one",
        "second, empty",
        "third, full",
        "third, repeats",
        "third, short",
    ],
)
def test_page_one_is_requested_and_may_repeat_page_zero(
    index: int, count: int, fresh: int, following: str | None
) -> None:
    """
    Page 1 is always read; if it only repeats a full page 0, counting starts at 1 and the listing goes on at 2.
    """
    page = Page(
        request=Request(url="https://provider.example/list", params=(("page", str(index)),)),
        response=Response(status=200, received_at=datetime(2026, 3, 1, tzinfo=UTC)),
        answer=Answer(),
        index=index,
        count=count,
        fresh=fresh,
        longest=2,
    )

    named = UNCERTAIN.next(page)

    assert (named.param("page") if named is not None else None) == following


@pytest.mark.parametrize(
    ("index", "count", "listed", "distinct", "allowed", "following"),
    [
        (1, 1, 2, 1, True, "2"),
        (2, 1, 3, 1, True, None),
        (2, 2, 6, 2, False, "0"),
        (2, 1, 5, 1, False, None),
        (2, 2, 6, 4, True, "0"),
        (3, 2, 8, 4, True, "0"),
    ],
    ids=[
        "the second",
        "a third, all short",
        "a third, all full",
        "a third, after longer ones",
        "a third, after two that differ",
        "after the last one",
    ],
)
def test_a_provider_that_always_serves_its_only_page(
    index: int, count: int, listed: int, distinct: int, allowed: bool, following: str | None
) -> None:
    """
    Page 2 is requested after a page 1 that repeats page 0; the same short page once more is the end. A repetition after
    pages that differed ends the listing, which is then read a second time; any other stays an error.
    """
    pages = UncertainPages(size=2)
    page = Page(
        request=Request(url="https://provider.example/list", params=(("page", str(index)),)),
        response=Response(status=200, received_at=datetime(2026, 3, 1, tzinfo=UTC)),
        answer=Answer(),
        index=index,
        count=count,
        listed=listed,
        distinct=distinct,
        longest=count,
    )

    named = pages.next(page)

    assert pages.repeats(page) is allowed
    assert (named.param("page") if named is not None else None) == following


@pytest.mark.parametrize(
    ("number", "count", "total", "following"),
    [
        ("1", 2, None, "2"),
        ("2", 0, None, "0"),
        ("1", 0, None, "0"),
        ("1", 0, 0, None),
        ("2", 0, 2, None),
        ("0", 2, None, None),
        ("3", 1, None, "0"),
        ("3", 2, None, None),
    ],
    ids=[
        "not at the end",
        "at the end",
        "nothing at all",
        "nothing, stated",
        "a total",
        "after that page",
        "short of the ceiling",
        "cut at the ceiling",
    ],
)
def test_the_page_before_the_first_is_requested_last(
    number: str, count: int, total: int | None, following: str | None
) -> None:
    """
    Where no total shows that nothing is missing, page 0 is requested after the last page, once; it may repeat page 1.
    """
    pages = ProbedPages(size=2, ceiling=6)
    request = Request(url="https://provider.example/list", params=(("page", number),))
    response = Response(status=200, received_at=datetime(2026, 3, 1, tzinfo=UTC))
    page = Page(request=request, response=response, answer=Answer(total=total), index=0, count=count, longest=2)

    named = pages.next(page)

    assert (named.param("page") if named is not None else None) == following
    assert pages.repeats(page) is (number == "0")


@pytest.mark.parametrize(("status", "ends"), [(400, True), (404, True), (422, True), (403, False), (500, False)])
def test_a_refused_page_before_the_first_is_none(status: int, ends: bool) -> None:
    """
    A refusal of the page before the first means that there is none; a refusal of any other page is an error.
    """
    pages = ProbedPages(size=2)
    response = Response(status=status, received_at=datetime(2026, 3, 1, tzinfo=UTC))
    request = Request(url="https://provider.example/list", params=(("page", "2"),))

    assert pages.ends(request.with_param("page", "0"), response) is ends
    assert not pages.ends(request, response)
