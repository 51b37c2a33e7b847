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
    A later page may leave the numbers out, but must not state others.
    """
    counts = PageCounts(what="clicks")
    counts.check_stated(first)

    if error is None:
        counts.check_stated(later)
        assert (counts.total, counts.stated_pages) == (first.total, first.pages)
    else:
        with pytest.raises(error, match="stated"):
            counts.check_stated(later)


@pytest.mark.parametrize(
    ("total", "count", "refused"),
    [(None, 10, False), (None, 9, True), (None, 0, True), (30, 9, False)],
    ids=["full", "short", "empty", "short, but the total is known"],
)
def test_page_in_the_middle(total: int | None, count: int, refused: bool) -> None:
    """
    Without a total, a page in the middle that holds less than the first means that records are missing.
    """
    counts = PageCounts(what="clicks", total=total)

    if refused:
        with pytest.raises(PagingError, match=f"holds {count} records where the first holds 10"):
            counts.middle(count, 10)
    else:
        counts.middle(count, 10)
