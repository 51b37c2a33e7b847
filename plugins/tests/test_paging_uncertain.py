"""
Listings of which nobody knows where their pages start.
"""

from datetime import UTC, datetime

import pytest
from penstock.model import Answer, Page, Request, Response
from penstock_plugins.paging import PageNumber

UNCERTAIN = PageNumber(size=2, first_page=0, uncertain=True)


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
        *("first, full", "first, short", "first, empty", "second, full", "second, repeats a full one"),
        *("second, repeats a short one", "second, empty", "third, full", "third, repeats", "third, short"),
    ],
)
def test_page_one_is_asked_for_and_may_repeat_page_zero(
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
    )

    named = UNCERTAIN.next(page)

    assert (named.param("page") if named is not None else None) == following


@pytest.mark.parametrize(
    ("index", "count", "listed", "fresh", "allowed", "following"),
    [
        (1, 1, 2, 0, True, "2"),
        (2, 1, 3, 0, True, None),
        (2, 2, 6, 0, False, None),
        (2, 1, 5, 0, False, None),
        (3, 2, 8, 0, True, None),
    ],
    ids=["the second", "a third, all short", "a third, all full", "a third, after longer ones", "after the last one"],
)
def test_a_provider_that_always_serves_its_only_page(
    index: int, count: int, listed: int, fresh: int, allowed: bool, following: str | None
) -> None:
    """
    Where a page's size is unsure too, page 2 is asked for after a page 1 that repeats page 0; the same short page once
    more is the end, and so is a repetition after pages that differed; any other stays an error.
    """
    pages = PageNumber(size=2, first_page=0, uncertain=True, size_unsure=True)
    page = Page(
        request=Request(url="https://provider.example/list", params=(("page", str(index)),)),
        response=Response(status=200, received_at=datetime(2026, 3, 1, tzinfo=UTC)),
        answer=Answer(),
        index=index,
        count=count,
        listed=listed,
        fresh=fresh,
    )

    named = pages.next(page)

    assert pages.repeats(page) is allowed
    assert (named.param("page") if named is not None else None) == following
