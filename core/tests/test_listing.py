"""
One listing's counts: what a provider states of the whole must stay the same and come true.
"""

import pytest
from penstock._read.reconcile import PageCounts
from penstock.errors import CountMismatchError, PenstockError
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
