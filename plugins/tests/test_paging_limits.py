"""
Listings that end at a limit which may count the records of a page or of the whole.
"""

from datetime import UTC, datetime

import pytest
from penstock import Answer, Page, Request, Response
from penstock_plugins.paging import PageNumber


@pytest.mark.parametrize(
    ("index", "pages", "count", "listed", "cut"),
    [
        (0, 1, 1000, 1000, True),
        (0, None, 1000, 1000, True),
        (99, 100, 10, 1000, True),
        (0, 3, 1000, 1000, False),
        (2, 3, 1000, 3000, False),
        (1, 2, 500, 1500, False),
        (0, 1, 999, 999, False),
        (0, 0, 0, 0, False),
    ],
    ids=[
        "one full page",
        "one full page, pages not stated",
        "small pages that add up to it",
        "first of several",
        "last of several, full",
        "last of several, half",
        "one short page",
        "none",
    ],
)
def test_exactly_the_limit_is_cut(index: int, pages: int | None, count: int, listed: int, cut: bool) -> None:
    """
    Exactly as many records as were requested, over all pages, mean that there may be more; any other number does not.
    """
    page = Page(
        request=Request(url="https://provider.example/list", params=(("page", str(index + 1)),)),
        response=Response(status=200, received_at=datetime(2026, 3, 1, tzinfo=UTC)),
        answer=Answer(pages=pages),
        index=index,
        count=count,
        listed=listed,
        longest=count,
    )

    assert PageNumber(size=1000, full_page_is_cut=True).reached_ceiling(page) is cut


@pytest.mark.parametrize(
    ("count", "longest", "short_ends", "more"),
    [
        (100, 100, False, True),
        (29, 30, False, True),
        (0, 30, False, False),
        (0, 0, False, False),
        (100, 100, True, True),
        (30, 30, True, True),
        (29, 30, True, False),
        (0, 30, True, False),
    ],
    ids=["full", "shorter", "empty", "none at all", "always full", "the longest so far", "short", "empty after full"],
)
def test_a_page_is_the_last_where_that_is_stated(count: int, longest: int, short_ends: bool, more: bool) -> None:
    """
    Without a stated total, a page is the last one if it is empty; one shorter than another page of the stream where
    ``short_page_ends`` states it. The declared size does not count: a provider may cap its pages at a smaller one.
    """
    page = Page(
        request=Request(url="https://provider.example/list", params=(("page", "1"),)),
        response=Response(status=200, received_at=datetime(2026, 3, 1, tzinfo=UTC)),
        answer=Answer(),
        count=count,
        listed=count,
        longest=longest,
    )

    assert (PageNumber(size=100, short_page_ends=short_ends).next(page) is not None) is more


@pytest.mark.parametrize(
    ("number", "count", "listed", "total", "cut"),
    [
        (10, 1000, 10_000, None, True),
        (10, 1000, 10_000, 10_000, True),
        (10, 999, 9_999, None, False),
        (10, 999, 9_999, 9_999, False),
        (10, 500, 5_000, None, True),
        (9, 999, 8_999, None, False),
        (1, 1000, 1000, 10_001, True),
    ],
    ids=[
        "full to the ceiling",
        "and stated",
        "last page short",
        "and stated",
        "smaller pages up to the last one",
        "before it",
        "more stated than is listed",
    ],
)
def test_ceiling_is_reached_by_a_full_last_page(
    number: int, count: int, listed: int, total: int | None, cut: bool
) -> None:
    """
    The last page that the provider allows is a cut when it is as long as those before it; a shorter one ends the list.
    """
    page = Page(
        request=Request(url="https://provider.example/list", params=(("page", str(number)),)),
        response=Response(status=200, received_at=datetime(2026, 3, 1, tzinfo=UTC)),
        answer=Answer(total=total),
        index=number - 1,
        count=count,
        listed=listed,
        longest=1000 if listed % 500 else count,
    )

    assert PageNumber(size=1000, ceiling=10_000).reached_ceiling(page) is cut
