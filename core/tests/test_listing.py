"""
One listing's counts: what a provider states of the whole must stay the same and come true.
"""

import pytest
from penstock._read.reconcile import PageCounts
from penstock.errors import CountMismatchError, PagingError, PenstockError
from penstock.model import Answer


@pytest.mark.parametrize(
    ("first", "later", "error"),
    [
        (Answer(total=3, pages=2), Answer(total=3, pages=2), None),
        (Answer(total=3), Answer(), None),
        (Answer(pages=2), Answer(), None),
        (Answer(total=3), Answer(total=4), CountMismatchError),
        (Answer(pages=5), Answer(pages=0), CountMismatchError),
    ],
    ids=["same", "total not repeated", "pages not repeated", "other total", "other pages"],
)
def test_numbers_stay(first: Answer, later: Answer, error: type[PenstockError] | None) -> None:
    """
    A later page may be silent about the whole, but not say something else.
    """
    listing = PageCounts(what="clicks")
    listing.promise(first)

    if error is None:
        listing.promise(later)
        assert (listing.total, listing.stated_pages) == (first.total, first.pages)
    else:
        with pytest.raises(error, match="stated"):
            listing.promise(later)


@pytest.mark.parametrize(
    ("total", "count", "refused"),
    [(None, 10, False), (None, 9, True), (None, 0, True), (30, 9, False)],
    ids=["full", "short", "empty", "short, but the total is known"],
)
def test_page_in_the_middle(total: int | None, count: int, refused: bool) -> None:
    """
    Without a total, a page in the middle that holds less than the first means that records are missing.
    """
    listing = PageCounts(what="clicks", total=total)

    if refused:
        with pytest.raises(PagingError, match=f"holds {count} records where the first holds 10"):
            listing.middle(count, 10)
    else:
        listing.middle(count, 10)
